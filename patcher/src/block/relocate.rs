//! Moving harmless instructions into a block.
//!
//! 32-bit code knows where it is in two ways only: relative branches, which are encoded anew, and calls, which push their
//! return address, so the block pushes the guest's. Everything else is copied. The hazards, each with a test of its name:
//! short branches grow; LOOP and JECXZ have no long form; a call's target may be a register; a branch may lead back into
//! the region; a 16-bit operand size cuts EIP; INT 3 in its long form looks like an exit.

use super::emit::Emitter;
use super::map::Undo;
use super::BlockRefusal;
use crate::page::Span;
use iced_x86::{Code, FlowControl, Instruction, OpKind, Register};

/// Where an instruction goes in the guest, relative to its page.
pub(super) struct Position {
    /// The instruction's boundary.
    pub guest: i32,
    /// The boundary behind it.
    pub next: i32,
    /// Linear address of the page.
    pub page: u32,
    /// The region that becomes a block.
    pub region: Span,
}

/// Move one instruction, of which `bytes` are the guest's.
pub(super) fn relocate(
    e: &mut Emitter<'_>,
    instruction: &Instruction,
    bytes: &[u8],
    position: &Position,
) -> Result<(), BlockRefusal> {
    e.stand(position.guest, Undo::HEAD);
    match instruction.flow_control() {
        FlowControl::ConditionalBranch => conditional(e, instruction, bytes, position),
        FlowControl::UnconditionalBranch => {
            e.branch(&[0xE9], target(instruction, position)?);
            Ok(())
        }
        FlowControl::Call => {
            let target = target(instruction, position)?;
            push_return_address(e, position);
            // The push was the commit: the guest stands at the target.
            e.stand(target.wrapping_sub(position.page) as i32, Undo::empty());
            e.branch(&[0xE9], target);
            Ok(())
        }
        FlowControl::IndirectCall => call_register(e, instruction, position),
        FlowControl::XbeginXabortXend => Err(BlockRefusal::NotMovable),
        // INT 3 in its long form is a trap, with EIP behind it: an exit like the block's own, and none of them.
        FlowControl::Interrupt if instruction.code() == Code::Int_imm8 && instruction.immediate8() == 3 => {
            Err(BlockRefusal::NotMovable)
        }
        FlowControl::Next
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Interrupt
        | FlowControl::Exception => {
            e.op(bytes, &[], &[]);
            Ok(())
        }
    }
}

fn push_return_address(e: &mut Emitter<'_>, position: &Position) {
    e.op(&[0x68], &position.page.wrapping_add_signed(position.next).to_le_bytes(), &[]);
}

/// The linear target of a near branch. Targets inside the region are refused: only its first byte is a jump into the block,
/// the others trap, and a block whose own branches trap is not worth having.
fn target(instruction: &Instruction, position: &Position) -> Result<u32, BlockRefusal> {
    if instruction.op0_kind() != OpKind::NearBranch32 {
        return Err(BlockRefusal::NotMovable);
    }
    let target = instruction.near_branch32();
    let offset = target.wrapping_sub(position.page);
    if offset > u32::from(position.region.start) && offset < u32::from(position.region.end) {
        return Err(BlockRefusal::InnerBranch);
    }
    Ok(target)
}

fn conditional(
    e: &mut Emitter<'_>,
    instruction: &Instruction,
    bytes: &[u8],
    position: &Position,
) -> Result<(), BlockRefusal> {
    let target = target(instruction, position)?;
    if instruction.is_jcc_short_or_near() {
        // Condition codes are numbered from 1 in the order of the opcodes 0F 80 to 0F 8F.
        let code = (instruction.condition_code() as u8).wrapping_sub(1) & 0xF;
        e.branch(&[0x0F, 0x80 | code], target);
        return Ok(());
    }
    if !(instruction.is_loop() || instruction.is_loopcc() || instruction.is_jcx_short()) {
        return Err(BlockRefusal::NotMovable);
    }
    // LOOPcc and JECXZ: the same instruction over a short jump past a long one. Its prefixes (address size: CX or ECX) and
    // opcode stay, the last byte is the distance.
    let Some((_, opcode)) = bytes.split_last() else { return Err(BlockRefusal::NotMovable) };
    e.op(opcode, &[2], &[]);
    e.stand(position.next, Undo::empty());
    let not_taken = e.jump_over(0xEB);
    e.stand(target.wrapping_sub(position.page) as i32, Undo::empty());
    e.branch(&[0xE9], target);
    e.land(not_taken);
    Ok(())
}

/// `call reg`. Calls through memory read it before they push, and may fault in between: those stay where they are.
fn call_register(e: &mut Emitter<'_>, instruction: &Instruction, position: &Position) -> Result<(), BlockRefusal> {
    let register = instruction.op0_register();
    if instruction.code() != Code::Call_rm32 || instruction.op0_kind() != OpKind::Register || register == Register::ESP
    {
        return Err(BlockRefusal::NotMovable);
    }
    push_return_address(e, position);
    e.stand(position.guest, Undo::POP4);
    e.op(&[0xFF, 0xE0 | (register.number() as u8 & 7)], &[], &[]);
    Ok(())
}
