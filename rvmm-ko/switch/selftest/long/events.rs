// SPDX-License-Identifier: GPL-2.0
//! Cases of events of programs: those that are taken to their kernel's block, with the words it finds, and those that end the stay as
//! ever.

use super::back::{lend_back, went_back, ENTRY_CALL};
use super::case::*;
use super::world::*;
use crate::switch::refused;
use crate::switch::selftest::fill;
use rvmm_arch::host::{EventFrame, EventLoan, EventSlot, WorldExit, BLOCK_EVENT, VCPU_CR2};

/// In the code page, where events lead: each word of the event to a register of its own ([`WORDS`]), and int3.
pub(super) const ENTRY_EVENT: u64 = 0xb80;
/// The register, and where in the vCPU page it comes from.
const WORDS: [(usize, usize); 9] = [
    (RCX, BLOCK_EVENT),
    (RDX, BLOCK_EVENT + 8),
    (R8, BLOCK_EVENT + 16),
    (R9, BLOCK_EVENT + 24),
    (R10, BLOCK_EVENT + 32),
    (R11, BLOCK_EVENT + 40),
    (RSI, BLOCK_EVENT + 48),
    (RDI, 8),
    (RBP, VCPU_CR2),
];
/// The guest's handler, which nobody gets to here, and where its stack is.
const HANDLER: u64 = 0xffff_ffff_9000_0000;
const STACK: u64 = DATA + 0x8f7;
/// Where the stack pointer is on the page of the TSS.
const POINTER: usize = 0xffc - 4 * 8;
/// CR2 of the guest before, and in the vCPU page.
const OLD_CR2: u64 = 0x1234_5678;
const INT: usize = EventLoan::INTERRUPT;
pub(super) const FAULT: usize = EventLoan::PAGE_FAULT;
const RF: u64 = 0x1_0000;

/// Fills in what is in the code page where events lead.
pub(super) fn entry(code: &mut [u8]) {
    let mut at = ENTRY_EVENT as usize;
    for (register, offset) in WORDS {
        fill(code.get_mut(at..), &mov(LOAD, register, VCPU.wrapping_add(offset as u64)));
        at = at.wrapping_add(8);
    }
    fill(code.get_mut(at..), &[0xcc]);
}

/// What the page of the TSS holds, and where.
pub(super) const fn stack_pointer() -> (usize, [u8; 8]) {
    (POINTER, STACK.to_le_bytes())
}

/// Both events are lent, with turns both ways.
pub(super) fn lend(c: &mut State, p: &Place) {
    let (rbx, rsi) = (c.gpr[RBX], c.gpr[RSI]);
    lend_back(c, p);
    (c.gpr[RBX], c.gpr[RSI]) = (rbx, rsi);
    let slot = EventSlot {
        block: HIGH + ENTRY_EVENT,
        handler: HANDLER,
        stack: POINTER as u64,
        stack_segment: 0,
        code: KERNEL[0],
        words: [1, 2, 3, 4],
        taken: 0,
    };
    c.events = EventLoan {
        slots: [slot, slot, EventSlot::default()],
        tss_page: p.tss_page,
        error_bits: W | U,
        vector: 0x80,
        flat_code: CS32,
        cr2: OLD_CR2,
        ..EventLoan::default()
    };
}

