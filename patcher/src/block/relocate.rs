//! Moving harmless instructions into a block.
//!
//! Code knows where it is in three ways only: relative branches, which are encoded anew; calls, which push their return address,
//! so the block pushes the guest's; and in 64-bit code operands relative to RIP, whose displacement is adapted. Everything else is
//! copied. The hazards, each with a test of its name: short branches grow; LOOP and JECXZ have no long form; a call's target may
//! be a register; a branch may lead back into the region; a 16-bit operand size cuts EIP (and of 64-bit code's branches, which one
//! vendor's processors do and the other's do not); an address size cuts what is relative to RIP; a block may be out of a
//! displacement's reach; INT 3 in its long form looks like an exit, and one INT n like a call of ring 0; SYSCALL puts its own address into RCX.

use super::emit::Emitter;
use super::layout::CALL_VECTOR;
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
    pub page: u64,
    /// The region that becomes a block.
    pub region: Span,
}

/// Move one instruction, of which `bytes` are the guest's, with its displacement at byte `displacement` if it has one.
pub(super) fn relocate(
    e: &mut Emitter<'_>,
    instruction: &Instruction,
    bytes: &[u8],
    displacement: usize,
    position: &Position,
) -> Result<(), BlockRefusal> {
    e.stand(position.guest, Undo::HEAD);
    match instruction.flow_control() {
        FlowControl::ConditionalBranch => conditional(e, instruction, bytes, position),
        FlowControl::UnconditionalBranch => {
            e.branch(&[0xE9], target(instruction, bytes, position)?);
            Ok(())
        }
        FlowControl::Call => {
            let target = target(instruction, bytes, position)?;
            push_return_address(e, position);
            // The push was the commit: the guest stands at the target.
            e.stand(offset(target, position)?, Undo::empty());
            e.branch(&[0xE9], target);
            Ok(())
        }
        FlowControl::IndirectCall => call_register(e, instruction, bytes, position),
        FlowControl::XbeginXabortXend => Err(BlockRefusal::NotMovable),
        // INT 3 in its long form is a trap, with EIP behind it: an exit like the block's own, and none of them.
        FlowControl::Interrupt if instruction.code() == Code::Int_imm8 && instruction.immediate8() == 3 => {
            Err(BlockRefusal::NotMovable)
        }
        // So is that of a block's call.
        FlowControl::Interrupt if instruction.code() == Code::Int_imm8 && instruction.immediate8() == CALL_VECTOR => {
            Err(BlockRefusal::NotMovable)
        }
        FlowControl::Next
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Interrupt
        | FlowControl::Exception => {
            e.copy(bytes, relative(instruction, displacement)?);
            Ok(())
        }
    }
}

/// The place of a displacement relative to RIP, and the address that it leads to.
fn relative(instruction: &Instruction, displacement: usize) -> Result<Option<(usize, u64)>, BlockRefusal> {
    if !instruction.is_ip_rel_memory_operand() {
        return Ok(None);
    }
    // Relative to EIP: the sum is cut to 32 bits, and so depends on where the block is.
    if instruction.memory_base() != Register::RIP {
        return Err(BlockRefusal::NotMovable);
    }
    Ok(Some((displacement, instruction.ip_rel_memory_address())))
}

fn push_return_address(e: &mut Emitter<'_>, position: &Position) {
    e.push_address(position.page.wrapping_add_signed(i64::from(position.next)));
}

/// A conditional branch that leads forward to a byte of the region that moves into the block, as `je 1f; sti; 1: popf` does: the opcode of
/// its short form, and that byte. It leads to the block's own copy then.
pub(super) fn inner_branch(
    instruction: &Instruction,
    bytes: &[u8],
    position: &Position,
    moved: u16,
) -> Option<(u8, u16)> {
    let near = matches!(instruction.op0_kind(), OpKind::NearBranch32 | OpKind::NearBranch64);
    if !instruction.is_jcc_short_or_near() || !near || has_operand_size(bytes) {
        return None;
    }
    let to = u16::try_from(instruction.near_branch_target().wrapping_sub(position.page)).ok()?;
    let inside = i32::from(to) >= position.next && to < moved && position.guest >= position.region.start.into();
    inside.then_some((0x70 | (instruction.condition_code() as u8).wrapping_sub(1) & 0xF, to))
}

/// The linear target of a near branch. Targets inside the region are refused: only its first byte is a jump into the block,
/// the others trap, and a block whose own branches trap is not worth having. (Those of conditional branches forward are the block's own:
/// [`inner_branch`].)
fn target(instruction: &Instruction, bytes: &[u8], position: &Position) -> Result<u64, BlockRefusal> {
    let near = matches!(instruction.op0_kind(), OpKind::NearBranch32 | OpKind::NearBranch64);
    if !near || has_operand_size(bytes) {
        return Err(BlockRefusal::NotMovable);
    }
    let target = instruction.near_branch_target();
    let offset = target.wrapping_sub(position.page);
    if offset > u64::from(position.region.start) && offset < u64::from(position.region.end) {
        return Err(BlockRefusal::InnerBranch);
    }
    Ok(target)
}

/// A boundary relative to the page. 32-bit addresses wrap, so theirs fit always.
fn offset(target: u64, position: &Position) -> Result<i32, BlockRefusal> {
    let offset = target.wrapping_sub(position.page);
    if target.max(position.page) <= u64::from(u32::MAX) {
        return Ok(offset as i32);
    }
    i32::try_from(offset as i64).map_err(|_| BlockRefusal::OutOfReach)
}

/// Is there an operand-size prefix?
fn has_operand_size(bytes: &[u8]) -> bool {
    let prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3);
    bytes.iter().take_while(prefix).any(|byte| *byte == 0x66)
}

fn conditional(
    e: &mut Emitter<'_>,
    instruction: &Instruction,
    bytes: &[u8],
    position: &Position,
) -> Result<(), BlockRefusal> {
    let target = target(instruction, bytes, position)?;
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
    e.stand(offset(target, position)?, Undo::empty());
    e.branch(&[0xE9], target);
    e.land(not_taken);
    Ok(())
}

/// `call reg`. Calls through memory read it before they push, and may fault in between: those stay where they are.
fn call_register(
    e: &mut Emitter<'_>,
    instruction: &Instruction,
    bytes: &[u8],
    position: &Position,
) -> Result<(), BlockRefusal> {
    let register = instruction.op0_register();
    let near = matches!(instruction.code(), Code::Call_rm32 | Code::Call_rm64) && !has_operand_size(bytes);
    if !near || instruction.op0_kind() != OpKind::Register || matches!(register, Register::ESP | Register::RSP) {
        return Err(BlockRefusal::NotMovable);
    }
    push_return_address(e, position);
    e.stand(position.guest, Undo::PUSHED);
    let number = register.number() as u8;
    let rex: &[u8] = if number > 7 { &[0x41] } else { &[] };
    e.op(rex, &[0xFF, 0xE0 | (number & 7)], &[]);
    Ok(())
}
