//! Entries that stand for what the guest has not present: where they are, and what takes them away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{FakeHost, Machine, BEYOND, VMM_SLOT};
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr4, Efer};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gva, PageFaultCode};
use rvmm_mmu::{Env, FaultOutcome, Space};
use AccessKind::{Read, Write};
use Space::{Kernel, User};

const TOP: u64 = 1;
const PDPT: u64 = 2;
const PD: u64 = 3;
const PT: u64 = 4;
/// Present, writable, user, accessed, dirty.
const USED: u64 = 0x67;

/// One table of each level, whose first entries lead to page 0x100; nothing else.
fn guest(levels: u8, unsync: bool) -> Machine {
    let mut host = FakeHost::new(2048, 1000);
    for (table, next) in [(TOP, PDPT), (PDPT, PD), (PD, PT), (PT, 0x100)] {
        host.set_wide(table, 0, next << 12 | USED);
    }
    let mut guest = Machine::new(levels, host, |config| {
        config.guest_physical_bits = 40;
        config.absent = BEYOND;
        config.unsync = unsync;
    });
    guest.cpu.cr3 = TOP << 12;
    guest.cpu.cr4 = Cr4::PAE;
    guest.cpu.efer = Efer::LMA | Efer::LME | Efer::NXE;
    guest.env = Env(2);
    guest
}

fn marked(g: &mut Machine, gva: u64) -> bool {
    let root = g.root(User);
    common::marked(&g.host, g.levels, root, Gva(gva))
}

/// An address through entry 1 of the table of each level, the others through entry 0.
const NEXT: [(u64, u64); 4] = [(PT, 1 << 12), (PD, 1 << 21), (PDPT, 1 << 30), (TOP, 1 << 39)];

#[test]
fn what_the_guest_has_not_present_is_marked_at_every_level() {
    for levels in [4, 5] {
        let mut g = guest(levels, false);
        g.reach(User, 0, Read);
        for (_, gva) in NEXT {
            assert!(marked(&mut g, gva), "{gva:#x}");
            let code = g.cpu(User, gva, Write).unwrap_err();
            assert_eq!(code, PageFaultCode::P | PageFaultCode::RSVD | PageFaultCode::U | PageFaultCode::W);
            // Whoever is told of it all the same finds the guest's fault.
            let FaultOutcome::Guest(fault) = g.fault(User, gva, Write) else { panic!("{gva:#x}") };
            assert_eq!(fault.error, Some((PageFaultCode::U | PageFaultCode::W).bits()));
        }
        // Nothing of the kernel's is.
        g.reach(Kernel, 0, Read);
        for (_, gva) in NEXT {
            let code = g.cpu(Kernel, gva, Read).unwrap_err();
            assert!(!code.contains(PageFaultCode::RSVD), "{gva:#x}");
        }
    }
}

#[test]
fn the_vmm_slot_is_none() {
    let mut g = guest(4, false);
    g.reach(User, 0, Read);
    assert_eq!(g.root_entry(User, 260), VMM_SLOT.1);
    for value in [0, 0x200 << 12 | USED, 0] {
        g.writes_wide(TOP, 260, value);
        assert_eq!(g.root_entry(User, 260), VMM_SLOT.1);
    }
}

#[test]
fn an_address_between_the_halves_is_no_fault_of_the_guests() {
    let mut g = guest(5, false);
    g.reach(User, 0, Read);
    assert!(!marked(&mut g, 1 << 48));
    assert_eq!(g.fault(User, 1 << 48, Read), FaultOutcome::NonCanonical);
}

#[test]
fn a_mark_goes_when_the_entry_becomes_present_and_comes_back() {
    for (table, gva) in NEXT {
        let mut g = guest(4, false);
        g.reach(User, 0, Read);
        assert!(marked(&mut g, gva), "{gva:#x}");
        let next = if table == PT { 0x101 } else { table + 1 };
        g.writes_wide(table, 1, next << 12 | USED);
        assert!(!marked(&mut g, gva));
        g.reach(User, gva, Read);
        // Anything but P.
        g.writes_wide(table, 1, !1);
        assert!(marked(&mut g, gva), "{gva:#x}");
        // One that is present but not accessed is no mark, nor one with reserved bits, or the supervisor's.
        for value in [next << 12 | 1 | 4, next << 12 | USED | 1 << 45, next << 12 | 0x63] {
            let mut g = guest(4, false);
            g.reach(User, 0, Read);
            g.writes_wide(table, 1, value);
            assert!(!marked(&mut g, gva), "{value:#x}");
            g.writes_wide(table, 1, 0);
            assert!(marked(&mut g, gva), "{value:#x}");
        }
    }
}

#[test]
fn a_page_table_out_of_sync_has_none() {
    let mut g = guest(4, true);
    g.reach(User, 0, Read);
    assert!(marked(&mut g, 1 << 12));
    // The kernel's own mapping of its table.
    g.writes_wide(PD, 1, 0x83 | 0x60);
    g.reach(Kernel, 1 << 21, Read);
    g.reach(Kernel, (1 << 21) + (PT << 12), Write);
    assert!(!marked(&mut g, 1 << 12), "it may be written without being told of");
    // Upper tables are always followed.
    assert!(marked(&mut g, 1 << 30));
    g.host.set_wide(PT, 1, 0x101 << 12 | USED);
    g.reach(User, 1 << 12, Read);
    g.host.set_wide(PT, 1, 0);
    g.flush();
    assert!(marked(&mut g, 1 << 12), "it is in line again");
}

#[test]
fn faults_that_nobody_saw_keep_a_table() {
    let mut g = guest(4, false);
    g.reach(User, 0, Read);
    for page in 1..60_usize {
        let gva = (page as u64) << 12;
        assert!(marked(&mut g, gva), "page {page}: the table was taken for data");
        g.mmu.reflected(&mut g.stats, &g.cpu, Gva(gva), 1);
        g.writes_wide(PT, page, 0x101 << 12 | USED);
        assert!(g.cpu(User, gva, Write).is_ok(), "page {page}");
    }
    assert_eq!(g.count(Counter::PageFaultTrue), 59);
    assert_eq!(g.count(Counter::PageFaultHidden), 1);
}
