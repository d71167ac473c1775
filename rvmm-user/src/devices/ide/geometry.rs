//! Cylinders, heads and sectors: what a disk says it has, and what an address in these terms means.

/// Sectors of a disk as cylinders, heads, and sectors per track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders: 1–65,535.
    pub cylinders: u16,
    /// Heads: 1–16.
    pub heads: u8,
    /// Sectors per track: 1–255.
    pub sectors: u8,
}

/// How a BIOS makes cylinders, heads and sectors for its callers of a disk's own, which reach beyond 1,024 cylinders (as SeaBIOS reads it from the
/// CMOS memory).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Translation {
    /// Not at all.
    #[default]
    None = 0,
    /// By the number of sectors: 63 on a track, up to 255 heads.
    Lba = 1,
    /// Cylinders are halved and heads doubled until it fits.
    Large = 2,
}

/// The most cylinders that a disk says it has when an LBA reaches further (ATA/ATAPI-6, section 6.2.1).
const MOST_CYLINDERS: u64 = 16_383;

impl Geometry {
    /// The usual geometry of a disk: 16 heads, 63 sectors.
    pub fn usual(sectors: u64) -> Self {
        Self::of(sectors, 16, 63)
    }

    /// A disk of `sectors` sectors with so many heads and sectors per track; nought stands for one of them.
    pub fn of(sectors: u64, heads: u8, per_track: u8) -> Self {
        let (heads, per_track) = (heads.clamp(1, 16), per_track.max(1));
        let cylinders = sectors / (u64::from(heads) * u64::from(per_track));
        Geometry { cylinders: cylinders.clamp(1, MOST_CYLINDERS) as u16, heads, sectors: per_track }
    }

    /// The geometry that the partition table in a disk's first sector was made for, if it tells and a disk can have it; else the
    /// usual one. Images of other machines keep their own: 16 heads and 17 sectors, say.
    pub fn guess(sectors: u64, first_sector: &[u8]) -> Self {
        match partitioned(first_sector) {
            // More heads exist only in a BIOS' translation.
            Some((heads @ 1..=16, per_track)) => Self::of(sectors, heads, per_track),
            _ => Self::usual(sectors),
        }
    }

    /// The translation that QEMU's BIOS is told for such a disk: that which the partition table was made with, if it tells of one.
    pub fn translation(&self, first_sector: &[u8]) -> Translation {
        match partitioned(first_sector) {
            Some((..=16, _)) => Translation::None,
            Some(_) if u32::from(self.cylinders) * u32::from(self.heads) <= 131_072 => Translation::Large,
            None if self.cylinders <= 1024 && self.sectors <= 63 => Translation::None,
            _ => Translation::Lba,
        }
    }

    /// The sector number of an address; `None` if this geometry has no such sector.
    pub fn lba(&self, cylinder: u16, head: u8, sector: u8) -> Option<u64> {
        let exists = head < self.heads && (1..=self.sectors).contains(&sector);
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        exists.then(|| track * u64::from(self.sectors) + u64::from(sector) - 1)
    }

    /// The cylinder, head and sector of a sector number.
    pub fn address(&self, lba: u64) -> (u16, u8, u8) {
        let (track, sector) = (lba / u64::from(self.sectors), lba % u64::from(self.sectors));
        let (cylinder, head) = (track / u64::from(self.heads), track % u64::from(self.heads));
        (cylinder as u16, head as u8, sector as u8 + 1)
    }

    /// How many sectors it has.
    pub fn capacity(&self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

/// Heads and sectors per track by the end of the first partition that fills its last cylinder.
fn partitioned(first_sector: &[u8]) -> Option<(u8, u8)> {
    if first_sector.get(510..512)? != [0x55, 0xAA] {
        return None;
    }
    first_sector.get(446..510)?.chunks_exact(16).find_map(|entry| match *entry {
        [_, _, _, _, kind, head, sector, _, _, _, _, _, a, b, c, d] if kind != 0 && [a, b, c, d] != [0; 4] => {
            let per_track = sector & 0x3F;
            (head != 0 && per_track != 0).then(|| (head.saturating_add(1), per_track))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sectors_agree() {
        let geometry = Geometry::usual(1 << 20);
        assert_eq!(geometry, Geometry { cylinders: 1040, heads: 16, sectors: 63 });
        assert_eq!(geometry.lba(0, 0, 1), Some(0));
        assert_eq!(geometry.lba(1, 1, 1), Some(16 * 63 + 63));
        for lba in [0, 62, 63, 1007, 1008, 1_000_000] {
            let (cylinder, head, sector) = geometry.address(lba);
            assert_eq!(geometry.lba(cylinder, head, sector), Some(lba));
        }
        assert_eq!(geometry.lba(0, 0, 0), None);
        assert_eq!(geometry.lba(0, 16, 1), None);
        assert_eq!(geometry.lba(0, 0, 64), None);
    }

    #[test]
    fn large_disks_say_16383_cylinders() {
        assert_eq!(Geometry::usual(1 << 40).cylinders, 16_383);
        assert_eq!(Geometry::usual(1).cylinders, 1);
    }

    #[test]
    fn a_partition_table_tells_the_geometry() {
        let mut sector = [0; 512];
        sector[446 + 4..446 + 8].copy_from_slice(&[0x83, 8, 17, 40]);
        sector[446 + 12..446 + 16].copy_from_slice(&6000u32.to_le_bytes());
        assert_eq!(Geometry::guess(20_000, &sector), Geometry::usual(20_000));
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(Geometry::guess(20_000, &sector), Geometry::of(20_000, 9, 17));
        assert_eq!(Geometry::of(20_000, 9, 17).translation(&sector), Translation::None);
        sector[446 + 5] = 254;
        assert_eq!(Geometry::guess(20_000, &sector), Geometry::usual(20_000));
        assert_eq!(Geometry::usual(20_000).translation(&sector), Translation::Large);
        assert_eq!(Geometry::usual(1 << 24).translation(&sector), Translation::Lba);
        let [small, large] = [1 << 20, 1 << 21].map(|sectors| Geometry::usual(sectors - (16 << 10)).translation(&[]));
        assert_eq!((small, large), (Translation::None, Translation::Lba));
    }
}
