//! Forgetting: what is derived from something that changed, and what is oldest when memory is short.

use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::Gfn;

use crate::links::{entry, EntryId, ENTRIES};
use crate::mmu::{Mmu, MmuHost};
use crate::pool::PageIndex;
use crate::role::Source;

/// Above this many frames it is cheaper to forget everything.
const MANY_FRAMES: u64 = 4096;

impl Mmu {
    /// Takes a shadow page out of use and gives its host page back.
    pub(crate) fn zap_page<H: MmuHost + ?Sized>(&mut self, host: &mut H, index: PageIndex) {
        while let Some(parent) = self.pool.get(index).and_then(|p| entry(p.parents)) {
            self.clear(host, parent);
        }
        for i in 0..ENTRIES {
            if self.pool.get(index).is_none_or(|p| p.used == 0) {
                break;
            }
            let id = EntryId::new(index.0, i);
            if self.links.target(id).is_some() {
                self.clear(host, id);
            }
        }
        if self.last.is_some_and(|(_, root)| root == index) {
            self.last = None;
        }
        if let Some(key) = self.pool.get(index).map(|p| p.key).filter(|key| self.under_window(key)) {
            // The guest's table there is no longer watched. (Its top table is, by the root above it, or goes with the root.)
            if key.role.level < key.role.mode.levels() {
                self.epoch = self.epoch.wrapping_add(1);
            }
        }
        let table = self.pool.get(index).filter(|p| p.unsync).map(|p| p.key.gfn);
        if let Some(page) = self.pool.remove(index) {
            host.free_page(page);
        }
        if let Some(gfn) = table.filter(|&gfn| !self.pool.is_unsync(gfn)) {
            self.unsynced.remove(gfn);
        }
    }

    /// Gives the oldest shadow page back to the host; `false` if none may go.
    pub(crate) fn reclaim<H: MmuHost + ?Sized>(&mut self, host: &mut H, stats: &mut Stats) -> bool {
        let Some(index) = self.pool.oldest(self.last.map(|(_, root)| root)) else {
            return false;
        };
        self.zap_page(host, index);
        stats.count(Counter::ShadowReclaims);
        true
    }

    /// Stops shadowing `gfn` as a table, so that it becomes writable again.
    pub(crate) fn unshadow<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) {
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            if self.pool.get(index).is_some_and(|p| p.key.derives_from_frame()) {
                self.zap_page(host, index);
            }
        }
        self.writable_again(host, gfn);
    }

    /// Forgets all that is derived from `count` frames from `first` on, contents and place: their memslot has changed.
    /// A root in use may go with them; [`Mmu::root`] must be asked again.
    pub fn zap_gfns<H: MmuHost + ?Sized>(&mut self, host: &mut H, first: Gfn, count: u64) {
        // With paging off a window is where no memslot is.
        self.epoch = self.epoch.wrapping_add(1);
        if count > MANY_FRAMES {
            self.flush_all(host);
            return;
        }
        for i in 0..count {
            let gfn = Gfn(first.0.wrapping_add(i));
            while let Some(id) = self.first_leaf(gfn) {
                self.clear(host, id);
            }
            self.unshadow(host, gfn);
        }
    }

    /// Forgets everything but patch memory. [`Mmu::root`] must be asked again.
    pub fn flush_all<H: MmuHost + ?Sized>(&mut self, host: &mut H) {
        self.last = None;
        for i in 0..self.pool.capacity() {
            let index = PageIndex(i);
            if self.pool.get(index).is_some_and(|p| p.key.role.source != Source::Overlay) {
                self.zap_page(host, index);
            }
        }
    }

    /// Gives every host page back: the end of the VM.
    pub fn free_all<H: MmuHost + ?Sized>(&mut self, host: &mut H) {
        self.flush_all(host);
        for i in 0..self.pool.capacity() {
            self.zap_page(host, PageIndex(i));
        }
        self.overlays.fill(None);
        for page in self.spare.iter_mut().filter_map(Option::take) {
            host.free_page(page);
        }
    }
}
