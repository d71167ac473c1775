// SPDX-License-Identifier: GPL-2.0
//! Turns of 32-bit guests, for kernels in ring 1 and in ring 3: INT n and page faults to the kernel's block, with the words that it finds,
//! and a block's INT back to the program; and what ends the stay instead, or is refused.

use super::{fill, sysenter32, Seen};
use crate::switch::enter::World;
use crate::switch::refused;
use crate::switch::reserved;
use crate::switch::slot::{SLOT_INDEX, TABLE_FLAGS};
use crate::sys::page::OwnedPage;
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::host::{
    DescriptorTable, EventLoan, EventSlot, GuestContext, WorldExit, BLOCK_CALL, BLOCK_EVENT, CALL_ERROR, CALL_VECTOR,
    VCPU_CR2,
};
use rvmm_arch::regs::gpr::{RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};

/// Pages of the guest world: the program's code, the kernel's, the vCPU page (in the kernel's tables only), one whose entry stands for one that
/// the guest has not (in the program's), and data.
const CODE: u64 = 0x1000;
const KERNEL: u64 = 0x2000;
const VCPU: u64 = 0x3000;
const MARKED: u64 = 0x4000;
const DATA: u64 = 0x5000;
/// Each case's code starts at a multiple of this.
const CASE: usize = 16;
/// In the kernel's page: where events lead, with each word of the event to a register of its own ([`WORDS`]), and int3; a block's call; the
/// same where no block is.
const ENTRY_EVENT: u64 = KERNEL;
pub(super) const ENTRY_CALL: u64 = KERNEL + 0x100;
pub(super) const NO_BLOCK: u64 = KERNEL + 0x800;
/// A block's call behind `mov eax, 3; mov gs, eax`, and where in that.
pub(super) const ENTRY_NULL: u64 = KERNEL + 0x140;
pub(super) const NULL_CALL: u64 = 7;
/// The register, and where in the vCPU page it comes from.
const WORDS: [(usize, usize); 7] = [
    (RCX, BLOCK_EVENT),
    (RDX, BLOCK_EVENT + 8),
    (RBX, BLOCK_EVENT + 16),
    (RBP, BLOCK_EVENT + 24),
    (RSI, BLOCK_EVENT + 32),
    (RDI, BLOCK_EVENT + 40),
    (RAX, BLOCK_EVENT + 48),
];
/// Bytes of such a load.
const LOAD: usize = 6;
/// Selectors: code and data of programs, data of a kernel in ring 1, and that of the kernel's CS and SS but for the RPL.
pub(super) const CS: u16 = 0x1b;
pub(super) const SS: u16 = 0x23;
pub(super) const OTHER_CS: u16 = 0x3b;
const DATA1: u16 = 0x11;
const KERNEL_CS: u16 = 0x40;
const KERNEL_SS: u16 = 0x48;
/// In the page of the TSS: ESP0, and SS0 behind it.
const POINTER: usize = 0xff8;
const ESP0: u64 = DATA + 0x8f7;
const SS0: u16 = 0x10;
const HANDLER: u64 = 0xc100_0000;
const OLD_CR2: u64 = 0x1234_5678;
const INT: usize = EventLoan::INTERRUPT;
const FAULT: usize = EventLoan::PAGE_FAULT;
const IDT_80: u32 = 0x402;
/// Error code bits of a page fault: present, user, reserved.
const P: u32 = 1;
const U: u32 = 4;
const RSVD: u32 = 8;
const RF: u64 = 0x1_0000;
/// The stub's vector as it stands in a frame.
const STUB: u64 = 128;

pub(super) const GP: WorldExit = WorldExit::Exception(13);
const PF: WorldExit = WorldExit::Exception(14);
pub(super) const INT3: WorldExit = WorldExit::Exception(3);
pub(super) const TURN: WorldExit = WorldExit::Refused(refused::TURN);

