//! Write tracking: a tracked frame is mapped read-only everywhere, so that each write to it faults and is told.

use rvmm_arch::Gfn;

use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::spte;
use crate::track::{Reason, Reasons};

impl Mmu {
    /// Why writes to `gfn` are seen; empty if they are not (a page table out of sync may be written).
    #[must_use]
    pub fn reasons(&self, gfn: Gfn) -> Reasons {
        let mut reasons = self.tracking.reasons(gfn);
        reasons.set(Reasons::TABLE, self.pool.shadows_table_in_sync(gfn));
        reasons
    }

    /// Sees to it that writes to `gfn` are reported. Counted: each call needs its [`Mmu::untrack`].
    ///
    /// # Errors
    /// [`MmuError::TrackingFull`].
    pub fn track<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn, reason: Reason) -> Result<(), MmuError> {
        self.resync(host, gfn);
        let tracked = !self.reasons(gfn).is_empty();
        if !self.tracking.add(gfn, reason) {
            return Err(MmuError::TrackingFull);
        }
        if !tracked {
            self.write_protect(host, gfn);
        }
        Ok(())
    }

    /// Takes one [`Mmu::track`] back. The entries become writable again at their next write fault.
    pub fn untrack(&mut self, gfn: Gfn, reason: Reason) {
        self.tracking.sub(gfn, reason);
    }

    /// Makes every leaf of `gfn` read-only.
    pub(crate) fn write_protect<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) {
        let mut at = self.first_leaf(gfn);
        while let Some(id) = at {
            let value = self.read(host, id);
            self.rewrite(host, id, value & !spte::WRITE);
            at = self.next_leaf(id, gfn);
        }
    }
}
