//! PAE and 4-level guests, event by event, on hosts of four and of five levels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ram, FakeHost, Machine, VMM_SLOT};
use rvmm_arch::host::GuestMemory;
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr4, Efer};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Exception, Gfn, Gpa, Gva, Model, PageFaultCode, Pfn};
use rvmm_mmu::{Env, FaultOutcome, MmuError, OverlayAccess, Reason, Space, ViewInstall, WindowSlot};
use AccessKind::{Fetch, Read, Write};
use FaultOutcome::{Guest, Mmio, NeedView, NonCanonical, Slot, TrackedWrite, ViewAccess};
use Space::{Kernel, User};

const FRAMES: usize = 2048;
const TOP: u64 = 1;
const PDPT: u64 = 2;
const PD: u64 = 3;
const PT: u64 = 4;
const OTHER_TOP: u64 = 5;
/// Present, writable, user, accessed, dirty.
const USED: u64 = 0x67;
const NX: u64 = 1 << 63;
/// In the kernel's half: PML4E 511, PDPTE 510, PDE 8, PTE 0.
const HIGH: u64 = 0xffff_ffff_8100_0000;

fn bare(levels: u8, model: Model) -> Machine {
    let mut guest = Machine::new(levels, FakeHost::new(FRAMES, 1000), |config| {
        config.max_shadow_pages = 64;
        config.max_tracked = 4;
        config.guest_physical_bits = 40;
        config.model = model;
    });
    guest.cpu.cr3 = TOP << 12;
    guest.cpu.cr4 = Cr4::PAE;
    guest.cpu.efer = Efer::NXE;
    guest.env = Env(2);
    guest
}

/// One table of each level, at the top of the kernel's half and at the bottom of the other.
fn long(levels: u8) -> Machine {
    let mut guest = bare(levels, Model::Ring1);
    guest.cpu.efer = Efer::LMA | Efer::LME | Efer::NXE;
    for (table, index, next) in [(TOP, 0, PDPT), (TOP, 511, PDPT), (PDPT, 0, PD), (PDPT, 510, PD), (PD, 8, PT)] {
        guest.host.set_wide(table, index, next << 12 | USED);
    }
    guest.host.set_wide(PD, 0, PT << 12 | USED);
    guest
}

/// Directory pointers in the middle of a frame.
fn pae(levels: u8, model: Model) -> Machine {
    let mut guest = bare(levels, model);
    guest.cpu.cr3 = TOP << 12 | 0x60;
    guest.host.set_wide(TOP, 12, PD << 12 | 1);
    guest.host.set_wide(TOP, 15, PD << 12 | 1);
    guest.host.set_wide(PD, 0, PT << 12 | USED);
    guest
}

/// A window with data in both its halves.
fn open_window(g: &mut Machine, start: u64) {
    g.set_window(WindowSlot::ALL[0], Some(Gva(start))).unwrap();
    let access = OverlayAccess { write: true, execute: false, user: true, pkey: 0 };
    for half in [0, 0x20_0000] {
        g.mmu.install_overlay_page(&mut g.host, Gva(start + half), Pfn(0x500 + start % 7), access).unwrap();
    }
}

fn fault(code: PageFaultCode, gva: u64) -> FaultOutcome {
    Guest(Exception::page_fault(code, gva))
}