/// What a case starts from, or what it must come to.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) ctx: GuestContext,
    pub(super) events: EventLoan,
    /// RIP, RSP, flags and kind of the call in the vCPU page.
    pub(super) call: [u64; 4],
    ring: u16,
}

pub(super) struct Case {
    name: &'static str,
    code: &'static [u8],
    /// Changes what all cases start from: a program, with everything lent.
    start: fn(&mut State),
    exit: WorldExit,
    error: u32,
    /// Makes of the state before the entry what it must be after it.
    after: fn(&mut State),
}

pub(super) const fn case(
    name: &'static str,
    code: &'static [u8],
    start: fn(&mut State),
    exit: WorldExit,
    error: u32,
    after: fn(&mut State),
) -> Case {
    Case { name, code, start, exit, error, after }
}

const INT_80: &[u8] = &[0xcd, 0x80, 0xcc];
const READ: &[u8] = &[0xa1, 0, 0x40, 0, 0];

pub(super) fn same(_: &mut State) {}

/// INT n that ends the stay.
const fn ends(name: &'static str, start: fn(&mut State)) -> Case {
    case(name, INT_80, start, GP, IDT_80, same)
}

/// A loan that is refused.
const fn is_refused(name: &'static str, start: fn(&mut State)) -> Case {
    case(name, INT_80, start, TURN, 0, same)
}

/// A call that ends the stay: the block's, entered by INT n.
const fn left(name: &'static str, start: fn(&mut State)) -> Case {
    case(name, INT_80, start, GP, CALL_ERROR, |s| {
        s.events.slots[INT].taken = 1;
        s.ctx.syscall.kernel = EventLoan::BY_EVENT + INT as u16;
        kernel(s);
        s.ctx.rip = s.events.slots[INT].block;
    })
}

/// Segments, stack and flags of the kernel behind an event.
pub(super) fn kernel(s: &mut State) {
    (s.ctx.sel[1], s.ctx.sel[2]) = (KERNEL_CS | s.ring, KERNEL_SS | s.ring);
    s.ctx.gpr[RSP] = ESP0;
    s.ctx.rflags &= 0x20_0cd5;
}

/// The event of `slot` was taken, with RIP of the frame behind the instruction by `len`, and this error code of the guest's.
fn taken(s: &mut State, slot: usize, len: u64, error: u32) {
    let flags = s.ctx.rflags | 0x202 | if slot == FAULT { RF } else { 0 };
    let words = [SS.into(), s.ctx.gpr[RSP], flags, CS.into(), s.ctx.rip + len, error.into(), HANDLER];
    for ((register, _), word) in WORDS.into_iter().zip(words) {
        s.ctx.gpr[register] = word;
    }
    s.events.slots[slot].taken = 1;
    s.ctx.syscall.kernel = EventLoan::BY_EVENT + slot as u16;
    kernel(s);
    s.ctx.rip = ENTRY_EVENT + (WORDS.len() * LOAD) as u64 + 1;
}

/// The kernel's block of INT n calls at once.
fn calls(s: &mut State) {
    s.events.slots[INT].block = ENTRY_CALL;
}

/// The call was carried out, and the program has met an int3.
fn went_back(s: &mut State) {
    s.events.slots[INT].taken = 1;
    s.ctx.syscall.returns = 1;
    let [rip, rsp, flags, _] = s.call;
    (s.ctx.rip, s.ctx.gpr[RSP], s.ctx.rflags) = (rip + 1, rsp, flags);
}

