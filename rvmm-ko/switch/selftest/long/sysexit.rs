// SPDX-License-Identifier: GPL-2.0
//! Cases of turns back by SYSEXIT, to compatibility code: with the kernel's flags, of which the virtual ones are in the vCPU page.

use super::back::call_left;
use super::case::*;
use super::compat::{in_32_bits, lend_compat_back, CODE};
use super::turn::CALLED;
use rvmm_arch::host::BlockCall;

/// The kernel calls for a SYSEXIT, with IF set and status flags of its own; those of the call do not count.
fn lend(c: &mut State, p: &Place) {
    lend_compat_back(c, p);
    c.syscall.sysexit = 1;
    c.syscall.words = [0x200, 0x5555 << 32, 9, 10];
    (c.gpr[RBP], c.gpr[RDI]) = (BlockCall::BY_SYSEXIT.into(), 0x1_7100);
    c.rflags = 0x20_08d5;
}

/// It was carried out, and the code executed.
fn went_back(c: &mut State, p: &Place) {
    let rdi = c.gpr[RDI];
    c.gpr[RDI] = 0x20_08d5;
    in_32_bits(c, p);
    c.gpr[RDI] = rdi;
}

/// A call that is not carried out, because of one thing.
macro_rules! left {
    ($name:literal, $change:expr) => {
        case(
            $name,
            CODE,
            |c, p| {
                lend(c, p);
                let change: fn(&mut State) = $change;
                change(c);
            },
            CALLED,
            0,
            call_left,
        )
    };
}

pub(super) const CASES: &[Case] = &[
    case("a turn back by sysexit", CODE, lend, INT3, 0, went_back),
    // The exit shows RBX and RSI as they were.
    case(
        "a turn back by sysexit, of RIP and RSP the lower halves",
        CODE,
        |c, p| {
            lend(c, p);
            c.gpr[RBX] |= 0x8000_0001 << 32;
            c.gpr[RSI] |= 0x8000_0001 << 32;
        },
        INT3,
        0,
        |c, p| {
            let rbx = c.gpr[RBX];
            went_back(c, p);
            c.gpr[RBX] = rbx;
            c.gpr[RSP] &= 0xffff_ffff;
        },
    ),
    left!("a sysexit that is not lent", |c| c.syscall.sysexit = 0),
    left!("a sysexit to no code", |c| c.syscall.compat_cs = 0),
    left!("a sysexit without IF", |c| c.syscall.words[0] = 0),
    left!("a sysexit with IOPL", |c| c.syscall.words[1] = 0x3000),
    left!("a sysexit with AC", |c| c.syscall.words[1] = 0x4_0000),
];