#[test]
fn both_halves_of_a_long_guest_and_its_user_pages() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PT, 0, 16 << 12 | 0x63);
        g.host.set_wide(PT, 1, 17 << 12 | USED | NX);
        g.map(Kernel, HIGH, Write);
        assert_eq!(g.cpu(Kernel, HIGH + 8, Write), ram(16));
        g.map(Kernel, 0x1000, Read);
        assert_eq!(g.cpu(Kernel, 0x1000, Read), ram(17));
        // What the kernel's ring 3 reads must be a user page; what its programs read must be one of the guest's.
        let leaf = g.leaf(Kernel, HIGH).unwrap();
        assert!(leaf.user && !leaf.execute);
        let code = PageFaultCode::U | PageFaultCode::P;
        assert_eq!(g.fault(User, HIGH, Read), fault(code, HIGH));
        g.map(User, HIGH + 0x1000, Write);
        assert_eq!(g.fault(User, HIGH + 0x1000, Fetch), fault(code | PageFaultCode::I, HIGH + 0x1000));
        // The upper half's table is not reachable through the lower half of the host's fifth level, nor the reverse.
        if levels == 5 {
            for gva in [0x0000_ff80_0000_0000 | (HIGH & 0x7f_ffff_ffff), 0xffff_0000_0000_1000] {
                assert_eq!(g.leaf(Kernel, gva), None);
                assert_eq!(g.fault(Kernel, gva, Read), NonCanonical);
            }
        }
    }
}

#[test]
fn execute_disable_at_every_level_follows_the_guest() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PT, 0, 16 << 12 | USED);
        g.map(User, HIGH, Fetch);
        assert_eq!(g.fault(Kernel, HIGH, Fetch), NeedView { gpa: Gpa(16 << 12), page: Gva(HIGH) });
        for (table, index) in [(TOP, 511), (PDPT, 510), (PD, 8), (PT, 0)] {
            let before = g.host.wide(table, index);
            assert_eq!(g.install(Gva(HIGH), Gfn(16), Pfn(0x999)), Ok(ViewInstall::Installed));
            assert_eq!(g.cpu(Kernel, HIGH, Fetch), Ok(Pfn(0x999)));
            g.writes_wide(table, index, before | NX);
            let code = PageFaultCode::P | PageFaultCode::I;
            assert_eq!(g.fault(User, HIGH, Fetch), fault(code | PageFaultCode::U, HIGH));
            assert_eq!(g.fault(Kernel, HIGH, Fetch), fault(code, HIGH));
            g.writes_wide(table, index, before);
            assert!(g.cpu(User, HIGH, Fetch).is_ok(), "executable again without a fault");
            // A use of all tables between the writes, so that they are not taken for data.
            g.writes_wide(PT, 1, 0);
            g.host.set_wide(PT, 1, 17 << 12 | 5);
            g.map(User, HIGH + 0x1000, Read);
            // Without NXE the same bit is reserved.
            g.writes_wide(table, index, before | NX);
            g.cpu.efer.remove(Efer::NXE);
            let code = PageFaultCode::P | PageFaultCode::RSVD;
            assert_eq!(g.fault(Kernel, HIGH, Read), fault(code, HIGH));
            g.cpu.efer.insert(Efer::NXE);
            g.writes_wide(table, index, before);
        }
    }
}

#[test]
fn large_pages_of_both_sizes() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PD, 9, 0x20_0000 | 0xe7);
        g.host.set_wide(PDPT, 3, 0x87);
        let two = HIGH + 0x20_0000;
        g.map(User, two + 0x5123, Read);
        assert_eq!(g.cpu(User, two + 0xf123, Fetch), ram(0x20f), "its neighbours come with it");
        let one = 3 << 30;
        g.map(User, one + 0x12_3456, Read);
        assert_eq!(g.cpu(User, one + 0x12_3456, Read), ram(0x123));
        assert_eq!(g.host.wide(PDPT, 3), 0xa7);
        g.map(User, one + 0x12_3456, Write);
        assert_eq!(g.host.wide(PDPT, 3), 0xe7);
        g.writes_wide(PDPT, 3, 0xa7);
        assert!(g.cpu(User, one + 0x12_3456, Read).is_ok());
        assert!(g.cpu(User, one + 0x12_3456, Write).is_err());
        g.writes_wide(PDPT, 3, 0xe5);
        assert_eq!(g.fault(Kernel, one, Write), fault(PageFaultCode::P | PageFaultCode::W, one));
        g.writes_wide(PDPT, 3, 0xe7 | NX);
        assert!(g.cpu(User, one + 0x12_3456, Write).is_ok());
        assert!(matches!(g.fault(User, one + 0x12_3456, Fetch), Guest(_)));
        g.writes_wide(PDPT, 3, 0x4000_00e7);
        assert_eq!(g.leaf(User, one), None);
    }
}

