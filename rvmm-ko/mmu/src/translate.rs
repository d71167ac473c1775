//! Guest translations for the interpreter: the walk by itself.

use rvmm_arch::fault::{Exception, PageFaultCode};
use rvmm_arch::host::GuestMemory;
use rvmm_arch::machine::{Access, MachineStop};
use rvmm_arch::{Gpa, Gva, VcpuState};

use crate::mmu::{Mmu, MmuError};
use crate::paging::Paging;
use crate::walk::{walk, Traces, Walked};

/// Why a translation did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TranslateStop {
    /// The guest faults.
    Guest(Exception),
    /// The host failed or the paging mode is not supported.
    Mmu(MmuError),
}

impl From<TranslateStop> for MachineStop {
    fn from(stop: TranslateStop) -> Self {
        match stop {
            TranslateStop::Guest(exception) => Self::Fault(exception),
            TranslateStop::Mmu(_) => Self::HostError,
        }
    }
}

impl Mmu {
    /// Translates `la` with the guest's tables and sets accessed and dirty bits as the CPU would.
    ///
    /// # Errors
    /// The guest's #PF, or what kept the tables from being read.
    pub fn translate<G: GuestMemory + ?Sized>(
        &mut self,
        mem: &mut G,
        cpu: &VcpuState,
        la: Gva,
        access: Access,
    ) -> Result<Gpa, TranslateStop> {
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        if let Some(mode) = paging.mode() {
            self.modes |= mode.bit();
        }
        match walk(mem, &paging, la, access, Traces::Set) {
            Ok(Some(Walked::Mapped(walk))) => Ok(walk.gpa),
            Ok(Some(Walked::Fault(code))) => {
                Err(TranslateStop::Guest(Exception::page_fault(code, paging.linear(la).0)))
            }
            Ok(None) => Err(TranslateStop::Mmu(MmuError::UnsupportedPaging)),
            Err(e) => Err(TranslateStop::Mmu(e.into())),
        }
    }

    /// Translates `la` without leaving a trace: for the scanner, the verifier, a debugger.
    ///
    /// # Errors
    /// What kept the tables from being read. The guest's refusal is the inner error.
    pub fn peek<G: GuestMemory + ?Sized>(
        &self,
        mem: &mut G,
        cpu: &VcpuState,
        la: Gva,
        access: Access,
    ) -> Result<Result<Gpa, PageFaultCode>, MmuError> {
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        match walk(mem, &paging, la, access, Traces::None)?.ok_or(MmuError::UnsupportedPaging)? {
            Walked::Mapped(walk) => Ok(Ok(walk.gpa)),
            Walked::Fault(code) => Ok(Err(code)),
        }
    }
}
