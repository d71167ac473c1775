//! SYSCALL and SYSRET: in 64-bit mode on every CPU, in compatibility mode and legacy mode on AMD's only (SDM vol. 2 "SYSCALL",
//! "SYSRET"; APM vol. 3 the same).
//!
//! After SYSRET on AMD's CPUs the hidden part of SS but its privilege level is what it was before; here it is the flat segment
//! that Intel's load. A guest that knows its CPU sees no difference: it has a flat SS before SYSRET, or a 64-bit program after it.

use super::features::{vendor, Vendor};
use super::sysenter::{flat, Width};
use crate::exec::{canonical, Exec, Res};
use crate::reg::mask;
use iced_x86::Mnemonic;
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Cr0, Efer, Rflags};
use rvmm_arch::segment::CpuMode;
use rvmm_arch::{Exception, VcpuState};

/// R11 or the flags after SYSCALL, and what SYSRET takes of R11: all but RF, VM and what is reserved.
const SYSRET_FLAGS: u64 = 0x3c_7fd7;

/// #UD unless the guest has the instruction here: EFER.SCE, and an AMD CPU outside 64-bit mode.
fn require<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let enabled = x.cpu.efer.contains(Efer::SCE) && x.cpu.cr0.contains(Cr0::PE);
    if !enabled || (x.mode != CpuMode::Long && vendor(x.cpu, x.m) != Vendor::Amd) {
        return Err(Exception::ud().into());
    }
    Ok(())
}

/// SYSCALL: to ring 0 at LSTAR, from compatibility mode at CSTAR, with RIP in RCX and the flags in R11; in legacy mode at the EIP
/// in STAR with interrupts off. A single step is judged by the new TF, so that SFMASK can prevent it.
pub(super) fn syscall<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require(x)?;
    x.step_by_new_tf = true;
    if x.cpu.efer.contains(Efer::LMA) {
        behind_syscall(x.cpu, x.mode);
    } else {
        let code = kernel_code(x.cpu);
        x.cpu.gpr[gpr::RCX] = x.cpu.rip;
        x.cpu.rflags.remove(Rflags::VM | Rflags::IF | Rflags::RF);
        x.cpu.rip = x.cpu.msrs.star & 0xffff_ffff;
        flat(x.cpu, code, code.wrapping_add(8), 0, Width::Bits32);
    }
    Ok(())
}

/// The selector of CS that SYSCALL loads.
fn kernel_code(cpu: &VcpuState) -> u16 {
    (cpu.msrs.star >> 32) as u16 & !3
}

/// What a SYSCALL in long mode does once it is allowed, with RIP behind it and `mode` that of the code it is in. Also for callers
/// whose CPU has executed it as far as that.
pub fn behind_syscall(cpu: &mut VcpuState, mode: CpuMode) {
    const R11: usize = 11;
    cpu.rflags.remove(Rflags::RF);
    cpu.gpr[gpr::RCX] = cpu.rip;
    cpu.gpr[R11] = cpu.rflags.bits();
    cpu.rip = if mode == CpuMode::Long { cpu.msrs.lstar } else { cpu.msrs.cstar };
    enter_by_syscall(cpu);
}

/// The part of [`behind_syscall`] that leaves the general registers and RIP alone: flags, CS, SS and CPL.
pub fn enter_by_syscall(cpu: &mut VcpuState) {
    let masked = Rflags::from_bits_retain(cpu.msrs.sfmask);
    cpu.rflags = cpu.rflags.difference(masked).union(Rflags::ONE);
    let code = kernel_code(cpu);
    flat(cpu, code, code.wrapping_add(8), 0, Width::Bits64);
}

/// CS, SS and CPL as a SYSRET to 64-bit code leaves them.
pub fn leave_by_sysret(cpu: &mut VcpuState) {
    let base = (cpu.msrs.star >> 48) as u16;
    flat(cpu, base.wrapping_add(16), base.wrapping_add(8), 3, Width::Bits64);
}

/// The same as a SYSRET to compatibility code leaves them.
pub fn leave_by_sysret_to_compat(cpu: &mut VcpuState) {
    let base = (cpu.msrs.star >> 48) as u16;
    flat(cpu, base, base.wrapping_add(8), 3, Width::Bits32);
}

/// SYSRET: to ring 3 at rCX; with REX.W to 64-bit mode. From 64-bit mode the flags come from R11, from elsewhere only IF is set.
/// #GP(0) for a RIP that is not canonical, on AMD's CPUs only when it is fetched from.
pub(super) fn sysret<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require(x)?;
    x.require_cpl0()?;
    let long = x.ins.mnemonic() == Mnemonic::Sysretq;
    let rip = x.cpu.gpr[gpr::RCX] & mask(if long { 8 } else { 4 });
    if !canonical(rip) && vendor(x.cpu, x.m) == Vendor::Intel {
        return Err(Exception::gp(0).into());
    }
    if long {
        leave_by_sysret(x.cpu);
    } else {
        leave_by_sysret_to_compat(x.cpu);
    }
    x.cpu.rip = rip;
    if x.mode == CpuMode::Long {
        const R11: usize = 11;
        x.cpu.rflags = Rflags::from_bits_retain(x.cpu.gpr[R11] & SYSRET_FLAGS) | Rflags::ONE;
    } else {
        x.cpu.rflags.insert(Rflags::IF);
    }
    x.step_by_new_tf = true;
    Ok(())
}
