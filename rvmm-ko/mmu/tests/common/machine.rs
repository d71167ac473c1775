//! Guest memory, the MMU and the guest's registers together, and what the engine does with them.

use rvmm_arch::host::HostPages;
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::Cr0;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gpa, Gva, Hpa, PageFaultCode, Pfn, VcpuState};
use rvmm_mmu::{
    Env, FaultOutcome, Mmu, MmuConfig, MmuError, Root, Space, ViewInstall, ViewProtection, WindowSlot, Wrote,
};

use super::{cpu_access, gfn, host_page, shadow_leaf, FakeHost, Leaf};

/// Index and entry of the VMM area in every root.
pub const VMM_SLOT: (u16, u64) = (260, 0x1234_5003);
/// Of all execution views: executable, and not readable in guest-kernel mode.
pub const PROTECTION: ViewProtection = ViewProtection { user: true, pkey: 1 };

pub struct Machine {
    pub host: FakeHost,
    pub mmu: Mmu,
    pub cpu: VcpuState,
    pub stats: Stats,
    /// Of the host's tables.
    pub levels: u8,
    pub env: Env,
}

impl Machine {
    /// On a CPU of so many levels; `change` has the last word on the configuration. Paging is on, the other registers are the
    /// caller's to set.
    pub fn new(levels: u8, host: FakeHost, change: impl FnOnce(&mut MmuConfig)) -> Self {
        let mut config = MmuConfig::new(&Default::default());
        config.paging_levels = levels;
        config.vmm_slot = VMM_SLOT;
        change(&mut config);
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
        Self { host, mmu: Mmu::new(config).unwrap(), cpu, stats: Stats::default(), levels, env: Env(0) }
    }

    /// What precedes every entry.
    pub fn try_root(&mut self, space: Space) -> Result<Root, MmuError> {
        self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, self.env)
    }
    pub fn root(&mut self, space: Space) -> Hpa {
        self.try_root(space).unwrap().hpa
    }
    /// Has the guest come where a window is?
    pub fn conflict(&mut self) -> bool {
        self.try_root(Space::Kernel).unwrap().conflict
    }
    pub fn root_entry(&mut self, space: Space, index: usize) -> u64 {
        let page = host_page(self.root(space));
        self.host.read_entry(page, index)
    }
    pub fn leaf(&mut self, space: Space, gva: u64) -> Option<Leaf> {
        let root = self.root(space);
        shadow_leaf(&self.host, self.levels, root, Gva(gva))
    }

    /// One access of guest code: the frame that it reaches, or the fault that the CPU reports.
    pub fn cpu(&mut self, space: Space, gva: u64, kind: AccessKind) -> Result<Pfn, PageFaultCode> {
        let root = self.root(space);
        cpu_access(&self.host, self.levels, root, space, Gva(gva), kind)
    }
    /// A fault is brought to the MMU.
    pub fn handle(&mut self, space: Space, gva: Gva, code: PageFaultCode) -> Result<FaultOutcome, MmuError> {
        self.mmu.fault(&mut self.host, &mut self.stats, &self.cpu, space, self.env, gva, code)
    }
    /// The same in the middle of a stay.
    pub fn serve(&mut self, space: Space, root: Hpa, gva: Gva, code: PageFaultCode) -> Option<FaultOutcome> {
        let (host, stats, tree) = (&mut self.host, &mut self.stats, (space, self.env));
        self.mmu.serve(host, stats, &self.cpu, tree, root, gva, code)
    }
    /// The access, which must fault, and what the fault was.
    pub fn fault(&mut self, space: Space, gva: u64, kind: AccessKind) -> FaultOutcome {
        let code = self.cpu(space, gva, kind).expect_err("no fault");
        self.handle(space, Gva(gva), code).unwrap()
    }
    /// The access takes one hidden fault.
    pub fn map(&mut self, space: Space, gva: u64, kind: AccessKind) {
        assert_eq!(self.fault(space, gva, kind), FaultOutcome::Fixed);
        assert!(self.cpu(space, gva, kind).is_ok());
    }
    /// The access, with as many hidden faults as it takes: the guest frame that it reaches.
    pub fn reach(&mut self, space: Space, gva: u64, kind: AccessKind) -> u64 {
        loop {
            match self.cpu(space, gva, kind) {
                Ok(pfn) => return gfn(pfn),
                Err(_) => assert_eq!(self.fault(space, gva, kind), FaultOutcome::Fixed),
            }
        }
    }

    /// The MMU is told of a write.
    pub fn wrote(&mut self, gpa: Gpa, len: u64) -> Wrote {
        self.mmu.guest_wrote(&mut self.host, &mut self.stats, gpa, len).unwrap()
    }
    /// The guest writes an entry of 32-bit paging, and the MMU is told. Has the guest come where a window is?
    pub fn writes(&mut self, table: u64, index: usize, value: u32) -> bool {
        let gpa = self.host.set_gpte(table, index, value);
        self.wrote(gpa, 4).conflict
    }
    /// The same for an entry of 8 bytes.
    pub fn writes_wide(&mut self, table: u64, index: usize, value: u64) -> bool {
        let gpa = self.host.set_wide(table, index, value);
        self.wrote(gpa, 8).conflict
    }
    /// MOV to a control register.
    pub fn flush(&mut self) {
        self.mmu.cr3_loaded(&mut self.host, &mut self.stats);
    }
    pub fn invlpg(&mut self, gva: Gva) {
        self.mmu.invlpg(&mut self.host, &mut self.stats, gva);
    }

    /// Puts `view` at a page where the guest should have `gfn`.
    pub fn install(&mut self, page: Gva, gfn: Gfn, view: Pfn) -> Result<ViewInstall, MmuError> {
        let (host, stats) = (&mut self.host, &mut self.stats);
        self.mmu.install_view(host, stats, &self.cpu, self.env, page, gfn, (view, PROTECTION))
    }
    pub fn view_at(&self, page: Gva) -> Option<Pfn> {
        self.mmu.view_at(&self.host, &self.cpu, self.env, page)
    }
    pub fn set_window(&mut self, slot: WindowSlot, start: Option<Gva>) -> Result<(), MmuError> {
        self.mmu.set_overlay(&mut self.host, &mut self.stats, slot, start)
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }
}