/// The event of `slot` was taken at the case's first instruction, behind which the frame's RIP is by `len`; with this error code of the
/// hardware, and that of the guest. (An INT n has no error code; the word that no block pushes is the hardware's.)
pub(super) fn taken(c: &mut State, slot: usize, len: u64, (hardware, guest): (u32, u32)) {
    let flags = c.rflags | 0x202;
    c.events.slots[slot].taken = 1;
    c.events.cr2_before = OLD_CR2;
    let vector: u64 = if slot == INT { 13 } else { 14 };
    c.events.cr2 = if slot == INT { OLD_CR2 } else { c.gpr[RBX] };
    c.events.frame = EventFrame {
        vector: vector.wrapping_sub(128),
        error: hardware.into(),
        rip: c.rip,
        cs: c.sel[1].into(),
        rflags: flags,
        rsp: c.gpr[RSP],
        ss: SS.into(),
    };
    c.syscall.kernel = EventLoan::BY_EVENT + slot as u16;
    let pushed = if slot == INT { flags } else { flags | RF };
    let words = [SS.into(), c.gpr[RSP], pushed, c.sel[1].into(), c.rip + len, guest.into(), HANDLER, 2, c.events.cr2];
    for ((register, _), word) in WORDS.into_iter().zip(words) {
        c.gpr[register] = word;
    }
    if slot == INT {
        // Whatever the page has had there.
        c.gpr[RBP] = IGNORED;
    }
    c.gpr[RSP] = STACK & !15;
    c.rflags &= 0x20_0cd5;
    c.rip = HIGH + ENTRY_EVENT + 8 * WORDS.len() as u64 + 1;
    (c.sel[1], c.sel[2]) = (KERNEL_CS, KERNEL_SS);
}

/// A register that is not compared.
const IGNORED: u64 = 0x0bad_c0de_dead_beef;

/// What is not compared is taken out of what was seen: RF in the frame of a #GP and P in an error code, as emulators have them or not.
pub(super) fn tidy(seen: &mut State, wanted: &State) {
    seen.events.frame.rflags &= !RF;
    if seen.events.frame.vector == 14_u64.wrapping_sub(128) {
        seen.events.frame.error |= u64::from(P);
    }
    if seen.vector == 14 && seen.error & RSVD != 0 {
        seen.error |= P;
    }
    for (register, wanted) in seen.gpr.iter_mut().zip(wanted.gpr) {
        if wanted == IGNORED {
            *register = IGNORED;
        }
    }
}

const INT_80: &[u8] = &[0xcd, 0x80];
const INT_81: &[u8] = &[0xcd, 0x81];
const INT_80_LONG: &[u8] = &[0x48, 0xcd, 0x80];
/// The error code of such a #GP.
const IDT_80: u32 = 0x402;
/// The error code of a page fault at a marked entry, without the kind of access.
const RSVD: u32 = 8;

/// INT n with a loan that differs in one thing.
macro_rules! but {
    ($name:literal, $change:expr, $exit:expr, $error:expr, $after:expr) => {
        case(
            $name,
            INT_80,
            |c, p| {
                lend(c, p);
                let change: fn(&mut State) = $change;
                change(c);
            },
            $exit,
            $error,
            $after,
        )
    };
}

/// That ends the stay.
macro_rules! ends {
    ($name:literal, $change:expr) => {
        but!($name, $change, GP, IDT_80, untaken)
    };
}

/// A loan that is refused.
macro_rules! refused {
    ($name:literal, $change:expr) => {
        but!($name, $change, WorldExit::Refused(refused::TURN), 0, same)
    };
}

/// Nothing was taken.
pub(super) fn untaken(c: &mut State, _: &Place) {
    c.events.cr2_before = c.events.cr2;
    c.events.frame = EventFrame::default();
}

