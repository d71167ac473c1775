//! Page tables out of sync, and entries made before their fault: what costs an exit, and where old translations end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{pfn, ram, FakeHost, Machine};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::Cr4;
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gfn, Gva, PageFaultCode, Pfn};
use rvmm_mmu::{FaultOutcome, Reason, Reasons, Space, ViewInstall};
use AccessKind::{Fetch, Read, Write};
use FaultOutcome::{Fixed, Guest, NeedView, TrackedWrite};
use Space::{Kernel, User};

const PD: u64 = 1;
const PT: u64 = 2;
const OTHER: u64 = 3;
/// Present, writable, user, accessed, dirty.
const USED: u32 = 0x67;
/// Where the guest's kernel has its tables mapped, by a large page.
const LOWMEM: u64 = 0xc000_0000;

/// A guest with one page table, whose entries 16 to 23 map frames 0x100 and up.
fn guest(prefill: bool) -> Machine {
    let mut host = FakeHost::new(2048, 1000);
    host.set_gpte(PD, 0, entry(PT, USED));
    host.set_gpte(PD, 768, 0xe3);
    for i in 0..8 {
        host.set_gpte(PT, 16 + i, entry(0x100 + i as u64, USED));
    }
    let mut guest = Machine::new(4, host, |config| (config.prefill, config.unsync) = (prefill, true));
    guest.cpu.cr3 = PD << 12;
    guest.cpu.cr4 = Cr4::PSE;
    guest
}

/// The kernel stores an entry by itself, with the hidden faults that it takes.
fn store(g: &mut Machine, table: u64, index: usize, value: u32) {
    g.reach(Kernel, LOWMEM + (table << 12) + index as u64 * 4, Write);
    g.host.set_gpte(table, index, value);
}

/// It stores an entry of the directory, which is always followed.
fn store_in_directory(g: &mut Machine, index: usize, value: u32) {
    g.writes(PD, index, value);
}

fn count(g: &mut Machine, counter: Counter) -> u64 {
    // Counts are added at the next look at a root.
    g.root(Kernel);
    g.count(counter)
}

fn entry(frame: u64, flags: u32) -> u32 {
    (frame as u32) << 12 | flags
}

#[test]
fn a_table_is_written_at_the_price_of_one_fault() {
    let mut g = guest(false);
    g.reach(User, 0x10000, Read);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE);
    g.reach(Kernel, LOWMEM + (PT << 12), Read);
    let before = count(&mut g, Counter::PageFaultHidden);
    for i in 0..100 {
        store(&mut g, PT, i, entry(0x200 + i as u64, USED));
    }
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::empty());
    assert_eq!(count(&mut g, Counter::PageFaultHidden) - before, 1);
    assert_eq!((count(&mut g, Counter::PageTableWrites), count(&mut g, Counter::TablesLetGo)), (0, 1));
    // All are seen at once by the flush.
    g.flush();
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE);
    for i in 0..100 {
        assert_eq!(g.cpu(User, i << 12, Write), ram(0x200 + i));
    }
    assert_eq!((count(&mut g, Counter::TableSyncs), count(&mut g, Counter::EntriesCompared)), (1, 512));
}

#[test]
fn hidden_faults_are_told_apart() {
    let mut g = guest(false);
    g.host.set_gpte(PT, 24, entry(0x110, 0x07));
    let steps = [
        (User, 16, Read, Counter::HiddenNew),
        // It is known, but not in this tree.
        (Kernel, 16, Read, Counter::HiddenTable),
        (User, 24, Read, Counter::HiddenRecorded),
        (User, 24, Write, Counter::HiddenRecorded),
        (User, 25, Write, Counter::HiddenPresent),
    ];
    let reasons = [Counter::HiddenNew, Counter::HiddenTable, Counter::HiddenRecorded, Counter::HiddenPresent];
    for (space, page, kind, reason) in steps {
        let before = reasons.map(|reason| g.count(reason));
        g.reach(space, page << 12, kind);
        // Only now, as a new shadow begins with what is there.
        g.host.set_gpte(PT, 25, entry(0x100, USED));
        let now = reasons.map(|reason| g.count(reason));
        for ((before, now), which) in before.into_iter().zip(now).zip(reasons) {
            assert_eq!(now - before, u64::from(which == reason), "{which:?}: {space:?} {page} {kind:?}");
        }
    }
    assert_eq!(g.count(Counter::PageFaultHidden), reasons.map(|reason| g.count(reason)).iter().sum());
}

