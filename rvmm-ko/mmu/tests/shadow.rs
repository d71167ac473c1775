//! The shadow tables event by event: what costs a fault, and what must not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ram, FakeHost, Machine, VMM_SLOT};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Exception, Gfn, Gpa, Gva, PageFaultCode, Pfn};
use rvmm_mmu::{
    FaultOutcome, Mmu, MmuConfig, MmuError, OverlayAccess, Reason, Reasons, Space, TranslateStop, ViewInstall,
    WindowSlot,
};
use AccessKind::{Fetch, Read, Write};
use FaultOutcome::{Guest, Mmio, NeedView, Overlay, TrackedWrite, ViewAccess};
use Space::{Kernel, User};

const FRAMES: usize = 2048;
const PD: u64 = 1;
const PT: u64 = 2;
/// Present, writable, user, accessed, dirty.
const USED: u32 = 0x67;

fn guest() -> Machine {
    guest_with(|_| {})
}

/// A guest whose first directory entry leads to a page table.
fn guest_with(change: impl FnOnce(&mut MmuConfig)) -> Machine {
    let mut guest = Machine::new(5, FakeHost::new(FRAMES, 1000), |config| {
        config.max_shadow_pages = 64;
        config.max_tracked = 4;
        change(config);
    });
    guest.cpu.cr3 = PD << 12;
    guest.cpu.cr4 = Cr4::PSE;
    guest.host.set_gpte(PD, 0, entry(PT, USED));
    guest
}

fn entry(frame: u64, flags: u32) -> u32 {
    (frame as u32) << 12 | flags
}

#[test]
fn every_root_holds_the_vmm_slot_and_nothing_else_of_the_hosts() {
    let mut g = guest();
    for space in [Kernel, User] {
        for index in 0..512 {
            let expected = if index == usize::from(VMM_SLOT.0) { VMM_SLOT.1 } else { 0 };
            assert_eq!(g.root_entry(space, index), expected);
        }
    }
}

#[test]
fn dirty_is_set_by_the_first_write_only() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, 7));
    g.map(User, 0x5000, Read);
    assert_eq!(g.host.gpte(PT, 5), entry(7, 0x27));
    assert_eq!(g.cpu(User, 0x5000, Read), ram(7));
    g.map(User, 0x5000, Write);
    assert_eq!(g.host.gpte(PT, 5), entry(7, 0x67));
    // The guest cleans the page: the next write must be seen again, a read need not fault.
    g.writes(PT, 5, entry(7, 0x27));
    assert_eq!(g.cpu(User, 0x5000, Read), ram(7));
    g.map(User, 0x5000, Write);
    assert_eq!(g.host.gpte(PT, 5), entry(7, 0x67));
    // It ages the page: the next read must be seen.
    g.writes(PT, 5, entry(7, 0x47));
    g.map(User, 0x5000, Read);
    assert_eq!(g.host.gpte(PT, 5), entry(7, 0x67));
    assert_eq!(g.count(Counter::PageFaultTrue), 0);
}

#[test]
fn write_protection_of_supervisor_writes_follows_cr0_wp() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, 5));
    let denied = |code| Guest(Exception::page_fault(code, 0x5123));
    assert_eq!(g.fault(Kernel, 0x5123, Write), denied(PageFaultCode::P | PageFaultCode::W));
    g.cpu.cr0.remove(Cr0::WP);
    g.map(Kernel, 0x5123, Write);
    assert_eq!(g.fault(User, 0x5123, Write), denied(PageFaultCode::P | PageFaultCode::W | PageFaultCode::U));
    g.cpu.cr0.insert(Cr0::WP);
    assert_eq!(g.fault(Kernel, 0x5123, Write), denied(PageFaultCode::P | PageFaultCode::W));
    assert_eq!(g.count(Counter::PageFaultTrue), 3);
    assert_eq!(g.count(Counter::PageFaultHidden), 1);
}

