//! Task switches asked for: by far JMP and CALL, IRET with NT, and events through task gates (SDM vol. 3 §7.3). The
//! switch itself is in [`super::switch`].

use super::descriptor::{self, kind, Entry, Gate};
use super::far::Transfer;
use super::stack::{Frame, Stack};
use super::switch::{self, Link, Switched};
use super::tss;
use crate::exec::{Exec, Res};
use crate::step::Stop;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Machine, MachineStop};
use rvmm_arch::segment::Selector;
use rvmm_arch::{Exception, VcpuState, Vector};

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

/// The switch as an instruction: RF and TF are the new task's, and so are a fault met while its segments are loaded, and the trap of
/// its TSS.
fn by_instruction<M: Machine>(x: &mut Exec<'_, M>, link: Link, entry: Entry) -> Res {
    let saved = x.cpu.rflags;
    let Switched { fault, trap, .. } = switch::switch(x.cpu, x.m, entry, link, saved, 0)?;
    x.fault_after = fault.or(trap);
    x.keep_rf = true;
    x.no_step_trap = true;
    Ok(())
}

const fn link_of(how: Transfer) -> Link {
    match how {
        Transfer::Jump => Link::Jump,
        Transfer::Call => Link::Nested,
    }
}

/// Far JMP or CALL to a task gate.
pub(super) fn through_gate<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, entry: &Entry) -> Res {
    if entry.desc.dpl() < x.cpu.cpl.max(entry.selector.rpl()) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    let to = target(x.cpu, x.m, Gate::of(entry.desc).selector, 0)?;
    by_instruction(x, link_of(how), to)
}

/// Far JMP or CALL to an available TSS.
pub(super) fn direct<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, entry: Entry) -> Res {
    if entry.selector.is_ldt() || entry.desc.dpl() < x.cpu.cpl.max(entry.selector.rpl()) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    by_instruction(x, link_of(how), entry)
}

/// IRET with NT set: back to the task that the link of the current TSS names.
pub(super) fn nested_return<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let link = Selector(tss::read(x.cpu, x.m, 0, 2)? as u16);
    if link.is_null() || link.is_ldt() {
        return Err(descriptor::fault(Vector::TS, link, 0).into());
    }
    let entry = descriptor::fetch(x.cpu, x.m, link, Vector::TS, 0)?;
    if entry.desc.is_code_or_data() || !matches!(entry.desc.kind(), kind::TSS16_BUSY | kind::TSS32_BUSY) {
        return Err(entry.fault(Vector::TS, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    by_instruction(x, Link::Return, entry)?;
    x.cpu.nmi_blocked = false;
    Ok(())
}

/// An event through a task gate; `flags` is the image to save. A fault that belongs to the new task, or the trap of its TSS, is returned
/// as the value, for everything before it has happened.
pub(super) fn by_event<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    gate: &Gate,
    event: &Event,
    flags: rvmm_arch::regs::Rflags,
    ext: u32,
) -> Res<Option<Exception>> {
    let entry = target(cpu, m, gate.selector, ext)?;
    let Switched { fault, trap, item } = switch::switch(cpu, m, entry, Link::Nested, flags, ext)?;
    if fault.is_some() {
        return Ok(fault);
    }
    let (Some(code), EventSource::Exception) = (event.error, event.source) else {
        return Ok(trap);
    };
    let stack = Stack::current(cpu);
    let mut frame = Frame::new(item);
    frame.push(code.into());
    let pushed = stack.place(cpu, m, &frame, Exception::with_code(Vector::SS, ext)).and_then(|placed| {
        placed.write(m, &frame)?;
        stack.set_pointer(cpu, placed.pointer);
        Ok(())
    });
    match pushed {
        Ok(()) => Ok(trap),
        Err(Stop::Fault(fault)) => Ok(Some(fault)),
        // The old task is gone, so the event cannot be tried again.
        Err(_) => Err(MachineStop::HostError.into()),
    }
}
