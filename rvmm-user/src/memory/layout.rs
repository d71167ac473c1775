//! Which memory stands behind which guest-physical addresses: what the chip set's registers make of RAM, ROMs and the A20 gate. A machine
//! without firmware has RAM in the place of all ROMs.
//!
//! ```text
//! 00000000–0009FFFF  RAM
//! 000A0000–000BFFFF  the display adapter's window: its accesses are exits, but for text that is memory (devices/vga/text_window.rs)
//! 000C0000–000FFFFF  in pieces, as the host bridge's PAM registers say: ROMs, RAM, or RAM that cannot be written
//! 00100000–001FFFFF  RAM; while the A20 gate is closed, the first MiB once more
//! 00200000–BFFFFFFF  RAM, as far as there is
//! FFFFFFFF downwards the firmware
//! 100000000–…        RAM: what did not fit below
//! ```
//!
//! A closed A20 gate clears bit 20 of all of the CPU's addresses. Here it does so for the second MiB alone, which is what 16-bit programs
//! that rely on it reach, and where 32-bit ones look whether the gate is open; a slot for every odd MiB would be the exact thing.

use super::{below_hole, end, HIGH_START, HOLE_END, LOW_END, ROM_START};
use crate::devices::pci::host_bridge::{segment, Shadow, SEGMENTS};
use crate::devices::vga::{memory, text_window, VRAM_SIZE};

const MIB: u64 = 1 << 20;

/// Whose memory a region shows, and from where on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The guest's RAM at this guest-physical address.
    Ram(u64),
    /// The ROMs of C0000–FFFFF and below 4 GiB, at this guest-physical address.
    Rom(u64),
    /// The display adapter's ROM, at this offset.
    VgaRom(u64),
    /// Video memory, at this offset; behind it the memory of text.
    Video(u64),
}

impl Source {
    fn plus(self, offset: u64) -> Source {
        match self {
            Source::Ram(at) => Source::Ram(at + offset),
            Source::Rom(at) => Source::Rom(at + offset),
            Source::VgaRom(at) => Source::VgaRom(at + offset),
            Source::Video(at) => Source::Video(at + offset),
        }
    }
}

/// Memory behind a range of guest-physical addresses, in whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub len: u64,
    pub source: Source,
    /// Writes are exits.
    pub read_only: bool,
}

impl Region {
    fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The part of the region from `start` to `end`, both inside it.
    fn part(&self, start: u64, end: u64) -> Region {
        Region { start, len: end - start, source: self.source.plus(start - self.start), ..*self }
    }

    fn continues(&self, next: &Region) -> bool {
        self.end() == next.start && self.source.plus(self.len) == next.source && self.read_only == next.read_only
    }
}

/// What decides over the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the guest's RAM.
    pub memory_bytes: u64,
    /// Size of the firmware, which ends at 4 GiB; 0 without.
    pub firmware_bytes: u64,
    /// The host bridge's PAM registers.
    pub shadow: [Shadow; SEGMENTS],
    /// The A20 gate is open.
    pub a20: bool,
    /// Where the display adapter's ROM is, and its size in whole pages.
    pub vga_rom: Option<(u64, u64)>,
    /// Where all of video memory is.
    pub frame_buffer: Option<u64>,
    /// The display adapter's text is memory; its frame buffer is not then.
    pub direct_text: bool,
}

