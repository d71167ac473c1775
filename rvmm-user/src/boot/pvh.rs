//! PVH (docs/misc/pvh.pandoc of Xen): ELF kernels with a 32-bit entry point in a note, 32-bit and 64-bit ones alike. Linux's vmlinux has it.

use elf::abi::PT_NOTE;
use elf::note::{Note, NoteAny};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info, XEN_HVM_START_MAGIC_VALUE,
};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::elf::{damaged, Executable};
use super::ground::Ground;
use super::{rsdp, too_small, unexpected, Entry, Failure, FlatSegments, Mode, Payload};
use crate::error::ImageError;
use crate::memory::GuestMemory;

/// The note whose descriptor is the entry point (XEN_ELFNOTE_PHYS32_ENTRY), and its owner.
const PHYS32_ENTRY: u64 = 18;
const OWNER: &[u8] = b"Xen\0";

/// Where the start information and what it points to go if nothing else is there: conventional memory.
const LOWEST: u64 = 0x7000;
const PAGE: u64 = 4096;

/// The version with a memory map.
const VERSION: u32 = 1;

/// The entry point, if the kernel has one.
pub(super) fn find_entry(kernel: &Executable<'_>) -> Result<Option<u32>, Failure> {
    for segment in kernel.segments()?.filter(|segment| segment.p_type == PT_NOTE) {
        for note in kernel.elf.segment_data_as_notes(&segment).map_err(damaged)? {
            let Note::Unknown(NoteAny { n_type: PHYS32_ENTRY, name: OWNER, desc }) = note else { continue };
            // As wide as the kernel's addresses, and always below 4 GiB.
            let Some(low) = desc.first_chunk::<4>() else {
                return Err(ImageError::Elf("its PVH note is too short".into()).into());
            };
            return Ok(Some(u32::from_le_bytes(*low)));
        }
    }
    Ok(None)
}

pub(super) fn load(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    kernel: &Executable<'_>,
    entry: u32,
) -> Result<Entry, Failure> {
    let mut ground = Ground::new(payload.map);
    let loaded = kernel.load(memory, payload, &mut ground, 0)?;
    let places = place_modules(memory, payload, &mut ground, loaded.end)?;
    let address = write_start_info(memory, payload, &mut ground, &places)?;
    Ok(Entry {
        rip: entry.into(),
        eax: 0,
        ebx: address,
        esi: 0,
        segments: FlatSegments::PLAIN,
        mode: Mode::Protected,
        needs_long_mode: kernel.sixty_four_bit,
        picture: None,
    })
}

/// As high as memory allows: what lies behind its own segments a kernel may use before it looks at its modules.
fn place_modules(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    ground: &mut Ground,
    kernel_end: u64,
) -> Result<Vec<u64>, Failure> {
    let mut places = Vec::new();
    for module in payload.modules {
        let size = (module.data.len() as u64).next_multiple_of(PAGE);
        let Some(start) = ground.highest(kernel_end, payload.map.upper_end(), size, PAGE) else {
            return Err(too_small(payload, kernel_end.next_multiple_of(PAGE) + size, "the kernel and its module"));
        };
        memory.write_slice(&module.data, GuestAddress(start)).map_err(unexpected)?;
        places.push(start);
    }
    Ok(places)
}

/// Start information, modules, map and command line, in one block; its address.
fn write_start_info(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    ground: &mut Ground,
    places: &[u64],
) -> Result<u32, Failure> {
    let entries = payload.map.entries();
    let modules_at = size_of::<hvm_start_info>();
    let map_at = modules_at + places.len() * size_of::<hvm_modlist_entry>();
    let text_at = map_at + entries.len() * size_of::<hvm_memmap_table_entry>();
    let len = (text_at + payload.command_line.len() + 1) as u64;
    let Some(start) = ground.lowest(LOWEST, payload.map.upper_end(), len, 8) else {
        return Err(too_small(payload, payload.map.upper_end() + len, "the kernel and what it is told"));
    };
    let at = |offset: usize| start + offset as u64;
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        cmdline_paddr: at(text_at),
        rsdp_paddr: if payload.firmware { rsdp::find(memory).map_or(0, |rsdp| rsdp.address) } else { 0 },
        nr_modules: places.len() as u32,
        modlist_paddr: if places.is_empty() { 0 } else { at(modules_at) },
        memmap_paddr: at(map_at),
        memmap_entries: entries.len() as u32,
        ..Default::default()
    };
    let mut block = info.as_slice().to_vec();
    for (paddr, module) in places.iter().zip(payload.modules) {
        let entry = hvm_modlist_entry { paddr: *paddr, size: module.data.len() as u64, ..Default::default() };
        block.extend_from_slice(entry.as_slice());
    }
    for entry in entries {
        let line = hvm_memmap_table_entry { addr: entry.start, size: entry.len, type_: entry.kind, reserved: 0 };
        block.extend_from_slice(line.as_slice());
    }
    block.extend_from_slice(payload.command_line.as_bytes());
    block.push(0);
    memory.write_slice(&block, GuestAddress(start)).map_err(unexpected)?;
    Ok(start as u32)
}

