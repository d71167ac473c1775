// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading: what the host must be, and the order in which things appear and go.

use crate::stats;
use crate::switch::{cpu, reserved, selftest, slot};
use crate::sys::file::DeviceNode;
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::regs::Cr4;

/// The loaded module. Fields go in this order: first the device node, so that nothing new begins.
#[pin_data]
pub(crate) struct Rvmm {
    #[pin]
    node: DeviceNode,
    foundation: Foundation,
}

/// What everything else stands on.
struct Foundation;

impl Foundation {
    fn new() -> Result<Self> {
        if let Some(why) = task::host_unsuitable() {
            pr_err!("this host cannot run guests: {}\n", why);
            return Err(ENODEV);
        }
        let levels = if cpu::read_cr4() & Cr4::LA57.bits() != 0 { 5 } else { 4 };
        slot::init(levels)?;
        let stats = stats::init();
        // From here on a failure drops it.
        let foundation = Self;
        stats?;
        rvmm_core::warm_up();
        // Without it programs' page faults end a stay; nothing else is lost.
        if let Err(why) = reserved::probe() {
            pr_warn!("no reserved bit of page tables could be tried: {:?}\n", why);
        }
        let rounds = *crate::module_parameters::selftest.value();
        if rounds > 0 {
            selftest::run(rounds)?;
        }
        Ok(foundation)
    }
}

impl Drop for Foundation {
    fn drop(&mut self) {
        // Open files hold a reference on the module, so no VM exists now.
        stats::exit();
        slot::exit();
    }
}

impl kernel::InPlaceModule for Rvmm {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            foundation: Foundation::new()?,
            node <- DeviceNode::new(c"rvmm"),
        })
    }
}
