//! The blocks for IRETD and IRETQ to the same ring, as interrupt handlers of the kernel return to the kernel.
//!
//! What makes a return special beside its frame (another CS, a descriptor that has changed since CS was loaded, NT, NMIs to
//! open again) the VMM knows before the guest runs, and none of it can change without an exit: so one comparison with
//! [`Field::ReturnCs`] decides all of it.

use super::emit::{Emitter, Width};
use super::flags::{save_eax_and_flags, IF, JZ, UNUSUAL};
use super::layout::{Field, BY_IRETQ, BY_IRETQ_COMPAT, NO_SHADOW};
use super::map::Undo;
use super::sysret;

/// `jnz rel8`
const JNZ: u8 = 0x75;

/// Flags images that are the interpreter's: those of POPF, and RF, VIF and VIP, which IRET loads and POPF does not.
const FOREIGN: u32 = UNUSUAL | 0x1_0000 | 0x8_0000 | 0x10_0000;

/// The number of RSP.
const RSP: u8 = 4;
/// `ja rel8`
const JA: u8 = 0x77;

/// IRETD and IRETQ: look at the frame from RIP up, as the processor does, so that a fault is the original's; leave it to the VMM if
/// it is unusual, or if an event could be delivered behind it; else let the processor pop the flags (commit). Behind that every
/// flag and RSP are the target's, so all that is left is MOV, and a jump through memory.
///
/// The frame of 64-bit code has RSP and SS as well, whatever ring it returns to. An SS that is the one there is already makes its
/// load change nothing; the VMM lends a CS only if that holds.
///
/// With `programs`, 64-bit code returns to programs as well: to the SS and the one CS of either kind of code that the VMM lends for that, by a
/// call of ring 0.
pub(super) fn iret(e: &mut Emitter<'_>, guest: i32, programs: bool) {
    let wide = e.is_64();
    let word = if wide { 8 } else { 4 };
    save_eax_and_flags(e, guest);
    load_from_stack(e, 0); // RIP
    e.store_eax(Field::Target);
    let not_canonical = wide.then(|| {
        // Such a target faults at the IRET. The bits from 47 up must be equal, and on a CPU of 57 bits, too.
        e.op(&[0x48, 0xC1, 0xF8, 47], &[], &[]); // sar rax, 47
        e.stand(guest, Undo::RAX | Undo::FLAGS);
        e.op(&[0x83, 0xC0, 1], &[], &[]); // add eax, 1
        e.op(&[0x83, 0xF8, 1], &[], &[]); // cmp eax, 1
        e.jump_over(JA)
    });
    load_from_stack(e, word); // CS, all bytes of its place
    e.op(&[0x0F, 0xB7, 0xC0], &[], &[]); // movzx eax, ax
    e.compare_eax(Field::ReturnCs);
    e.stand(guest, Undo::RAX | Undo::FLAGS);
    let outward = (wide && programs).then(|| e.jump_far_over(JNZ));
    let other_segment = outward.is_none().then(|| e.jump_over(JNZ));
    load_from_stack(e, 2 * word); // flags
    e.op(&[0xA9], &FOREIGN.to_le_bytes(), &[]); // test eax, FOREIGN
    let foreign = e.jump_over(JNZ);
    e.op(&[0x25], &IF.to_le_bytes(), &[]); // and eax, IF
    e.store_eax(Field::NewVif);
    let stays_off = e.jump_over(JZ);
    e.compare_to_0(Field::Pending);
    let nothing_waits = e.jump_over(JZ);
    if let Some(hole) = other_segment {
        e.land(hole);
    }
    e.land(foreign);
    if let Some(hole) = not_canonical {
        e.land(hole);
    }
    e.exit();
    e.land(stays_off);
    e.land(nothing_waits);
    if wide {
        load_from_stack(e, 3 * word); // RSP
        e.store_eax(Field::NewRsp);
        load_from_stack(e, 4 * word); // SS, all bytes of its place
        e.op(&[0x0F, 0xB7, 0xC0], &[], &[]); // movzx eax, ax
        e.compare_eax(Field::Ss);
        let same_stack = e.jump_over(JZ);
        e.exit();
        e.land(same_stack);
    }
    e.load_eax(Field::SavedRax);
    e.stand(guest, Undo::FLAGS);
    e.word_op(&[0x8D, 0x64, 0x24, 2 * word], &[]); // lea esp, [esp+2*word]
    e.stand(guest, Undo::FLAGS | Undo::PASSED);
    e.op(&[0x9D], &[], &[]); // popf: the commit
    e.stand(guest, Undo::TARGET | Undo::VIF);
    e.set_field(Field::Vflags, 0);
    e.set_field(Field::Shadow, NO_SHADOW as u32);
    e.load_eax(Field::NewVif);
    e.stand(guest, Undo::TARGET | Undo::VIF | Undo::RAX);
    e.store_eax(Field::Vif);
    e.stand(guest, Undo::TARGET | Undo::RAX);
    e.load_eax(Field::SavedRax);
    e.stand(guest, Undo::TARGET);
    if wide {
        e.load_register(Width::Word, RSP, Field::NewRsp);
    }
    e.jump_to(Field::Target);
    if let Some(hole) = outward {
        e.land_far(&hole);
        to_a_program(e, guest);
    }
}

/// With CS of the frame in EAX, and not the kernel's: the rest of the frame to where ring 0 looks for it.
fn to_a_program(e: &mut Emitter<'_>, guest: i32) {
    e.stand(guest, Undo::RAX | Undo::FLAGS);
    e.set_field(Field::CallKind, BY_IRETQ);
    e.compare_eax(Field::ProgramCs);
    let long = e.jump_over(JZ);
    e.set_field(Field::CallKind, BY_IRETQ_COMPAT);
    e.compare_eax(Field::CompatCs);
    let other_code = e.jump_over(JNZ);
    e.land(long);
    load_from_stack(e, 16); // flags
    e.store_eax(Field::CallFlags);
    load_from_stack(e, 24); // RSP
    e.store_eax(Field::NewRsp);
    load_from_stack(e, 32); // SS, all bytes of its place
    e.op(&[0x0F, 0xB7, 0xC0], &[], &[]); // movzx eax, ax
    e.compare_eax(Field::ProgramSs);
    let same_stack = e.jump_over(JZ);
    e.land(other_code);
    e.exit();
    e.land(same_stack);
    e.load_eax(Field::SavedRax);
    e.stand(guest, Undo::FLAGS);
    sysret::call(e, guest, Undo::FLAGS);
}

/// `mov eax, [esp+at]`
fn load_from_stack(e: &mut Emitter<'_>, at: u8) {
    if at == 0 {
        e.word_op(&[0x8B, 0x04, 0x24], &[]);
    } else {
        e.word_op(&[0x8B, 0x44, 0x24, at], &[]);
    }
}
