//! Guest-physical memory: where RAM is, and what a firmware's memory map would say of it.
//!
//! ```text
//! 00000000–0009FFFF  RAM (the last KiB reserved, as for an extended BIOS data area)
//! 000A0000–000BFFFF  nothing: a display adapter's window, which reads as ones
//! 000C0000–000FFFFF  where adapters and the BIOS have their ROMs: filled with ones
//! 00100000–BFFFFFFF  RAM, as far as there is
//! C0000000–FFFFFFFF  nothing: where a PC has PCI devices, interrupt controllers and its BIOS
//! 100000000–…        RAM: what did not fit below
//! ```

pub mod layout;
pub mod map;
pub mod ram;
pub mod video;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::devices::OPEN_BUS;
use crate::error::Error;

const MIB: u64 = 1 << 20;

/// End of conventional memory.
const LOW_END: u64 = 0xA_0000;
/// First byte of the ROM area.
const ROM_START: u64 = 0xC_0000;
/// First byte above the ROM area.
pub const HIGH_START: u64 = 0x10_0000;

/// The smallest machine that makes sense.
pub const MIN_MIB: u64 = 2;
/// As much as the guest's physical addresses reach (`cpuid`): 40 bits, less the hole below 4 GiB.
pub const MAX_MIB: u64 = ((1 << 40) - (HOLE_END - HOLE_START)) / MIB;

/// From here to [`HOLE_END`] are the addresses of a PC's PCI devices and local APICs.
pub const HOLE_START: u64 = 3 << 30;
/// Where the memory goes on that has no room below the hole.
pub const HOLE_END: u64 = 4 << 30;

/// Guest memory, mapped into this process.
pub type GuestMemory = GuestMemoryMmap<()>;

/// Maps memory for a machine of `mib` MiB.
pub fn create(mib: u64) -> Result<GuestMemory, Error> {
    if mib < MIN_MIB {
        return Err(Error::Memory { memory_mib: mib, needed_mib: MIN_MIB, purpose: "any guest at all" });
    }
    let failed = |reason: String| Error::HostMemory { mib, reason };
    let bytes = mib * MIB;
    let mut ranges = vec![(0, LOW_END), (ROM_START, below_hole(bytes))];
    if end(bytes) > HOLE_END {
        ranges.push((HOLE_END, end(bytes)));
    }
    let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| (GuestAddress(start), (end - start) as usize)).collect();
    let memory = GuestMemory::from_ranges(&ranges).map_err(|error| failed(error.to_string()))?;
    let ones = vec![OPEN_BUS; (HIGH_START - ROM_START) as usize];
    memory.write_slice(&ones, GuestAddress(ROM_START)).map_err(|error| failed(error.to_string()))?;
    Ok(memory)
}

/// Where the memory below the hole ends in a machine of `bytes` bytes. Everything that is loaded goes there.
pub fn below_hole(bytes: u64) -> u64 {
    bytes.min(HOLE_START)
}

/// First address behind all memory of a machine of `bytes` bytes.
pub fn end(bytes: u64) -> u64 {
    match bytes.checked_sub(HOLE_START) {
        None | Some(0) => bytes,
        Some(above) => HOLE_END + above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryBackend;

    #[test]
    fn the_layout_is_a_pc_s() {
        let memory = create(4).unwrap();
        assert_eq!(memory.num_regions(), 2);
        assert!(memory.address_in_range(GuestAddress(LOW_END - 1)));
        assert!(!memory.address_in_range(GuestAddress(LOW_END)));
        assert!(memory.address_in_range(GuestAddress(4 * MIB - 1)));
        assert!(!memory.address_in_range(GuestAddress(4 * MIB)));
        let rom: u32 = memory.read_obj(GuestAddress(0xF_FFF0)).unwrap();
        assert_eq!(rom, u32::MAX);
        let ram: u32 = memory.read_obj(GuestAddress(HIGH_START)).unwrap();
        assert_eq!(ram, 0);
    }

    #[test]
    fn one_mib_is_refused() {
        let error = create(1).unwrap_err();
        assert!(error.to_string().contains("too small"), "{error}");
    }

    #[test]
    fn what_does_not_fit_below_the_hole_goes_above_it() {
        assert_eq!(end(HOLE_START), HOLE_START);
        let bytes = HOLE_START + 5 * MIB;
        assert_eq!(end(bytes), HOLE_END + 5 * MIB);
        let memory = create(bytes / MIB).unwrap();
        assert!(memory.address_in_range(GuestAddress(HOLE_START - 1)));
        assert!(!memory.address_in_range(GuestAddress(HOLE_START)));
        assert!(memory.address_in_range(GuestAddress(HOLE_END + 5 * MIB - 1)));
    }
}
