// SPDX-License-Identifier: GPL-2.0
//! Cases of what the context brings: 32-bit code, flags, breakpoints, and contexts that are refused.

use super::case::*;
use super::world::*;
use crate::switch::refused;
use rvmm_arch::host::WorldExit;

pub(super) const CASES: &[Case] = &[
    case("single step", &[0x90, 0xcc], |c, _| c.rflags |= 0x100, WorldExit::Exception(1), 0, forward!(1)),
    case(
        "far jump to 32-bit code",
        &[0xff, 0x2b],
        |c, _| {
            c.gpr[RSP] = LOW;
            c.gpr[RBX] = DATA + FAR_TO_CODE;
        },
        INT3,
        0,
        |c, _| {
            c.gpr[RAX] = (c.gpr[RAX] & 0xffff_ffff) + 1;
            c.sel[1] = CS32;
            c.rip = LOW + LANDING + 2;
        },
    ),
    case(
        "32-bit code",
        &[0x40, 0xcc],
        |c, _| {
            low(c, CS32);
        },
        INT3,
        0,
        |c, _| {
            c.gpr[RAX] = (c.gpr[RAX] & 0xffff_ffff) + 1;
            c.rip += 2;
        },
    ),
    case(
        "a breakpoint in the lower half",
        &[0x90, 0xcc],
        |c, _| {
            low(c, CS64);
            c.use_debug = 1;
            c.dr[1] = c.rip + 1;
            c.dr7 = 0x404;
        },
        WorldExit::Exception(1),
        0,
        |c, _| {
            c.dr6 |= 2;
            c.rip += 1;
        },
    ),
    // In the upper half are the host and the switcher: it is not loaded.
    case(
        "a breakpoint in the upper half",
        &[0x90, 0xcc],
        |c, _| {
            c.use_debug = 1;
            c.dr[1] = c.rip + 1;
            c.dr7 = 0x404;
        },
        INT3,
        0,
        forward!(2),
    ),
    case(
        "a breakpoint on the switcher's stacks",
        &[0x90, 0xcc],
        |c, p| {
            c.use_debug = 1;
            c.dr = [0xa00, 0xc00, 0xe00, 0x1000].map(|top| control_page(p) + top - 8);
            c.dr7 = 0xbbbb_0455;
        },
        INT3,
        0,
        forward!(2),
    ),
    case("CS not present", &[0x90], |c, _| low(c, ABSENT | 3), WorldExit::Refused(refused::FAULT[6] | 11), 0x28, same),
    case("CS beyond the table", &[0x90], |c, _| low(c, BEYOND), WorldExit::Refused(refused::FAULT[6] | 13), 0x30, same),
    case("RIP high, CS beyond the table", &[0x90], |c, _| c.sel[1] = BEYOND, WorldExit::Refused(refused::RIP), 0, same),
    case("RIP not canonical", &[0x90], |c, _| c.rip = BAD, WorldExit::Refused(refused::RIP), 0, same),
    case("RIP high in 32-bit code", &[0x90], |c, _| c.sel[1] = CS32, WorldExit::Refused(refused::RIP), 0, same),
    case("FS base not canonical", &[0x90], |c, _| c.fs_base = BAD, WorldExit::Refused(refused::BASE), 0, same),
    case(
        "ring 1",
        &[0x90],
        |c, _| {
            c.sel[1] = CS64 & !2;
            c.sel[2] = SS & !2;
        },
        WorldExit::Refused(refused::PRIVILEGE),
        0,
        same,
    ),
    case("not in long mode", &[0x90], |c, _| c.long = 0, WorldExit::Refused(refused::MODE), 0, same),
];
