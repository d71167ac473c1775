// SPDX-License-Identifier: GPL-2.0
//! rvmm: /dev/rvmm runs unmodified x86 kernels deprivileged, on hosts without VT-x or AMD-V.
#![deny(unsafe_op_in_unsafe_fn)]

mod alloc_shim;
#[deny(unsafe_code)]
mod convert;
#[deny(unsafe_code)]
mod cpuid;
#[deny(unsafe_code)]
mod device;
#[deny(unsafe_code)]
mod host;
mod kvm_abi;
#[deny(unsafe_code)]
mod memory;
#[deny(unsafe_code)]
mod module;
#[deny(unsafe_code)]
mod pages;
#[deny(unsafe_code)]
mod report;
mod stats;
mod switch;
mod sys;
#[deny(unsafe_code)]
mod vcpu;
#[deny(unsafe_code)]
mod vm;

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
