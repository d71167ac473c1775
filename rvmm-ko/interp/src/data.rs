//! Data movement: MOV and its relatives, exchanges, conversions, conditional moves, no-operations.

use crate::exec::{Exec, Res};
use crate::flags;
use crate::reg::{self, mask, sign_extend};
use iced_x86::{ConditionCode, OpKind};
use rvmm_arch::machine::{AccessKind, Machine};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::Exception;

/// MOV between general-purpose registers, memory and immediates; MOVNTI.
pub(crate) fn mov<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.get(1)?;
    x.put(0, v)
}

/// MOV r/m, Sreg: 16 bits to memory, zero-extended to a register.
pub(crate) fn mov_from_segment<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = selector(x, 1);
    x.put(0, v)
}

/// The selector in the segment register that is operand `i`.
pub(crate) fn selector<M: Machine>(x: &Exec<'_, M>, i: u32) -> u64 {
    reg::segment(x.op_reg(i)).map_or(0, |s| u64::from(x.cpu.segment(s).selector.0))
}

/// MOVZX.
pub(crate) fn movzx<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.get(1)?;
    x.put(0, v)
}

/// MOVSX, MOVSXD.
pub(crate) fn movsx<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(1);
    let v = x.get(1)?;
    x.put(0, sign_extend(v, size))
}

/// MOVBE.
pub(crate) fn movbe<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let v = x.get(1)?;
    x.put(0, v.swap_bytes() >> (64 - reg::bits(size)))
}

/// BSWAP; the 16-bit form, undefined, gives 0.
pub(crate) fn bswap<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.get(0)?;
    let swapped = match x.size(0) {
        8 => v.swap_bytes(),
        4 => u64::from((v as u32).swap_bytes()),
        _ => 0,
    };
    x.put(0, swapped)
}

/// LEA.
pub(crate) fn lea<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (_, offset) = x.ea();
    x.put(0, offset)
}

/// XLAT: AL = [rBX + AL].
pub(crate) fn xlat<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (seg, offset) = x.ea();
    let v = x.load(seg, offset, 1)?;
    x.set_gpr(gpr::RAX, 1, v);
    Ok(())
}

/// XCHG.
pub(crate) fn xchg<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let dest = x.dest(0)?;
    let (a, b) = (x.dest_get(dest)?, x.get(1)?);
    x.dest_put(dest, b)?;
    x.put(1, a)
}

/// XADD. Where both operands are one register, the sum wins.
pub(crate) fn xadd<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let (a, b) = (x.dest_get(dest)?, x.get(1)?);
    let (sum, f) = flags::add(a, b, false, size);
    x.put(1, a)?;
    x.dest_put(dest, sum)?;
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}

/// CMPXCHG. A destination that differs is written back unchanged, as the CPU does.
pub(crate) fn cmpxchg<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let (old, new) = (x.dest_get(dest)?, x.get(1)?);
    let (_, f) = flags::sub(x.gpr(gpr::RAX, size), old, false, size);
    x.set_flags(Rflags::STATUS, f);
    if f.contains(Rflags::ZF) {
        x.dest_put(dest, new)
    } else {
        if matches!(dest, crate::exec::Dest::Mem(_)) {
            x.dest_put(dest, old)?;
        }
        x.set_gpr(gpr::RAX, size, old);
        Ok(())
    }
}

/// CMPXCHG8B and CMPXCHG16B; the latter wants its operand aligned.
pub(crate) fn cmpxchg_pair<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let half = x.mem_size() / 2;
    let (seg, offset) = x.ea();
    let la = x.linear(seg, offset, half * 2, 1, AccessKind::Write)?;
    if half == 8 && la.0 & 15 != 0 {
        return Err(Exception::gp(0).into());
    }
    let span = x.span_aligned(seg, offset, half * 2, 8, AccessKind::Write)?;
    let mut buf = [0; 16];
    span.read(x.m, &mut buf)?;
    let all = u128::from_le_bytes(buf);
    let (low, high) = (all as u64 & mask(half), (all >> reg::bits(half)) as u64 & mask(half));
    let equal = low == x.gpr(gpr::RAX, half) && high == x.gpr(gpr::RDX, half);
    let new = if equal {
        u128::from(x.gpr(gpr::RBX, half)) | u128::from(x.gpr(gpr::RCX, half)) << reg::bits(half)
    } else {
        all
    };
    span.write(x.m, &new.to_le_bytes())?;
    if !equal {
        x.set_gpr(gpr::RAX, half, low);
        x.set_gpr(gpr::RDX, half, high);
    }
    x.set_flags(Rflags::ZF, flags::when(Rflags::ZF, equal));
    Ok(())
}

