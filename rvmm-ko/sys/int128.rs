// SPDX-License-Identifier: GPL-2.0
//! Division of 128-bit integers, which rustc leaves to a library that the kernel does not have. The interpreter's 64-bit DIV and
//! IDIV need it; nothing else does.

// The ABI of 128-bit integers is the compiler's own on both sides.
#![allow(improper_ctypes_definitions)]

/// Quotient and remainder, by shifting and subtracting; all ones and the dividend for a divisor of 0 (never asked for).
fn divide(a: u128, b: u128) -> (u128, u128) {
    if b == 0 {
        return (u128::MAX, a);
    }
    let (mut quotient, mut rest) = (0_u128, 0_u128);
    for bit in (0..128).rev() {
        let carry = rest >> 127 != 0;
        rest = rest << 1 | (a >> bit & 1);
        if carry || rest >= b {
            rest = rest.wrapping_sub(b);
            quotient |= 1 << bit;
        }
    }
    (quotient, rest)
}

/// `a / b`, unsigned.
#[no_mangle]
extern "C" fn __udivti3(a: u128, b: u128) -> u128 {
    divide(a, b).0
}

/// `a % b`, unsigned.
#[no_mangle]
extern "C" fn __umodti3(a: u128, b: u128) -> u128 {
    divide(a, b).1
}

/// `a / b`, rounded towards zero.
#[no_mangle]
extern "C" fn __divti3(a: i128, b: i128) -> i128 {
    let quotient = divide(a.unsigned_abs(), b.unsigned_abs()).0 as i128;
    if (a < 0) != (b < 0) {
        quotient.wrapping_neg()
    } else {
        quotient
    }
}

/// `a % b`, with the dividend's sign.
#[no_mangle]
extern "C" fn __modti3(a: i128, b: i128) -> i128 {
    let rest = divide(a.unsigned_abs(), b.unsigned_abs()).1 as i128;
    if a < 0 {
        rest.wrapping_neg()
    } else {
        rest
    }
}
