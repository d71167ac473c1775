//! Payloads and ELF files for the tests of the loaders.

use std::path::Path;

use elf::abi::{EM_386, EM_X86_64, ET_EXEC, PT_LOAD};

use super::modules::Module;
use super::{load, Entry, Payload, Protocol, Screen};
use crate::error::Error;
use crate::memory::map::Map;
use crate::memory::{self, GuestMemory};

/// What a test gives beside the kernel.
pub struct Given<'a> {
    pub mib: u64,
    pub modules: &'a [&'a str],
    pub protocol: Option<Protocol>,
    pub firmware: bool,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Given { mib: 4, modules: &[], protocol: None, firmware: false }
    }
}

/// Loads `kernel` with the command line "a b"; each module's data is its own text.
pub fn run(kernel: &[u8], given: &Given<'_>) -> (GuestMemory, Result<Entry, Error>) {
    let memory = memory::create(given.mib).unwrap();
    let modules: Vec<Module> =
        given.modules.iter().map(|text| Module { text: text.to_string(), data: text.as_bytes().to_vec() }).collect();
    let payload = Payload {
        kernel_path: Path::new("kernel"),
        kernel,
        modules: &modules,
        command_line: "a b",
        memory_bytes: given.mib << 20,
        map: &Map::without_firmware(given.mib << 20),
        screen: given.firmware.then_some(Screen { frame_buffer: Some(0xFD00_0000), bytes: 16 << 20 }),
        firmware: given.firmware,
        protocol: given.protocol,
    };
    let entry = load(&memory, &payload);
    (memory, entry)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A 32-bit executable linked at C0100000 that loads at 1 MiB: `header` and one HLT, where it is entered, and 100 bytes of zeroes that the file does
/// not hold.
pub fn elf32(header: &[u8]) -> Vec<u8> {
    let mut file = b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [ET_EXEC, EM_386] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let len = header.len() as u32 + 1;
    // Version, entry, program headers, section headers, flags.
    file.extend(words(&[1, 0xC010_0000 + len - 1, 52, 0, 0]));
    for half in [52u16, 32, 1, 40, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    // Type, offset, linear, physical, bytes in file and memory, flags, alignment.
    file.extend(words(&[PT_LOAD, 88, 0xC010_0000, 0x10_0000, len, len + 100, 7, 4, 0]));
    file.extend(header);
    file.push(0xF4);
    file
}

/// The same with 64 bits, linked at -2 GiB.
pub fn elf64(header: &[u8]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [ET_EXEC, EM_X86_64] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend(words(&[1]));
    let (len, base) = (header.len() as u64 + 1, 0xFFFF_FFFF_8010_0000u64);
    for long in [base + len - 1, 64, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend(words(&[0]));
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(words(&[PT_LOAD, 7]));
    for long in [120, base, 0x10_0000, len, len + 100, 4] {
        file.extend(long.to_le_bytes());
    }
    file.extend(header);
    file.push(0xF4);
    file
}
