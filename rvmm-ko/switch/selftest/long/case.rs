// SPDX-License-Identifier: GPL-2.0
//! What a case of the 64-bit part is: the code it runs, what it starts from and what it must come to; and the words that all tables of
//! cases are written in.

use super::served::Answer;
use super::world::{CS64, DATA, HIGH, LOW, SS};
use crate::switch::layout::{CONTROL_PAGE, PAGE};
use core::ops::{Deref, DerefMut};
use rvmm_arch::host::{EventLoan, GuestContext, WorldExit};
pub(super) use rvmm_arch::regs::gpr::*;

/// Numbers of the GPRs that only 64-bit code has.
pub(super) const R8: usize = 8;
pub(super) const R9: usize = 9;
pub(super) const R10: usize = 10;
pub(super) const R11: usize = 11;

/// Error code bits of a page fault: present, write, user, fetch, protection key.
pub(super) const P: u32 = 1;
pub(super) const W: u32 = 2;
pub(super) const U: u32 = 4;
pub(super) const FETCH: u32 = 0x10;
pub(super) const KEY: u32 = 0x20;

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
    pub(super) area: u64,
    /// Pages of the host that may be in the TLB as global ones.
    pub(super) host: [u64; 2],
    /// The guest kernel's root.
    pub(super) kernel: u64,
    /// The vCPU page.
    pub(super) vcpu_page: u64,
    /// The page with the stack pointers of the guest's TSS.
    pub(super) tss_page: u64,
}

/// One kind of entry and exit.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) code: &'static [u8],
    /// Changes the context that all cases start from.
    pub(super) entry: fn(&mut State, &Place),
    pub(super) exit: WorldExit,
    pub(super) error: u32,
    /// Makes of the context before the entry what it must be after it.
    pub(super) after: fn(&mut State, &Place),
    /// What is said of page faults in the middle of the stay, if somebody is asked.
    pub(super) answer: Option<Answer>,
}

pub(super) const INT3: WorldExit = WorldExit::Exception(3);
pub(super) const GP: WorldExit = WorldExit::Exception(13);
pub(super) const PF: WorldExit = WorldExit::Exception(14);
pub(super) const UD: WorldExit = WorldExit::Exception(6);

pub(super) const SYSCALL: &[u8] = &[0x0f, 0x05];
pub(super) const SYSENTER: &[u8] = &[0x0f, 0x34];
pub(super) const READ: &[u8] = &[0x48, 0x8b, 0x03];
pub(super) const WRITE: &[u8] = &[0x48, 0x89, 0x03];
pub(super) const JUMP: &[u8] = &[0xff, 0xe3];

pub(super) const fn case(
    name: &'static str,
    code: &'static [u8],
    entry: fn(&mut State, &Place),
    exit: WorldExit,
    error: u32,
    after: fn(&mut State, &Place),
) -> Case {
    Case { name, code, entry, exit, error, after, answer: None }
}

/// What all cases start from.
pub(super) fn context(cr3: u64, rip: u64) -> GuestContext {
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
pub(super) use rbx;

/// RIP goes on by so many bytes.
macro_rules! forward {
    ($n:literal) => {
        |c, _| c.rip = c.rip.wrapping_add($n)
    };
}
pub(super) use forward;

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

pub(super) fn control_page(p: &Place) -> u64 {
    p.area + (CONTROL_PAGE * PAGE) as u64
}

/// The flags of a context as they really are.
pub(super) fn real_flags(c: &State) -> u64 {
    c.rflags | 0x202
}