#[test]
fn old_translations_end_where_the_architecture_ends_them() {
    let mut g = guest(false);
    assert_eq!(g.reach(User, 0x10000, Write), 0x100);
    g.reach(Kernel, 0x10000, Write);
    for (i, value) in [(16, entry(0x300, USED)), (17, entry(0x301, USED)), (18, entry(0x302, 0x65)), (19, 0)] {
        store(&mut g, PT, i, value);
    }
    // Nothing has been forgotten.
    for (gva, old) in [(0x10000, 0x100), (0x11000, 0x101), (0x12000, 0x102), (0x13000, 0x103)] {
        assert_eq!(g.cpu(User, gva, Write), ram(old));
    }
    // INVLPG forgets one page, in both trees.
    g.invlpg(Gva(0x10234));
    assert_eq!((g.cpu(User, 0x10000, Write), g.cpu(Kernel, 0x10000, Write)), (ram(0x300), ram(0x300)));
    assert_eq!(g.cpu(User, 0x11000, Write), ram(0x101));
    // So does a fault that the interpreter meets.
    let access = Access { kind: Write, privilege: Privilege::User };
    assert!(g.mmu.translate(&mut g.host, &g.cpu, Gva(0x12000), access).is_err());
    assert!(g.cpu(User, 0x12000, Write).is_err());
    assert_eq!(g.cpu(User, 0x12000, Read), ram(0x302));
    // And one of the guest's own: the old page is not read after it either.
    let protected = PageFaultCode::W | PageFaultCode::U;
    let outcome = g.handle(User, Gva(0x13000), protected).unwrap();
    assert!(matches!(outcome, Guest(_)));
    assert!(g.cpu(User, 0x13000, Read).is_err() && g.cpu(Kernel, 0x13000, Read).is_err());
    // A load of CR3 forgets the rest.
    assert_eq!(g.cpu(User, 0x11000, Write), ram(0x101));
    g.flush();
    assert_eq!(g.cpu(User, 0x11000, Write), ram(0x301));
}

#[test]
fn what_becomes_present_needs_no_flush() {
    let mut g = guest(false);
    g.reach(User, 0x10000, Read);
    store(&mut g, PT, 100, entry(0x300, USED));
    assert_eq!(g.fault(User, 100 << 12, Write), Fixed);
    assert_eq!(g.cpu(User, 100 << 12, Write), ram(0x300));
}

#[test]
fn a_fault_resolved_by_the_guest_is_not_repeated() {
    let mut g = guest(true);
    g.reach(User, 0x10000, Read);
    store(&mut g, PT, 99, 0);
    assert!(matches!(g.fault(User, 100 << 12, Write), Guest(_)));
    // 16 pages around it, as Linux maps files; not the page that it has not accessed, nor the write to the clean one.
    for i in 96..112 {
        let flags = match i {
            103 => 0x47,
            104 => 0x27,
            _ => USED,
        };
        store(&mut g, PT, i as usize, entry(0x300 + i, flags));
    }
    for i in (96..112).filter(|&i| i != 103 && i != 104) {
        assert_eq!(g.cpu(User, i << 12, Write), ram(0x300 + i));
    }
    assert!(g.cpu(User, 103 << 12, Read).is_err() && g.cpu(User, 104 << 12, Write).is_err());
    assert_eq!(g.cpu(User, 104 << 12, Read), ram(0x300 + 104));
    assert_eq!(g.host.gpte(PT, 103), entry(0x300 + 103, 0x47));
    assert!(count(&mut g, Counter::Prefilled) >= 15);
}

