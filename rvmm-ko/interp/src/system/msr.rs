//! Model-specific registers: which exist, what may be written to them (SDM vol. 4; APM vol. 2 appendix A).
//!
//! A register that is not here does not exist: #GP(0). The list is what a guest on the CPU that its CPUID announces
//! reads or writes without expecting a fault; what kernels probe with a handler for the fault is left out.

use super::cpu::{edx_eax, set_edx_eax};
use super::features::{has, physical_bits, vendor, Feature, Vendor};
use super::mtrr;
use crate::exec::{canonical, Exec, Res};
use iced_x86::{Mnemonic, Register};
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::{Cr0, Efer};
use rvmm_arch::{Exception, VcpuState};

/// Numbers of the registers.
#[allow(missing_docs)]
mod number {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    /// IA32_BIOS_UPDT_TRIG.
    pub const UCODE_WRITE: u32 = 0x79;
    /// IA32_BIOS_SIGN_ID; the patch level on AMD CPUs.
    pub const UCODE_REVISION: u32 = 0x8b;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const PAT: u32 = 0x277;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const AMD_SYSCFG: u32 = 0xc001_0010;
    pub const AMD_HWCR: u32 = 0xc001_0015;
    pub const AMD_PATCH_LOADER: u32 = 0xc001_0020;
    pub const AMD_INT_PENDING: u32 = 0xc001_0055;
}

/// IA32_MISC_ENABLE: bits that can be written: fast strings, thermal control, SpeedStep, MWAIT, CPUID limit, xTPR, XD.
const MISC_ENABLE_WRITABLE: u64 = 1 << 0 | 1 << 3 | 1 << 16 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 34;
/// … bits that say what is missing: branch trace storage and precise event-based sampling.
const MISC_ENABLE_FIXED: u64 = 1 << 11 | 1 << 12;
/// … read-only bits, ignored in a write.
const MISC_ENABLE_READ_ONLY: u64 = MISC_ENABLE_FIXED | 1 << 7;
/// IA32_DEBUGCTL bits accepted: LBR, BTF. Neither has an effect here.
const DEBUGCTL_WRITABLE: u64 = 3;
/// IA32_APIC_BASE: BSP and global enable, besides the address.
const APIC_BASE_FLAGS: u64 = 1 << 8 | 1 << 11;
/// HWCR.TscFreqSel: the TSC counts at the P0 frequency.
const HWCR_TSC_P0: u64 = 1 << 24;
/// HWCR bits that system software sets as workarounds or at boot and that change nothing here: TLB cache and flush
/// filter controls, MONITOR and MWAIT rights, FFDIS, IGNNE.
const HWCR_IGNORED: u64 = 1 << 3 | 1 << 6 | 1 << 8 | HWCR_TSC_P0;
/// The microcode revision that Intel CPUs show in the upper half.
const UCODE_REVISION: u64 = 1 << 32;

/// The value of MSR `index`, or `None` where the guest has no such register.
pub fn read<M: Machine>(cpu: &VcpuState, m: &mut M, index: u32) -> Option<u64> {
    let msrs = &cpu.msrs;
    if let Some(value) = mtrr::read(cpu, m, index) {
        return Some(value);
    }
    let (needs, value) = match index {
        number::TSC => (Feature::TSC, m.rdtsc(cpu)),
        number::APIC_BASE => (Feature::APIC, msrs.apic_base),
        number::SYSENTER_CS => (Feature::SEP, msrs.sysenter_cs),
        number::SYSENTER_ESP => (Feature::SEP, msrs.sysenter_esp),
        number::SYSENTER_EIP => (Feature::SEP, msrs.sysenter_eip),
        // Read-only: the client says what it holds.
        number::ARCH_CAPABILITIES => (Feature::ARCH_CAPABILITIES, msrs.arch_capabilities),
        // No banks.
        number::MCG_CAP | number::MCG_STATUS => (Feature::MCA, 0),
        number::PAT => (Feature::PAT, msrs.pat),
        number::STAR => (Feature::SYSCALL, msrs.star),
        number::LSTAR => (Feature::LM, msrs.lstar),
        number::CSTAR => (Feature::LM, msrs.cstar),
        number::SFMASK => (Feature::LM, msrs.sfmask),
        number::FS_BASE => (Feature::LM, cpu.segment(rvmm_arch::segment::SegReg::Fs).base),
        number::GS_BASE => (Feature::LM, cpu.segment(rvmm_arch::segment::SegReg::Gs).base),
        number::KERNEL_GS_BASE => (Feature::LM, msrs.kernel_gs_base),
        number::TSC_AUX => return has_tsc_aux(cpu, m).then_some(msrs.tsc_aux),
        number::EFER => return has_efer(cpu, m).then_some(cpu.efer.bits()),
        number::DEBUGCTL => return Some(msrs.debugctl),
        _ => return read_by_vendor(cpu, m, index),
    };
    has(cpu, m, needs).then_some(value)
}

