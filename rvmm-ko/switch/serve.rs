// SPDX-License-Identifier: GPL-2.0
//! The function that the image calls at a page fault or an int3 in the middle of a stay (image/serve.S), and what it finds there.
//!
//! It runs in the guest world with interrupts off, on the host's page tables and stack, with the host's GS base, and with whatever FPU
//! state, MSRs, CR0 and CR4 the guest has. So it may do what an NMI handler may: compute and touch the host's mapped memory; it must not sleep,
//! use the FPU, take a lock that is held elsewhere for long, or touch user memory. An exception of its own ends the stay under it, see
//! docs/safety.md, "Served in place".

use super::area::Area;
use super::async_pf;
use super::layout::{Control, Replies, Reply};
use rvmm_arch::serve::{Behind, Load, Serve, Served, StayFault, StayHost, StayTrap};
use rvmm_arch::Hpa;

/// What the function returns, in RAX and RDX.
#[repr(C)]
struct Answer {
    verdict: u64,
    /// With RESUME the RIP at which guest code goes on, or 0 where that is not changed; with REFLECT the error code.
    value: u64,
}

const EXIT: u64 = 0;
pub(super) const RESUME: u64 = 1;
const REFLECT: u64 = 2;
/// There is a reply now.
pub(super) const REPLIED: u64 = 3;

/// #PF, as the stubs have it in the frame.
const PAGE_FAULT: u8 = 14_u8.wrapping_sub(128);

/// Whom to ask, and with which host.
pub(crate) struct Server<'a> {
    serve: &'a mut dyn Serve,
    host: &'a mut dyn StayHost,
    /// A hypervisor under the host may raise page faults of its own.
    async_pf: bool,
    asked: u64,
    /// Where the exception's frame is, and replies are put.
    control: *const Control,
    replies: *mut Replies,
}

impl<'a> Server<'a> {
    pub(crate) fn new(serve: &'a mut dyn Serve, host: &'a mut dyn StayHost) -> Self {
        let (control, replies) = (core::ptr::null(), core::ptr::null_mut());
        Self { serve, host, async_pf: false, asked: 0, control, replies }
    }

    /// For one entry, which must follow while `self` is borrowed by nobody.
    pub(super) fn lend(&mut self, area: &mut Area, async_pf: bool) {
        self.async_pf = async_pf;
        self.replies = area.replies();
        let control = area.control();
        let function: unsafe extern "C" fn(*mut Server<'static>, u64, u64, u32, u8) -> Answer = ask;
        control.serve = function as usize as u64;
        control.server = core::ptr::from_mut(self).cast::<Server<'static>>() as u64;
        self.control = control;
    }

    /// How often somebody was asked, with two loads of CR3 each time.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }
}

/// An exception of guest code: `root` is CR3. Of a page fault `address` is CR2, and `code` the error code; of a #BP they are RIP and CS.
///
/// # Safety
/// Called by the image only: `server` is what [`Server::lend`] has put into the control page for this stay, and nobody else uses it before
/// the stay is over.
unsafe extern "C" fn ask(server: *mut Server<'static>, root: u64, address: u64, code: u32, vector: u8) -> Answer {
    // SAFETY: by the contract the value is alive and not borrowed; its lifetimes are those of the call of `enter` under which this runs.
    let Server { serve, host, async_pf, asked, control, replies } = unsafe { &mut *server };
    *asked = asked.wrapping_add(1);
    // SAFETY: `lend` has set both pointers, to what lies in the area's control page, which lives as long as the stay. The image is waiting for
    // this function, and nobody else uses the page in a stay.
    let (frame, replies) = unsafe { (&(**control).frame, &mut **replies) };
    let mut reply = |next, register, value| {
        let reply = Reply { key: Reply::key(frame), rip: frame.rip, cr3: root, cr2: address, next, register, value };
        if let Some(place) = replies.get_mut(Reply::place(frame.rip)) {
            *place = reply;
        }
        Answer { verdict: REPLIED, value: 0 }
    };
    let at = Hpa(root);
    if vector != PAGE_FAULT {
        let trap = StayTrap { root: at, rip: address, cs: code as u16 };
        return match serve.breakpoint(*host, trap) {
            Some(Behind { rip, lasting: true }) => reply(rip, Reply::NONE, 0),
            Some(Behind { rip, lasting: false }) => Answer { verdict: RESUME, value: rip },
            None => Answer { verdict: EXIT, value: 0 },
        };
    }
    // SAFETY: `async_pf` says that it is possible. Interrupts are off.
    if *async_pf && unsafe { async_pf::take() } {
        return Answer { verdict: RESUME, value: 0 };
    }
    let fault = StayFault { root: at, cr2: address, error: code, rip: frame.rip, cs: frame.cs as u16 };
    let (verdict, value) = match serve.page_fault(*host, fault) {
        Served::Resume => (RESUME, 0),
        Served::Reflect(code) => (REFLECT, u64::from(code)),
        Served::Loaded(Load { register, value, next }) => return reply(next, u32::from(register & 15) << 3, value),
        Served::Exit => (EXIT, 0),
    };
    Answer { verdict, value }
}