#[cfg(test)]
mod tests {
    use super::super::{testing, Protocol};
    use super::*;
    use crate::error::Error;

    /// An x86-64 executable that is linked at -2 GiB and loads at 1 MiB: 16 bytes of code, and a note that says where to enter it.
    fn image() -> Vec<u8> {
        let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [2u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        // Entry, program headers, section headers.
        for long in [0xFFFF_FFFF_8010_0000u64, 64, 0] {
            file.extend(long.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut segment = |type_: u32, longs: [u64; 6]| {
            file.extend(type_.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            longs.iter().for_each(|long| file.extend(long.to_le_bytes()));
        };
        // Offset, linear, physical, bytes in file and memory, alignment.
        segment(elf::abi::PT_LOAD, [176, 0xFFFF_FFFF_8010_0000, 0x10_0000, 16, 64, 4]);
        segment(PT_NOTE, [192, 0, 0, 24, 24, 4]);
        file.extend([0xF4; 16]);
        for word in [4u32, 8, PHYS32_ENTRY as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(OWNER);
        file.extend(0x10_0008u64.to_le_bytes());
        file
    }

    fn run(kernel: &[u8], protocol: Option<Protocol>, modules: &[&str]) -> (GuestMemory, Result<Entry, Error>) {
        testing::run(kernel, &testing::Given { protocol, modules, ..Default::default() })
    }

    #[test]
    fn a_64_bit_kernel_is_entered_in_32_bit_mode_with_its_start_information() {
        let (memory, entry) = run(&image(), None, &["module"]);
        let entry = entry.unwrap();
        assert_eq!((entry.rip, entry.mode), (0x10_0008, Mode::Protected));
        assert!(entry.needs_long_mode);
        let first: u8 = memory.read_obj(GuestAddress(0x10_0000)).unwrap();
        assert_eq!(first, 0xF4);
        let info: hvm_start_info = memory.read_obj(GuestAddress(entry.ebx.into())).unwrap();
        assert_eq!((info.magic, info.version, info.nr_modules, info.memmap_entries), (0x336E_C578, 1, 1, 4));
        let module: hvm_modlist_entry = memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), ((4 << 20) - 4096, 6));
        let mut bytes = [0; 6];
        memory.read_slice(&mut bytes, GuestAddress(module.paddr)).unwrap();
        assert_eq!(&bytes, b"module");
        let last: hvm_memmap_table_entry =
            memory.read_obj(GuestAddress(info.memmap_paddr + 3 * size_of::<hvm_memmap_table_entry>() as u64)).unwrap();
        assert_eq!((last.addr, last.size, last.type_), (0x10_0000, 3 << 20, 1));
        let mut text = [0; 4];
        memory.read_slice(&mut text, GuestAddress(info.cmdline_paddr)).unwrap();
        assert_eq!(&text, b"a b\0");
    }

    #[test]
    fn what_has_no_such_entry_is_refused_with_its_reason() {
        let reason = |kernel: &[u8], protocol| match run(kernel, protocol, &[]).1 {
            Err(Error::Image { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let mut none = image();
        none[200] = 17;
        assert_eq!(reason(&none, None), ImageError::NoEntry);
        assert_eq!(reason(&none, Some(Protocol::Pvh)), ImageError::NoPvh);
        assert_eq!(reason(&image(), Some(Protocol::Multiboot)), ImageError::NoMultiboot);
        for word in [0x1BAD_B002u32, 0, 0u32.wrapping_sub(0x1BAD_B002)] {
            none.extend(word.to_le_bytes());
        }
        assert_eq!(reason(&none, None), ImageError::SixtyFourBitMultiboot);
        assert_eq!(reason(&image(), Some(Protocol::Linux64)), ImageError::NoBzImage);
        let mut short = image();
        short[196] = 2;
        assert!(matches!(reason(&short, None), ImageError::Elf(_)));
    }
}
