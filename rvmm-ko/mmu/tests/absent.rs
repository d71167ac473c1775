//! Entries that stand for what the guest has not present: where they are, and what takes them away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{cpu_access, marked, FakeHost, BEYOND};
use rvmm_arch::host::{HostPage, HostPages};
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Hpa, PageFaultCode, VcpuState};
use rvmm_mmu::{Env, FaultOutcome, Mmu, MmuConfig, Space};
use AccessKind::{Read, Write};
use Space::{Kernel, User};

const SLOT: u64 = 0x1234_5003;
const TOP: u64 = 1;
const PDPT: u64 = 2;
const PD: u64 = 3;
const PT: u64 = 4;
/// Present, writable, user, accessed, dirty.
const USED: u64 = 0x67;

struct Guest {
    host: FakeHost,
    mmu: Mmu,
    cpu: VcpuState,
    stats: Stats,
    levels: u8,
}

/// One table of each level, whose first entries lead to page 0x100; nothing else.
fn guest(levels: u8, unsync: bool) -> Guest {
    let mut config = MmuConfig::new(&Default::default());
    config.paging_levels = levels;
    config.vmm_slot = (260, SLOT);
    config.guest_physical_bits = 40;
    config.absent = BEYOND;
    config.unsync = unsync;
    let mut cpu = VcpuState::reset();
    cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
    cpu.cr3 = TOP << 12;
    cpu.cr4 = Cr4::PAE;
    cpu.efer = Efer::LMA | Efer::LME | Efer::NXE;
    let mut host = FakeHost::new(2048, 1000);
    for (table, next) in [(TOP, PDPT), (PDPT, PD), (PD, PT), (PT, 0x100)] {
        host.set_wide(table, 0, next << 12 | USED);
    }
    Guest { host, mmu: Mmu::new(config).unwrap(), cpu, stats: Stats::default(), levels }
}

impl Guest {
    fn root(&mut self, space: Space) -> Hpa {
        self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, Env(2)).unwrap().hpa
    }
    fn cpu(&mut self, space: Space, gva: u64, kind: AccessKind) -> Result<(), PageFaultCode> {
        let root = self.root(space);
        cpu_access(&self.host, self.levels, root, space, Gva(gva), kind).map(|_| ())
    }
    fn fault(&mut self, space: Space, gva: u64, kind: AccessKind) -> FaultOutcome {
        let code = self.cpu(space, gva, kind).expect_err("no fault");
        self.mmu.fault(&mut self.host, &mut self.stats, &self.cpu, space, Env(2), Gva(gva), code).unwrap()
    }
    fn reach(&mut self, space: Space, gva: u64, kind: AccessKind) {
        while self.cpu(space, gva, kind).is_err() {
            assert_eq!(self.fault(space, gva, kind), FaultOutcome::Fixed);
        }
    }
    fn marked(&mut self, gva: u64) -> bool {
        let root = self.root(User);
        marked(&self.host, self.levels, root, Gva(gva))
    }
    fn writes(&mut self, table: u64, index: usize, value: u64) {
        let gpa = self.host.set_wide(table, index, value);
        self.mmu.guest_wrote(&mut self.host, &mut self.stats, gpa, 8).unwrap();
    }
}

/// An address through entry 1 of the table of each level, the others through entry 0.
const NEXT: [(u64, u64); 4] = [(PT, 1 << 12), (PD, 1 << 21), (PDPT, 1 << 30), (TOP, 1 << 39)];

#[test]
fn what_the_guest_has_not_present_is_marked_at_every_level() {
    for levels in [4, 5] {
        let mut g = guest(levels, false);
        g.reach(User, 0, Read);
        for (_, gva) in NEXT {
            assert!(g.marked(gva), "{gva:#x}");
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
    let top = HostPage((g.root(User).frame().0 - common::HOST_BASE) as u32);
    assert_eq!(g.host.read_entry(top, 260), SLOT);
    for value in [0, 0x200 << 12 | USED, 0] {
        g.writes(TOP, 260, value);
        assert_eq!(g.host.read_entry(top, 260), SLOT);
    }
}

#[test]
fn an_address_between_the_halves_is_no_fault_of_the_guests() {
    let mut g = guest(5, false);
    g.reach(User, 0, Read);
    assert!(!g.marked(1 << 48));
    assert_eq!(g.fault(User, 1 << 48, Read), FaultOutcome::NonCanonical);
}

#[test]
fn a_mark_goes_when_the_entry_becomes_present_and_comes_back() {
    for (table, gva) in NEXT {
        let mut g = guest(4, false);
        g.reach(User, 0, Read);
        assert!(g.marked(gva), "{gva:#x}");
        let next = if table == PT { 0x101 } else { table + 1 };
        g.writes(table, 1, next << 12 | USED);
        assert!(!g.marked(gva));
        g.reach(User, gva, Read);
        // Anything but P.
        g.writes(table, 1, !1);
        assert!(g.marked(gva), "{gva:#x}");
        // One that is present but not accessed is no mark, nor one with reserved bits, or the supervisor's.
        for value in [next << 12 | 1 | 4, next << 12 | USED | 1 << 45, next << 12 | 0x63] {
            let mut g = guest(4, false);
            g.reach(User, 0, Read);
            g.writes(table, 1, value);
            assert!(!g.marked(gva), "{value:#x}");
            g.writes(table, 1, 0);
            assert!(g.marked(gva), "{value:#x}");
        }
    }
}

#[test]
fn a_page_table_out_of_sync_has_none() {
    let mut g = guest(4, true);
    g.reach(User, 0, Read);
    assert!(g.marked(1 << 12));
    // The kernel's own mapping of its table.
    g.writes(PD, 1, 0x83 | 0x60);
    g.reach(Kernel, 1 << 21, Read);
    g.reach(Kernel, (1 << 21) + (PT << 12), Write);
    assert!(!g.marked(1 << 12), "it may be written without being told of");
    // Upper tables are always followed.
    assert!(g.marked(1 << 30));
    g.host.set_wide(PT, 1, 0x101 << 12 | USED);
    g.reach(User, 1 << 12, Read);
    g.host.set_wide(PT, 1, 0);
    g.mmu.cr3_loaded(&mut g.host, &mut g.stats);
    assert!(g.marked(1 << 12), "it is in line again");
}

#[test]
fn faults_that_nobody_saw_keep_a_table() {
    let mut g = guest(4, false);
    g.reach(User, 0, Read);
    for page in 1..60_usize {
        let gva = (page as u64) << 12;
        assert!(g.marked(gva), "page {page}: the table was taken for data");
        g.mmu.reflected(&mut g.stats, &g.cpu, Gva(gva), 1);
        g.writes(PT, page, 0x101 << 12 | USED);
        assert!(g.cpu(User, gva, Write).is_ok(), "page {page}");
    }
    assert_eq!(g.stats.get(Counter::PageFaultTrue), 59);
    assert_eq!(g.stats.get(Counter::PageFaultHidden), 1);
}
