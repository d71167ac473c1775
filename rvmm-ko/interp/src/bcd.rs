//! Decimal adjustment: AAA, AAS, AAM, AAD, DAA, DAS (SDM vol. 2). Not in 64-bit mode.

use crate::exec::{Exec, Res};
use crate::flags::{of_result, when};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::{Exception, Vector};

/// AF and CF.
const CARRIES: Rflags = Rflags::AF.union(Rflags::CF);

/// AAA, AAS: the low digit of AL after an unpacked addition or subtraction. OF, SF, ZF and PF, undefined, stay.
pub(crate) fn ascii_adjust<M: Machine>(x: &mut Exec<'_, M>, subtract: bool) -> Res {
    let ax = x.gpr(gpr::RAX, 2);
    let adjust = ax & 0xf > 9 || x.flag(Rflags::AF);
    let ax = match (adjust, subtract) {
        (false, _) => ax,
        (true, false) => ax.wrapping_add(0x106),
        (true, true) => ax.wrapping_sub(0x106),
    };
    x.set_gpr(gpr::RAX, 2, ax & 0xff0f);
    x.set_flags(CARRIES, when(CARRIES, adjust));
    Ok(())
}

/// AAM: #DE for a base of 0. OF, AF and CF, undefined, are cleared.
pub(crate) fn aam<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (al, base) = (x.gpr(gpr::RAX, 1), x.ins.immediate8().into());
    let (Some(high), Some(low)) = (al.checked_div(base), al.checked_rem(base)) else {
        return Err(Exception::new(Vector::DE).into());
    };
    x.set_gpr(gpr::RAX, 2, high << 8 | low);
    x.set_flags(Rflags::STATUS, of_result(low, 1));
    Ok(())
}

/// AAD. OF, AF and CF, undefined, are cleared.
pub(crate) fn aad<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (ax, base) = (x.gpr(gpr::RAX, 2), u64::from(x.ins.immediate8()));
    let al = (ax & 0xff).wrapping_add((ax >> 8).wrapping_mul(base)) & 0xff;
    x.set_gpr(gpr::RAX, 2, al);
    x.set_flags(Rflags::STATUS, of_result(al, 1));
    Ok(())
}

/// DAA, DAS: both digits of AL after a packed addition or subtraction. OF, undefined, is cleared.
pub(crate) fn decimal_adjust<M: Machine>(x: &mut Exec<'_, M>, subtract: bool) -> Res {
    let old = x.gpr(gpr::RAX, 1);
    let low = old & 0xf > 9 || x.flag(Rflags::AF);
    let high = old > 0x99 || x.flag(Rflags::CF);
    let by = u64::from(low) * 6 + u64::from(high) * 0x60;
    // DAS also reports a borrow out of AL by the low digit's correction.
    let borrow = subtract && low && old < 6;
    let al = if subtract { old.wrapping_sub(by) } else { old.wrapping_add(by) } & 0xff;
    x.set_gpr(gpr::RAX, 1, al);
    let f = of_result(al, 1).union(when(Rflags::AF, low)).union(when(Rflags::CF, high || borrow));
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}
