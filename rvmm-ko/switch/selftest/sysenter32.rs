// SPDX-License-Identifier: GPL-2.0
//! Cases of SYSENTER and SYSEXIT of 32-bit guests, in the world of [`super::turns32`].

use super::turns32::*;
use rvmm_arch::host::{BlockCall, EventLoan, EventSlot, CALL_ERROR};
use rvmm_arch::regs::gpr::{RAX, RSP};

const SLOT: usize = EventLoan::SYSENTER;
const SYSENTER: &[u8] = &[0x0f, 0x34, 0xcc];
/// Which may be anything, and is looked at by nobody.
const STACK: u64 = 0xffff_fff1;

/// SYSENTER is lent, and its kernel calls for a SYSEXIT at once, with IF set and status flags of its own; those of the call do not count.
fn lend(s: &mut State) {
    let [code, _] = s.ctx.syscall.descriptors;
    s.events.slots[SLOT] =
        EventSlot { block: ENTRY_CALL, stack: STACK, code, words: [0x200, 0x5555 << 32, 3, 4], ..EventSlot::default() };
    s.ctx.syscall.sysexit = 1;
    (s.call[2], s.call[3]) = (0x1_7100, BlockCall::BY_SYSEXIT.into());
    s.ctx.rflags = 0x20_0cd5;
}

/// The kernel was entered, and its INT of the case has ended the stay.
fn entered(s: &mut State) {
    s.events.slots[SLOT].taken = 1;
    s.ctx.syscall.kernel = EventLoan::BY_EVENT + SLOT as u16;
    kernel(s);
    s.ctx.gpr[RSP] = STACK;
    s.ctx.rip = s.events.slots[SLOT].block;
}

/// It was, and the SYSEXIT carried out; the program has met an int3.
fn went_back(s: &mut State) {
    s.events.slots[SLOT].taken = 1;
    s.ctx.syscall.returns = 1;
    let [rip, rsp, ..] = s.call.map(|word| word & 0xffff_ffff);
    (s.ctx.rip, s.ctx.gpr[RSP]) = (rip + 1, rsp);
}

/// A SYSEXIT that ends the stay, because of one thing.
macro_rules! left {
    ($name:literal, $change:expr) => {
        left!($name, $change, entered)
    };
    ($name:literal, $change:expr, $after:expr) => {
        case(
            $name,
            SYSENTER,
            |s| {
                lend(s);
                let change: fn(&mut State) = $change;
                change(s);
            },
            GP,
            CALL_ERROR,
            $after,
        )
    };
}

/// A loan that is refused.
macro_rules! refused {
    ($name:literal, $change:expr) => {
        case(
            $name,
            SYSENTER,
            |s| {
                lend(s);
                let change: fn(&mut State) = $change;
                change(s);
            },
            TURN,
            0,
            same,
        )
    };
}

pub(super) const CASES: &[Case] = &[
    case("sysenter and sysexit", SYSENTER, lend, INT3, 0, went_back),
    case(
        "sysexit with upper halves",
        SYSENTER,
        |s| {
            lend(s);
            s.call = s.call.map(|word| word | 0x5555_5555 << 32);
        },
        INT3,
        0,
        went_back,
    ),
    case(
        "sysenter of other flat code",
        SYSENTER,
        |s| {
            lend(s);
            // Lent for another program, so that the one way is open and the other is not.
            (s.events.flat_code, s.ctx.syscall.program_sel[0]) = (CS, OTHER_CS);
            s.call[3] = 1;
        },
        GP,
        CALL_ERROR,
        entered,
    ),
    left!("sysenter to its kernel", |s| s.events.slots[SLOT].block = NO_BLOCK),
    left!("sysexit that is not lent", |s| s.ctx.syscall.sysexit = 0),
    left!("sysexit without IF", |s| s.events.slots[SLOT].words[0] = 0),
    left!("sysexit with IOPL", |s| s.events.slots[SLOT].words[1] = 0x3000),
    left!("sysexit with AC", |s| s.events.slots[SLOT].words[1] = 0x4_0000),
    left!("sysexit with RPL 0 in a data segment", |s| s.ctx.sel[0] = SS & !3),
    left!("sysexit with RPL 3 in a null selector", |s| s.events.slots[SLOT].block = ENTRY_NULL, |s| {
        entered(s);
        s.ctx.gpr[RAX] = 3;
        s.ctx.sel[5] = 3;
        s.ctx.rip += NULL_CALL;
    }),
    refused!("sysenter above 4 GiB", |s| s.events.slots[SLOT].block = 1 << 32),
    refused!("sysenter to ring 0", |s| s.events.slots[SLOT].code &= !(3 << 45)),
    refused!("sysenter without the way back", |s| s.ctx.syscall.back = 0),
];
