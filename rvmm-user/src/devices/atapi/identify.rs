//! The answer to IDENTIFY PACKET DEVICE (ATA/ATAPI-6, section 8.16).

use crate::devices::ide::identity::Words;
use crate::devices::ide::Place;

/// Commands: power management, PACKET, DEVICE RESET.
const SUPPORTED: u16 = 1 << 3 | 1 << 4 | 1 << 9;
/// What says that a word of features is valid.
const VALID: u16 = 1 << 14;

/// The 512 bytes.
pub fn data(place: Place) -> Vec<u8> {
    let mut words = Words::new();
    // A CD-ROM with packets of 12 bytes, removable; DRQ comes within 50 µs of PACKET.
    words.set(0, 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5);
    words.set_text(10, 10, &place.serial());
    words.set_text(23, 4, "1.0");
    words.set_text(27, 20, "RVMM CD-ROM");
    words.set(48, 1); // retired: 32-bit accesses of the data register
    words.set(49, 1 << 11 | 1 << 9 | 1 << 8); // IORDY, LBA, DMA
    words.set(50, VALID);
    words.set(51, 2 << 8); // retired: PIO mode 2
    words.set(53, 0b110); // words 64–70 and 88 are valid
    words.set(63, 0b111);
    words.set(64, 0b11); // PIO modes 3 and 4
    for word in 65..=68 {
        words.set(word, 120); // ns per cycle
    }
    words.set(80, 0b0111_0000); // ATA/ATAPI-4 to -6
    words.set(82, SUPPORTED);
    words.set(83, VALID);
    words.set(84, VALID);
    words.set(85, SUPPORTED);
    words.set(87, VALID);
    words.set(88, 1 << 13 | 0b11_1111); // Ultra DMA 0 to 5; 5 is chosen
    words.set(93, 1 << 14 | 1 << 13 | if place.drive == 0 { 0x0001 } else { 0x0100 });
    words.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_cd_rom_with_12_byte_packets() {
        let data = data(Place { channel: 1, drive: 0 });
        assert_eq!(data.len(), 512);
        assert_eq!(data[..2], 0x85C0u16.to_le_bytes());
        assert_eq!(data[54..60], *b"VRMMC ");
    }
}
