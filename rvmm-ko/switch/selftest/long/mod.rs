// SPDX-License-Identifier: GPL-2.0
//! The part of the world switch's own test for guests in long mode: ring 3 only, all canonical addresses, bases of FS and GS, and what
//! keeps 64-bit code from the VMM area and the host.
//!
//! Page faults in the middle of a stay are in [`served`].
//!
//! [`case`] says what a case is and [`world`] what it finds; [`check`] runs one. Tables of cases: [`access`] and [`context`] for code
//! that stays by itself, [`turn`] for SYSCALL, [`back`] for the way back, [`compat`] for that to compatibility code, [`events`] for INT n and
//! page faults, [`sysenter`] for SYSENTER, [`sysexit`] for SYSEXIT; [`features`] has those that not every CPU can run.

mod access;
mod back;
mod case;
mod check;
mod compat;
mod context;
mod events;
mod features;
mod served;
mod sysenter;
mod sysexit;
mod turn;
mod world;

use crate::switch::enter::World;
use crate::sys::task;
use case::Case;
use check::Bench;
use kernel::prelude::*;
use world::Pages;

/// All cases that this CPU and host can run.
fn cases() -> impl Iterator<Item = &'static Case> {
    let everywhere = [
        access::CASES,
        context::CASES,
        turn::CASES,
        back::CASES,
        compat::CASES,
        served::CASES,
        events::CASES,
        sysenter::CASES,
        sysexit::CASES,
    ];
    // Not as a method: in the kernel, initialisers have one of that name too.
    Iterator::chain(everywhere.into_iter(), features::tables()).flatten()
}

/// Runs all cases `rounds` times, and an endless loop until as many host interrupts have come as a hundredth of that.
// Off the frame of its caller.
#[inline(never)]
pub(super) fn run(mut world: World, rounds: u32) -> Result {
    let pages = Pages::new(&world, cases())?;
    world::descriptors(&mut world)?;
    let mut bench = Bench::new(&mut world, &pages)?;
    for round in 0..rounds {
        for (number, case) in cases().enumerate() {
            bench.check(case, world::start(number), round)?;
        }
        if round % 16 == 0 {
            task::cond_resched();
        }
    }
    bench.turn_in_a_loop(world::start(cases().count()), rounds / 100)?;
    pr_info!(
        "selftest: {} 64-bit cases {} times, {} interrupts, {} events right behind a SYSCALL: all as expected\n",
        cases().count(),
        rounds,
        bench.interrupts(),
        world.area.control().rolled
    );
    Ok(())
}
