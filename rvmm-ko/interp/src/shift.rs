//! Shifts and rotates. The count is masked to 5 bits (6 for 64-bit operands); a masked count of 0 changes no flag.
//!
//! OF is defined for a count of 1 only; for others it follows the same formula, as hardware commonly does.

use crate::exec::{Exec, Res};
use crate::flags::{of_result, sign, when};
use crate::reg::{self, mask, sign_extend};
use iced_x86::{Mnemonic, OpKind};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Rflags};

/// CF and OF, the flags of rotates.
const CF_OF: Rflags = Rflags::CF.union(Rflags::OF);

/// The masked count in operand `i`: an immediate or CL.
fn count<M: Machine>(x: &Exec<'_, M>, i: u32, size: u32) -> u32 {
    let raw = if x.kind(i) == OpKind::Register { x.gpr(gpr::RCX, 1) } else { x.ins.try_immediate(i).unwrap_or(0) };
    raw as u32 & if size == 8 { 63 } else { 31 }
}

/// Replaces operand 0 by what `turn` makes of it: the result, CF and OF. Of the flags, `which` are set, those of the result
/// among them. A count `n` of 0 writes the operand back and leaves the flags alone.
fn apply<M: Machine>(x: &mut Exec<'_, M>, n: u32, which: Rflags, turn: impl FnOnce(u64) -> (u64, bool, bool)) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let a = x.dest_get(dest)?;
    if n == 0 {
        return x.dest_put(dest, a);
    }
    let (r, cf, of) = turn(a);
    x.dest_put(dest, r)?;
    x.set_flags(which, of_result(r, size).union(when(Rflags::CF, cf)).union(when(Rflags::OF, of)));
    Ok(())
}

/// OF after a rotation or shift to the right by one: have the two upper bits come to differ?
fn upper_bits_differ(r: u64, size: u32) -> bool {
    sign(r ^ r << 1, size)
}

/// SHL (SAL), SHR, SAR.
pub(crate) fn shift<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let n = count(x, 1, size);
    let mnemonic = x.ins.mnemonic();
    apply(x, n, Rflags::STATUS, |a| match mnemonic {
        Mnemonic::Shr => (a >> n, a.wrapping_shr(n.wrapping_sub(1)) & 1 != 0, n == 1 && sign(a, size)),
        Mnemonic::Sar => {
            let a = sign_extend(a, size) as i64;
            ((a >> n) as u64, a.wrapping_shr(n.wrapping_sub(1)) & 1 != 0, false)
        }
        _ => {
            // Wide enough that no bit is lost: 64 + 63.
            let wide = u128::from(a) << n;
            let cf = (wide >> reg::bits(size)) & 1 != 0;
            (wide as u64, cf, cf != sign(wide as u64, size))
        }
    })
}

/// ROL, ROR.
pub(crate) fn rotate<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let bits = reg::bits(size);
    let n = count(x, 1, size);
    let right = x.ins.mnemonic() == Mnemonic::Ror;
    let left = if right { bits.wrapping_sub(n % bits) % bits } else { n % bits };
    apply(x, n, CF_OF, |a| {
        // Two copies side by side, shifted, show the rotation in the upper one.
        let r = ((u128::from(a) << bits | u128::from(a)) << left >> bits) as u64 & mask(size);
        if right {
            (r, sign(r, size), upper_bits_differ(r, size))
        } else {
            (r, r & 1 != 0, (r & 1 != 0) != sign(r, size))
        }
    })
}

/// RCL, RCR: rotation of one bit more, CF being that bit. Counts are taken modulo 9 and 17 for bytes and words; a
/// remainder of 0 changes nothing.
pub(crate) fn rotate_carry<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let bits = reg::bits(size);
    let n = count(x, 1, size) % (bits + 1);
    let right = x.ins.mnemonic() == Mnemonic::Rcr;
    let left = if right { bits.wrapping_add(1).wrapping_sub(n) } else { n };
    let carry = x.flag(Rflags::CF);
    apply(x, n, CF_OF, |a| {
        let whole = u128::from(a) | u128::from(carry) << bits;
        // Counts are below 128 whatever the compiler knows: `left` is 1 to `bits`.
        let turned = whole.wrapping_shl(left) | whole.wrapping_shr(bits.wrapping_add(1).wrapping_sub(left));
        let r = turned as u64 & mask(size);
        let cf = (turned >> bits) & 1 != 0;
        (r, cf, if right { upper_bits_differ(r, size) } else { cf != sign(r, size) })
    })
}

/// SHLD, SHRD. For words and counts above 16, undefined, the bits of the destination follow once more, as on Intel's
/// CPUs.
pub(crate) fn double<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let bits = reg::bits(size);
    let n = count(x, 2, size);
    let b = x.get(1)?;
    let right = x.ins.mnemonic() == Mnemonic::Shrd;
    apply(x, n, Rflags::STATUS, |a| {
        let (a128, b128) = (u128::from(a), u128::from(b));
        if right {
            // a : b : a (the upper copy only where a word is shifted by more than 16), shifted right.
            let above = if size == 2 { a128 << 32 } else { 0 };
            let all = above | b128 << bits | a128;
            let r = (all >> n) as u64;
            return (r, all.wrapping_shr(n.wrapping_sub(1)) & 1 != 0, upper_bits_differ(r, size));
        }
        let (r, cf) = if size == 2 {
            let all = a128 << 32 | b128 << 16 | a128;
            ((all << n >> 32) as u64, (all << n >> 48) & 1 != 0)
        } else {
            // The bit that left last is bit `bits - n` of the destination.
            (((a128 << bits | b128) << n >> bits) as u64, a.wrapping_shr(bits.wrapping_sub(n)) & 1 != 0)
        };
        (r, cf, cf != sign(r, size))
    })
}
