//! Who has the place of a window in an address space, and what a fault there means.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gpa, Gva};

use super::{WINDOWS, WINDOW_BITS};
use crate::fault::FaultOutcome;
use crate::gpte::{Entry, PRESENT};
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode, Paging};
use crate::pool::PageIndex;
use crate::role::{Context, Space};
use crate::spte;
use crate::walk::{probe, read_entry, Step, Walk};

impl Mmu {
    /// Is `gva` in a window, and has this address space nothing there?
    pub(crate) fn overlay_reaches<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        context: &Context,
        gva: Gva,
    ) -> Result<bool, MmuError> {
        if context.space != Space::Kernel {
            return Ok(false);
        }
        match self.overlay_over(gva) {
            Some(overlay) => Ok(!self.claimed(host, context, overlay.start)?),
            None => Ok(false),
        }
    }

    /// A fault in patch memory: perhaps it is only not linked yet.
    pub(crate) fn overlay_fault<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
        code: PageFaultCode,
    ) -> Result<FaultOutcome, MmuError> {
        if code.contains(PageFaultCode::P) {
            return Ok(FaultOutcome::Overlay);
        }
        self.lead_to(host, stats, context, root, gva)?;
        let present = self.lookup(root, gva).is_some_and(|id| self.read(host, id) & spte::PRESENT != 0);
        Ok(if present { FaultOutcome::Fixed } else { FaultOutcome::Overlay })
    }

    /// Finds out whether the windows are free in this root, sees to it that the tables which say so are shadowed (so that a
    /// change is noticed), and links the windows.
    pub(crate) fn watch_windows<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
    ) -> Result<(), MmuError> {
        let epoch = self.epoch;
        if self.pool.get(root).is_none_or(|p| p.checked == epoch) {
            return Ok(());
        }
        let mut conflict = false;
        if context.space == Space::Kernel {
            for slot in 0..WINDOWS {
                let Some(overlay) = self.overlays.get(slot).copied().flatten() else { continue };
                if self.out_of_reach(context.mode, overlay.start) {
                    conflict = true;
                    continue;
                }
                self.lead_to(host, stats, context, root, overlay.start)?;
                conflict |= self.claimed(host, context, overlay.start)?;
            }
        }
        if let Some(page) = self.pool.get_mut(root) {
            page.conflict = conflict;
            page.checked = epoch;
        }
        Ok(())
    }

    /// Is the current root's guest in conflict with a window?
    pub(crate) fn current_conflict<H: MmuHost + ?Sized>(&self, host: &mut H) -> Result<bool, MmuError> {
        let Some((context, root)) = self.last else { return Ok(false) };
        match self.pool.get(root) {
            Some(page) if page.checked != self.epoch && context.space == Space::Kernel => {
                let mut conflict = false;
                for overlay in self.overlays.iter().flatten() {
                    conflict |= self.claimed(host, &context, overlay.start)?;
                }
                Ok(conflict)
            }
            Some(page) => Ok(page.conflict),
            None => Ok(false),
        }
    }

    /// Does the guest map anything in the window at `start`, or keep writes or fetches from it by an entry above?
    pub(super) fn claimed<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        context: &Context,
        start: Gva,
    ) -> Result<bool, MmuError> {
        if self.out_of_reach(context.mode, start) {
            return Ok(true);
        }
        if context.mode == GuestMode::Off {
            return Ok(has_memory(host, start));
        }
        let (walk, last) = probe(host, &self.paging_in(context), context.mode, start)?;
        let permits = |s: &Step| s.permissions.write && s.permissions.execute;
        let Some((end, above)) = walk.steps().split_last() else { return Ok(true) };
        if !above.iter().all(permits) || last != Entry::NotPresent || end.level < 2 {
            return Ok(true);
        }
        if end.level > 2 || context.mode == GuestMode::TwoLevel {
            return Ok(false);
        }
        // The second half is the next entry.
        let bytes = context.mode.entry_bytes();
        Ok(read_entry(host, end.at.add(u64::from(bytes)), bytes)? & PRESENT != 0)
    }

    /// Is there no way to have a window at `gva` in this mode?
    pub(super) fn out_of_reach(&self, mode: GuestMode, gva: Gva) -> bool {
        !addressable(mode, gva) || (mode == GuestMode::FourLevel && self.in_vmm_slot(gva))
    }

    /// The registers under which the tables of an address space are read.
    pub(crate) fn paging_in(&self, context: &Context) -> Paging {
        let key = context.key(self.top(), Gva(0), &Walk::EMPTY);
        Paging { cr3: context.table.0, ..self.paging_of(&key.role) }
    }
}

/// Is there memory in a window's place where linear addresses are physical ones? What is elsewhere is nobody's or a device's.
pub(super) fn has_memory<H: MmuHost + ?Sized>(host: &mut H, start: Gva) -> bool {
    host.has_memory(Gpa(start.0).frame(), 1 << (WINDOW_BITS - 12))
}

/// Has this mode such linear addresses?
pub(super) fn addressable(mode: GuestMode, gva: Gva) -> bool {
    match mode {
        GuestMode::FourLevel => canonical(gva),
        _ => gva.0 >> 32 == 0,
    }
}
