//! The block for VERW, which kernels execute on their way to a program for what it does besides: on a CPU with the microcode for
//! that, its memory form clears the buffers that MDS and its relatives read (Intel, "Microarchitectural Data Sampling"; SDM vol. 2).
//!
//! What it says, ZF, is of the guest's descriptor table, which real rings and real entries would answer differently. So the VMM answers
//! beforehand: where the word is whose selector is known to be writable for ring 0. That word is on a page of code as a rule, which
//! blocks cannot read, but need not. Only ZF changes, and the real VERW sets it, of a selector that is writable in any ring.

use super::emit::Emitter;
use super::flags::JECXZ;
use super::layout::Field;
use super::map::Undo;
use crate::page::CodeSize;
use iced_x86::{Instruction, OpKind, Register};

/// The linear address of the selector's word, where the block can stand in for the instruction: at an address that no register decides,
/// in a segment that is flat while there are blocks, and that a displacement can tell from others.
pub(super) fn operand(instruction: &Instruction, size: CodeSize) -> Option<u64> {
    if instruction.op0_kind() != OpKind::Memory || instruction.memory_index() != Register::None {
        return None;
    }
    let address = instruction.memory_displacement64();
    let (fixed, flat) = match size {
        CodeSize::Bits64 => (
            matches!(instruction.memory_base(), Register::None | Register::RIP),
            !matches!(instruction.memory_segment(), Register::FS | Register::GS),
        ),
        _ => (
            instruction.memory_base() == Register::None,
            matches!(instruction.memory_segment(), Register::CS | Register::SS),
        ),
    };
    (fixed && flat && address != 0 && distance(address, size).is_some()).then_some(address)
}

/// What LEA adds to a register that holds the address, so that 0 comes of it.
fn distance(address: u64, size: CodeSize) -> Option<[u8; 4]> {
    let negative = address.wrapping_neg();
    let reaches = size != CodeSize::Bits64 || i32::try_from(negative as i64).is_ok();
    reaches.then_some((negative as u32).to_le_bytes())
}

/// VERW of the word at `operand`. False: no displacement tells it from others.
pub(super) fn verw(e: &mut Emitter<'_>, operand: u64, guest: i32, next: i32) -> bool {
    let size = if e.is_64() { CodeSize::Bits64 } else { CodeSize::Bits32 };
    let Some(distance) = distance(operand, size) else { return false };
    e.stand(guest, Undo::HEAD);
    e.store_ecx(Field::SavedRcx);
    e.stand(guest, Undo::empty());
    e.load_ecx(Field::Writable);
    e.stand(guest, Undo::RCX);
    e.word_op(&[0x8D, 0x89], &distance); // lea ecx, [ecx-operand]
    let known = e.jump_over(JECXZ);
    e.load_ecx(Field::SavedRcx);
    e.stand(guest, Undo::empty());
    e.exit();
    e.land(known);
    e.stand(guest, Undo::RCX);
    e.load_ecx(Field::SavedRcx);
    e.stand(guest, Undo::empty());
    e.verw(Field::WritableSelector); // the commit
    e.stand(next, Undo::empty());
    true
}
