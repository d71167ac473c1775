//! Properties of scanning that hold for any bytes at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions};
use proptest::prelude::*;
use rvmm_patcher::table::{classify, Policy};
use rvmm_patcher::{
    forget, scan, CodeSize, PageBytes, PageMap, PageOffset, Place, Reach, ScanCounts, ScanInput, SiteReason, Span,
    INT3, PAGE_SIZE,
};

const LINEAR: u64 = 0xC012_3000;

fn code_size() -> impl Strategy<Value = CodeSize> {
    prop_oneof![Just(CodeSize::Bits32), Just(CodeSize::Bits64)]
}

/// Bytes in which sensitive opcodes and short branches are common.
fn code_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => any::<u8>(),
        2 => proptest::sample::select(vec![0x0F, 0x9C, 0x9D, 0xFA, 0xFB, 0xCF, 0xCC, 0x8C, 0x8E, 0x48, 0x41, 0xE8, 0xEB, 0x74, 0xC3, 0x90]),
        1 => 0u8..16,
    ]
}

fn page(bytes: &[u8], fill: u8) -> Box<PageBytes> {
    let mut page = Box::new([fill; PAGE_SIZE]);
    let middle = 1000;
    page[middle..middle + bytes.len()].copy_from_slice(bytes);
    // The same at the page's end, cut off there.
    let tail = bytes.len().min(40);
    page[PAGE_SIZE - tail..].copy_from_slice(&bytes[..tail]);
    page
}

fn place(map: &PageMap, at: usize) -> Place {
    map.at(PageOffset::of(at as u64))
}

fn run(
    page: &PageBytes,
    code_size: CodeSize,
    map: &mut PageMap,
    view: &mut PageBytes,
    counts: &mut ScanCounts,
    entry: u16,
) {
    let input =
        ScanInput { page, linear: LINEAR, entry: PageOffset::of(u64::from(entry)), code_size, reach: Reach::default() };
    let outcome = scan(&input, map, counts).unwrap();
    assert_ne!(outcome.entry, Place::Unscanned);
    map.write_view(page, LINEAR, view, outcome.changed);
}

/// What must hold of every map and view, told by a decoder of its own.
fn check(page: &PageBytes, code_size: CodeSize, map: &PageMap, view: &PageBytes) {
    for at in 0..PAGE_SIZE {
        let shown = matches!(place(map, at), Place::Verbatim { .. } | Place::Interior { .. });
        assert_eq!(view[at], if shown { page[at] } else { INT3 }, "byte {at:#x} of the view");
        let instruction = {
            let mut decoder = Decoder::with_ip(code_size.bits(), &page[at..], LINEAR + at as u64, DecoderOptions::NONE);
            let instruction = decoder.decode();
            (instruction, decoder.last_error())
        };
        let critical = classify(&instruction.0).is_some_and(|row| row.policy == Policy::Critical)
            || (instruction.0.code() == Code::Int3 && instruction.0.len() > 1);
        match place(map, at) {
            Place::Verbatim { len } => {
                let len = usize::from(len);
                assert!(!critical && instruction.1 == DecoderError::None && instruction.0.code() != Code::INVALID);
                assert_eq!(len, instruction.0.len());
                assert_eq!(view[at..at + len], page[at..at + len], "a boundary at {at:#x} is not exact");
            }
            Place::Interior { .. } => assert!(!critical, "critical instruction shown at {at:#x}"),
            Place::Site { reason: SiteReason::Critical, .. } => assert!(critical),
            Place::Site { reason: SiteReason::GuestBreakpoint, .. } => assert_eq!(page[at], INT3),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_scan_into_a_safe_view(
        code_size in code_size(),
        bytes in proptest::collection::vec(code_byte(), 1..200),
        fill in code_byte(),
        entries in proptest::collection::vec(0u16..4096, 0..6),
        near in proptest::collection::vec(1000u16..1200, 1..6),
    ) {
        let page = page(&bytes, fill);
        let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
        let mut counts = ScanCounts::ZERO;
        for entry in near.into_iter().chain(entries).chain([4090, 4095]) {
            run(&page, code_size, &mut map, &mut view, &mut counts, entry);
            check(&page, code_size, &map, &view);
        }
    }

    #[test]
    fn a_write_forgets_all_that_depended_on_it(
        code_size in code_size(),
        bytes in proptest::collection::vec(code_byte(), 20..200),
        entries in proptest::collection::vec(1000u16..1200, 1..8),
        patches in proptest::collection::vec((995u16..1205, proptest::collection::vec(code_byte(), 1..9)), 1..6),
    ) {
        let mut page = page(&bytes, 0x90);
        let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
        let mut counts = ScanCounts::ZERO;
        for (at, patch) in patches {
            for &entry in &entries {
                run(&page, code_size, &mut map, &mut view, &mut counts, entry);
            }
            let span = Span::new(at, at + patch.len() as u16);
            page[usize::from(span.start)..usize::from(span.end)].copy_from_slice(&patch);
            let changed = forget(&page, &mut map, span, &mut counts);
            map.write_view(&page, LINEAR, &mut view, changed);
            check(&page, code_size, &map, &view);
        }
    }
}

#[test]
fn a_hot_instruction_with_a_critical_middle_is_shown_in_the_end() {
    let mut page = Box::new([0x90; PAGE_SIZE]);
    page[..6].copy_from_slice(&[0xB8, 0x9D, 0, 0, 0, 0xC3]);
    let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
    let mut counts = ScanCounts::ZERO;
    run(&page, CodeSize::Bits32, &mut map, &mut view, &mut counts, 0);
    let mut hits = 1;
    let span = loop {
        if let Some(span) = map.note_hit(&page, PageOffset::of(0), &mut counts) {
            break span;
        }
        hits += 1;
        assert!(hits < 1000);
    };
    map.write_view(&page, LINEAR, &mut view, span);
    assert_eq!(view[..6], page[..6]);
    assert_eq!(counts.unguarded, 1);
    assert_eq!(hits, 16);
}
