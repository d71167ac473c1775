// SPDX-License-Identifier: GPL-2.0
//! The part of the world switch's own test for guests in long mode: ring 3 only, all canonical addresses, bases of FS and GS, and what
//! keeps 64-bit code from the VMM area and the host.

use super::cpu;
use super::enter::World;
use super::refused;
use super::layout::{CONTROL_PAGE, GDT_PAGE, PAGE};
use super::reserved;
use super::selftest::Seen;
use super::selftest_events;
use super::slot::{SLOT_INDEX, TABLE_FLAGS};
use super::syscall;
use crate::sys::page::OwnedPage;
use crate::sys::task;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use rvmm_arch::host::{DescriptorTable, EventLoan, GuestContext, SyscallFrom, SyscallLoan, SyscallSupport, WorldExit, BLOCK_CALL};
use rvmm_arch::regs::Cr4;

/// Where the host's kernel may be, too.
pub(super) const HIGH: u64 = 0xffff_ffff_8100_0000;
/// The same page with protection key 1.
const KEYED: u64 = HIGH + PAGE as u64;
/// The same page again, for 32-bit code.
pub(super) const LOW: u64 = 0x40_0000;
/// A page to write to, at the end of the lower half.
pub(super) const DATA: u64 = 0x7fff_ffff_e000;
/// Nothing is there.
const NOWHERE: u64 = 0xffff_8880_0000_5234;
/// A page whose entry stands for one that the guest has not, where the CPU tells of reserved bits.
pub(super) const MARKED: u64 = 0x41_1000;
/// In no page tables is this an address.
const BAD: u64 = 0x8000_0000_0000_0000;

/// 64-bit code, 32-bit code, flat data, data with a base, data that is not present, an index beyond those.
pub(super) const CS64: u16 = 0xb;
pub(super) const CS32: u16 = 0x13;
pub(super) const SS: u16 = 0x1b;
const BASED: u16 = 0x23;
const ABSENT: u16 = 0x28;
const BEYOND: u16 = 0x33;
/// Base of `BASED`.
const BASE: u64 = 0x1234_5000;

/// Each case's code starts at a multiple of this.
const CASE: usize = 16;

/// In the data page: far pointers to the VMM's code segment and to `LANDING`.
const FAR_TO_VMM: u64 = 0x80;
const FAR_TO_CODE: u64 = 0x88;
/// In the code page: `inc eax; int3` for 32-bit code. 64-bit code would read a prefix there.
const LANDING: u64 = 0xf00;

/// GPR numbers.
pub(super) const RAX: usize = 0;
pub(super) const RCX: usize = 1;
pub(super) const RDX: usize = 2;
pub(super) const RBX: usize = 3;
pub(super) const RSP: usize = 4;
pub(super) const RBP: usize = 5;
pub(super) const RSI: usize = 6;
pub(super) const RDI: usize = 7;
pub(super) const R8: usize = 8;
pub(super) const R9: usize = 9;
pub(super) const R10: usize = 10;
pub(super) const R11: usize = 11;

/// The guest kernel's own entries, which its programs do not see.
pub(super) const KERNEL_CS: u16 = 0x43;
pub(super) const KERNEL_SS: u16 = 0x4b;
pub(super) const KERNEL: [u64; 2] = [0x00af_fb00_0000_ffff, 0x00cf_f300_0000_ffff];
/// A page that only the kernel's tables have.
const KERNEL_DATA: u64 = 0xffff_ffff_8200_0000;
/// In the code page, where SYSCALL leads: `mov rax, [KERNEL_DATA]; int3`, and `syscall` again.
const ENTRY: u64 = 0xe00;
const ENTRY_AGAIN: u64 = 0xe80;
/// The case "read", for the kernel.
const ENTRY_READ: u64 = 0xec0;

