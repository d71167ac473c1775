// SPDX-License-Identifier: GPL-2.0
//! Tour 8/22, next: `rvmm-ko/switch/image.rs`.
//! One round trip into the guest world, with everything that the image leaves to its caller: checks, FPU, XCR0, PKRU, debug registers,
//! MSRs, and the host's events afterwards.

use super::area::Area;
use super::async_pf;
use super::cpu;
use super::descriptors;
use super::fpu::{self, FpuState};
use super::image;
use super::layout::*;
use super::redispatch;
use super::slot::Slot;
use super::syscall::{self, SyscallMsrs};
use crate::sys::task;
use kernel::prelude::*;
use kernel::sync::Arc;
use rvmm_arch::cpuid::Leaf7;
use rvmm_arch::host::{
    DescriptorTable, EventFrame, EventLoan, EventSlot, GuestContext, SyscallFrom, SyscallLoan, SyscallSupport, WorldExit,
};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Selector};
use rvmm_arch::xstate;

/// Codes of [`WorldExit::Refused`]. From 0x100: a fault of the switcher, `where << 8 | vector`, its error code in the context.
pub(crate) mod refused {
    /// CS or SS has not RPL 1 or 3 (in long mode: 3), or differ.
    pub(crate) const PRIVILEGE: u32 = 1;
    /// RIP does not fit in 32 bits and CS is no 64-bit code segment, or it is not canonical (48 bits).
    pub(crate) const RIP: u32 = 2;
    /// A selector names one of the VMM's own descriptors.
    pub(crate) const SELECTOR: u32 = 3;
    /// A control register, XCR0 among them, has bits that are not let through.
    pub(crate) const CONTROL: u32 = 4;
    /// RFLAGS.AC in kernel mode.
    pub(crate) const ALIGNMENT: u32 = 5;
    /// The slot is missing in the current address space: KVM_RUN came from another process.
    pub(crate) const SLOT: u32 = 6;
    /// An exception that no guest code can raise (#DF, vectors beyond the architecture).
    pub(crate) const EXCEPTION: u32 = 7;
    /// The context is for long mode and the shadow descriptor tables are not, or the other way round.
    pub(crate) const MODE: u32 = 8;
    /// A base of FS or GS that the CPU would refuse.
    pub(crate) const BASE: u32 = 9;
    /// A turn at SYSCALL, or one back, that does not lead to 64-bit code of ring 3.
    pub(crate) const TURN: u32 = 10;
    /// Places of a switcher fault, from bit 8 up: elsewhere, LDTR, ES, DS, FS, GS, IRETQ.
    pub(crate) const FAULT: [u32; 7] = [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700];
}

/// CR0 bits that the guest decides.
const GUEST_CR0: Cr0 = Cr0::MP.union(Cr0::EM).union(Cr0::TS).union(Cr0::AM);
/// CR0 in the guest world besides those.
const WORLD_CR0: Cr0 = Cr0::PG.union(Cr0::PE).union(Cr0::WP).union(Cr0::NE).union(Cr0::ET);
/// CR4 bits that the engine may decide; others that it asks for stay off. SMAP, with SMEP off, is how views are protected where there are
/// no protection keys.
pub(crate) const GUEST_CR4: Cr4 = Cr4::TSD
    .union(Cr4::DE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT)
    .union(Cr4::UMIP)
    .union(Cr4::FSGSBASE)
    .union(Cr4::SMAP)
    .union(Cr4::OSXSAVE)
    .union(Cr4::PKE);
/// CR4 bits that stay as the host has them: PAE, PGE, MCE, LA57, PCIDE, and VMXE and SMXE, which may be locked on.
const HOST_CR4: u64 =
    Cr4::PAE.bits() | Cr4::PGE.bits() | Cr4::MCE.bits() | Cr4::LA57.bits() | Cr4::PCIDE.bits() | 0x6000;
/// CR4 bits that are 0 in the world of a guest in long mode, whoever wants them. PGE: its shadow tables cover addresses where the host has
/// global translations, which would act there; changing the bit drops them all. SMAP: no guest code runs below ring 3, so it protects
/// nothing.
const NOT_IN_LONG_MODE: u64 = Cr4::PGE.bits() | Cr4::SMAP.bits();
/// Flags that the guest decides at any CPL.
const GUEST_FLAGS: Rflags =
    Rflags::STATUS.union(Rflags::TF).union(Rflags::DF).union(Rflags::NT).union(Rflags::RF).union(Rflags::ID);

