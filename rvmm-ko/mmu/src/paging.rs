//! The guest registers that steer paging, and the paging mode they select (SDM vol. 3 §4.1).

use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::{Gva, VcpuState};

/// What of a virtual CPU decides how a linear address is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// CR0: PG and WP matter.
    pub cr0: Cr0,
    /// CR3.
    pub cr3: u64,
    /// CR4: PSE, PAE, LA57, SMEP matter.
    pub cr4: Cr4,
    /// EFER: LMA and NXE matter.
    pub efer: Efer,
    /// The guest's physical address width (CPUID 8000_0008H), bits: decides what is reserved in a PSE-36 entry.
    pub physical_bits: u8,
}

/// A paging mode that this crate knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestMode {
    /// CR0.PG = 0: linear addresses are physical addresses.
    Off,
    /// 32-bit paging: two levels, 4 KiB and (with PSE) 4 MiB pages.
    TwoLevel,
}

impl Paging {
    /// The paging registers of `cpu`.
    #[must_use]
    pub const fn of(cpu: &VcpuState, physical_bits: u8) -> Self {
        Self { cr0: cpu.cr0, cr3: cpu.cr3, cr4: cpu.cr4, efer: cpu.efer, physical_bits }
    }

    /// The paging mode; `None` for PAE and 4- or 5-level paging, which the guest's CPUID does not offer yet.
    #[must_use]
    pub const fn mode(&self) -> Option<GuestMode> {
        if !self.cr0.contains(Cr0::PG) {
            Some(GuestMode::Off)
        } else if !self.cr4.contains(Cr4::PAE) && !self.efer.contains(Efer::LMA) {
            Some(GuestMode::TwoLevel)
        } else {
            None
        }
    }

    /// Do supervisor writes honour read-only pages?
    #[must_use]
    pub const fn write_protect(&self) -> bool {
        self.cr0.contains(Cr0::WP)
    }

    /// Is an access of this kind told in the error code's I bit? (SDM vol. 3 §4.7: only with SMEP, or NX under PAE.)
    #[must_use]
    pub const fn reports_fetch(&self, kind: AccessKind) -> bool {
        matches!(kind, AccessKind::Fetch)
            && (self.cr4.contains(Cr4::SMEP) || (self.cr4.contains(Cr4::PAE) && self.efer.contains(Efer::NXE)))
    }

    /// The linear address as paging sees it: 32 bits wide outside long mode.
    #[must_use]
    pub const fn linear(&self, la: Gva) -> Gva {
        if self.efer.contains(Efer::LMA) {
            la
        } else {
            Gva(la.0 & 0xffff_ffff)
        }
    }
}