impl Layout {
    /// The regions, in no order. Where several things claim an address, RAM comes before the firmware and that before what PCI functions
    /// have there.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions = self.first_mib();
        if self.a20 {
            if below_hole(self.memory_bytes) > HIGH_START {
                let end = below_hole(self.memory_bytes).min(2 * MIB);
                claim(&mut regions, ram(HIGH_START, end));
            }
        } else {
            for region in self.first_mib() {
                claim(&mut regions, Region { start: region.start + MIB, ..region });
            }
        }
        if below_hole(self.memory_bytes) > 2 * MIB {
            claim(&mut regions, ram(2 * MIB, below_hole(self.memory_bytes)));
        }
        if end(self.memory_bytes) > HOLE_END {
            claim(&mut regions, ram(HOLE_END, end(self.memory_bytes)));
        }
        let bios = HOLE_END - self.firmware_bytes;
        if bios < HOLE_END {
            claim(&mut regions, rom(bios, HOLE_END));
        }
        if let Some((start, len)) = self.vga_rom {
            claim(&mut regions, Region { start, len, source: Source::VgaRom(0), read_only: true });
        }
        if let Some(start) = self.frame_buffer.filter(|_| !self.direct_text) {
            let len = VRAM_SIZE as u64;
            claim(&mut regions, Region { start, len, source: Source::Video(0), read_only: false });
        }
        regions
    }

    fn first_mib(&self) -> Vec<Region> {
        let mut regions = vec![ram(0, LOW_END)];
        if self.direct_text {
            let (start, len) = (memory::BASE + u64::from(text_window::OFFSET), text_window::SIZE as u64);
            regions.push(Region { start, len, source: Source::Video(VRAM_SIZE as u64), read_only: false });
        }
        for (index, shadow) in self.shadow.iter().enumerate() {
            let (start, len) = segment(index);
            let region = match (shadow.read_ram, shadow.write_ram) {
                (true, true) => ram(start, start + len),
                (true, false) => Region { read_only: true, ..ram(start, start + len) },
                // Where only writes go to RAM they are exits, and served one by one.
                (false, _) => rom(start, start + len),
            };
            match regions.last_mut() {
                Some(last) if last.continues(&region) => last.len += region.len,
                _ => regions.push(region),
            }
        }
        regions
    }
}

/// The piece of C0000–FFFFF that `gpa` lies in.
pub fn shadow_at(shadow: &[Shadow; SEGMENTS], gpa: u64) -> Option<Shadow> {
    let offset = gpa.checked_sub(ROM_START).filter(|_| gpa < HIGH_START)?;
    shadow.get(((offset >> 14) as usize).min(SEGMENTS - 1)).copied()
}

fn ram(start: u64, end: u64) -> Region {
    Region { start, len: end - start, source: Source::Ram(start), read_only: false }
}

fn rom(start: u64, end: u64) -> Region {
    Region { start, len: end - start, source: Source::Rom(start), read_only: true }
}

/// Adds of `new` what no other region has.
fn claim(regions: &mut Vec<Region>, new: Region) {
    let mut free = vec![new];
    for taken in regions.iter() {
        free = free.into_iter().flat_map(|piece| without(piece, taken)).collect();
    }
    regions.extend(free);
}

