//! Addition, subtraction, logic, multiplication and division.

use crate::exec::{Exec, Res};
use crate::flags::{self, of_result, when};
use crate::reg::{bits, mask, sign_extend};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::{Exception, Vector};

/// What a two-operand instruction computes: operands, carry in, size → result and flags.
type Op = fn(u64, u64, bool, u32) -> (u64, Rflags);

/// ADD, ADC, SUB, SBB, AND, OR, XOR: operand 0 becomes `op` of both; `with_carry` for ADC and SBB.
pub(crate) fn binary<M: Machine>(x: &mut Exec<'_, M>, op: Op, with_carry: bool) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let (a, b) = (x.dest_get(dest)?, x.get(1)?);
    let (r, f) = op(a, b, with_carry && x.flag(Rflags::CF), size);
    x.dest_put(dest, r)?;
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}

/// CMP, TEST: flags only.
pub(crate) fn compare<M: Machine>(x: &mut Exec<'_, M>, op: Op) -> Res {
    let size = x.size(0);
    let (a, b) = (x.get(0)?, x.get(1)?);
    let (_, f) = op(a, b, false, size);
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}

/// AND for [`binary`] and [`compare`]; AF, undefined, is cleared.
pub(crate) fn and(a: u64, b: u64, _: bool, size: u32) -> (u64, Rflags) {
    (a & b, of_result(a & b, size))
}

/// OR for [`binary`].
pub(crate) fn or(a: u64, b: u64, _: bool, size: u32) -> (u64, Rflags) {
    (a | b, of_result(a | b, size))
}

/// XOR for [`binary`].
pub(crate) fn xor(a: u64, b: u64, _: bool, size: u32) -> (u64, Rflags) {
    (a ^ b, of_result(a ^ b, size))
}

/// INC, DEC: all status flags but CF.
pub(crate) fn step_by_one<M: Machine>(x: &mut Exec<'_, M>, op: Op) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let a = x.dest_get(dest)?;
    let (r, f) = op(a, 1, false, size);
    x.dest_put(dest, r)?;
    x.set_flags(Rflags::STATUS.difference(Rflags::CF), f);
    Ok(())
}

/// NEG.
pub(crate) fn neg<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let dest = x.dest(0)?;
    let a = x.dest_get(dest)?;
    let (r, f) = flags::sub(0, a, false, size);
    x.dest_put(dest, r)?;
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}

/// NOT.
pub(crate) fn not<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let dest = x.dest(0)?;
    let a = x.dest_get(dest)?;
    x.dest_put(dest, !a)
}

/// ADCX (`flag` = CF), ADOX (`flag` = OF): only that flag is read and written.
pub(crate) fn add_with<M: Machine>(x: &mut Exec<'_, M>, flag: Rflags) -> Res {
    let size = x.size(0);
    let (a, b) = (x.get(0)?, x.get(1)?);
    let (r, f) = flags::add(a, b, x.flag(flag), size);
    x.put(0, r)?;
    x.set_flags(flag, when(flag, f.contains(Rflags::CF)));
    Ok(())
}

/// The flags of a multiplication: CF and OF as `overflow`; the undefined ones as a logic operation on the lower half.
fn product_flags(low: u64, overflow: bool, size: u32) -> Rflags {
    of_result(low, size).union(when(Rflags::CF.union(Rflags::OF), overflow))
}

/// Stores a double-length result in AX or rDX:rAX.
fn put_double<M: Machine>(x: &mut Exec<'_, M>, value: u128, size: u32) {
    if size == 1 {
        x.set_gpr(gpr::RAX, 2, value as u64);
    } else {
        x.set_gpr(gpr::RAX, size, value as u64);
        x.set_gpr(gpr::RDX, size, (value >> bits(size)) as u64);
    }
}

/// MUL.
pub(crate) fn mul<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let b = x.get(0)?;
    let product = u128::from(x.gpr(gpr::RAX, size)).wrapping_mul(u128::from(b));
    put_double(x, product, size);
    let overflow = product >> bits(size) != 0;
    x.set_flags(Rflags::STATUS, product_flags(product as u64, overflow, size));
    Ok(())
}

/// IMUL with one, two or three operands.
pub(crate) fn imul<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let (a, b) = match x.ins.op_count() {
        1 => (x.gpr(gpr::RAX, size), x.get(0)?),
        2 => (x.get(0)?, x.get(1)?),
        _ => (x.get(1)?, x.immediate(2)),
    };
    let wide = |v| i128::from(sign_extend(v, size) as i64);
    let product = wide(a).wrapping_mul(wide(b));
    let low = product as u64 & mask(size);
    let overflow = wide(low) != product;
    if x.ins.op_count() == 1 {
        put_double(x, product as u128, size);
    } else {
        x.put(0, low)?;
    }
    x.set_flags(Rflags::STATUS, product_flags(low, overflow, size));
    Ok(())
}

/// The double-length dividend in AX or rDX:rAX.
fn dividend<M: Machine>(x: &Exec<'_, M>, size: u32) -> u128 {
    if size == 1 {
        u128::from(x.gpr(gpr::RAX, 2))
    } else {
        u128::from(x.gpr(gpr::RDX, size)) << bits(size) | u128::from(x.gpr(gpr::RAX, size))
    }
}

/// Stores quotient and remainder in AL and AH, or rAX and rDX.
fn put_quotient<M: Machine>(x: &mut Exec<'_, M>, quotient: u64, remainder: u64, size: u32) {
    if size == 1 {
        x.set_gpr(gpr::RAX, 2, (quotient & 0xff) | (remainder & 0xff) << 8);
    } else {
        x.set_gpr(gpr::RAX, size, quotient);
        x.set_gpr(gpr::RDX, size, remainder);
    }
}

/// DIV; #DE for a zero divisor or a quotient that does not fit. Flags, all undefined, stay.
pub(crate) fn div<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let divisor = u128::from(x.get(0)?);
    let n = dividend(x, size);
    match (n.checked_div(divisor), n.checked_rem(divisor)) {
        (Some(q), Some(r)) if q >> bits(size) == 0 => {
            put_quotient(x, q as u64, r as u64, size);
            Ok(())
        }
        _ => Err(Exception::new(Vector::DE).into()),
    }
}

/// IDIV; as [`div`].
pub(crate) fn idiv<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let divisor = i128::from(sign_extend(x.get(0)?, size) as i64);
    let unused = 128 - 2 * bits(size);
    let n = ((dividend(x, size) << unused) as i128) >> unused;
    match (n.checked_div(divisor), n.checked_rem(divisor)) {
        (Some(q), Some(r)) if q == i128::from(sign_extend(q as u64 & mask(size), size) as i64) => {
            put_quotient(x, q as u64, r as u64, size);
            Ok(())
        }
        _ => Err(Exception::new(Vector::DE).into()),
    }
}
