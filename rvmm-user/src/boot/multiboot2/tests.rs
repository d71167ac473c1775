use vm_memory::{Bytes, GuestAddress};

use super::super::testing::{elf32, elf64, run, Given};
use super::testing::{file, tag as wish};
use super::*;
use crate::error::Error;

fn header(tags: &[Vec<u8>]) -> Vec<u8> {
    let mut tags = tags.to_vec();
    tags.push(wish(0, 0, &[]));
    file(0, &tags)
}

fn reason(kernel: &[u8]) -> ImageError {
    match run(kernel, &Given::default()).1 {
        Err(Error::Image { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The tags that a kernel is told, each as type and data.
fn told(kernel: &[u8], given: &Given<'_>) -> (Entry, Vec<(u32, Vec<u8>)>, GuestMemory) {
    let (memory, entry) = run(kernel, given);
    let entry = entry.unwrap();
    assert_eq!((entry.eax, entry.ebx % 8, entry.mode), (BOOTLOADER_MAGIC, 0, Mode::Protected));
    let word = |at: u32| memory.read_obj::<u32>(GuestAddress((entry.ebx + at).into())).unwrap();
    let (mut tags, mut at) = (Vec::new(), 8);
    loop {
        let (kind, size) = (word(at), word(at + 4));
        let mut data = vec![0; size as usize - 8];
        memory.read_slice(&mut data, GuestAddress((entry.ebx + at + 8).into())).unwrap();
        tags.push((kind, data));
        at += size.next_multiple_of(8);
        if kind == 0 {
            assert_eq!((size, at), (8, word(0)));
            return (entry, tags, memory);
        }
    }
}

fn find(tags: &[(u32, Vec<u8>)], kind: u32) -> &[u8] {
    &tags.iter().find(|(other, _)| *other == kind).unwrap().1
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(*bytes[4 * index..].first_chunk().unwrap())
}

#[test]
fn a_kernel_of_either_size_is_told_its_tags() {
    for (image, long) in [(elf32(&header(&[])), false), (elf64(&header(&[])), true)] {
        let (entry, tags, memory) = told(&image, &Given { modules: &["file x y", "other"], ..Given::default() });
        assert_eq!((entry.rip, entry.needs_long_mode), (0x10_0018, long));
        let kinds: Vec<u32> = tags.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 2, 4, 3, 3, 6, 0]);
        assert_eq!((find(&tags, 1), find(&tags, 2)), (&b"a b\0"[..], &b"rvmm\0"[..]));
        assert_eq!((word(find(&tags, 4), 0), word(find(&tags, 4), 1)), (639, 3072));
        let module = find(&tags, 3);
        assert_eq!((word(module, 1) - word(module, 0), &module[8..]), (8, &b"x y\0"[..]));
        assert_eq!(tags[4].1[8..], b"\0"[..]);
        let first: u32 = memory.read_obj(GuestAddress(word(module, 0).into())).unwrap();
        assert_eq!(first, u32::from_le_bytes(*b"file"));
        let map = find(&tags, 6);
        assert_eq!((word(map, 0), word(map, 1), map.len()), (24, 0, 8 + 4 * 24));
        assert_eq!((word(map, 2 + 18), word(map, 2 + 20), word(map, 2 + 22)), (0x10_0000, 3 << 20, 1));
    }
}

#[test]
fn tags_say_where_the_image_goes_and_begins() {
    let addresses = wish(2, 0, &[0x20_0000, u32::MAX, 0, 0x20_1000]);
    let image = header(&[addresses.clone(), wish(3, 0, &[0x20_0020])]);
    let (entry, _, memory) = told(&image, &Given::default());
    let first: u32 = memory.read_obj(GuestAddress(0x20_0000)).unwrap();
    assert_eq!((entry.rip, first), (0x20_0020, 0xE852_50D6));
    assert!(matches!(reason(&header(&[addresses])), ImageError::MultibootHeader(_)), "no entry");
    assert_eq!(reason(&header(&[])), ImageError::NoAddresses);
    let (entry, ..) = told(&elf32(&header(&[wish(3, 0, &[0x10_0004])])), &Given::default());
    assert_eq!(entry.rip, 0x10_0004, "the tag comes before the ELF header's entry");
}

#[test]
fn a_relocatable_image_goes_where_it_may() {
    let placed = |fields: [u32; 4]| {
        let (entry, tags, _) = told(&elf32(&header(&[wish(10, 0, &fields)])), &Given::default());
        let base = word(find(&tags, 21), 0);
        assert_eq!(entry.rip - u64::from(base), 0x30);
        base
    };
    assert_eq!(placed([0, u32::MAX, 4096, 0]), 0x10_0000, "where it was linked for");
    assert_eq!(placed([0x20_0000, u32::MAX, 0x10_0000, 1]), 0x20_0000);
    assert_eq!(placed([0x10_0001, u32::MAX, 0x8000, 0]), 0x10_8000);
    assert_eq!(placed([0, u32::MAX, 0x1_0000, 2]), 0x3F_0000);
    assert_eq!(placed([0, 0x2F_FFFF, 0x1000, 2]), 0x2F_F000);
    let nowhere = elf32(&header(&[wish(10, 0, &[0x100_0000, 0x200_0000, 1, 0])]));
    assert!(matches!(run(&nowhere, &Given::default()).1, Err(Error::Memory { .. })));
}

#[test]
fn information_that_is_not_there_is_refused() {
    let asks = |kinds: &[u32]| elf32(&header(&[wish(1, 0, kinds)]));
    told(&asks(&[1, 2, 3, 4, 6, 9]), &Given::default());
    assert_eq!(reason(&asks(&[4, 10])), ImageError::MultibootInformation(10));
    assert_eq!(reason(&asks(&[8])), ImageError::NoDisplay);
    assert_eq!(reason(&asks(&[14])), ImageError::MultibootInformation(14));
    told(&asks(&[8, 14]), &Given { firmware: true, ..Given::default() });
    assert_eq!(reason(&elf32(&header(&[wish(77, 0, &[])]))), ImageError::MultibootTag(77));
}

#[test]
fn a_frame_buffer_needs_a_display() {
    let firmware = Given { firmware: true, ..Given::default() };
    let wants = elf32(&header(&[wish(5, 0, &[800, 600, 32])]));
    assert_eq!(reason(&wants), ImageError::NoDisplay);
    let (entry, tags, _) = told(&wants, &firmware);
    assert_eq!(entry.picture, Some(Picture::Pixels { address: 0xFD00_0000, width: 800, height: 600, depth: 32 }));
    let picture = find(&tags, 8);
    assert_eq!((word(picture, 0), word(picture, 2), word(picture, 3), word(picture, 4)), (0xFD00_0000, 3200, 800, 600));
    assert_eq!(picture[20..], [32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
    let would_like = elf32(&header(&[wish(5, 1, &[800, 600, 32])]));
    let (entry, tags, _) = told(&would_like, &Given::default());
    assert!(entry.picture.is_none() && tags.iter().all(|(kind, _)| *kind != 8));
    let (entry, tags, _) = told(&elf32(&header(&[wish(4, 0, &[3])])), &firmware);
    assert_eq!((entry.picture, find(&tags, 8)[21]), (None, 2), "text will do");
    assert_eq!(reason(&elf32(&header(&[wish(4, 0, &[1])]))), ImageError::NoDisplay);
    assert!(told(&elf32(&header(&[wish(4, 0, &[1])])), &firmware).0.picture.is_some());
}
