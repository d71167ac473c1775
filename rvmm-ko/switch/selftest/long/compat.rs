// SPDX-License-Identifier: GPL-2.0
//! Cases of turns back to compatibility code, and of the data segments that a turn back leaves alone.

use super::back::{back_to_int3, call_left, lend_back, ENTRY_CALL};
use super::case::*;
use super::turn::CALLED;
use super::world::*;
use crate::switch::refused;
use crate::switch::selftest::fill;
use rvmm_arch::host::{BlockCall, WorldExit};

/// In the code page, before the call: `mov ds, edx`.
const ENTRY_DS: u64 = ENTRY_CALL - 2;

/// Fills in what is in the code page where SYSCALL leads.
pub(super) fn entries(code: &mut [u8]) {
    fill(code.get_mut(ENTRY_DS as usize..), &[0x8e, 0xda]);
}

/// Turns back may be made to 32-bit code as well, and the kernel calls for one.
pub(super) fn lend_compat_back(c: &mut State, p: &Place) {
    lend_back(c, p);
    c.syscall.compat_cs = CS32;
    (c.gpr[RAX], c.gpr[RBP], c.gpr[RSI]) = (5, BlockCall::BY_SYSRETL.into(), LOW);
}

/// The same by an IRET with RF.
fn lend_iret(c: &mut State, p: &Place) {
    lend_compat_back(c, p);
    (c.gpr[RBP], c.gpr[RDI]) = (BlockCall::BY_IRETQ_COMPAT.into(), 0x21_0ad7);
}

/// `syscall` as 64-bit code, then `inc eax; int3` as 32-bit code; 64-bit code would have a prefix there.
pub(super) const CODE: &[u8] = &[0x0f, 0x05, 0x40, 0xcc];

/// That was executed.
pub(super) fn in_32_bits(c: &mut State, p: &Place) {
    c.gpr[RBX] &= 0xffff_ffff;
    back_to_int3(c, p);
    c.gpr[RAX] += 1;
    // SF, ZF, AF and OF of a 6; it has PF.
    c.rflags &= !0x8d0;
    c.rip += 1;
    c.sel[1] = CS32;
}

/// With DS loaded by the kernel.
fn lend_ds(c: &mut State, p: &Place, selector: u64) {
    lend_back(c, p);
    c.syscall.rip = HIGH + ENTRY_DS;
    c.gpr[RDX] = selector;
}

/// A call that is not carried out, because of one thing.
macro_rules! left {
    ($name:literal, $lend:expr, $change:expr) => {
        case(
            $name,
            CODE,
            |c, p| {
                $lend(c, p);
                let change: fn(&mut State) = $change;
                change(c);
            },
            CALLED,
            0,
            call_left,
        )
    };
}

/// A loan that is refused.
macro_rules! refused {
    ($name:literal, $selector:expr) => {
        case(
            $name,
            CODE,
            |c, p| {
                lend_compat_back(c, p);
                c.syscall.compat_cs = $selector;
            },
            WorldExit::Refused(refused::TURN),
            0,
            same,
        )
    };
}

pub(super) const CASES: &[Case] = &[
    case("a turn back to 32-bit code", CODE, lend_compat_back, INT3, 0, in_32_bits),
    case("a turn back to 32-bit code by an IRET", CODE, lend_iret, INT3, 0, in_32_bits),
    // The exit shows RBX as it was.
    case(
        "a turn back to 32-bit code, of RIP the lower half",
        CODE,
        |c, p| {
            lend_compat_back(c, p);
            c.gpr[RBX] |= 0x8000_0001 << 32;
        },
        INT3,
        0,
        |c, p| {
            let rbx = c.gpr[RBX];
            in_32_bits(c, p);
            c.gpr[RBX] = rbx;
        },
    ),
    left!("a call for 32-bit code that is not lent", lend_compat_back, |c| c.syscall.compat_cs = 0),
    left!("a call for 32-bit code above 4 GiB", lend_iret, |c| c.gpr[RBX] |= 1 << 32),
    left!("a call for 32-bit code with RF by SYSRET", lend_compat_back, |c| c.gpr[RDI] |= 0x1_0000),
    left!("a call for 32-bit code with TF", lend_iret, |c| c.gpr[RDI] |= 0x100),
    left!("a call for 32-bit code without IF", lend_iret, |c| c.gpr[RDI] &= !0x200),
    case(
        "a call with a program's other data segment",
        &[0x0f, 0x05, 0xcc],
        |c, p| lend_ds(c, p, BASED.into()),
        INT3,
        0,
        |c, p| {
            c.sel[3] = BASED;
            back_to_int3(c, p);
        },
    ),
    case(
        "a call with the kernel's SS in DS",
        SYSCALL,
        |c, p| lend_ds(c, p, KERNEL_SS.into()),
        CALLED,
        0,
        |c, p| {
            c.sel[3] = KERNEL_SS;
            call_left(c, p);
        },
    ),
    case(
        "a call with the kernel's SS in DS, by RPL 0",
        SYSCALL,
        |c, p| lend_ds(c, p, u64::from(KERNEL_SS & !3)),
        CALLED,
        0,
        |c, p| {
            c.sel[3] = KERNEL_SS & !3;
            call_left(c, p);
        },
    ),
    case(
        "a call with RPL 3 in a null selector",
        SYSCALL,
        |c, p| lend_ds(c, p, 3),
        CALLED,
        0,
        |c, p| {
            c.sel[3] = 3;
            call_left(c, p);
        },
    ),
    refused!("a turn back to no 32-bit code", BEYOND),
    refused!("a turn back to 32-bit code that is of 64 bits", CS64),
    refused!("a turn back to 32-bit code that is data", SS),
    refused!("a turn back to the kernel's code", KERNEL_CS),
];

/// A SYSCALL of compatibility code may be a turn.
fn lend_compat(c: &mut State, p: &Place) {
    lend_compat_back(c, p);
    low(c, CS32);
    (c.syscall.compat, c.syscall.compat_rip) = (1, c.syscall.rip);
    c.syscall.rip = NOWHERE;
}

/// Where compatibility code has SYSCALL.
pub(super) const SYSCALL_CASES: &[Case] =
    &[case("syscall in 32-bit code, a turn, and back", CODE, lend_compat, INT3, 0, |c, p| {
        c.gpr[RBX] = c.rip + 2;
        in_32_bits(c, p);
    })];
