// SPDX-License-Identifier: GPL-2.0
//! The world switch: from the host's world into the guest's and back (docs/safety.md).
//!
//! [`slot`] is the top-level table entry shared by the module, [`area`] one vCPU's share of it, [`image`] the code that runs there,
//! [`enter`] one round trip with everything the image leaves to its caller: what of a context may be ([`check`]), what the image
//! is given ([`prepare`]), the host's own state ([`host_state`]), what came of it ([`outcome`]).

pub(crate) mod area;
mod async_pf;
mod check;
pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod enter;
pub(crate) mod fpu;
mod host_state;
pub(crate) mod image;
pub(crate) mod layout;
mod outcome;
mod prepare;
mod redispatch;
pub(crate) mod refused;
pub(crate) mod reserved;
pub(crate) mod selftest;
pub(crate) mod serve;
pub(crate) mod slot;
pub(crate) mod syscall;
