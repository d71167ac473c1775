//! The guest registers that steer paging, and the paging mode they select (SDM vol. 3 §4.1).

use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::{Gva, VcpuState};

/// What of a virtual CPU decides how a linear address is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// CR0: PG and WP matter.
    pub cr0: Cr0,
    /// CR3.
    pub cr3: u64,
    /// CR4: PSE, PAE, LA57, SMEP, SMAP, PKE matter.
    pub cr4: Cr4,
    /// EFER: LMA and NXE matter.
    pub efer: Efer,
    /// RFLAGS: AC matters, under SMAP.
    pub rflags: Rflags,
    /// The guest's physical address width (CPUID 8000_0008H), bits: decides what is reserved in entries that have address
    /// bits above 31.
    pub physical_bits: u8,
}

/// A paging mode that this crate knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestMode {
    /// CR0.PG = 0: linear addresses are physical addresses.
    Off,
    /// 32-bit paging: two levels, 4 KiB and (with PSE) 4 MiB pages.
    TwoLevel,
    /// PAE paging: four directory pointers and two levels, 4 KiB and 2 MiB pages.
    Pae,
    /// 4-level paging of long mode: 4 KiB, 2 MiB and 1 GiB pages.
    FourLevel,
}

impl GuestMode {
    /// A bit for each mode that has tables.
    #[must_use]
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::TwoLevel => 1,
            Self::Pae => 2,
            Self::FourLevel => 4,
        }
    }
}

impl Paging {
    /// The paging registers of `cpu`.
    #[must_use]
    pub const fn of(cpu: &VcpuState, physical_bits: u8) -> Self {
        Self { cr0: cpu.cr0, cr3: cpu.cr3, cr4: cpu.cr4, efer: cpu.efer, rflags: cpu.rflags, physical_bits }
    }

    /// The paging mode; `None` for 5-level paging and for protection keys, which the guest's CPUID does not offer.
    #[must_use]
    pub const fn mode(&self) -> Option<GuestMode> {
        if !self.cr0.contains(Cr0::PG) {
            Some(GuestMode::Off)
        } else if self.efer.contains(Efer::LMA) {
            if self.cr4.intersects(Cr4::LA57.union(Cr4::PKE)) {
                return None;
            }
            Some(GuestMode::FourLevel)
        } else if self.cr4.contains(Cr4::PAE) {
            Some(GuestMode::Pae)
        } else {
            Some(GuestMode::TwoLevel)
        }
    }

    /// Do supervisor writes honour read-only pages?
    #[must_use]
    pub const fn write_protect(&self) -> bool {
        self.cr0.contains(Cr0::WP)
    }

    /// Is bit 63 of an entry the execute-disable bit? Else it is reserved.
    #[must_use]
    pub const fn no_execute(&self) -> bool {
        self.cr4.contains(Cr4::PAE) && self.efer.contains(Efer::NXE)
    }

    /// Is an access of this kind told in the error code's I bit? (SDM vol. 3 §4.7: only with SMEP, or NX under PAE.)
    #[must_use]
    pub const fn reports_fetch(&self, kind: AccessKind) -> bool {
        matches!(kind, AccessKind::Fetch) && (self.cr4.contains(Cr4::SMEP) || self.no_execute())
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

/// Is `la` one of the addresses of 4-level paging: bits 63 to 47 all the same? (SDM vol. 1 §3.3.7.1.)
#[must_use]
pub const fn canonical(la: Gva) -> bool {
    canonical_of(la.0).0 == la.0
}

/// The canonical address with the low 48 bits of `low`.
#[must_use]
pub const fn canonical_of(low: u64) -> Gva {
    Gva((((low << 16) as i64) >> 16) as u64)
}
