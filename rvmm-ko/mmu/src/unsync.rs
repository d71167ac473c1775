//! Page tables out of sync: a table of the lowest level that the guest writes becomes writable for it, while its shadows stay as they
//! were. To the guest they then are what a TLB is: translations that may be old until it asks to forget them (SDM vol. 3 §4.10.4,
//! APM vol. 2 §5.5). So they are brought in line
//!
//! - all of them, where the guest loads CR3 or changes CR0, CR4 or EFER: [`Mmu::cr3_loaded`];
//! - one entry, where it executes INVLPG or takes a page fault, which forgets the faulting page (SDM vol. 3 §4.10.4.1);
//! - one table, before another entry leads to its shadow, or an entry with other rights; all of them, before that happens to a table of a higher
//!   level that has a shadow: what was read by the old way nobody can have read by the new one (a kernel frees the tables of an address space that
//!   is not loaded without any flush, and takes them for the next one);
//! - one table, before its frame becomes anything else: a table of another level, code, a descriptor table ([`Mmu::track`]);
//! - whenever else it is convenient: a TLB may forget at any time.
//!
//! A table in line is tracked again. Not out of sync may be: a frame that is a table of a higher level, too (the way to a table must be
//! the guest's), or that is tracked for another reason, or that maps an execution view (what the engine finds at RIP by the guest's
//! tables must be what the CPU executes). An entry that becomes present needs no flush, and gets none: the shadow's fault walks the
//! guest's tables.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gva};

use crate::links::{filled, ENTRIES, NONE};
use crate::mmu::{Mmu, MmuHost};
use crate::paging::GuestMode;
use crate::role::{Key, Source};
use crate::walk::probe;

/// Tables out of sync at a time. One more, and the oldest is brought in line: the time that a flush takes is bounded.
const MOST: usize = 64;

/// So often is a table let go without a fault through it in between; then its frame is taken for data and forgotten.
const FLOOD: u8 = 32;

/// The tables out of sync, the oldest first.
#[derive(Debug)]
pub(crate) struct Unsynced {
    frames: Vec<Gfn>,
    count: usize,
}

impl Unsynced {
    /// None.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn new() -> Result<Self, HostError> {
        Ok(Self { frames: filled(MOST, Gfn(0))?, count: 0 })
    }

    fn oldest(&self) -> Option<Gfn> {
        self.frames.get(..self.count).and_then(<[Gfn]>::first).copied()
    }

    const fn is_full(&self) -> bool {
        self.count >= MOST
    }

    fn push(&mut self, gfn: Gfn) {
        if let Some(place) = self.frames.get_mut(self.count) {
            *place = gfn;
            self.count = self.count.wrapping_add(1);
        }
    }

    pub(crate) fn remove(&mut self, gfn: Gfn) {
        let Some(list) = self.frames.get_mut(..self.count) else { return };
        let Some(at) = list.iter().position(|&frame| frame == gfn) else { return };
        if let Some(rest) = list.get_mut(at..) {
            rest.rotate_left(1);
        }
        self.count = self.count.wrapping_sub(1);
    }
}

/// What is counted where no statistics are at hand, until they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) let_go: u64,
    pub(crate) syncs: u64,
    pub(crate) compared: u64,
    pub(crate) prefilled: u64,
}

