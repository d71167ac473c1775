//! Near control transfer and the stack instructions: JMP, Jcc, CALL, RET, LOOP, JCXZ, PUSH, POP, PUSHA, POPA, ENTER,
//! LEAVE.

use crate::data::{condition, selector};
use crate::exec::{Exec, Res};
use crate::reg::mask;
use iced_x86::{Code, OpKind};
use rvmm_arch::machine::{AccessKind, Machine};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::SegReg;

/// Target and size of a near branch: relative, or through a register or memory.
fn target<M: Machine>(x: &mut Exec<'_, M>) -> Res<(u64, u32)> {
    match x.kind(0) {
        OpKind::NearBranch16 => Ok((x.ins.near_branch16().into(), 2)),
        OpKind::NearBranch32 => Ok((x.ins.near_branch32().into(), 4)),
        OpKind::NearBranch64 => Ok((x.ins.near_branch64(), 8)),
        _ => {
            let size = x.size(0);
            Ok((x.get(0)?, size))
        }
    }
}

/// JMP near.
pub(crate) fn jmp<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (to, size) = target(x)?;
    x.jump(to, size)
}

/// Jcc.
pub(crate) fn jcc<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if condition(x) {
        return jmp(x);
    }
    Ok(())
}

/// CALL near. The target is checked before the return address is pushed.
pub(crate) fn call<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (to, size) = target(x)?;
    let back = x.cpu.rip;
    x.jump(to, size)?;
    x.push(back, size)
}

/// RET near, with or without bytes to release.
pub(crate) fn ret<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (size, release) = match x.ins.code() {
        Code::Retnw => (2, 0),
        Code::Retnd => (4, 0),
        Code::Retnw_imm16 => (2, x.ins.immediate16()),
        Code::Retnd_imm16 => (4, x.ins.immediate16()),
        Code::Retnq_imm16 => (8, x.ins.immediate16()),
        _ => (8, 0),
    };
    let to = x.pop(size)?;
    x.jump(to, size)?;
    x.set_sp(x.sp().wrapping_add(u64::from(release)));
    Ok(())
}

/// Size of the count register of LOOP and JCXZ.
fn count_size(code: Code) -> u32 {
    match code {
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX
        | Code::Jcxz_rel8_16
        | Code::Jcxz_rel8_32 => 2,
        Code::Loop_rel8_16_RCX
        | Code::Loop_rel8_64_RCX
        | Code::Loope_rel8_16_RCX
        | Code::Loope_rel8_64_RCX
        | Code::Loopne_rel8_16_RCX
        | Code::Loopne_rel8_64_RCX
        | Code::Jrcxz_rel8_16
        | Code::Jrcxz_rel8_64 => 8,
        _ => 4,
    }
}

/// LOOP, LOOPE (`zf` = set), LOOPNE (`zf` = clear).
pub(crate) fn loop_count<M: Machine>(x: &mut Exec<'_, M>, zf: Option<bool>) -> Res {
    let size = count_size(x.ins.code());
    let left = x.gpr(gpr::RCX, size).wrapping_sub(1) & mask(size);
    x.set_gpr(gpr::RCX, size, left);
    if left != 0 && zf.is_none_or(|zf| zf == x.flag(Rflags::ZF)) {
        return jmp(x);
    }
    Ok(())
}

/// JCXZ, JECXZ, JRCXZ.
pub(crate) fn jump_if_count_zero<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.gpr(gpr::RCX, count_size(x.ins.code())) == 0 {
        return jmp(x);
    }
    Ok(())
}

/// Bytes by which this instruction moves the stack pointer, either way.
fn stack_step<M: Machine>(x: &Exec<'_, M>) -> u32 {
    x.ins.stack_pointer_increment().unsigned_abs()
}

/// PUSH of a register, segment register, memory or immediate. A selector is zero-extended.
pub(crate) fn push<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = stack_step(x);
    let v = match x.kind(0) {
        OpKind::Register if x.op_reg(0).is_segment_register() => selector(x, 0),
        OpKind::Register | OpKind::Memory => x.get(0)?,
        _ => x.ins.try_immediate(0).unwrap_or(0),
    };
    x.push(v, size)
}

/// POP to a register or memory; an address in rSP is that after the pop.
pub(crate) fn pop<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.pop(stack_step(x))?;
    x.put(0, v)
}

/// PUSHA. All places are found before any is written.
pub(crate) fn push_all<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = stack_step(x) / 8;
    let old = x.cpu.gpr;
    let mut places = [None; 8];
    let mut sp = x.sp();
    for (place, value) in places.iter_mut().zip(old) {
        sp = sp.wrapping_sub(u64::from(size)) & mask(x.stack_size());
        *place = Some((x.span(SegReg::Ss, sp, size, AccessKind::Write)?, value));
    }
    for (span, value) in places.into_iter().flatten() {
        span.write_uint(x.m, value)?;
    }
    x.set_sp(sp);
    Ok(())
}

/// POPA; the saved rSP is skipped.
pub(crate) fn pop_all<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = stack_step(x) / 8;
    for index in (0..8).rev() {
        let v = x.pop(size)?;
        if index != gpr::RSP {
            x.set_gpr(index, size, v);
        }
    }
    Ok(())
}

/// ENTER (SDM vol. 2). The last stack pointer must be writable, as the manual demands.
pub(crate) fn enter<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = match x.ins.code() {
        Code::Enterw_imm16_imm8 => 2,
        Code::Enterd_imm16_imm8 => 4,
        _ => 8,
    };
    let level = x.ins.immediate8_2nd() & 31;
    let stack = x.stack_size();
    probe_enter(x, size, level)?;
    let mut link = x.gpr(gpr::RBP, stack);
    let bp = x.gpr(gpr::RBP, size);
    x.push(bp, size)?;
    // All of ESP with operands of 32 bits, though a 16-bit stack moves SP alone.
    let frame = x.gpr(gpr::RSP, size);
    if level > 0 {
        for _ in 1..level {
            link = link.wrapping_sub(u64::from(size)) & mask(stack);
            let v = x.load(SegReg::Ss, link, size)?;
            x.push(v, size)?;
        }
        x.push(frame, size)?;
    }
    x.set_sp(x.sp().wrapping_sub(u64::from(x.ins.immediate16())));
    x.set_gpr(gpr::RBP, size, frame);
    Ok(())
}

/// Touches all that ENTER will touch, in the same order, so that one that faults has pushed nothing.
fn probe_enter<M: Machine>(x: &mut Exec<'_, M>, size: u32, level: u8) -> Res {
    let stack = x.stack_size();
    let (mut sp, mut link) = (x.sp(), x.gpr(gpr::RBP, stack));
    for i in 0..=level {
        if (1..level).contains(&i) {
            link = link.wrapping_sub(u64::from(size)) & mask(stack);
            x.span(SegReg::Ss, link, size, AccessKind::Read)?;
        }
        sp = sp.wrapping_sub(u64::from(size)) & mask(stack);
        x.span(SegReg::Ss, sp, size, AccessKind::Write)?;
    }
    sp = sp.wrapping_sub(u64::from(x.ins.immediate16())) & mask(stack);
    x.span_aligned(SegReg::Ss, sp, size, 1, AccessKind::Write)?;
    Ok(())
}

/// LEAVE.
pub(crate) fn leave<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = match x.ins.code() {
        Code::Leavew => 2,
        Code::Leaved => 4,
        _ => 8,
    };
    let frame = x.gpr(gpr::RBP, x.stack_size());
    x.set_sp(frame);
    let bp = x.pop(size)?;
    x.set_gpr(gpr::RBP, size, bp);
    Ok(())
}
