//! The block for IRETD to the same ring, as interrupt handlers of the kernel return to the kernel.
//!
//! What makes a return special beside its frame (another CS, a descriptor that has changed since CS was loaded, NT, NMIs to
//! open again) the VMM knows before the guest runs, and none of it can change without an exit: so one comparison with
//! [`Field::ReturnCs`] decides all of it.

use super::emit::Emitter;
use super::flags::{save_eax_and_flags, IF, JZ, UNUSUAL};
use super::layout::{Field, NO_SHADOW};
use super::map::Undo;

/// `jnz rel8`
const JNZ: u8 = 0x75;

/// Flags images that are the interpreter's: those of POPF, and RF, VIF and VIP, which IRET loads and POPF does not.
const FOREIGN: u32 = UNUSUAL | 0x1_0000 | 0x8_0000 | 0x10_0000;

/// IRETD: look at the frame from EIP up, as the processor does, so that a fault is the original's; leave it to the VMM if it is
/// unusual, or if an event could be delivered behind it; else let the processor pop the flags (commit). Behind that every
/// flag and ESP are the target's, so all that is left is MOV, and a jump through memory.
pub(super) fn iretd(e: &mut Emitter<'_>, guest: i32) {
    save_eax_and_flags(e, guest);
    e.op(&[0x8B, 0x04, 0x24], &[], &[]); // mov eax, [esp]: EIP
    e.store_eax(Field::Target);
    e.op(&[0x8B, 0x44, 0x24, 4], &[], &[]); // mov eax, [esp+4]: CS, all four bytes of its place
    e.op(&[0x0F, 0xB7, 0xC0], &[], &[]); // movzx eax, ax
    e.compare_eax(Field::ReturnCs);
    e.stand(guest, Undo::EAX | Undo::FLAGS);
    let other_segment = e.jump_over(JNZ);
    e.op(&[0x8B, 0x44, 0x24, 8], &[], &[]); // mov eax, [esp+8]: EFLAGS
    e.op(&[0xA9], &FOREIGN.to_le_bytes(), &[]); // test eax, FOREIGN
    let foreign = e.jump_over(JNZ);
    e.op(&[0x25], &IF.to_le_bytes(), &[]); // and eax, IF
    e.store_eax(Field::NewVif);
    let stays_off = e.jump_over(JZ);
    e.compare_to_0(Field::Pending);
    let nothing_waits = e.jump_over(JZ);
    e.land(other_segment);
    e.land(foreign);
    e.exit();
    e.land(stays_off);
    e.land(nothing_waits);
    e.load_eax(Field::SavedEax);
    e.stand(guest, Undo::FLAGS);
    e.op(&[0x8D, 0x64, 0x24, 8], &[], &[]); // lea esp, [esp+8]
    e.stand(guest, Undo::FLAGS | Undo::PUSH8);
    e.op(&[0x9D], &[], &[]); // popfd: the commit
    e.stand(guest, Undo::TARGET | Undo::VIF);
    e.set_field(Field::Vflags, 0);
    e.set_field(Field::Shadow, NO_SHADOW);
    e.load_eax(Field::NewVif);
    e.stand(guest, Undo::TARGET | Undo::VIF | Undo::EAX);
    e.store_eax(Field::Vif);
    e.stand(guest, Undo::TARGET | Undo::EAX);
    e.load_eax(Field::SavedEax);
    e.stand(guest, Undo::TARGET);
    e.jump_to(Field::Target);
}
