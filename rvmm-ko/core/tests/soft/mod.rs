//! A host made of software: guest RAM, host pages, and a CPU that runs guest code deprivileged, in ring 1 or 3, through
//! the shadow page tables and the shadow descriptor tables that the engine built. So the whole engine runs under
//! `cargo test`, and what it puts into shadow tables and views is really walked and executed.
//!
//! The CPU is the interpreter at CPL 1 or 3; independent of the engine's use of it is everything below: the walk of the
//! host-format tables, protection keys, the shadow GDT, what an entry demands, and what an exit looks like. And it looks
//! for what a real CPU would not tell: instructions that must not be executed natively (`critical`), and tables that show more than they
//! may (`audit`).
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub mod audit;
pub mod cpu;
pub mod critical;
pub mod events;
pub mod guest;
pub mod serve;
pub mod sse;
pub mod syscall;
pub mod walk;

use rvmm_arch::host::{
    Backing, DescriptorTable, EventLoan, GuestContext, GuestMemory, Host, HostError, HostFeatures, HostPage, HostPages,
    SyscallSupport, WorldExit,
};
use rvmm_arch::serve::Serve;
use rvmm_arch::trace::{TraceEvent, TracePoint};
use rvmm_arch::xstate;
use rvmm_arch::{Gfn, Gpa, Pfn};
use rvmm_core::cpuid::CpuidEntry;

/// Host frames of guest RAM start here; host pages elsewhere, so that mixing them up shows.
const RAM_PFN: u64 = 0x10_0000;
const PAGE_PFN: u64 = 0x20_0000;