#[test]
fn address_spaces_share_the_kernel_half() {
    for levels in [4, 5] {
        let mut g = long(levels);
        for i in 0..8 {
            g.host.set_wide(PT, i, (16 + i as u64) << 12 | 0x63);
        }
        g.map(Kernel, HIGH, Write);
        let (pages, hidden) = (g.mmu.shadow_pages(), g.count(Counter::PageFaultHidden));
        g.host.set_wide(OTHER_TOP, 511, PDPT << 12 | USED);
        g.cpu.cr3 = OTHER_TOP << 12;
        if levels == 5 {
            // The root refers to no table of the guest's yet.
            g.map(Kernel, HIGH + 0x1000, Write);
        }
        let hidden = hidden + u64::from(levels) - 4;
        // Only what is above the shared table: its top table, and on a 5-level host the root above that.
        assert!(g.cpu(Kernel, HIGH + 0x1000, Write).is_ok());
        assert_eq!(g.count(Counter::PageFaultHidden), hidden);
        assert_eq!(g.mmu.shadow_pages() - pages, u32::from(levels) - 3);
        for i in 0..8 {
            assert!(g.cpu(Kernel, HIGH + (i << 12), Write).is_ok());
        }
        // Back and forth costs nothing.
        for top in [TOP, OTHER_TOP, TOP] {
            g.cpu.cr3 = top << 12;
            assert!(g.cpu(Kernel, HIGH + 0x3000, Write).is_ok());
        }
        assert_eq!(g.count(Counter::PageFaultHidden), hidden);
    }
}

#[test]
fn tables_of_all_levels_are_tracked() {
    for levels in [4, 5] {
        let mut g = long(levels);
        for (i, table) in [TOP, PDPT, PD, PT].into_iter().enumerate() {
            g.host.set_wide(PT, i, table << 12 | 0x63);
        }
        g.map(Kernel, HIGH + 0x4000 - 0x1000, Read);
        for i in 0..4 {
            let outcome = g.fault(Kernel, HIGH + (i << 12), Write);
            assert!(matches!(outcome, TrackedWrite { .. }), "{i}: {outcome:?}");
        }
    }
}

#[test]
fn what_the_guest_has_in_the_vmm_slot_is_interpreted() {
    let slot = 0xffff_8200_0000_0000;
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PT, 0, 16 << 12 | USED);
        let absent = g.handle(Kernel, Gva(slot), PageFaultCode::P | PageFaultCode::U);
        assert_eq!(absent, Ok(fault(PageFaultCode::empty(), slot)));
        g.writes_wide(TOP, 260, PDPT << 12 | USED);
        if levels == 5 {
            g.map(Kernel, slot, Write);
            continue;
        }
        for kind in [Read, Write, Fetch] {
            assert_eq!(g.root_entry(Kernel, 260), VMM_SLOT.1);
            let code = PageFaultCode::P | PageFaultCode::U;
            let mut bits = code;
            bits.set(PageFaultCode::W, kind == Write);
            bits.set(PageFaultCode::I, kind == Fetch);
            let outcome = g.handle(Kernel, Gva(slot + 5), bits);
            assert_eq!(outcome, Ok(Slot { gpa: Gpa(16 << 12 | 5) }));
        }
        assert_eq!(g.install(Gva(slot), Gfn(16), Pfn(0x999)), Err(MmuError::BadAddress));
        let start = Some(Gva(slot));
        g.set_window(WindowSlot::ALL[0], start).unwrap();
        assert!(g.conflict());
    }
}

