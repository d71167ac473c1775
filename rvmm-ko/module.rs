// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading: what the host must be, and the order in which things appear and go.

use crate::switch::{cpu, selftest, slot};
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::regs::Cr4;

/// The loaded module.
pub(crate) struct Rvmm {}

impl kernel::Module for Rvmm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        if let Some(why) = task::host_unsuitable() {
            pr_err!("this host cannot run guests: {}\n", why);
            return Err(ENODEV);
        }
        let levels = if cpu::read_cr4() & Cr4::LA57.bits() != 0 { 5 } else { 4 };
        slot::init(levels)?;
        let rounds = *crate::module_parameters::selftest.value();
        if rounds > 0 {
            if let Err(e) = selftest::run(rounds) {
                slot::exit();
                return Err(e);
            }
        }
        Ok(Self {})
    }
}

impl Drop for Rvmm {
    fn drop(&mut self) {
        slot::exit();
    }
}