#[test]
fn user_tree_has_user_pages_only() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, 3));
    g.map(Kernel, 0x5000, Read);
    let code = PageFaultCode::P | PageFaultCode::U;
    assert_eq!(g.fault(User, 0x5000, Read), Guest(Exception::page_fault(code, 0x5000)));
    // Made a user page: executable there, never in the kernel tree.
    g.writes(PT, 5, entry(7, 7));
    g.map(User, 0x5000, Fetch);
    g.map(Kernel, 0x5000, Read);
    assert_eq!(g.fault(Kernel, 0x5004, Fetch), NeedView { gpa: Gpa(0x7004), page: Gva(0x5000) });
    // And back: gone from the user tree at once.
    g.writes(PT, 5, entry(7, 0x23));
    assert!(g.leaf(User, 0x5000).is_none());
    assert!(g.leaf(Kernel, 0x5000).is_some());
}

#[test]
fn large_pages_reach_their_upper_half_and_share_one_dirty_bit() {
    let mut g = guest();
    g.host.set_gpte(PD, 1, entry(1024, 0x87));
    for gva in [0x40_0000, 0x5f_f000, 0x60_0000, 0x7f_f000] {
        g.map(User, gva, Read);
        assert_eq!(g.cpu(User, gva, Read), ram(1024 + ((gva >> 12) & 1023)));
    }
    assert_eq!(g.host.gpte(PD, 1), entry(1024, 0xa7));
    g.map(User, 0x7f_f000, Write);
    assert_eq!(g.host.gpte(PD, 1), entry(1024, 0xe7));
    // The other page of that half is writable without a fault; the other half learns of it by one.
    assert!(g.cpu(User, 0x60_0000, Write).is_ok());
    g.map(User, 0x40_0000, Write);
    assert!(g.cpu(User, 0x5f_f000, Write).is_ok());
    // A flag of the entry changes: both halves keep their pages.
    g.writes(PD, 1, entry(1024, 0xa5));
    for gva in [0x40_0000, 0x60_0000] {
        assert_eq!(g.cpu(User, gva, Read), ram(1024 + ((gva >> 12) & 1023)));
        assert!(g.cpu(User, gva, Write).is_err());
    }
    // Another base: neither does.
    g.writes(PD, 1, entry(0, 0xe7));
    assert!(g.leaf(User, 0x40_0000).is_none() && g.leaf(User, 0x60_0000).is_none());
}

#[test]
fn a_table_write_touches_its_own_entry_only() {
    let mut g = guest();
    for i in 0..1024 {
        g.host.set_gpte(PT, i, entry(16 + i as u64, USED));
    }
    // The first use of each half of the table maps what the guest has used in it.
    g.map(User, 3 << 12, Write);
    g.map(User, 512 << 12, Write);
    g.writes(PT, 4, 0);
    let mapped = [3_u64, 4, 511, 512, 700].map(|i| g.leaf(User, i << 12).is_some());
    assert_eq!(mapped, [true, false, true, true, true]);
    // A page that becomes present and accessed is mapped without a fault.
    g.writes(PT, 512, entry(9, USED));
    assert_eq!(g.cpu(User, 512 << 12, Write), ram(9));
    // Not accessed yet: not mapped.
    g.writes(PT, 511, entry(9, 7));
    assert!(g.leaf(User, 511 << 12).is_none());
}

#[test]
fn tables_in_use_are_read_only_in_both_trees_until_they_are_left_alone() {
    let mut g = guest_with(|c| c.leaf_flood = 3);
    g.host.set_gpte(PT, 5, entry(7, USED));
    g.host.set_gpte(PT, 6, entry(PT, USED));
    // Writable as data before it is a table in use? It already is one: it maps the page through which it is written.
    let tracked = TrackedWrite { gpa: Gpa(PT << 12 | 0x14), reasons: Reasons::TABLE };
    assert_eq!(g.fault(Kernel, 0x6014, Write), tracked);
    assert_eq!(g.cpu(Kernel, 0x6014, Read), ram(PT));
    assert_eq!(g.fault(User, 0x6014, Write), tracked);
    assert!(g.mmu.reasons(Gfn(PT)).contains(Reasons::TABLE));
    // Three writes without a use in between: it is data now, and the directory still is a table.
    g.writes(PT, 5, 0);
    g.writes(PT, 5, entry(8, USED));
    g.map(User, 0x5000, Read);
    g.writes(PT, 5, 0);
    g.writes(PT, 6, entry(PT, USED));
    assert!(g.mmu.reasons(Gfn(PT)).contains(Reasons::TABLE), "a use in between starts the count again");
    g.writes(PT, 7, entry(11, USED));
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::empty());
    assert_eq!(g.mmu.reasons(Gfn(PD)), Reasons::TABLE);
    assert_eq!(g.count(Counter::PageTableWrites), 5);
    // Its next use as a table tracks it again.
    g.map(User, 0x7000, Write);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::TABLE);
}

