//! Far JMP, CALL and RET, and what they share with IRET and event delivery (SDM vol. 2 "JMP", "CALL", "RET").
//!
//! A far transfer is what changes between compatibility and 64-bit mode: the code segment entered says which it is, and
//! whether a limit or only canonical form is asked of the entry point.

use super::callgate;
use super::descriptor::{self, kind, Entry};
use super::load;
use super::stack::{Frame, Placed, Stack};
use super::task;
use crate::exec::{canonical, Exec, Res};
use crate::reg::{self, mask};
use iced_x86::{Code, OpKind};
use rvmm_arch::machine::{AccessKind, Machine};
use rvmm_arch::regs::{gpr, Efer};
use rvmm_arch::segment::{CpuMode, Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Exception, VcpuState, Vector};

/// A far transfer that leaves a return address or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transfer {
    /// JMP.
    Jump,
    /// CALL.
    Call,
}

/// Far JMP and CALL, direct or through memory.
pub(super) fn transfer<M: Machine>(x: &mut Exec<'_, M>, how: Transfer) -> Res {
    let size = match x.ins.code() {
        Code::Jmp_ptr1616 | Code::Jmp_m1616 | Code::Call_ptr1616 | Code::Call_m1616 => 2,
        Code::Jmp_ptr1632 | Code::Jmp_m1632 | Code::Call_ptr1632 | Code::Call_m1632 => 4,
        _ => 8,
    };
    let (selector, offset) = match x.kind(0) {
        OpKind::FarBranch16 => (Selector(x.ins.far_branch_selector()), u64::from(x.ins.far_branch16())),
        OpKind::FarBranch32 => (Selector(x.ins.far_branch_selector()), u64::from(x.ins.far_branch32())),
        _ => load::far_operand(x, size)?,
    };
    if x.mode.segments_are_shifted() {
        return real(x, how, selector, offset as u32, size);
    }
    if selector.is_null() {
        return Err(Exception::gp(0).into());
    }
    let entry = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
    if entry.desc.is_code() {
        return direct(x, how, entry, offset, size);
    }
    if entry.desc.is_code_or_data() {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    match entry.desc.kind() {
        kind::CALL32 if x.cpu.efer.contains(Efer::LMA) => callgate::through_long(x, how, &entry),
        _ if x.cpu.efer.contains(Efer::LMA) => Err(entry.fault(Vector::GP, 0).into()),
        kind::CALL16 | kind::CALL32 => callgate::through(x, how, &entry),
        kind::TASK => task::through_gate(x, how, &entry),
        kind::TSS16 | kind::TSS32 => task::direct(x, how, entry),
        _ => Err(entry.fault(Vector::GP, 0).into()),
    }
}

/// To a code segment, at the same privilege level.
fn direct<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, mut entry: Entry, offset: u64, size: u32) -> Res {
    let (cpl, dpl) = (x.cpu.cpl, entry.desc.dpl());
    let allowed = if entry.desc.is_conforming() { dpl <= cpl } else { entry.selector.rpl() <= cpl && dpl == cpl };
    if !allowed || descriptor::is_reserved_code(x.cpu, entry.desc) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    same_level(x, how, &mut entry, offset, size)
}

/// The transfer itself, the privilege level unchanged and the privilege checks made: return address, entry point in the new
/// code segment, new CS:RIP.
pub(super) fn same_level<M: Machine>(
    x: &mut Exec<'_, M>,
    how: Transfer,
    entry: &mut Entry,
    offset: u64,
    size: u32,
) -> Res {
    let back = match how {
        Transfer::Jump => None,
        Transfer::Call => Some(ReturnAddress::place(x, size)?),
    };
    check_entry_point(x.cpu, entry.desc, offset, 0)?;
    entry.touch(x.cpu, x.m)?;
    if let Some(back) = back {
        back.push(x)?;
    }
    enter(x.cpu, entry, x.cpu.cpl, offset);
    Ok(())
}

/// CS and EIP as a far CALL pushes them, and their place on its stack.
struct ReturnAddress {
    stack: Stack,
    frame: Frame,
    placed: Placed,
}

