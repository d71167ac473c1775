//! Call gates: with parameters copied to the stack of the inner ring, or without, and to 64-bit code, in long mode (SDM vol. 3
//! §5.8.3 to §5.8.5).

use super::descriptor::{self, Entry, Gate, LongGate};
use super::far::{self, Transfer};
use super::stack::{Frame, Stack};
use super::tss::{self, LongStack};
use crate::exec::{Exec, Res};
use rvmm_arch::machine::{Machine, Privilege};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, Vector};

/// May the gate be used by this caller, and is it there?
fn check_gate<M: Machine>(x: &Exec<'_, M>, entry: &Entry) -> Res {
    if entry.desc.dpl() < x.cpu.cpl || entry.desc.dpl() < entry.selector.rpl() {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    Ok(())
}

/// The code segment that a gate names, and whether it is in a more privileged ring. `fits` says whether code of this kind may
/// be entered through the gate.
fn target<M: Machine>(
    x: &mut Exec<'_, M>,
    how: Transfer,
    selector: Selector,
    fits: impl FnOnce(&Entry) -> bool,
) -> Res<(Entry, bool)> {
    if selector.is_null() {
        return Err(Exception::gp(0).into());
    }
    let code = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
    let (cpl, dpl) = (x.cpu.cpl, code.desc.dpl());
    let inward = !code.desc.is_conforming() && dpl < cpl;
    if !code.desc.is_code() || dpl > cpl || (how == Transfer::Jump && inward) || !fits(&code) {
        return Err(code.fault(Vector::GP, 0).into());
    }
    if !code.desc.present() {
        return Err(code.fault(Vector::NP, 0).into());
    }
    Ok((code, inward))
}

/// Far JMP or CALL whose selector names a call gate.
pub(super) fn through<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, entry: &Entry) -> Res {
    check_gate(x, entry)?;
    let gate = Gate::of(entry.desc);
    let (mut code, inward) = target(x, how, gate.selector, |_| true)?;
    if inward {
        to_inner_ring(x, &gate, &mut code)
    } else {
        far::same_level(x, how, &mut code, gate.offset.into(), gate.size)
    }
}

/// The same under EFER.LMA: the gate has 16 bytes and leads to 64-bit code only.
pub(super) fn through_long<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, entry: &Entry) -> Res {
    check_gate(x, entry)?;
    let upper = entry.upper_half(x.cpu, x.m)?;
    let gate = LongGate::of(entry.desc, upper);
    let (mut code, inward) = target(x, how, gate.selector, |code| descriptor::is_long_code(code.desc))?;
    if inward {
        let dpl = code.desc.dpl();
        let pointer = tss::long_stack(x.cpu, x.m, LongStack::Ring(dpl), 0)?;
        let stack = Stack::long(Segment::null(Selector(dpl.into())), pointer, dpl);
        let outer = [x.cpu.segment(SegReg::Ss).selector.0.into(), x.cpu.gpr[rvmm_arch::regs::gpr::RSP]];
        return call_long(x, &stack, &outer, &mut code, gate.offset, dpl);
    }
    match how {
        Transfer::Jump => far::same_level(x, how, &mut code, gate.offset, 8),
        Transfer::Call => {
            let cpl = x.cpu.cpl;
            let stack = Stack { long: true, ..Stack::current(x.cpu) };
            call_long(x, &stack, &[], &mut code, gate.offset, cpl)
        }
    }
}

/// CALL of 64-bit code at `cpl`: `outer` and CS:RIP are pushed on `stack` as quadwords.
fn call_long<M: Machine>(
    x: &mut Exec<'_, M>,
    stack: &Stack,
    outer: &[u64],
    code: &mut Entry,
    offset: u64,
    cpl: u8,
) -> Res {
    let mut frame = Frame::new(8);
    outer.iter().for_each(|value| frame.push(*value));
    frame.push(x.cpu.segment(SegReg::Cs).selector.0.into());
    frame.push(x.cpu.rip);
    let placed = stack.place(x.cpu, x.m, &frame, Exception::with_code(Vector::SS, 0))?;
    far::check_entry_point(x.cpu, code.desc, offset, 0)?;
    code.touch(x.cpu, x.m)?;
    placed.write(x.m, &frame)?;
    stack.install(x.cpu, placed.pointer);
    far::enter(x.cpu, code, cpl, offset);
    Ok(())
}

/// CALL to a more privileged ring: SS:ESP, the parameters and CS:EIP of the caller go to the stack that the TSS names.
fn to_inner_ring<M: Machine>(x: &mut Exec<'_, M>, gate: &Gate, code: &mut Entry) -> Res {
    let dpl = code.desc.dpl();
    let (mut ss, pointer) = tss::inner_stack(x.cpu, x.m, dpl, 0)?;
    let stack = Stack { segment: ss.segment(), pointer: pointer.into(), long: false, privilege: Privilege::Supervisor };

    let mut frame = Frame::new(gate.size);
    frame.push(x.cpu.segment(SegReg::Ss).selector.0.into());
    frame.push(x.cpu.gpr[rvmm_arch::regs::gpr::RSP]);
    for i in (0..gate.parameters).rev() {
        let value = x.peek(u64::from(i.wrapping_mul(gate.size)), gate.size)?;
        frame.push(value);
    }
    frame.push(x.cpu.segment(SegReg::Cs).selector.0.into());
    frame.push(x.cpu.rip);

    let placed = stack.place(x.cpu, x.m, &frame, ss.fault(Vector::SS, 0))?;
    far::check_entry_point(x.cpu, code.desc, gate.offset.into(), 0)?;
    ss.touch(x.cpu, x.m)?;
    code.touch(x.cpu, x.m)?;
    placed.write(x.m, &frame)?;
    stack_after_touch(stack, &ss).install(x.cpu, placed.pointer);
    far::enter(x.cpu, code, dpl, gate.offset.into());
    Ok(())
}

/// The stack with the accessed bit that loading SS has set.
pub(super) const fn stack_after_touch(stack: Stack, ss: &Entry) -> Stack {
    Stack { segment: ss.segment(), ..stack }
}