#[test]
fn the_guests_own_faults_keep_a_table_a_table() {
    let mut g = guest_with(|c| c.leaf_flood = 2);
    g.host.set_gpte(PT, 5, entry(7, USED));
    g.map(User, 0x5000, Write);
    for i in 16..32 {
        assert!(matches!(g.fault(User, i << 12, Write), Guest(_)));
        g.writes(PT, i as usize, entry(100 + i, USED));
        assert_eq!(g.cpu(User, i << 12, Write), ram(100 + i));
    }
    assert_eq!((g.count(Counter::PageFaultTrue), g.count(Counter::PageFaultHidden)), (16, 1));
    // Without faults between them two writes are enough.
    g.writes(PT, 5, 0);
    g.writes(PT, 6, 0);
    assert_eq!(g.mmu.reasons(Gfn(PT)), Reasons::empty());
    // One fault brings back all that was in use.
    g.map(User, 31 << 12, Read);
    for i in 16..32 {
        assert_eq!(g.cpu(User, i << 12, Write), ram(100 + i));
    }
}

#[test]
fn a_new_page_table_starts_with_what_the_guest_has_used() {
    let mut g = guest();
    g.host.readonly = vec![43];
    g.host.broken = Some(45);
    g.mmu.track(&mut g.host, Gfn(44), Reason::Other).unwrap();
    let used = [
        (520, entry(40, USED)),
        (521, entry(41, 0x27)),
        (522, entry(42, 0x63)),
        (523, entry(43, USED)),
        (524, entry(44, USED)),
        (525, entry(45, USED)),
        (526, entry(46, 7)),
        (527, entry(47, 0x66)),
        (528, entry(9000, USED)),
        (8, entry(48, USED)),
    ];
    for (i, value) in used {
        g.host.set_gpte(PT, i, value);
    }
    g.map(User, 520 << 12, Read);
    let shadow = |g: &mut Machine, space, i: u64| g.leaf(space, i << 12).map(|l| l.write);
    // Clean, read-only, tracked: not writable. Kernel page, unreachable, not accessed, not present, no RAM, other half:
    // not there.
    let expected = [Some(true), Some(false), None, Some(false), Some(false), None, None, None, None];
    for (i, wanted) in (520..).zip(expected) {
        assert_eq!(shadow(&mut g, User, i), wanted, "{i}");
    }
    assert_eq!(shadow(&mut g, User, 8), None);
    g.map(Kernel, 520 << 12, Read);
    assert_eq!(shadow(&mut g, Kernel, 522), Some(true));
}

#[test]
fn a_fault_in_a_large_page_maps_its_neighbours() {
    let mut g = guest();
    g.host.set_gpte(PD, 1, entry(1024, 0xe7));
    g.host.readonly = vec![1024 + 18];
    g.host.broken = Some(1024 + 19);
    g.mmu.track(&mut g.host, Gfn(1024 + 17), Reason::Other).unwrap();
    g.map(Kernel, 0x40_0000 + (20 << 12), Write);
    for i in 16_u64..32 {
        let gva = 0x40_0000 + (i << 12);
        assert_eq!(g.cpu(Kernel, gva, Read).is_ok(), i != 19, "{i}");
        assert_eq!(g.cpu(Kernel, gva, Write).is_ok(), !(17..20).contains(&i), "{i}");
    }
    // A view among the neighbours stays.
    assert_eq!(g.install(Gva(0x48_0000), Gfn(1024 + 128), Pfn(0x999)), Ok(ViewInstall::Installed));
    g.map(Kernel, 0x48_1000, Read);
    assert_eq!(g.cpu(Kernel, 0x48_0000, Fetch), Ok(Pfn(0x999)));
    assert!(g.leaf(Kernel, 0x40_0000 + (15 << 12)).is_none() && g.leaf(Kernel, 0x40_0000 + (32 << 12)).is_none());
}

