//! Building the path to a leaf. Two phases: [`Mmu::reserve`] makes sure of enough pages, reclaiming if need be, and
//! only then is anything linked, so that nothing on a half-built path is taken away again.

use rvmm_arch::host::{Backing, HostError, HostPage};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gva, Pfn};

use crate::gpte::Permissions;
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::pool::PageIndex;
use crate::role::{covers_bits, host_index, Context, Key, Source, Space};
use crate::spte;
use crate::walk::Walk;

/// Leaves in a table of consecutive frames are mapped in aligned groups of this many, less one.
const AROUND_MASK: usize = 15;

impl Mmu {
    /// Sets host pages aside until there are `count` (at most as many as the host has levels, or a window needs).
    pub(crate) fn reserve<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        count: usize,
    ) -> Result<(), MmuError> {
        for i in 0..count.min(self.spare.len()) {
            if !matches!(self.spare.get(i), Some(None)) {
                continue;
            }
            let page = self.obtain(host, stats)?;
            if let Some(place) = self.spare.get_mut(i) {
                *place = Some(page);
            }
        }
        Ok(())
    }

    /// A host page within the quota; reclaims shadow pages until there is one.
    fn obtain<H: MmuHost + ?Sized>(&mut self, host: &mut H, stats: &mut Stats) -> Result<HostPage, MmuError> {
        // Nothing is allocated in the middle of a stay, and nothing reclaimed that it may have been lent.
        if self.in_stay {
            return Err(HostError::NoMemory.into());
        }
        loop {
            let spare = self.spare.iter().flatten().count() as u32;
            if self.pool.live().saturating_add(spare) < self.pool.capacity() {
                match host.alloc_page() {
                    Ok(page) => return Ok(page),
                    Err(HostError::NoMemory) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if !self.reclaim(host, stats) {
                return Err(HostError::NoMemory.into());
            }
        }
    }

    /// A new shadow page from the spare pages.
    pub(crate) fn new_page<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        key: Key,
    ) -> Result<PageIndex, MmuError> {
        let page = self.spare.iter_mut().rev().find_map(Option::take).ok_or(HostError::NoMemory)?;
        if key.derives_from_frame() {
            // All shadows of a table are in line with it, or none.
            self.resync(host, key.gfn);
        }
        let tracked = !self.reasons(key.gfn).is_empty();
        let Some(index) = self.pool.insert(page, key) else {
            host.free_page(page);
            return Err(HostError::NoMemory.into());
        };
        if key.derives_from_frame() && !tracked {
            self.write_protect(host, key.gfn);
        }
        if key.role.level == self.top() {
            // First of all: a root without it must never be found, whatever fails from here on.
            let (slot, entry) = self.config.vmm_slot;
            host.write_entry(page, usize::from(slot), entry);
        }
        if let Err(e) = self.link_overlay(host, index) {
            self.zap_page(host, index);
            return Err(e);
        }
        stats.count(Counter::ShadowPages);
        Ok(index)
    }

    /// The shadow table of `level` on the path from `root` to `gva`, made and linked where it is missing. The caller
    /// has reserved enough pages; `walk` translates `gva`, or is a probe that gets as far as to the table of `level`.
    pub(crate) fn path<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
        (level, walk): (u8, &Walk),
    ) -> Result<PageIndex, MmuError> {
        let mut path = [root; 5];
        let mut page = root;
        for (child_level, place) in (level..self.top()).rev().zip(path.iter_mut().skip(1)) {
            let key = context.key(child_level, gva, walk);
            let at = EntryId::new(page.0, host_index(gva, child_level.wrapping_add(1)));
            let linked = self.links.target(at).map(PageIndex);
            let linked = linked.filter(|&c| self.pool.get(c).is_some_and(|p| p.key == key));
            if linked.is_none() {
                self.resync_below(host, &key);
            }
            let child = match linked.or_else(|| self.pool.find(&key)) {
                Some(child) => child,
                None => {
                    let child = self.new_page(host, stats, key)?;
                    self.populate(host, child)?;
                    child
                }
            };
            self.set_table(host, at, child, link_permissions(context, child_level, walk));
            *place = child;
            page = child;
        }
        // Lower tables first, so that the upper ones are the newest and go last.
        for &used in path.iter().rev() {
            self.pool.touch(used);
            let frame = self.pool.get(used).map(|p| p.key.gfn);
            if let Some(writes) = frame.and_then(|gfn| self.pool.table_writes(gfn)) {
                *writes = 0;
            }
        }
        Ok(page)
    }
}

impl Mmu {
    /// Maps the neighbours of a leaf in a table of consecutive frames: where a kernel maps its memory by large pages,
    /// what it touches next is near, and a fault costs more than these entries.
    pub(crate) fn map_around<H: MmuHost + ?Sized>(&mut self, host: &mut H, context: &Context, leaf: EntryId) {
        let Some(key) = self.pool.get(PageIndex(leaf.page())).map(|p| p.key) else {
            return;
        };
        if key.role.source != Source::Direct {
            return;
        }
        let first = leaf.index() & !AROUND_MASK;
        for index in first..=first | AROUND_MASK {
            let id = EntryId::new(leaf.page(), index);
            let gfn = Gfn(key.gfn.0.wrapping_add(index as u64));
            if self.links.target(id).is_some() {
                // A leaf of what was a table when it was made.
                let value = self.read(host, id);
                if self.config.prefill && value & (spte::VIEW | spte::WRITE) == 0 && self.writable(host, gfn) {
                    self.rewrite(host, id, value | spte::WRITE);
                    self.tally.prefilled = self.tally.prefilled.wrapping_add(1);
                }
                continue;
            }
            if let Ok(Backing::Ram { pfn, readonly }) = host.backing(gfn) {
                let write = !readonly && self.reasons(gfn).is_empty();
                self.set_leaf(host, id, guest_leaf(context, pfn, write, true), gfn);
            }
        }
    }
}

/// A leaf for a page of guest memory.
pub(crate) fn guest_leaf(context: &Context, pfn: Pfn, write: bool, execute: bool) -> u64 {
    match context.space {
        Space::Kernel => spte::kernel_data(pfn, write, context.kernel_user),
        Space::User => spte::user_page(pfn, write, execute),
    }
}

/// What the shadow entry that refers to the table of `child` permits: what the guest's entry of the level above does. Where the
/// guest has none at that level, above its own tables or within a large page, everything.
fn link_permissions(context: &Context, child: u8, walk: &Walk) -> Permissions {
    let Some(step) = walk.step(child.wrapping_add(1)) else {
        return Permissions::ALL;
    };
    // A large page is shadowed by tables of small ones: its dirty bit, too, is kept here.
    let maps = u32::from(walk.bits) >= covers_bits(child);
    Permissions { write: entry_write(context, step.permissions.write, !maps || walk.dirty), ..step.permissions }
}

/// The W bit for a guest entry that permits writes or not and, if it maps a page, is dirty or not: clear as long as a
/// write has something to do in the guest's tables.
pub(crate) fn entry_write(context: &Context, permits: bool, dirty: bool) -> bool {
    (permits || (context.space == Space::Kernel && !context.write_protect)) && dirty
}

/// The W bit of a leaf in a page table with this source.
pub(crate) fn leaf_write(context: &Context, source: Source, permits: bool, dirty: bool) -> bool {
    // Where a large page is shadowed by a table of small ones, its permission and dirty bit are in the directory entry.
    source == Source::Direct || entry_write(context, permits, dirty)
}
