// SPDX-License-Identifier: GPL-2.0
//! Cases of page faults and int3 that somebody is asked about in the middle of the stay: who is asked here, what it answers, and what comes of that.

use super::case::*;
use super::events;
use super::turn::{lend as lend_turn, ENTRY_AGAIN, ENTRY_READ};
use super::world::{DATA, HIGH, LOW, MARKED};
use crate::switch::layout::PAGE;
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPage, HostPages, WorldExit};
use rvmm_arch::serve::{Behind, Load, Serve, Served, StayFault, StayHost, StayTrap};
use rvmm_arch::{Gfn, Gpa, Pfn};

/// A page that is in nobody's tables until it is asked for.
pub(super) const ASKED: u64 = MARKED + PAGE as u64;
// In the same page table as what is always there.
const _: () = assert!(ASKED >> 21 == LOW >> 21);

/// What a case has answered.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) served: Served,
    /// An exception is met before, which the host's kernel deals with.
    pub(super) faults: bool,
    /// Where the guest goes on behind the first int3, if it does: so many bytes further.
    pub(super) skips: u64,
    /// So it does behind that int3 for the rest of the stay.
    pub(super) lasting: bool,
}

/// What the one who is asked needs.
pub(super) struct Asked<'a> {
    pub(super) answer: Answer,
    /// Puts the page there, in the tables with this root; false: there are none.
    pub(super) map: &'a mut dyn FnMut(u64) -> bool,
    /// The address space of the task, as its own per-CPU data told before the stay.
    pub(super) space: usize,
    /// int3 and page faults that it was asked about.
    pub(super) traps: u32,
    pub(super) faults: u32,
    /// All was as it must be.
    pub(super) right: bool,
}

impl Serve for Asked<'_> {
    fn page_fault(&mut self, _host: &mut dyn StayHost, fault: StayFault) -> Served {
        self.right &= task::current_space() == self.space && fault.cr2 == ASKED;
        if self.answer.faults {
            // In the guest world first, then in the host's.
            self.right &= !task::can_read_nothing();
            self.right &= !task::can_read_nothing() && task::current_space() == self.space;
        }
        if self.answer.served == Served::Resume {
            self.right &= (self.map)(fault.root.0);
        }
        self.faults = self.faults.wrapping_add(1);
        if let Served::Loaded(load) = self.answer.served {
            // Once in a stay.
            self.right &= self.faults == 1 && fault.cs & 3 != 0;
            let next = fault.rip.wrapping_add(LOAD_LENGTH);
            return Served::Loaded(Load { next, ..load });
        }
        self.answer.served
    }

    fn breakpoint(&mut self, _host: &mut dyn StayHost, trap: StayTrap) -> Option<Behind> {
        self.traps = self.traps.wrapping_add(1);
        self.right &= task::current_space() == self.space && trap.cs & 3 != 0 && trap.root.0 != 0;
        if self.answer.faults {
            self.right &= !task::can_read_nothing();
            self.right &= !task::can_read_nothing() && task::current_space() == self.space;
        }
        let rip = trap.rip.wrapping_add(self.answer.skips);
        (self.answer.skips != 0 && self.traps == 1).then_some(Behind { rip, lasting: self.answer.lasting })
    }
}

/// A host of which the one who is asked has no need.
pub(super) struct Nothing(pub(super) KBox<[u8; 4096]>);

impl GuestMemory for Nothing {
    fn backing(&mut self, _gfn: Gfn) -> Result<Backing, HostError> {
        Err(HostError::BadClientMemory)
    }
    fn read_ram(&mut self, _gpa: Gpa, _buf: &mut [u8]) -> Result<bool, HostError> {
        Err(HostError::BadClientMemory)
    }
    fn write_ram(&mut self, _gpa: Gpa, _data: &[u8]) -> Result<bool, HostError> {
        Err(HostError::BadClientMemory)
    }
    fn compare_exchange_ram(&mut self, _gpa: Gpa, _size: u8, _old: u64, _new: u64) -> Result<bool, HostError> {
        Err(HostError::BadClientMemory)
    }
    fn has_memory(&mut self, _first: Gfn, _count: u64) -> bool {
        false
    }
}

impl HostPages for Nothing {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        Err(HostError::NoMemory)
    }
    fn free_page(&mut self, _page: HostPage) {}
    fn pfn(&self, _page: HostPage) -> Pfn {
        Pfn(0)
    }
    fn read_entry(&self, _page: HostPage, _index: usize) -> u64 {
        0
    }
    fn write_entry(&mut self, _page: HostPage, _index: usize, _value: u64) {}
    fn bytes(&mut self, _page: HostPage) -> &mut [u8; 4096] {
        &mut self.0
    }
}

