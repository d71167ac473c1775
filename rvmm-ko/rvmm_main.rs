// SPDX-License-Identifier: GPL-2.0
//! rvmm: /dev/rvmm runs unmodified x86 kernels deprivileged, on hosts without VT-x or AMD-V.
#![deny(unsafe_op_in_unsafe_fn)]

mod alloc_shim;
mod module;
#[allow(unsafe_code)]
mod switch;
#[allow(unsafe_code)]
mod sys;

use kernel::prelude::*;

module! {
    type: module::Rvmm,
    name: "rvmm",
    authors: ["the rvmm project"],
    description: "Runs unmodified x86 kernels deprivileged",
    license: "GPL",
    params: {
        selftest: u32 {
            default: 0,
            description: "Enter a built-in guest world this many times before the device appears",
        },
    },
}