pub struct SoftHost {
    pub ram: Vec<u8>,
    /// By guest frame: somebody has asked for it.
    pub pinned: Vec<bool>,
    pages: Vec<Box<[u8; 4096]>>,
    free: Vec<u32>,
    /// By page: how often it was given out, and whether it is now.
    given: Vec<(u32, bool)>,
    pub live_pages: usize,
    pub gdt: Vec<u64>,
    pub ldt: Vec<u64>,
    pub log: Vec<String>,
    pub features: HostFeatures,
    /// Instructions that one stay in the guest world lasts before a "host interrupt" ends it.
    pub timer: u32,
    pub tsc: std::cell::Cell<u64>,
    /// Instructions executed directly.
    pub direct: u64,
    asked: u64,
    /// Entries, about, after which the client wants its thread back.
    pub slice: u64,
    /// The soft CPU met an instruction (x87, most of SSE) that it does not have.
    pub lacking: bool,
    /// What it has of SSE's state.
    pub xmm: [[u8; 16]; 16],
    pub kernel_steps: u64,
    /// What was traced, if anybody listens.
    pub trace: Option<Vec<TraceEvent>>,
    /// The guest is in long mode: what may stand in the shadow tables.
    pub long_mode: bool,
    /// What CPUID shows to code that executes it directly.
    pub cpuid: Vec<CpuidEntry>,
    /// Entries between two looks at everything in the root entered, which takes long; at the beginning more often. 0: never.
    pub audit_every: u32,
    entries: u32,
    /// The roots last entered, for the guest's kernel and for its programs.
    pub entered: [Option<audit::Entered>; 2],
    /// Events of programs that end no stay, for this one.
    pub events: EventLoan,
    /// The shadow root that the CPU runs on.
    pub running_root: u64,
    /// The guest's CR3 and mode at the entry that is being made.
    entering: (u64, &'static str),
    /// No code but verbatim one runs: look for instructions that must not be executed directly.
    pub strict: bool,
    /// Such instructions that were, with where.
    pub critical: Vec<(u64, &'static str)>,
}

impl SoftHost {
    pub fn new(ram_bytes: usize) -> Self {
        Self {
            ram: vec![0; ram_bytes],
            pinned: vec![false; ram_bytes >> 12],
            pages: Vec::new(),
            free: Vec::new(),
            given: Vec::new(),
            live_pages: 0,
            gdt: vec![0; 8192],
            ldt: vec![0; 8192],
            log: Vec::new(),
            features: HostFeatures {
                paging_levels: 4,
                physical_bits: 40,
                vmm_slot: (260, 0x7ff_f003),
                pku: true,
                smap: true,
                umip: true,
                fsgsbase: true,
                tsc_aux: true,
                xcr0: xstate::OFFERED,
                syscall: SyscallSupport::Compatibility,
                reserved_bit: 1 << 51,
                constant_tsc: true,
            },
            timer: 1000,
            tsc: std::cell::Cell::new(0),
            direct: 0,
            asked: 0,
            slice: 16384,
            lacking: false,
            xmm: [[0; 16]; 16],
            kernel_steps: 0,
            trace: None,
            long_mode: false,
            cpuid: Vec::new(),
            audit_every: 1009,
            entries: 0,
            entered: [None; 2],
            events: EventLoan::default(),
            running_root: 0,
            entering: (0, ""),
            strict: false,
            critical: Vec::new(),
        }
    }

    fn span(&mut self, gpa: Gpa, len: usize) -> Option<std::ops::Range<usize>> {
        assert!(gpa.offset() + len <= 4096, "access crosses a page");
        let start = usize::try_from(gpa.0).ok()?;
        self.pin(gpa.frame());
        (start + len <= self.ram.len()).then_some(start..start + len)
    }

    fn pin(&mut self, gfn: Gfn) {
        if let Some(pinned) = self.pinned.get_mut(gfn.0 as usize) {
            *pinned = true;
        }
    }

    fn page_number(pfn: Pfn) -> Option<usize> {
        pfn.0.checked_sub(PAGE_PFN).map(|n| n as usize)
    }

    /// Guest RAM, or a host page that was given out and not taken back.
    pub fn is_live(&self, pfn: Pfn) -> bool {
        match Self::page_number(pfn) {
            Some(n) => self.given.get(n).is_some_and(|(_, live)| *live),
            None => pfn.0 >= RAM_PFN && ((pfn.0 - RAM_PFN) << 12) < self.ram.len() as u64,
        }
    }

    /// Is this the entry before which everything is looked at?
    pub fn audits_this_entry(&self) -> bool {
        self.audit_due(self.entries)
    }

    /// How often a host page was given out.
    pub fn generation(&self, pfn: Pfn) -> u32 {
        Self::page_number(pfn).and_then(|n| self.given.get(n)).map_or(0, |(n, _)| *n)
    }

    /// Is the `n`th time one to look at everything?
    pub fn audit_due(&self, n: u32) -> bool {
        self.audit_every != 0 && (n.is_power_of_two() || n % self.audit_every == 0)
    }

    /// An entry of a page table.
    pub fn entry(&mut self, table: Pfn, index: usize) -> u64 {
        if table.0 < RAM_PFN.min(PAGE_PFN) {
            // The tables of the VMM area, which is not here.
            return 0;
        }
        u64::from_le_bytes(self.frame(table)[index * 8..index * 8 + 8].try_into().unwrap())
    }

    /// A frame's bytes, whoever owns it.
    pub fn frame(&mut self, pfn: Pfn) -> &mut [u8] {
        if pfn.0 >= PAGE_PFN {
            &mut self.pages[(pfn.0 - PAGE_PFN) as usize][..]
        } else {
            let start = ((pfn.0 - RAM_PFN) << 12) as usize;
            &mut self.ram[start..start + 4096]
        }
    }
}

impl GuestMemory for SoftHost {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.pin(gfn);
        Ok(if ((gfn.0 + 1) << 12) as usize <= self.ram.len() {
            Backing::Ram { pfn: Pfn(RAM_PFN + gfn.0), readonly: false }
        } else {
            Backing::Mmio
        })
    }

    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        Ok(self.span(gpa, buf.len()).map(|r| buf.copy_from_slice(&self.ram[r])).is_some())
    }

    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        Ok(self.span(gpa, data.len()).map(|r| self.ram[r].copy_from_slice(data)).is_some())
    }

    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        let Some(r) = self.span(gpa, usize::from(size)) else { return Ok(false) };
        let size = usize::from(size);
        if self.ram[r.clone()] != old.to_le_bytes()[..size] {
            return Ok(false);
        }
        self.ram[r].copy_from_slice(&new.to_le_bytes()[..size]);
        Ok(true)
    }

    fn has_memory(&mut self, first: Gfn, _count: u64) -> bool {
        ((first.0 + 1) << 12) as usize <= self.ram.len()
    }
}