/// Registers that only one vendor has, or has differently.
fn read_by_vendor<M: Machine>(cpu: &VcpuState, m: &mut M, index: u32) -> Option<u64> {
    match (vendor(cpu, m), index) {
        (Vendor::Intel, number::PLATFORM_ID) => Some(0),
        (Vendor::Intel, number::UCODE_REVISION) => Some(UCODE_REVISION),
        (Vendor::Intel, number::MISC_ENABLE) => Some(cpu.msrs.misc_enable | MISC_ENABLE_FIXED),
        (Vendor::Amd, number::UCODE_REVISION | number::AMD_SYSCFG | number::AMD_INT_PENDING) => Some(0),
        (Vendor::Amd, number::AMD_HWCR) => Some(HWCR_TSC_P0),
        _ => None,
    }
}

/// EFER exists where one of its features does.
fn has_efer<M: Machine>(cpu: &VcpuState, m: &mut M) -> bool {
    [Feature::SYSCALL, Feature::NX, Feature::LM].into_iter().any(|f| has(cpu, m, f))
}

fn has_tsc_aux<M: Machine>(cpu: &VcpuState, m: &mut M) -> bool {
    has(cpu, m, Feature::RDTSCP) || has(cpu, m, Feature::RDPID)
}

/// Writes MSR `index`; `None`, and nothing changed, where the guest has no such register or may not write this value.
pub fn write<M: Machine>(cpu: &mut VcpuState, m: &mut M, index: u32, value: u64) -> Option<()> {
    if let Some(done) = mtrr::write(cpu, m, index, value) {
        return done;
    }
    match index {
        number::TSC => {
            require(cpu, m, Feature::TSC)?;
            let now = m.rdtsc(cpu);
            cpu.tsc_offset = cpu.tsc_offset.wrapping_add(value.wrapping_sub(now));
        }
        number::APIC_BASE => {
            require(cpu, m, Feature::APIC)?;
            let address = ((1u64 << physical_bits(cpu, m)) - 1) & !0xfff;
            only(value, APIC_BASE_FLAGS | address)?;
            if core::mem::replace(&mut cpu.msrs.apic_base, value) != value {
                m.changed(cpu, Change::ApicBase);
            }
        }
        number::SYSENTER_CS => {
            require(cpu, m, Feature::SEP)?;
            cpu.msrs.sysenter_cs = value & 0xffff_ffff;
        }
        number::SYSENTER_ESP => {
            require(cpu, m, Feature::SEP)?;
            cpu.msrs.sysenter_esp = address(cpu, m, value)?;
        }
        number::SYSENTER_EIP => {
            require(cpu, m, Feature::SEP)?;
            cpu.msrs.sysenter_eip = address(cpu, m, value)?;
        }
        number::MCG_STATUS => {
            require(cpu, m, Feature::MCA)?;
            only(value, 0)?;
        }
        number::DEBUGCTL => {
            only(value, DEBUGCTL_WRITABLE)?;
            cpu.msrs.debugctl = value;
        }
        number::PAT => {
            require(cpu, m, Feature::PAT)?;
            cpu.msrs.pat = value.to_le_bytes().iter().all(|&t| matches!(t, 0 | 1 | 4..=7)).then_some(value)?;
        }
        number::TSC_AUX => {
            cpu.msrs.tsc_aux = (has_tsc_aux(cpu, m) && value >> 32 == 0).then_some(value)?;
        }
        number::EFER => set_efer(cpu, m, value)?,
        number::STAR => {
            require(cpu, m, Feature::SYSCALL)?;
            cpu.msrs.star = value;
        }
        number::LSTAR | number::CSTAR | number::FS_BASE | number::GS_BASE | number::KERNEL_GS_BASE => {
            require(cpu, m, Feature::LM)?;
            let value = canonical(value).then_some(value)?;
            match index {
                number::LSTAR => cpu.msrs.lstar = value,
                number::CSTAR => cpu.msrs.cstar = value,
                number::FS_BASE => cpu.segment_mut(rvmm_arch::segment::SegReg::Fs).base = value,
                number::GS_BASE => cpu.segment_mut(rvmm_arch::segment::SegReg::Gs).base = value,
                _ => cpu.msrs.kernel_gs_base = value,
            }
        }
        number::SFMASK => {
            require(cpu, m, Feature::LM)?;
            cpu.msrs.sfmask = value & 0xffff_ffff;
        }
        _ => write_by_vendor(cpu, m, index, value)?,
    }
    Some(())
}

