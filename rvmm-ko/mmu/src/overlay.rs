//! Windows: places of the guest kernel's linear space where the guest has nothing and rvmm has its own pages.
//!
//! A window is one guest page-directory entry, 4 MiB. Its two shadow page tables are the engine's and are linked into
//! every kernel-tree directory whose guest entry there is not present. Directories in use are write-tracked, so the
//! MMU knows when the guest claims the place: then the guest's mapping wins, the root is marked, and the engine moves.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::HostError;
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gpa, Gva, Pfn, VcpuState};

use crate::fault::FaultOutcome;
use crate::gpte::{PagingMode, TwoLevel, LARGE_BITS};
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::GuestMode;
use crate::pool::PageIndex;
use crate::role::{host_index, Context, Env, Key, Role, Source, Space};
use crate::spte;
use crate::walk::{read_entry, Walk};

/// Windows at a time.
pub const WINDOWS: usize = 3;

/// Directory entries of a guest's linear space: true for those that are taken.
pub type Occupied = [bool; 1024];

/// One of the windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSlot(u8);

impl WindowSlot {
    /// All of them.
    pub const ALL: [WindowSlot; WINDOWS] = [WindowSlot(0), WindowSlot(1), WindowSlot(2)];
}

/// A window and its two page tables.
#[derive(Clone, Copy, Debug)]
pub struct Overlay {
    start: Gva,
    tables: [PageIndex; 2],
}

impl Overlay {
    fn contains(&self, gva: Gva) -> bool {
        gva.0 >> LARGE_BITS == self.start.0 >> LARGE_BITS
    }

    fn leaf(&self, gva: Gva) -> Option<EntryId> {
        let table = self.tables.get((gva.0 >> 21) as usize & 1)?;
        Some(EntryId::new(table.0, host_index(gva, 1)))
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

    /// Puts a window at `start` (a 4 MiB boundary below 4 GiB, apart from the other windows), empty, or takes it away.
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
        if start.is_some_and(|s| s.0 >> 32 != 0 || s.0 & ((1 << LARGE_BITS) - 1) != 0 || taken(s)) {
            return Err(MmuError::BadOverlay);
        }
        if let Some(old) = self.overlays.get_mut(usize::from(slot.0)).and_then(Option::take) {
            for table in old.tables {
                self.zap_page(host, table);
            }
        }
        if let Some(start) = start {
            self.reserve(host, stats, 2)?;
            let mut tables = [PageIndex(0); 2];
            for (half, table) in (0_u16..).zip(tables.iter_mut()) {
                let place = ((start.0 >> 21) as u16) | half;
                *table = self.new_page(host, stats, overlay_key(place))?;
                if let Some(page) = self.pool.get_mut(*table) {
                    page.pinned = true;
                }
            }
            if let Some(place) = self.overlays.get_mut(usize::from(slot.0)) {
                *place = Some(Overlay { start, tables });
            }
        }
        for i in 0..self.pool.capacity() {
            let index = PageIndex(i);
            match self.pool.get(index).map(|p| p.key.role.level) {
                Some(2) => self.link_overlay(host, index)?,
                Some(level) if level == self.top() => self.check_conflict(host, index)?,
                _ => {}
            }
        }
        Ok(())
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

    /// Is `gva` in a window, and has this address space nothing there?
    pub(crate) fn overlay_reaches<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        context: &Context,
        gva: Gva,
    ) -> Result<bool, MmuError> {
        if context.space != Space::Kernel || context.mode == GuestMode::Off {
            return Ok(false);
        }
        match self.overlay_over(gva) {
            Some(overlay) => Ok(!claimed(host, context.table, overlay.start)?),
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
        let directory = self.path(host, stats, context, root, gva, (2, &Walk::EMPTY))?;
        self.link_overlay(host, directory)?;
        let present = self.lookup(root, gva).is_some_and(|id| self.read(host, id) & spte::PRESENT != 0);
        Ok(if present { FaultOutcome::Fixed } else { FaultOutcome::Overlay })
    }

    /// Do the directory entries `low` and the next of a page with this key belong to a window?
    pub(crate) fn overlay_at(&self, key: &Key, low: usize) -> bool {
        key.role.level == 2
            && key.role.source == Source::Table
            && key.role.space == Space::Kernel
            && self.overlay_over(key.linear(low)).is_some()
    }

    /// Links the windows into a directory that covers them, where the guest has nothing.
    pub(crate) fn link_overlay<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        directory: PageIndex,
    ) -> Result<(), MmuError> {
        let Some(key) = self.pool.get(directory).map(|page| page.key) else { return Ok(()) };
        for slot in 0..WINDOWS {
            let Some(overlay) = self.overlays.get(slot).copied().flatten() else { continue };
            let low = host_index(overlay.start, 2);
            // The directory may cover another gigabyte.
            let here = self.overlay_at(&key, low) && overlay.contains(key.linear(low));
            if !here || claimed(host, key.gfn, overlay.start)? {
                continue;
            }
            for (half, table) in overlay.tables.into_iter().enumerate() {
                self.set_table(host, EntryId::new(directory.0, low.wrapping_add(half)), table, true);
            }
        }
        Ok(())
    }

