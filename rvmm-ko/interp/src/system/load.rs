//! Segment registers loaded by MOV, POP, LDS, LES, LFS, LGS and LSS (SDM vol. 2 "MOV", vol. 3 §5.6 and §5.7).

use super::descriptor;
use super::virtual8086;
use crate::exec::{Exec, Res};
use crate::reg;
use iced_x86::{Mnemonic, OpKind, Register};
use rvmm_arch::machine::Machine;
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, VcpuState, Vector};

/// The segment register that loading `selector` into `reg` gives, after all checks. Sets the accessed bit.
///
/// #GP(0) for a null SS, which 64-bit code of rings 0 to 2 may load; #GP(selector) outside the table or for a wrong type or privilege; not present is #SS for SS
/// and #NP else. #UD for CS.
pub(super) fn segment<M: Machine>(cpu: &VcpuState, m: &mut M, reg: SegReg, selector: Selector) -> Res<Segment> {
    match cpu.mode() {
        CpuMode::Protected | CpuMode::Long => {}
        CpuMode::Real => return Ok(real(cpu.segment(reg), selector)),
        CpuMode::Virtual8086 => return Ok(virtual8086::segment(selector)),
    }
    match reg {
        SegReg::Cs => Err(Exception::ud().into()),
        SegReg::Ss => stack(cpu, m, selector),
        SegReg::Es | SegReg::Ds | SegReg::Fs | SegReg::Gs => data(cpu, m, selector),
    }
}

/// Real mode sets selector and base, and leaves limit and rights (SDM vol. 3 §9.9.1 step 1 relies on it): so segments of 4 GiB stay what
/// they are. Those of virtual 8086 mode, too, for they always are the same.
pub(super) const fn real(old: &Segment, selector: Selector) -> Segment {
    Segment { selector, base: (selector.0 as u64) << 4, limit: old.limit, attrs: old.attrs }
}

fn stack<M: Machine>(cpu: &VcpuState, m: &mut M, selector: Selector) -> Res<Segment> {
    if selector.is_null() {
        if cpu.mode() == CpuMode::Long && cpu.cpl < 3 && selector.rpl() == cpu.cpl {
            return Ok(Segment::null(selector));
        }
        return Err(Exception::gp(0).into());
    }
    let mut entry = descriptor::fetch(cpu, m, selector, Vector::GP, 0)?;
    if selector.rpl() != cpu.cpl || entry.desc.dpl() != cpu.cpl || !entry.desc.is_writable_data() {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::SS, 0).into());
    }
    entry.touch(cpu, m)?;
    Ok(entry.segment())
}

fn data<M: Machine>(cpu: &VcpuState, m: &mut M, selector: Selector) -> Res<Segment> {
    if selector.is_null() {
        return Ok(Segment::null(selector));
    }
    let mut entry = descriptor::fetch(cpu, m, selector, Vector::GP, 0)?;
    let needed = selector.rpl().max(cpu.cpl);
    if !entry.desc.is_readable() || (!entry.desc.is_conforming() && needed > entry.desc.dpl()) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    entry.touch(cpu, m)?;
    Ok(entry.segment())
}

/// After MOV SS or POP SS interrupts and debug traps wait for one instruction, unless the one before had made them wait
/// already (SDM vol. 2 "MOV", note on a sequence of such instructions).
fn shadow_after<M: Machine>(x: &mut Exec<'_, M>, reg: SegReg) {
    if reg == SegReg::Ss && x.cpu.shadow != InterruptShadow::MovSs {
        x.shadow = InterruptShadow::MovSs;
    }
}

/// MOV Sreg, r/m16.
pub(super) fn mov<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let reg = match reg::segment(x.op_reg(0)) {
        None | Some(SegReg::Cs) => return Err(Exception::ud().into()),
        Some(reg) => reg,
    };
    let raw = match x.kind(1) {
        OpKind::Register => x.reg(x.op_reg(1)),
        _ => {
            let (seg, offset) = x.ea();
            x.load(seg, offset, 2)?
        }
    };
    *x.cpu.segment_mut(reg) = segment(x.cpu, x.m, reg, Selector(raw as u16))?;
    shadow_after(x, reg);
    Ok(())
}

/// POP Sreg. The stack pointer moves as the old SS says.
pub(super) fn pop<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let reg = match reg::segment(x.op_reg(0)) {
        None | Some(SegReg::Cs) => return Err(Exception::ud().into()),
        Some(reg) => reg,
    };
    let raw = x.pop(x.ins.stack_pointer_increment().unsigned_abs())?;
    *x.cpu.segment_mut(reg) = segment(x.cpu, x.m, reg, Selector(raw as u16))?;
    shadow_after(x, reg);
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: the offset to a general register, the selector to the segment register. No interrupt
/// shadow, LSS included.
pub(super) fn far_pointer<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let reg = match x.ins.mnemonic() {
        Mnemonic::Lds => SegReg::Ds,
        Mnemonic::Les => SegReg::Es,
        Mnemonic::Lfs => SegReg::Fs,
        Mnemonic::Lgs => SegReg::Gs,
        _ => SegReg::Ss,
    };
    let to = x.op_reg(0);
    if to == Register::None {
        return Err(Exception::ud().into());
    }
    let (selector, offset) = far_operand(x, x.size(0))?;
    *x.cpu.segment_mut(reg) = segment(x.cpu, x.m, reg, selector)?;
    x.set_reg(to, offset);
    Ok(())
}

/// Reads a far pointer in memory: an offset of `size` bytes, then a selector.
pub(super) fn far_operand<M: Machine>(x: &mut Exec<'_, M>, size: u32) -> Res<(Selector, u64)> {
    let (seg, offset) = x.ea();
    let mask = reg::mask(x.address_size());
    let at = x.load(seg, offset, size)?;
    let selector = x.load(seg, offset.wrapping_add(u64::from(size)) & mask, 2)?;
    Ok((Selector(selector as u16), at))
}
