// SPDX-License-Identifier: GPL-2.0
//! Runs one case and compares what it came to.

use super::case::*;
use super::events;
use super::served::{Asked, Nothing};
use super::world::Pages;
use crate::switch::enter::World;
use crate::switch::selftest::Seen;
use crate::switch::serve::Server;
use crate::switch::{cpu, syscall};
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::host::{DescriptorTable, EventLoan, GuestContext, WorldExit};

/// A world to run cases in. The states are large for the host's stack, so they are here.
pub(super) struct Bench<'a> {
    world: &'a mut World,
    pages: &'a Pages,
    place: Place,
    before: KBox<State>,
    wanted: KBox<State>,
    now: KBox<State>,
    nothing: Nothing,
    seen: Seen,
}

impl<'a> Bench<'a> {
    pub(super) fn new(world: &'a mut World, pages: &'a Pages) -> Result<Self> {
        let place = pages.place(world);
        let (before, wanted, now) = (blank()?, blank()?, blank()?);
        Ok(Self {
            world,
            pages,
            place,
            before,
            wanted,
            now,
            nothing: Nothing(KBox::new([0; 4096], GFP_KERNEL)?),
            seen: Seen::default(),
        })
    }

    /// Runs a case whose code is at `start`.
    pub(super) fn check(&mut self, case: &Case, start: u64, round: u32) -> Result {
        let msrs = host_msrs();
        self.before.ctx = self.pages.context(start);
        self.before.events = EventLoan::default();
        (case.entry)(&mut self.before, &self.place);
        *self.wanted = *self.before;
        (case.after)(&mut self.wanted, &self.place);
        let exit = self.enter(case)?;
        events::tidy(&mut self.now, &self.wanted);
        if !(exit_is_right(case, exit) && self.is_right(case, exit)) {
            let (now, wanted) = (&self.now, &self.wanted);
            pr_err!("selftest: 64-bit {} in round {}: {:?}, wanted {:?}\n", case.name, round, exit, case.exit);
            pr_err!("selftest: seen   {:x?} {:x?}\n", now.ctx, now.events);
            pr_err!("selftest: wanted {:x?} {:x?}, error {:#x}\n", wanted.ctx, wanted.events, case.error);
            return Err(EIO);
        }
        if host_msrs() != msrs {
            pr_err!("selftest: 64-bit {}: the host's MSRs were {:x?}, are {:x?}\n", case.name, msrs, host_msrs());
            return Err(EIO);
        }
        Ok(())
    }

    /// Enters with the state before the case, until the exit is none of the host's.
    fn enter(&mut self, case: &Case) -> Result<WorldExit> {
        loop {
            for selector in self.before.syscall.sel.into_iter().filter(|s| *s != 0) {
                // What the last turn has left, or an entry that was refused.
                let _refused = self.world.area.set_descriptor(DescriptorTable::Gdt, selector >> 3, 0);
            }
            *self.now = *self.before;
            let State { ctx, events } = &mut *self.now;
            let exit = match case.answer {
                None => self.world.enter(ctx, Some(events), None),
                Some(answer) => {
                    self.pages.forget_asked();
                    let mut map = |root| self.pages.map_asked(root);
                    let mut asked =
                        Asked { answer, map: &mut map, space: task::current_space(), traps: 0, faults: 0, right: true };
                    let exit =
                        self.world.enter(ctx, Some(events), Some(&mut Server::new(&mut asked, &mut self.nothing)));
                    if !asked.right {
                        pr_err!("selftest: 64-bit {}: not what must be in the middle of a stay\n", case.name);
                        return Err(EIO);
                    }
                    exit
                }
            };
            if !self.seen.count(exit) {
                return Ok(exit);
            }
        }
    }

    /// The state after the exit is what it must be. Field by field, as tuples of them would be copies on the stack.
    fn is_right(&self, case: &Case, exit: WorldExit) -> bool {
        let (now, wanted) = (&*self.now, &*self.wanted);
        // Those that SYSCALL may change, where it has been executed.
        let flags = if wanted.gpr[R11] == self.before.gpr[R11] { 0 } else { 0x4_4dd5 };
        now.gpr == wanted.gpr
            && now.rip == wanted.rip
            && now.sel == wanted.sel
            && now.fs_base == wanted.fs_base
            && now.gs_base == wanted.gs_base
            && now.syscall == wanted.syscall
            && now.events == wanted.events
            && (now.rflags ^ wanted.rflags) & flags == 0
            && now.error == case.error
            && (exit != PF || now.cr2 == wanted.cr2)
            && (exit != WorldExit::Exception(1) || (now.dr6 ^ wanted.dr6) & 0xf == 0)
    }

    /// Runs the endless loop at `start` until so many interrupts of the host have come.
    pub(super) fn turn_in_a_loop(&mut self, start: u64, interrupts: u32) -> Result {
        let ctx = &mut self.now.ctx;
        *ctx = self.pages.context(start);
        let on_the_way = self.seen.interrupts;
        while self.seen.interrupts.wrapping_sub(on_the_way) < interrupts {
            let exit = self.world.enter(ctx, None, None);
            if !self.seen.count(exit) {
                pr_err!("selftest: 64-bit loop: {:?} at {:#x}\n", exit, ctx.rip);
                return Err(EIO);
            }
            task::cond_resched();
            if task::must_return() {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    /// Interrupts of the host up to now.
    pub(super) fn interrupts(&self) -> u32 {
        self.seen.interrupts
    }
}

fn exit_is_right(case: &Case, exit: WorldExit) -> bool {
    // QEMU without KVM has SYSENTER in the compatibility mode of AMD's CPUs.
    let sysenter = case.code == SYSENTER && case.exit == UD && exit == GP;
    // And raises #GP where the stack's address is bad.
    exit == case.exit || sysenter || (case.exit == WorldExit::Exception(12) && exit == GP)
}

fn blank() -> Result<KBox<State>> {
    Ok(KBox::new(State { ctx: GuestContext::default(), events: EventLoan::default() }, GFP_KERNEL)?)
}

/// MSRs of the host that its kernel does not put right by itself.
fn host_msrs() -> [u64; 7] {
    let [star, lstar, cstar, sfmask] = syscall::MSRS;
    let msrs = [cpu::MSR_FS_BASE, cpu::MSR_KERNEL_GS_BASE, cpu::MSR_EFER, star, lstar, cstar, sfmask];
    // SAFETY: every 64-bit CPU has these MSRs.
    msrs.map(|msr| unsafe { cpu::rdmsr(msr) })
}