    /// Brings a root's conflict mark up to date.
    pub(crate) fn check_conflict<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        root: PageIndex,
    ) -> Result<(), MmuError> {
        let Some(key) = self.pool.get(root).map(|p| p.key) else {
            return Ok(());
        };
        let mut conflict = false;
        if key.role.space == Space::Kernel {
            for overlay in self.overlays.iter().flatten() {
                conflict |= match key.role.source {
                    Source::Root => claimed(host, key.gfn, overlay.start)?,
                    // With paging off every linear address is the guest's.
                    Source::Direct => true,
                    _ => false,
                };
            }
        }
        if let Some(page) = self.pool.get_mut(root) {
            page.conflict = conflict;
        }
        Ok(())
    }

    /// Which directory entries the current address space or any that is cached maps. `false` with paging off: every linear
    /// address is the guest's.
    ///
    /// # Errors
    /// Guest memory cannot be read, or the paging mode is not supported.
    pub fn occupied<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        cpu: &VcpuState,
        present: &mut Occupied,
    ) -> Result<bool, MmuError> {
        let context = Context::of(cpu, Space::Kernel, Env(0)).ok_or(MmuError::UnsupportedPaging)?;
        if context.mode == GuestMode::Off {
            return Ok(false);
        }
        present.fill(false);
        mark_present(host, context.table, present)?;
        for i in 0..self.pool.capacity() {
            if let Some(page) = self.pool.get(PageIndex(i)) {
                if page.key.role.source == Source::Root && page.key.role.level == self.top() {
                    mark_present(host, page.key.gfn, present)?;
                }
            }
        }
        Ok(true)
    }
}

/// Does the directory `table` map anything at `gva`?
fn claimed<H: MmuHost + ?Sized>(host: &mut H, table: Gfn, gva: Gva) -> Result<bool, HostError> {
    let at = table.base().add(TwoLevel::index(gva, 2).wrapping_mul(u64::from(TwoLevel::ENTRY_BYTES)));
    Ok(read_entry(host, at, TwoLevel::ENTRY_BYTES)? & 1 != 0)
}

fn mark_present<H: MmuHost + ?Sized>(host: &mut H, table: Gfn, present: &mut Occupied) -> Result<(), HostError> {
    let mut buf = [0; 64];
    for (i, marks) in present.chunks_exact_mut(16).enumerate() {
        let at: Gpa = table.base().add(i as u64 * 64);
        if host.read_ram(at, &mut buf)? {
            for (mark, entry) in marks.iter_mut().zip(buf.chunks_exact(4)) {
                *mark |= entry.first().is_some_and(|b| b & 1 != 0);
            }
        }
    }
    Ok(())
}

fn overlay_key(place: u16) -> Key {
    Key {
        gfn: Gfn(0),
        role: Role {
            level: 1,
            source: Source::Overlay,
            place,
            space: Space::Kernel,
            env: Env(0),
            write_protect: true,
            large_pages: false,
        },
    }
}
