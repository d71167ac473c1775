// SPDX-License-Identifier: GPL-2.0
//! Fills the control page and the area with what the image needs for one entry, if it may be.

use super::area::Area;
use super::check::{check_events, check_mode, check_turn};
use super::layout::*;
use super::refused;
use rvmm_arch::host::{EventFrame, EventLoan, EventSlot, GuestContext};
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::Selector;

/// CR0 bits that the guest decides.
const GUEST_CR0: Cr0 = Cr0::MP.union(Cr0::EM).union(Cr0::TS).union(Cr0::AM);
/// CR0 in the guest world besides those.
const WORLD_CR0: Cr0 = Cr0::PG.union(Cr0::PE).union(Cr0::WP).union(Cr0::NE).union(Cr0::ET);
/// Flags that the guest decides at any CPL.
const GUEST_FLAGS: Rflags =
    Rflags::STATUS.union(Rflags::TF).union(Rflags::DF).union(Rflags::NT).union(Rflags::RF).union(Rflags::ID);

/// What the image needs for events. The page of the TSS is mapped by the caller.
fn lend_events(control: &mut Control, loan: &EventLoan) {
    /// The error code of no #GP, for an INT n that is not lent.
    const NONE: u64 = u64::MAX;
    control.events = loan.slots.map(|slot| EventSlot { taken: 0, ..slot });
    control.may_reflect = u8::from(loan.slots.iter().any(|slot| slot.block != 0));
    control.error_bits = u64::from(loan.error_bits);
    let interrupt = loan.slots.get(EventLoan::INTERRUPT).is_some_and(|slot| slot.block != 0);
    // Selector error code: the vector, and IDT (SDM vol. 3 figure 6-7).
    control.int_error = if interrupt { u64::from(loan.vector & 0xff) << 3 | 2 } else { NONE };
    control.flat_code = u64::from(loan.flat_code);
    control.event_cr2 = loan.cr2;
    control.event_cr2_before = loan.cr2;
    control.event_frame = EventFrame::default();
}

/// Flags of a program that SYSCALL keeps for its kernel, and those that make it more than a turn: a single step, which the kernel might
/// have to see, alignment checks, which act in guest programs only, and NT, which makes an IRET a fault and of which blocks do not know.
const fn syscall_flags(sfmask: u64) -> (u64, u64) {
    let keep = GUEST_FLAGS.difference(Rflags::TF).difference(Rflags::RF).bits() & !sfmask;
    (keep, Rflags::TF.bits() | Rflags::AC.union(Rflags::NT).bits() & !sfmask)
}

/// Data selectors whose entries are good for the load by the image only.
fn lent(ctx: &GuestContext) -> [u16; 4] {
    let [es, _, _, ds, fs, gs] = ctx.sel;
    let mut lent = [es, ds, fs, gs];
    for (selector, bit) in lent.iter_mut().zip(0..) {
        if ctx.disarm >> bit & 1 == 0 {
            *selector = u16::MAX;
        }
    }
    lent
}

/// Checks what the hardware would not, and fills the control page. Pure but for that.
pub(super) fn prepare(
    area: &mut Area,
    ctx: &GuestContext,
    events: Option<&EventLoan>,
) -> core::result::Result<(), u32> {
    let [es, cs, ss, ds, fs, gs] = ctx.sel;
    let (cpl, ss_rpl) = (Selector(cs).rpl(), Selector(ss).rpl());
    if !matches!(cpl, 1 | 3) || ss_rpl != cpl {
        return Err(refused::PRIVILEGE);
    }
    if ctx.sel.iter().any(|s| !Selector(*s).is_ldt() && Selector(*s).index() >= VMM_INDEX) {
        return Err(refused::SELECTOR);
    }
    check_mode(area, ctx)?;
    check_turn(area, ctx)?;
    if let Some(events) = events {
        check_events(ctx, events)?;
    }
    if ctx.cr0 & !GUEST_CR0.bits() != 0 || ctx.cr3 & 0xfff0_0000_0000_0fff != 0 {
        return Err(refused::CONTROL);
    }
    let flags = Rflags::from_bits_retain(ctx.rflags);
    if flags.contains(Rflags::AC) && cpl != 3 {
        return Err(refused::ALIGNMENT);
    }
    let control = area.control();
    let frame = &mut control.frame;
    frame.gpr = ctx.gpr;
    frame.rip = ctx.rip;
    frame.cs = u64::from(cs);
    frame.rflags = ((flags & GUEST_FLAGS.union(Rflags::AC)) | Rflags::IF | Rflags::ONE).bits();
    frame.rsp = ctx.gpr[4];
    frame.ss = u64::from(ss);
    control.guest_es = es;
    control.guest_ds = ds;
    control.guest_fs = fs;
    control.guest_gs = gs;
    control.guest_ldt = if ctx.use_ldt != 0 { VMM_LDT } else { 0 };
    control.disarm = ctx.disarm;
    control.long_mode = u8::from(ctx.long != 0);
    control.guest_fs_base = ctx.fs_base;
    control.guest_gs_base = ctx.gs_base;
    control.guest_cr0 = ctx.cr0 | WORLD_CR0.bits();
    control.guest_cr3 = ctx.cr3;
    control.pending_nmi = 0;
    control.pending_mc = 0;
    control.pending_db = 0;
    control.aborted = 0;
    control.exiting = 0;
    control.reserved = [0; 2];
    let loan = &ctx.syscall;
    (control.syscall_keep, control.syscall_unusual) = syscall_flags(loan.sfmask);
    control.syscall_cr3 = loan.cr3;
    control.syscall_rip = loan.rip;
    control.compat_rip = loan.compat_rip;
    control.syscall_cs = u64::from(loan.sel[0]);
    control.syscall_ss = u64::from(loan.sel[1]);
    control.syscall_descriptors = loan.descriptors;
    control.turns = 0;
    control.returns = 0;
    control.program_cr3 = loan.program_cr3;
    control.program_cs = u64::from(loan.program_sel[0]);
    control.program_ss = u64::from(loan.program_sel[1]);
    control.compat_cs = u64::from(loan.compat_cs);
    control.blocks = loan.blocks;
    control.words = loan.words;
    control.may_turn = u8::from(loan.on != 0 && ctx.long != 0);
    control.may_turn_compat = u8::from(loan.on != 0 && loan.compat != 0);
    control.may_return = u8::from(loan.on != 0 && loan.back != 0);
    control.may_sysexit = control.may_return & u8::from(loan.sysexit != 0);
    control.lent = lent(ctx);
    control.in_kernel = u8::from(loan.kernel != 0);
    control.syscall_compat = 0;
    control.syscall_exit = 0;
    control.may_reflect = 0;
    (control.serve, control.server, control.served, control.serving) = (0, 0, 0, 0);
    control.replied = [0; 2];
    for slot in &mut control.events {
        slot.taken = 0;
    }
    if let Some(events) = events {
        lend_events(control, events);
    }
    let reflects = control.may_reflect != 0;
    // Outside long mode the call for a turn back is an exception as well.
    control.may_reflect |= control.may_return & u8::from(ctx.long == 0);
    // Good for one stay.
    for reply in area.replies() {
        reply.key = 0;
    }
    if ctx.syscall.on != 0 && ctx.syscall.back != 0 {
        area.map_vcpu_page(ctx.syscall.vcpu_page);
    }
    if let Some(events) = events.filter(|events| reflects && events.tss_page != 0) {
        area.map_guest_tss(events.tss_page);
    }
    Ok(())
}
