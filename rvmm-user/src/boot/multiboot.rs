//! Multiboot 1 (Multiboot Specification 0.6.96): 32-bit ELF kernels, as QEMU's `-kernel` starts them.

use vm_memory::{Bytes, GuestAddress};

use super::elf::Executable;
use super::{too_small, unexpected, Entry, Failure, FlatSegments, Mode, Payload};
use crate::error::{Error, ImageError};
use crate::memory::{self, GuestMemory, HIGH_START};

/// What EAX tells the kernel.
const BOOTLOADER_MAGIC: u32 = 0x2BAD_B002;
const HEADER_MAGIC: u32 = 0x1BAD_B002;
/// The header lies in the first 8 KiB.
const HEADER_SEARCH: usize = 8192;
/// Requirements that are met: page-aligned modules and memory information.
const KNOWN_REQUIREMENTS: u32 = 0b11;
/// Requirements are bits 15–0; the bits above are optional or describe the header.
const REQUIREMENTS: u32 = 0xFFFF;

/// The multiboot information and what it points to, in conventional memory.
const INFO: u64 = 0x9000;
const MODULES: u64 = 0x9100;
const MEMORY_MAP: u64 = 0x9200;
const LOADER_NAME: u64 = 0x9400;
const COMMAND_LINE: u64 = 0xA000;
const COMMAND_LINE_ROOM: usize = 0x4000;
const PAGE: u64 = 4096;

const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

pub(super) fn load(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    kernel: &Executable<'_>,
    requirements: u32,
) -> Result<Entry, Failure> {
    if requirements & REQUIREMENTS & !KNOWN_REQUIREMENTS != 0 {
        return Err(ImageError::MultibootFlags(requirements).into());
    }
    if payload.command_line.len() >= COMMAND_LINE_ROOM {
        return Err(Error::CommandLine { length: payload.command_line.len(), limit: COMMAND_LINE_ROOM - 1 }.into());
    }
    let loaded = kernel.load(memory, payload)?;
    let entry = loaded.entry.and_then(|entry| u32::try_from(entry).ok());
    let entry = entry.ok_or_else(|| ImageError::Elf("its entry point is in none of its segments".into()))?;
    write_information(memory, payload, loaded.end)?;
    Ok(Entry {
        rip: entry.into(),
        eax: BOOTLOADER_MAGIC,
        ebx: INFO as u32,
        esi: 0,
        segments: FlatSegments::PLAIN,
        mode: Mode::Protected,
        needs_long_mode: false,
    })
}

/// The flags of the multiboot header, if there is one.
pub(super) fn find_header(file: &[u8]) -> Option<u32> {
    let area = file.get(..file.len().min(HEADER_SEARCH))?;
    let words: Vec<u32> =
        area.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
    words.windows(3).find_map(|header| match *header {
        [HEADER_MAGIC, flags, checksum] if HEADER_MAGIC.wrapping_add(flags).wrapping_add(checksum) == 0 => Some(flags),
        _ => None,
    })
}

