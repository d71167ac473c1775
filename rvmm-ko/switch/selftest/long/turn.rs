// SPDX-License-Identifier: GPL-2.0
//! Cases of turns: SYSCALL leads to the kernel without an exit where that is lent, and ends the stay where it is not.

use super::case::*;
use super::world::*;
use crate::switch::layout::{GDT_PAGE, PAGE};
use crate::switch::refused;
use crate::switch::selftest::fill;
use rvmm_arch::host::{SyscallFrom, SyscallLoan, WorldExit};

/// In the code page, where SYSCALL leads: `mov rax, [KERNEL_DATA]; int3`, and `syscall` again.
const ENTRY: u64 = 0xe00;
pub(super) const ENTRY_AGAIN: u64 = 0xe80;
/// The case "read", for the kernel, and int3.
pub(super) const ENTRY_READ: u64 = 0xec0;

/// SYSCALL ended the stay.
pub(super) const CALLED: WorldExit = WorldExit::Syscall(SyscallFrom::Long);

/// A turn at SYSCALL may be made.
pub(super) fn lend(c: &mut State, p: &Place) {
    c.syscall = SyscallLoan {
        on: 1,
        cr3: p.kernel,
        cr4: c.cr4,
        rip: HIGH + ENTRY,
        sfmask: 0x4_7700,
        sel: [KERNEL_CS, KERNEL_SS],
        descriptors: KERNEL,
        ..SyscallLoan::default()
    };
}

/// SYSCALL with `len` bytes was executed, and the kernel's first instructions.
pub(super) fn turned(c: &mut State, len: u64) {
    c.gpr[RCX] = c.rip + len;
    c.gpr[R11] = real_flags(c);
    c.gpr[RAX] = KERNEL_DATA;
    c.rip = HIGH + ENTRY + 9;
    c.sel[1] = KERNEL_CS;
    c.sel[2] = KERNEL_SS;
    c.syscall.turns = 1;
    c.syscall.kernel = 1;
}

/// SYSCALL with `len` bytes was executed, and the guest world left.
pub(super) fn called(c: &mut State, len: u64) {
    c.rip += len;
    c.gpr[RCX] = c.rip;
    c.gpr[R11] = real_flags(c);
}

/// Fills in what is in the code page where SYSCALL leads.
pub(super) fn entries(code: &mut [u8]) {
    let read = mov(LOAD, RAX, KERNEL_DATA);
    fill(code.get_mut(ENTRY as usize..), &read);
    fill(code.get_mut(ENTRY as usize + read.len()..), &[0xcc]);
    fill(code.get_mut(ENTRY_AGAIN as usize..), SYSCALL);
    fill(code.get_mut(ENTRY_READ as usize..), READ);
    fill(code.get_mut(ENTRY_READ as usize + READ.len()..), &[0xcc]);
}

pub(super) const CASES: &[Case] = &[
    case("syscall", &[0x0f, 0x05], same, UD, 0, same),
    case("syscall, a turn", SYSCALL, lend, INT3, 0, |c, _| turned(c, 2)),
    case("syscall with a prefix, a turn", &[0x48, 0x0f, 0x05], lend, INT3, 0, |c, _| turned(c, 3)),
    // std; stc; syscall. The kernel finds DF and CF, as far as SFMASK leaves them.
    case("syscall with flags", &[0xfd, 0xf9, 0x0f, 0x05], lend, INT3, 0, |c, _| {
        c.rflags |= 0x401;
        turned(c, 4);
        c.rflags &= !0x400;
    }),
    case(
        "syscall on a bad stack",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.gpr[RSP] = BAD;
        },
        INT3,
        0,
        |c, _| turned(c, 2),
    ),
    case(
        "syscall on a stack in the VMM area",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.gpr[RSP] = control_page(p) + 0x800;
        },
        INT3,
        0,
        |c, _| turned(c, 2),
    ),
    case(
        "syscall on a stack in the shadow GDT",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.gpr[RSP] = p.area + (GDT_PAGE * PAGE) as u64 + 0x80;
        },
        INT3,
        0,
        |c, _| turned(c, 2),
    ),
    case(
        "syscall with a single step",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.rflags |= 0x100;
        },
        CALLED,
        0,
        |c, _| called(c, 2),
    ),
    case(
        "syscall with alignment checks",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.rflags |= 0x4_0000;
            c.syscall.sfmask = 0x700;
        },
        CALLED,
        0,
        |c, _| called(c, 2),
    ),
    case(
        "syscall behind a turn",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.syscall.rip = HIGH + ENTRY_AGAIN;
        },
        CALLED,
        0,
        |c, _| {
            turned(c, 2);
            c.gpr[RAX] = 0x1111_1110_0000_0000;
            c.rip = HIGH + ENTRY_AGAIN;
            called(c, 2);
        },
    ),
    case(
        "syscall, nothing at LSTAR",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.syscall.rip = NOWHERE;
        },
        PF,
        U | FETCH,
        |c, _| {
            let rax = c.gpr[RAX];
            turned(c, 2);
            c.gpr[RAX] = rax;
            c.rip = NOWHERE;
            c.cr2 = NOWHERE;
        },
    ),
    case(
        "syscall with RPL 3 in a null selector",
        &[0x8e, 0xdb, 0x0f, 0x05],
        |c, p| {
            lend(c, p);
            c.gpr[RBX] = 3;
        },
        CALLED,
        0,
        |c, _| {
            c.sel[3] = 3;
            called(c, 4);
        },
    ),
    case(
        "the kernel's data in its program",
        READ,
        |c, p| {
            lend(c, p);
            c.gpr[RBX] = KERNEL_DATA;
        },
        PF,
        U,
        cr2_is_rbx,
    ),
    case(
        "mov gs, the kernel's SS",
        &[0x8e, 0xeb],
        |c, p| {
            lend(c, p);
            c.gpr[RBX] = u64::from(KERNEL_SS);
        },
        GP,
        KERNEL_SS as u32 & !3,
        same,
    ),
    case(
        "a turn to a bad address",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.syscall.rip = BAD;
        },
        WorldExit::Refused(refused::TURN),
        0,
        same,
    ),
    case(
        "a turn to ring 0",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.syscall.descriptors[0] &= !(3 << 45);
        },
        WorldExit::Refused(refused::TURN),
        0,
        same,
    ),
    case(
        "a turn to the VMM's code",
        SYSCALL,
        |c, p| {
            lend(c, p);
            c.syscall.sel[0] = 0xff8b;
        },
        WorldExit::Refused(refused::TURN),
        0,
        same,
    ),
];
