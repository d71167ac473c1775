//! The option ROM that has firmware start a kernel: `kernel_rom.S`, and what the machine knows of it.

use crate::devices::kernel_start::PORT;

/// Where the ROM leaves the memory map, in entries of [`MAP_ENTRY`] bytes.
pub const MAP: u16 = 0x8000;
/// Size of an entry: start, length, kind.
pub const MAP_ENTRY: u64 = 20;
/// As many entries are asked for.
pub const MAP_MOST: u16 = 128;

const SIZE: usize = 512;
/// The plug-and-play header: 32 bytes, with a checksum of its own.
const PNP: std::ops::Range<usize> = 0x20..0x40;
const PNP_CHECKSUM: usize = 0x29;
/// A byte of the ROM that is not used for anything else makes its checksum right.
const CHECKSUM: usize = SIZE - 1;

core::arch::global_asm!(
    include_str!("kernel_rom.S"),
    map = const MAP,
    most = const MAP_MOST,
    port = const PORT,
    options(att_syntax)
);

extern "C" {
    #[link_name = "rvmm_kernel_rom"]
    static CODE: [u8; SIZE];
}

/// The ROM, with its checksums.
pub fn image() -> Vec<u8> {
    // SAFETY: the assembler source defines so many bytes under this name, in a section that nobody writes.
    let mut rom = unsafe { CODE }.to_vec();
    for (range, at) in [(PNP, PNP_CHECKSUM), (0..SIZE, CHECKSUM)] {
        let sum = rom.get(range).unwrap_or_default().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if let Some(byte) = rom.get_mut(at) {
            *byte = 0u8.wrapping_sub(sum);
        }
    }
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rom_is_one_that_firmware_takes() {
        let rom = image();
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let half = |at: usize| usize::from(u16::from_le_bytes([rom[at], rom[at + 1]]));
        assert_eq!((rom.len(), &rom[..3], sum(&rom)), (512, &[0x55, 0xAA, 1][..], 0));
        assert_eq!(rom[3], 0xCB, "a far return");
        let pnp = half(0x1A);
        assert_eq!((pnp, &rom[pnp..pnp + 4], sum(&rom[PNP])), (0x20, &b"$PnP"[..], 0));
        assert!(rom[half(pnp + 16)..].starts_with(b"kernel of"));
        // cld; xor ax,ax in 16 bits
        assert!(rom[half(pnp + 26)..].starts_with(&[0xFC, 0x31, 0xC0]));
        assert_eq!(rom[510], 0, "the code leaves room for the checksum");
    }
}
