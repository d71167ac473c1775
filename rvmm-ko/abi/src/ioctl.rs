//! The ioctl numbers.

use core::mem::size_of;

use crate::{ConstantRegisters, MemoryRange, Options, ReportRequest, StatsRequest};

/// The type byte of all rvmm ioctls. KVM's is AE.
pub const IOCTL_TYPE: u8 = 0xE9;

/// Device: returns [`crate::ABI_VERSION`]; a device that is not rvmm's answers ENOTTY.
pub const GET_ABI_VERSION: u32 = number(NONE, 0x00, 0);

/// VM: takes [`Options`]. Once at most and before the first `KVM_CREATE_VCPU`, else EBUSY.
pub const SET_OPTIONS: u32 = number(WRITE, 0x01, size_of::<Options>());

/// VM: takes a [`MemoryRange`] of guest memory that the client wrote since the last `KVM_RUN`.
pub const MEMORY_WRITTEN: u32 = number(WRITE, 0x02, size_of::<MemoryRange>());

/// Device or VM: takes and updates a [`StatsRequest`].
pub const GET_STATS: u32 = number(READ | WRITE, 0x03, size_of::<StatsRequest>());

/// VM: takes and updates a [`ReportRequest`].
pub const GET_REPORT: u32 = number(READ | WRITE, 0x04, size_of::<ReportRequest>());

/// vCPU: takes [`ConstantRegisters`], in place of those it had.
pub const SET_CONSTANT_REGISTERS: u32 = number(WRITE, 0x05, size_of::<ConstantRegisters>());

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Linux's encoding (asm-generic/ioctl.h): direction in bits 31–30, size in 29–16, type in 15–8, number in 7–0. Directions are the
/// caller's: "write" carries data to the kernel.
const fn number(direction: u32, nr: u8, size: usize) -> u32 {
    assert!(size < 1 << 14);
    direction << 30 | (size as u32) << 16 | (IOCTL_TYPE as u32) << 8 | nr as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as they are written in docs/abi.md: a change of layout must not go unnoticed.
    #[test]
    fn numbers_are_fixed() {
        assert_eq!(GET_ABI_VERSION, 0x0000_E900);
        assert_eq!(SET_OPTIONS, 0x4040_E901);
        assert_eq!(MEMORY_WRITTEN, 0x4010_E902);
        assert_eq!(GET_STATS, 0xC020_E903);
        assert_eq!(GET_REPORT, 0xC010_E904);
        assert_eq!(SET_CONSTANT_REGISTERS, 0x4088_E905);
    }
}
