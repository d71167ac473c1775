// SPDX-License-Identifier: GPL-2.0
//! Single privileged instructions, each as a function. All are for ring 0 with interrupts off unless said otherwise.

use super::layout::TableOperand;
use core::arch::asm;

/// IA32_EFER.
pub(crate) const MSR_EFER: u32 = 0xc000_0080;
/// IA32_SYSENTER_CS.
pub(crate) const MSR_SYSENTER_CS: u32 = 0x174;
/// IA32_FS_BASE.
pub(crate) const MSR_FS_BASE: u32 = 0xc000_0100;
/// IA32_GS_BASE.
pub(crate) const MSR_GS_BASE: u32 = 0xc000_0101;

/// IA32_KERNEL_GS_BASE.
pub(crate) const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// IA32_TSC_AUX.
pub(crate) const MSR_TSC_AUX: u32 = 0xc000_0103;

macro_rules! read_register {
    ($(#[$doc:meta])* $name:ident, $reg:literal) => {
        $(#[$doc])*
        pub(crate) fn $name() -> u64 {
            let value: u64;
            // SAFETY: reading the register has no side effect and is allowed at ring 0.
            unsafe { asm!(concat!("mov {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    };
}

read_register!(
    /// CR0.
    read_cr0, "cr0");
read_register!(
    /// CR3.
    read_cr3, "cr3");
read_register!(
    /// CR4.
    read_cr4, "cr4");
read_register!(
    /// DR6.
    read_dr6, "dr6");
read_register!(
    /// DR7.
    read_dr7, "dr7");

/// DR0 to DR3.
pub(crate) fn read_breakpoints() -> [u64; 4] {
    let (a, b, c, d): (u64, u64, u64, u64);
    // SAFETY: as for the other registers.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", out(reg) a, out(reg) b, out(reg) c, out(reg) d,
            options(nomem, nostack, preserves_flags));
    }
    [a, b, c, d]
}

/// Sets DR0 to DR3.
///
/// # Safety
/// No breakpoint is enabled in DR7; the caller restores the host's.
pub(crate) unsafe fn write_breakpoints(dr: [u64; 4]) {
    // SAFETY: by the contract they have no effect until DR7 is set.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", in(reg) dr[0], in(reg) dr[1], in(reg) dr[2], in(reg) dr[3],
            options(nomem, nostack, preserves_flags));
    }
}

/// Sets DR6.
///
/// # Safety
/// Bits 63:32 are 0; the caller restores the host's.
pub(crate) unsafe fn write_dr6(value: u64) {
    // SAFETY: by the contract the write does not fault.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Sets DR7.
///
/// # Safety
/// Bits 63:32 and GD are 0; the caller restores the host's.
pub(crate) unsafe fn write_dr7(value: u64) {
    // SAFETY: by the contract the write does not fault.
    unsafe { asm!("mov dr7, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Reads an MSR.
///
/// # Safety
/// The CPU has it.
pub(crate) unsafe fn rdmsr(msr: u32) -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: by the contract the read does not fault.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}

/// Writes an MSR.
///
/// # Safety
/// The CPU has it, the value is valid for it, and the host's is restored before anything relies on it.
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: by the contract.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags))
    };
}

/// Reads PKRU.
///
/// # Safety
/// CR4.PKE is set.
pub(crate) unsafe fn rdpkru() -> u32 {
    let value: u32;
    // SAFETY: by the contract.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes PKRU.
///
/// # Safety
/// CR4.PKE is set; no user memory is touched until the host's value is back.
pub(crate) unsafe fn wrpkru(value: u32) {
    // SAFETY: by the contract.
    unsafe { asm!("wrpkru", in("ecx") 0, in("eax") value, in("edx") 0, options(nostack, preserves_flags)) };
}

/// Reads XCR0.
///
/// # Safety
/// CR4.OSXSAVE is set.
pub(crate) unsafe fn xgetbv() -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: by the contract.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}

/// Writes XCR0.
///
/// # Safety
/// CR4.OSXSAVE is set, the value is valid for this CPU, and nobody uses the state that it leaves out until the host's value is back.
pub(crate) unsafe fn xsetbv(value: u64) {
    // SAFETY: by the contract.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags))
    };
}

/// IA32_TSC_AUX, by RDTSCP: unlike RDMSR it does not leave for a hypervisor under the host.
///
/// # Safety
/// The CPU has RDTSCP.
pub(crate) unsafe fn tsc_aux() -> u32 {
    let aux: u32;
    // SAFETY: by the contract; ring 0 may read the counter.
    unsafe { asm!("rdtscp", out("ecx") aux, out("eax") _, out("edx") _, options(nomem, nostack, preserves_flags)) };
    aux
}

/// GDTR.
pub(crate) fn sgdt() -> TableOperand {
    let mut t = TableOperand::default();
    // SAFETY: stores 10 bytes to a place of that size.
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut t, options(nostack, preserves_flags)) };
    t
}

/// IDTR.
pub(crate) fn sidt() -> TableOperand {
    let mut t = TableOperand::default();
    // SAFETY: stores 10 bytes to a place of that size.
    unsafe { asm!("sidt [{}]", in(reg) &raw mut t, options(nostack, preserves_flags)) };
    t
}

/// TR and LDTR selectors.
pub(crate) fn task_and_ldt() -> (u16, u16) {
    let (tr, ldt): (u32, u32);
    // SAFETY: reading them has no side effect.
    unsafe { asm!("str {0:e}", "sldt {1:e}", out(reg) tr, out(reg) ldt, options(nomem, nostack, preserves_flags)) };
    (tr as u16, ldt as u16)
}

/// ES, DS, FS, GS selectors.
pub(crate) fn data_selectors() -> [u16; 4] {
    let (es, ds, fs, gs): (u32, u32, u32, u32);
    // SAFETY: reading them has no side effect.
    unsafe {
        asm!("mov {0:e}, es", "mov {1:e}, ds", "mov {2:e}, fs", "mov {3:e}, gs", out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs,
            options(nomem, nostack, preserves_flags));
    }
    [es as u16, ds as u16, fs as u16, gs as u16]
}

/// Access rights of the descriptor that a selector names (LAR): bits 23:8 of its upper half; `None` if loading the selector would fault
/// for its limit, its type or its privilege.
pub(crate) fn lar(selector: u16) -> Option<u32> {
    let (rights, valid): (u32, u8);
    // SAFETY: LAR has no side effect and does not fault for any selector.
    unsafe {
        asm!("lar {0:e}, {1:e}", "setz {2}", out(reg) rights, in(reg) u32::from(selector), out(reg_byte) valid,
            options(nomem, nostack));
    }
    (valid != 0).then_some(rights)
}

/// The time-stamp counter.
pub(crate) fn rdtsc() -> u64 {
    // SAFETY: every 64-bit CPU has it, and ring 0 may read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CPUID: EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every 64-bit CPU has it.
    let r = unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    [r.eax, r.ebx, r.ecx, r.edx]
}
