//! Windows: places of the guest kernel's linear space where the guest has nothing and rvmm has its own pages.
//!
//! A window is 4 MiB: one directory entry of 32-bit paging, two of PAE and 4-level paging. Its two shadow page tables are the
//! engine's, and so are a directory and a directory-pointer table that lead to them. In every kernel tree they are linked at
//! the highest level where the guest has nothing: the page tables where only its directory entries are not present, else the
//! directory or the pointer table. The guest's tables above are shadowed, hence write-tracked, while a root is in use
//! ([`Mmu::watch_windows`]), so the MMU knows when the guest claims the place: then the guest's mapping wins, the root is
//! marked, and the engine moves. With paging off linear addresses are physical, and the guest has what is in a memslot; whatever
//! is no memory is no fault there, so an access that a window's page does not allow is interpreted like one to a device.
//!
//! Where they are and what is in them is here; `link` has their entries in kernel trees, `claim` who has the place and the faults
//! there, `occupied` where there is room.

mod claim;
mod link;
mod occupied;

use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gva, Pfn};

use crate::gpte::{Permissions, LARGE_BITS};
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode};
use crate::pool::PageIndex;
use crate::role::{host_index, unit, Env, Key, Role, Source, Space};
use crate::spte;

pub use occupied::Occupied;

/// Windows at a time.
pub const WINDOWS: usize = 3;

/// log2 of a window's size.
const WINDOW_BITS: u32 = LARGE_BITS as u32;

/// One of the windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSlot(u8);

impl WindowSlot {
    /// All of them.
    pub const ALL: [WindowSlot; WINDOWS] = [WindowSlot(0), WindowSlot(1), WindowSlot(2)];
}

/// A window and the engine's tables for it.
#[derive(Clone, Copy, Debug)]
pub struct Overlay {
    start: Gva,
    /// The page tables of its halves.
    tables: [PageIndex; 2],
    /// A directory and a directory-pointer table that lead to them and, where they are shared, to other windows.
    upper: [PageIndex; 2],
}

impl Overlay {
    fn contains(&self, gva: Gva) -> bool {
        gva.0 >> WINDOW_BITS == self.start.0 >> WINDOW_BITS
    }

    fn leaf(&self, gva: Gva) -> Option<EntryId> {
        let table = self.tables.get((gva.0 >> 21) as usize & 1)?;
        Some(EntryId::new(table.0, host_index(gva, 1)))
    }

    /// The entries of a table of `level` that lead to the window, and what they refer to.
    fn links(&self, level: u8) -> impl Iterator<Item = (usize, PageIndex)> {
        let low = host_index(self.start, level);
        let [first, second] = self.tables;
        let [directory, pointers] = self.upper;
        let links = match level {
            2 => [Some((low, first)), Some((low.wrapping_add(1), second))],
            3 => [Some((low, directory)), None],
            4 => [Some((low, pointers)), None],
            _ => [None, None],
        };
        links.into_iter().flatten()
    }
}

/// How guest-kernel code may use a page of patch memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverlayAccess {
    /// It may write it.
    pub write: bool,
    /// It may execute it.
    pub execute: bool,
    /// The page has U=1 (protection keys and SMAP act on such pages only).
    pub user: bool,
    /// Its protection key.
    pub pkey: u8,
}

impl Mmu {
    /// Where a window is.
    #[must_use]
    pub fn overlay(&self, slot: WindowSlot) -> Option<Gva> {
        self.overlays.get(usize::from(slot.0)).copied().flatten().map(|o| o.start)
    }

    /// The window that an address lies in.
    fn overlay_over(&self, gva: Gva) -> Option<&Overlay> {
        self.overlays.iter().flatten().find(|o| o.contains(gva))
    }