impl Mmu {
    /// The guest writes the frame of page tables, which is tracked for no other reason. True: it is not tracked any more, and may be
    /// written; out of sync, or no table.
    pub(crate) fn let_go<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) -> bool {
        if !self.config.unsync || !self.tracking.reasons(gfn).is_empty() {
            return false;
        }
        let mut linked = false;
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            let Some(page) = self.pool.get(index).filter(|p| p.key.derives_from_frame()) else { continue };
            if page.key.role.level != 1 || page.key.role.source != Source::Table || page.viewed {
                return false;
            }
            linked |= page.parents != NONE;
        }
        let writes = self.pool.table_writes(gfn).map_or(0, |count| {
            *count = count.saturating_add(1);
            *count
        });
        if !linked || writes >= FLOOD {
            // Nothing leads there, or nobody uses it.
            self.unshadow(host, gfn);
            return true;
        }
        if self.unsynced.is_full() {
            if let Some(oldest) = self.unsynced.oldest() {
                self.resync(host, oldest);
            }
        }
        self.forget_absent(host, gfn);
        self.pool.set_unsync(gfn, true);
        self.unsynced.push(gfn);
        self.tally.let_go = self.tally.let_go.wrapping_add(1);
        true
    }

    /// Brings the shadows of a table in line, if they are out of sync, and tracks it again.
    pub(crate) fn resync<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) {
        if !self.pool.is_unsync(gfn) {
            return;
        }
        // First of all tracked: the table may map itself.
        self.pool.set_unsync(gfn, false);
        self.unsynced.remove(gfn);
        self.write_protect(host, gfn);
        self.tally.syncs = self.tally.syncs.wrapping_add(1);
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            let Some(page) = self.pool.get(index).filter(|p| p.key.derives_from_frame()) else { continue };
            if page.parents == NONE {
                // Nothing leads there. If something will, it starts anew.
                self.zap_page(host, index);
                continue;
            }
            self.tally.compared = self.tally.compared.wrapping_add(ENTRIES as u64);
            if self.read_table(host, index) != Ok(true) {
                return self.unshadow(host, gfn);
            }
        }
        if !self.pool.shadows_table(gfn) {
            self.writable_again(host, gfn);
        }
    }

    /// Before an entry leads to the shadow table with this key, or gives it other rights: brings in line what is reached through it.
    pub(crate) fn resync_below<H: MmuHost + ?Sized>(&mut self, host: &mut H, key: &Key) {
        if key.role.level == 1 {
            self.resync(host, key.gfn);
        } else if self.unsynced.count != 0 && self.pool.find(key).is_some() {
            // Which tables out of sync hang below it, nobody keeps. A table without a shadow starts with none.
            self.sync_all(host);
        }
    }

    /// Brings all shadows in line.
    pub fn sync_all<H: MmuHost + ?Sized>(&mut self, host: &mut H) {
        while let Some(gfn) = self.unsynced.oldest() {
            self.resync(host, gfn);
            // Whatever happens, this ends.
            self.unsynced.remove(gfn);
        }
    }

    /// Brings the shadow entries of one linear page of the current address space in line.
    pub(crate) fn sync_page_of<H: MmuHost + ?Sized>(&mut self, host: &mut H, gva: Gva) {
        if self.unsynced.count == 0 {
            return;
        }
        // Tables go out of sync by faults only, and a change of CR3 brings all in line: the root asked for last is that of the
        // address space.
        if self.try_sync_page_of(host, gva).is_err() {
            self.sync_all(host);
        }
    }

    fn try_sync_page_of<H: MmuHost + ?Sized>(&mut self, host: &mut H, gva: Gva) -> Result<(), HostError> {
        let Some((context, _)) = self.last else { return Err(HostError::BadClientMemory) };
        if context.mode == GuestMode::Off {
            return Ok(());
        }
        let (walk, _) = probe(host, &self.paging_in(&context), context.mode, gva)?;
        let Some(entry) = walk.step(1).map(|s| s.at) else { return Ok(()) };
        if !self.pool.is_unsync(entry.frame()) {
            return Ok(());
        }
        let mut at = self.pool.first(entry.frame());
        while let Some(index) = at {
            at = self.pool.next(index);
            let Some(&page) = self.pool.get(index).filter(|p| p.key.derives_from_frame()) else { continue };
            self.tally.compared = self.tally.compared.wrapping_add(1);
            let done = self.sync_page(host, index, &page, entry, u64::from(context.mode.entry_bytes()));
            done.map_err(|_| HostError::BadClientMemory)?;
        }
        Ok(())
    }

    /// INVLPG: whatever is known of this page is forgotten, in all trees.
    pub fn invlpg<H: MmuHost + ?Sized>(&mut self, host: &mut H, stats: &mut Stats, gva: Gva) {
        self.sync_page_of(host, gva);
        self.count_tally(stats);
    }

    /// A CR3 load, or a write to CR0, CR4 or EFER: old translations end here. What these registers change about the meaning of tables
    /// (CR0.WP, CR4.PSE and PAE, EFER.NXE and LMA) is part of what shadow tables are found by. CR4.PGE and global pages mean nothing to
    /// them.
    pub fn cr3_loaded<H: MmuHost + ?Sized>(&mut self, host: &mut H, stats: &mut Stats) {
        self.sync_all(host);
        self.count_tally(stats);
    }

    /// Counts what has been counted aside.
    pub(crate) fn count_tally(&mut self, stats: &mut Stats) {
        let tally = core::mem::take(&mut self.tally);
        stats.add(Counter::TablesLetGo, tally.let_go);
        stats.add(Counter::TableSyncs, tally.syncs);
        stats.add(Counter::EntriesCompared, tally.compared);
        stats.add(Counter::Prefilled, tally.prefilled);
    }
}
