// SPDX-License-Identifier: GPL-2.0
//! Cases of SYSENTER: it leads to the kernel without an exit where that is lent, and is a fault where it is not.

use super::back::{lend_back, ENTRY_WORDS};
use super::case::*;
use super::world::*;
use crate::switch::refused;
use rvmm_arch::host::{EventLoan, EventSlot, WorldExit};

const SLOT: usize = EventLoan::SYSENTER;

/// SYSENTER of code in the lower half is lent, with turns both ways; the kernel reads the first word of the vCPU page. Its stack pointer
/// may be anything.
fn lend(c: &mut State, p: &Place) {
    let gpr = c.gpr;
    lend_back(c, p);
    c.gpr = gpr;
    low(c, CS64);
    c.events.slots[SLOT] = EventSlot {
        block: HIGH + ENTRY_WORDS,
        stack: BAD,
        code: KERNEL[0],
        words: [5, 6, 7, 8],
        ..EventSlot::default()
    };
    c.events.flat_code = CS32;
}

/// The kernel was entered.
fn entered(c: &mut State, _: &Place) {
    c.events.slots[SLOT].taken = 1;
    c.syscall.kernel = EventLoan::BY_EVENT + SLOT as u16;
    (c.gpr[RAX], c.gpr[RSP]) = (5, BAD);
    c.rip = HIGH + ENTRY_WORDS + 9;
    (c.sel[1], c.sel[2]) = (KERNEL_CS, KERNEL_SS);
}

/// One that ends the stay, because of one thing.
macro_rules! ends {
    ($name:literal, $code:expr, $exit:expr, $change:expr) => {
        case(
            $name,
            $code,
            |c, p| {
                lend(c, p);
                let change: fn(&mut State) = $change;
                change(c);
            },
            $exit,
            0,
            same,
        )
    };
}

/// A loan that is refused.
macro_rules! refused {
    ($name:literal, $change:expr) => {
        ends!($name, SYSENTER, WorldExit::Refused(refused::TURN), $change)
    };
}

pub(super) const CASES: &[Case] = &[
    case("sysenter to its kernel", SYSENTER, lend, INT3, 0, entered),
    case(
        "sysenter with flags",
        SYSENTER,
        |c, p| {
            lend(c, p);
            c.rflags = 0x20_0cd5;
        },
        INT3,
        0,
        entered,
    ),
    case(
        "sysenter of 32-bit code",
        SYSENTER,
        |c, p| {
            lend(c, p);
            c.sel[1] = CS32;
        },
        INT3,
        0,
        entered,
    ),
    case(
        "sysenter with a program's data segments",
        SYSENTER,
        |c, p| {
            lend(c, p);
            (c.sel[0], c.sel[3]) = (SS, BASED);
        },
        INT3,
        0,
        entered,
    ),
    ends!("hlt, and sysenter lent", &[0xf4], GP, |_| {}),
    ends!("ud2, and sysenter lent", &[0x0f, 0x0b], UD, |_| {}),
    refused!("sysenter without the way back", |c| c.syscall.back = 0),
    refused!("sysenter to 32-bit code", |c| c.events.slots[SLOT].code = 0x00cf_fb00_0000_ffff),
    refused!("sysenter to code that is not present", |c| c.events.slots[SLOT].code &= !(1 << 47)),
    refused!("sysenter to ring 0", |c| c.events.slots[SLOT].code &= !(3 << 45)),
    refused!("sysenter to a bad address", |c| c.events.slots[SLOT].block = BAD),
];

/// Those that are the fault they are without a turn: `exit`.
const fn faults(exit: WorldExit) -> [Case; 8] {
    [
        ends!("sysenter with TF", SYSENTER, exit, |c| c.rflags = 0x100),
        ends!("sysenter with NT", SYSENTER, exit, |c| c.rflags = 0x4000),
        ends!("sysenter with AC", SYSENTER, exit, |c| c.rflags = 0x4_0000),
        ends!("sysexit, and sysenter lent", &[0x0f, 0x35], exit, |_| {}),
        ends!("sysenter with a prefix", &[0x48, 0x0f, 0x34], exit, |_| {}),
        ends!("sysenter that is not lent", SYSENTER, exit, |c| c.events.slots[SLOT].block = 0),
        ends!("sysenter of other 32-bit code", SYSENTER, exit, |c| {
            c.sel[1] = CS32;
            c.events.flat_code = 0;
        }),
        // mov ds, ebx; sysenter
        case(
            "sysenter with RPL 3 in a null selector",
            &[0x8e, 0xdb, 0x0f, 0x34],
            |c, p| {
                lend(c, p);
                c.gpr[RBX] = 3;
            },
            exit,
            0,
            |c, _| {
                c.sel[3] = 3;
                c.rip += 2;
            },
        ),
    ]
}

/// On Intel's CPUs.
pub(super) const INTEL: &[Case] = &faults(GP);
/// On AMD's.
pub(super) const AMD: &[Case] = &faults(UD);