/// The vCPU page, in the kernel's tables only.
pub(super) const VCPU: u64 = 0xffff_ffff_8200_1000;
/// In the code page, where SYSCALL leads: registers to the words of a call ([`CALL_REGISTERS`]), and `syscall`; and the end of that.
pub(super) const ENTRY_CALL: u64 = 0xc00;
const BEHIND_CALL: u64 = ENTRY_CALL + 6 * 8 + 2;
/// `mov rax, [VCPU]; int3`.
const ENTRY_WORDS: u64 = 0xd00;
/// Which registers of a case are RIP, RSP, RCX, R11, the flags and the kind of a call, by the word's number.
const CALL_REGISTERS: [(u64, usize); 6] = [(0, RBX), (1, RSI), (3, R8), (4, R9), (5, RDI), (6, RBP)];

/// Error code bits of a page fault: present, write, user, fetch, protection key.
pub(super) const P: u32 = 1;
pub(super) const W: u32 = 2;
pub(super) const U: u32 = 4;
const FETCH: u32 = 0x10;
const KEY: u32 = 0x20;

/// What a case starts from, or what it must come to.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) ctx: GuestContext,
    pub(super) events: EventLoan,
}

impl Deref for State {
    type Target = GuestContext;
    fn deref(&self) -> &GuestContext {
        &self.ctx
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut GuestContext {
        &mut self.ctx
    }
}

/// What the host is, as far as the cases depend on it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The vCPU's VMM area.
    area: u64,
    /// Pages of the host that may be in the TLB as global ones.
    host: [u64; 2],
    /// The guest kernel's root.
    kernel: u64,
    /// The vCPU page.
    vcpu_page: u64,
    /// The page with the stack pointers of the guest's TSS.
    pub(super) tss_page: u64,
}

/// One kind of entry and exit.
pub(super) struct Case {
    name: &'static str,
    code: &'static [u8],
    /// Changes the context that all cases start from.
    entry: fn(&mut State, &Place),
    exit: WorldExit,
    error: u32,
    /// Makes of the context before the entry what it must be after it.
    after: fn(&mut State, &Place),
}

pub(super) const INT3: WorldExit = WorldExit::Exception(3);
pub(super) const GP: WorldExit = WorldExit::Exception(13);
pub(super) const PF: WorldExit = WorldExit::Exception(14);
const UD: WorldExit = WorldExit::Exception(6);

pub(super) const fn case(
    name: &'static str,
    code: &'static [u8],
    entry: fn(&mut State, &Place),
    exit: WorldExit,
    error: u32,
    after: fn(&mut State, &Place),
) -> Case {
    Case { name, code, entry, exit, error, after }
}

/// Nothing to change.
pub(super) fn same(_: &mut State, _: &Place) {}

/// Loads RBX with an address; the case's code uses it.
macro_rules! rbx {
    ($value:expr) => {
        |c, p| {
            let value: fn(&Place) -> u64 = $value;
            c.gpr[RBX] = value(p);
        }
    };
}

/// RBX is what CR2 shows.
pub(super) fn cr2_is_rbx(c: &mut State, _: &Place) {
    c.cr2 = c.gpr[RBX];
}

/// Begins at the code's low address. RSP fits in 32 bits, as 32-bit code leaves the upper half undefined.
pub(super) fn low(c: &mut State, cs: u16) {
    c.gpr[RSP] = LOW;
    c.rip = c.rip - HIGH + LOW;
    c.sel[1] = cs;
}

/// GS base and RBX in the upper half: together `NOWHERE`.
fn high_gs(c: &mut State, _: &Place) {
    c.gs_base = NOWHERE & !0xfff;
    c.gpr[RBX] = NOWHERE & 0xfff;
}

fn control_page(p: &Place) -> u64 {
    p.area + (CONTROL_PAGE * PAGE) as u64
}