/// What is left of `piece` beside `taken`.
fn without(piece: Region, taken: &Region) -> impl Iterator<Item = Region> {
    let below = (piece.start < taken.start).then(|| piece.part(piece.start, piece.end().min(taken.start)));
    let above = (piece.end() > taken.end()).then(|| piece.part(piece.start.max(taken.end()), piece.end()));
    below.into_iter().chain(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RAM: Shadow = Shadow { read_ram: true, write_ram: true };
    const READ_ONLY: Shadow = Shadow { read_ram: true, write_ram: false };

    fn layout() -> Layout {
        Layout {
            memory_bytes: 64 * MIB,
            firmware_bytes: 256 << 10,
            shadow: [Shadow::default(); SEGMENTS],
            a20: true,
            vga_rom: None,
            frame_buffer: None,
            direct_text: false,
        }
    }

    fn at(layout: &Layout, gpa: u64) -> Option<(Source, bool)> {
        let regions = layout.regions();
        let mut found = regions.iter().filter(|region| region.start <= gpa && gpa < region.end());
        let region = found.next()?;
        assert_eq!(found.next(), None, "two regions at {gpa:x}");
        Some((region.source.plus(gpa - region.start), region.read_only))
    }

    #[test]
    fn after_reset_the_firmware_is_seen_at_both_places() {
        let layout = layout();
        assert_eq!(at(&layout, 0xFFFF_FFF0), Some((Source::Rom(0xFFFF_FFF0), true)));
        assert_eq!(at(&layout, 0xF_FFF0), Some((Source::Rom(0xF_FFF0), true)));
        assert_eq!(at(&layout, 0xA_0000), None);
        assert_eq!(at(&layout, 0x9_FFFF), Some((Source::Ram(0x9_FFFF), false)));
        assert_eq!(at(&layout, 64 * MIB), None);
        assert_eq!(layout.regions().len(), 5);
    }

    #[test]
    fn the_pam_registers_show_ram() {
        let mut layout = layout();
        layout.shadow[12] = RAM;
        layout.shadow[0] = READ_ONLY;
        layout.shadow[1] = Shadow { read_ram: false, write_ram: true };
        assert_eq!(at(&layout, 0xF_1234), Some((Source::Ram(0xF_1234), false)));
        assert_eq!(at(&layout, 0xC_0000), Some((Source::Ram(0xC_0000), true)));
        assert_eq!(at(&layout, 0xC_4000), Some((Source::Rom(0xC_4000), true)));
        assert_eq!(shadow_at(&layout.shadow, 0xF_FFFF), Some(RAM));
        assert_eq!(shadow_at(&layout.shadow, 0xC_3FFF), Some(READ_ONLY));
        assert_eq!((shadow_at(&layout.shadow, 0xB_FFFF), shadow_at(&layout.shadow, 0x10_0000)), (None, None));
    }

    #[test]
    fn a_closed_a20_gate_shows_the_first_mib_twice() {
        let layout = Layout { a20: false, ..layout() };
        assert_eq!(at(&layout, 0x10_7C00), Some((Source::Ram(0x7C00), false)));
        assert_eq!(at(&layout, 0x1A_0000), None);
        assert_eq!(at(&layout, 0x1F_FFF0), Some((Source::Rom(0xF_FFF0), true)));
        assert_eq!(at(&layout, 0x20_0000), Some((Source::Ram(0x20_0000), false)));
    }

    #[test]
    fn text_is_memory_in_place_of_the_frame_buffer() {
        let mut layout = Layout { frame_buffer: Some(0xFD00_0000), a20: false, ..layout() };
        assert_eq!((at(&layout, 0xB_8000), at(&layout, 0xFD00_0010)), (None, Some((Source::Video(0x10), false))));
        layout.direct_text = true;
        let last = Some((Source::Video(VRAM_SIZE as u64 + 0x7FFF), false));
        assert_eq!((at(&layout, 0xB_FFFF), at(&layout, 0x1B_FFFF), at(&layout, 0xB_7FFF)), (last, last, None));
        assert_eq!(at(&layout, 0xFD00_0010), None);
    }

    proptest! {
        #[test]
        fn regions_never_overlap(
            mib in 2u64..5000, pam in any::<[u8; SEGMENTS]>(), a20: bool, rom_page in 0u64..1 << 20, rom_pages in 1u64..20,
            direct_text: bool,
        ) {
            let layout = Layout {
                memory_bytes: mib * MIB,
                firmware_bytes: 256 << 10,
                shadow: pam.map(|bits| Shadow { read_ram: bits & 1 != 0, write_ram: bits & 2 != 0 }),
                a20,
                vga_rom: Some((rom_page << 12, rom_pages << 12)),
                frame_buffer: Some((rom_page << 16) & 0xFF00_0000),
                direct_text,
            };
            let mut regions = layout.regions();
            regions.sort_by_key(|region| region.start);
            for pair in regions.windows(2) {
                prop_assert!(pair[0].len > 0 && pair[0].end() <= pair[1].start);
            }
        }
    }
}