    /// Puts a window at `start` (a canonical 4 MiB boundary, apart from the other windows), empty, or takes it away.
    /// [`Mmu::root`] tells of each address space whether it is free there.
    ///
    /// # Errors
    /// [`MmuError::BadOverlay`], after which nothing has changed, or a host failure, after which the window is nowhere.
    pub fn set_overlay<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        slot: WindowSlot,
        start: Option<Gva>,
    ) -> Result<(), MmuError> {
        let taken = |s: Gva| {
            let mut others = self.overlays.iter().zip(WindowSlot::ALL).filter(|(_, other)| *other != slot);
            others.any(|(overlay, _)| overlay.is_some_and(|o| o.contains(s)))
        };
        if start.is_some_and(|s| !canonical(s) || s.0 & ((1 << WINDOW_BITS) - 1) != 0 || taken(s)) {
            return Err(MmuError::BadOverlay);
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.take_away(host, slot);
        let Some(start) = start else { return Ok(()) };
        let done = self.build(host, stats, slot, start);
        if done.is_err() {
            self.take_away(host, slot);
        }
        done
    }

    /// Empties a slot, and gives back what tables no other window needs.
    fn take_away<H: MmuHost + ?Sized>(&mut self, host: &mut H, slot: WindowSlot) {
        if let Some(place) = self.overlays.get_mut(usize::from(slot.0)) {
            *place = None;
        }
        for index in (0..self.pool.capacity()).map(PageIndex) {
            let own = self.pool.get(index).is_some_and(|p| p.key.role.source == Source::Overlay);
            let needed = |o: &Overlay| o.tables.contains(&index) || o.upper.contains(&index);
            if own && !self.overlays.iter().flatten().any(needed) {
                self.zap_page(host, index);
            }
        }
    }

    /// Makes the tables of a window and links them everywhere.
    fn build<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        slot: WindowSlot,
        start: Gva,
    ) -> Result<(), MmuError> {
        self.reserve(host, stats, 4)?;
        let second = start.add(1 << (WINDOW_BITS - 1));
        let tables = [self.own_table(host, stats, start, 1)?, self.own_table(host, stats, second, 1)?];
        let upper = [self.own_table(host, stats, start, 2)?, self.own_table(host, stats, start, 3)?];
        let overlay = Overlay { start, tables, upper };
        for (level, table) in (2..=3).zip(upper) {
            for (index, child) in overlay.links(level) {
                self.set_table(host, EntryId::new(table.0, index), child, Permissions::ALL);
            }
        }
        if let Some(place) = self.overlays.get_mut(usize::from(slot.0)) {
            *place = Some(overlay);
        }
        for i in 0..self.pool.capacity() {
            self.link_overlay(host, PageIndex(i))?;
        }
        Ok(())
    }

    /// The engine's own table of `level` for the windows around `gva`, made if there is none. A page has been reserved.
    fn own_table<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        gva: Gva,
        level: u8,
    ) -> Result<PageIndex, MmuError> {
        let key = overlay_key(gva, level);
        if let Some(table) = self.pool.find(&key) {
            return Ok(table);
        }
        let table = self.new_page(host, stats, key)?;
        if let Some(page) = self.pool.get_mut(table) {
            page.pinned = true;
        }
        Ok(table)
    }

    /// Puts a page into a window.
    ///
    /// # Errors
    /// [`MmuError::BadOverlay`]: `gva` is in no window.
    pub fn install_overlay_page<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        gva: Gva,
        pfn: Pfn,
        access: OverlayAccess,
    ) -> Result<(), MmuError> {
        let id = self.overlay_over(gva).and_then(|o| o.leaf(gva)).ok_or(MmuError::BadOverlay)?;
        let OverlayAccess { write, execute, user, pkey } = access;
        self.rewrite(host, id, spte::own_page(pfn, write, execute, user, pkey));
        Ok(())
    }

    /// Takes a page out of its window.
    pub fn remove_overlay_page<H: MmuHost + ?Sized>(&mut self, host: &mut H, gva: Gva) {
        if let Some(id) = self.overlay_over(gva).and_then(|o| o.leaf(gva)) {
            self.rewrite(host, id, 0);
        }
    }
}

fn overlay_key(gva: Gva, level: u8) -> Key {
    Key {
        gfn: Gfn(0),
        role: Role {
            level,
            source: Source::Overlay,
            mode: GuestMode::FourLevel,
            place: unit(level, gva),
            space: Space::Kernel,
            env: Env(0),
            write_protect: true,
            large_pages: false,
            no_execute: false,
        },
    }
}
