//! Faults in the middle of a stay in the guest world, which need not end it: whoever is there asks, changes nothing that the stay was lent,
//! and has no other memory than what was set aside before it.
//!
//! What was lent lives on because nothing is reclaimed ([`Mmu::obtain`] refuses), and because a fault by itself forgets no other shadow
//! pages than those of page tables that the guest writes (`let_go`, `resync`): never a root, nor a table that leads to a window. Everything
//! that changes the guest's mind about windows moves the epoch, which is looked at before and behind.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Hpa, VcpuState};

use crate::fault::FaultOutcome;
use crate::mmu::{Mmu, MmuHost};
use crate::role::{Env, Space};
use crate::walk::Walk;

impl Mmu {
    /// Before a stay in which faults may be served: sets pages aside for them, as long as there is plenty.
    pub fn stock<H: MmuHost + ?Sized>(&mut self, host: &mut H) {
        let plenty = self.pool.capacity() - self.pool.capacity() / 8;
        let mut taken = self.spare.iter().flatten().count() as u32;
        for place in self.spare.iter_mut().filter(|place| place.is_none()) {
            if self.pool.live().saturating_add(taken) >= plenty {
                return;
            }
            let Ok(page) = host.alloc_page() else { return };
            *place = Some(page);
            taken = taken.wrapping_add(1);
        }
    }

    /// As [`Mmu::fault`], in the middle of a stay, with `root` loaded. `None`: it cannot be told here. A fault of the guest's own is not
    /// counted ([`Mmu::reflected`] counts it, or `fault` once more). Of any other outcome than `Fixed` nothing remains that asking
    /// again would do twice.
    #[allow(clippy::too_many_arguments)]
    pub fn serve<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        (space, env): (Space, Env),
        root: Hpa,
        gva: Gva,
        code: PageFaultCode,
    ) -> Option<FaultOutcome> {
        let context = self.context(cpu, space, env)?;
        let index = self.pool.find(&context.key(self.top(), Gva(0), &Walk::EMPTY))?;
        let epoch = self.epoch;
        let page = self.pool.get(index).filter(|page| page.checked == epoch)?;
        // Paths are built to their end or not at all.
        let stocked = self.spare.iter().take(self.top().into()).all(Option::is_some);
        if host.pfn(page.host).base() != root || !stocked {
            return None;
        }
        self.in_stay = true;
        let outcome = self.find_out(host, stats, cpu, space, env, gva, code);
        self.in_stay = false;
        let outcome = outcome.ok().filter(|_| self.epoch == epoch)?;
        if outcome == FaultOutcome::Fixed {
            stats.count(Counter::PageFaultHidden);
        }
        Some(outcome)
    }
}
