use vm_memory::{Bytes, GuestAddress};

use super::super::testing::{elf32, elf64, run, Given};
use super::super::Protocol;
use super::*;
use crate::boot::Picture;
use crate::error::Error;

const HEADER_MAGIC: u32 = 0x1BAD_B002;

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn header(flags: u32) -> Vec<u8> {
    words(&[HEADER_MAGIC, flags, 0u32.wrapping_sub(HEADER_MAGIC.wrapping_add(flags))])
}

fn image() -> Vec<u8> {
    elf32(&header(3))
}

fn reason(kernel: &[u8]) -> ImageError {
    match run(kernel, &Given::default()).1 {
        Err(Error::Image { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

struct Told(GuestMemory, u64);

impl Told {
    fn word(&self, offset: u64) -> u32 {
        self.at(self.1 + offset)
    }

    fn at(&self, address: u64) -> u32 {
        self.0.read_obj(GuestAddress(address)).unwrap()
    }

    fn text(&self, address: u32, len: usize) -> Vec<u8> {
        let mut text = vec![0; len + 1];
        self.0.read_slice(&mut text, GuestAddress(address.into())).unwrap();
        assert_eq!(text.pop(), Some(0));
        text
    }
}

fn told(kernel: &[u8], given: &Given<'_>) -> (Told, Entry) {
    let (memory, entry) = run(kernel, given);
    let entry = entry.unwrap();
    assert_eq!((entry.eax, entry.mode), (BOOTLOADER_MAGIC, Mode::Protected));
    (Told(memory, entry.ebx.into()), entry)
}

#[test]
fn a_kernel_is_loaded_at_its_physical_address() {
    let (told, entry) = told(&image(), &Given::default());
    assert_eq!(entry.rip, 0x10_000C);
    assert_eq!(told.at(0x10_0000), HEADER_MAGIC);
    assert_eq!(told.word(0), 0x24D, "memory, command line, modules, map, loader's name");
    assert_eq!((told.word(4), told.word(8)), (639, 3 * 1024));
    assert_eq!(told.text(told.word(16), 10), b"kernel a b");
    assert_eq!(told.text(told.word(64), 4), b"rvmm");
    assert_eq!((told.word(44), told.at(u64::from(told.word(48)))), (4 * 24, 20));
    assert_eq!(told.word(20), 0);
}

#[test]
fn modules_have_pages_of_their_own_and_their_words() {
    let (told, _) = told(&image(), &Given { modules: &["m1 a b", "second"], ..Given::default() });
    assert_eq!(told.word(20), 2);
    let table = u64::from(told.word(24));
    let mut last = 0x10_0071;
    for (index, text) in ["m1 a b", "second"].into_iter().enumerate() {
        let at = table + 16 * index as u64;
        let (start, end, words) = (told.at(at), told.at(at + 4), told.at(at + 8));
        assert!(start % 4096 == 0 && start >= last, "{start:x}");
        assert_eq!((end - start) as usize, text.len());
        assert_eq!(told.text(start, text.len()), text.as_bytes(), "its data, which ends in a page of zeros");
        assert_eq!(told.text(words, text.len()), text.as_bytes());
        last = end;
    }
}

#[test]
fn a_file_of_any_kind_is_loaded_where_its_header_says() {
    let mut file = vec![0x90; 32];
    file.extend(header(0x1_0003));
    // Header, begin, end of data, end of bss, entry.
    file.extend(words(&[0x20_0010, 0x20_0000, 0x20_0030, 0x20_1000, 0x20_0004]));
    file.extend([0xCC; 100]);
    let (told, entry) = told(&file, &Given::default());
    assert_eq!(entry.rip, 0x20_0004);
    assert_eq!((told.at(0x20_0000), told.at(0x20_0010)), (0x9090_9090, HEADER_MAGIC));
    assert_eq!((told.at(0x20_002C), told.at(0x20_0030)), (0x20_0004, 0), "the file, and the bss behind it");
    file.truncate(60);
    assert!(matches!(reason(&file), ImageError::MultibootHeader(_)));
}

#[test]
fn the_addresses_count_even_in_an_elf_file() {
    let mut all = header(0x1_0000);
    // The ELF header is not loaded: the file's header is 88 bytes behind its begin.
    all.extend(words(&[0x30_0000, 0x30_0000, 0, 0, 0x30_0020]));
    let (told, entry) = told(&elf64(&all), &Given::default());
    assert_eq!((entry.rip, told.at(0x30_0000), told.at(0x10_0000)), (0x30_0020, HEADER_MAGIC, 0));
}

#[test]
fn a_wish_for_a_picture_needs_a_display() {
    let mut wants = header(4);
    wants.extend(words(&[0, 0, 0, 0, 0, 0, 640, 480, 16]));
    assert_eq!(reason(&elf32(&wants)), ImageError::NoDisplay);
    let given = Given { firmware: true, ..Given::default() };
    let (told_pixels, entry) = told(&elf32(&wants), &given);
    assert_eq!(entry.picture, Some(Picture::Pixels { address: 0xFD00_0000, width: 640, height: 480, depth: 16 }));
    assert_eq!(told_pixels.word(0) & 1 << 12, 1 << 12);
    assert_eq!((told_pixels.word(88), told_pixels.word(96), told_pixels.word(100)), (0xFD00_0000, 1280, 640));
    assert_eq!(told_pixels.word(108), 0x0110, "16 bits, colours in the pixel");
    assert_eq!(told_pixels.word(112), 0x0605_050B, "red at bit 11");
    let (told_text, entry) = told(&image(), &given);
    assert_eq!((entry.picture, told_text.word(88), told_text.word(108) & 0xFFFF), (None, 0xB_8000, 0x0210));
}

#[test]
fn an_elf_file_s_sections_are_told_and_those_of_no_segment_loaded() {
    let mut file = image();
    let table = file.len() as u32;
    file[32..36].copy_from_slice(&table.to_le_bytes());
    file[48] = 2;
    // An empty section, and 4 bytes of symbols at offset 1.
    file.extend(words(&[0; 10]));
    file.extend(words(&[0, 2, 0, 0, 1, 4, 0, 0, 4, 0]));
    let (told, _) = told(&file, &Given::default());
    assert_eq!((told.word(0) & 0x20, told.word(28), told.word(32)), (0x20, 2, 40));
    let symbols = told.at(u64::from(told.word(36)) + 40 + 12);
    assert_eq!(told.at(symbols.into()), u32::from_le_bytes(*b"ELF\x01"));
    file.truncate(file.len() - 1);
    run(&file, &Given::default()).1.unwrap_err();
}

#[test]
fn other_images_are_refused_with_their_reason() {
    let change = |offset: usize, bytes: &[u8]| {
        let mut file = image();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        reason(&file)
    };
    assert_eq!(change(18, &[40, 0]), ImageError::Architecture(40));
    assert_eq!(change(88, &[0]), ImageError::NoEntry);
    assert_eq!(change(92, &[4]), ImageError::MultibootHeader("its checksum is wrong"));
    assert_eq!(reason(&elf32(&header(8))), ImageError::MultibootFlags(8));
    assert!(matches!(change(64, &[0, 0, 10, 0]), ImageError::Segment { .. }));
    assert!(matches!(change(24, &[0; 4]), ImageError::Elf(_)));
    assert_eq!(reason(&header(3)), ImageError::NoAddresses);
    assert_eq!(reason(&elf64(&header(3))), ImageError::SixtyFourBitMultiboot);
    let file = image();
    assert!(matches!(reason(&file[..file.len() - 1]), ImageError::Elf(_)));
    assert!(matches!(reason(&file[..30]), ImageError::Elf(_)));
    for (protocol, wanted) in [
        (Protocol::Multiboot2, ImageError::NoMultiboot2),
        (Protocol::Linux32, ImageError::NoBzImage),
        (Protocol::Pvh, ImageError::NoPvh),
    ] {
        match run(&file, &Given { protocol: Some(protocol), ..Given::default() }).1 {
            Err(Error::Image { reason, .. }) => assert_eq!(reason, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_kernel_above_memory_asks_for_more() {
    let mut file = image();
    file[64..68].copy_from_slice(&0x80_0000u32.to_le_bytes());
    assert!(matches!(run(&file, &Given::default()).1, Err(Error::Memory { .. })));
    let huge = "x".repeat(3 << 20);
    let given = Given { modules: &[&huge], ..Given::default() };
    assert!(matches!(run(&image(), &given).1, Err(Error::Memory { .. })));
}

#[test]
fn a_kernel_may_take_the_place_of_what_it_is_told() {
    let mut file = image();
    // From 8000 to the end of conventional memory: the information goes above 1 MiB.
    file[64..68].copy_from_slice(&0x8000u32.to_le_bytes());
    file[72..76].copy_from_slice(&0x9_7C00u32.to_le_bytes());
    let (told, _) = told(&file, &Given::default());
    assert!(told.1 >= HIGH_START, "{:x}", told.1);
}
