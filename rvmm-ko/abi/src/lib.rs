//! What rvmm adds to the KVM ABI: its own ioctl numbers and the layout of what they carry.
//!
//! Everything a KVM client knows goes through KVM's own numbers; these have another type byte, so that no present or future KVM
//! number can mean them. Layouts are fixed: all fields are naturally aligned, there is no padding, and reserved fields must be zero.
//! The manual page is docs/abi.md.
#![no_std]
#![forbid(unsafe_code)]

mod constants;
mod ioctl;
mod options;
mod report;
mod stats;

pub use constants::{ConstantRegister, ConstantRegisters, MAX_CONSTANTS};
pub use ioctl::{
    GET_ABI_VERSION, GET_REPORT, GET_STATS, IOCTL_TYPE, MEMORY_WRITTEN, SET_CONSTANT_REGISTERS, SET_OPTIONS,
};
pub use options::{MemoryRange, Model, OptionFlags, Options, OptionsError};
pub use report::{ReportRequest, INTERNAL_ERROR_BUG, INTERNAL_ERROR_VERIFY, MAX_REPORT};
pub use stats::{StatsKind, StatsRequest, StatsScope, STATS_VERSION};

/// What [`GET_ABI_VERSION`] returns for the layouts described here.
pub const ABI_VERSION: u32 = 1;
