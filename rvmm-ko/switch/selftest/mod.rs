// SPDX-License-Identifier: GPL-2.0
//! The world switch proven without an engine: `insmod rvmm.ko selftest=N` enters a hand-built guest world N times, by every kind of
//! exit, before the device appears. A difference fails the load.
//!
//! [`legacy`] is the world of a 32-bit guest, [`turns32`] the same for turns, with those of SYSENTER in [`sysenter32`], [`long`] that of a 64-bit one.

mod legacy;
mod long;
mod sysenter32;
mod turns32;

use super::enter::World;
use super::slot::{self, Slot};
use crate::sys::task::AddressSpace;
use kernel::prelude::*;
use kernel::sync::Arc;
use rvmm_arch::host::WorldExit;

/// The host's own events.
#[derive(Default)]
struct Seen {
    interrupts: u32,
    nmis: u32,
}

impl Seen {
    /// Counts an exit if it was one.
    fn count(&mut self, exit: WorldExit) -> bool {
        match exit {
            WorldExit::HostInterrupt(_) => self.interrupts = self.interrupts.wrapping_add(1),
            WorldExit::Nmi => self.nmis = self.nmis.wrapping_add(1),
            _ => return false,
        }
        true
    }
}

/// Runs the cases of all worlds `rounds` times.
// Off the frame of its caller.
#[inline(never)]
pub(crate) fn run(rounds: u32) -> Result {
    let slot = slot::get()?;
    let space = AddressSpace::current()?;
    slot.attach(&space)?;
    let parts: [fn(World, u32) -> Result; 3] = [legacy::run, turns32::run, long::run];
    let mut result = Ok(());
    for part in parts {
        result = result.and_then(|()| in_new_world(&slot, part, rounds));
    }
    slot.detach(&space);
    result
}

// A world is large for the host's stack.
#[inline(never)]
fn in_new_world(slot: &Arc<Slot>, part: fn(World, u32) -> Result, rounds: u32) -> Result {
    part(World::new(slot.clone())?, rounds)
}

/// Copies the bytes to the place, as far as there is one.
fn fill(place: Option<&mut [u8]>, bytes: &[u8]) {
    for (t, b) in place.into_iter().flatten().zip(bytes) {
        *t = *b;
    }
}
