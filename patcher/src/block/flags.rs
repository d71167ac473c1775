//! Tour 19/22, next: `rvmm-ko/core/src/blocks.rs`.
//! The blocks for CLI, STI, PUSHF and POPF, written down for 32-bit code; those for 64-bit code are the same on wider registers.
//!
//! The virtual interrupt flag and its relatives live in the vCPU page; every other flag is the real one. In kernel mode the
//! real IF is always 1, IOPL and AC always 0, and TF is 0, since stepping is the interpreter's.
//!
//! `guest` is the instruction's boundary and `next` the one behind it, both relative to the page.

use super::emit::{Emitter, Hole};
use super::layout::Field;
use super::map::Undo;

/// `jecxz rel8`, JRCXZ in 64-bit code: the one conditional jump that reads no flags.
pub(super) const JECXZ: u8 = 0xE3;
/// `jz rel8`
pub(super) const JZ: u8 = 0x74;

pub(super) const IF: u32 = 0x200;

/// What POPF cannot leave to the processor: TF, IOPL, NT, VM and AC. A rare image with one of them is the interpreter's.
pub(super) const UNUSUAL: u32 = 0x100 | 0x3000 | 0x4000 | 0x2_0000 | 0x4_0000;

/// CLI is one store, which is also its commit point and changes no flag.
pub(super) fn cli(e: &mut Emitter<'_>, guest: i32) {
    e.stand(guest, Undo::HEAD);
    e.set_field(Field::Vif, 0);
}

/// STI: note the interrupt shadow, set the flag (commit), and leave if an event waits.
pub(super) fn sti(e: &mut Emitter<'_>, guest: i32, next: i32, next_rip: u64) {
    e.stand(guest, Undo::HEAD);
    e.set_field_to_address(Field::Shadow, next_rip);
    e.set_field(Field::Vif, IF);
    e.stand(next, Undo::empty());
    e.store_ecx(Field::SavedRcx);
    e.load_ecx(Field::Pending);
    e.stand(next, Undo::RCX);
    leave_if_ecx(e, next, None);
}

/// With ECX = what decides (and the guest's ECX saved): exit if it is not 0. Restores ECX either way. A jump of the caller's
/// that lands where nothing waits can come along.
fn leave_if_ecx(e: &mut Emitter<'_>, next: i32, also_lands: Option<Hole>) {
    let nothing_waits = e.jump_over(JECXZ);
    e.load_ecx(Field::SavedRcx);
    e.stand(next, Undo::empty());
    e.exit();
    e.land(nothing_waits);
    if let Some(hole) = also_lands {
        e.land(hole);
    }
    e.stand(next, Undo::RCX);
    e.load_ecx(Field::SavedRcx);
}

/// PUSHF: the processor pushes the real flags, so that a fault is the original's, and the image is then corrected in
/// place. LEA adds without touching flags: image = real flags - real IF + virtual IF + virtual IOPL and AC.
pub(super) fn pushf(e: &mut Emitter<'_>, guest: i32, next: i32) {
    e.stand(guest, Undo::HEAD);
    e.op(&[0x9C], &[], &[]); // pushfd
    e.stand(guest, Undo::PUSHED);
    e.store_eax(Field::SavedRax);
    e.store_ecx(Field::SavedRcx);
    e.load_eax(Field::Vif);
    e.stand(guest, Undo::PUSHED | Undo::RAX);
    e.word_op(&[0x8B, 0x0C, 0x24], &[]); // mov ecx, [esp]
    e.stand(guest, Undo::PUSHED | Undo::RAX | Undo::RCX);
    e.word_op(&[0x8D, 0x84, 0x08], &IF.wrapping_neg().to_le_bytes()); // lea eax, [eax+ecx-IF]
    e.load_ecx(Field::Vflags);
    e.word_op(&[0x8D, 0x04, 0x08], &[]); // lea eax, [eax+ecx]
    e.word_op(&[0x89, 0x04, 0x24], &[]); // mov [esp], eax: the commit
    e.stand(next, Undo::RAX | Undo::RCX);
    e.load_eax(Field::SavedRax);
    e.stand(next, Undo::RCX);
    e.load_ecx(Field::SavedRcx);
}

/// The head of a block that needs EAX and changes arithmetic flags before its commit point: [`Undo::RAX`] from here on, and
/// [`Undo::FLAGS`] where they are changed.
pub(super) fn save_eax_and_flags(e: &mut Emitter<'_>, guest: i32) {
    e.stand(guest, Undo::HEAD);
    e.store_eax(Field::SavedRax);
    e.stand(guest, Undo::empty());
    e.op(&[0x9F], &[], &[]); // lahf
    e.stand(guest, Undo::RAX);
    e.op(&[0x0F, 0x90, 0xC0], &[], &[]); // seto al
    e.store_eax(Field::SavedFlags);
}

/// POPF: look at the image first, leave it to the interpreter if it is unusual, else let the processor pop it (commit)
/// and set the virtual IF behind it. What may fault, the read of the image, comes before any flag changes.
pub(super) fn popf(e: &mut Emitter<'_>, guest: i32, next: i32) {
    save_eax_and_flags(e, guest);
    e.word_op(&[0x8B, 0x04, 0x24], &[]); // mov eax, [esp]
    e.op(&[0xA9], &UNUSUAL.to_le_bytes(), &[]); // test eax, UNUSUAL
    e.stand(guest, Undo::RAX | Undo::FLAGS);
    let usual = e.jump_over(JZ);
    e.exit();
    e.land(usual);
    e.op(&[0x25], &IF.to_le_bytes(), &[]); // and eax, IF
    e.store_eax(Field::NewVif);
    e.load_eax(Field::SavedRax);
    e.stand(guest, Undo::FLAGS);
    e.op(&[0x9D], &[], &[]); // popfd: the commit
    e.stand(next, Undo::VIF);
    e.set_field(Field::Vflags, 0);
    e.store_ecx(Field::SavedRcx);
    e.load_ecx(Field::NewVif);
    e.stand(next, Undo::VIF | Undo::RCX);
    e.store_ecx(Field::Vif);
    e.stand(next, Undo::RCX);
    let stays_off = e.jump_over(JECXZ);
    e.load_ecx(Field::Pending);
    leave_if_ecx(e, next, Some(stays_off));
}
