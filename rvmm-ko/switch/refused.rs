// SPDX-License-Identifier: GPL-2.0
//! Codes of [`rvmm_arch::host::WorldExit::Refused`]. From 0x100: a fault of the switcher, `where << 8 | vector`, its error code in the
//! context.

/// CS or SS has not RPL 1 or 3 (in long mode: 3), or differ.
pub(crate) const PRIVILEGE: u32 = 1;
/// RIP does not fit in 32 bits and CS is no 64-bit code segment, or it is not canonical (48 bits).
pub(crate) const RIP: u32 = 2;
/// A selector names one of the VMM's own descriptors.
pub(crate) const SELECTOR: u32 = 3;
/// A control register, XCR0 among them, has bits that are not let through.
pub(crate) const CONTROL: u32 = 4;
/// RFLAGS.AC in kernel mode.
pub(crate) const ALIGNMENT: u32 = 5;
/// The slot is missing in the current address space: KVM_RUN came from another process.
pub(crate) const SLOT: u32 = 6;
/// An exception that no guest code can raise (#DF, vectors beyond the architecture).
pub(crate) const EXCEPTION: u32 = 7;
/// The context is for long mode and the shadow descriptor tables are not, or the other way round.
pub(crate) const MODE: u32 = 8;
/// A base of FS or GS that the CPU would refuse.
pub(crate) const BASE: u32 = 9;
/// A turn at SYSCALL, or one back, that does not lead to 64-bit code of ring 3.
pub(crate) const TURN: u32 = 10;
/// Places of a switcher fault, from bit 8 up: elsewhere, LDTR, ES, DS, FS, GS, IRETQ.
pub(crate) const FAULT: [u32; 7] = [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700];
