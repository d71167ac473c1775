// SPDX-License-Identifier: GPL-2.0
//! The world switch proven without an engine: `insmod rvmm.ko selftest=N` enters a hand-built guest world N times, by every kind of
//! exit, before the device appears. A difference fails the load.
//!
//! [`legacy`] is the world of a 32-bit guest, [`long`] that of a 64-bit one.

mod legacy;
mod long;

use super::enter::World;
use super::slot;
use crate::sys::task::AddressSpace;
use kernel::prelude::*;
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

/// Runs the cases of both worlds `rounds` times.
// Off the frame of its caller.
#[inline(never)]
pub(crate) fn run(rounds: u32) -> Result {
    let slot = slot::get()?;
    let space = AddressSpace::current()?;
    slot.attach(&space)?;
    let result = World::new(slot.clone())
        .and_then(|world| legacy::run(world, rounds))
        .and_then(|()| World::new(slot.clone()))
        .and_then(|world| long::run(world, rounds));
    slot.detach(&space);
    result
}

/// Copies the bytes to the place, as far as there is one.
fn fill(place: Option<&mut [u8]>, bytes: &[u8]) {
    for (t, b) in place.into_iter().flatten().zip(bytes) {
        *t = *b;
    }
}
