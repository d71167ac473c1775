//! Tour 21/22, next: `rvmm-ko/core/src/verify.rs`.
//! The guest wrote a page table: the shadow entries that came from the bytes written are brought in line, and no others.
//!
//! A lowest-level entry that the guest has just made present *and accessed* is mapped at once, because it is about to
//! be used (Linux presets both bits when it resolves a page fault). For the same reason a new shadow page table starts
//! with all entries that are accessed already: a table that was written like data and is used again costs one fault. A new
//! shadow of an upper table starts with links to what is shadowed below it.

use rvmm_arch::host::Backing;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gpa, PAGE_SIZE};

use crate::gpte::{Entry, Permissions, ACCESSED, DIRTY, PRESENT};
use crate::links::{frame, EntryId, ENTRIES};
use crate::map::{entry_write, guest_leaf, leaf_write};
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{GuestMode, Paging};
use crate::pool::{PageIndex, ShadowPage};
use crate::role::{Key, Role, Source, Space};
use crate::spte;
use crate::track::Reasons;
use crate::walk::read_entry;

/// Longer writes are taken for data: the frame is no table any more.
const LONGEST_TABLE_WRITE: u64 = 64;

/// Bytes of a guest table read at a time.
const CHUNK: usize = 256;

/// What a write touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wrote {
    /// Why the frames written are tracked, together.
    pub reasons: Reasons,
    /// The current address space now maps something in the window of patch memory: move it before entering.
    pub conflict: bool,
}