impl ReturnAddress {
    /// Finds the place. Both pushes are accesses of the instruction's own, with alignment checked and breakpoints noted.
    fn place<M: Machine>(x: &mut Exec<'_, M>, size: u32) -> Res<Self> {
        let mut at = x.sp();
        for _ in 0..2 {
            at = at.wrapping_sub(u64::from(size)) & mask(x.stack_size());
            x.linear(SegReg::Ss, at, size, size, AccessKind::Write)?;
        }
        let mut frame = Frame::new(size);
        frame.push(x.cpu.segment(SegReg::Cs).selector.0.into());
        frame.push(x.cpu.rip);
        let stack = Stack::current(x.cpu);
        let placed = stack.place(x.cpu, x.m, &frame, Exception::with_code(Vector::SS, 0))?;
        Ok(Self { stack, frame, placed })
    }

    fn push<M: Machine>(&self, x: &mut Exec<'_, M>) -> Res {
        self.placed.write(x.m, &self.frame)?;
        self.stack.set_pointer(x.cpu, self.placed.pointer);
        Ok(())
    }
}

/// Does code of this segment execute in 64-bit mode?
const fn is_long(cpu: &VcpuState, code: Descriptor) -> bool {
    cpu.efer.contains(Efer::LMA) && descriptor::is_long_code(code)
}

/// #GP(ext) where `offset` lies outside the limit of the code segment, of which only the lower half counts then, or is not
/// canonical in a 64-bit one.
pub(super) fn check_entry_point(cpu: &VcpuState, code: Descriptor, offset: u64, ext: u32) -> Res {
    let good = if is_long(cpu, code) { canonical(offset) } else { offset as u32 <= code.limit() };
    if good {
        Ok(())
    } else {
        Err(Exception::gp(ext).into())
    }
}

/// Makes `entry`:`offset` CS:RIP at privilege level `cpl`. Everything has been checked.
pub(super) fn enter(cpu: &mut VcpuState, entry: &Entry, cpl: u8, offset: u64) {
    *cpu.segment_mut(SegReg::Cs) = Segment { selector: entry.selector.with_rpl(cpl), ..entry.segment() };
    cpu.cpl = cpl;
    cpu.rip = if is_long(cpu, entry.desc) { offset } else { offset & mask(4) };
}

/// Far JMP and CALL in real and virtual 8086 mode.
fn real<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, selector: Selector, offset: u32, size: u32) -> Res {
    let cs = load::real(x.cpu.segment(SegReg::Cs), selector);
    if offset > cs.limit {
        return Err(Exception::gp(0).into());
    }
    if how == Transfer::Call {
        ReturnAddress::place(x, size)?.push(x)?;
    }
    *x.cpu.segment_mut(SegReg::Cs) = cs;
    x.cpu.rip = u64::from(offset);
    Ok(())
}

/// The code segment that a far RET or an IRET returns to, checked.
pub(super) fn return_segment<M: Machine>(x: &mut Exec<'_, M>, selector: Selector) -> Res<Entry> {
    if selector.is_null() {
        return Err(Exception::gp(0).into());
    }
    let entry = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
    let (rpl, dpl) = (selector.rpl(), entry.desc.dpl());
    let level_fits = if entry.desc.is_conforming() { dpl <= rpl } else { dpl == rpl };
    if !entry.desc.is_code() || rpl < x.cpu.cpl || !level_fits || descriptor::is_reserved_code(x.cpu, entry.desc) {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    Ok(entry)
}

/// The stack segment that a far RET or an IRET loads.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReturnStack {
    /// A null selector, which 64-bit code of rings 0 to 2 may return with.
    Null(Selector),
    /// A segment.
    Entry(Entry),
}

impl ReturnStack {
    fn segment(&self) -> Segment {
        match self {
            Self::Null(selector) => Segment::null(*selector),
            Self::Entry(entry) => entry.segment(),
        }
    }

    /// Sets the accessed bit.
    pub fn touch<M: Machine>(&mut self, x: &mut Exec<'_, M>) -> Res {
        match self {
            Self::Null(_) => Ok(()),
            Self::Entry(entry) => Ok(entry.touch(x.cpu, x.m)?),
        }
    }
}