impl HostPages for SoftHost {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        self.live_pages += 1;
        if let Some(n) = self.free.pop() {
            self.pages[n as usize].fill(0);
            let (times, live) = &mut self.given[n as usize];
            (*times, *live) = (*times + 1, true);
            return Ok(HostPage(n));
        }
        self.pages.push(Box::new([0; 4096]));
        self.given.push((1, true));
        Ok(HostPage(self.pages.len() as u32 - 1))
    }

    fn free_page(&mut self, page: HostPage) {
        assert!(std::mem::take(&mut self.given[page.0 as usize].1), "double free");
        self.live_pages -= 1;
        // Whoever still maps it will see this.
        self.pages[page.0 as usize].fill(0x0f);
        self.free.push(page.0);
    }

    fn pfn(&self, page: HostPage) -> Pfn {
        Pfn(PAGE_PFN + u64::from(page.0))
    }

    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        let bytes = &self.pages[page.0 as usize][index * 8..index * 8 + 8];
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        self.pages[page.0 as usize][index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        &mut self.pages[page.0 as usize]
    }
}

impl Host for SoftHost {
    fn features(&self) -> HostFeatures {
        self.features
    }

    fn set_long_mode(&mut self, on: bool) {
        if self.long_mode != on {
            self.long_mode = on;
            self.gdt.fill(0);
            self.ldt.fill(0);
        }
    }

    fn set_descriptor(&mut self, table: DescriptorTable, index: u16, raw: u64) -> bool {
        if index >= 8176 {
            return false;
        }
        let present = raw & (1 << 47) != 0;
        assert!(!present || (raw >> 45) & 3 != 0, "DPL 0 in a shadow table");
        assert!(!present || raw & (1 << 44) != 0, "system descriptor in a shadow table");
        let long = self.long_mode;
        assert!(!present || !long || (raw >> 45) & 3 == 3, "DPL other than 3 in long mode");
        assert!(!present || long || raw & (1 << 53) == 0, "L=1 in a shadow table");
        match table {
            DescriptorTable::Gdt => self.gdt[usize::from(index)] = raw,
            DescriptorTable::Ldt => self.ldt[usize::from(index)] = raw,
        }
        true
    }

    fn descriptor(&self, table: DescriptorTable, index: u16) -> u64 {
        match table {
            DescriptorTable::Gdt => self.gdt[usize::from(index)],
            DescriptorTable::Ldt => self.ldt[usize::from(index)],
        }
    }

    fn enter(
        &mut self,
        ctx: &mut GuestContext,
        events: Option<&mut EventLoan>,
        serve: Option<&mut dyn Serve>,
    ) -> WorldExit {
        self.events = events.as_deref().copied().unwrap_or_default();
        let kernel = audit::is_kernel(ctx);
        assert_eq!(self.entering.1, if kernel { "kernel" } else { "user" });
        let (root, cr3) = (Pfn(ctx.cr3 >> 12), self.entering.0);
        let generation = self.generation(root);
        self.entered[usize::from(!kernel)] = Some(audit::Entered { root, generation, cr3 });
        if ctx.syscall.on != 0 {
            for (space, hpa) in [ctx.syscall.cr3, ctx.syscall.program_cr3].into_iter().enumerate() {
                let root = Pfn(hpa >> 12);
                if space == 0 || ctx.syscall.back != 0 {
                    let generation = self.generation(root);
                    self.entered[space] = Some(audit::Entered { root, generation, cr3 });
                }
            }
        }
        self.entries = self.entries.wrapping_add(1);
        audit::descriptors_of_mode(self, ctx);
        if self.audits_this_entry() {
            audit::descriptors(self, ctx);
            audit::tables(self, ctx);
        }
        let exit = cpu::run(self, ctx, serve);
        if let Some(events) = events {
            *events = self.events;
        }
        exit
    }

    fn should_return(&mut self) -> bool {
        self.asked += 1;
        self.asked % self.slice == 0
    }

    fn tsc(&self) -> u64 {
        self.tsc.set(self.tsc.get() + 1);
        self.tsc.get()
    }

    fn report(&mut self, line: std::fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }

    fn traces(&self, point: TracePoint) -> bool {
        point == TracePoint::Entry || self.trace.is_some()
    }

    fn trace(&mut self, event: &TraceEvent) {
        if let TraceEvent::Entry { mode, cr3, .. } = event {
            self.entering = (*cr3, mode);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(*event);
        }
    }
}