fn write_information(memory: &GuestMemory, payload: &Payload<'_>, kernel_end: u64) -> Result<(), Failure> {
    let write = |bytes: &[u8], address: u64| memory.write_slice(bytes, GuestAddress(address)).map_err(unexpected);
    let text = |text: &str, address: u64| {
        write(text.as_bytes(), address)?;
        write(&[0], address + text.len() as u64)
    };
    text(payload.command_line, COMMAND_LINE)?;
    text("rvmm", LOADER_NAME)?;

    let mut modules = 0;
    if let Some(module) = payload.initrd {
        let start = kernel_end.next_multiple_of(PAGE);
        let end = start + module.len() as u64;
        if end > memory::below_hole(payload.memory_bytes) {
            return Err(too_small(payload, end, "the kernel and its module"));
        }
        write(module, start)?;
        write(&words(&[start as u32, end as u32, COMMAND_LINE as u32, 0]), MODULES)?;
        modules = 1;
    }

    let mut map = Vec::new();
    for entry in memory::map(payload.memory_bytes) {
        // `size` does not count itself.
        map.extend_from_slice(&20u32.to_le_bytes());
        map.extend_from_slice(&entry.start.to_le_bytes());
        map.extend_from_slice(&entry.len.to_le_bytes());
        map.extend_from_slice(&(if entry.usable { 1u32 } else { 2 }).to_le_bytes());
    }
    write(&map, MEMORY_MAP)?;

    let flags = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    let upper_kib = (memory::below_hole(payload.memory_bytes) - HIGH_START) >> 10;
    let information = words(&[
        flags,
        640,
        upper_kib as u32,
        0,
        COMMAND_LINE as u32,
        modules,
        MODULES as u32,
        // Symbols: none.
        0,
        0,
        0,
        0,
        map.len() as u32,
        MEMORY_MAP as u32,
        // Drives, BIOS configuration table: none.
        0,
        0,
        0,
        LOADER_NAME as u32,
    ]);
    write(&information, INFO)?;
    Ok(())
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load as load_any;
    use super::*;
    use elf::abi::{EM_386, ET_EXEC, PT_LOAD};
    use std::path::Path;

    /// One segment at 1 MiB: multiboot header, one HLT, and 100 bytes of zeroes that the file does not hold.
    fn image() -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
        for half in [ET_EXEC, EM_386] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        // Version, entry, program headers, section headers, flags.
        file.extend(words(&[1, 0xC010_000C, 52, 0, 0]));
        for half in [52u16, 32, 1, 40, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        // Type, offset, linear, physical, bytes in file and memory, flags, alignment.
        file.extend(words(&[PT_LOAD, 84, 0xC010_0000, 0x10_0000, 13, 113, 7, 4]));
        file.extend(words(&[HEADER_MAGIC, 3, 0u32.wrapping_sub(HEADER_MAGIC + 3)]));
        file.push(0xF4);
        file
    }

    fn run(kernel: &[u8], initrd: Option<&[u8]>, mib: u64) -> (GuestMemory, Result<Entry, Error>) {
        let memory = memory::create(mib).unwrap();
        let payload = Payload {
            kernel_path: Path::new("kernel"),
            kernel,
            initrd,
            command_line: "a b",
            memory_bytes: mib << 20,
            protocol: None,
        };
        let entry = load_any(&memory, &payload);
        (memory, entry)
    }

    fn reason(kernel: &[u8]) -> ImageError {
        match run(kernel, None, 4).1 {
            Err(Error::Image { reason, .. }) => reason,
            _ => panic!("the image should have been refused"),
        }
    }

    #[test]
    fn a_kernel_is_loaded_at_its_physical_address() {
        let (memory, entry) = run(&image(), Some(b"module"), 4);
        let entry = entry.unwrap();
        assert_eq!(entry.rip, 0x10_000C);
        assert_eq!(entry.eax, BOOTLOADER_MAGIC);
        let word = |address: u64| memory.read_obj::<u32>(GuestAddress(address)).unwrap();
        assert_eq!(word(0x10_0000), HEADER_MAGIC);
        assert_eq!(word(INFO + 8), 3 * 1024);
        assert_eq!(word(INFO + 20), 1, "one module");
        let module = word(MODULES);
        assert_eq!(word(MODULES + 4) - module, 6);
        assert_eq!(word(u64::from(module)), u32::from_le_bytes(*b"modu"));
        let command_line = word(INFO + 16);
        assert_eq!(word(u64::from(command_line)), u32::from_le_bytes(*b"a b\0"));
    }

    #[test]
    fn other_images_are_refused_with_their_reason() {
        let change = |offset: usize, bytes: &[u8]| {
            let mut file = image();
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
            reason(&file)
        };
        assert_eq!(change(18, &[40, 0]), ImageError::Architecture(40));
        assert_eq!(change(84, &[0]), ImageError::NoEntry);
        let flags: Vec<u8> = words(&[5, 0u32.wrapping_sub(HEADER_MAGIC + 5)]);
        assert_eq!(change(88, &flags), ImageError::MultibootFlags(5));
        assert!(matches!(change(64, &[0, 0, 10, 0]), ImageError::Segment { .. }));
        assert!(matches!(change(24, &[0; 4]), ImageError::Elf(_)));
        let file = image();
        assert!(matches!(reason(&file[..file.len() - 1]), ImageError::Elf(_)));
        assert!(matches!(reason(&file[..30]), ImageError::Elf(_)));
    }

    #[test]
    fn a_kernel_above_memory_asks_for_more() {
        let mut file = image();
        file[64..68].copy_from_slice(&0x80_0000u32.to_le_bytes());
        assert!(matches!(run(&file, None, 4).1, Err(Error::Memory { .. })));
    }
}