/// INT n.
pub(super) const CASES: &[Case] = &[
    case("int 0x80 to its kernel", INT_80, lend, INT3, 0, |c, _| taken(c, INT, 2, (IDT_80, IDT_80))),
    case(
        "int 0x80 with flags",
        INT_80,
        |c, p| {
            lend(c, p);
            c.rflags = 0x20_0cd5;
        },
        INT3,
        0,
        |c, _| taken(c, INT, 2, (IDT_80, IDT_80)),
    ),
    case(
        "int 0x80 of 32-bit code",
        INT_80,
        |c, p| {
            lend(c, p);
            low(c, CS32);
        },
        INT3,
        0,
        |c, _| taken(c, INT, 2, (IDT_80, IDT_80)),
    ),
    case(
        "int 0x80 and back",
        &[0xcd, 0x80, 0xcc],
        |c, p| {
            lend_back(c, p);
            let call = (c.gpr[RBX], c.gpr[RSI]);
            lend(c, p);
            (c.gpr[RBX], c.gpr[RSI]) = call;
            c.events.slots[INT].block = HIGH + ENTRY_CALL;
        },
        INT3,
        0,
        |c, p| {
            let before = *c;
            taken(c, INT, 2, (IDT_80, IDT_80));
            let events = c.events;
            *c = before;
            went_back(c, p);
            c.rip += 1;
            (c.events, c.syscall.turns) = (events, 0);
        },
    ),
    ends!("int 0x80 with TF", |c| {
        c.rflags = 0x100;
    }),
    ends!("int 0x80 with NT", |c| c.rflags = 0x4000),
    ends!("int 0x80 with AC", |c| c.rflags = 0x4_0000),
    ends!("int 0x80, another vector lent", |c| c.events.vector = 0x81),
    ends!("int 0x80, page faults lent", |c| c.events.slots[INT].block = 0),
    ends!("int 0x80 of other 32-bit code", |c| {
        low(c, CS32);
        c.events.flat_code = 0;
    }),
    case("int 0x81, 0x80 lent", INT_81, lend, GP, 0x40a, untaken),
    case("int 0x80 with a prefix", INT_80_LONG, lend, GP, IDT_80, untaken),
    refused!("events without the way back", |c| c.syscall.back = 0),
    refused!("a stack pointer across pages", |c| c.events.slots[INT].stack = 4089),
    refused!("no page of a TSS", |c| c.events.tss_page = 0),
    refused!("a page of a TSS that is none", |c| c.events.tss_page |= 8),
    refused!("an event to 32-bit code", |c| c.events.slots[INT].code = 0x00cf_fb00_0000_ffff),
    refused!("an event to code that is not present", |c| c.events.slots[INT].code &= !(1 << 47)),
    refused!("an event to ring 0", |c| c.events.slots[INT].code &= !(3 << 45)),
    refused!("a block that is not canonical", |c| c.events.slots[INT].block = 1 << 63),
    case(
        "a fault with nothing to mark it",
        READ,
        |c, p| {
            c.gpr[RBX] = MARKED + 0x1000;
            lend(c, p);
        },
        PF,
        U,
        |c, p| {
            untaken(c, p);
            cr2_is_rbx(c, p);
        },
    ),
    case(
        "a fault of rights",
        WRITE,
        |c, p| {
            c.gpr[RBX] = HIGH;
            lend(c, p);
        },
        PF,
        P | W | U,
        |c, p| {
            untaken(c, p);
            cr2_is_rbx(c, p);
        },
    ),
];

/// Where the CPU tells of reserved bits.
pub(super) const MARKED_CASES: &[Case] = &[
    case("a read of a marked page", READ, marked, INT3, 0, |c, _| taken(c, FAULT, 0, (RSVD | P | U, U))),
    case("a write to a marked page", WRITE, marked, INT3, 0, |c, _| taken(c, FAULT, 0, (RSVD | P | U | W, U | W))),
    case(
        "a read by 32-bit code",
        // mov eax, [ebx]; inc eax
        &[0x8b, 0x03, 0x40],
        |c, p| {
            marked(c, p);
            low(c, CS32);
        },
        INT3,
        0,
        |c, _| taken(c, FAULT, 0, (RSVD | P | U, U)),
    ),
    case(
        "a marked page, and no page faults lent",
        READ,
        |c, p| {
            marked(c, p);
            c.events.slots[FAULT].block = 0;
        },
        PF,
        RSVD | P | U,
        |c, p| {
            untaken(c, p);
            cr2_is_rbx(c, p);
        },
    ),
    case(
        "a marked page with AC",
        READ,
        |c, p| {
            marked(c, p);
            c.rflags = 0x4_0000;
        },
        PF,
        RSVD | P | U,
        |c, p| {
            untaken(c, p);
            cr2_is_rbx(c, p);
        },
    ),
    // The fetch is at another RIP than the case's: it is in CR2, and in the frame.
    case("a jump to a marked page", JUMP, marked, INT3, 0, |c, _| {
        c.rip = MARKED;
        taken(c, FAULT, 0, (RSVD | P | U | 0x10, U));
    }),
];

fn marked(c: &mut State, p: &Place) {
    c.gpr[RBX] = MARKED;
    lend(c, p);
}

// 32-bit code gets at both.
const _: () = assert!(LOW >> 32 == 0 && MARKED >> 31 == 0);
