// SPDX-License-Identifier: GPL-2.0
//! Cases of what not every CPU and not every host has.

use super::case::*;
use super::turn::{called, lend, turned, ENTRY_READ};
use super::world::*;
use super::{compat, events, sysenter};
use crate::switch::{reserved, syscall};
use rvmm_arch::host::{SyscallFrom, SyscallSupport, WorldExit};
use rvmm_arch::regs::Cr4;

/// The tables of cases for this CPU and host.
pub(super) fn tables() -> [&'static [Case]; 7] {
    let has = crate::host::leaf7();
    let amd = syscall::support() == SyscallSupport::Compatibility;
    let given = |has: bool, cases: &'static [Case]| if has { cases } else { &[] };
    [
        given(has.fsgsbase, FSGSBASE),
        given(has.pku, KEYS),
        given(amd, COMPATIBILITY),
        given(amd, compat::SYSCALL_CASES),
        given(amd, sysenter::AMD),
        given(!amd, sysenter::INTEL),
        given(reserved::bit() != 0, events::MARKED_CASES),
    ]
}

/// Where the CPU has RDFSBASE and the like.
const FSGSBASE: &[Case] = &[case(
    "wrgsbase; rdfsbase",
    &[0xf3, 0x48, 0x0f, 0xae, 0xdb, 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0xcc],
    |c, _| {
        c.gpr[RBX] = NOWHERE;
        c.cr4 |= Cr4::FSGSBASE.bits();
    },
    INT3,
    0,
    |c, _| {
        c.gs_base = NOWHERE;
        c.gpr[RAX] = c.fs_base;
        c.rip += 11;
    },
)];

/// Where the host uses protection keys.
const KEYS: &[Case] = &[
    // Code that runs and cannot be read.
    case(
        "a key that denies reading",
        READ,
        |c, _| {
            c.rip = c.rip - HIGH + KEYED;
            c.gpr[RBX] = KEYED;
            c.cr4 |= Cr4::PKE.bits();
            c.pkru = 4;
        },
        PF,
        P | U | KEY,
        cr2_is_rbx,
    ),
    // They act behind the turn, not before.
    case(
        "a turn to a key that denies reading",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.gpr[RBX] = KEYED;
            c.syscall.rip = HIGH + ENTRY_READ;
            c.syscall.cr4 |= Cr4::PKE.bits();
            c.pkru = 4;
        },
        PF,
        P | U | KEY,
        |c, _| {
            let rax = c.gpr[RAX];
            turned(c, 2);
            c.gpr[RAX] = rax;
            c.rip = HIGH + ENTRY_READ;
            c.cr2 = c.gpr[RBX];
        },
    ),
];

/// Where compatibility code has SYSCALL.
const COMPATIBILITY: &[Case] = &[case(
    "syscall in 32-bit code",
    SYSCALL,
    |c, p| {
        lend(c, p);
        low(c, CS32);
    },
    WorldExit::Syscall(SyscallFrom::Compatibility),
    0,
    |c, _| called(c, 2),
)];
