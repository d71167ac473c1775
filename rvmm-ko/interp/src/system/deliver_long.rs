//! Events in long mode, whichever of its submodes they interrupt (SDM vol. 3 §6.14; vol. 2 "INT n").
//!
//! Gates have 16 bytes and lead to 64-bit code. SS:RSP is always pushed, on a stack aligned to 16 bytes: that of the IST entry
//! the gate names, else that of the inner ring, else the current one. Of SS nothing is read: it becomes null where the ring
//! changes.

use super::deliver::push_context;
use super::descriptor::{self, kind, LongGate, IDT};
use super::far;
use super::stack::{Frame, Stack};
use super::tss::{self, LongStack};
use crate::exec::Res;
use crate::mem;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Machine, Privilege};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// Enters the handler of `event`, or changes nothing.
pub(super) fn through_gate<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event, ext: u32) -> Res {
    let code = u32::from(event.vector.0) * 8 + IDT + ext;
    let offset = u32::from(event.vector.0) * 16;
    if offset + 15 > u32::from(cpu.idtr.limit) {
        return Err(Exception::gp(code).into());
    }
    let at = Gva(cpu.idtr.base).add(u64::from(offset));
    let low = Descriptor(mem::read_uint(cpu, m, at, 8, Privilege::Implicit)?);
    let disables = low.kind() == kind::INT32;
    if low.is_code_or_data() || !(disables || low.kind() == kind::TRAP32) {
        return Err(Exception::gp(code).into());
    }
    if event.source == EventSource::Software && low.dpl() < cpu.cpl {
        return Err(Exception::gp(code).into());
    }
    if !low.present() {
        return Err(Exception::with_code(Vector::NP, code).into());
    }
    let high = mem::read_uint(cpu, m, at.add(8), 8, Privilege::Implicit)?;
    handler(cpu, m, event, &LongGate::of(low, high), ext)?;
    cpu.rflags.remove(Rflags::TF | Rflags::RF | Rflags::NT);
    if disables {
        cpu.rflags.remove(Rflags::IF);
    }
    Ok(())
}

fn handler<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event, gate: &LongGate, ext: u32) -> Res {
    if gate.selector.is_null() {
        return Err(Exception::gp(ext).into());
    }
    let mut code = descriptor::fetch(cpu, m, gate.selector, Vector::GP, ext)?;
    let dpl = code.desc.dpl();
    if !descriptor::is_long_code(code.desc) || dpl > cpu.cpl {
        return Err(code.fault(Vector::GP, ext).into());
    }
    if !code.desc.present() {
        return Err(code.fault(Vector::NP, ext).into());
    }
    let inward = dpl < cpu.cpl && !code.desc.is_conforming();
    let cpl = if inward { dpl } else { cpu.cpl };
    let top = match gate.ist {
        0 if inward => tss::long_stack(cpu, m, LongStack::Ring(dpl), ext)?,
        0 => cpu.gpr[gpr::RSP],
        n => tss::long_stack(cpu, m, LongStack::Interrupt(n), ext)?,
    };
    let ss = if inward { Segment::null(Selector(dpl.into())) } else { *cpu.segment(SegReg::Ss) };
    let stack = Stack::long(ss, top & !15, cpl);
    let mut frame = Frame::new(8);
    frame.push(cpu.segment(SegReg::Ss).selector.0.into());
    frame.push(cpu.gpr[gpr::RSP]);
    push_context(&mut frame, cpu, event);
    let placed = stack.place(cpu, m, &frame, Exception::with_code(Vector::SS, ext))?;
    far::check_entry_point(cpu, code.desc, gate.offset, ext)?;
    code.touch(cpu, m)?;
    placed.write(m, &frame)?;
    stack.install(cpu, placed.pointer);
    far::enter(cpu, &code, cpl, gate.offset);
    Ok(())
}