const RESUME: Answer = Answer { served: Served::Resume, ..EXIT };
const EXIT: Answer = Answer { served: Served::Exit, faults: false, skips: 0, lasting: false };
const SKIP: Answer = Answer { skips: 2, ..EXIT };
/// An error code that the hardware does not give here.
const CODE: u32 = U | W | P;
const REFLECT: Answer = Answer { served: Served::Reflect(CODE), ..EXIT };
/// What a load is answered with.
const LOADED: u32 = 0x8765_4321;
const LOAD: Answer = Answer { served: Served::Loaded(Load { register: 0, value: LOADED, next: 0 }), ..EXIT };
/// mov eax, [rbx]; lea edx, [rdx+rax]; lea ecx, [rcx-1]; jrcxz to the int3, or the same again
const LOAD_LOOP: &[u8] = &[0x8b, 0x03, 0x8d, 0x14, 0x02, 0x8d, 0x49, 0xff, 0xe3, 0x02, 0xeb, 0xf4, 0xcc];
/// Bytes of the load.
const LOAD_LENGTH: u64 = 2;
/// int3; two bytes that are jumped over; lea eax, [rax+1]; lea ecx, [rcx-1]; jrcxz to another int3, or the same again
const SKIP_LOOP: &[u8] = &[0xcc, 0x0f, 0x0b, 0x8d, 0x40, 0x01, 0x8d, 0x49, 0xff, 0xe3, 0x02, 0xeb, 0xf3, 0xcc];
/// How often.
const ROUNDS: u64 = 5;

const fn served(
    name: &'static str,
    answer: Answer,
    entry: fn(&mut State, &Place),
    exit: WorldExit,
    error: u32,
    after: fn(&mut State, &Place),
) -> Case {
    Case { name, code: READ_INT3, entry, exit, error, after, answer: Some(answer) }
}

const READ_INT3: &[u8] = &[0x48, 0x8b, 0x03, 0xcc];
/// int3; two bytes that are jumped over; inc eax; int3
const SKIP_INT3: &[u8] = &[0xcc, 0x0f, 0x0b, 0xff, 0xc0, 0xcc];

const fn skips(
    name: &'static str,
    answer: Answer,
    entry: fn(&mut State, &Place),
    after: fn(&mut State, &Place),
) -> Case {
    Case { name, code: SKIP_INT3, entry, exit: INT3, error: 0, after, answer: Some(answer) }
}

fn skipped(c: &mut State, _: &Place) {
    c.gpr[RAX] = u64::from((c.gpr[RAX] as u32).wrapping_add(1));
    c.rip += 6;
}

const fn again(
    name: &'static str,
    code: &'static [u8],
    answer: Answer,
    entry: fn(&mut State, &Place),
    after: fn(&mut State, &Place),
) -> Case {
    Case { name, code, entry, exit: INT3, error: 0, after, answer: Some(answer) }
}

fn loads(c: &mut State, p: &Place) {
    asks(c, p);
    (c.gpr[RCX], c.gpr[RDX]) = (ROUNDS, 0);
}

fn loaded(c: &mut State, _: &Place) {
    (c.gpr[RAX], c.gpr[RCX]) = (LOADED.into(), 0);
    c.gpr[RDX] = u64::from(LOADED.wrapping_mul(ROUNDS as u32));
    c.rip += LOAD_LOOP.len() as u64;
}

fn skipped_again(c: &mut State, _: &Place) {
    c.gpr[RAX] = u64::from((c.gpr[RAX] as u32).wrapping_add(ROUNDS as u32));
    c.gpr[RCX] = 0;
    c.rip += SKIP_LOOP.len() as u64;
}

/// RBX is the page's address.
fn asks(c: &mut State, _: &Place) {
    c.gpr[RBX] = ASKED;
}

/// The same, with events lent.
fn asks_with_events(c: &mut State, p: &Place) {
    asks(c, p);
    events::lend(c, p);
}

fn unserved_event(c: &mut State, p: &Place) {
    events::untaken(c, p);
    cr2_is_rbx(c, p);
}