/// Registers that only one vendor has. Microcode updates are taken and have no effect, which the revision read
/// afterwards tells; the revision register itself takes the zero that is written before CPUID fills it in.
fn write_by_vendor<M: Machine>(cpu: &mut VcpuState, m: &mut M, index: u32, value: u64) -> Option<()> {
    match (vendor(cpu, m), index) {
        (Vendor::Intel, number::UCODE_REVISION | number::UCODE_WRITE) => Some(()),
        (Vendor::Intel, number::MISC_ENABLE) => {
            only(value, MISC_ENABLE_WRITABLE | MISC_ENABLE_READ_ONLY)?;
            cpu.msrs.misc_enable = value & MISC_ENABLE_WRITABLE;
            Some(())
        }
        (Vendor::Amd, number::UCODE_REVISION | number::AMD_PATCH_LOADER) => Some(()),
        (Vendor::Amd, number::AMD_SYSCFG | number::AMD_INT_PENDING) => only(value, 0),
        (Vendor::Amd, number::AMD_HWCR) => only(value, HWCR_IGNORED),
        _ => None,
    }
}

/// `None` unless CPUID announces `feature`.
pub(super) fn require<M: Machine>(cpu: &VcpuState, m: &mut M, feature: Feature) -> Option<()> {
    has(cpu, m, feature).then_some(())
}

/// `None` if a bit outside `allowed` is set.
pub(super) const fn only(value: u64, allowed: u64) -> Option<()> {
    if value & !allowed == 0 {
        Some(())
    } else {
        None
    }
}

/// A linear address in an MSR: canonical on a 64-bit CPU, 32 bits wide on another.
fn address<M: Machine>(cpu: &VcpuState, m: &mut M, value: u64) -> Option<u64> {
    if has(cpu, m, Feature::LM) {
        canonical(value).then_some(value)
    } else {
        Some(value & 0xffff_ffff)
    }
}

/// Writes EFER: only announced bits; LME may not change while paging is on; LMA is read-only.
fn set_efer<M: Machine>(cpu: &mut VcpuState, m: &mut M, value: u64) -> Option<()> {
    if !has_efer(cpu, m) {
        return None;
    }
    let mut allowed = Efer::LMA;
    for (feature, bit) in [(Feature::SYSCALL, Efer::SCE), (Feature::NX, Efer::NXE), (Feature::LM, Efer::LME)] {
        if has(cpu, m, feature) {
            allowed |= bit;
        }
    }
    only(value, allowed.bits())?;
    let old = cpu.efer;
    let new = Efer::from_bits_retain(value).difference(Efer::LMA).union(old.intersection(Efer::LMA));
    if cpu.cr0.contains(Cr0::PG) && old.symmetric_difference(new).contains(Efer::LME) {
        return None;
    }
    cpu.efer = new;
    m.changed(cpu, Change::Efer(old.bits()));
    Some(())
}

/// RDMSR and WRMSR. In real mode CPL is 0; #UD on a CPU without MSRs.
pub(super) fn execute<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if !has(x.cpu, x.m, Feature::MSR) {
        return Err(Exception::ud().into());
    }
    x.require_cpl0()?;
    let index = x.reg(Register::ECX) as u32;
    let done = if x.ins.mnemonic() == Mnemonic::Rdmsr {
        read(x.cpu, x.m, index).map(|value| set_edx_eax(x, value))
    } else {
        let value = edx_eax(x);
        write(x.cpu, x.m, index, value)
    };
    done.ok_or_else(|| Exception::gp(0).into())
}
