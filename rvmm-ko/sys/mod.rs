// SPDX-License-Identifier: GPL-2.0
//! The kernel as the module sees it: thin safe wrappers over `kernel::bindings` and rvmm-ko/shim.c. Together with `switch` the only
//! place with unsafe code.

pub(crate) mod page;
pub(crate) mod task;
