//! Windows: places of the guest kernel's linear space where the guest has nothing and rvmm has its own pages.
//!
//! A window is 4 MiB: one directory entry of 32-bit paging, two of PAE and 4-level paging. Its two shadow page tables are the
//! engine's, and so are a directory and a directory-pointer table that lead to them. In every kernel tree they are linked at
//! the highest level where the guest has nothing: the page tables where only its directory entries are not present, else the
//! directory or the pointer table. The guest's tables above are shadowed, hence write-tracked, while a root is in use
//! ([`Mmu::watch_windows`]), so the MMU knows when the guest claims the place: then the guest's mapping wins, the root is
//! marked, and the engine moves.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::HostError;
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gpa, Gva, Pfn, VcpuState};

use crate::fault::FaultOutcome;
use crate::gpte::{Entry, Permissions, LARGE_BITS, PRESENT};
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode, Paging};
use crate::pool::PageIndex;
use crate::role::{host_index, unit, Context, Env, Key, Role, Source, Space};
use crate::spte;
use crate::walk::{probe, read_entry, Step, Walk};

/// Windows at a time.
pub const WINDOWS: usize = 3;

/// The 4 MiB units of 4 GiB of linear space: true for those that are taken.
pub type Occupied = [bool; 1024];

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
        if let Some(old) = self.overlays.get_mut(usize::from(slot.0)).and_then(Option::take) {
            for table in old.tables {
                self.zap_page(host, table);
            }
            for table in old.upper {
                if !self.overlays.iter().flatten().any(|o| o.upper.contains(&table)) {
                    self.zap_page(host, table);
                }
            }
        }
        if let Some(start) = start {
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

    /// Does a page with this key translate a window, so that its guest table decides on it?
    pub(crate) fn under_window(&self, key: &Key) -> bool {
        self.overlays.iter().flatten().any(|o| self.translates(key, o.start))
    }

    /// Is the page with this key, made from a guest table above the page tables, the one of a kernel tree that translates `gva`?
    fn translates(&self, key: &Key, gva: Gva) -> bool {
        let Key { role, .. } = key;
        (2..=4).contains(&role.level)
            && role.source == Source::Table
            && role.space == Space::Kernel
            && addressable(role.mode, gva)
            && (role.mode, role.level) != (GuestMode::Pae, 4)
            && (is_top(role) || self.context_of(key).place(role.level, gva) == role.place)
    }

    /// Does entry `index` of a page with this key lead to a window?
    pub(crate) fn overlay_at(&self, key: &Key, index: usize) -> bool {
        let mut windows = self.overlays.iter().flatten().filter(|o| self.translates(key, o.start));
        // Of two entries the lower one is even.
        windows.any(|o| o.links(key.role.level).any(|(i, _)| i & !1 == index & !1))
    }

    /// Links the windows into a page of a kernel tree that translates them where the guest has nothing, and unlinks them where
    /// it has something.
    pub(crate) fn link_overlay<H: MmuHost + ?Sized>(&mut self, host: &mut H, page: PageIndex) -> Result<(), MmuError> {
        let Some(key) = self.pool.get(page).map(|page| page.key) else { return Ok(()) };
        for slot in 0..WINDOWS {
            let Some(overlay) = self.overlays.get(slot).copied().flatten() else { continue };
            if !self.translates(&key, overlay.start) || self.out_of_reach(key.role.mode, overlay.start) {
                continue;
            }
            let free = !entries_present(host, &key, overlay.start)?;
            for (index, child) in overlay.links(key.role.level) {
                let id = EntryId::new(page.0, index);
                if free {
                    self.set_table(host, id, child, Permissions::ALL);
                } else if self.links.target(id) == Some(child.0) {
                    self.clear(host, id);
                }
            }
        }
        Ok(())
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
                if context.mode == GuestMode::Off || self.out_of_reach(context.mode, overlay.start) {
                    // With paging off every linear address is the guest's.
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

    /// Builds the path to `gva` in a window as far down as the guest has tables.
    fn lead_to<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
    ) -> Result<(), MmuError> {
        self.reserve(host, stats, usize::from(self.top()))?;
        let (walk, _) = probe(host, &self.paging_in(context), context.mode, gva)?;
        // An address that leads nowhere may be translated speculatively, and so these bits be set, at any time (SDM vol. 3
        // §4.10.2.3). Linking a table whose accessed bit is clear would hide that bit's next use.
        let mut level = context.mode.levels();
        for step in walk.steps().iter().filter(|s| s.level > 2) {
            let accessed = context.mode.accessed(step.level);
            let table =
                matches!(context.mode.decode(step.raw, step.level, &self.paging_in(context)), Entry::Table { .. });
            if !table {
                break;
            }
            if step.raw & accessed != accessed {
                // Where it cannot be stored, it is left alone, as the walk does.
                let wanted = step.raw | accessed;
                host.compare_exchange_ram(step.at, context.mode.entry_bytes(), step.raw, wanted)?;
            }
            level = step.level.wrapping_sub(1);
        }
        let page = self.path(host, stats, context, root, gva, (level.max(2).min(self.top()), &walk))?;
        self.link_overlay(host, page)
    }

    /// Does the guest map anything in the window at `start`, or keep writes or fetches from it by an entry above?
    fn claimed<H: MmuHost + ?Sized>(&self, host: &mut H, context: &Context, start: Gva) -> Result<bool, MmuError> {
        if self.out_of_reach(context.mode, start) {
            return Ok(true);
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
    fn out_of_reach(&self, mode: GuestMode, gva: Gva) -> bool {
        !addressable(mode, gva) || (mode == GuestMode::FourLevel && self.in_vmm_slot(gva))
    }

    /// The registers under which the tables of an address space are read.
    fn paging_in(&self, context: &Context) -> Paging {
        let key = context.key(self.top(), Gva(0), &Walk::EMPTY);
        Paging { cr3: context.table.0, ..self.paging_of(&key.role) }
    }

    /// Which 4 MiB units from `base` on (a 4 GiB boundary) the current address space or any that is cached maps. `false` where no
    /// window can be: with paging off, every linear address is the guest's.
    ///
    /// # Errors
    /// Guest memory cannot be read, or the paging mode is not supported.
    pub fn occupied<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        cpu: &VcpuState,
        base: Gva,
        present: &mut Occupied,
    ) -> Result<bool, MmuError> {
        let context = self.context(cpu, Space::Kernel, Env(0)).ok_or(MmuError::UnsupportedPaging)?;
        let base = Gva(base.0 & !0xffff_ffff);
        if context.mode == GuestMode::Off || self.out_of_reach(context.mode, base) {
            return Ok(false);
        }
        present.fill(false);
        self.mark_present(host, &context, base, present)?;
        for i in 0..self.pool.capacity() {
            let Some(key) = self.pool.get(PageIndex(i)).map(|p| p.key) else { continue };
            let Role { level, mode, source, place, .. } = key.role;
            if level == self.top() && mode != GuestMode::Off && source != Source::Overlay && addressable(mode, base) {
                let part = if mode == GuestMode::Pae { u64::from(place) << 5 } else { 0 };
                let root = Context { table: key.gfn.base().add(part), ..self.context_of(&key) };
                self.mark_present(host, &root, base, present)?;
            }
        }
        Ok(true)
    }

    fn mark_present<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        context: &Context,
        base: Gva,
        present: &mut Occupied,
    ) -> Result<(), MmuError> {
        let paging = self.paging_in(context);
        for (gigabyte, marks) in present.chunks_exact_mut(256).enumerate() {
            let start = base.add((gigabyte as u64) << 30);
            let (walk, last) = probe(host, &paging, context.mode, start)?;
            let Some((end, above)) = walk.steps().split_last() else { continue };
            let above = if end.level < 2 { above.split_last().map_or(above, |(_, above)| above) } else { above };
            let permits = above.iter().all(|s| s.permissions.write && s.permissions.execute);
            if end.level > 2 || !permits {
                if last != Entry::NotPresent || !permits {
                    marks.fill(true);
                }
                continue;
            }
            let Some(directory) = walk.step(2).map(|s| s.at) else { continue };
            mark_directory(host, context.mode, directory, marks)?;
        }
        Ok(())
    }
}

/// Marks what the directory entries of a gigabyte map, from the one at `at` on.
fn mark_directory<H: MmuHost + ?Sized>(
    host: &mut H,
    mode: GuestMode,
    at: Gpa,
    marks: &mut [bool],
) -> Result<(), HostError> {
    // Of 32-bit paging one entry of 4 bytes is a window, else two of 8.
    let (entry, unit) = if mode == GuestMode::TwoLevel { (4, 4) } else { (8, 16) };
    let mut buf = [0; 64];
    for (i, marks) in marks.chunks_mut(64 / unit).enumerate() {
        if host.read_ram(at.add(i as u64 * 64), &mut buf)? {
            for (mark, entries) in marks.iter_mut().zip(buf.chunks_exact(unit)) {
                *mark |= entries.iter().step_by(entry).any(|low| low & 1 != 0);
            }
        }
    }
    Ok(())
}

/// Has the guest anything in the entries of the table of `key` that translate the window at `start`?
fn entries_present<H: MmuHost + ?Sized>(host: &mut H, key: &Key, start: Gva) -> Result<bool, HostError> {
    let Role { mode, level, place, .. } = key.role;
    let bytes = mode.entry_bytes();
    let part = if (mode, level) == (GuestMode::Pae, 3) { u64::from(place) << 5 } else { 0 };
    let at = key.gfn.base().add(part).add(mode.index(start, level).wrapping_mul(u64::from(bytes)));
    let mut present = read_entry(host, at, bytes)? & PRESENT != 0;
    if level == 2 && mode != GuestMode::TwoLevel {
        present |= read_entry(host, at.add(u64::from(bytes)), bytes)? & PRESENT != 0;
    }
    Ok(present)
}

/// Has this mode such linear addresses?
fn addressable(mode: GuestMode, gva: Gva) -> bool {
    match mode {
        GuestMode::FourLevel => canonical(gva),
        _ => gva.0 >> 32 == 0,
    }
}

/// Is the place of such a page no part of linear space?
fn is_top(role: &Role) -> bool {
    (role.mode, role.level) == (GuestMode::Pae, 3)
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