#[test]
fn a_table_is_data_once_it_is_written_like_data() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, USED));
    for (gpa, len, stays) in
        [(0x2001, 1, true), (0x2002, 4, false), (0x2000, 8, true), (0x2ff0, 16, true), (0x2000, 512, false)]
    {
        if g.leaf(User, 0x5000).is_none() {
            g.map(User, 0x5000, Read);
        }
        g.wrote(Gpa(gpa), len);
        assert_eq!(g.mmu.reasons(Gfn(PT)) == Reasons::TABLE, stays, "{gpa:#x} {len}");
    }
    // The directory in use stays, whatever is written to it.
    g.map(User, 0x5000, Read);
    g.wrote(Gpa(PD << 12), 4096);
    assert_eq!(g.mmu.reasons(Gfn(PD)), Reasons::TABLE);
}

#[test]
fn switching_between_address_spaces_rebuilds_nothing() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, USED));
    g.host.set_gpte(20, 0, entry(PT, USED));
    for _ in 0..3 {
        for cr3 in [PD, 20] {
            g.cpu.cr3 = cr3 << 12 | 0x18;
            for space in [Kernel, User] {
                if g.cpu(space, 0x5000, Read).is_err() {
                    g.map(space, 0x5000, Read);
                }
            }
        }
    }
    assert_eq!(g.count(Counter::PageFaultHidden), 4);
    assert_eq!(g.count(Counter::RootBuilds), 4);
    assert_eq!(g.count(Counter::RootSwitches), 12);
    // 5, 4, 3, 2 for each root; the page table is shared within a tree.
    assert_eq!(g.count(Counter::ShadowPages), 4 * 4 + 2);
}

#[test]
fn tracking_is_counted_per_reason_and_bounded() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, USED));
    g.map(User, 0x5000, Write);
    g.mmu.track(&mut g.host, Gfn(7), Reason::View).unwrap();
    g.mmu.track(&mut g.host, Gfn(7), Reason::View).unwrap();
    g.mmu.track(&mut g.host, Gfn(7), Reason::Descriptor).unwrap();
    let reasons = Reasons::VIEW | Reasons::DESCRIPTOR;
    assert_eq!(g.fault(User, 0x5008, Write), TrackedWrite { gpa: Gpa(0x7008), reasons });
    g.mmu.untrack(Gfn(7), Reason::View);
    g.mmu.untrack(Gfn(7), Reason::Descriptor);
    assert_eq!(g.fault(User, 0x5008, Write), TrackedWrite { gpa: Gpa(0x7008), reasons: Reasons::VIEW });
    let wrote = g.wrote(Gpa(0x6ffe), 4);
    assert_eq!((wrote.reasons, wrote.conflict), (Reasons::VIEW, false));
    g.mmu.untrack(Gfn(7), Reason::View);
    g.map(User, 0x5008, Write);
    for gfn in 10..14 {
        g.mmu.track(&mut g.host, Gfn(gfn), Reason::Other).unwrap();
    }
    assert_eq!(g.mmu.track(&mut g.host, Gfn(14), Reason::Other), Err(MmuError::TrackingFull));
    g.mmu.untrack(Gfn(11), Reason::Other);
    assert_eq!(g.mmu.track(&mut g.host, Gfn(14), Reason::Other), Ok(()));
}

