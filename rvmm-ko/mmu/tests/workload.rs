//! What a Unix kernel's use of page tables costs in exits: fork with copy on write, faults, exec, exit. The bounds are
//! there so that a change that makes tables thrash is noticed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{cpu_access, FakeHost, GUEST_BASE};
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Cr4};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gva, VcpuState};
use rvmm_mmu::{Env, FaultOutcome, Mmu, MmuConfig, Reasons, Space};

const FRAMES: usize = 4096;
const LOWMEM: u64 = 0xc000_0000;
const USED: u32 = 0x67;
/// Where the process has its pages: text and data, heap, stack.
const AREAS: [(u64, u64); 3] = [(0x0804_8000, 60), (0x0a00_0000, 40), (0xbfff_0000, 12)];

struct Kernel {
    host: FakeHost,
    mmu: Mmu,
    cpu: VcpuState,
    stats: Stats,
    exits: u64,
    free: Vec<u64>,
}

impl Kernel {
    fn new() -> Self {
        let mut config = MmuConfig::new(&Default::default());
        config.paging_levels = 4;
        config.vmm_slot = (260, 3);
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
        cpu.cr4 = Cr4::PSE;
        let mut kernel = Self {
            host: FakeHost::new(FRAMES, 4000),
            mmu: Mmu::new(config).unwrap(),
            cpu,
            stats: Stats::default(),
            exits: 0,
            free: (16..FRAMES as u64).rev().collect(),
        };
        for i in 0..4 {
            kernel.host.set_gpte(1, 768 + i, (i << 22) as u32 | 0xe3);
        }
        kernel.cpu.cr3 = 1 << 12;
        kernel
    }

