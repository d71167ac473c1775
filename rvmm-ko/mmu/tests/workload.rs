//! What a Unix kernel's use of page tables costs in exits: fork with copy on write, faults, exec, exit. The bounds are
//! there so that a change that makes tables thrash is noticed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{gfn, FakeHost, Machine};
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr4, Efer};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gfn, Gpa, Gva};
use rvmm_mmu::paging::GuestMode;
use rvmm_mmu::{FaultOutcome, Reasons, Space, WindowSlot};

const FRAMES: usize = 4096;
const USED: u64 = 0x67;
/// The first process' top table, whose kernel part all others copy, and the kernel's tables.
const SWAPPER: u64 = 1;
const KERNEL_TABLES: [u64; 4] = [2, 3, 4, 5];
/// Where the process has its pages: text and data, heap, stack.
const AREAS: [(u64, u64); 3] = [(0x0804_8000, 60), (0x0a00_0000, 40), (0xbfff_0000, 12)];

/// How the tables of a paging mode are cut.
struct Format {
    mode: GuestMode,
    /// Shift and number of bits of each level's index, the highest first.
    levels: &'static [(u32, u32)],
    bytes: u64,
    /// Where the kernel has all memory mapped.
    lowmem: u64,
    /// The entries of a top table that all processes have in common.
    kernel: std::ops::Range<usize>,
    window: u64,
}

const TWO_LEVEL: Format = Format {
    mode: GuestMode::TwoLevel,
    levels: &[(22, 10), (12, 10)],
    bytes: 4,
    lowmem: 0xc000_0000,
    kernel: 768..1024,
    window: 0xff80_0000,
};
const PAE: Format = Format {
    mode: GuestMode::Pae,
    levels: &[(30, 2), (21, 9), (12, 9)],
    bytes: 8,
    lowmem: 0xc000_0000,
    kernel: 3..4,
    window: 0xff80_0000,
};
const LONG: Format = Format {
    mode: GuestMode::FourLevel,
    levels: &[(39, 9), (30, 9), (21, 9), (12, 9)],
    bytes: 8,
    lowmem: 0xffff_8880_0000_0000,
    kernel: 256..512,
    window: 0xffff_ffff_7fc0_0000,
};
/// Where a 64-bit kernel's own code and data are.
const TEXT: u64 = 0xffff_ffff_8100_0000;

struct Kernel {
    format: &'static Format,
    machine: Machine,
    exits: u64,
    free: Vec<u64>,
}

impl Kernel {
    fn new(format: &'static Format, levels: u8, (prefill, unsync): (bool, bool)) -> Self {
        let mut machine = Machine::new(levels, FakeHost::new(FRAMES, 4000), |config| {
            config.guest_physical_bits = 36;
            config.prefill = prefill;
            config.unsync = unsync;
        });
        machine.cpu.cr4 = if format.bytes == 8 { Cr4::PAE } else { Cr4::PSE };
        machine.cpu.efer.set(Efer::LMA, format.mode == GuestMode::FourLevel);
        machine.cpu.cr3 = SWAPPER << 12;
        let mut kernel = Self { format, machine, exits: 0, free: (16..FRAMES as u64).rev().collect() };
        kernel.boot();
        for (slot, at) in WindowSlot::ALL.into_iter().zip([0, 1, 2]) {
            let start = Gva(format.window - (at << 22));
            kernel.machine.set_window(slot, Some(start)).unwrap();
        }
        kernel
    }

    /// All memory by large pages, in a 64-bit kernel from two places.
    fn boot(&mut self) {
        match self.format.mode {
            GuestMode::FourLevel => {
                let [direct, text, pages, code] = KERNEL_TABLES;
                self.machine.host.set_wide(SWAPPER, 273, direct << 12 | USED);
                self.machine.host.set_wide(SWAPPER, 511, text << 12 | USED);
                self.machine.host.set_wide(direct, 0, pages << 12 | USED);
                self.machine.host.set_wide(text, 510, code << 12 | USED);
                for i in 0..8 {
                    self.machine.host.set_wide(pages, i, (i as u64) << 21 | 0xe3);
                    self.machine.host.set_wide(code, 8 + i, (i as u64) << 21 | 0xe3);
                }
            }
            GuestMode::Pae => {
                self.machine.host.set_wide(SWAPPER, 3, KERNEL_TABLES[0] << 12 | 1);
                for i in 0..8 {
                    self.machine.host.set_wide(KERNEL_TABLES[0], i, (i as u64) << 21 | 0xe3);
                }
            }
            _ => {
                for i in 0..4 {
                    self.machine.host.set_gpte(SWAPPER, 768 + i, (i << 22) as u32 | 0xe3);
                }
            }
        }
    }