#[test]
fn pae_pointers_lie_anywhere_in_their_frame() {
    for levels in [4, 5] {
        for model in [Model::Ring1, Model::Ring3] {
            let mut g = pae(levels, model);
            g.host.set_wide(PT, 5, 16 << 12 | 0x63);
            for gva in [0x5000, 0xc000_5000] {
                g.map(Kernel, gva, Write);
                assert_eq!(g.cpu(Kernel, gva, Write), ram(16));
                assert_eq!(g.leaf(Kernel, gva).unwrap().user, model == Model::Ring3);
            }
            assert_eq!(g.fault(Kernel, 0x4000_5000, Write), fault(PageFaultCode::W, 0x4000_5000));
            assert_eq!(g.host.wide(TOP, 12), PD << 12 | 1, "pointers have no accessed bit");
            // Another address space in the same frame.
            g.cpu.cr3 = TOP << 12 | 0x80;
            assert_eq!(g.fault(Kernel, 0x5000, Read), fault(PageFaultCode::empty(), 0x5000));
            g.writes_wide(TOP, 16, PD << 12 | 1);
            g.map(Kernel, 0x5000, Write);
            // A pointer of the first goes.
            g.writes_wide(TOP, 12, 0);
            assert!(g.cpu(Kernel, 0x5000, Write).is_ok());
            g.cpu.cr3 = TOP << 12 | 0x60;
            assert_eq!(g.leaf(Kernel, 0x5000), None);
            assert!(g.cpu(Kernel, 0xc000_5000, Write).is_ok());
            // Two stores make an entry; four entries do not make the table data.
            for i in 0..4 {
                for half in [0, 4] {
                    let gpa = Gpa(PT << 12 | (i * 8 + half));
                    let value = if half == 0 { (20 + i as u32) << 12 | 0x63 } else { 0 };
                    assert!(g.host.write_ram(gpa, &value.to_le_bytes()).unwrap());
                    g.wrote(gpa, 4);
                }
                if i == 2 {
                    assert!(g.cpu(Kernel, 0xc000_0000 + (i << 12), Write).is_ok());
                }
            }
        }
    }
}

#[test]
fn windows_where_the_guest_lacks_tables() {
    for levels in [4, 5] {
        // The directory exists; only the pointer table does; nothing does.
        for window in [0xffff_ffff_bfc0_0000, 0xffff_ffff_4000_0000, 0xffff_c000_0000_0000] {
            let mut g = long(levels);
            open_window(&mut g, window);
            assert!(!g.conflict());
            for half in [0, 0x20_0000] {
                assert_eq!(g.cpu(Kernel, window + half, Write), Ok(Pfn(0x500 + window % 7)));
                assert_eq!(g.fault(User, window + half, Read), fault(PageFaultCode::U, window + half));
            }
            // In another address space, too.
            g.host.set_wide(OTHER_TOP, 511, PDPT << 12 | USED);
            g.cpu.cr3 = OTHER_TOP << 12;
            assert!(!g.conflict());
            assert!(g.cpu(Kernel, window, Write).is_ok());
            // One directory entry of the two is enough for a conflict, at whatever level it comes.
            let (table, index) = match window >> 30 & 0x3ff {
                0x3fe => (PD, 511),
                0x3fd => (PDPT, 509),
                _ => (OTHER_TOP, 384),
            };
            if table != PD {
                // Tables without an entry there do not take the place.
                let lower = [(200, 201), (201, 0)];
                g.host.set_wide(200, 0, if table == PDPT { 0 } else { 201 << 12 | USED });
                assert_eq!(lower[0].1, 201);
                assert!(!g.writes_wide(table, index, 200 << 12 | USED));
                assert!(!g.conflict());
                assert!(g.cpu(Kernel, window, Write).is_ok());
                let claim = if table == PDPT { 200 } else { 201 };
                assert!(g.writes_wide(claim, 1, PT << 12 | USED));
                assert!(g.conflict());
                assert!(matches!(g.fault(Kernel, window, Write), Guest(_)));
                assert!(!g.writes_wide(claim, 1, 0));
                assert!(g.cpu(Kernel, window, Write).is_ok());
                assert!(!g.writes_wide(table, index, 0));
            } else {
                assert!(g.writes_wide(table, index, PT << 12 | USED));
                assert!(g.conflict());
                assert!(matches!(g.fault(Kernel, window, Write), Guest(_)));
                assert!(!g.writes_wide(table, index, 0));
            }
            assert!(!g.conflict());
            assert!(g.cpu(Kernel, window, Write).is_ok());
            g.mmu.free_all(&mut g.host);
            assert_eq!(g.host.live(), 0);
        }
    }
}

