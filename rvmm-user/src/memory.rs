//! Guest-physical memory: where RAM is, and what a firmware's memory map would say of it.
//!
//! ```text
//! 00000000–0009FFFF  RAM (the last KiB reserved, as for an extended BIOS data area)
//! 000A0000–000BFFFF  nothing: a display adapter's window, which reads as ones
//! 000C0000–000FFFFF  where adapters and the BIOS have their ROMs: filled with ones
//! 00100000–…         RAM
//! ```

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::error::Error;

const MIB: u64 = 1 << 20;

/// End of conventional memory.
const LOW_END: u64 = 0xA_0000;
/// First byte of the ROM area.
const ROM_START: u64 = 0xC_0000;
/// First byte above the ROM area.
pub const HIGH_START: u64 = 0x10_0000;
/// What a BIOS would keep below [`LOW_END`].
const EBDA_START: u64 = 0x9_FC00;
/// Where a BIOS's own ROM starts, which memory maps report as reserved.
const BIOS_START: u64 = 0xF_0000;

/// The smallest machine that makes sense.
pub const MIN_MIB: u64 = 2;
/// Above this are the addresses of a PC's PCI devices and local APICs.
pub const MAX_MIB: u64 = 3072;

/// Guest memory, mapped into this process.
pub type GuestMemory = GuestMemoryMmap<()>;

/// One line of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    pub start: u64,
    pub len: u64,
    /// RAM that the guest may use; otherwise reserved.
    pub usable: bool,
}

/// Maps memory for a machine of `mib` MiB.
pub fn create(mib: u64) -> Result<GuestMemory, Error> {
    if mib < MIN_MIB {
        return Err(Error::Memory { memory_mib: mib, needed_mib: MIN_MIB, purpose: "any guest at all" });
    }
    let failed = |reason: String| Error::HostMemory { mib, reason };
    let ranges = [(GuestAddress(0), LOW_END as usize), (GuestAddress(ROM_START), (mib * MIB - ROM_START) as usize)];
    let memory = GuestMemory::from_ranges(&ranges).map_err(|error| failed(error.to_string()))?;
    let ones = vec![0xFF; (HIGH_START - ROM_START) as usize];
    memory.write_slice(&ones, GuestAddress(ROM_START)).map_err(|error| failed(error.to_string()))?;
    Ok(memory)
}

/// The memory map of a machine of `bytes` bytes, as BIOS call E820 and multiboot report it.
pub fn map(bytes: u64) -> [MapEntry; 4] {
    let entry = |start: u64, end: u64, usable: bool| MapEntry { start, len: end.saturating_sub(start), usable };
    [
        entry(0, EBDA_START, true),
        entry(EBDA_START, LOW_END, false),
        entry(BIOS_START, HIGH_START, false),
        entry(HIGH_START, bytes, true),
    ]
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
    fn the_map_covers_memory_in_order() {
        let map = map(64 * MIB);
        for pair in map.windows(2) {
            assert!(pair[0].start + pair[0].len <= pair[1].start);
        }
        assert_eq!(map[3].start + map[3].len, 64 * MIB);
    }
}