#[test]
fn views_execute_and_cannot_be_read() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, USED));
    g.host.set_gpte(PT, 6, entry(7, USED));
    assert_eq!(g.fault(Kernel, 0x5010, Fetch), NeedView { gpa: Gpa(0x7010), page: Gva(0x5000) });
    assert_eq!(g.install(Gva(0x5000), Gfn(8), Pfn(0x999)), Ok(ViewInstall::Moved(Gfn(7))));
    let fault = Exception::page_fault(PageFaultCode::empty(), 0x9000);
    assert_eq!(g.install(Gva(0x9000), Gfn(8), Pfn(0x999)), Ok(ViewInstall::Guest(fault)));
    assert_eq!(g.install(Gva(0x5000), Gfn(7), Pfn(0x999)), Ok(ViewInstall::Installed));
    assert_eq!(g.cpu(Kernel, 0x5010, Fetch), Ok(Pfn(0x999)));
    assert_eq!(g.fault(Kernel, 0x5010, Read), ViewAccess { gpa: Gpa(0x7010), write: false });
    assert_eq!(g.fault(Kernel, 0x5010, Write), ViewAccess { gpa: Gpa(0x7010), write: true });
    // Another linear page of the same frame reads the guest's own bytes, and so does user mode.
    assert_eq!(g.cpu(Kernel, 0x6010, Read), ram(7));
    g.map(User, 0x5010, Fetch);
    assert_eq!(g.cpu(User, 0x5010, Fetch), ram(7));
    // The view survives what does not change the mapping, and goes with the mapping.
    let view = |g: &Machine| g.view_at(Gva(0x5fff));
    g.writes(PT, 5, entry(7, 0x21));
    assert_eq!(view(&g), Some(Pfn(0x999)));
    g.writes(PT, 5, entry(8, USED));
    assert_eq!(view(&g), None);
    assert!(matches!(g.fault(Kernel, 0x5010, Fetch), NeedView { gpa: Gpa(0x8010), .. }));
    // Dropped by the engine: data again.
    assert_eq!(g.install(Gva(0x5000), Gfn(8), Pfn(0x998)), Ok(ViewInstall::Installed));
    assert_eq!(g.mmu.drop_view(&mut g.host, Gfn(8), Gva(0x6000)), 0);
    assert_eq!(g.mmu.drop_views(&mut g.host, Gfn(8)), 1);
    g.map(Kernel, 0x5010, Read);
}

#[test]
fn memory_that_is_not_there_is_a_device() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(0xb8000, USED));
    g.host.set_gpte(PT, 6, entry(30, USED));
    g.host.readonly = vec![30];
    for kind in [Read, Write, Fetch] {
        assert_eq!(g.fault(Kernel, 0x5004, kind), Mmio { gpa: Gpa(0xb800_0004) });
    }
    g.map(Kernel, 0x6004, Read);
    assert_eq!(g.fault(Kernel, 0x6004, Write), Mmio { gpa: Gpa(30 << 12 | 4) });
}

#[test]
fn paging_off_maps_physical_memory() {
    let mut g = guest();
    g.cpu.cr0.remove(Cr0::PG);
    g.map(Kernel, 0x40_0123, Write);
    assert_eq!(g.cpu(Kernel, 0x40_0123, Write), ram(0x400));
    assert_eq!(g.fault(Kernel, 0xfee0_0000, Read), Mmio { gpa: Gpa(0xfee0_0000) });
    assert!(matches!(g.fault(Kernel, 0x40_0123, Fetch), NeedView { gpa: Gpa(0x40_0123), .. }));
    g.map(User, 0x40_0123, Fetch);
    let mut occupied = [false; 1024];
    assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(0), &mut occupied), Ok(true));
    assert!((0..1024).all(|unit| occupied[unit] == (unit < FRAMES / 1024)));
    // Turning paging on changes the root; its tables become tracked only then.
    assert_eq!(g.mmu.reasons(Gfn(PD)), Reasons::empty());
    g.map(Kernel, PD << 12, Write);
    g.cpu.cr0.insert(Cr0::PG);
    g.root(Kernel);
    g.cpu.cr0.remove(Cr0::PG);
    assert!(matches!(g.fault(Kernel, PD << 12, Write), TrackedWrite { .. }));
}