/// Do two PKRU values allow the same for the keys in use? Only keys 0 and 1 stand in shadow tables, and access-disable makes
/// write-disable meaningless (SDM vol. 3 §4.6.2). Linux' default denies all keys but 0, as the engine denies key 1, so mostly nothing
/// need be written; emulators drop their whole TLB at each write.
fn same_rights(a: u32, b: u32) -> bool {
    let rights = |pkru: u32, key: u32| match pkru >> (2 * key) & 3 {
        3 => 1,
        r => r,
    };
    rights(a, 0) == rights(b, 0) && rights(a, 1) == rights(b, 1)
}

/// What one vCPU needs on entry besides its context.
pub(crate) struct World {
    /// The VMM area.
    pub(crate) area: Area,
    /// The guest's FPU state.
    pub(crate) fpu: FpuState,
    /// CR3 loads made so far.
    pub(crate) cr3_loads: u64,
    /// NMIs, machine checks and debug exceptions that interrupted the switcher itself.
    pub(crate) switcher_events: u64,
    /// CR4 bits of [`GUEST_CR4`] that this CPU has.
    cr4_mask: u64,
    /// A hypervisor under the host may raise page faults of its own.
    async_pf: bool,
    /// SYSCALL may be lent.
    syscall: bool,
    /// There is IA32_TSC_AUX.
    tsc_aux: bool,
}

/// The host's state that the image does not save.
struct HostState {
    efer: u64,
    /// The MSRs of SYSCALL, where the guest world has it.
    syscall: Option<SyscallMsrs>,
    sysenter_cs: u64,
    /// The host's PKRU, if it acts in the guest world.
    pkru: Option<u32>,
    /// The host's XCR0, where the guest has its own.
    xcr0: Option<u64>,
    /// The host's IA32_TSC_AUX, likewise.
    tsc_aux: Option<u32>,
    dr7: u64,
    breakpoints: [u64; 4],
}

/// Are bits 63 to `bits - 1` of an address equal (SDM vol. 1 §3.3.7.1)?
const fn canonical(address: u64, bits: u32) -> bool {
    let unused = 64 - bits;
    ((address << unused) as i64 >> unused) as u64 == address
}

