// SPDX-License-Identifier: GPL-2.0
//! Cases of turns back: the kernel's block calls the switcher by SYSCALL, with the words of the call in the vCPU page, and the program
//! goes on without an exit.

use super::case::*;
use super::turn::{called, lend, turned, CALLED};
use super::world::*;
use crate::switch::refused;
use crate::switch::selftest::fill;
use rvmm_arch::host::{WorldExit, BLOCK_CALL};

/// In the code page, where SYSCALL leads: registers to the words of a call ([`CALL_REGISTERS`]), and `syscall`; and the end of that.
pub(super) const ENTRY_CALL: u64 = 0xc00;
const BEHIND_CALL: u64 = ENTRY_CALL + 6 * 8 + 2;
/// `mov rax, [VCPU]; int3`.
pub(super) const ENTRY_WORDS: u64 = 0xd00;
/// Which registers of a case are RIP, RSP, RCX, R11, the flags and the kind of a call, by the word's number.
const CALL_REGISTERS: [(u64, usize); 6] = [(0, RBX), (1, RSI), (3, R8), (4, R9), (5, RDI), (6, RBP)];

/// Turns back may be made as well, and the kernel calls at once, with a call that will do: behind the SYSCALL of the case, at `LOW`.
pub(super) fn lend_back(c: &mut State, p: &Place) {
    lend(c, p);
    c.syscall.rip = HIGH + ENTRY_CALL;
    c.syscall.back = 1;
    c.syscall.program_sel = [CS64, SS];
    (c.syscall.program_cr3, c.syscall.program_cr4) = (c.cr3, c.cr4);
    c.syscall.blocks = [HIGH + ENTRY_CALL, 0x100];
    c.syscall.vcpu_page = p.vcpu_page;
    c.syscall.words = [7, 8, 9, 10];
    (c.gpr[RBX], c.gpr[RSI], c.gpr[R8], c.gpr[R9]) = (c.rip - HIGH + LOW + 2, DATA + 0x700, 0x8888, 0x9999);
    (c.gpr[RDI], c.gpr[RBP]) = (0x20_0ad7, 1);
}

/// SYSCALL with two bytes was executed, and the turn back.
pub(super) fn went_back(c: &mut State, _: &Place) {
    c.rip = c.gpr[RBX];
    c.gpr[RSP] = c.gpr[RSI];
    (c.gpr[RCX], c.gpr[R11]) = (c.gpr[R8], c.gpr[R9]);
    c.rflags = c.gpr[RDI];
    (c.syscall.turns, c.syscall.returns) = (1, 1);
}

/// The same, and an int3.
pub(super) fn back_to_int3(c: &mut State, p: &Place) {
    went_back(c, p);
    c.rip += 1;
}

/// SYSCALL with two bytes was executed, and the guest world left at the kernel's call.
pub(super) fn call_left(c: &mut State, _: &Place) {
    let rax = c.gpr[RAX];
    turned(c, 2);
    c.gpr[RAX] = rax;
    c.rip = HIGH + BEHIND_CALL - 2;
    called(c, 2);
}

/// A call that is not carried out, because of one thing.
macro_rules! left {
    ($name:literal, $register:ident, $value:expr) => {
        case(
            $name,
            SYSCALL,
            |c, p| {
                lend_back(c, p);
                c.gpr[$register] = $value;
            },
            CALLED,
            0,
            call_left,
        )
    };
}

/// Fills in what is in the code page where SYSCALL leads.
pub(super) fn entries(code: &mut [u8]) {
    for ((word, register), at) in CALL_REGISTERS.into_iter().zip((ENTRY_CALL as usize..).step_by(8)) {
        let to = VCPU.wrapping_add(BLOCK_CALL as u64).wrapping_add(word.wrapping_mul(8));
        fill(code.get_mut(at..), &mov(STORE, register, to));
    }
    fill(code.get_mut(BEHIND_CALL as usize - 2..), SYSCALL);
    let read = mov(LOAD, RAX, VCPU);
    fill(code.get_mut(ENTRY_WORDS as usize..), &read);
    fill(code.get_mut(ENTRY_WORDS as usize + read.len()..), &[0xcc]);
}

