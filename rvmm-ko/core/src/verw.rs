//! VERW beforehand: kernels execute it on their way to a program so that the CPU clears its buffers, and what it says of the selector
//! in memory is the same each time. A block that contains one asks the vCPU page whether the VMM knows (rvmm-patcher, `block/verw.rs`); here is
//! what it knows. The word is watched like any table that the engine keeps a copy of: its frame is write-tracked, and its place is looked
//! for again whenever translations may have changed.

use rvmm_arch::host::Host;
use rvmm_arch::segment::Selector;
use rvmm_arch::{Gpa, VcpuState};
use rvmm_mmu::{Mmu, MmuError, Reason};

use crate::reflect::place;
use crate::segments::DescriptorShadow;
use crate::vcpu::{Flow, Vcpu};

/// Bytes of a selector in memory.
const SELECTOR_BYTES: u64 = 2;
/// Writes in a row to the word's frame that do not change the word, after which it is not watched any more: data are beside it.
const IDLE_WRITES: u32 = 256;

/// The word that VERWs in blocks name.
#[derive(Debug, Default)]
pub(crate) struct Verw {
    /// Its linear address; 0: no block has asked.
    la: u64,
    /// Where it is, and what it holds.
    found: Option<(Gpa, Selector)>,
    /// To be looked for again.
    stale: bool,
    idle_writes: u32,
}

impl Verw {
    /// A block asks of the word at `la` (linear). There is one such word at a time; of others the blocks leave it to the VMM.
    pub(crate) fn asked(&mut self, la: u64) {
        if self.la != la {
            (self.la, self.stale, self.idle_writes) = (la, true, 0);
        }
    }

    /// Translations, or the memory behind them, may be others than they were.
    pub(crate) fn look_again(&mut self) {
        self.stale = self.la != 0;
    }

    /// Guest memory was written (`len` bytes within one page).
    pub(crate) fn wrote(&mut self, gpa: Gpa, len: u64) {
        let Some((at, _)) = self.found.filter(|(at, _)| at.frame() == gpa.frame()) else { return };
        if gpa.0 < at.0.wrapping_add(SELECTOR_BYTES) && at.0 < gpa.0.wrapping_add(len) {
            (self.stale, self.idle_writes) = (true, 0);
        } else {
            self.idle_writes = self.idle_writes.saturating_add(1);
            self.stale |= self.gave_up();
        }
    }

    const fn gave_up(&self) -> bool {
        self.idle_writes > IDLE_WRITES
    }

    /// Looks for the word again if it may be another.
    fn refresh<H: Host>(&mut self, cpu: &VcpuState, mmu: &mut Mmu, host: &mut H) -> Result<(), MmuError> {
        if !core::mem::take(&mut self.stale) {
            return Ok(());
        }
        let at = if self.gave_up() { None } else { place(cpu, mmu, host, self.la, SELECTOR_BYTES)? };
        let before = self.found.map(|(at, _)| at.frame());
        self.found = None;
        if before != at.map(|at| at.frame()) {
            if let Some(gfn) = before {
                mmu.untrack(gfn, Reason::Other);
            }
            if let Some(gfn) = at.map(|at| at.frame()) {
                match mmu.track(host, gfn, Reason::Other) {
                    Ok(()) => {}
                    Err(MmuError::TrackingFull) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        self.found = at.map(|at| (at, Selector(0)));
        if let Some((at, selector)) = &mut self.found {
            let mut word = [0; SELECTOR_BYTES as usize];
            // Without RAM behind it there is nothing to know.
            if host.read_ram(*at, &mut word)? {
                *selector = Selector(u16::from_le_bytes(word));
            }
        }
        Ok(())
    }

    /// Where the word is, if a VERW of it sets ZF for ring 0: its segment may be written, whatever its DPL (SDM vol. 2, VERR/VERW).
    pub(crate) fn writable(&self, segments: &DescriptorShadow) -> Option<u64> {
        let (_, selector) = self.found.filter(|_| !self.stale)?;
        let segment = segments.loaded(selector);
        let granted = !selector.is_null() && segment.writable() && segment.dpl() >= selector.rpl();
        (granted && segments.reload_is_idle(&segment)).then_some(self.la)
    }
}

impl Vcpu {
    /// Before an entry: what blocks with a VERW may ask.
    ///
    /// # Errors
    /// Host failures.
    pub(crate) fn find_verw<H: Host>(&mut self, host: &mut H) -> Flow {
        if self.parts.verw.la != 0 {
            self.parts.verw.refresh(&self.state, &mut self.parts.mmu, host)?;
        }
        Ok(())
    }
}
