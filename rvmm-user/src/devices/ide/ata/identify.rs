//! The answer to IDENTIFY DEVICE (ATA/ATAPI-6, section 8.15).

use super::{Ata, TransferMode, MOST_MULTIPLE};
use crate::devices::ide::identity::Words;

/// Sectors that a 28-bit address reaches.
pub const MOST_LBA28: u64 = 0x0FFF_FFFF;

/// Commands: power management, write cache, look-ahead, NOP.
const SUPPORTED_1: u16 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 14;
/// Commands: 48-bit addresses, FLUSH CACHE, FLUSH CACHE EXT.
const SUPPORTED_2: u16 = 1 << 10 | 1 << 12 | 1 << 13;
/// What says that a word of features is valid.
const VALID: u16 = 1 << 14;

/// The 512 bytes.
pub fn data(disk: &Ata) -> Vec<u8> {
    let mut words = Words::new();
    let (made, current) = (disk.geometry, disk.translation);
    let reachable = disk.medium.sectors.min(MOST_LBA28) as u32;
    words.set(0, 0x0040); // a fixed disk
    words.set(1, made.cylinders);
    words.set(3, made.heads.into());
    words.set(4, u16::from(made.sectors) * 512); // retired since ATA-3: bytes per track
    words.set(5, 512); // and per sector
    words.set(6, made.sectors.into());
    words.set_text(10, 10, &disk.place.serial());
    words.set_text(23, 4, "1.0");
    words.set_text(27, 20, "RVMM HARDDISK");
    words.set(47, 0x8000 | u16::from(MOST_MULTIPLE));
    words.set(48, 1); // retired: 32-bit accesses of the data register
    words.set(49, 1 << 11 | 1 << 9 | 1 << 8); // IORDY, LBA, DMA
    words.set(50, VALID);
    words.set(51, 2 << 8); // retired: PIO mode 2
    words.set(53, 0b111); // words 54–58, 64–70 and 88 are valid
    words.set(54, current.cylinders);
    words.set(55, current.heads.into());
    words.set(56, current.sectors.into());
    words.set_long(57, current.capacity().min(u64::from(reachable)) as u32);
    words.set(59, if disk.multiple == 0 { 0 } else { 0x100 | u16::from(disk.multiple) });
    words.set_long(60, reachable);
    words.set(63, 0b111 | chosen(disk.mode, |mode| matches!(mode, TransferMode::Multiword(_))));
    words.set(64, 0b11); // PIO modes 3 and 4
    for word in 65..=68 {
        words.set(word, 120); // ns per cycle
    }
    words.set(80, 0b0111_0000); // ATA/ATAPI-4 to -6
    words.set(82, SUPPORTED_1);
    words.set(83, VALID | SUPPORTED_2);
    words.set(84, VALID);
    let optional = if disk.write_cache { 0 } else { 1 << 5 } | if disk.read_ahead { 0 } else { 1 << 6 };
    words.set(85, SUPPORTED_1 & !optional);
    words.set(86, SUPPORTED_2);
    words.set(87, VALID);
    words.set(88, 0b11_1111 | chosen(disk.mode, |mode| matches!(mode, TransferMode::Ultra(_))));
    // An 80-wire cable; the jumper tells which drive it is.
    words.set(93, 1 << 14 | 1 << 13 | if disk.place.drive == 0 { 0x0001 } else { 0x0100 });
    words.set_long(100, disk.medium.sectors as u32);
    words.set_long(102, (disk.medium.sectors >> 32) as u32);
    words.into_bytes()
}

/// The bit in the high byte for the mode that was chosen, if it is of this kind.
fn chosen(mode: TransferMode, of_this_kind: impl Fn(TransferMode) -> bool) -> u16 {
    match mode {
        TransferMode::Multiword(number) | TransferMode::Ultra(number) if of_this_kind(mode) => 0x100 << (number & 7),
        _ => 0,
    }
}