#[test]
fn occupied_counts_from_a_base() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PDPT, 511, 0x4000_00e7);
        let mut occupied = [false; 1024];
        let base = Gva(0xffff_ffff_0000_0000);
        assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, base, &mut occupied), Ok(true));
        let taken = |o: &[bool; 1024]| (0..1024).filter(|&i| o[i]).collect::<Vec<_>>();
        let mut expected = vec![512, 516];
        expected.extend(768..1024);
        assert_eq!(taken(&occupied), expected);
        assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(0), &mut occupied), Ok(true));
        assert_eq!(taken(&occupied), [0, 4]);
        // Another space that has been used.
        g.host.set_wide(OTHER_TOP, 0, 200 << 12 | USED);
        g.host.set_wide(200, 0, 201 << 12 | USED);
        g.host.set_wide(201, 3, 0xe7);
        g.cpu.cr3 = OTHER_TOP << 12;
        g.root(User);
        g.cpu.cr3 = TOP << 12;
        assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(0), &mut occupied), Ok(true));
        assert_eq!(taken(&occupied), [0, 1, 4]);
        let slot = Gva(0xffff_8200_0000_0000);
        assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, slot, &mut occupied), Ok(levels == 5));
    }
    let mut g = pae(4, Model::Ring3);
    let mut occupied = [false; 1024];
    assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(0), &mut occupied), Ok(true));
    assert_eq!((0..1024).filter(|&i| occupied[i]).collect::<Vec<_>>(), [0, 768]);
    assert_eq!(g.mmu.occupied(&mut g.host, &g.cpu, Gva(1 << 32), &mut occupied), Ok(false));
}

#[test]
fn a_view_is_for_one_linear_address_and_data_reads_of_it_fault() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PT, 0, 16 << 12 | 0x63);
        assert_eq!(g.install(Gva(HIGH), Gfn(16), Pfn(0x999)), Ok(ViewInstall::Installed));
        assert_eq!(g.view_at(Gva(HIGH)), Some(Pfn(0x999)));
        assert_eq!(g.fault(Kernel, HIGH, Read), ViewAccess { gpa: Gpa(16 << 12), write: false });
        g.map(Kernel, 0, Read);
        assert_eq!(g.mmu.drop_view(&mut g.host, Gfn(16), Gva(HIGH)), 1);
        g.map(Kernel, HIGH, Read);
    }
}

#[test]
fn features_that_the_trees_do_not_know_are_refused() {
    for bit in [Cr4::SMEP, Cr4::SMAP, Cr4::PKE, Cr4::LA57] {
        let mut g = long(4);
        g.cpu.cr4.insert(bit);
        let root = g.try_root(Kernel);
        assert_eq!(root, Err(MmuError::UnsupportedPaging));
    }
}

#[test]
fn a_frame_is_never_taken_for_the_one_below_by_2_to_the_32() {
    let mut g = long(4);
    g.mmu.set_guest_physical_bits(46);
    g.host.set_wide(PT, 0, 16 << 12 | USED);
    g.map(User, HIGH, Write);
    g.writes_wide(PT, 0, 1 << 44 | 16 << 12 | USED);
    assert_eq!(g.leaf(User, HIGH), None);
    assert_eq!(g.fault(User, HIGH, Write), Mmio { gpa: Gpa(1 << 44 | 16 << 12) });
}

