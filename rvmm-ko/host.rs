// SPDX-License-Identifier: GPL-2.0
//! The host as the engine sees it: guest memory, the VM's pages, the world switch.

use crate::kvm_abi::run;
use crate::memory::{Memory, OnlyPinned};
use crate::pages::PagePool;
use crate::report::Report;
use crate::switch::cpu;
use crate::switch::enter::World;
use crate::switch::serve::Server;
use crate::switch::slot::SLOT_INDEX;
use crate::sys::run_page::RunPage;
use crate::sys::{task, trace};
use core::sync::atomic::{AtomicU32, Ordering};
use rvmm_arch::cpuid::Leaf7;
use rvmm_arch::host::{
    Backing, DescriptorTable, EventLoan, GuestContext, GuestMemory, Host, HostError, HostFeatures, HostPage, HostPages,
    WorldExit,
};
use rvmm_arch::serve::Serve;
use rvmm_arch::trace::{TraceEvent, TracePoint};
use rvmm_arch::{Gfn, Gpa, Pfn};

/// One vCPU's view of its host, borrowed from the VM for the length of a call into the engine.
pub(crate) struct VcpuHost<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) pages: &'a mut PagePool,
    pub(crate) report: &'a mut Report,
    pub(crate) world: &'a mut World,
    pub(crate) run: &'a RunPage,
    /// Threads that wait for the VM's lock.
    pub(crate) waiting: &'a AtomicU32,
}

impl GuestMemory for VcpuHost<'_> {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.memory.backing(gfn)
    }
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.memory.read_ram(gpa, buf)
    }
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        self.memory.write_ram(gpa, data)
    }
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        self.memory.compare_exchange_ram(gpa, size, old, new)
    }
    fn has_memory(&mut self, first: Gfn, count: u64) -> bool {
        self.memory.has_memory(first, count)
    }
}

impl HostPages for VcpuHost<'_> {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        self.pages.alloc_page()
    }
    fn free_page(&mut self, page: HostPage) {
        self.pages.free_page(page);
    }
    fn pfn(&self, page: HostPage) -> Pfn {
        self.pages.pfn(page)
    }
    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        self.pages.read_entry(page, index)
    }
    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        self.pages.write_entry(page, index, value);
    }
    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        self.pages.bytes(page)
    }
}

impl Host for VcpuHost<'_> {
    fn features(&self) -> HostFeatures {
        let area = &self.world.area;
        features(area.slot().levels(), area.guest_entry())
    }

    fn set_long_mode(&mut self, on: bool) {
        self.world.area.set_long_mode(on);
    }

    fn set_descriptor(&mut self, table: DescriptorTable, index: u16, raw: u64) -> bool {
        self.world.area.set_descriptor(table, index, raw)
    }

    fn descriptor(&self, table: DescriptorTable, index: u16) -> u64 {
        self.world.area.descriptor(table, index)
    }

    fn enter(
        &mut self,
        ctx: &mut GuestContext,
        events: Option<&mut EventLoan>,
        serve: Option<&mut dyn Serve>,
    ) -> WorldExit {
        let Some(serve) = serve else { return self.world.enter(ctx, events, None) };
        let mut there = There { memory: OnlyPinned(self.memory), pages: self.pages };
        let exit = self.world.enter(ctx, events, Some(&mut Server::new(serve, &mut there)));
        self.pages.free_parked();
        exit
    }

    fn should_return(&mut self) -> bool {
        task::cond_resched();
        task::must_return() || self.run.read_u8(run::IMMEDIATE_EXIT) != 0 || self.waiting.load(Ordering::Relaxed) != 0
    }

    fn tsc(&self) -> u64 {
        cpu::rdtsc()
    }

    fn report(&mut self, line: core::fmt::Arguments<'_>) {
        self.report.line(line);
    }

    #[inline(always)]
    fn traces(&self, point: TracePoint) -> bool {
        trace::listened(point)
    }

    fn trace(&mut self, event: &TraceEvent) {
        trace::emit(event);
    }
}

/// What is there of memory and pages in the middle of a stay in the guest world: nothing that would have to be waited for.
struct There<'a> {
    memory: OnlyPinned<'a>,
    pages: &'a mut PagePool,
}

impl GuestMemory for There<'_> {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.memory.backing(gfn)
    }
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.memory.read_ram(gpa, buf)
    }
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        self.memory.write_ram(gpa, data)
    }
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        self.memory.compare_exchange_ram(gpa, size, old, new)
    }
    fn has_memory(&mut self, first: Gfn, count: u64) -> bool {
        self.memory.has_memory(first, count)
    }
}

impl HostPages for There<'_> {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        Err(HostError::NoMemory)
    }
    fn free_page(&mut self, page: HostPage) {
        self.pages.park_page(page);
    }
    fn pfn(&self, page: HostPage) -> Pfn {
        self.pages.pfn(page)
    }
    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        self.pages.read_entry(page, index)
    }
    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        self.pages.write_entry(page, index, value);
    }
    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        self.pages.bytes(page)
    }
}

/// What this CPU offers (CPUID: SDM vol. 2; leaves 7, 80000007, 80000008).
fn features(paging_levels: u8, guest_entry: u64) -> HostFeatures {
    let leaf7 = leaf7();
    HostFeatures {
        paging_levels,
        physical_bits: cpu::cpuid(0x8000_0008, 0)[0] as u8,
        vmm_slot: (SLOT_INDEX, guest_entry),
        pku: leaf7.pku,
        smap: leaf7.smap,
        umip: leaf7.umip,
        fsgsbase: leaf7.fsgsbase,
        tsc_aux: crate::switch::enter::has_rdtscp(),
        xcr0: crate::switch::fpu::offered(),
        syscall: crate::switch::syscall::support(),
        reserved_bit: crate::switch::reserved::bit(),
        constant_tsc: cpu::cpuid(0x8000_0007, 0)[3] >> 8 & 1 != 0,
    }
}

/// What `rvmm check` reads too.
pub(crate) fn leaf7() -> Leaf7 {
    Leaf7::read(|leaf| cpu::cpuid(leaf, 0))
}