pub(super) const CASES: &[Case] = &[
    served("a fault served", RESUME, asks, INT3, 0, |c, _| {
        c.gpr[RAX] = DATA;
        c.rip += 4;
    }),
    served("a fault served, events lent", RESUME, asks_with_events, INT3, 0, |c, p| {
        events::untaken(c, p);
        c.gpr[RAX] = DATA;
        c.rip += 4;
    }),
    served(
        "a fault of 32-bit code served",
        RESUME,
        |c, p| {
            asks(c, p);
            low(c, super::world::CS32);
        },
        INT3,
        0,
        // dec eax; mov eax, [rbx]
        |c, _| {
            c.gpr[RAX] = DATA & 0xffff_ffff;
            c.rip += 4;
        },
    ),
    served(
        "a fault of the kernel served",
        RESUME,
        |c, p| {
            lend_turn(c, p);
            asks(c, p);
            c.syscall.rip = HIGH + ENTRY_READ;
            c.rip = HIGH + ENTRY_AGAIN;
        },
        INT3,
        0,
        |c, _| {
            let rflags = real_flags(c);
            (c.gpr[RCX], c.gpr[R11], c.gpr[RAX]) = (c.rip + 2, rflags, DATA);
            c.rip = HIGH + ENTRY_READ + 4;
            (c.sel[1], c.sel[2]) = (super::world::KERNEL_CS, super::world::KERNEL_SS);
            (c.syscall.turns, c.syscall.kernel) = (1, 1);
        },
    ),
    served("a fault not served", EXIT, asks, PF, U, cr2_is_rbx),
    served("a fault of the program's own", REFLECT, asks_with_events, INT3, 0, |c, _| {
        events::taken(c, events::FAULT, 0, (P | U, CODE));
    }),
    served("a fault of its own, no events lent", REFLECT, asks, PF, U, cr2_is_rbx),
    served(
        "a fault of its own, no page faults lent",
        REFLECT,
        |c, p| {
            asks_with_events(c, p);
            c.events.slots[events::FAULT].block = 0;
        },
        PF,
        U,
        unserved_event,
    ),
    served(
        "a fault of its own with AC",
        REFLECT,
        |c, p| {
            asks_with_events(c, p);
            c.rflags = 0x4_0000;
        },
        PF,
        U,
        unserved_event,
    ),
    Case {
        name: "a fault with RPL 3 in a null selector",
        // mov ds, ecx
        code: &[0x8e, 0xd9, 0x48, 0x8b, 0x03, 0xcc],
        entry: |c, p| {
            asks(c, p);
            c.gpr[RCX] = 3;
        },
        exit: PF,
        error: U,
        after: |c, p| {
            c.sel[3] = 3;
            c.rip += 2;
            cr2_is_rbx(c, p);
        },
        answer: Some(RESUME),
    },
    skips("an int3 that goes on elsewhere", SKIP, |_, _| {}, skipped),
    skips("an int3 that goes on elsewhere, events lent", SKIP, events::lend, |c, p| {
        events::untaken(c, p);
        skipped(c, p);
    }),
    skips("an int3 that does not", EXIT, |_, _| {}, |c, _| c.rip += 1),
    skips("an int3 of 32-bit code that goes on elsewhere", SKIP, |c, _| low(c, super::world::CS32), skipped),
    again("a load that is answered, and again", LOAD_LOOP, LOAD, loads, loaded),
    again(
        "a load that is answered, events lent",
        LOAD_LOOP,
        LOAD,
        |c, p| {
            loads(c, p);
            events::lend(c, p);
        },
        |c, p| {
            events::untaken(c, p);
            loaded(c, p);
        },
    ),
    again(
        "a load of 32-bit code that is answered, and again",
        LOAD_LOOP,
        LOAD,
        |c, p| {
            loads(c, p);
            low(c, super::world::CS32);
        },
        loaded,
    ),
    again(
        "an int3 that goes on elsewhere, and again",
        SKIP_LOOP,
        Answer { lasting: true, ..SKIP },
        |c, _| c.gpr[RCX] = ROUNDS,
        skipped_again,
    ),
    again(
        "an int3 of 32-bit code that goes on elsewhere, and again",
        SKIP_LOOP,
        Answer { lasting: true, ..SKIP },
        |c, _| {
            c.gpr[RCX] = ROUNDS;
            low(c, super::world::CS32);
        },
        skipped_again,
    ),
    Case {
        name: "a load that is answered, with an exception",
        code: LOAD_LOOP,
        entry: loads,
        exit: PF,
        error: U,
        after: cr2_is_rbx,
        answer: Some(Answer { faults: true, ..LOAD }),
    },
    skips("an int3 with an exception", Answer { faults: true, ..SKIP }, |_, _| {}, |c, _| c.rip += 1),
    served("a fault served with an exception", Answer { faults: true, ..RESUME }, asks, PF, U, cr2_is_rbx),
    served("a fault not served with an exception", Answer { faults: true, ..EXIT }, asks, PF, U, cr2_is_rbx),
    served(
        "a fault of its own with an exception",
        Answer { faults: true, ..REFLECT },
        asks_with_events,
        PF,
        U,
        unserved_event,
    ),
];