#[test]
fn only_what_is_nothing_but_a_page_table_goes_out_of_sync() {
    let (at_pt, at_pd) = (LOWMEM + (PT << 12), LOWMEM + (PD << 12));
    let mut g = guest(false);
    g.reach(User, 0x10000, Read);
    assert!(matches!(g.fault(Kernel, at_pd, Write), TrackedWrite { .. }));
    // Tracked for something else.
    g.mmu.track(&mut g.host, Gfn(PT), Reason::Descriptor).unwrap();
    assert!(matches!(g.fault(Kernel, at_pt, Write), TrackedWrite { .. }));
    g.mmu.untrack(Gfn(PT), Reason::Descriptor);
    // Or while it is out of sync.
    store(&mut g, PT, 16, entry(0x300, USED));
    g.mmu.track(&mut g.host, Gfn(PT), Reason::Descriptor).unwrap();
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE | Reasons::DESCRIPTOR);
    assert_eq!(g.cpu(User, 0x10000, Read), ram(0x300));
    g.mmu.untrack(Gfn(PT), Reason::Descriptor);
    // With an execution view in it.
    store(&mut g, PT, 16, entry(0x301, USED));
    assert!(matches!(g.fault(Kernel, 0x11000, Fetch), NeedView { .. }));
    assert_eq!(g.install(Gva(0x11000), Gfn(0x101), Pfn(0x30_0000)), Ok(ViewInstall::Installed));
    assert_eq!(g.cpu(User, 0x10000, Read), ram(0x301));
    assert!(matches!(g.fault(Kernel, at_pt, Write), TrackedWrite { .. }));
    // As a table of a higher level.
    let mut g = guest(false);
    g.reach(User, 0x10000, Read);
    store(&mut g, PT, 16, entry(0x300, USED));
    g.host.set_gpte(OTHER, 0, entry(PT, USED));
    g.cpu.cr3 = OTHER << 12;
    g.root(User);
    g.host.set_gpte(OTHER, 1, entry(OTHER, USED));
    g.cpu.cr3 = PT << 12;
    g.root(User);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE);
    g.cpu.cr3 = PD << 12;
    assert!(matches!(g.fault(Kernel, at_pt, Write), TrackedWrite { .. }));
    assert_eq!(g.cpu(User, 0x10000, Read), ram(0x300));
}

#[test]
fn a_table_that_is_none_any_more_is_forgotten() {
    let mut g = guest(true);
    g.reach(User, 0x10000, Read);
    g.writes(PD, 0, 0);
    store(&mut g, PT, 16, 0);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::empty());
    g.flush();
    // Data, at no price.
    let before = count(&mut g, Counter::PageFaultHidden);
    store(&mut g, PT, 17, 0);
    assert_eq!(count(&mut g, Counter::PageFaultHidden), before);
    assert_eq!(count(&mut g, Counter::TableSyncs), 0);
}

#[test]
fn many_tables_are_out_of_sync_at_a_time_and_the_oldest_is_followed_first() {
    let mut g = guest(false);
    for i in 0..70 {
        g.host.set_gpte(PD, 8 + i as usize, entry(0x40 + i, USED));
        g.host.set_gpte(0x40 + i, 0, entry(0x400, USED));
        g.reach(User, (8 + i) << 22, Read);
    }
    for i in 0..70 {
        store(&mut g, 0x40 + i, 0, entry(0x401, USED));
    }
    for i in 0..70 {
        let expected = if i < 6 { 0x401 } else { 0x400 };
        assert_eq!(g.cpu(User, (8 + i) << 22, Read), ram(expected), "{i}");
    }
    g.flush();
    for i in 0..70 {
        assert_eq!(g.cpu(User, (8 + i) << 22, Read), ram(0x401), "{i}");
    }
}

#[test]
fn a_table_that_cannot_be_read_at_the_flush_is_forgotten() {
    let mut g = guest(false);
    g.reach(User, 0x10000, Read);
    store(&mut g, PT, 16, entry(0x300, USED));
    g.host.broken = Some(PT);
    g.flush();
    g.host.broken = None;
    assert_eq!(g.fault(User, 0x10000, Read), Fixed);
    assert_eq!(g.cpu(User, 0x10000, Read), ram(0x300));
}