impl Mmu {
    /// Must hear of every write to guest memory that did not go through the shadow tables: the interpreter's, the
    /// client's. Cheap where nothing is tracked. `len` is in bytes and may span pages.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub fn guest_wrote<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        gpa: Gpa,
        len: u64,
    ) -> Result<Wrote, MmuError> {
        let mut wrote = Wrote::default();
        let mut at = gpa;
        let mut left = len;
        while left > 0 {
            let part = left.min(PAGE_SIZE.wrapping_sub(at.offset() as u64));
            let reasons = self.reasons(at.frame());
            wrote.reasons |= reasons;
            if reasons.contains(Reasons::TABLE) {
                stats.count(Counter::PageTableWrites);
                self.table_written(host, at, part)?;
            }
            at = at.add(part);
            left = left.saturating_sub(part);
        }
        wrote.conflict = self.current_conflict(host)?;
        Ok(wrote)
    }

    /// A write within one page that is shadowed as a table.
    fn table_written<H: MmuHost + ?Sized>(&mut self, host: &mut H, gpa: Gpa, len: u64) -> Result<(), MmuError> {
        let gfn = gpa.frame();
        let mut limit = 0;
        let mut bytes = 8;
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            let Some(&page) = self.pool.get(index).filter(|p| p.key.derives_from_frame()) else {
                continue;
            };
            let mode = page.key.role.mode;
            bytes = bytes.min(mode.entry_bytes());
            // An entry of 8 bytes takes a 32-bit kernel two stores.
            let stores = if mode == GuestMode::Pae { 2 } else { 1 };
            let flood = if page.key.role.level > 1 { self.config.table_flood } else { self.config.leaf_flood };
            limit = limit.max(flood.saturating_mul(stores));
            self.sync_page(host, index, &page, gpa, len)?;
        }
        let writes = self.pool.table_writes(gfn).map_or(0, |count| {
            *count = count.saturating_add(1);
            *count
        });
        let like_data = len > LONGEST_TABLE_WRITE || crosses_entry(gpa, len, bytes) || writes >= limit;
        let in_use =
            self.last.is_some_and(|(context, _)| context.mode != GuestMode::Off && context.table.frame() == gfn);
        if like_data && !in_use {
            self.unshadow(host, gfn);
        }
        Ok(())
    }

    pub(crate) fn sync_page<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        index: PageIndex,
        page: &ShadowPage,
        gpa: Gpa,
        len: u64,
    ) -> Result<(), MmuError> {
        let Key { gfn, role } = page.key;
        if role.level == self.top() {
            if let Some(root) = self.pool.get_mut(index) {
                root.checked = 0;
            }
        }
        if role.source == Source::Root {
            return Ok(());
        }
        let bytes = role.mode.entry_bytes();
        let first = gpa.offset() as u64 / u64::from(bytes);
        let last = (gpa.offset() as u64).wrapping_add(len).wrapping_sub(1) / u64::from(bytes);
        let paging = self.paging_of(&role);
        let mut windows = false;
        for gpte in first..=last {
            let Some((low, count)) = shadow_entries(&role, gpte) else { continue };
            let raw = read_entry(host, gfn.base().add(gpte.wrapping_mul(u64::from(bytes))), bytes)?;
            let entry = role.mode.decode(raw, role.level, &paging);
            windows |= role.level > 1 && self.overlay_at(&page.key, low);
            for id in (low..low.wrapping_add(count)).map(|i| EntryId::new(index.0, i)) {
                if role.level == 1 {
                    self.sync_leaf(host, id, page, (raw, entry));
                } else {
                    self.sync_directory(host, id, page, (raw, entry));
                }
            }
        }
        if windows {
            // On a top table hang only its own roots, and they are looked at again anyway.
            if role.level < role.mode.levels() {
                self.epoch = self.epoch.wrapping_add(1);
            }
            self.link_overlay(host, index)?;
        }
        Ok(())
    }

    /// A page-table entry changed.
    pub(crate) fn sync_leaf<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        id: EntryId,
        page: &ShadowPage,
        (raw, entry): (u64, Entry),
    ) {
        let context = self.context_of(&page.key);
        let Entry::Page { base, permissions, .. } = entry else {
            self.clear(host, id);
            if entry == Entry::NotPresent {
                self.mark_absent(host, id, page);
            }
            return;
        };
        let gfn = base.frame();
        let reachable = context.space == Space::Kernel || permissions.user;
        if raw & ACCESSED == 0 || !reachable {
            return self.clear(host, id);
        }
        let write = leaf_write(&context, Source::Table, permissions.write, raw & DIRTY != 0);
        if self.links.target(id) == Some(frame(gfn)) {
            let value = self.read(host, id);
            if value & spte::VIEW != 0 {
                // A view is there to be executed.
                if !permissions.execute {
                    self.clear(host, id);
                }
                return;
            }
            let value = if !write {
                value & !spte::WRITE
            } else if value & spte::WRITE == 0 && self.writable(host, gfn) {
                // A write fault of the guest's, resolved: the write is about to be repeated.
                value | spte::WRITE
            } else {
                value
            };
            let execute = context.space == Space::User && permissions.execute;
            let value = if execute { value & !spte::NO_EXECUTE } else { value | spte::NO_EXECUTE };
            return self.rewrite(host, id, value);
        }
        self.clear(host, id);
        // If the host cannot reach the memory, the access itself will tell.
        if let Ok(Backing::Ram { pfn, readonly }) = host.backing(gfn) {
            let write = write && !readonly && self.reasons(gfn).is_empty();
            self.set_leaf(host, id, guest_leaf(&context, pfn, write, permissions.execute), gfn);
        }
    }

    /// May a leaf of `gfn` be writable, as far as the frame is concerned?
    pub(crate) fn writable<H: MmuHost + ?Sized>(&self, host: &mut H, gfn: Gfn) -> bool {
        self.reasons(gfn).is_empty() && matches!(host.backing(gfn), Ok(Backing::Ram { readonly: false, .. }))
    }

    /// An entry of a higher level changed; `id` is one of the shadow entries that come from it.
    fn sync_directory<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        id: EntryId,
        page: &ShadowPage,
        guest: (u64, Entry),
    ) {
        let (_, entry) = guest;
        let Some(child) = self.links.target(id).map(PageIndex) else {
            return match entry {
                Entry::NotPresent => self.mark_absent(host, id, page),
                _ => self.unmark_absent(host, id),
            };
        };
        match self.child(&page.key, id.index(), guest) {
            Some((wanted, permissions)) if self.pool.get(child).is_some_and(|p| p.key == wanted) => {
                let old = self.read(host, id);
                let value = old & !spte::TABLE_RIGHTS | spte::table_rights(permissions);
                if value != old {
                    // What was read under the old rights nobody can have read under the new ones.
                    self.resync_below(host, &wanted);
                }
                // That may have taken the table away.
                if self.links.target(id) == Some(child.0) {
                    self.rewrite(host, id, value);
                }
            }
            _ => {
                self.clear(host, id);
                if entry == Entry::NotPresent {
                    self.mark_absent(host, id, page);
                }
            }
        }
    }

    /// What shadow entry `index` of a page above the page tables refers to and permits, if its guest entry has been used.
    fn child(&self, key: &Key, index: usize, (raw, entry): (u64, Entry)) -> Option<(Key, Permissions)> {
        let context = self.context_of(key);
        let gva = key.linear(index);
        let lower = key.role.level.wrapping_sub(1);
        let (child, permissions, dirty) = match entry {
            Entry::Table { base, permissions } => (context.table(lower, gva, base.frame()), permissions, true),
            Entry::Page { base, bits, permissions } => {
                let offset = gva.0 & (1_u64 << (bits & 63)).wrapping_sub(1);
                (context.direct(lower, gva, base.0 | offset), permissions, raw & DIRTY != 0)
            }
            Entry::NotPresent | Entry::Reserved => return None,
        };
        let accessed = key.role.mode.accessed(key.role.level);
        let reachable = context.space == Space::Kernel || permissions.user;
        let write = entry_write(&context, permissions.write, dirty);
        (raw & accessed == accessed && reachable).then_some((child, Permissions { write, ..permissions }))
    }

    /// Fills a new shadow of a guest table with what the guest has used already: the pages that a page table maps; of upper
    /// tables what is shadowed already, so that a new address space finds the kernel's tables without a fault for each.
    pub(crate) fn populate<H: MmuHost + ?Sized>(&mut self, host: &mut H, index: PageIndex) -> Result<(), MmuError> {
        self.read_table(host, index).map(|_| ())
    }

    /// Makes what a new shadow starts with, and takes from an older one of a page table what the guest does not have there any more.
    /// `false`: there is no table to read.
    pub(crate) fn read_table<H: MmuHost + ?Sized>(&mut self, host: &mut H, index: PageIndex) -> Result<bool, MmuError> {
        let Some(&page) = self.pool.get(index).filter(|p| p.key.role.source == Source::Table) else {
            return Ok(false);
        };
        let Role { mode, level, .. } = page.key.role;
        let paging = self.paging_of(&page.key.role);
        let (first, count) = guest_entries(&page.key.role, self.top() > 4);
        let shift = if mode.entry_bytes() == 8 { 3 } else { 2 };
        let end = first.saturating_add(count) << shift;
        let used = PRESENT | mode.accessed(level);
        let mut chunk = [0; CHUNK];
        for start in (first << shift..end).step_by(CHUNK) {
            let Some(part) = chunk.get_mut(..end.saturating_sub(start).min(CHUNK)) else { break };
            if !host.read_ram(page.key.gfn.base().add(start as u64), part)? {
                return Ok(false);
            }
            for (gpte, entry) in (start as u64 >> shift..).zip(part.chunks_exact(1 << shift)) {
                let raw = entry.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                let Some((low, count)) = shadow_entries(&page.key.role, gpte) else { continue };
                if raw & used != used {
                    for id in (low..low.wrapping_add(count)).map(|i| EntryId::new(index.0, i)) {
                        if level == 1 && self.links.target(id).is_some() {
                            self.clear(host, id);
                        }
                        if raw & PRESENT == 0 {
                            self.mark_absent(host, id, &page);
                        }
                    }
                    continue;
                }
                let guest = (raw, mode.decode(raw, level, &paging));
                for id in (low..low.wrapping_add(count)).map(|i| EntryId::new(index.0, i)) {
                    if level == 1 {
                        self.sync_leaf(host, id, &page, guest);
                    } else {
                        self.link_known(host, id, &page.key, guest);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Links the table that an entry of a new page refers to, if it is shadowed already.
    fn link_known<H: MmuHost + ?Sized>(&mut self, host: &mut H, id: EntryId, key: &Key, guest: (u64, Entry)) {
        let vmm_slot = key.role.level == self.top() && id.index() == usize::from(self.config.vmm_slot.0);
        if vmm_slot {
            return;
        }
        if let Some((child, permissions)) = self.child(key, id.index(), guest) {
            self.resync_below(host, &child);
            if let Some(child) = self.pool.find(&child) {
                self.set_table(host, id, child, permissions);
            }
        }
    }

    /// The registers under which a table with this role is read.
    pub(crate) fn paging_of(&self, role: &Role) -> Paging {
        let mut cr4 = if role.large_pages { Cr4::PSE } else { Cr4::empty() };
        cr4.set(Cr4::PAE, role.mode.entry_bytes() == 8);
        let mut efer = if role.no_execute { Efer::NXE } else { Efer::empty() };
        efer.set(Efer::LMA, role.mode == GuestMode::FourLevel);
        Paging {
            cr0: Cr0::PE | Cr0::PG,
            cr3: 0,
            cr4,
            efer,
            rflags: Rflags::empty(),
            physical_bits: self.config.guest_physical_bits,
        }
    }
}

/// The entries of the guest's table that a page shadows: the first and their number. `halves`: each half of linear space has its
/// own shadow of a 4-level top table.
fn guest_entries(role: &Role, halves: bool) -> (usize, usize) {
    let place = role.place as usize;
    match (role.mode, role.level) {
        (GuestMode::TwoLevel, 1) => ((place & 1) << 9, 512),
        (GuestMode::TwoLevel, _) => ((place & 3) << 8, 256),
        (GuestMode::Pae, 3) => ((place & 0x7f) << 2, 4),
        (GuestMode::FourLevel, 4) if halves => ((place & 1) << 8, 256),
        _ => (0, ENTRIES),
    }
}

/// The shadow entries that come from entry `gpte` of the guest's table, if this page has them: the first and their number.
pub(crate) fn shadow_entries(role: &Role, gpte: u64) -> Option<(usize, usize)> {
    let here = |part: u64, mask: u32| part == u64::from(role.place & mask);
    match (role.mode, role.level) {
        (GuestMode::TwoLevel, 1) => here(gpte >> 9, 1).then_some((gpte as usize & 511, 1)),
        (GuestMode::TwoLevel, _) => here(gpte >> 8, 3).then_some(((gpte as usize & 255) << 1, 2)),
        (GuestMode::Pae, 3) => here(gpte >> 2, 0x7f).then_some((gpte as usize & 3, 1)),
        _ => Some((gpte as usize & 511, 1)),
    }
}

/// Does a short write straddle two entries? No page-table update does. (Parts of an entry are written, though: Linux
/// clears single flags with byte operations.)
fn crosses_entry(gpa: Gpa, len: u64, bytes: u8) -> bool {
    let bytes = u64::from(bytes);
    let offset = gpa.0 & bytes.wrapping_sub(1);
    offset != 0 && offset.wrapping_add(len) > bytes
}