#[test]
fn with_paging_off_patch_memory_is_where_no_memory_is() {
    let mut g = guest();
    g.cpu.cr0.remove(Cr0::PG);
    let [slot, other, _] = WindowSlot::ALL;
    let hole = Gva(896 << 22);
    let code = OverlayAccess { write: false, execute: true, user: true, pkey: 1 };
    g.mmu.set_overlay(&mut g.host, &mut g.stats, slot, Some(hole)).unwrap();
    g.mmu.install_overlay_page(&mut g.host, hole, Pfn(0x501), code).unwrap();
    assert!(!g.conflict());
    assert_eq!(g.cpu(Kernel, hole.0, Fetch), Ok(Pfn(0x501)));
    // What its pages do not allow is interpreted: a device's or nobody's, like all around them.
    assert_eq!(g.fault(Kernel, hole.0, Read), Overlay);
    assert_eq!(g.fault(Kernel, hole.0 + 0x1000, Write), Overlay);
    assert_eq!(g.fault(Kernel, hole.0 + (1 << 22), Read), Mmio { gpa: Gpa(hole.0 + (1 << 22)) });
    // Programs do not see it.
    assert_eq!(g.fault(User, hole.0, Read), Mmio { gpa: Gpa(hole.0) });
    // A window over memory is the guest's.
    g.mmu.set_overlay(&mut g.host, &mut g.stats, other, Some(Gva(0))).unwrap();
    assert!(g.conflict());
    g.map(Kernel, 0x1000, Write);
    assert_eq!(g.cpu(Kernel, 0x1000, Write), ram(1));
    g.mmu.set_overlay(&mut g.host, &mut g.stats, other, None).unwrap();
    assert!(!g.conflict());
    // Memory comes to where one is.
    let behind = Gva((FRAMES as u64) << 12);
    g.mmu.set_overlay(&mut g.host, &mut g.stats, other, Some(behind)).unwrap();
    assert!(!g.conflict());
    g.host.ram.resize(2 * FRAMES * 4096, 0);
    g.mmu.zap_gfns(&mut g.host, Gfn(FRAMES as u64), FRAMES as u64);
    assert!(g.conflict());
}

#[test]
fn patch_memory_moves_out_of_the_guests_way() {
    let mut g = guest();
    g.host.set_gpte(PD, 768, entry(PT, USED));
    g.host.set_gpte(PD, 1023, entry(PT, USED));
    let mut occupied = [false; 1024];
    assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(0), &mut occupied), Ok(true));
    let taken: Vec<usize> = (0..1024).filter(|i| occupied[*i]).collect();
    assert_eq!(taken, [0, 768, 1023]);
    let hole = Gva(896 << 22);
    let [slot, other, _] = WindowSlot::ALL;
    let bad = g.set_window(slot, Some(hole.add(4096)));
    assert_eq!(bad, Err(MmuError::BadOverlay));
    g.set_window(slot, Some(hole)).unwrap();
    // Two windows in one place would hide each other.
    assert_eq!(g.set_window(other, Some(hole)), Err(MmuError::BadOverlay));
    // One in the same gigabyte, and its neighbour, live beside it.
    let beside = hole.add(1 << 22);
    g.set_window(other, Some(beside)).unwrap();
    let code = OverlayAccess { write: false, execute: true, user: true, pkey: 1 };
    let data = OverlayAccess { write: true, execute: false, user: false, pkey: 0 };
    let upper = hole.add(0x20_0000);
    g.mmu.install_overlay_page(&mut g.host, hole, Pfn(0x501), code).unwrap();
    g.mmu.install_overlay_page(&mut g.host, upper, Pfn(0x502), data).unwrap();
    let outside = g.mmu.install_overlay_page(&mut g.host, Gva(0x1000), Pfn(0x503), data);
    assert_eq!(outside, Err(MmuError::BadOverlay));
    g.mmu.install_overlay_page(&mut g.host, beside, Pfn(0x504), data).unwrap();
    assert_eq!(g.cpu(Kernel, hole.0, Fetch), Ok(Pfn(0x501)));
    assert_eq!(g.cpu(Kernel, upper.0, Write), Ok(Pfn(0x502)));
    assert_eq!(g.cpu(Kernel, beside.0, Write), Ok(Pfn(0x504)));
    assert_eq!(g.fault(Kernel, hole.0, Read), Overlay);
    assert_eq!(g.fault(Kernel, hole.0 + 0x1000, Fetch), Overlay);
    let guest = Exception::page_fault(PageFaultCode::U, hole.0);
    assert_eq!(g.fault(User, hole.0, Read), Guest(guest));
    // The guest claims the place.
    let gpa = g.host.set_gpte(PD, 896, entry(PT, USED));
    g.host.set_gpte(PT, 0, entry(40, USED));
    g.root(Kernel);
    let wrote = g.wrote(gpa, 4);
    assert!(wrote.conflict);
    assert!(g.conflict());
    g.map(Kernel, hole.0, Read);
    assert_eq!(g.cpu(Kernel, hole.0, Read), ram(40));
    let next = Gva(900 << 22);
    g.set_window(slot, Some(next)).unwrap();
    assert!(!g.conflict());
    assert_eq!(g.fault(Kernel, next.0, Fetch), Overlay);
    g.mmu.install_overlay_page(&mut g.host, next, Pfn(0x501), code).unwrap();
    assert_eq!(g.cpu(Kernel, next.0, Fetch), Ok(Pfn(0x501)));
    // The other window stays where it is, and marks the root when the guest comes there.
    assert_eq!(g.cpu(Kernel, beside.0, Write), Ok(Pfn(0x504)));
    let gpa = g.host.set_gpte(PD, 897, entry(PT, USED));
    assert!(g.wrote(gpa, 4).conflict);
    for slot in WindowSlot::ALL {
        g.set_window(slot, None).unwrap();
        assert_eq!(g.mmu.overlay(slot), None);
    }
    assert!(!g.conflict());
    g.mmu.free_all(&mut g.host);
    assert_eq!(g.host.live(), 0);
}