#[test]
fn prefill_takes_nothing_away() {
    // D cannot be stored in a table in read-only memory: writes go on all the same, in neighbouring pages, too.
    let mut g = guest(true);
    for i in 16..18 {
        g.host.set_gpte(PT, i, entry(0x100 + i as u64, 0x27));
    }
    g.host.readonly.push(PT);
    for gva in [0x10000, 0x11000] {
        assert_eq!(g.fault(User, gva, Write), Fixed);
    }
    for gva in [0x10000, 0x11000] {
        assert!(g.cpu(User, gva, Write).is_ok());
    }
}

#[test]
fn a_new_page_table_is_shadowed_with_the_fault_that_it_resolves() {
    let mut g = guest(true);
    g.reach(User, 0x10000, Read);
    for (pde, present_in_upper) in [(5, 0x67), (6, 0x47)] {
        let gva = pde << 22 | 0x3000;
        assert!(matches!(g.fault(User, gva, Write), Guest(_)));
        g.host.set_gpte(OTHER + pde, 3, entry(0x300, USED));
        g.writes(PD, pde as usize, entry(OTHER + pde, present_in_upper));
        // Not where an access has its accessed bit to set.
        assert_eq!(g.cpu(User, gva, Write).is_ok(), present_in_upper & 0x20 != 0);
        assert_eq!(g.host.gpte(PD, pde as usize), entry(OTHER + pde, present_in_upper));
    }
}

#[test]
fn a_view_is_never_writable() {
    let mut g = guest(true);
    let page = LOWMEM + (PT << 12);
    assert!(matches!(g.fault(Kernel, page, Fetch), NeedView { .. }));
    assert_eq!(g.install(Gva(page), Gfn(PT), pfn(0x600)), Ok(ViewInstall::Installed));
    g.reach(User, 0x10000, Read);
    // Data arrives where the table was.
    g.wrote(Gfn(PT).base(), 512);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::empty());
    let leaf = g.leaf(Kernel, page).unwrap();
    assert!(leaf.execute && !leaf.write);
}

/// A kernel takes a page table out of an address space that is not loaded, without any flush, and puts it into another place: what was
/// translated by the old way must not be by the new one.
#[test]
fn a_table_linked_anew_is_in_line() {
    for prefill in [false, true] {
        let mut g = guest(prefill);
        assert_eq!(g.reach(User, 16 << 12, Read), 0x100);
        // Let go, emptied, taken from the directory, filled anew and put elsewhere: by the kernel itself, where it can.
        store(&mut g, PT, 16, 0);
        store_in_directory(&mut g, 0, 0);
        store(&mut g, PT, 17, entry(0x200, USED));
        store_in_directory(&mut g, 1, entry(PT, USED));
        assert_eq!(g.reach(User, (4 << 20) + (17 << 12), Read), 0x200);
        let code = g.cpu(User, (4 << 20) + (16 << 12), Read).expect_err("an old translation");
        assert!(!code.contains(PageFaultCode::P));
        assert!(matches!(g.fault(User, (4 << 20) + (16 << 12), Read), Guest(_)));
    }
}

/// What was translated while the directory's entry forbade writes must not become writable with it.
#[test]
fn wider_rights_above_a_table_bring_it_in_line() {
    for prefill in [false, true] {
        let mut g = guest(prefill);
        store_in_directory(&mut g, 0, entry(PT, USED & !2));
        assert_eq!(g.reach(User, 16 << 12, Read), 0x100);
        store(&mut g, PT, 16, entry(0x200, USED));
        assert_eq!(g.cpu(User, 16 << 12, Read), ram(0x100), "not flushed");
        store_in_directory(&mut g, 0, entry(PT, USED));
        assert_eq!(g.reach(User, 16 << 12, Write), 0x200);
        assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE);
    }
}
