//! The block that reads a control register: the guest's value comes from the vCPU page. It cannot change there, for every write to
//! a control register traps, and CR2 changes when the VMM delivers a page fault. One instruction, so it needs nothing undone.

use super::emit::{Emitter, Width};
use super::layout::Field;
use super::map::Undo;
use iced_x86::{Instruction, Register};

/// Where the register's value is, if it is one that the vCPU page has. CR8 is not: few read it.
fn field(register: Register) -> Option<Field> {
    match register {
        Register::CR0 => Some(Field::Cr0),
        Register::CR2 => Some(Field::Cr2),
        Register::CR3 => Some(Field::Cr3),
        Register::CR4 => Some(Field::Cr4),
        _ => None,
    }
}

/// Can the block stand in for this instruction?
pub(super) fn readable(instruction: &Instruction) -> bool {
    field(instruction.op1_register()).is_some()
}

/// `mov r, crN`. False: it is one that faults, or is the VMM's.
pub(super) fn read(e: &mut Emitter<'_>, instruction: &Instruction, guest: i32) -> bool {
    let Some(field) = field(instruction.op1_register()) else { return false };
    e.stand(guest, Undo::HEAD);
    e.load_register(Width::Word, instruction.op0_register().number() as u8, field);
    true
}