const CASES: &[Case] = &[
    case("int 0x80 to its kernel", INT_80, same, INT3, 0, |s| taken(s, INT, 2, IDT_80)),
    case("int 0x80 with flags", INT_80, |s| s.ctx.rflags = 0x20_0cd5, INT3, 0, |s| taken(s, INT, 2, IDT_80)),
    ends("int 0x80 with TF", |s| s.ctx.rflags = 0x100),
    ends("int 0x80 with NT", |s| s.ctx.rflags = 0x4000),
    ends("int 0x80 with AC", |s| s.ctx.rflags = 0x4_0000),
    ends("int 0x80, another vector lent", |s| s.events.vector = 0x81),
    ends("int 0x80, page faults lent", |s| s.events.slots[INT].block = 0),
    ends("int 0x80, another SS0", |s| s.events.slots[INT].stack_segment = u64::from(SS0) + 8),
    case("int 0x80 with a prefix", &[0x66, 0xcd, 0x80], same, GP, IDT_80, same),
    case("int 0x0f of a program", &[0xcd, CALL_VECTOR], same, GP, CALL_ERROR, same),
    case("int 0x80 and back", INT_80, calls, INT3, 0, went_back),
    case(
        "back with flags",
        INT_80,
        |s| {
            calls(s);
            s.call[2] = 0x21_0ed5;
        },
        INT3,
        0,
        |s| {
            went_back(s);
            s.ctx.rflags |= 2;
        },
    ),
    case(
        "back with upper halves",
        INT_80,
        |s| {
            calls(s);
            s.call = s.call.map(|word| word | 0x5555_5555 << 32);
        },
        INT3,
        0,
        |s| {
            s.call = s.call.map(|word| word & 0xffff_ffff);
            went_back(s);
        },
    ),
    case(
        "back with the kernel's data segments",
        INT_80,
        |s| {
            calls(s);
            (s.ctx.sel[0], s.ctx.sel[3]) = (DATA1, DATA1);
        },
        INT3,
        0,
        |s| {
            went_back(s);
            // Of DPL 1.
            (s.ctx.sel[0], s.ctx.sel[3]) = (0, 0);
        },
    ),
    case(
        "back, a lent selector elsewhere",
        INT_80,
        |s| {
            calls(s);
            // Good for one load, and the CPU has it still; the call is refused for that only.
            (s.ctx.disarm, s.ctx.sel[4]) = (4, 0x33);
        },
        GP,
        CALL_ERROR,
        |s| {
            s.events.slots[INT].taken = 1;
            s.ctx.syscall.kernel = EventLoan::BY_EVENT + INT as u16;
            kernel(s);
            s.ctx.rip = ENTRY_CALL;
        },
    ),
    left("a call where no block is", |s| s.events.slots[INT].block = NO_BLOCK),
    left("a call without IF", |s| {
        calls(s);
        s.call[2] = 2;
    }),
    left("a call with TF", |s| {
        calls(s);
        s.call[2] |= 0x100;
    }),
    left("a call with IOPL", |s| {
        calls(s);
        s.call[2] |= 0x1000;
    }),
    left("a call with NT", |s| {
        calls(s);
        s.call[2] |= 0x4000;
    }),
    left("a call with VM", |s| {
        calls(s);
        s.call[2] |= 0x2_0000;
    }),
    left("a call with AC", |s| {
        calls(s);
        s.call[2] |= 0x4_0000;
    }),
    left("a call of another kind", |s| {
        calls(s);
        s.call[3] = 1;
    }),
    is_refused("events without the way back", |s| s.ctx.syscall.back = 0),
    is_refused("a turn to a place of SYSCALL's", |s| s.ctx.syscall.rip = 0x1000),
    is_refused("a stack pointer across pages", |s| s.events.slots[INT].stack = 4089),
    is_refused("no page of a TSS", |s| s.events.tss_page = 0),
    is_refused("an event to 64-bit code", |s| {
        s.events.slots[INT].code = s.events.slots[INT].code & !(1 << 54) | 1 << 53;
    }),
    is_refused("an event to ring 0", |s| s.events.slots[INT].code &= !(3 << 45)),
    is_refused("an event to code that is not present", |s| s.events.slots[INT].code &= !(1 << 47)),
    is_refused("a block above 4 GiB", |s| s.events.slots[INT].block = 1 << 32),
    is_refused("a kernel in ring 2", |s| s.ctx.syscall.sel = [KERNEL_CS | 2, KERNEL_SS | 2]),
    is_refused("a kernel in two rings", |s| s.ctx.syscall.sel[1] ^= 2),
    is_refused("a kernel's stack of ring 0", |s| s.ctx.syscall.descriptors[1] &= !(3 << 45)),
    is_refused("a program in ring 1", |s| s.ctx.syscall.program_sel = [CS & !2, SS & !2]),
    is_refused("a program on the kernel's CS", |s| s.ctx.syscall.program_sel[0] = KERNEL_CS | 3),
    is_refused("a program without a CS", |s| s.ctx.syscall.program_sel[0] = 0x53),
];

