//! Which memory is still free while a kernel is loaded: every piece that a loader writes is taken from here, so that no two overlap.

use std::ops::Range;

use crate::memory::map::{Map, RAM};

/// Below this are the interrupt vectors and the BIOS's data, which a kernel may still want.
const FIRST: u64 = 0x1000;
/// What kernels are told of has addresses of 32 bits.
const LAST: u64 = 1 << 32;

/// The free memory, in pieces that do not touch.
#[derive(Clone, Debug)]
pub struct Ground {
    free: Vec<Range<u64>>,
}

impl Ground {
    /// All that `map` calls usable.
    pub fn new(map: &Map) -> Ground {
        let mut ground = Ground { free: Vec::new() };
        for entry in map.entries().iter().filter(|entry| entry.kind == RAM) {
            let range = entry.start.max(FIRST)..entry.end().min(LAST);
            if range.start < range.end {
                ground.free.push(range);
            }
        }
        // What one line calls usable and another not is not.
        for entry in map.entries().iter().filter(|entry| entry.kind != RAM) {
            ground.take(entry.start..entry.end());
        }
        ground.free.sort_by_key(|range| range.start);
        ground
    }

    /// Takes what is still free of `range`.
    pub fn take(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let pieces = std::mem::take(&mut self.free).into_iter().flat_map(|free| {
            let below = free.start..free.end.min(range.start);
            let above = free.start.max(range.end)..free.end;
            [below, above]
        });
        self.free = pieces.filter(|piece| piece.start < piece.end).collect();
    }

    /// Takes the lowest `len` bytes at or above `from` and below `until` whose address is a multiple of `align`.
    pub fn lowest(&mut self, from: u64, until: u64, len: u64, align: u64) -> Option<u64> {
        let place = self.free.iter().find_map(|free| {
            let start = free.start.max(from).checked_next_multiple_of(align.max(1))?;
            (start.checked_add(len)? <= free.end.min(until)).then_some(start)
        })?;
        self.take(place..place + len);
        Some(place)
    }

    /// Takes the highest such bytes.
    pub fn highest(&mut self, from: u64, until: u64, len: u64, align: u64) -> Option<u64> {
        let align = align.max(1);
        let place = self.free.iter().rev().find_map(|free| {
            let start = free.end.min(until).checked_sub(len)? / align * align;
            (start >= free.start.max(from)).then_some(start)
        })?;
        self.take(place..place + len);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ground() -> Ground {
        Ground::new(&Map::without_firmware(16 << 20))
    }

    #[test]
    fn pieces_are_taken_from_below_and_above() {
        let mut ground = ground();
        assert_eq!(ground.lowest(0, LAST, 10, 8), Some(FIRST));
        assert_eq!(ground.lowest(0, LAST, 0x1000, 0x1000), Some(0x2000));
        assert_eq!(ground.highest(0, LAST, 10, 0x1000), Some(0xFF_F000));
        assert_eq!(ground.highest(0, 0x10_0000, 0x1000, 0x1000), Some(0x9_E000));
        assert_eq!(ground.lowest(0x9_0000, LAST, 1 << 20, 1), Some(0x10_0000));
        assert_eq!(ground.lowest(0, LAST, 1 << 24, 1), None);
        assert_eq!((ground.lowest(u64::MAX, LAST, 1, 16), ground.lowest(0, LAST, u64::MAX, 1)), (None, None));
    }

    #[test]
    fn what_is_usable_and_reserved_is_reserved() {
        let mut table = Vec::new();
        for (start, len, kind) in [(0u64, 0x10_0000u64, 1u32), (0x2000, 0xF_D000, 2)] {
            table.extend([start.to_le_bytes(), len.to_le_bytes()].concat());
            table.extend(kind.to_le_bytes());
        }
        let mut ground = Ground::new(&Map::from_e820(&table));
        assert_eq!(ground.lowest(0, LAST, 0x1000, 1), Some(0x1000));
        assert_eq!(ground.lowest(0, LAST, 0x1000, 1), Some(0xF_F000));
        assert_eq!(ground.lowest(0, LAST, 1, 1), None);
    }

    proptest! {
        #[test]
        fn no_two_pieces_overlap(wishes in proptest::collection::vec((any::<bool>(), 1u64..0x10_0000, 0u32..16), 1..40)) {
            let mut ground = ground();
            let mut taken: Vec<Range<u64>> = Vec::new();
            for (low, len, shift) in wishes {
                let align = 1 << shift;
                let place = if low { ground.lowest(0, LAST, len, align) } else { ground.highest(0, LAST, len, align) };
                let Some(start) = place else { continue };
                prop_assert_eq!(start % align, 0);
                prop_assert!(taken.iter().all(|other| other.end <= start || start + len <= other.start));
                taken.push(start..start + len);
            }
        }
    }
}
