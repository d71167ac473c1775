//! The status flags of additions, subtractions and logic, for operands of 1, 2, 4 and 8 bytes (SDM vol. 1 §3.4.3.1).

use crate::reg::{bits, mask};
use rvmm_arch::regs::Rflags;

/// ZF, SF and PF of a result.
pub(crate) const fn of_result(result: u64, size: u32) -> Rflags {
    let mut f = Rflags::empty();
    let result = result & mask(size);
    if result == 0 {
        f = f.union(Rflags::ZF);
    }
    if sign(result, size) {
        f = f.union(Rflags::SF);
    }
    if (result as u8).count_ones() & 1 == 0 {
        f = f.union(Rflags::PF);
    }
    f
}

/// The top bit of a number of `size` bytes.
pub(crate) const fn sign(value: u64, size: u32) -> bool {
    (value >> (bits(size) - 1)) & 1 != 0
}

/// `flag` where `on`, else nothing.
pub(crate) const fn when(flag: Rflags, on: bool) -> Rflags {
    if on {
        flag
    } else {
        Rflags::empty()
    }
}

/// `a + b + carry` and all six status flags. `a` and `b` must be zero-extended.
pub(crate) const fn add(a: u64, b: u64, carry: bool, size: u32) -> (u64, Rflags) {
    let wide = a as u128 + b as u128 + carry as u128;
    let r = wide as u64 & mask(size);
    let f = of_result(r, size)
        .union(when(Rflags::CF, (wide >> bits(size)) != 0))
        .union(when(Rflags::AF, (a ^ b ^ r) & 0x10 != 0))
        .union(when(Rflags::OF, sign((a ^ r) & (b ^ r), size)));
    (r, f)
}

/// `a - b - borrow` and all six status flags. `a` and `b` must be zero-extended.
pub(crate) const fn sub(a: u64, b: u64, borrow: bool, size: u32) -> (u64, Rflags) {
    let r = a.wrapping_sub(b).wrapping_sub(borrow as u64) & mask(size);
    let f = of_result(r, size)
        .union(when(Rflags::CF, (a as u128) < b as u128 + borrow as u128))
        .union(when(Rflags::AF, (a ^ b ^ r) & 0x10 != 0))
        .union(when(Rflags::OF, sign((a ^ b) & (a ^ r), size)));
    (r, f)
}