/// Where the CPU tells of reserved bits.
const MARKED_CASES: &[Case] = &[
    case("a read of a marked page", READ, same, INT3, 0, |s| {
        taken(s, FAULT, 0, U);
        s.events.cr2 = MARKED;
    }),
    case("a marked page, not lent", READ, |s| s.events.slots[FAULT].block = 0, PF, RSVD | P | U, same),
    case("a marked page with AC", READ, |s| s.ctx.rflags = 0x4_0000, PF, RSVD | P | U, same),
];

/// Page tables for addresses below 2 MiB.
struct Tables(KVec<OwnedPage>);

impl Tables {
    fn new(world: &World) -> Result<Self> {
        let mut pages = KVec::new();
        for _ in 0..world.area.slot().levels() {
            pages.push(OwnedPage::new()?, GFP_KERNEL)?;
        }
        for pair in pages.windows(2) {
            if let [upper, lower] = pair {
                upper.write_entry(0, lower.phys() | TABLE_FLAGS | 4);
            }
        }
        if let Some(top) = pages.first() {
            top.write_entry(usize::from(SLOT_INDEX), world.area.guest_entry());
        }
        Ok(Self(pages))
    }

    fn map(&self, at: u64, entry: u64) {
        if let Some(last) = self.0.last() {
            last.write_entry((at >> 12) as usize, entry);
        }
    }

    fn root(&self) -> u64 {
        self.0.first().map_or(0, OwnedPage::phys)
    }
}

/// The pages, as long as the tables are.
struct Pages {
    program: Tables,
    kernel: Tables,
    vcpu: OwnedPage,
    tss: OwnedPage,
    _mapped: [OwnedPage; 3],
}

impl Pages {
    fn new(world: &World) -> Result<Self> {
        let (mut code, mut kernel_code, data) = (OwnedPage::new()?, OwnedPage::new()?, OwnedPage::new()?);
        for (place, case) in code.bytes().chunks_mut(CASE).zip(cases()) {
            fill(Some(place), case.code);
        }
        let bytes = kernel_code.bytes();
        let offset = |at: u64| (at - KERNEL) as usize;
        for ((register, from), at) in WORDS.into_iter().zip((offset(ENTRY_EVENT)..).step_by(LOAD)) {
            let [a, b, c, d] = (VCPU as u32).wrapping_add(from as u32).to_le_bytes();
            // mov register, [VCPU + from]
            fill(bytes.get_mut(at..), &[0x8b, 0x05 | (register as u8) << 3, a, b, c, d]);
        }
        fill(bytes.get_mut(offset(ENTRY_EVENT) + WORDS.len() * LOAD..), &[0xcc]);
        for at in [ENTRY_CALL, NO_BLOCK] {
            fill(bytes.get_mut(offset(at)..), &[0xcd, CALL_VECTOR]);
        }
        fill(bytes.get_mut(offset(ENTRY_NULL)..), &[0xb8, 3, 0, 0, 0, 0x8e, 0xe8, 0xcd, CALL_VECTOR]);
        let (vcpu, mut tss) = (OwnedPage::new()?, OwnedPage::new()?);
        let stack = ESP0 | u64::from(SS0) << 32 | 0xabcd << 48;
        fill(tss.bytes().get_mut(POINTER..), &stack.to_le_bytes());
        let (program, kernel) = (Tables::new(world)?, Tables::new(world)?);
        // Present, user, accessed, read-only; data writable and dirty.
        for tables in [&program, &kernel] {
            tables.map(DATA, data.phys() | 0x67);
        }
        program.map(CODE, code.phys() | 0x25);
        kernel.map(KERNEL, kernel_code.phys() | 0x25);
        kernel.map(VCPU, vcpu.phys() | 0x67);
        if reserved::bit() != 0 {
            program.map(MARKED, reserved::bit() | 1);
        }
        Ok(Self { program, kernel, vcpu, tss, _mapped: [code, kernel_code, data] })
    }

