//! The host bridge (Intel 82441FX PCI and memory controller, data sheet 290549, section 3.2).
//!
//! Its configuration says for each piece of C0000–FFFFF whether reads and writes go to memory or to the PCI bus, where the ROMs are
//! (registers PAM0–PAM6, 59–5F).

use super::config::{Config, Identity};

const PAM0: usize = 0x59;
const SMRAM: usize = 0x72;
const SMRAM_LOCK: u8 = 1 << 4;
const SMRAM_OPEN: u8 = 1 << 6;

/// Pieces of C0000–FFFFF: twelve of 16 KiB, then F0000–FFFFF.
pub const SEGMENTS: usize = 13;

/// Where accesses to one piece of C0000–FFFFF go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    /// Reads go to memory, not to the ROMs.
    pub read_ram: bool,
    /// Writes go to memory, and are not lost.
    pub write_ram: bool,
}

/// First address and length of piece `index` of C0000–FFFFF.
pub fn segment(index: usize) -> (u64, u64) {
    match index {
        0..=11 => (0xC_0000 + ((index as u64) << 14), 0x4000),
        _ => (0xF_0000, 0x1_0000),
    }
}

/// The function at reset.
pub fn new() -> Config {
    let mut config = Config::new(Identity {
        vendor: 0x8086,
        device: 0x1237,
        revision: 0x02,
        class: [0x06, 0x00, 0x00],
        multifunction: false,
    });
    // Memory and master are always on; only SERR# can be switched.
    config.preset(0x04, &[0x06, 0x00, 0x80, 0x02]);
    config.allow(0x04, &[0x00, 0x01]);
    // Timing, row boundaries, error reporting: kept for who reads them back.
    config.allow(0x50, &[0xFF; 9]);
    config.allow(PAM0, &[0x70, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77]);
    config.allow(0x60, &[0xFF; 18]);
    config.preset(SMRAM, &[0x02]);
    config.allow(SMRAM, &[0x78]);
    config.allow(0x90, &[0xFF]);
    config
}

/// Follows a write: a locked SMRAM register is closed and cannot be written any more (bit D_LCK).
pub fn written(config: &mut Config) {
    let smram = config.byte(SMRAM);
    if smram & SMRAM_LOCK != 0 {
        config.preset(SMRAM, &[smram & !SMRAM_OPEN]);
        config.allow(SMRAM, &[0x20]);
    }
}

/// What the PAM registers say.
pub fn shadow(config: &Config) -> [Shadow; SEGMENTS] {
    std::array::from_fn(|index| {
        // PAM0's upper half is F0000–FFFFF; from PAM1 on each half is one of the pieces, the lower half the lower one.
        let nibble = match index {
            0..=11 => config.byte(PAM0 + 1 + index / 2) >> (index % 2 * 4),
            _ => config.byte(PAM0) >> 4,
        };
        Shadow { read_ram: nibble & 1 != 0, write_ram: nibble & 2 != 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_reset_only_the_roms_are_seen() {
        assert_eq!(shadow(&new()), [Shadow::default(); SEGMENTS]);
        assert_eq!(new().dword(0), 0x1237_8086);
    }

    #[test]
    fn each_register_half_governs_its_piece() {
        let mut config = new();
        config.write(0x59, &[0x30]);
        config.write(0x5A, &[0x21]);
        config.write(0x5F, &[0x30]);
        let shadow = shadow(&config);
        assert_eq!(shadow[12], Shadow { read_ram: true, write_ram: true });
        assert_eq!(shadow[0], Shadow { read_ram: true, write_ram: false });
        assert_eq!(shadow[1], Shadow { read_ram: false, write_ram: true });
        assert_eq!((shadow[10], shadow[11]), (Shadow::default(), shadow[12]));
        assert_eq!(
            (segment(0), segment(11), segment(12)),
            ((0xC_0000, 0x4000), (0xE_C000, 0x4000), (0xF_0000, 0x1_0000))
        );
    }

    #[test]
    fn the_lock_of_smram_stays() {
        let mut config = new();
        config.write(SMRAM, &[0x4A]);
        written(&mut config);
        assert_eq!(config.byte(SMRAM), 0x4A);
        config.write(SMRAM, &[0x5A]);
        written(&mut config);
        assert_eq!(config.byte(SMRAM), 0x1A);
        config.write(SMRAM, &[0x4A]);
        written(&mut config);
        assert_eq!(config.byte(SMRAM), 0x1A);
    }
}
