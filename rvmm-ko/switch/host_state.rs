// SPDX-License-Identifier: GPL-2.0
//! The host's side of a round trip: what the image restores, and what its caller saves and restores around it.

use super::cpu;
use super::image;
use super::layout::*;
use super::syscall::SyscallMsrs;
use rvmm_arch::host::GuestContext;
use rvmm_arch::regs::Cr4;

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

/// The host's state that the image does not save.
pub(super) struct HostState {
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
pub(super) fn note_host(control: &mut Control, cr4: u64) {
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
    pub(super) fn swap_in(ctx: &GuestContext, cr4: u64, image: u64) -> Self {
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
    pub(super) fn swap_out(self, ctx: &mut GuestContext, debug: bool) {
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
