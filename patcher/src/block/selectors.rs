//! The blocks that read CS and SS: the guest's selectors come from the vCPU page, so that it never sees the real RPL.
//! Each is one instruction, so it commits or faults as the original does and needs nothing undone.

use super::emit::{Emitter, Width};
use super::layout::Field;
use super::map::Undo;
use super::BlockRefusal;
use iced_x86::{Code, Instruction, OpKind, Register};

fn field(register: Register) -> Result<Field, BlockRefusal> {
    match register {
        Register::CS => Ok(Field::Cs),
        Register::SS => Ok(Field::Ss),
        _ => Err(BlockRefusal::NotMovable),
    }
}

/// `mov r, cs` or `mov r, ss`. The memory form is rare and stays with the interpreter.
pub(super) fn read(e: &mut Emitter<'_>, instruction: &Instruction, guest: i32) -> Result<(), BlockRefusal> {
    if instruction.op0_kind() != OpKind::Register {
        return Err(BlockRefusal::NotMovable);
    }
    let field = field(instruction.op1_register())?;
    let width = match instruction.code() {
        // Both zero-extend to all of the register (SDM 2, MOV).
        Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => Width::Double,
        Code::Mov_rm16_Sreg => Width::Half,
        _ => return Err(BlockRefusal::NotMovable),
    };
    e.stand(guest, Undo::HEAD);
    e.load_register(width, instruction.op0_register().number() as u8, field);
    Ok(())
}

/// `push cs` or `push ss`, which 64-bit code does not have.
pub(super) fn push(e: &mut Emitter<'_>, instruction: &Instruction, guest: i32) -> Result<(), BlockRefusal> {
    let (width, field) = match instruction.code() {
        Code::Pushd_CS => (Width::Word, Field::Cs),
        Code::Pushd_SS => (Width::Word, Field::Ss),
        Code::Pushw_CS => (Width::Half, Field::Cs),
        Code::Pushw_SS => (Width::Half, Field::Ss),
        _ => return Err(BlockRefusal::NotMovable),
    };
    e.stand(guest, Undo::HEAD);
    e.push_field(width, field);
    Ok(())
}