/// A turn at SYSCALL may be made.
fn lend(c: &mut State, p: &Place) {
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
fn back_to_int3(c: &mut State, p: &Place) {
    went_back(c, p);
    c.rip += 1;
}

/// SYSCALL with two bytes was executed, and the guest world left at the kernel's call.
fn call_left(c: &mut State, _: &Place) {
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

/// The flags of a context as they really are.
fn real_flags(c: &State) -> u64 {
    c.rflags | 0x202
}

/// SYSCALL with `len` bytes was executed, and the kernel's first instructions.
fn turned(c: &mut State, len: u64) {
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
fn called(c: &mut State, len: u64) {
    c.rip += len;
    c.gpr[RCX] = c.rip;
    c.gpr[R11] = real_flags(c);
}

/// RIP goes on by so many bytes.
macro_rules! forward {
    ($n:literal) => {
        |c, _| c.rip = c.rip.wrapping_add($n)
    };
}

const CALLED: WorldExit = WorldExit::Syscall(SyscallFrom::Long);
const SYSCALL: &[u8] = &[0x0f, 0x05];
pub(super) const READ: &[u8] = &[0x48, 0x8b, 0x03];
pub(super) const WRITE: &[u8] = &[0x48, 0x89, 0x03];
pub(super) const JUMP: &[u8] = &[0xff, 0xe3];

const CASES: &[Case] = &[
    case("nop; int3", &[0x90, 0xcc], same, INT3, 0, forward!(2)),
    case("inc rax; int3", &[0x48, 0xff, 0xc0, 0xcc], same, INT3, 0, |c, _| {
        c.gpr[RAX] = c.gpr[RAX].wrapping_add(1);
        c.rip += 4;
    }),
    case("int 0x80", &[0xcd, 0x80], same, GP, 0x402, same),
    case("ud2", &[0x0f, 0x0b], same, UD, 0, same),
    case("cli", &[0xfa], same, GP, 0, same),
    case("hlt", &[0xf4], same, GP, 0, same),
    case("in", &[0xe4, 0x80], same, GP, 0, same),
    case("swapgs", &[0x0f, 0x01, 0xf8], same, GP, 0, same),
    case("rdmsr", &[0x0f, 0x32], same, GP, 0, same),
    case("mov rax, cr3", &[0x0f, 0x20, 0xd8], same, GP, 0, same),
    case("syscall", &[0x0f, 0x05], same, UD, 0, same),
    case("syscall, a turn", SYSCALL, lend, INT3, 0, |c, _| turned(c, 2)),
    case("syscall with a prefix, a turn", &[0x48, 0x0f, 0x05], lend, INT3, 0, |c, _| turned(c, 3)),
    // std; stc; syscall. The kernel finds DF and CF, as far as SFMASK leaves them.
    case(
        "syscall with flags",
        &[0xfd, 0xf9, 0x0f, 0x05],
        lend,
        INT3,
        0,
        |c, _| {
            c.rflags |= 0x401;
            turned(c, 4);
            c.rflags &= !0x400;
        },
    ),
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
    case("the kernel's data in its program", READ, |c, p| {
        lend(c, p);
        c.gpr[RBX] = KERNEL_DATA;
    }, PF, U, cr2_is_rbx),
    case("mov gs, the kernel's SS", &[0x8e, 0xeb], |c, p| {
        lend(c, p);
        c.gpr[RBX] = u64::from(KERNEL_SS);
    }, GP, KERNEL_SS as u32 & !3, same),
    case("a turn to a bad address", SYSCALL, |c, p| {
        lend(c, p);
        c.syscall.rip = BAD;
    }, WorldExit::Refused(refused::TURN), 0, same),
    case("a turn to ring 0", SYSCALL, |c, p| {
        lend(c, p);
        c.syscall.descriptors[0] &= !(3 << 45);
    }, WorldExit::Refused(refused::TURN), 0, same),
    case("a turn to the VMM's code", SYSCALL, |c, p| {
        lend(c, p);
        c.syscall.sel[0] = 0xff8b;
    }, WorldExit::Refused(refused::TURN), 0, same),
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
    case("a turn back, and mov gs, the kernel's SS", &[0x0f, 0x05, 0x41, 0x8e, 0xea], |c, p| {
        lend_back(c, p);
        c.gpr[R10] = u64::from(KERNEL_SS);
    }, GP, KERNEL_SS as u32 & !3, went_back),
    case("a turn back, and the kernel's data", &[0x0f, 0x05, 0x49, 0x8b, 0x02], |c, p| {
        lend_back(c, p);
        c.gpr[R10] = KERNEL_DATA;
    }, PF, U, |c, p| {
        went_back(c, p);
        c.cr2 = KERNEL_DATA;
    }),
    case("a turn back to nowhere", SYSCALL, |c, p| {
        lend_back(c, p);
        c.gpr[RBX] = 0x5000;
    }, PF, U | FETCH, |c, p| {
        went_back(c, p);
        c.cr2 = 0x5000;
    }),
    case("the vCPU page behind a turn", SYSCALL, |c, p| {
        lend_back(c, p);
        c.syscall.rip = HIGH + ENTRY_WORDS;
    }, INT3, 0, |c, _| {
        turned(c, 2);
        c.gpr[RAX] = 7;
        c.rip = HIGH + ENTRY_WORDS + 9;
    }),
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
    case("a call from elsewhere", SYSCALL, |c, p| {
        lend_back(c, p);
        c.syscall.blocks[1] = BEHIND_CALL - ENTRY_CALL;
    }, CALLED, 0, call_left),
    case("a call with a data segment", SYSCALL, |c, p| {
        lend_back(c, p);
        c.sel[3] = BASED;
    }, CALLED, 0, call_left),
    case("a call with a program's data segment", &[0x0f, 0x05, 0xcc], |c, p| {
        lend_back(c, p);
        c.sel[3] = SS;
    }, INT3, 0, back_to_int3),
    case("a call that is not lent", SYSCALL, |c, p| {
        lend_back(c, p);
        c.syscall.back = 0;
    }, CALLED, 0, call_left),
    case("a turn back to no segment", SYSCALL, |c, p| {
        lend_back(c, p);
        c.syscall.program_sel[0] = BEYOND;
    }, WorldExit::Refused(refused::TURN), 0, same),
    case("a turn back to the kernel's stack", SYSCALL, |c, p| {
        lend_back(c, p);
        c.syscall.program_sel[1] = KERNEL_SS;
    }, WorldExit::Refused(refused::TURN), 0, same),
    case("single step", &[0x90, 0xcc], |c, _| c.rflags |= 0x100, WorldExit::Exception(1), 0, forward!(1)),
    case("read of an unmapped page", READ, rbx!(|_| NOWHERE), PF, U, cr2_is_rbx),
    case("write to the code page", WRITE, rbx!(|_| HIGH + 8), PF, P | W | U, cr2_is_rbx),
    case("fetch from a data page", JUMP, rbx!(|_| DATA), PF, P | U | FETCH, |c, _| {
        c.rip = DATA;
        c.cr2 = DATA;
    }),
    case("read of a bad address", READ, rbx!(|_| BAD), GP, 0, same),
    case("push on a bad stack", &[0x50], |c, _| c.gpr[RSP] = BAD, WorldExit::Exception(12), 0, same),
    // The host's own pages: not there, whatever the TLB may have known.
    case("read of the host's IDT", READ, rbx!(|p| p.host[0]), PF, U, cr2_is_rbx),
    case("read of the module", READ, rbx!(|p| p.host[1]), PF, U, cr2_is_rbx),
    // The VMM area: there, and not for ring 3.
    case("read of the VMM area", READ, rbx!(|p| control_page(p)), PF, P | U, cr2_is_rbx),
    case("write to the VMM area", WRITE, rbx!(|p| control_page(p)), PF, P | W | U, cr2_is_rbx),
    case("write to the shadow GDT", WRITE, rbx!(|p| p.area + (GDT_PAGE * PAGE) as u64), PF, P | W | U, cr2_is_rbx),
    case("jump into the VMM area", JUMP, rbx!(|p| p.area), PF, P | U | FETCH, |c, p| {
        c.rip = p.area;
        c.cr2 = p.area;
    }),
    case(
        "stack in the VMM area",
        &[0x50],
        |c, p| c.gpr[RSP] = control_page(p) + 0x800,
        PF,
        P | W | U,
        |c, _| c.cr2 = c.gpr[RSP] - 8,
    ),
    case("far jump to a segment of the VMM", &[0xff, 0x2b], rbx!(|_| DATA + FAR_TO_VMM), GP, 0xff88, same),
    // mov rax, fs:[0]; mov rcx, gs:[0]; int3. The data page has its own addresses in it.
    case(
        "FS and GS",
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x65, 0x48, 0x8b, 0x09, 0xcc],
        |c, _| c.gpr[RCX] = 8,
        INT3,
        0,
        |c, _| {
            c.gpr[RAX] = c.fs_base;
            c.gpr[RCX] = c.gs_base + 8;
            c.rip += 14;
        },
    ),
    // The upper half belongs to the guest as well: its kernel's GS.
    case("GS in the upper half", &[0x65, 0x48, 0x8b, 0x03], high_gs, PF, U, |c, _| c.cr2 = NOWHERE),
    case("mov gs, a segment with a base", &[0x8e, 0xeb, 0xcc], rbx!(|_| BASED as u64), INT3, 0, |c, _| {
        c.sel[5] = BASED;
        c.gs_base = BASE;
        c.rip += 3;
    }),
    case(
        "mov gs, a segment that is not present",
        &[0x8e, 0xeb],
        rbx!(|_| ABSENT as u64),
        WorldExit::Exception(11),
        0x28,
        same,
    ),
    case("rdfsbase without CR4.FSGSBASE", &[0xf3, 0x48, 0x0f, 0xae, 0xc0], same, UD, 0, same),
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

/// Where the CPU has RDFSBASE and the like.
static FSGSBASE_CASE: Case = case(
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
);

/// Where the host uses protection keys: code that runs and cannot be read.
static KEY_CASE: Case = case(
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
);

/// Where the host uses protection keys: they act behind the turn, not before.
static KEY_TURN: Case = case(
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
);

/// Where compatibility code has SYSCALL.
static COMPAT_CASE: Case = case(
    "syscall in 32-bit code",
    SYSCALL,
    |c, p| {
        lend(c, p);
        low(c, CS32);
    },
    WorldExit::Syscall(SyscallFrom::Compatibility),
    0,
    |c, _| called(c, 2),
);

/// Page tables of a guest world.
struct Tables {
    levels: u8,
    /// The top first.
    pages: KVec<OwnedPage>,
}

impl Tables {
    fn new(world: &World) -> Result<Self> {
        let mut pages = KVec::new();
        let top = OwnedPage::new()?;
        top.write_entry(usize::from(SLOT_INDEX), world.area.guest_entry());
        pages.push(top, GFP_KERNEL)?;
        Ok(Self { levels: world.area.slot().levels(), pages })
    }

    fn root(&self) -> u64 {
        self.pages.first().map_or(0, OwnedPage::phys)
    }

    /// Maps one page, with what it needs of tables.
    fn map(&mut self, address: u64, entry: u64) -> Result {
        let mut at = 0;
        for level in (1..=u32::from(self.levels)).rev() {
            let index = (address >> (3 + 9 * level)) as usize & 511;
            let table = self.pages.get(at).ok_or(EINVAL)?;
            if level == 1 {
                table.write_entry(index, entry);
                break;
            }
            let below = table.read_entry(index) & !0xfff;
            at = match self.pages.iter().position(|p| p.phys() == below) {
                Some(known) => known,
                None => {
                    let page = OwnedPage::new()?;
                    table.write_entry(index, page.phys() | TABLE_FLAGS | 4);
                    self.pages.push(page, GFP_KERNEL)?;
                    self.pages.len().wrapping_sub(1)
                }
            };
        }
        Ok(())
    }
}

/// Runs all cases `rounds` times, and an endless loop until as many host interrupts have come as a hundredth of that.
pub(super) fn run(mut world: World, rounds: u32) -> Result {
    const NX: u64 = 1 << 63;
    let has = crate::host::leaf7();
    let (mut code, mut data) = (OwnedPage::new()?, OwnedPage::new()?);
    let cases = || {
        let keyed = if has.pku { core::slice::from_ref(&KEY_CASE) } else { &[] };
        let bases = if has.fsgsbase { core::slice::from_ref(&FSGSBASE_CASE) } else { &[] };
        let keyed_turn = if has.pku { core::slice::from_ref(&KEY_TURN) } else { &[] };
        let everywhere = syscall::support() == SyscallSupport::Compatibility;
        let compat = if everywhere { core::slice::from_ref(&COMPAT_CASE) } else { &[] };
        let marked = if reserved::bit() != 0 { selftest_events::MARKED_CASES } else { &[] };
        [CASES, keyed, bases, keyed_turn, compat, selftest_events::CASES, marked].into_iter().flatten()
    };
    let mut places = code.bytes().chunks_mut(CASE);
    for bytes in cases().map(|c| c.code) {
        fill(places.next(), bytes);
    }
    // inc rax; jmp back.
    fill(places.next(), &[0x48, 0xff, 0xc0, 0xeb, 0xfb]);
    fill(code.bytes().get_mut(LANDING as usize..), &[0x40, 0xcc]);
    let entry = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x82, 0xcc];
    fill(code.bytes().get_mut(ENTRY as usize..), &entry);
    fill(code.bytes().get_mut(ENTRY_AGAIN as usize..), SYSCALL);
    for ((word, register), at) in CALL_REGISTERS.into_iter().zip((ENTRY_CALL as usize..).step_by(8)) {
        // mov [VCPU + the word], register
        let [modrm, rex] = [0x04 | (register & 7) << 3, 0x48 | register >> 3 << 2].map(|byte| byte as u8);
        let to = VCPU.wrapping_add(BLOCK_CALL as u64).wrapping_add(word.wrapping_mul(8)) as u32;
        fill(code.bytes().get_mut(at..), &[rex, 0x89, modrm, 0x25]);
        fill(code.bytes().get_mut(at.wrapping_add(4)..), &to.to_le_bytes());
    }
    fill(code.bytes().get_mut(BEHIND_CALL as usize - 2..), SYSCALL);
    fill(code.bytes().get_mut(ENTRY_WORDS as usize..), &[0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0x82, 0xcc]);
    fill(code.bytes().get_mut(ENTRY_READ as usize..), READ);
    fill(code.bytes().get_mut(selftest_events::ENTRY_EVENT as usize..), &selftest_events::entry_code());
    for at in 0..512_usize {
        data.write_entry(at, DATA + 8 * at as u64);
    }
    fill(data.bytes().get_mut(FAR_TO_VMM as usize..), &[0, 0, 0, 0, 0x88, 0xff]);
    let landing = ((LOW + LANDING) as u32).to_le_bytes();
    fill(data.bytes().get_mut(FAR_TO_CODE as usize..), &landing);
    fill(data.bytes().get_mut(FAR_TO_CODE as usize + 4..), &CS32.to_le_bytes());

    let mut kernel_data = OwnedPage::new()?;
    fill(Some(kernel_data.bytes()), &KERNEL_DATA.to_le_bytes());
    let (mut tables, mut kernel) = (Tables::new(&world)?, Tables::new(&world)?);
    // Present, user, accessed, read-only; the data page also writable, dirty.
    for tables in [&mut tables, &mut kernel] {
        tables.map(HIGH, code.phys() | 0x25)?;
        tables.map(KEYED, code.phys() | 0x25 | 1 << 59)?;
        tables.map(LOW, code.phys() | 0x25)?;
        tables.map(DATA, data.phys() | 0x67 | NX)?;
    }
    kernel.map(KERNEL_DATA, kernel_data.phys() | 0x25 | NX)?;
    let vcpu_page = OwnedPage::new()?;
    kernel.map(VCPU, vcpu_page.phys() | 0x67 | NX)?;
    if reserved::bit() != 0 {
        tables.map(MARKED, reserved::bit() | 1)?;
    }
    let mut tss_page = OwnedPage::new()?;
    let (at, pointer) = selftest_events::stack_pointer();
    fill(tss_page.bytes().get_mut(at..), &pointer);
    descriptors(&mut world)?;

    let host = [cpu::sidt().base, CASES.as_ptr().addr() as u64];
    let (vcpu_page, tss_page) = (vcpu_page.phys(), tss_page.phys());
    let place = Place { area: world.area.entry_point(), host, kernel: kernel.root(), vcpu_page, tss_page };
    let mut seen = Seen::default();
    for round in 0..rounds {
        for (i, case) in cases().enumerate() {
            let start = HIGH + (i * CASE) as u64;
            check(&mut world, case, &context(tables.root(), start), &place, round, &mut seen)?;
        }
        if round % 16 == 0 {
            task::cond_resched();
        }
    }
    let mut ctx = context(tables.root(), HIGH + (cases().count() * CASE) as u64);
    let on_the_way = seen.interrupts;
    while seen.interrupts.wrapping_sub(on_the_way) < rounds / 100 {
        let exit = world.enter(&mut ctx, None);
        if !seen.count(exit) {
            pr_err!("selftest: 64-bit loop: {:?} at {:#x}\n", exit, ctx.rip);
            return Err(EIO);
        }
        task::cond_resched();
        if task::must_return() {
            return Err(EINTR);
        }
    }
    pr_info!(
        "selftest: {} 64-bit cases {} times, {} interrupts, {} events right behind a SYSCALL: all as expected\n",
        cases().count(),
        rounds,
        seen.interrupts,
        world.area.control().rolled
    );
    Ok(())
}

/// The descriptors of the cases, and that others are not let through.
fn descriptors(world: &mut World) -> Result {
    const CODE64: u64 = 0x00af_fb00_0000_ffff;
    set(world, CS64 >> 3, CODE64, false)?;
    set(world, CS32 >> 3, 0x00cf_bb00_0000_ffff, true)?;
    world.area.set_long_mode(true);
    if world.area.descriptor(DescriptorTable::Gdt, CS32 >> 3) != 0 {
        pr_err!("selftest: a ring-1 descriptor has come into long mode\n");
        return Err(EINVAL);
    }
    // Rings 0 and 1, a call gate, a TSS.
    for raw in [0x00af_9b00_0000_ffff, 0x00af_bb00_0000_ffff, 0x0000_ec00_0008_0000, 0x0000_e900_0000_0067_u64] {
        set(world, BEYOND >> 3, raw, false)?;
    }
    for (selector, raw) in [
        (CS64, CODE64),
        (CS32, 0x00cf_fb00_0000_ffff),
        (SS, 0x00cf_f300_0000_ffff),
        (BASED, 0x12cf_f334_5000_ffff),
        (ABSENT, 0x00cf_7b00_0000_ffff),
    ] {
        set(world, selector >> 3, raw, true)?;
    }
    Ok(())
}

fn set(world: &mut World, index: u16, raw: u64, want: bool) -> Result {
    if world.area.set_descriptor(DescriptorTable::Gdt, index, raw) == want {
        return Ok(());
    }
    pr_err!("selftest: descriptor {:#x} was {}\n", raw, if want { "refused" } else { "let through" });
    Err(EINVAL)
}

fn fill(place: Option<&mut [u8]>, bytes: &[u8]) {
    for (t, b) in place.into_iter().flatten().zip(bytes) {
        *t = *b;
    }
}

/// What all cases start from.
fn context(cr3: u64, rip: u64) -> GuestContext {
    let mut ctx = GuestContext { cr3, rip, long: 1, ..GuestContext::default() };
    for (i, r) in ctx.gpr.iter_mut().enumerate() {
        *r = 0x1111_1110_0000_0000 | (i as u64) << 4;
    }
    ctx.gpr[RSP] = DATA + 0x800;
    ctx.sel = [0, CS64, SS, 0, 0, 0];
    ctx.fs_base = DATA + 0x100;
    ctx.gs_base = DATA + 0x200;
    ctx
}

/// MSRs of the host that its kernel does not put right by itself.
fn host_msrs() -> [u64; 7] {
    let [star, lstar, cstar, sfmask] = syscall::MSRS;
    let msrs = [cpu::MSR_FS_BASE, cpu::MSR_KERNEL_GS_BASE, cpu::MSR_EFER, star, lstar, cstar, sfmask];
    // SAFETY: every 64-bit CPU has these MSRs.
    msrs.map(|msr| unsafe { cpu::rdmsr(msr) })
}

fn check(world: &mut World, case: &Case, base: &GuestContext, place: &Place, round: u32, seen: &mut Seen) -> Result {
    let msrs = host_msrs();
    let boxed = |state: State| KBox::new(state, GFP_KERNEL);
    let mut before = boxed(State { ctx: *base, events: EventLoan::default() })?;
    (case.entry)(&mut before, place);
    let mut wanted = boxed(*before)?;
    (case.after)(&mut wanted, place);
    let mut ctx = boxed(*before)?;
    loop {
        for selector in before.syscall.sel.into_iter().filter(|s| *s != 0) {
            // What the last turn has left, or an entry that was refused.
            let _refused = world.area.set_descriptor(DescriptorTable::Gdt, selector >> 3, 0);
        }
        *ctx = *before;
        let State { ctx: real, events } = &mut *ctx;
        let exit = world.enter(real, Some(events));
        if seen.count(exit) {
            continue;
        }
        selftest_events::tidy(&mut ctx, &wanted);
        let state = |c: &State| (c.gpr, c.rip, c.sel, c.fs_base, c.gs_base, c.syscall, c.events);
        // Those that SYSCALL may change, where it has been executed.
        let flags = |c: &State| if wanted.gpr[R11] == before.gpr[R11] { 0 } else { c.rflags & 0x4_4dd5 };
        // QEMU without KVM raises #GP where the stack's address is bad.
        let exit_right = exit == case.exit || (case.exit == WorldExit::Exception(12) && exit == GP);
        let right = exit_right
            && state(&ctx) == state(&wanted)
            && flags(&ctx) == flags(&wanted)
            && ctx.error == case.error
            && (exit != PF || ctx.cr2 == wanted.cr2)
            && (exit != WorldExit::Exception(1) || (ctx.dr6 ^ wanted.dr6) & 0xf == 0);
        if !right {
            pr_err!("selftest: 64-bit {} in round {}: {:?}, wanted {:?}\n", case.name, round, exit, case.exit);
            pr_err!("selftest: seen   {:x?} {:x?}\n", ctx.ctx, ctx.events);
            pr_err!("selftest: wanted {:x?} {:x?}, error {:#x}\n", wanted.ctx, wanted.events, case.error);
            return Err(EIO);
        }
        if host_msrs() != msrs {
            pr_err!("selftest: 64-bit {}: the host's MSRs were {:x?}, are {:x?}\n", case.name, msrs, host_msrs());
            return Err(EIO);
        }
        return Ok(());
    }
}
