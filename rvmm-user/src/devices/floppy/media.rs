//! Diskettes and the drives that they are in.

use crate::devices::block::Medium;

/// The data rate of the controller's registers: 500 kbit/s.
const R500: u8 = 0;
const R300: u8 = 1;
const R250: u8 = 2;
const R1000: u8 = 3;

/// How a diskette is formatted, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Tracks on each side.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
    /// Data rates at which it can be read. Those of 40 tracks turn faster in a drive for 80.
    rates: &'static [u8],
    /// The type of a drive for it, in the CMOS memory's terms.
    pub drive_type: u8,
}

const fn format(cylinders: u8, heads: u8, sectors: u8, rates: &'static [u8], drive_type: u8) -> Format {
    Format { cylinders, heads, sectors, rates, drive_type }
}

const HD_1440: Format = format(80, 2, 18, &[R500], 4);
const ED_2880: Format = format(80, 2, 36, &[R1000], 5);

/// What is recognised by its size. The first of a size is taken.
const FORMATS: [Format; 12] = [
    HD_1440,
    ED_2880,
    format(80, 2, 15, &[R500], 2),      // 1,200 KiB
    format(80, 2, 9, &[R250], 3),       // 720 KiB
    format(40, 2, 9, &[R300, R250], 1), // 360 KiB
    format(40, 2, 8, &[R300, R250], 1), // 320 KiB
    format(40, 1, 9, &[R300, R250], 1), // 180 KiB
    format(40, 1, 8, &[R300, R250], 1), // 160 KiB
    format(80, 2, 21, &[R500], 4),      // 1,680 KiB
    format(82, 2, 21, &[R500], 4),      // 1,722 KiB
    format(80, 2, 20, &[R500], 4),      // 1,600 KiB
    format(80, 2, 10, &[R250], 3),      // 800 KiB
];

impl Format {
    /// The format of an image with so many sectors. One of no format's size is taken for the beginning of a 1.44 MB diskette, or of a
    /// 2.88 MB one, as boot sectors and kernels are that nobody has filled up; `None` if it is too large for both.
    pub fn of(sectors: u64) -> Option<Format> {
        let exact = FORMATS.into_iter().find(|format| format.size() == sectors);
        exact.or_else(|| [HD_1440, ED_2880].into_iter().find(|format| format.size() > sectors))
    }

    /// Its sectors.
    pub fn size(&self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }

    /// Whether it can be read at this data rate.
    pub fn has_rate(&self, rate: u8) -> bool {
        self.rates.contains(&rate)
    }

    /// The sector number of sector `sector` (from 1 on) of a track.
    pub fn lba(&self, cylinder: u8, head: u8, sector: u8) -> Option<u64> {
        let exists = cylinder < self.cylinders && head < self.heads && (1..=self.sectors).contains(&sector);
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        exists.then(|| track * u64::from(self.sectors) + u64::from(sector) - 1)
    }
}

/// A diskette in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diskette {
    /// How it is formatted.
    pub format: Format,
    /// Its image, which may be shorter.
    pub medium: Medium,
}

impl Diskette {
    /// The diskette whose image this is; `None` if it is too large for one.
    pub fn new(medium: Medium) -> Option<Self> {
        Some(Diskette { format: Format::of(medium.sectors)?, medium })
    }
}

/// A drive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drive {
    /// What is in it.
    pub diskette: Option<Diskette>,
    /// Where its heads are.
    pub track: u8,
    /// The disk change line: a diskette was taken out, or put in, and the heads have not moved since.
    pub changed: bool,
    /// The sector that READ ID finds next, from 0 on.
    pub turned: u8,
}

impl Drive {
    /// A drive after power-on.
    pub fn new(diskette: Option<Diskette>) -> Self {
        Drive { diskette, track: 0, changed: true, turned: 0 }
    }

    /// Moves the heads. A drive goes no further than 84 tracks. It takes a step for the disk change line to fall.
    pub fn seek(&mut self, track: u8) {
        let was = std::mem::replace(&mut self.track, track.min(83));
        if self.diskette.is_some() && was != self.track {
            self.changed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_tell_formats() {
        for (kib, cylinders, sectors, drive_type) in
            [(360, 40, 9, 1), (1200, 80, 15, 2), (720, 80, 9, 3), (1440, 80, 18, 4), (2880, 80, 36, 5)]
        {
            let format = Format::of(kib * 2).unwrap();
            assert_eq!((format.cylinders, format.sectors, format.drive_type), (cylinders, sectors, drive_type));
        }
        assert_eq!(Format::of(1), Some(HD_1440));
        assert_eq!(Format::of(2881), Some(ED_2880));
        assert_eq!(Format::of(5761), None);
    }

    #[test]
    fn sectors_are_counted_head_by_head() {
        assert_eq!(HD_1440.lba(0, 0, 1), Some(0));
        assert_eq!(HD_1440.lba(1, 1, 18), Some(71));
        for (cylinder, head, sector) in [(80, 0, 1), (0, 2, 1), (0, 0, 0), (0, 0, 19)] {
            assert_eq!(HD_1440.lba(cylinder, head, sector), None);
        }
    }
}
