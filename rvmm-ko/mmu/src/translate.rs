//! Guest translations for the interpreter: the walk by itself.

use rvmm_arch::fault::{Exception, PageFaultCode};
use rvmm_arch::host::GuestMemory;
use rvmm_arch::machine::{Access, MachineStop};
use rvmm_arch::regs::Cr0;
use rvmm_arch::{Gpa, Gva, VcpuState};

use crate::mmu::{Mmu, MmuError, MmuHost};
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

/// The linear pages of faults that the interpreter has met since guest code last ran. The CPU's TLB has forgotten them (SDM vol. 3
/// §4.10.4.1), so page tables out of sync are brought in line there before it runs again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forgotten {
    Nothing,
    Page(Gva),
    Several,
}

impl Mmu {
    /// Forgets the pages noted.
    pub(crate) fn forget_noted<H: MmuHost + ?Sized>(&mut self, host: &mut H) {
        match core::mem::replace(&mut self.forgotten, Forgotten::Nothing) {
            Forgotten::Nothing => {}
            Forgotten::Page(gva) => self.sync_page_of(host, gva),
            Forgotten::Several => self.sync_all(host),
        }
    }

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
        // All of a real-mode program's instructions and data come through here; the walk would say the same.
        if !cpu.cr0.contains(Cr0::PG) {
            return Ok(Gpa(la.0 & 0xffff_ffff));
        }
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        if let Some(mode) = paging.mode() {
            self.modes |= mode.bit();
        }
        match walk(mem, &paging, la, access, Traces::Set) {
            Ok(Some(Walked::Mapped(walk))) => Ok(walk.gpa),
            Ok(Some(Walked::Fault(code))) => {
                let page = Forgotten::Page(paging.linear(la).page());
                let first = self.forgotten == Forgotten::Nothing || self.forgotten == page;
                self.forgotten = if first { page } else { Forgotten::Several };
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