#[test]
fn accessed_bits_of_another_mode_make_no_stale_shadow() {
    let mut g = pae(4, Model::Ring1);
    g.host.set_wide(PT, 0, 16 << 12 | 0x63);
    g.map(Kernel, 0, Write);
    // In long mode the directory pointers are a page table. It is not written, only walked.
    for (table, next) in [(OTHER_TOP, 200), (200, 201), (201, TOP)] {
        g.host.set_wide(table, 0, next << 12 | USED);
    }
    let pae = g.cpu.clone();
    g.cpu.efer.insert(Efer::LMA | Efer::LME);
    g.cpu.cr3 = OTHER_TOP << 12;
    let read = Access { kind: Read, privilege: Privilege::Supervisor };
    assert_eq!(g.mmu.translate(&mut g.host, &g.cpu, Gva(12 << 12), read), Ok(Gpa(PD << 12)));
    assert_eq!(g.host.wide(TOP, 12), PD << 12 | 0x21);
    // That bit is reserved in a pointer.
    g.cpu = pae;
    assert_eq!(g.fault(Kernel, 0, Read), fault(PageFaultCode::P | PageFaultCode::RSVD, 0));
}

#[test]
fn a_window_that_cannot_be_built_is_nowhere() {
    let mut g = long(4);
    g.host.set_wide(PT, 0, 16 << 12 | 0x63);
    g.map(Kernel, HIGH, Read);
    let (pages, window) = (g.mmu.shadow_pages(), 0xffff_ffff_bfc0_0000);
    let slot = WindowSlot::ALL[0];
    for broken in [TOP, PDPT, PD] {
        g.host.broken = Some(broken);
        assert!(g.set_window(slot, Some(Gva(window))).is_err());
        assert_eq!((g.mmu.overlay(slot), g.mmu.shadow_pages()), (None, pages));
        g.host.broken = None;
        assert_eq!(g.fault(Kernel, window, Read), fault(PageFaultCode::empty(), window));
    }
    open_window(&mut g, window);
    assert!(g.cpu(Kernel, window, Read).is_ok());
}

#[test]
fn no_root_is_without_the_vmm_area_after_a_host_failure() {
    for levels in [4, 5] {
        let mut g = long(levels);
        open_window(&mut g, 0xffff_ffff_bfc0_0000);
        g.host.broken = Some(TOP);
        assert!(g.try_root(Kernel).is_err());
        g.host.broken = None;
        assert_eq!(g.root_entry(Kernel, 260), VMM_SLOT.1);
    }
}

#[test]
fn a_write_fault_that_the_entry_alone_resolves_is_not_followed_by_another() {
    for levels in [4, 5] {
        let mut g = long(levels);
        g.host.set_wide(PT, 0, 16 << 12 | 0x25);
        g.host.set_wide(PT, 1, (FRAMES as u64 - 1) << 12 | 0x25);
        g.host.readonly = vec![FRAMES as u64 - 1];
        g.map(User, HIGH, Read);
        for page in [0, 0x1000] {
            assert!(g.cpu(User, HIGH + page, Read).is_ok());
            assert!(matches!(g.fault(User, HIGH + page, Write), Guest(_)));
            g.writes_wide(PT, page as usize >> 12, g.host.wide(PT, page as usize >> 12) | 0x42);
            // Not in read-only memory.
            assert_eq!(g.leaf(User, HIGH + page).unwrap().write, page == 0);
        }
        // Nor where the frame is tracked.
        g.mmu.track(&mut g.host, Gfn(16), Reason::Other).unwrap();
        g.writes_wide(PT, 0, 16 << 12 | 0x25);
        g.writes_wide(PT, 0, 16 << 12 | 0x67);
        assert!(!g.leaf(User, HIGH).unwrap().write);
    }
}
