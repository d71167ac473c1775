// SPDX-License-Identifier: GPL-2.0
//! What has become of the guest: the frame and what the image has noted, for the engine.

use super::image;
use super::layout::*;
use super::refused;
use rvmm_arch::host::{EventLoan, GuestContext, WorldExit};
use rvmm_arch::segment::SegReg;

pub(super) fn classify(vector: u8) -> WorldExit {
    match vector {
        2 => WorldExit::Nmi,
        18 => WorldExit::MachineCheck,
        8 | 9 | 15 | 20..=31 => WorldExit::Refused(refused::EXCEPTION),
        0..=31 => WorldExit::Exception(vector),
        _ => WorldExit::HostInterrupt(vector),
    }
}

/// The frame to the context. Outside long mode upper halves mean nothing and may be stale: they are cut off.
pub(super) fn store(control: &Control, ctx: &mut GuestContext) {
    let frame = &control.frame;
    let mask = if ctx.long != 0 { u64::MAX } else { 0xffff_ffff };
    ctx.gpr = frame.gpr.map(|r| r & mask);
    ctx.gpr[4] = frame.rsp & mask;
    ctx.rip = frame.rip & mask;
    if ctx.long != 0 {
        ctx.fs_base = control.guest_fs_base;
        ctx.gs_base = control.guest_gs_base;
    }
    ctx.rflags = frame.rflags;
    ctx.sel[SegReg::Es as usize] = control.guest_es;
    ctx.sel[SegReg::Cs as usize] = frame.cs as u16;
    ctx.sel[SegReg::Ss as usize] = frame.ss as u16;
    ctx.sel[SegReg::Ds as usize] = control.guest_ds;
    ctx.sel[SegReg::Fs as usize] = control.guest_fs;
    ctx.sel[SegReg::Gs as usize] = control.guest_gs;
    ctx.vector = u32::from(frame.vector.wrapping_add(128) as u8);
    ctx.error = frame.error as u32;
    ctx.cr2 = control.cr2;
    ctx.syscall.turns = control.turns;
    ctx.syscall.returns = control.returns;
    ctx.syscall.kernel = u16::from(control.in_kernel);
}

/// What became of the events that were lent.
pub(super) fn store_events(control: &Control, events: &mut EventLoan) {
    if control.may_reflect == 0 {
        return;
    }
    for (slot, used) in events.slots.iter_mut().zip(&control.events) {
        slot.taken = used.taken;
    }
    events.cr2 = control.event_cr2;
    events.cr2_before = control.event_cr2_before;
    events.frame = control.event_frame;
}

/// Which step of the entry has faulted.
pub(super) fn refuse_fault(control: &Control, ctx: &mut GuestContext, image_base: u64) -> WorldExit {
    let at = control.fault_rip.wrapping_sub(image_base) as u32;
    let o = image::offsets();
    let [elsewhere, ldt, es, ds, fs, gs, iret] = refused::FAULT;
    let place = match at {
        a if a == o.iret => iret,
        a if a >= o.loads_end || a < o.load_ldt => elsewhere,
        a if a >= o.load_gs => gs,
        a if a >= o.load_fs => fs,
        a if a >= o.load_ds => ds,
        a if a >= o.load_es => es,
        _ => ldt,
    };
    ctx.vector = control.fault_vector as u32;
    ctx.error = control.fault_error as u32;
    ctx.cr2 = control.cr2;
    WorldExit::Refused(place | (control.fault_vector as u32 & 0xff))
}