/// Is the condition of Jcc, SETcc, CMOVcc true?
pub(crate) fn condition<M: Machine>(x: &Exec<'_, M>) -> bool {
    let f = |flag| x.flag(flag);
    let less = f(Rflags::SF) != f(Rflags::OF);
    match x.ins.condition_code() {
        ConditionCode::None => true,
        ConditionCode::o => f(Rflags::OF),
        ConditionCode::no => !f(Rflags::OF),
        ConditionCode::b => f(Rflags::CF),
        ConditionCode::ae => !f(Rflags::CF),
        ConditionCode::e => f(Rflags::ZF),
        ConditionCode::ne => !f(Rflags::ZF),
        ConditionCode::be => f(Rflags::CF) || f(Rflags::ZF),
        ConditionCode::a => !f(Rflags::CF) && !f(Rflags::ZF),
        ConditionCode::s => f(Rflags::SF),
        ConditionCode::ns => !f(Rflags::SF),
        ConditionCode::p => f(Rflags::PF),
        ConditionCode::np => !f(Rflags::PF),
        ConditionCode::l => less,
        ConditionCode::ge => !less,
        ConditionCode::le => less || f(Rflags::ZF),
        ConditionCode::g => !less && !f(Rflags::ZF),
    }
}

/// CMOVcc: the source is read, and a 32-bit destination extended, whether or not the condition holds.
pub(crate) fn cmov<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let source = x.get(1)?;
    let old = x.get(0)?;
    let v = if condition(x) { source } else { old };
    x.put(0, v)
}

/// SETcc.
pub(crate) fn setcc<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = u64::from(condition(x));
    x.put(0, v)
}

/// CBW, CWDE, CDQE: sign-extends the lower half of a register of `size` bytes into all of it.
pub(crate) fn extend_a<M: Machine>(x: &mut Exec<'_, M>, size: u32) -> Res {
    let v = sign_extend(x.gpr(gpr::RAX, size / 2), size / 2);
    x.set_gpr(gpr::RAX, size, v);
    Ok(())
}

/// CWD, CDQ, CQO: fills rDX with the sign of rAX.
pub(crate) fn extend_a_into_d<M: Machine>(x: &mut Exec<'_, M>, size: u32) -> Res {
    let negative = flags::sign(x.gpr(gpr::RAX, size), size);
    x.set_gpr(gpr::RDX, size, if negative { u64::MAX } else { 0 });
    Ok(())
}

/// The flags in AH for LAHF and SAHF.
const AH_FLAGS: Rflags = Rflags::SF.union(Rflags::ZF).union(Rflags::AF).union(Rflags::PF).union(Rflags::CF);

/// LAHF.
pub(crate) fn lahf<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let f = x.cpu.rflags.intersection(AH_FLAGS).bits() | 2;
    x.set_reg(iced_x86::Register::AH, f);
    Ok(())
}

/// SAHF.
pub(crate) fn sahf<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let f = Rflags::from_bits_truncate(x.reg(iced_x86::Register::AH));
    x.set_flags(AH_FLAGS, f);
    Ok(())
}

/// SALC (undocumented): AL = CF ? FF : 00.
pub(crate) fn salc<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = if x.flag(Rflags::CF) { 0xff } else { 0 };
    x.set_gpr(gpr::RAX, 1, v);
    Ok(())
}

/// CLFLUSH, CLFLUSHOPT, CLWB: checked like a byte load, no effect.
pub(crate) fn cache_line<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.kind(0) == OpKind::Memory {
        let (seg, offset) = x.ea();
        x.span(seg, offset, 1, AccessKind::Read)?;
    }
    Ok(())
}

/// CLC, STC, CMC, CLD, STD.
pub(crate) fn set_flag<M: Machine>(x: &mut Exec<'_, M>, flag: Rflags, on: bool) -> Res {
    x.set_flags(flag, flags::when(flag, on));
    Ok(())
}
