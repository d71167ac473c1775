//! SYSENTER, SYSEXIT, and the legacy-mode SYSCALL and SYSRET of AMD CPUs (SDM vol. 3 §5.8.7; APM vol. 3 "SYSCALL").
//!
//! None of them reads a descriptor: the hidden parts are fixed flat segments.

use super::features::{has, vendor, Feature, Vendor};
use crate::exec::{Exec, Res};
use crate::step::{Stop, Unsupported};
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::{gpr, Cr0, Efer, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, VcpuState};

/// Rights of a flat 32-bit code segment of ring 0: execute, read, accessed; present, D, G.
const CODE: u16 = 0xc09b;
/// Rights of a flat 32-bit data segment of ring 0: read, write, accessed; present, B, G.
const DATA: u16 = 0xc093;

/// Loads CS and SS with flat segments of ring `cpl`: CS through `selector`, SS through the next one.
fn flat(cpu: &mut VcpuState, selector: u16, cpl: u8) {
    let dpl = u16::from(cpl) << 5;
    let code = Selector(selector).with_rpl(cpl);
    let data = Selector(selector.wrapping_add(8)).with_rpl(cpl);
    *cpu.segment_mut(SegReg::Cs) = Segment { selector: code, base: 0, limit: u32::MAX, attrs: CODE | dpl };
    *cpu.segment_mut(SegReg::Ss) = Segment { selector: data, base: 0, limit: u32::MAX, attrs: DATA | dpl };
    cpu.cpl = cpl;
}

/// The selector in IA32_SYSENTER_CS. #UD where CPUID does not announce SEP; #GP(0) in real mode or if it is null.
fn kernel_cs<M: Machine>(x: &mut Exec<'_, M>) -> Res<u16> {
    if !has(x.cpu, x.m, Feature::SEP) {
        return Err(Exception::ud().into());
    }
    let selector = x.cpu.msrs.sysenter_cs as u16 & !3;
    if !x.cpu.cr0.contains(Cr0::PE) || selector == 0 {
        return Err(Exception::gp(0).into());
    }
    if x.cpu.efer.contains(Efer::LMA) {
        return Err(Stop::Unsupported(Unsupported::Mode));
    }
    Ok(selector)
}

/// SYSENTER: to ring 0, with interrupts off. Leaves virtual 8086 mode too.
pub(super) fn sysenter<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let selector = kernel_cs(x)?;
    flat(x.cpu, selector, 0);
    x.cpu.rflags.remove(Rflags::VM | Rflags::IF | Rflags::RF);
    x.cpu.rip = x.cpu.msrs.sysenter_eip & 0xffff_ffff;
    x.cpu.gpr[gpr::RSP] = x.cpu.msrs.sysenter_esp & 0xffff_ffff;
    x.m.changed(x.cpu, Change::Sysenter);
    Ok(())
}

/// SYSEXIT: to ring 3, at EDX with the stack at ECX. The flags stay.
pub(super) fn sysexit<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let selector = kernel_cs(x)?;
    x.require_cpl0()?;
    flat(x.cpu, selector.wrapping_add(16), 3);
    x.cpu.rip = x.cpu.gpr[gpr::RDX] & 0xffff_ffff;
    x.cpu.gpr[gpr::RSP] = x.cpu.gpr[gpr::RCX] & 0xffff_ffff;
    Ok(())
}

/// #UD unless the guest has SYSCALL here: EFER.SCE, and in legacy mode an AMD CPU.
fn require_syscall<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let here = x.cpu.efer.contains(Efer::SCE) && x.cpu.cr0.contains(Cr0::PE);
    if !here || (!x.cpu.efer.contains(Efer::LMA) && vendor(x.cpu, x.m) != Vendor::Amd) {
        return Err(Exception::ud().into());
    }
    if x.cpu.efer.contains(Efer::LMA) {
        return Err(Stop::Unsupported(Unsupported::Mode));
    }
    Ok(())
}

/// SYSCALL in legacy mode: EIP to ECX, CS:EIP from STAR, ring 0 with interrupts off.
pub(super) fn syscall<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_syscall(x)?;
    let star = x.cpu.msrs.star;
    x.cpu.gpr[gpr::RCX] = x.cpu.rip;
    flat(x.cpu, (star >> 32) as u16 & !3, 0);
    x.cpu.rflags.remove(Rflags::VM | Rflags::IF | Rflags::RF);
    x.cpu.rip = star & 0xffff_ffff;
    Ok(())
}

/// SYSRET in legacy mode: to ring 3 at ECX, with interrupts on. Of SS only the selector and the privilege level change
/// on some CPUs; a flat segment is what every guest loads anyway.
pub(super) fn sysret<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_syscall(x)?;
    x.require_cpl0()?;
    let selector = (x.cpu.msrs.star >> 48) as u16;
    flat(x.cpu, selector, 3);
    x.cpu.rflags.insert(Rflags::IF);
    x.cpu.rip = x.cpu.gpr[gpr::RCX] & 0xffff_ffff;
    Ok(())
}