    /// One access, with what the engine does until it is through.
    fn access(&mut self, space: Space, gva: u64, kind: AccessKind, store: Option<u32>) -> Result<u64, ()> {
        loop {
            let root = self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, Env(0)).unwrap();
            let code = match cpu_access(&self.host, 4, root.hpa, space, Gva(gva), kind) {
                Ok(pfn) => {
                    let gfn = pfn.0 - GUEST_BASE;
                    if let Some(value) = store {
                        self.host.set_gpte(gfn, (gva & 0xfff) as usize / 4, value);
                    }
                    return Ok(gfn);
                }
                Err(code) => code,
            };
            self.exits += 1;
            let (host, stats) = (&mut self.host, &mut self.stats);
            match self.mmu.fault(host, stats, &self.cpu, space, Env(0), Gva(gva), code).unwrap() {
                FaultOutcome::Fixed => {}
                FaultOutcome::Guest(_) => return Err(()),
                FaultOutcome::TrackedWrite { gpa, reasons } => {
                    assert_eq!(reasons, Reasons::TABLE);
                    let gpa = self.host.set_gpte(gpa.0 >> 12, gpa.offset() / 4, store.unwrap());
                    self.mmu.guest_wrote(&mut self.host, &mut self.stats, gpa, 4).unwrap();
                    return Ok(gpa.0 >> 12);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The kernel stores into a table, through its mapping of all memory.
    fn store(&mut self, table: u64, index: usize, value: u32) {
        self.access(Space::Kernel, LOWMEM + (table << 12) + index as u64 * 4, AccessKind::Write, Some(value)).unwrap();
        assert_eq!(self.host.gpte(table, index), value);
    }

    fn page(&mut self) -> u64 {
        let page = self.free.pop().unwrap();
        for i in 0..1024 {
            self.store(page, i, 0);
        }
        page
    }

    fn directory(&mut self) -> u64 {
        let directory = self.page();
        for i in 768..772 {
            let entry = self.host.gpte(1, i);
            self.store(directory, i, entry);
        }
        directory
    }

    fn pte(&mut self, directory: u64, gva: u64) -> (u64, usize) {
        let at = (gva >> 22) as usize;
        if self.host.gpte(directory, at) == 0 {
            let table = self.page();
            self.store(directory, at, (table as u32) << 12 | USED);
        }
        (u64::from(self.host.gpte(directory, at) >> 12), (gva >> 12 & 1023) as usize)
    }

    /// A write of the process; the kernel gives it a page, or a copy of a shared one, where it faults.
    fn touch(&mut self, gva: u64) {
        let directory = self.cpu.cr3 >> 12;
        for _ in 0..2 {
            if let Ok(gfn) = self.access(Space::User, gva, AccessKind::Write, None) {
                let (table, index) = self.pte(directory, gva);
                assert_eq!(u64::from(self.host.gpte(table, index) >> 12), gfn);
                assert_eq!(self.mmu.reasons(Gfn(gfn)), Reasons::empty());
                return;
            }
            let (table, index) = self.pte(directory, gva);
            let fresh = self.free.pop().unwrap();
            self.store(table, index, (fresh as u32) << 12 | USED);
        }
        panic!("the process cannot write at {gva:#x}");
    }

    fn pages() -> impl Iterator<Item = u64> {
        AREAS.iter().flat_map(|&(start, n)| (0..n).map(move |i| start + (i << 12)))
    }

    fn fork(&mut self) -> u64 {
        let parent = self.cpu.cr3 >> 12;
        let child = self.directory();
        for gva in Self::pages() {
            let (from, index) = self.pte(parent, gva);
            let shared = self.host.gpte(from, index) & !2;
            if shared == 0 {
                continue;
            }
            self.store(from, index, shared);
            let (to, index) = self.pte(child, gva);
            self.store(to, index, shared);
        }
        child
    }

    /// The pages of an address space are returned, in part before its tables are; none of its own table entries stays.
    fn exit(&mut self, directory: u64, shared_with: u64) {
        for gva in Self::pages() {
            let (table, index) = self.pte(directory, gva);
            let frame = self.host.gpte(table, index) >> 12;
            let (theirs, _) = self.pte(shared_with, gva);
            if frame != 0 && frame != self.host.gpte(theirs, index) >> 12 {
                self.free.insert(0, u64::from(frame));
            }
            self.store(table, index, 0);
        }
        for (start, _) in AREAS {
            let at = (start >> 22) as usize;
            let table = u64::from(self.host.gpte(directory, at) >> 12);
            self.store(directory, at, 0);
            self.free.push(table);
        }
        self.free.push(directory);
    }
}

#[test]
fn processes_come_and_go() {
    let mut kernel = Kernel::new();
    let first = kernel.directory();
    kernel.cpu.cr3 = first << 12;
    for gva in Kernel::pages() {
        kernel.touch(gva);
    }
    // 112 pages by demand: the fault, the store of the entry, and little else.
    assert!(kernel.exits < 2 * 112 + 40, "{} exits to build a process", kernel.exits);

    let rounds = 60;
    let (mut warm, mut warm_faults) = (0, 0);
    for round in 0..rounds {
        if round == 10 {
            warm = kernel.exits;
            warm_faults = kernel.stats.get(Counter::PageFaultTrue);
        }
        let child = kernel.fork();
        // The child writes some of its pages, the parent others, then the child ends.
        kernel.cpu.cr3 = child << 12;
        for gva in Kernel::pages().step_by(4) {
            kernel.touch(gva);
        }
        kernel.cpu.cr3 = first << 12;
        for gva in Kernel::pages().skip(1).step_by(4) {
            kernel.touch(gva);
        }
        kernel.exit(child, first);
    }
    let per_round = (kernel.exits - warm) / (rounds - 10);
    let faults = (kernel.stats.get(Counter::PageFaultTrue) - warm_faults) / (rounds - 10);
    // 56 pages are copied on write; all 336 entries are written several times.
    assert_eq!(faults, 56);
    println!("{per_round} exits a round, {faults} of them the guest's faults");
    assert!(per_round < 4 * 56, "{per_round} exits a round");
}
