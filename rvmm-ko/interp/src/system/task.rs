//! Task switches (SDM vol. 3 §7.3): refused, but only where the switch itself would begin; what is wrong with the gate
//! or the TSS descriptor faults as on a CPU.

use super::descriptor::{self, kind, Entry, Gate};
use super::far::Transfer;
use crate::exec::{Exec, Res};
use crate::step::{Stop, Unsupported};
use rvmm_arch::fault::Event;
use rvmm_arch::machine::Machine;
use rvmm_arch::segment::Selector;
use rvmm_arch::{Exception, VcpuState, Vector};

const REFUSED: Stop = Stop::Unsupported(Unsupported::TaskSwitch);

/// The TSS that a task gate names: in the GDT, available, present.
fn target<M: Machine>(cpu: &VcpuState, m: &mut M, selector: Selector, ext: u32) -> Res<Entry> {
    if selector.is_null() {
        return Err(Exception::gp(ext).into());
    }
    if selector.is_ldt() {
        return Err(descriptor::fault(Vector::GP, selector, ext).into());
    }
    let entry = descriptor::fetch(cpu, m, selector, Vector::GP, ext)?;
    if entry.desc.is_code_or_data() || !matches!(entry.desc.kind(), kind::TSS16 | kind::TSS32) {
        return Err(entry.fault(Vector::GP, ext).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, ext).into());
    }
    Ok(entry)
}

/// Far JMP or CALL to a task gate.
pub(super) fn through_gate<M: Machine>(x: &mut Exec<'_, M>, _how: Transfer, entry: &Entry) -> Res {
    if entry.desc.dpl() < x.cpu.cpl.max(entry.selector.rpl()) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    target(x.cpu, x.m, Gate::of(entry.desc).selector, 0)?;
    Err(REFUSED)
}

/// Far JMP or CALL to an available TSS.
pub(super) fn direct<M: Machine>(x: &mut Exec<'_, M>, _how: Transfer, entry: Entry) -> Res {
    if entry.selector.is_ldt() || entry.desc.dpl() < x.cpu.cpl.max(entry.selector.rpl()) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    Err(REFUSED)
}

/// IRET with NT set.
pub(super) fn nested_return<M: Machine>(_x: &mut Exec<'_, M>) -> Res {
    Err(REFUSED)
}

/// An event through a task gate.
pub(super) fn by_event<M: Machine>(cpu: &mut VcpuState, m: &mut M, gate: &Gate, _event: &Event, ext: u32) -> Res {
    target(cpu, m, gate.selector, ext)?;
    Err(REFUSED)
}
