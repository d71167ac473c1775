//! The memory map that a kernel is told: what BIOS call E820, multiboot and PVH report alike.

use super::{below_hole, end, HIGH_START, HOLE_END, HOLE_START, LOW_END};

/// What a BIOS would keep below [`LOW_END`].
const EBDA_START: u64 = 0x9_FC00;
/// Where a BIOS's own ROM starts, which memory maps report as reserved.
const BIOS_START: u64 = 0xF_0000;

/// The kind of memory that the guest may use; all numbers are those of E820 (ACPI specification, table 15-374), which PVH and multiboot took
/// over.
pub const RAM: u32 = 1;
/// Memory that nobody may use.
pub const RESERVED: u32 = 2;
/// The largest number that multiboot knows: bad memory. Beyond it everything is as good as reserved.
pub const BAD: u32 = 5;

/// One line of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    pub start: u64,
    pub len: u64,
    /// E820's number for its kind.
    pub kind: u32,
}

impl MapEntry {
    /// First address behind.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map(Vec<MapEntry>);

impl Map {
    /// That of a machine of `bytes` bytes in which no firmware runs.
    pub fn without_firmware(bytes: u64) -> Map {
        let entry = |start: u64, end: u64, kind: u32| MapEntry { start, len: end.saturating_sub(start), kind };
        let mut map = vec![
            entry(0, EBDA_START, RAM),
            entry(EBDA_START, LOW_END, RESERVED),
            entry(BIOS_START, HIGH_START, RESERVED),
            entry(HIGH_START, below_hole(bytes), RAM),
        ];
        if end(bytes) > HOLE_END {
            map.push(entry(HOLE_END, end(bytes), RAM));
        }
        Map(map)
    }

    /// The map that firmware tells, as BIOS call E820 writes it: start, length and kind in 20 bytes an entry.
    pub fn from_e820(table: &[u8]) -> Map {
        let entry = |bytes: &[u8; 20]| {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, kind @ ..] = *bytes;
            MapEntry {
                start: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                len: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
                kind: u32::from_le_bytes(kind),
            }
        };
        Map(table.chunks_exact(20).filter_map(|chunk| chunk.first_chunk()).map(entry).collect())
    }

    /// The lines.
    pub fn entries(&self) -> &[MapEntry] {
        &self.0
    }

    /// Where the usable memory ends that begins at 0.
    pub fn lower_end(&self) -> u64 {
        self.usable_at(0)
    }

    /// Where the usable memory ends that begins at 1 MiB.
    pub fn upper_end(&self) -> u64 {
        self.usable_at(HIGH_START).min(HOLE_START)
    }

    fn usable_at(&self, start: u64) -> u64 {
        let holds = |entry: &&MapEntry| entry.kind == RAM && entry.start <= start && start < entry.end();
        self.0.iter().find(holds).map_or(start, MapEntry::end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MIB;
    use super::*;

    #[test]
    fn the_map_covers_memory_in_order() {
        let map = Map::without_firmware(64 * MIB);
        for pair in map.entries().windows(2) {
            assert!(pair[0].end() <= pair[1].start);
        }
        assert_eq!((map.lower_end(), map.upper_end()), (EBDA_START, 64 * MIB));
    }

    #[test]
    fn what_does_not_fit_below_the_hole_is_told_above_it() {
        assert_eq!(Map::without_firmware(HOLE_START).entries().len(), 4);
        let map = Map::without_firmware(HOLE_START + 5 * MIB);
        assert_eq!(map.upper_end(), HOLE_START);
        assert_eq!(map.entries()[4], MapEntry { start: HOLE_END, len: 5 * MIB, kind: RAM });
    }

    #[test]
    fn a_firmware_s_map_is_read_as_it_is() {
        let mut table = Vec::new();
        for (start, len, kind) in [(0u64, 0x9_FC00u64, 1u32), (0x10_0000, 0x3EF_0000, 1), (0x3FF_0000, 0x1_0000, 3)] {
            table.extend(start.to_le_bytes());
            table.extend(len.to_le_bytes());
            table.extend(kind.to_le_bytes());
        }
        let map = Map::from_e820(&table);
        assert_eq!((map.lower_end(), map.upper_end(), map.entries()[2].kind), (0x9_FC00, 0x3FF_0000, 3));
        assert_eq!(Map::from_e820(&table[..59]).entries().len(), 2);
        assert_eq!(Map::from_e820(&[]).upper_end(), HIGH_START);
    }
}