pub(super) const CASES: &[Case] = &[
    case("a turn back", &[0x0f, 0x05, 0xcc], lend_back, INT3, 0, back_to_int3),
    case(
        "a turn back by an IRET with RF, to a bad stack",
        &[0x0f, 0x05, 0xcc],
        |c, p| {
            lend_back(c, p);
            (c.gpr[RDI], c.gpr[RBP], c.gpr[RSI]) = (0x1_0200, 2, BAD);
        },
        INT3,
        0,
        back_to_int3,
    ),
    // syscall; mov rbx, r10; syscall: the second call is one too many.
    case(
        "a turn back, and to the kernel again",
        &[0x0f, 0x05, 0x4c, 0x89, 0xd3, 0x0f, 0x05],
        |c, p| {
            lend_back(c, p);
            c.gpr[R10] = BAD;
        },
        CALLED,
        0,
        |c, p| {
            let rax = c.gpr[RAX];
            went_back(c, p);
            turned(c, 5);
            (c.gpr[RAX], c.gpr[RBX], c.syscall.turns) = (rax, BAD, 2);
            c.rip = HIGH + BEHIND_CALL - 2;
            // SFMASK has taken IF, TF, IOPL, NT, AC and DF from what R11 shows now.
            c.rflags &= !0x4_7700;
            called(c, 2);
        },
    ),
    case(
        "a turn back, and mov gs, the kernel's SS",
        &[0x0f, 0x05, 0x41, 0x8e, 0xea],
        |c, p| {
            lend_back(c, p);
            c.gpr[R10] = u64::from(KERNEL_SS);
        },
        GP,
        KERNEL_SS as u32 & !3,
        went_back,
    ),
    case(
        "a turn back, and the kernel's data",
        &[0x0f, 0x05, 0x49, 0x8b, 0x02],
        |c, p| {
            lend_back(c, p);
            c.gpr[R10] = KERNEL_DATA;
        },
        PF,
        U,
        |c, p| {
            went_back(c, p);
            c.cr2 = KERNEL_DATA;
        },
    ),
    case(
        "a turn back to nowhere",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.gpr[RBX] = 0x5000;
        },
        PF,
        U | FETCH,
        |c, p| {
            went_back(c, p);
            c.cr2 = 0x5000;
        },
    ),
    case(
        "the vCPU page behind a turn",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.syscall.rip = HIGH + ENTRY_WORDS;
        },
        INT3,
        0,
        |c, _| {
            turned(c, 2);
            c.gpr[RAX] = 7;
            c.rip = HIGH + ENTRY_WORDS + 9;
        },
    ),
    left!("a call to the upper half", RBX, HIGH),
    left!("a call to a bad address", RBX, BAD),
    left!("a call without IF", RDI, 2),
    left!("a call with TF", RDI, 0x302),
    left!("a call with IOPL", RDI, 0x3202),
    left!("a call with NT", RDI, 0x4202),
    left!("a call with VM", RDI, 0x2_0202),
    left!("a call with AC", RDI, 0x4_0202),
    left!("a call with VIF", RDI, 0x8_0202),
    left!("a call with RF by SYSRET", RDI, 0x1_0202),
    left!("a call with flags that there are not", RDI, 0x1_0000_0202),
    case(
        "a call from elsewhere",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.syscall.blocks[1] = BEHIND_CALL - ENTRY_CALL;
        },
        CALLED,
        0,
        call_left,
    ),
    case(
        "a call with a program's data segment",
        &[0x0f, 0x05, 0xcc],
        |c, p| {
            lend_back(c, p);
            c.sel[3] = SS;
        },
        INT3,
        0,
        back_to_int3,
    ),
    case(
        "a call that is not lent",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.syscall.back = 0;
        },
        CALLED,
        0,
        call_left,
    ),
    case(
        "a turn back to no segment",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.syscall.program_sel[0] = BEYOND;
        },
        WorldExit::Refused(refused::TURN),
        0,
        same,
    ),
    case(
        "a turn back to the kernel's stack",
        SYSCALL,
        |c, p| {
            lend_back(c, p);
            c.syscall.program_sel[1] = KERNEL_SS;
        },
        WorldExit::Refused(refused::TURN),
        0,
        same,
    ),
];