/// The stack segment of a return to `code`, checked; `absent` is raised where it is not present.
pub(super) fn return_stack<M: Machine>(
    x: &mut Exec<'_, M>,
    selector: Selector,
    code: &Entry,
    absent: Vector,
) -> Res<ReturnStack> {
    let cpl = code.selector.rpl();
    if selector.is_null() {
        return if is_long(x.cpu, code.desc) && cpl < 3 {
            Ok(ReturnStack::Null(selector))
        } else {
            Err(Exception::gp(0).into())
        };
    }
    let entry = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
    if selector.rpl() != cpl || entry.desc.dpl() != cpl || !entry.desc.is_writable_data() {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(absent, 0).into());
    }
    Ok(ReturnStack::Entry(entry))
}

/// After a return to an outer ring: data segments that the ring may not use become null.
///
/// A null selector counts as one of DPL 0, so that selectors 1 to 3 become 0, which CPUs do. In long mode the bases, which
/// FS and GS have apart from their selectors, stay: an operating system returns to its programs with null selectors in them.
pub(super) fn drop_inner_segments(cpu: &mut VcpuState) {
    let long = cpu.efer.contains(Efer::LMA);
    for reg in [SegReg::Es, SegReg::Fs, SegReg::Gs, SegReg::Ds] {
        let s = *cpu.segment(reg);
        let conforming = s.attrs & 0x1c == 0x1c;
        if s.dpl() < cpu.cpl && !conforming {
            let base = if long { s.base } else { 0 };
            *cpu.segment_mut(reg) = Segment { base, ..Segment::null(Selector(0)) };
        }
    }
}

/// Far RET, with or without bytes of parameters to release.
pub(super) fn ret<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = match x.ins.code() {
        Code::Retfw | Code::Retfw_imm16 => 2,
        Code::Retfd | Code::Retfd_imm16 => 4,
        _ => 8,
    };
    let release = if x.ins.op_count() > 0 { u64::from(x.ins.immediate16()) } else { 0 };
    let item = u64::from(size);
    let rip = x.peek(0, size)?;
    let selector = Selector(x.peek(item, size)? as u16);
    if x.mode.segments_are_shifted() {
        let cs = load::real(x.cpu.segment(SegReg::Cs), selector);
        if rip > u64::from(cs.limit) {
            return Err(Exception::gp(0).into());
        }
        *x.cpu.segment_mut(SegReg::Cs) = cs;
        x.cpu.rip = rip;
        x.set_sp(x.sp().wrapping_add(2 * item).wrapping_add(release));
        return Ok(());
    }
    let mut code = return_segment(x, selector)?;
    let rpl = selector.rpl();
    if rpl == x.cpu.cpl {
        check_entry_point(x.cpu, code.desc, rip, 0)?;
        code.touch(x.cpu, x.m)?;
        x.set_sp(x.sp().wrapping_add(2 * item).wrapping_add(release));
        enter(x.cpu, &code, rpl, rip);
        return Ok(());
    }
    let pointer = x.peek(2 * item + release, size)?;
    let ss = Selector(x.peek(3 * item + release, size)? as u16);
    let mut stack = return_stack(x, ss, &code, Vector::SS)?;
    check_entry_point(x.cpu, code.desc, rip, 0)?;
    code.touch(x.cpu, x.m)?;
    stack.touch(x)?;
    // The parameters lie on the outer stack too.
    enter_with_stack(x, &code, &stack, rip, pointer.wrapping_add(release));
    Ok(())
}

/// Switches to the code and stack that a return names, of an outer ring or, for IRET in 64-bit mode, of the same.
/// Everything has been checked.
pub(super) fn enter_with_stack<M: Machine>(
    x: &mut Exec<'_, M>,
    code: &Entry,
    stack: &ReturnStack,
    rip: u64,
    pointer: u64,
) {
    let outward = code.selector.rpl() > x.cpu.cpl;
    enter(x.cpu, code, code.selector.rpl(), rip);
    *x.cpu.segment_mut(SegReg::Ss) = stack.segment();
    // On a 16-bit stack only SP is loaded: the rest of the inner RSP shows, which is what espfix is about.
    let size = match x.cpu.mode() {
        CpuMode::Long => 8,
        _ if x.cpu.segment(SegReg::Ss).db() => 4,
        _ => 2,
    };
    reg::set_gpr(x.cpu, gpr::RSP, size, pointer);
    if outward {
        drop_inner_segments(x.cpu);
    }
}
