//! Tour 17/22, next: `patcher/src/tactic/jump.rs`.
//! Events brought into the guest through its IDT (SDM vol. 2 "INT n", vol. 3 §6.10 to §6.15).
//!
//! [`deliver`] is the whole of it: side effects of raising (CR2, DR6), the gate, and what becomes of a fault on the
//! way. [`through_gate`] is one attempt, which changes nothing unless it succeeds.

use super::callgate::stack_after_touch;
use super::deliver_long;
use super::descriptor::{self, kind, Entry, Gate, EXT, IDT};
use super::far;
use super::load;
use super::nested::{self, After};
use super::stack::{Frame, Stack};
use super::task;
use super::tss;
use super::virtual8086;
use crate::exec::Res;
use crate::mem;
use crate::step::Stop;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Change, Machine, Privilege};
use rvmm_arch::regs::{gpr, Efer, Rflags};
use rvmm_arch::segment::{CpuMode, Descriptor, SegReg, Selector};
use rvmm_arch::vcpu::{Activity, InterruptShadow};
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// DR7.GD: general detect.
pub(super) const DR7_GD: u64 = 1 << 13;
/// DR6.B0 to B3.
const DR6_HITS: u64 = 15;

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// The guest's handler is next: the event's, or that of a fault met while it was delivered.
    Done,
    /// A triple fault.
    Shutdown,
}

/// Delivers an event through the guest's IDT. RIP already is what is to be pushed. Wakes the CPU from HLT.
///
/// # Errors
/// Never [`Stop::Fault`]: faults in the delivery are delivered themselves, as a double fault if need be. After any
/// other error the CPU is as it was before the call.
pub fn deliver<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: Event) -> Result<Delivered, Stop> {
    let (cr2, dr6) = (cpu.cr2, cpu.dr6);
    let mut event = event;
    raise(cpu, &event);
    for _ in 0..nested::ROUNDS {
        match through_gate(cpu, m, &event) {
            Ok(None) => return Ok(Delivered::Done),
            Ok(Some(fault)) | Err(Stop::Fault(fault)) => {
                // Raised all the same where it turns into a double fault: CR2 is the last page fault's.
                raise(cpu, &Event::from(fault));
                match nested::combine(&event, fault) {
                    After::Deliver(next) => event = next,
                    After::Shutdown => break,
                }
            }
            Err(stop) => {
                cpu.cr2 = cr2;
                cpu.dr6 = dr6;
                return Err(stop);
            }
        }
    }
    cpu.activity = Activity::Shutdown;
    Ok(Delivered::Shutdown)
}

/// What an exception changes before its handler is looked for: CR2, and DR6, whose hit bits are replaced while the
/// others gather (SDM vol. 3 §17.2.3).
fn raise(cpu: &mut VcpuState, event: &Event) {
    if event.source != EventSource::Exception {
        return;
    }
    match event.vector {
        Vector::PF => cpu.cr2 = event.payload,
        Vector::DB => cpu.dr6 = (cpu.dr6 & !DR6_HITS) | event.payload,
        _ => {}
    }
}

/// One attempt to enter the handler of `event`. An exception in the value is that of the task a task gate led to.
pub(super) fn through_gate<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event) -> Res<Option<Exception>> {
    let fault = if cpu.mode() == CpuMode::Real {
        real(cpu, m, event)?;
        None
    } else {
        if cpu.efer.contains(Efer::LMA) {
            deliver_long::through_gate(cpu, m, event, ext_of(event))?;
            None
        } else {
            protected(cpu, m, event)?
        }
    };
    cpu.shadow = InterruptShadow::None;
    cpu.activity = Activity::Running;
    if event.source == EventSource::Nmi {
        cpu.nmi_blocked = true;
    }
    if event.vector == Vector::DB && event.source == EventSource::Exception {
        cpu.dr7 &= !DR7_GD;
        m.changed(cpu, Change::DebugRegisters);
    }
    Ok(fault)
}

/// Is EXT set in the error codes of faults met while `event` is delivered? For all but INT n, INT3 and INTO.
const fn ext_of(event: &Event) -> u32 {
    match event.source {
        EventSource::Software => 0,
        _ => EXT,
    }
}

/// The flags as they are pushed. Fault handlers find RF set, so that the instruction is not stopped at its breakpoint
/// a second time (SDM vol. 3 §17.3.1.1).
pub(super) const fn flags_image(cpu: &VcpuState, event: &Event) -> Rflags {
    let fault = matches!(event.source, EventSource::Exception)
        && !matches!(event.vector, Vector::DB | Vector::BP | Vector::OF | Vector::DF | Vector::MC);
    let flags = if fault { cpu.rflags.union(Rflags::RF) } else { cpu.rflags };
    flags.union(Rflags::ONE)
}

/// The gate in the IDT.
fn protected<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event) -> Res<Option<Exception>> {
    let ext = ext_of(event);
    let code = u32::from(event.vector.0) * 8 + IDT + ext;
    let offset = u32::from(event.vector.0) * 8;
    if offset + 7 > u32::from(cpu.idtr.limit) {
        return Err(Exception::gp(code).into());
    }
    let at = Gva(cpu.idtr.base).add(u64::from(offset));
    let desc = Descriptor(mem::read_uint(cpu, m, at, 8, Privilege::Implicit)?);
    let disables = matches!(desc.kind(), kind::INT16 | kind::INT32);
    let known = disables || matches!(desc.kind(), kind::TASK | kind::TRAP16 | kind::TRAP32);
    if desc.is_code_or_data() || !known {
        return Err(Exception::gp(code).into());
    }
    if event.source == EventSource::Software && desc.dpl() < cpu.cpl {
        return Err(Exception::gp(code).into());
    }
    if !desc.present() {
        return Err(Exception::with_code(Vector::NP, code).into());
    }
    if desc.kind() == kind::TASK {
        let flags = flags_image(cpu, event);
        return task::by_event(cpu, m, &Gate::of(desc), event, flags, ext);
    }
    handler(cpu, m, event, &Gate::of(desc), ext)?;
    let mut cleared = Rflags::TF | Rflags::VM | Rflags::RF | Rflags::NT;
    if disables {
        cleared |= Rflags::IF;
    }
    cpu.rflags.remove(cleared);
    Ok(None)
}