/// What a guest's mode decides: where its code may be, and which bases it has.
fn check_mode(area: &Area, ctx: &GuestContext) -> core::result::Result<(), u32> {
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

/// Does a turn back lead where a program may be: to 64-bit code and a stack that the shadow GDT has present, and that are not the kernel's?
fn check_return(area: &Area, loan: &SyscallLoan) -> core::result::Result<(), u32> {
    let [cs, ss] = loan.program_sel.map(Selector);
    let entry = |s: Selector| Descriptor(area.descriptor(DescriptorTable::Gdt, s.index()));
    let own = |s: Selector| {
        let foreign = loan.sel.iter().any(|k| Selector(*k).index() == s.index());
        s.rpl() == 3 && !s.is_ldt() && !s.is_null() && s.index() < VMM_INDEX && !foreign && entry(s).present()
    };
    let [first, len] = loan.blocks;
    let possible = own(cs)
        && own(ss)
        && area.is_long_code(cs)
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
fn check_xcr0(ctx: &GuestContext, offered: u64) -> core::result::Result<(), u32> {
    let acts = (ctx.cr4 | ctx.syscall.cr4 | ctx.syscall.program_cr4) & Cr4::OSXSAVE.bits() != 0;
    if acts && !(xstate::is_valid(ctx.xcr0) && ctx.xcr0 & !offered == 0) {
        return Err(refused::CONTROL);
    }
    Ok(())
}

/// Does a turn lead where the guest's kernel may be: to 64-bit code and a stack of ring 3, by entries that are not the VMM's?
fn check_turn(area: &Area, ctx: &GuestContext) -> core::result::Result<(), u32> {
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
    let code_is_long = code.present() && code.is_code() && code.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG;
    let possible = ctx.long != 0
        && own(cs, code.0)
        && own(ss, stack.0)
        && cs != ss
        && code_is_long
        && stack.present()
        && stack.is_writable_data()
        && canonical(rip, 48)
        && cr3 & 0xfff0_0000_0000_0fff == 0;
    if possible {
        Ok(())
    } else {
        Err(refused::TURN)
    }
}

/// Do events lead where the guest's kernel may be: to 64-bit code of ring 3, with a stack pointer that is on the page?
fn check_events(ctx: &GuestContext, events: &EventLoan) -> core::result::Result<(), u32> {
    let EventLoan { slots, tss_page, .. } = events;
    if slots.iter().all(|slot| slot.block == 0) {
        return Ok(());
    }
    let [cs, _] = ctx.syscall.sel;
    let possible = |slot: &EventSlot| {
        let code = Descriptor(slot.code);
        let long = code.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG;
        slot.block == 0
            || canonical(slot.block, 48)
                && slot.stack <= (PAGE - 8) as u64
                && descriptors::allowed(DescriptorTable::Gdt, Selector(cs).index(), slot.code, true)
                && code.present()
                && code.is_code()
                && long
    };
    let page = *tss_page & 0xfff0_0000_0000_0fff == 0 && *tss_page != 0;
    if ctx.syscall.on != 0 && ctx.syscall.back != 0 && page && slots.iter().all(possible) {
        Ok(())
    } else {
        Err(refused::TURN)
    }
}

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

/// Checks what the hardware would not, and fills the control page. Pure but for that.
fn prepare(area: &mut Area, ctx: &GuestContext, events: Option<&EventLoan>) -> core::result::Result<(), u32> {
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
    control.syscall_cs = u64::from(loan.sel[0]);
    control.syscall_ss = u64::from(loan.sel[1]);
    control.syscall_descriptors = loan.descriptors;
    control.turns = 0;
    control.returns = 0;
    control.program_cr3 = loan.program_cr3;
    control.program_cs = u64::from(loan.program_sel[0]);
    control.program_ss = u64::from(loan.program_sel[1]);
    control.blocks = loan.blocks;
    control.words = loan.words;
    control.may_turn = u8::from(loan.on != 0);
    control.may_return = u8::from(loan.on != 0 && loan.back != 0);
    control.in_kernel = u8::from(loan.kernel != 0);
    control.syscall_compat = 0;
    control.syscall_exit = 0;
    control.may_reflect = 0;
    for slot in &mut control.events {
        slot.taken = 0;
    }
    if let Some(events) = events {
        lend_events(control, events);
    }
    let reflects = control.may_reflect != 0;
    if ctx.syscall.on != 0 && ctx.syscall.back != 0 {
        area.map_vcpu_page(ctx.syscall.vcpu_page);
    }
    if let Some(events) = events.filter(|_| reflects) {
        area.map_guest_tss(events.tss_page);
    }
    Ok(())
}

mod shim {
    extern "C" {
        pub(super) fn rvmm_gdt_rw() -> *mut u64;
    }
}

/// The selector, if loading it again does not fault, else the null selector. A task may stand on a descriptor that is gone:
/// modify_ldt(2) by any thread of the client changes the LDT and reloads DS and ES, but neither FS nor GS. The kernel would load null
/// there at the next task switch; the image must not meet a fault on its way out.
fn loadable(selector: u16) -> u16 {
    /// As LAR shows them: present; code or data; code; of code: readable.
    const PRESENT: u32 = 1 << 15;
    const ORDINARY: u32 = 1 << 12;
    const CODE: u32 = 1 << 11;
    const READABLE: u32 = 1 << 9;
    if selector & !3 == 0 {
        return selector;
    }
    match cpu::lar(selector) {
        Some(rights) if rights & PRESENT != 0 && rights & ORDINARY != 0 && rights & (CODE | READABLE) != CODE => {
            selector
        }
        _ => 0,
    }
}

/// Fills in this CPU's state. Interrupts are off.
fn note_host(control: &mut Control, cr4: u64) {
    let cr3 = cpu::read_cr3();
    // With PCIDs on, coming back need not flush the host's translations; the guest world runs under PCID 0, flushed on each entry.
    control.host_cr3 = if cr4 & Cr4::PCIDE.bits() != 0 { cr3 | 1 << 63 } else { cr3 };
    control.host_cr0 = cpu::read_cr0();
    control.host_cr4 = cr4;
    let gdtr = cpu::sgdt();
    // SAFETY: interrupts are off, so this is and stays the CPU's own GDT.
    let writable = unsafe { shim::rvmm_gdt_rw() }.addr() as u64;
    control.host_gdtr = Table(gdtr);
    control.host_gdtr_writable = Table(TableOperand { limit: gdtr.limit, base: writable });
    control.host_idtr = Table(cpu::sidt());
    let (tr, ldt) = cpu::task_and_ldt();
    control.host_tr = tr;
    control.host_ldt = ldt;
    control.host_tss_descriptor = writable.wrapping_add(u64::from(tr & !7));
    let [es, ds, fs, gs] = cpu::data_selectors().map(loadable);
    control.host_es = es;
    control.host_ds = ds;
    control.host_fs = fs;
    control.host_gs = gs;
    // SAFETY: every 64-bit CPU has these MSRs.
    unsafe {
        control.host_fs_base = cpu::rdmsr(cpu::MSR_FS_BASE);
        control.host_gs_base = cpu::rdmsr(cpu::MSR_GS_BASE);
    }
}

/// DR0 to DR3 and DR7 as they may be. They act at ring 0 too, before the guest is entered and after it is left: an address where the
/// host or the switcher's own stack is, which a guest or a client can set, must not be there. Below 4 GiB, for a guest in long mode
/// in the lower half of the addresses, is neither.
fn guest_breakpoints(ctx: &GuestContext) -> ([u64; 4], u64) {
    if ctx.long == 0 {
        return (ctx.dr.map(|a| a & 0xffff_ffff), ctx.dr7);
    }
    let (mut addresses, mut control) = (ctx.dr, ctx.dr7);
    for (i, address) in addresses.iter_mut().enumerate() {
        if *address >> 47 != 0 {
            *address = 0;
            control &= !(3 << (2 * i));
        }
    }
    (addresses, control)
}

impl HostState {
    /// Saves the host's and loads the guest's. Interrupts are off. `image`: where the image lies.
    fn swap_in(ctx: &GuestContext, cr4: u64, image: u64) -> Self {
        // In the guest world PKRU acts only with CR4.PKE, which it never has without the host's.
        let turns = ctx.syscall.on != 0;
        let guest_cr4 = ctx.cr4 | if turns { ctx.syscall.cr4 } else { 0 };
        let has_pkru = cr4 & Cr4::PKE.bits() & guest_cr4 != 0;
        let has_xcr0 = cr4 & Cr4::OSXSAVE.bits() & guest_cr4 != 0;
        let dr7 = cpu::read_dr7();
        let armed = dr7 & 0xff != 0;
        let breakpoints = if armed || ctx.use_debug != 0 { cpu::read_breakpoints() } else { [0; 4] };
        // SAFETY: every 64-bit CPU has the MSRs, and those of SYSCALL are left alone where they cannot be had, as `enter` refuses a turn
        // there; the values written are valid, the image's addresses being canonical; `swap_out` restores all before interrupts come on
        // again. PKRU is touched only where CR4.PKE is set, XCR0 only where CR4.OSXSAVE is, with a value that `check_xcr0` has seen, and
        // IA32_TSC_AUX only where `enter` has found it. DR7 is cleared before the addresses change, and only its architectural bits without
        // GD are set.
        unsafe {
            let offsets = image::offsets();
            let entry = |offset: u32| image.wrapping_add(u64::from(offset));
            let state = Self {
                efer: cpu::rdmsr(cpu::MSR_EFER),
                syscall: turns.then(|| SyscallMsrs::replace(entry(offsets.syscall), entry(offsets.syscall_compat))),
                sysenter_cs: cpu::rdmsr(cpu::MSR_SYSENTER_CS),
                pkru: if has_pkru { Some(cpu::rdpkru()) } else { None },
                xcr0: if has_xcr0 { Some(cpu::xgetbv()) } else { None },
                tsc_aux: if ctx.use_tsc_aux != 0 { Some(cpu::tsc_aux()) } else { None },
                dr7,
                breakpoints,
            };
            if armed {
                cpu::write_dr7(0x400);
            }
            if ctx.use_debug != 0 {
                let (addresses, control) = guest_breakpoints(ctx);
                cpu::write_breakpoints(addresses);
                cpu::write_dr6(ctx.dr6 & 0xffff_ffff);
                cpu::write_dr7((control & 0xffff_03ff) | 0x400);
            }
            if state.pkru.is_some_and(|p| !same_rights(p, ctx.pkru)) {
                cpu::wrpkru(ctx.pkru);
            }
            // Even if the host's would do: what XCR0 has, the guest's XRSTOR loads and its XGETBV shows.
            if state.xcr0.is_some_and(|x| x != ctx.xcr0) {
                cpu::xsetbv(ctx.xcr0);
            }
            if state.tsc_aux.is_some_and(|aux| aux != ctx.tsc_aux) {
                cpu::wrmsr(cpu::MSR_TSC_AUX, u64::from(ctx.tsc_aux));
            }
            // SYSCALL as the guest has it: on with somewhere to go, or #UD.
            let efer = state.efer & !1 | u64::from(turns);
            if efer != state.efer {
                cpu::wrmsr(cpu::MSR_EFER, efer);
            }
            cpu::wrmsr(cpu::MSR_SYSENTER_CS, 0);
            state
        }
    }

    /// The way back. `debug`: a debug exception has come, DR6 tells why.
    fn swap_out(self, ctx: &mut GuestContext, debug: bool) {
        // SAFETY: the values were read by `swap_in`; DR7 is cleared before the addresses change.
        unsafe {
            cpu::wrmsr(cpu::MSR_SYSENTER_CS, self.sysenter_cs);
            if let Some(msrs) = self.syscall {
                msrs.restore();
            }
            if self.efer & 1 != u64::from(ctx.syscall.on != 0) {
                cpu::wrmsr(cpu::MSR_EFER, self.efer);
            }
            // Looked at even if it was not changed on the way in: a guest kernel that jumps into the middle of an instruction may
            // have executed a WRPKRU that no scan has seen.
            if let Some(pkru) = self.pkru.filter(|p| cpu::rdpkru() != *p) {
                cpu::wrpkru(pkru);
            }
            // These two no guest code can write, wherever it jumps.
            if let Some(xcr0) = self.xcr0.filter(|x| *x != ctx.xcr0) {
                cpu::xsetbv(xcr0);
            }
            if let Some(aux) = self.tsc_aux.filter(|aux| *aux != ctx.tsc_aux) {
                cpu::wrmsr(cpu::MSR_TSC_AUX, u64::from(aux));
            }
            if ctx.use_debug != 0 {
                cpu::write_dr7(0x400);
            }
            if debug || ctx.use_debug != 0 {
                ctx.dr6 = cpu::read_dr6();
                cpu::write_dr6(0xffff_0ff0);
            }
            if ctx.use_debug != 0 {
                cpu::write_breakpoints(self.breakpoints);
            }
            if self.dr7 & 0xff != 0 {
                cpu::write_dr7(self.dr7);
            }
        }
    }
}

/// Which CR4 bits of [`GUEST_CR4`] the CPU has (SDM vol. 3 §2.5, CPUID leaf 7).
fn cr4_mask() -> u64 {
    let has = Leaf7::read(|leaf| cpu::cpuid(leaf, 0));
    let optional = |has: bool, bit: Cr4| if has { Cr4::empty() } else { bit };
    let missing = optional(has.fsgsbase, Cr4::FSGSBASE)
        | optional(has.smap, Cr4::SMAP)
        | optional(has.umip, Cr4::UMIP)
        | optional(fpu::offered() != 0, Cr4::OSXSAVE)
        | optional(has.pku, Cr4::PKE);
    (GUEST_CR4 - missing).bits()
}

/// Has the CPU RDTSCP (CPUID leaf 80000001H, EDX bit 27), and so IA32_TSC_AUX?
pub(crate) fn has_rdtscp() -> bool {
    cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0001 && cpu::cpuid(0x8000_0001, 0)[3] >> 27 & 1 != 0
}

impl World {
    /// An area of its own and a fresh FPU.
    pub(crate) fn new(slot: Arc<Slot>) -> Result<Self> {
        Ok(Self {
            area: Area::new(slot)?,
            fpu: FpuState::new()?,
            cr3_loads: 0,
            switcher_events: 0,
            cr4_mask: cr4_mask(),
            async_pf: async_pf::possible(),
            syscall: syscall::support() != SyscallSupport::None,
            tsc_aux: has_rdtscp(),
        })
    }

    /// Enters the guest world, comes back at its next exit and lets the host handle its own events. Process context, interrupts on
    /// before and after; may have been scheduled away meanwhile.
    pub(crate) fn enter(&mut self, ctx: &mut GuestContext, events: Option<&mut EventLoan>) -> WorldExit {
        if let Err(code) = prepare(&mut self.area, ctx, events.as_deref()) {
            return WorldExit::Refused(code);
        }
        if ctx.syscall.on != 0 && !self.syscall {
            return WorldExit::Refused(refused::TURN);
        }
        if let Err(code) = check_xcr0(ctx, self.fpu.components()) {
            return WorldExit::Refused(code);
        }
        if ctx.use_tsc_aux != 0 && !self.tsc_aux {
            return WorldExit::Refused(refused::CONTROL);
        }
        self.area.free_task();
        let entry_point = self.area.entry_point();

        task::irq_disable();
        if !self.area.slot().is_in(cpu::read_cr3()) {
            task::irq_enable();
            return WorldExit::Refused(refused::SLOT);
        }
        let cr4 = cpu::read_cr4();
        let control = self.area.control();
        note_host(control, cr4);
        let absent = if ctx.long != 0 { NOT_IN_LONG_MODE } else { 0 };
        let world_cr4 = |wanted: u64| ((cr4 & HOST_CR4) | (wanted & self.cr4_mask)) & !absent;
        control.guest_cr4 = world_cr4(ctx.cr4);
        control.syscall_cr4 = world_cr4(ctx.syscall.cr4);
        control.program_cr4 = world_cr4(ctx.syscall.program_cr4);
        // SAFETY: interrupts are off until `leave`.
        unsafe { self.fpu.enter() };
        let host = HostState::swap_in(ctx, cr4, entry_point);
        // SAFETY: the slot is in the live page tables (checked above), so the image lies at the entry point; the control page is
        // filled in and no reference to it is alive; interrupts are off. The image keeps the C ABI.
        unsafe {
            let switcher: extern "C" fn() = core::mem::transmute(entry_point as *const ());
            switcher();
        }
        let control = self.area.control();
        let (nmi, mc, db) = (control.pending_nmi != 0, control.pending_mc != 0, control.pending_db != 0);
        let aborted = control.aborted;
        let vector = control.frame.vector.wrapping_add(128) as u8;
        host.swap_out(ctx, db || (aborted == 0 && vector == 1));
        // SAFETY: follows `enter` above, interrupts still off.
        unsafe { self.fpu.leave() };
        self.cr3_loads = self.cr3_loads.wrapping_add(2);
        self.switcher_events = self.switcher_events.wrapping_add(u64::from(nmi || mc || db));
        let mut exit = match aborted {
            0 => {
                let control = self.area.control();
                store(control, ctx);
                if let Some(events) = events {
                    store_events(control, events);
                }
                ctx.syscall.debug = u16::from(db && control.syscall_exit != 0);
                match (control.syscall_exit, control.syscall_compat) {
                    (0, _) => classify(vector),
                    (_, 0) => WorldExit::Syscall(SyscallFrom::Long),
                    _ => WorldExit::Syscall(SyscallFrom::Compatibility),
                }
            }
            1 => refuse_fault(self.area.control(), ctx, entry_point),
            _ if mc => WorldExit::MachineCheck,
            _ => WorldExit::Nmi,
        };
        // SAFETY: `possible` has said so.
        if exit == WorldExit::Exception(14) && self.async_pf && unsafe { async_pf::take() } {
            exit = WorldExit::HostInterrupt(14);
        }
        if mc || exit == WorldExit::MachineCheck {
            redispatch::machine_check();
        }
        if nmi || exit == WorldExit::Nmi {
            redispatch::nmi();
        }
        match exit {
            WorldExit::HostInterrupt(v @ 32..) => redispatch::interrupt(v),
            _ => task::irq_enable(),
        }
        exit
    }
}

fn classify(vector: u8) -> WorldExit {
    match vector {
        2 => WorldExit::Nmi,
        18 => WorldExit::MachineCheck,
        8 | 9 | 15 | 20..=31 => WorldExit::Refused(refused::EXCEPTION),
        0..=31 => WorldExit::Exception(vector),
        _ => WorldExit::HostInterrupt(vector),
    }
}

/// The frame to the context. Outside long mode upper halves mean nothing and may be stale: they are cut off.
fn store(control: &Control, ctx: &mut GuestContext) {
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
fn store_events(control: &Control, events: &mut EventLoan) {
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
fn refuse_fault(control: &Control, ctx: &mut GuestContext, image_base: u64) -> WorldExit {
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
