//! Call gates, with parameters copied to the stack of the inner ring (SDM vol. 3 §5.8.3 to §5.8.5).

use super::descriptor::{self, Entry, Gate};
use super::far::{self, Transfer};
use super::stack::{Frame, Stack};
use super::tss;
use crate::exec::{Exec, Res};
use rvmm_arch::machine::{Machine, Privilege};
use rvmm_arch::segment::SegReg;
use rvmm_arch::{Exception, Vector};

/// Far JMP or CALL whose selector names a call gate.
pub(super) fn through<M: Machine>(x: &mut Exec<'_, M>, how: Transfer, entry: &Entry) -> Res {
    let cpl = x.cpu.cpl;
    if entry.desc.dpl() < cpl || entry.desc.dpl() < entry.selector.rpl() {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    let gate = Gate::of(entry.desc);
    if gate.selector.is_null() {
        return Err(Exception::gp(0).into());
    }
    let mut code = descriptor::fetch(x.cpu, x.m, gate.selector, Vector::GP, 0)?;
    let dpl = code.desc.dpl();
    let inward = !code.desc.is_conforming() && dpl < cpl;
    if !code.desc.is_code() || dpl > cpl || (how == Transfer::Jump && inward) {
        return Err(code.fault(Vector::GP, 0).into());
    }
    if !code.desc.present() {
        return Err(code.fault(Vector::NP, 0).into());
    }
    if inward {
        to_inner_ring(x, &gate, &mut code)
    } else {
        far::same_level(x, how, &mut code, gate.offset, gate.size)
    }
}

/// CALL to a more privileged ring: SS:ESP, the parameters and CS:EIP of the caller go to the stack that the TSS names.
fn to_inner_ring<M: Machine>(x: &mut Exec<'_, M>, gate: &Gate, code: &mut Entry) -> Res {
    let dpl = code.desc.dpl();
    let (mut ss, pointer) = tss::inner_stack(x.cpu, x.m, dpl, 0)?;
    let stack = Stack { segment: ss.segment(), pointer, privilege: Privilege::Supervisor };

    let mut frame = Frame::new(gate.size);
    frame.push(u32::from(x.cpu.segment(SegReg::Ss).selector.0));
    frame.push(x.cpu.gpr[rvmm_arch::regs::gpr::RSP] as u32);
    for i in (0..gate.parameters).rev() {
        let value = x.peek(u64::from(i.wrapping_mul(gate.size)), gate.size)?;
        frame.push(value as u32);
    }
    frame.push(u32::from(x.cpu.segment(SegReg::Cs).selector.0));
    frame.push(x.cpu.rip as u32);

    let placed = stack.place(x.cpu, x.m, &frame, ss.fault(Vector::SS, 0))?;
    far::check_entry_point(code.desc, gate.offset, 0)?;
    ss.touch(x.cpu, x.m)?;
    code.touch(x.cpu, x.m)?;
    placed.write(x.m, &frame)?;
    stack_after_touch(stack, &ss).install(x.cpu, placed.pointer);
    far::enter(x.cpu, code, dpl, gate.offset);
    Ok(())
}

/// The stack with the accessed bit that loading SS has set.
pub(super) const fn stack_after_touch(stack: Stack, ss: &Entry) -> Stack {
    Stack { segment: ss.segment(), ..stack }
}