    /// What all cases of a kernel in `ring` start from.
    fn start(&self, state: &mut State, rip: u64, ring: u16) {
        let ctx = &mut state.ctx;
        *ctx = GuestContext { cr3: self.program.root(), rip, ..GuestContext::default() };
        for (i, r) in ctx.gpr.iter_mut().enumerate() {
            *r = 0x1110_0000_u64.wrapping_add(i as u64);
        }
        ctx.gpr[RSP] = DATA + 0x800;
        ctx.sel = [SS, CS, SS, SS, 0, 0];
        let descriptors = [0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff].map(|raw: u64| raw | u64::from(ring) << 45);
        let loan = &mut ctx.syscall;
        (loan.on, loan.back, loan.descriptors) = (1, 1, descriptors);
        (loan.sel, loan.cr3) = ([KERNEL_CS | ring, KERNEL_SS | ring], self.kernel.root());
        (loan.program_sel, loan.program_cr3) = ([CS, SS], self.program.root());
        (loan.blocks, loan.vcpu_page) = ([ENTRY_CALL, 0x100], self.vcpu.phys());
        let [code, _] = descriptors;
        let slot = EventSlot {
            block: ENTRY_EVENT,
            handler: HANDLER,
            stack: POINTER as u64,
            stack_segment: SS0.into(),
            code,
            words: [1, 2, 3, 4],
            taken: 0,
        };
        state.events = EventLoan {
            slots: [slot, slot, EventSlot::default()],
            tss_page: self.tss.phys(),
            error_bits: 6,
            vector: 0x80,
            cr2: OLD_CR2,
            ..EventLoan::default()
        };
        (state.call, state.ring) = ([rip + 2, DATA + 0x700, 0x20_0ad7, 2], ring);
    }
}

// The states are large for the host's stack.
#[inline(never)]
fn blank() -> Result<KBox<State>> {
    let (ctx, events) = (GuestContext::default(), EventLoan::default());
    Ok(KBox::new(State { ctx, events, call: [0; 4], ring: 1 }, GFP_KERNEL)?)
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let marked: &[Case] = if reserved::bit() != 0 { MARKED_CASES } else { &[] };
    [CASES, sysenter32::CASES, marked].into_iter().flatten()
}

/// Runs all cases `rounds` times.
#[inline(never)]
pub(super) fn run(mut world: World, rounds: u32) -> Result {
    for (index, raw) in [
        (CS >> 3, 0x00cf_fb00_0000_ffff),
        (SS >> 3, 0x00cf_f300_0000_ffff),
        (DATA1 >> 3, 0x00cf_b300_0000_ffff),
        (6, 0x00cf_f300_0000_ffff_u64),
        (OTHER_CS >> 3, 0x00cf_fb00_0000_ffff),
    ] {
        if !world.area.set_descriptor(DescriptorTable::Gdt, index, raw) {
            return Err(EINVAL);
        }
    }
    let mut pages = Pages::new(&world)?;
    let mut bench = [blank()?, blank()?, blank()?];
    let mut seen = Seen::default();
    for round in 0..rounds {
        for ring in [1, 3] {
            for (number, case) in cases().enumerate() {
                let rip = CODE.wrapping_add(number.wrapping_mul(CASE) as u64);
                if !check(&mut world, &mut pages, &mut bench, (case, rip, ring), &mut seen) {
                    pr_err!("selftest: 32-bit {} in round {} for ring {}\n", case.name, round, ring);
                    return Err(EIO);
                }
            }
        }
        if round % 16 == 0 {
            task::cond_resched();
        }
    }
    let n = cases().count();
    pr_info!(
        "selftest: {} cases of 32-bit turns {} times, {} interrupts: all as expected\n",
        n,
        rounds,
        seen.interrupts
    );
    Ok(())
}

