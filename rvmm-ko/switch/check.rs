// SPDX-License-Identifier: GPL-2.0
//! What of a context is refused: whatever would lead elsewhere than to guest code in its own rings, tables and segments. Pure.

use super::area::Area;
use super::descriptors;
use super::layout::*;
use super::refused;
use rvmm_arch::host::{DescriptorTable, EventLoan, EventSlot, GuestContext, SyscallLoan};
use rvmm_arch::regs::Cr4;
use rvmm_arch::segment::{Descriptor, SegReg, Selector};
use rvmm_arch::xstate;

/// Are bits 63 to `bits - 1` of an address equal (SDM vol. 1 §3.3.7.1)?
const fn canonical(address: u64, bits: u32) -> bool {
    let unused = 64 - bits;
    ((address << unused) as i64 >> unused) as u64 == address
}

/// What a guest's mode decides: where its code may be, and which bases it has.
pub(super) fn check_mode(area: &Area, ctx: &GuestContext) -> core::result::Result<(), u32> {
    let low = ctx.rip >> 32 == 0;
    if (ctx.long != 0) != area.long_mode() {
        return Err(refused::MODE);
    }
    if ctx.long == 0 {
        return if low { Ok(()) } else { Err(refused::RIP) };
    }
    let cs = Selector(ctx.sel[SegReg::Cs as usize]);
    if cs.rpl() != 3 {
        return Err(refused::PRIVILEGE);
    }
    // As wide as the CPU takes them: with five levels the guest can set wider bases by WRFSBASE than it should, and must go on.
    let width = if area.slot().levels() == 5 { 57 } else { 48 };
    if !canonical(ctx.fs_base, width) || !canonical(ctx.gs_base, width) {
        return Err(refused::BASE);
    }
    if low || (canonical(ctx.rip, 48) && area.is_long_code(cs)) {
        Ok(())
    } else {
        Err(refused::RIP)
    }
}

/// Does a turn back lead where a program may be: to 64-bit code or flat 32-bit code, and a stack, that the shadow GDT has present, and that are not the kernel's?
fn check_return(area: &Area, loan: &SyscallLoan) -> core::result::Result<(), u32> {
    let ([cs, ss], compat) = (loan.program_sel.map(Selector), Selector(loan.compat_cs));
    let entry = |s: Selector| Descriptor(area.descriptor(DescriptorTable::Gdt, s.index()));
    let own = |s: Selector| {
        let foreign = loan.sel.iter().any(|k| Selector(*k).index() == s.index());
        s.rpl() == 3 && !s.is_ldt() && !s.is_null() && s.index() < VMM_INDEX && !foreign && entry(s).present()
    };
    // RIP below 4 GiB, of which the image sees to it, must be within its limit.
    let flat32 = |d: Descriptor| {
        d.is_code() && d.limit() == u32::MAX && d.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::DB
    };
    let [first, len] = loan.blocks;
    let possible = own(cs)
        && own(ss)
        && area.is_long_code(cs)
        && (loan.compat_cs == 0 || own(compat) && flat32(entry(compat)))
        && entry(ss).is_writable_data()
        && loan.program_cr3 & 0xfff0_0000_0000_0fff == 0
        && loan.vcpu_page & 0xfff0_0000_0000_0fff == 0
        && loan.vcpu_page != 0
        && first.checked_add(len).is_some();
    if possible {
        Ok(())
    } else {
        Err(refused::TURN)
    }
}

/// May XCR0 be that in the guest world, if it acts there? What is not switched must not be reached: PKRU least of all, which the guest's
/// XRSTOR would load.
pub(super) fn check_xcr0(ctx: &GuestContext, offered: u64) -> core::result::Result<(), u32> {
    let acts = (ctx.cr4 | ctx.syscall.cr4 | ctx.syscall.program_cr4) & Cr4::OSXSAVE.bits() != 0;
    if acts && !(xstate::is_valid(ctx.xcr0) && ctx.xcr0 & !offered == 0) {
        return Err(refused::CONTROL);
    }
    Ok(())
}

/// Does a turn lead where the guest's kernel may be: to 64-bit code and a stack of ring 3, by entries that are not the VMM's?
pub(super) fn check_turn(area: &Area, ctx: &GuestContext) -> core::result::Result<(), u32> {
    let SyscallLoan { on, sel, descriptors: raws, cr3, rip, .. } = ctx.syscall;
    if on == 0 {
        return Ok(());
    }
    if ctx.syscall.back != 0 {
        check_return(area, &ctx.syscall)?;
    }
    let own = |selector: u16, raw: u64| {
        let s = Selector(selector);
        s.rpl() == 3 && !s.is_ldt() && !s.is_null() && descriptors::allowed(DescriptorTable::Gdt, s.index(), raw, true)
    };
    let [cs, ss] = sel;
    let [code, stack] = raws.map(Descriptor);
    let code_is_long =
        code.present() && code.is_code() && code.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG;
    let possible = ctx.long != 0
        && own(cs, code.0)
        && own(ss, stack.0)
        && cs != ss
        && code_is_long
        && stack.present()
        && stack.is_writable_data()
        && canonical(rip, 48)
        && (ctx.syscall.compat == 0 || canonical(ctx.syscall.compat_rip, 48))
        && cr3 & 0xfff0_0000_0000_0fff == 0;
    if possible {
        Ok(())
    } else {
        Err(refused::TURN)
    }
}

/// Do events lead where the guest's kernel may be: to 64-bit code of ring 3, with a stack pointer that is on the page? (That of SYSENTER is not
/// on a page, and may be anything.)
pub(super) fn check_events(ctx: &GuestContext, events: &EventLoan) -> core::result::Result<(), u32> {
    let EventLoan { slots, tss_page, .. } = events;
    if slots.iter().all(|slot| slot.block == 0) {
        return Ok(());
    }
    let [cs, _] = ctx.syscall.sel;
    let by_gate = |n: usize| n != EventLoan::SYSENTER;
    let possible = |(n, slot): (usize, &EventSlot)| {
        let code = Descriptor(slot.code);
        let long = code.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG;
        slot.block == 0
            || canonical(slot.block, 48)
                && (slot.stack <= (PAGE - 8) as u64 || !by_gate(n))
                && descriptors::allowed(DescriptorTable::Gdt, Selector(cs).index(), slot.code, true)
                && code.present()
                && code.is_code()
                && long
    };
    let reads = slots.iter().enumerate().any(|(n, slot)| slot.block != 0 && by_gate(n));
    let page = *tss_page & 0xfff0_0000_0000_0fff == 0 && (*tss_page != 0 || !reads);
    if ctx.syscall.on != 0 && ctx.syscall.back != 0 && page && slots.iter().enumerate().all(possible) {
        Ok(())
    } else {
        Err(refused::TURN)
    }
}
