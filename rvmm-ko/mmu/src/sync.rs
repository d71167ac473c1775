//! Tour 21/22, next: `rvmm-ko/core/src/verify.rs`.
//! The guest wrote a page table: the shadow entries that came from the bytes written are brought in line, and no others.
//!
//! A lowest-level entry that the guest has just made present *and accessed* is mapped at once, because it is about to
//! be used (Linux presets both bits when it resolves a page fault). For the same reason a new shadow page table starts
//! with all entries that are accessed already: a table that was written like data and is used again costs one fault.

use rvmm_arch::host::Backing;
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gpa, PAGE_SIZE};

use crate::gpte::{Entry, PagingMode, TwoLevel};
use crate::links::EntryId;
use crate::map::{entry_write, guest_leaf, leaf_write};
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::Paging;
use crate::pool::{PageIndex, ShadowPage};
use crate::role::{Key, Role, Source, Space};
use crate::spte;
use crate::track::Reasons;
use crate::walk::read_entry;

/// Longer writes are taken for data: the frame is no table any more.
const LONGEST_TABLE_WRITE: u64 = 64;

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
        wrote.conflict = self.last.and_then(|(_, root)| self.pool.get(root)).is_some_and(|p| p.conflict);
        Ok(wrote)
    }

    /// A write within one page that is shadowed as a table.
    fn table_written<H: MmuHost + ?Sized>(&mut self, host: &mut H, gpa: Gpa, len: u64) -> Result<(), MmuError> {
        let gfn = gpa.frame();
        let mut limit = self.config.leaf_flood;
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            let Some(&page) = self.pool.get(index).filter(|p| p.key.derives_from_frame()) else {
                continue;
            };
            if page.key.role.level > 1 {
                limit = self.config.table_flood;
            }
            self.sync_page(host, index, &page, gpa, len)?;
        }
        let writes = self.pool.table_writes(gfn).map_or(0, |count| {
            *count = count.saturating_add(1);
            *count
        });
        let like_data = len > LONGEST_TABLE_WRITE || crosses_entry(gpa, len) || writes >= limit;
        let in_use = self
            .last
            .is_some_and(|(context, _)| context.mode == crate::paging::GuestMode::TwoLevel && context.table == gfn);
        if like_data && !in_use {
            self.unshadow(host, gfn);
        }
        Ok(())
    }

    fn sync_page<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        index: PageIndex,
        page: &ShadowPage,
        gpa: Gpa,
        len: u64,
    ) -> Result<(), MmuError> {
        let Key { role, .. } = page.key;
        if role.source == Source::Root {
            return if role.level == self.top() { self.check_conflict(host, index) } else { Ok(()) };
        }
        let entry_bytes = u64::from(TwoLevel::ENTRY_BYTES);
        let first = gpa.offset() as u64 / entry_bytes;
        let last = (gpa.offset() as u64).wrapping_add(len).wrapping_sub(1) / entry_bytes;
        let paging = self.paging_of(&role);
        for gpte in first..=last {
            let at = page.key.gfn.base().add(gpte.wrapping_mul(entry_bytes));
            if role.level == 1 {
                if gpte >> 9 == u64::from(role.place & 1) {
                    let raw = read_entry(host, at, TwoLevel::ENTRY_BYTES)?;
                    let entry = TwoLevel::decode(raw, 1, &paging);
                    let id = EntryId::new(index.0, gpte as usize & 511);
                    self.sync_leaf(host, id, page, (raw, entry));
                }
            } else if gpte >> 8 == u64::from(role.place & 3) {
                let raw = read_entry(host, at, TwoLevel::ENTRY_BYTES)?;
                let entry = TwoLevel::decode(raw, 2, &paging);
                let low = (gpte as usize & 255) << 1;
                if entry == Entry::NotPresent && self.overlay_at(&page.key, low) {
                    self.link_overlay(host, index)?;
                    continue;
                }
                for half in [low, low | 1] {
                    self.sync_directory(host, EntryId::new(index.0, half), &page.key, (raw, entry));
                }
            }
        }
        Ok(())
    }

    /// A page-table entry changed.
    fn sync_leaf<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        id: EntryId,
        page: &ShadowPage,
        (raw, entry): (u64, Entry),
    ) {
        let context = page.key.context();
        let Entry::Page { base, permissions, .. } = entry else {
            return self.clear(host, id);
        };
        let gfn = base.frame();
        let reachable = context.space == Space::Kernel || permissions.user;
        if raw & TwoLevel::ACCESSED == 0 || !reachable {
            return self.clear(host, id);
        }
        let write = leaf_write(&context, Source::Table, permissions.write, raw & TwoLevel::DIRTY != 0);
        if self.links.target(id) == Some(gfn.0 as u32) {
            let value = self.read(host, id);
            return self.rewrite(host, id, if write { value } else { value & !spte::WRITE });
        }
        self.clear(host, id);
        // If the host cannot reach the memory, the access itself will tell.
        if let Ok(Backing::Ram { pfn, readonly }) = host.backing(gfn) {
            let write = write && !readonly && self.reasons(gfn).is_empty();
            self.set_leaf(host, id, guest_leaf(context.space, pfn, write, permissions.execute), gfn);
        }
    }

    /// A page-directory entry changed; `id` is one of the two shadow entries that come from it.
    fn sync_directory<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        id: EntryId,
        key: &Key,
        (raw, entry): (u64, Entry),
    ) {
        let Some(child) = self.links.target(id).map(PageIndex) else {
            return;
        };
        let context = key.context();
        let gva = key.linear(id.index());
        let (wanted, permissions, dirty) = match entry {
            Entry::Table { base, permissions } => (context.table(gva, base.frame()), permissions, true),
            Entry::Page { base, permissions, .. } => {
                let gfn = Gfn(base.frame().0 | ((id.index() as u64 & 1) << 9));
                (context.direct(gva, gfn), permissions, raw & TwoLevel::DIRTY != 0)
            }
            Entry::NotPresent | Entry::Reserved => return self.clear(host, id),
        };
        let reachable = context.space == Space::Kernel || permissions.user;
        let same = self.pool.get(child).is_some_and(|p| p.key == wanted);
        if raw & TwoLevel::ACCESSED == 0 || !reachable || !same {
            return self.clear(host, id);
        }
        let value = self.read(host, id) & !spte::WRITE;
        let write = entry_write(&context, permissions.write, dirty);
        self.rewrite(host, id, if write { value | spte::WRITE } else { value });
    }

    /// Fills a new shadow page table with what its guest table maps and the guest has used.
    pub(crate) fn populate<H: MmuHost + ?Sized>(&mut self, host: &mut H, index: PageIndex) -> Result<(), MmuError> {
        let Some(&page) = self.pool.get(index).filter(|p| p.key.role.level == 1 && p.key.role.source == Source::Table)
        else {
            return Ok(());
        };
        let paging = self.paging_of(&page.key.role);
        let half = page.key.gfn.base().add(u64::from(page.key.role.place & 1) << 11);
        let mut chunk = [0; 64];
        for first in (0..512).step_by(16) {
            if !host.read_ram(half.add(first << 2), &mut chunk)? {
                return Ok(());
            }
            for (index_in_chunk, bytes) in (first as usize..).zip(chunk.chunks_exact(4)) {
                let raw = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                if raw & (1 | TwoLevel::ACCESSED) == 1 | TwoLevel::ACCESSED {
                    let entry = TwoLevel::decode(raw, 1, &paging);
                    self.sync_leaf(host, EntryId::new(index.0, index_in_chunk), &page, (raw, entry));
                }
            }
        }
        Ok(())
    }

    /// The registers under which a table with this role is read.
    pub(crate) fn paging_of(&self, role: &Role) -> Paging {
        Paging {
            cr0: Cr0::PE | Cr0::PG,
            cr3: 0,
            cr4: if role.large_pages { Cr4::PSE } else { Cr4::empty() },
            efer: Efer::empty(),
            physical_bits: self.config.guest_physical_bits,
        }
    }
}

/// Does a short write straddle two entries? No page-table update does. (Parts of an entry are written, though: Linux
/// clears single flags with byte operations.)
fn crosses_entry(gpa: Gpa, len: u64) -> bool {
    let bytes = u64::from(TwoLevel::ENTRY_BYTES);
    gpa.0 % bytes != 0 && (gpa.0 % bytes).wrapping_add(len) > bytes
}
