//! The flat segments in which a kernel is entered, and the descriptor table that they come from.

use vm_memory::{Bytes, GuestAddress};

use super::{unexpected, Mode};
use crate::error::Error;
use crate::memory::GuestMemory;

/// Where the table lies: behind the real-mode interrupt vectors and the BIOS data area.
pub const GDT_ADDRESS: u64 = 0x500;
/// Its size.
pub const GDT_BYTES: u16 = 4 * 8;

/// 4 GiB of 32-bit code, readable, accessed, DPL 0 (Intel SDM volume 3, section 3.4.5).
const CODE: u64 = 0x00CF_9B00_0000_FFFF;
/// 64-bit code (L set, D clear), readable, accessed, DPL 0.
const CODE_64: u64 = 0x00AF_9B00_0000_FFFF;
/// 4 GiB of 32-bit data, writable, accessed, DPL 0.
const DATA: u64 = 0x00CF_9300_0000_FFFF;

/// Which selectors the segment registers hold at entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatSegments {
    pub code: u16,
    pub data: u16,
}

impl FlatSegments {
    /// Those of Linux's 32-bit and 64-bit boot protocols.
    pub const LINUX: FlatSegments = FlatSegments { code: 0x10, data: 0x18 };
    /// Those of QEMU's multiboot and PVH loaders; the specifications leave them open.
    pub const PLAIN: FlatSegments = FlatSegments { code: 0x08, data: 0x10 };
}

/// Writes the table.
pub fn write(memory: &GuestMemory, segments: FlatSegments, mode: Mode) -> Result<(), Error> {
    let code = match mode {
        Mode::Protected => CODE,
        Mode::Long => CODE_64,
    };
    for (selector, descriptor) in [(0, 0), (segments.code, code), (segments.data, DATA)] {
        memory.write_obj(descriptor, GuestAddress(GDT_ADDRESS + u64::from(selector))).map_err(unexpected)?;
    }
    Ok(())
}
