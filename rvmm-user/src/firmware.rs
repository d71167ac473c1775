//! The firmware's files.

use std::path::{Path, PathBuf};

use crate::cli::FirmwareArgs;
use crate::error::Error;
use crate::memory::ram::{Roms, FIRMWARE_SIZES};

/// Where Debian's package seabios has its files.
const BIOS: &str = "/usr/share/seabios/bios-256k.bin";
const VGA_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";

/// The largest adapter ROM: what fits into C0000–DFFFF.
const MAX_VGA_BIOS: usize = 128 << 10;

/// Reads the files that `args` names, or Debian's.
pub fn read(args: &FirmwareArgs) -> Result<Roms, Error> {
    let path = args.bios.clone().unwrap_or_else(|| BIOS.into());
    let bios = read_file(&path)?;
    check_bios(&bios).map_err(|reason| Error::Rom { what: "firmware", path, reason })?;
    let vga = match &args.vgabios {
        Some(path) if path.as_os_str() == "none" => None,
        given => {
            let path: PathBuf = given.clone().unwrap_or_else(|| VGA_BIOS.into());
            let image = read_file(&path)?;
            check_vga(&image).map_err(|reason| Error::Rom { what: "display adapter's firmware", path, reason })?;
            Some(image)
        }
    };
    Roms::new(&bios, vga.as_deref())
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Firmware { path: path.to_path_buf(), source })
}

fn check_bios(image: &[u8]) -> Result<(), String> {
    let len = image.len();
    if !FIRMWARE_SIZES.contains(&len) || len % (64 << 10) != 0 {
        return Err(format!("it is {len} bytes long, and firmware is a multiple of 64 KiB, 16 MiB at most"));
    }
    Ok(())
}

/// A PC expansion ROM (PCI Local Bus Specification 2.1, section 6.3.1).
fn check_vga(image: &[u8]) -> Result<(), String> {
    if image.len() > MAX_VGA_BIOS {
        return Err(format!("it is {} bytes long, and there is room for 128 KiB", image.len()));
    }
    match image {
        [0x55, 0xAA, blocks, ..] if usize::from(*blocks) * 512 <= image.len() => Ok(()),
        [0x55, 0xAA, ..] => Err("it is truncated".into()),
        _ => Err("it does not begin with 55 AA, as expansion ROMs do".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_firmware() {
        assert!(check_bios(&vec![0; 256 << 10]).is_ok());
        for len in [0, 1, (256 << 10) - 1, 32 << 10, (16 << 20) + (64 << 10)] {
            assert!(check_bios(&vec![0; len]).is_err(), "{len}");
        }
    }

    #[test]
    fn expansion_roms_have_their_signature() {
        let rom = |head: [u8; 3]| head.into_iter().chain([0; 1021]).collect::<Vec<u8>>();
        assert!(check_vga(&rom([0x55, 0xAA, 2])).is_ok());
        assert!(check_vga(&rom([0x55, 0xAA, 3])).is_err());
        assert!(check_vga(&rom([0xAA, 0x55, 2])).is_err());
        assert!(check_vga(&[0x55]).is_err());
    }
}