/// One case.
#[inline(never)]
fn check(
    world: &mut World,
    pages: &mut Pages,
    bench: &mut [KBox<State>; 3],
    (case, rip, ring): (&Case, u64, u16),
    seen: &mut Seen,
) -> bool {
    let [before, wanted, now] = bench;
    pages.start(before, rip, ring);
    (case.start)(before);
    **wanted = **before;
    (case.after)(wanted);
    let exit = loop {
        for selector in [KERNEL_CS, KERNEL_SS] {
            // What the last turn has left.
            let _refused = world.area.set_descriptor(DescriptorTable::Gdt, selector >> 3, 0);
        }
        let _set = world.area.set_descriptor(DescriptorTable::Gdt, 6, 0x00cf_f300_0000_ffff);
        let page = pages.vcpu.bytes();
        let [rip, rsp, flags, kind] = before.call;
        for (word, value) in [(0, rip), (1, rsp), (5, flags), (6, kind)] {
            fill(page.get_mut(BLOCK_CALL + 8 * word..), &value.to_le_bytes());
        }
        **now = **before;
        let State { ctx, events, .. } = &mut **now;
        let exit = world.enter(ctx, Some(events), None);
        if !seen.count(exit) {
            break exit;
        }
    };
    // P is clear in QEMU without KVM where a reserved bit is met.
    let error = if exit == PF && now.ctx.error & RSVD != 0 { now.ctx.error | P } else { now.ctx.error };
    let flags = 0x20_0cd5;
    let cr2 = pages.vcpu.bytes().get(VCPU_CR2..).and_then(|bytes| bytes.first_chunk()).copied();
    let in_page = now.events.slots[FAULT].taken == 0 || cr2.map(u64::from_le_bytes) == Some(MARKED);
    let frame = now.events.frame;
    // SYSENTER keeps no frame.
    let any_taken = [INT, FAULT].iter().any(|slot| now.events.slots[*slot].taken != 0);
    let vector: u64 = if now.events.slots[FAULT].taken != 0 { 14 } else { 13 };
    let kept = !any_taken
        || (frame.vector, frame.rip, frame.rsp, frame.cs, frame.ss)
            == (vector.wrapping_sub(STUB), before.ctx.rip, before.ctx.gpr[RSP], CS.into(), SS.into());
    let right = exit == case.exit
        && now.ctx.gpr.iter().zip(&wanted.ctx.gpr).take(8).all(|(a, b)| a == b)
        && now.ctx.rip == wanted.ctx.rip
        && now.ctx.sel == wanted.ctx.sel
        && now.ctx.syscall == wanted.ctx.syscall
        && now.events.slots == wanted.events.slots
        && now.events.cr2 == wanted.events.cr2
        && (!matches!(exit, WorldExit::Exception(_)) || (now.ctx.rflags ^ wanted.ctx.rflags) & flags == 0)
        && error == case.error
        && in_page
        && kept;
    if !right {
        pr_err!("selftest: {:?}, wanted {:?}, error {:#x}\n", exit, case.exit, case.error);
        pr_err!("selftest: seen   {:x?} {:x?}\n", now.ctx, now.events);
        pr_err!("selftest: wanted {:x?} {:x?}\n", wanted.ctx, wanted.events);
    }
    right
}