#[test]
fn translate_leaves_the_traces_that_peek_does_not() {
    let mut g = guest();
    g.host.set_gpte(PT, 5, entry(7, 5));
    let read = Access { kind: Read, privilege: Privilege::User };
    let write = Access { kind: Write, privilege: Privilege::User };
    assert_eq!(g.mmu.peek(&mut g.host, &g.cpu, Gva(0x5001), read), Ok(Ok(Gpa(0x7001))));
    assert_eq!(g.host.gpte(PT, 5), entry(7, 5));
    let denied = PageFaultCode::P | PageFaultCode::W | PageFaultCode::U;
    assert_eq!(g.mmu.peek(&mut g.host, &g.cpu, Gva(0x5001), write), Ok(Err(denied)));
    let stop = TranslateStop::Guest(Exception::page_fault(denied, 0x5001));
    assert_eq!(g.mmu.translate(&mut g.host, &g.cpu, Gva(0x5001), write), Err(stop));
    assert_eq!(g.mmu.translate(&mut g.host, &g.cpu, Gva(0x1_0000_5001), read), Ok(Gpa(0x7001)));
    assert_eq!(g.host.gpte(PT, 5), entry(7, 0x25));
    g.cpu.cr4 = Cr4::PAE | Cr4::LA57;
    g.cpu.efer = Efer::LMA;
    let refused = Err(TranslateStop::Mmu(MmuError::UnsupportedPaging));
    assert_eq!(g.mmu.translate(&mut g.host, &g.cpu, Gva(0), read), refused);
    let root = g.try_root(Kernel);
    assert_eq!(root, Err(MmuError::UnsupportedPaging));
}

#[test]
fn senseless_configurations_are_refused() {
    let good = MmuConfig { paging_levels: 4, vmm_slot: (260, 1), ..MmuConfig::new(&Default::default()) };
    assert!(Mmu::new(good).is_ok());
    for (bad, part) in [
        (MmuConfig { paging_levels: 3, ..good }, "paging_levels"),
        (MmuConfig { vmm_slot: (0, 1), ..good }, "vmm_slot"),
        (MmuConfig { vmm_slot: (512, 1), ..good }, "vmm_slot"),
        (MmuConfig { guest_physical_bits: 53, ..good }, "guest_physical_bits"),
        (MmuConfig { max_shadow_pages: 63, ..good }, "max_shadow_pages"),
        (MmuConfig { max_tracked: 0, ..good }, "max_tracked"),
    ] {
        assert_eq!(Mmu::new(bad).err(), Some(MmuError::BadConfig(part)));
    }
    let mut g = guest();
    let beyond = g.handle(Kernel, Gva(1 << 32), PageFaultCode::empty());
    assert_eq!(beyond, Err(MmuError::BadAddress));
}
