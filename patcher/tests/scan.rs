//! The scanner on small pieces of code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use rvmm_patcher::{
    scan, CodeSize, PageBytes, PageMap, PageOffset, Place, ScanCounts, ScanInput, SiteReason, INT3, PAGE_SIZE,
};

fn page(at: usize, code: &[u8]) -> Box<PageBytes> {
    let mut page = Box::new([0x90u8; PAGE_SIZE]);
    page[at..at + code.len()].copy_from_slice(code);
    page
}

struct Scanned {
    map: Box<PageMap>,
    view: Box<PageBytes>,
    counts: ScanCounts,
}

fn scan_at(page: &PageBytes, entry: u16) -> Scanned {
    scan_sized(page, entry, CodeSize::Bits32)
}

fn scan_sized(page: &PageBytes, entry: u16, code_size: CodeSize) -> Scanned {
    let mut map = Box::new(PageMap::EMPTY);
    let mut counts = ScanCounts::ZERO;
    let input = ScanInput {
        page,
        linear: 0xC100_0000,
        entry: PageOffset::of(u64::from(entry)),
        code_size,
        reach: Default::default(),
    };
    let outcome = scan(&input, &mut map, &mut counts).unwrap();
    assert_ne!(outcome.entry, Place::Unscanned);
    let mut view = Box::new([INT3; PAGE_SIZE]);
    map.write_view(page, input.linear, &mut view, outcome.changed);
    Scanned { map, view, counts }
}

fn at(map: &PageMap, offset: u16) -> Place {
    map.at(PageOffset::of(u64::from(offset)))
}

#[test]
fn critical_instruction_becomes_int3_and_the_walk_goes_on() {
    // push eax; pushf; cli; ret
    let page = page(0x100, &[0x50, 0x9C, 0xFA, 0xC3]);
    let scanned = scan_at(&page, 0x100);
    assert_eq!(scanned.view[0x100..0x105], [0x50, 0xCC, 0xFA, 0xC3, 0xCC]);
    assert_eq!(at(&scanned.map, 0x101), Place::Site { reason: SiteReason::Critical, len: 1 });
    assert_eq!(at(&scanned.map, 0x104), Place::Unscanned);
    assert_eq!(scanned.counts.sites[SiteReason::Critical.index()], 1);
}

#[test]
fn branches_inside_the_page_are_followed() {
    // jmp +2; (2 bytes never reached) ; inc eax; ret
    let page = page(0x10, &[0xEB, 0x02, 0x0F, 0x0B, 0x40, 0xC3]);
    let scanned = scan_at(&page, 0x10);
    assert_eq!(at(&scanned.map, 0x14), Place::Verbatim { len: 1 });
}

#[test]
fn hidden_critical_instruction_sends_the_outer_one_out_of_line() {
    // mov eax, 0x9D -> the immediate's first byte is popf
    let page = page(0, &[0xB8, 0x9D, 0, 0, 0, 0xC3]);
    let scanned = scan_at(&page, 0);
    assert_eq!(at(&scanned.map, 0), Place::Site { reason: SiteReason::InteriorCritical, len: 5 });
    assert_eq!(scanned.view[0..5], [INT3; 5]);
}

#[test]
fn a_boundary_in_the_middle_that_must_trap_takes_the_outer_instruction_back() {
    // mov al, 0x0F ; setl bl's tail: from offset 1, the bytes are 0F 9C C3 = setl bl, which is harmless and shown, although
    // its second byte, as a boundary of its own, is pushf.
    let page = page(0, &[0xB0, 0x0F, 0x9C, 0xC3]);
    let mut scanned = scan_at(&page, 0);
    assert_eq!(at(&scanned.map, 0), Place::Verbatim { len: 2 });
    assert_eq!(at(&scanned.map, 2), Place::Site { reason: SiteReason::Critical, len: 1 });
    // Now the guest jumps to offset 1: the whole instruction there is not shown, so that byte must trap.
    let input = ScanInput {
        page: &page,
        linear: 0xC100_0000,
        entry: PageOffset::of(1),
        code_size: CodeSize::Bits32,
        reach: Default::default(),
    };
    let outcome = scan(&input, &mut scanned.map, &mut scanned.counts).unwrap();
    assert_eq!(outcome.entry, Place::Site { reason: SiteReason::InteriorOverlap, len: 3 });
    assert_eq!(at(&scanned.map, 0), Place::Site { reason: SiteReason::InteriorOverlap, len: 2 });
    scanned.map.write_view(&page, input.linear, &mut scanned.view, outcome.changed);
    assert_eq!(scanned.view[0..4], [INT3, INT3, INT3, 0xC3]);
}

#[test]
fn page_crossing_instruction_is_a_site() {
    let page = page(PAGE_SIZE - 3, &[0xB8, 1, 2]);
    let scanned = scan_at(&page, 4093);
    assert_eq!(at(&scanned.map, 4093), Place::Site { reason: SiteReason::PageCrossing, len: 3 });
}

#[test]
fn code_of_64_bits_is_scanned_as_such() {
    // mov rax, [rip+0x10]; popfq; pushq 0; syscall; then PUSH ES, which 64-bit code does not have
    let code = [0x48, 0x8B, 0x05, 0x10, 0, 0, 0, 0x9D, 0x6A, 0, 0x0F, 0x05, 0x06, 0x90];
    let page = page(0x100, &code);
    let wide = scan_sized(&page, 0x100, CodeSize::Bits64);
    assert_eq!(wide.view[0x100..0x107], code[..7]);
    assert_eq!(at(&wide.map, 0x107), Place::Site { reason: SiteReason::Critical, len: 1 });
    assert_eq!(at(&wide.map, 0x108), Place::Verbatim { len: 2 });
    assert_eq!(at(&wide.map, 0x10A), Place::Verbatim { len: 2 });
    assert!(matches!(at(&wide.map, 0x10C), Place::Site { reason: SiteReason::Invalid, .. }));
    // The same bytes in 32-bit code: dec eax; mov eax, [0x10] and so on.
    assert_eq!(at(&scan_at(&page, 0x100).map, 0x100), Place::Verbatim { len: 1 });
}

#[test]
fn branches_of_64_bit_code_are_followed_at_high_addresses() {
    // jne +2; jmp $; ud2 never reached; nop; ret
    let page = page(0x10, &[0x75, 0x02, 0xEB, 0xFE, 0x48, 0x90, 0xC3]);
    let mut map = Box::new(PageMap::EMPTY);
    let input = ScanInput {
        page: &page,
        linear: 0xFFFF_FFFF_8100_0000,
        entry: PageOffset::of(0x10),
        code_size: CodeSize::Bits64,
        reach: Default::default(),
    };
    scan(&input, &mut map, &mut ScanCounts::default()).unwrap();
    assert_eq!(at(&map, 0x12), Place::Verbatim { len: 2 });
    assert_eq!(at(&map, 0x14), Place::Verbatim { len: 2 });
}

#[test]
fn code_of_16_bits_is_refused() {
    let page = page(0, &[]);
    let entry = PageOffset::of(0);
    let input = ScanInput { page: &page, linear: 0, entry, code_size: CodeSize::Bits16, reach: Default::default() };
    let mut counts = ScanCounts::ZERO;
    assert!(scan(&input, &mut Box::new(PageMap::EMPTY), &mut counts).is_err());
    assert_eq!(counts.refused, 1);
}
