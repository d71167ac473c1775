// SPDX-License-Identifier: GPL-2.0
//! The kernel as the module sees it: thin safe wrappers over `kernel::bindings` and rvmm-ko/shim.c. Together with `switch` the only
//! place with unsafe code.

#![allow(improper_ctypes)] // Kernel structures without fields of their own are passed by pointer only.

pub(crate) mod file;
mod int128;
pub(crate) mod page;
pub(crate) mod pin;
pub(crate) mod run_page;
pub(crate) mod signal;
pub(crate) mod task;
pub(crate) mod trace;
