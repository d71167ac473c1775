// SPDX-License-Identifier: GPL-2.0
//! The function that the image calls at a page fault in the middle of a stay (image/serve.S), and what it finds there.
//!
//! It runs in the guest world with interrupts off, on the host's page tables and stack, with the host's GS base, and with whatever FPU
//! state, MSRs, CR0 and CR4 the guest has. So it may do what an NMI handler may: compute and touch the host's mapped memory; it must not sleep,
//! use the FPU, take a lock that is held elsewhere for long, or touch user memory. An exception of its own ends the stay under it, see
//! docs/safety.md, "Served in place".

use super::async_pf;
use super::layout::Control;
use rvmm_arch::serve::{Serve, Served, StayFault, StayHost};
use rvmm_arch::Hpa;

/// Verdicts, in the lower half of what the function returns; the upper half is an error code.
const EXIT: u64 = 0;
pub(super) const RESUME: u64 = 1;
const REFLECT: u64 = 2;

/// Whom to ask, and with which host.
pub(crate) struct Server<'a> {
    serve: &'a mut dyn Serve,
    host: &'a mut dyn StayHost,
    /// A hypervisor under the host may raise page faults of its own.
    async_pf: bool,
    asked: u64,
}

impl<'a> Server<'a> {
    pub(crate) fn new(serve: &'a mut dyn Serve, host: &'a mut dyn StayHost) -> Self {
        Self { serve, host, async_pf: false, asked: 0 }
    }

    /// For one entry, which must follow while `self` is borrowed by nobody.
    pub(super) fn lend(&mut self, control: &mut Control, async_pf: bool) {
        self.async_pf = async_pf;
        let function: unsafe extern "C" fn(*mut Server<'static>, u64, u64, u32) -> u64 = page_fault;
        control.serve = function as usize as u64;
        control.server = core::ptr::from_mut(self).cast::<Server<'static>>() as u64;
    }

    /// How often somebody was asked, with two loads of CR3 each time.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }
}

/// A page fault of guest code: `root` is CR3.
///
/// # Safety
/// Called by the image only: `server` is what [`Server::lend`] has put into the control page for this stay, and nobody else uses it before
/// the stay is over.
unsafe extern "C" fn page_fault(server: *mut Server<'static>, root: u64, cr2: u64, error: u32) -> u64 {
    // SAFETY: by the contract the value is alive and not borrowed; its lifetimes are those of the call of `enter` under which this runs.
    let Server { serve, host, async_pf, asked } = unsafe { &mut *server };
    *asked = asked.wrapping_add(1);
    // SAFETY: `async_pf` says that it is possible. Interrupts are off.
    if *async_pf && unsafe { async_pf::take() } {
        return RESUME;
    }
    match serve.page_fault(*host, StayFault { root: Hpa(root), cr2, error }) {
        Served::Resume => RESUME,
        Served::Reflect(code) => REFLECT | u64::from(code) << 32,
        Served::Exit => EXIT,
    }
}