/// Enters the handler that an interrupt or trap gate names.
fn handler<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event, gate: &Gate, ext: u32) -> Res {
    if gate.selector.is_null() {
        return Err(Exception::gp(ext).into());
    }
    let mut code = descriptor::fetch(cpu, m, gate.selector, Vector::GP, ext)?;
    let dpl = code.desc.dpl();
    if !code.desc.is_code() || dpl > cpu.cpl {
        return Err(code.fault(Vector::GP, ext).into());
    }
    if !code.desc.present() {
        return Err(code.fault(Vector::NP, ext).into());
    }
    let inward = dpl < cpu.cpl && !code.desc.is_conforming();
    if cpu.mode() == CpuMode::Virtual8086 && !(inward && dpl == 0) {
        return Err(code.fault(Vector::GP, ext).into());
    }
    if inward {
        return inner_ring(cpu, m, event, gate, &mut code, ext);
    }
    let stack = Stack::current(cpu);
    let mut frame = Frame::new(gate.size);
    push_context(&mut frame, cpu, event);
    let placed = stack.place(cpu, m, &frame, Exception::with_code(Vector::SS, ext))?;
    far::check_entry_point(cpu, code.desc, gate.offset.into(), ext)?;
    code.touch(cpu, m)?;
    placed.write(m, &frame)?;
    stack.set_pointer(cpu, placed.pointer);
    far::enter(cpu, &code, cpu.cpl, gate.offset.into());
    Ok(())
}

/// With a change of ring: to the stack that the TSS names.
fn inner_ring<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    event: &Event,
    gate: &Gate,
    code: &mut Entry,
    ext: u32,
) -> Res {
    let dpl = code.desc.dpl();
    let (mut ss, pointer) = tss::inner_stack(cpu, m, dpl, ext)?;
    let stack = Stack { segment: ss.segment(), pointer: pointer.into(), long: false, privilege: Privilege::Supervisor };
    let mut frame = Frame::new(gate.size);
    let leaves_virtual_8086 = cpu.mode() == CpuMode::Virtual8086;
    if leaves_virtual_8086 {
        virtual8086::push_segments(&mut frame, cpu);
    }
    frame.push(cpu.segment(SegReg::Ss).selector.0.into());
    frame.push(cpu.gpr[gpr::RSP]);
    push_context(&mut frame, cpu, event);
    let placed = stack.place(cpu, m, &frame, ss.fault(Vector::SS, ext))?;
    far::check_entry_point(cpu, code.desc, gate.offset.into(), ext)?;
    ss.touch(cpu, m)?;
    code.touch(cpu, m)?;
    placed.write(m, &frame)?;
    stack_after_touch(stack, &ss).install(cpu, placed.pointer);
    far::enter(cpu, code, dpl, gate.offset.into());
    if leaves_virtual_8086 {
        virtual8086::drop_segments(cpu);
    }
    Ok(())
}

/// Flags, CS, RIP and the error code, where the event is an exception that has one.
pub(super) fn push_context(frame: &mut Frame, cpu: &VcpuState, event: &Event) {
    frame.push(flags_image(cpu, event).bits());
    frame.push(cpu.segment(SegReg::Cs).selector.0.into());
    frame.push(cpu.rip);
    if let (Some(code), EventSource::Exception) = (event.error, event.source) {
        frame.push(code.into());
    }
}

/// Through the interrupt vector table of real mode: no error codes (SDM vol. 3 §20.1.4).
fn real<M: Machine>(cpu: &mut VcpuState, m: &mut M, event: &Event) -> Res {
    let offset = u32::from(event.vector.0) * 4;
    if offset + 3 > u32::from(cpu.idtr.limit) {
        return Err(Exception::gp(u32::from(event.vector.0) * 8 + IDT + ext_of(event)).into());
    }
    let at = mem::wrap(cpu, Gva(cpu.idtr.base).add(u64::from(offset)));
    let vector = mem::read_uint(cpu, m, at, 4, Privilege::Implicit)?;
    let cs = load::real(cpu.segment(SegReg::Cs), Selector((vector >> 16) as u16));
    let rip = vector & 0xffff;
    if rip > u64::from(cs.limit) {
        return Err(Exception::gp(ext_of(event)).into());
    }
    let stack = Stack::current(cpu);
    let mut frame = Frame::new(2);
    frame.push(cpu.rflags.union(Rflags::ONE).bits());
    frame.push(cpu.segment(SegReg::Cs).selector.0.into());
    frame.push(cpu.rip);
    let placed = stack.place(cpu, m, &frame, Exception::with_code(Vector::SS, ext_of(event)))?;
    placed.write(m, &frame)?;
    stack.set_pointer(cpu, placed.pointer);
    *cpu.segment_mut(SegReg::Cs) = cs;
    cpu.rip = rip;
    cpu.rflags.remove(Rflags::IF | Rflags::TF | Rflags::AC | Rflags::RF);
    Ok(())
}