    fn entry(&self, table: u64, index: usize) -> u64 {
        if self.format.bytes == 8 {
            self.machine.host.wide(table, index)
        } else {
            self.machine.host.gpte(table, index).into()
        }
    }

    /// One access, with what the engine does until it is through.
    fn access(&mut self, space: Space, gva: u64, kind: AccessKind, store: Option<&[u8]>) -> Result<u64, ()> {
        loop {
            assert!(!self.machine.try_root(space).unwrap().conflict);
            let code = match self.machine.cpu(space, gva, kind) {
                Ok(pfn) => {
                    let gfn = gfn(pfn);
                    if let Some(value) = store {
                        self.machine.host.replace(Gpa(gfn << 12 | gva & 0xfff), value);
                    }
                    return Ok(gfn);
                }
                Err(code) => code,
            };
            self.exits += 1;
            match self.machine.handle(space, Gva(gva), code).unwrap() {
                FaultOutcome::Fixed => {}
                FaultOutcome::Guest(_) => return Err(()),
                FaultOutcome::TrackedWrite { gpa, reasons } => {
                    assert_eq!(reasons, Reasons::TABLE);
                    let value = store.unwrap();
                    self.machine.host.replace(gpa, value);
                    self.machine.wrote(gpa, value.len() as u64);
                    return Ok(gpa.0 >> 12);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The kernel stores into a table, through its mapping of all memory; a 32-bit kernel stores 8 bytes as twice 4.
    fn store(&mut self, table: u64, index: usize, value: u64) {
        let at = self.format.lowmem + (table << 12) + index as u64 * self.format.bytes;
        let bytes = value.to_le_bytes();
        if self.format.mode == GuestMode::FourLevel {
            self.access(Space::Kernel, at, AccessKind::Write, Some(&bytes)).unwrap();
        } else {
            if self.format.bytes == 8 {
                self.access(Space::Kernel, at + 4, AccessKind::Write, Some(&bytes[4..])).unwrap();
            }
            self.access(Space::Kernel, at, AccessKind::Write, Some(&bytes[..4])).unwrap();
        }
        assert_eq!(self.entry(table, index), value);
    }

    fn page(&mut self) -> u64 {
        let page = self.free.pop().unwrap();
        for i in 0..4096 / self.format.bytes {
            self.store(page, i as usize, 0);
        }
        page
    }

    fn top(&mut self) -> u64 {
        let top = self.page();
        for i in self.format.kernel.clone() {
            let entry = self.entry(SWAPPER, i);
            if entry != 0 {
                self.store(top, i, entry);
            }
        }
        top
    }

    /// The tables on the way to `gva` and its index in each, made where they are missing.
    fn tables(&mut self, top: u64, gva: u64) -> Vec<(u64, usize)> {
        let mut table = top;
        let mut path = Vec::new();
        for (i, &(shift, bits)) in self.format.levels.iter().enumerate() {
            let index = (gva >> shift & ((1 << bits) - 1)) as usize;
            path.push((table, index));
            if i + 1 < self.format.levels.len() {
                if self.entry(table, index) == 0 {
                    let next = self.page();
                    let pointer = self.format.mode == GuestMode::Pae && i == 0;
                    self.store(table, index, next << 12 | if pointer { 1 } else { USED });
                }
                table = self.entry(table, index) >> 12;
            }
        }
        path
    }

    fn pte(&mut self, top: u64, gva: u64) -> (u64, usize) {
        *self.tables(top, gva).last().unwrap()
    }

    /// A write of the process; the kernel gives it a page, or a copy of a shared one, where it faults.
    fn touch(&mut self, gva: u64) {
        let top = self.machine.cpu.cr3 >> 12;
        for _ in 0..2 {
            if let Ok(gfn) = self.access(Space::User, gva, AccessKind::Write, None) {
                let (table, index) = self.pte(top, gva);
                assert_eq!(self.entry(table, index) >> 12, gfn);
                assert_eq!(self.machine.mmu.reasons(Gfn(gfn)), Reasons::empty());
                return;
            }
            if self.format.mode == GuestMode::FourLevel {
                self.access(Space::Kernel, TEXT + 0x3000, AccessKind::Read, None).unwrap();
            }
            let (table, index) = self.pte(top, gva);
            let fresh = self.free.pop().unwrap();
            let old = self.entry(table, index);
            self.store(table, index, fresh << 12 | USED);
            if old != 0 {
                self.machine.invlpg(Gva(gva));
            }
        }
        panic!("the process cannot write at {gva:#x}");
    }

    fn pages() -> impl Iterator<Item = u64> {
        AREAS.iter().flat_map(|&(start, n)| (0..n).map(move |i| start + (i << 12)))
    }

    fn fork(&mut self) -> u64 {
        let parent = self.machine.cpu.cr3 >> 12;
        let child = self.top();
        for gva in Self::pages() {
            let (from, index) = self.pte(parent, gva);
            let shared = self.entry(from, index) & !2;
            if shared == 0 {
                continue;
            }
            self.store(from, index, shared);
            let (to, index) = self.pte(child, gva);
            self.store(to, index, shared);
        }
        self.flush();
        child
    }

    fn flush(&mut self) {
        self.machine.flush();
    }

    fn switch(&mut self, top: u64) {
        self.machine.cpu.cr3 = top << 12;
        self.flush();
    }

    /// The pages of an address space are returned, in part before its tables are; none of its own table entries stays.
    fn exit(&mut self, top: u64, shared_with: u64) {
        let mut links = Vec::new();
        for gva in Self::pages() {
            let path = self.tables(top, gva);
            let &(table, index) = path.last().unwrap();
            let frame = self.entry(table, index) >> 12;
            let (theirs, _) = self.pte(shared_with, gva);
            if frame != 0 && frame != self.entry(theirs, index) >> 12 {
                self.free.insert(0, frame);
            }
            self.store(table, index, 0);
            for &link in &path[..path.len() - 1] {
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        self.flush();
        while let Some((table, index)) = links.pop() {
            let lower = self.entry(table, index) >> 12;
            self.store(table, index, 0);
            self.free.push(lower);
        }
        self.free.push(top);
    }
}

/// Exits of the first process' start, and of each round of fork, copy on write and exit once all is warm.
fn processes_come_and_go(format: &'static Format, levels: u8, how: (bool, bool)) -> (u64, u64) {
    let mut kernel = Kernel::new(format, levels, how);
    let first = kernel.top();
    kernel.switch(first);
    for gva in Kernel::pages() {
        kernel.touch(gva);
    }
    let start = kernel.exits;

    let rounds = 60;
    let (mut warm, mut warm_faults) = (0, 0);
    for round in 0..rounds {
        if round == 10 {
            warm = kernel.exits;
            warm_faults = kernel.machine.count(Counter::PageFaultTrue);
        }
        let child = kernel.fork();
        // The child writes some of its pages, the parent others, then the child ends.
        kernel.switch(child);
        for gva in Kernel::pages().step_by(4) {
            kernel.touch(gva);
        }
        kernel.switch(first);
        for gva in Kernel::pages().skip(1).step_by(4) {
            kernel.touch(gva);
        }
        kernel.exit(child, first);
    }
    let per_round = (kernel.exits - warm) / (rounds - 10);
    let faults = (kernel.machine.count(Counter::PageFaultTrue) - warm_faults) / (rounds - 10);
    // 56 pages are copied on write; all 336 entries are written several times.
    assert_eq!(faults, 56);
    println!(
        "{:?} on {levels} levels, prefill and unsync {how:?}: {start} exits to start, {per_round} a round",
        format.mode
    );
    for counter in [
        Counter::PageFaultHidden,
        Counter::PageTableWrites,
        Counter::Prefilled,
        Counter::TablesLetGo,
        Counter::TableSyncs,
        Counter::EntriesCompared,
        Counter::ShadowPages,
    ] {
        println!("    {} {}", counter.name(), kernel.machine.count(counter));
    }
    (start, per_round)
}

#[test]
fn processes_of_32_bit_paging() {
    let (start, round) = processes_come_and_go(&TWO_LEVEL, 4, (false, false));
    // 112 pages by demand: the fault, the store of the entry, and little else.
    assert!(start < 2 * 112 + 40, "{start} exits to build a process");
    assert!(round < 4 * 56, "{round} exits a round");
}

#[test]
fn processes_of_pae() {
    for levels in [4, 5] {
        let (start, round) = processes_come_and_go(&PAE, levels, (false, false));
        // An entry is two stores.
        assert!(start < 3 * 112 + 40, "{start} exits to build a process");
        assert!(round < 5 * 56, "{round} exits a round");
    }
}

#[test]
fn processes_of_4_level_paging() {
    for levels in [4, 5] {
        let (start, round) = processes_come_and_go(&LONG, levels, (false, false));
        assert!(start < 2 * 112 + 40, "{start} exits to build a process");
        assert!(round < 4 * 56, "{round} exits a round");
    }
}

#[test]
fn with_tables_out_of_sync() {
    for format in [&TWO_LEVEL, &PAE, &LONG] {
        let ways = [(false, false), (true, false), (false, true), (true, true)];
        let [neither, prefill, unsync, both] = ways.map(|how| processes_come_and_go(format, 4, how));
        let (start, round) = both;
        assert!(start < 112 + 20, "{start} exits to build a process");
        assert!(round < 2 * 56, "{round} exits a round");
        // Each saves something alone, and beside the other.
        let alone = [prefill.1, unsync.1];
        assert!(alone.iter().all(|one| round < *one && *one < neither.1), "{neither:?}, {alone:?}, {both:?}");
    }
}
