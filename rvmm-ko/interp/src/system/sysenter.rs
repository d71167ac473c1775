//! SYSENTER and SYSEXIT (SDM vol. 3 §5.8.7), and the fixed flat segments that they and SYSCALL load without reading a
//! descriptor.

use super::features::{has, vendor, Feature, Vendor};
use crate::exec::{canonical, Exec, Res};
use iced_x86::Mnemonic;
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::{gpr, Cr0, Efer, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, VcpuState};

/// Rights of a flat 32-bit code segment of ring 0: execute, read, accessed; present, D, G.
const CODE: u16 = 0xc09b;
/// Rights of a 64-bit code segment of ring 0: the same with L instead of D.
const LONG_CODE: u16 = 0xa09b;
/// Rights of a flat 32-bit data segment of ring 0: read, write, accessed; present, B, G.
const DATA: u16 = 0xc093;

/// What code a flat segment is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// Protected or compatibility mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// Flat segments of ring `cpl`: CS through the selector `code`, SS through `data`.
fn flat_segments(code: u16, data: u16, cpl: u8, width: Width) -> [Segment; 2] {
    let dpl = u16::from(cpl) << 5;
    let rights = match width {
        Width::Bits32 => CODE,
        Width::Bits64 => LONG_CODE,
    };
    let (code, data) = (Selector(code).with_rpl(cpl), Selector(data).with_rpl(cpl));
    let segment = |selector, rights| Segment { selector, base: 0, limit: u32::MAX, attrs: rights | dpl };
    [segment(code, rights), segment(data, DATA)]
}

/// Loads CS and SS with them.
pub(super) fn flat(cpu: &mut VcpuState, code: u16, data: u16, cpl: u8, width: Width) {
    [*cpu.segment_mut(SegReg::Cs), *cpu.segment_mut(SegReg::Ss)] = flat_segments(code, data, cpl, width);
    cpu.cpl = cpl;
}

/// The selector that IA32_SYSENTER_CS gives SYSENTER.
fn selector_of(cpu: &VcpuState) -> u16 {
    cpu.msrs.sysenter_cs as u16 & !3
}

/// The selector in IA32_SYSENTER_CS. #UD where CPUID does not announce SEP, and on AMD's CPUs in long mode; #GP(0) in real mode
/// or if it is null.
fn kernel_cs<M: Machine>(x: &mut Exec<'_, M>) -> Res<u16> {
    let long = x.cpu.efer.contains(Efer::LMA);
    if !has(x.cpu, x.m, Feature::SEP) || (long && vendor(x.cpu, x.m) == Vendor::Amd) {
        return Err(Exception::ud().into());
    }
    let selector = selector_of(x.cpu);
    if !x.cpu.cr0.contains(Cr0::PE) || selector == 0 {
        return Err(Exception::gp(0).into());
    }
    Ok(selector)
}

/// What registers and RIP hold of an address behind SYSENTER.
fn width_of(cpu: &VcpuState) -> (Width, u64) {
    if cpu.efer.contains(Efer::LMA) {
        (Width::Bits64, u64::MAX)
    } else {
        (Width::Bits32, 0xffff_ffff)
    }
}

/// SYSENTER: to ring 0, in long mode to 64-bit mode, with interrupts off. Leaves virtual 8086 mode too.
pub(super) fn sysenter<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    kernel_cs(x)?;
    enter_by_sysenter(x.cpu);
    let (_, mask) = width_of(x.cpu);
    x.cpu.rip = x.cpu.msrs.sysenter_eip & mask;
    x.cpu.gpr[gpr::RSP] = x.cpu.msrs.sysenter_esp & mask;
    x.m.changed(x.cpu, Change::Sysenter);
    Ok(())
}

/// What SYSENTER does, once it is allowed ([`has_sysenter`]), but for RIP and RSP: flags, CS, SS and CPL. TF, NT and AC stay.
pub fn enter_by_sysenter(cpu: &mut VcpuState) {
    let selector = selector_of(cpu);
    let (width, _) = width_of(cpu);
    flat(cpu, selector, selector.wrapping_add(8), 0, width);
    cpu.rflags.remove(Rflags::VM | Rflags::IF | Rflags::RF);
}

/// Is SYSENTER in protected mode more than a fault, on a CPU of this vendor that announces SEP?
#[must_use]
pub fn has_sysenter(cpu: &VcpuState, amd: bool) -> bool {
    selector_of(cpu) != 0 && !(amd && cpu.efer.contains(Efer::LMA))
}

/// CS and SS as a SYSEXIT to 32-bit code loads them, where it is more than a fault ([`has_sysenter`]).
#[must_use]
pub fn sysexit_segments(cpu: &VcpuState) -> [Segment; 2] {
    let code = selector_of(cpu).wrapping_add(16);
    flat_segments(code, code.wrapping_add(8), 3, Width::Bits32)
}

/// SYSEXIT: to ring 3, at rDX with the stack at rCX; with REX.W to 64-bit mode. The flags stay.
pub(super) fn sysexit<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let selector = kernel_cs(x)?;
    x.require_cpl0()?;
    let (rip, rsp) = (x.cpu.gpr[gpr::RDX], x.cpu.gpr[gpr::RCX]);
    let (width, offset, mask) = if x.ins.mnemonic() == Mnemonic::Sysexitq {
        (Width::Bits64, 32u16, u64::MAX)
    } else {
        (Width::Bits32, 16, 0xffff_ffff)
    };
    if !(canonical(rip & mask) && canonical(rsp & mask)) {
        return Err(Exception::gp(0).into());
    }
    let code = selector.wrapping_add(offset);
    flat(x.cpu, code, code.wrapping_add(8), 3, width);
    x.cpu.rip = rip & mask;
    x.cpu.gpr[gpr::RSP] = rsp & mask;
    Ok(())
}
