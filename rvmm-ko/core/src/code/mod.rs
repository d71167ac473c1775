//! Execution views: guest kernel code runs from pages that rvmm owns, which hold scanned instructions verbatim, patched
//! sites, and int3 in every byte not yet scanned. Guest memory is never modified.
//!
//! A fetch without a view makes one; an int3 says "scan from here", "interpret this" or "that was the guest's own"; a
//! write drops what depended on it. A page that is written more often than executed loses its view until it is executed
//! again, and one for which even that goes on and on is interpreted for a while.

mod crossing;
mod exec;
mod patch;
mod store;
mod view;
mod window;

use alloc::vec::Vec;

use rvmm_arch::host::{Host, HostError};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gpa, Gva, VcpuState};
use rvmm_mmu::{Env, Mmu, MmuError, Reason, ViewProtection};

use crate::direct::VIEW_PKEY;
use crate::options::Options;
pub(crate) use patch::{filled, PatchArea, Returns, Waits};
use rvmm_patcher::{ScanCounts, Span, TacticSet};
use store::ViewStore;
pub(crate) use view::code_size;
use view::{View, ViewKey};

/// The execution environment without patch blocks: any CS and SS.
pub const PLAIN: Env = Env(0);
/// The execution environment with patch blocks: CS and SS flat, patch memory in place.
pub const BLOCKS: Env = Env(1);

/// [`PLAIN`] for 64-bit code.
pub const PLAIN64: Env = Env(2);
/// [`BLOCKS`] for 64-bit code: patch memory in place.
pub const BLOCKS64: Env = Env(3);

/// The execution environment without patch blocks for the code that `cpu` is in.
#[must_use]
pub fn plain(cpu: &VcpuState) -> Env {
    if cpu.mode() == CpuMode::Long {
        PLAIN64
    } else {
        PLAIN
    }
}

/// Can 32-bit code have blocks, as far as its segments are concerned? Those are reached through SS, and CS is where EIP points.
#[must_use]
pub fn blocks_fit(cpu: &VcpuState) -> bool {
    let [code, stack] = [SegReg::Cs, SegReg::Ss].map(|reg| cpu.segment(reg));
    code.flat() && stack.flat() && stack.db()
}

/// Does code run with patch blocks in this environment?
#[must_use]
pub fn has_blocks(env: Env) -> bool {
    env == BLOCKS || env == BLOCKS64
}

/// How views are mapped: user pages of the kernel root, so that protection keys (or SMAP) deny reading them.
pub const PROTECTION: ViewProtection = ViewProtection { user: true, pkey: VIEW_PKEY };

/// Views at a time; each takes about 17 KiB.
const MAX_VIEWS: usize = 4096;
/// Writes without an execution in between after which a view is dropped.
const WRITES_TO_RETIRE: u8 = 8;
/// Reads without an execution in between after which the page is mapped for reading until it is executed again.
const READS_TO_UNMAP: u8 = 4;

/// The tactics for which there is patch memory.
const BLOCK_TACTICS: TacticSet =
    TacticSet::JUMP.union(TacticSet::SYSCALL).union(TacticSet::REFLECT).union(TacticSet::TRAP);

/// Entries between two searches for a hole in the guest's linear space.
const NO_HOLE_PAUSE: u16 = 4096;

/// Frames whose views come and go, with a score.
#[derive(Clone, Copy, Debug, Default)]
struct Thrash {
    gfn: Gfn,
    score: u16,
}
const THRASH_SLOTS: usize = 64;
/// What a drop adds to the score; each instruction interpreted for it takes one off.
const THRASH_STEP: u16 = 32;
/// From here on, interpret.
const THRASH_LIMIT: u16 = 1024;

/// The execution views of a VM.
#[derive(Debug)]
pub struct CodePages {
    store: ViewStore,
    thrash: Vec<Thrash>,
    /// What the scanner has done so far; one element, off the stack.
    counts: Vec<ScanCounts>,
    revalidate: bool,
    /// Patch memory.
    pub(crate) patch: PatchArea,
    /// Where to resume instead of at this guest address: (linear address, address in patch memory).
    pub(crate) resume: Option<(Gva, u64)>,
    /// Where the CPU was stopped last in a block, or went on behind the instruction it was stopped at: to arrive there is no branch of the
    /// guest's.
    pub(crate) stopped: Option<Gva>,
    /// The guest has mapped something where patch memory is.
    pub(crate) claimed: bool,
    /// Entries to let pass before a hole is looked for again.
    no_hole: u16,
}

impl CodePages {
    /// No views.
    ///
    /// # Errors
    /// No memory.
    pub fn new(options: &Options) -> Result<Self, HostError> {
        Ok(Self {
            store: ViewStore::new(MAX_VIEWS)?,
            thrash: filled(THRASH_SLOTS, Thrash::default())?,
            counts: filled(1, ScanCounts::default())?,
            revalidate: !options.coherent_client,
            patch: PatchArea::new(options.tactics & BLOCK_TACTICS, options.model)?,
            resume: None,
            stopped: None,
            claimed: false,
            no_hole: 0,
        })
    }

    /// The execution environment for the kernel code that `cpu` is in, as patch memory is now.
    pub(crate) fn env_now(&self, cpu: &VcpuState) -> Env {
        let plain = plain(cpu);
        let ready = !self.patch.tactics.is_empty() && self.patch.ready(cpu) && !self.claimed;
        match plain {
            PLAIN64 if ready => BLOCKS64,
            PLAIN if ready && blocks_fit(cpu) => BLOCKS,
            _ => plain,
        }
    }

    /// Does the frame have a view?
    #[must_use]
    pub fn has_view(&self, gfn: Gfn) -> bool {
        self.store.has(gfn)
    }

    /// What the scanner and the patcher have done so far.
    pub(crate) fn counts(&self) -> Option<&ScanCounts> {
        self.counts.first()
    }

    fn thrash_slot(&mut self, gfn: Gfn) -> Option<&mut Thrash> {
        self.thrash.get_mut((gfn.0 as usize) % THRASH_SLOTS)
    }

    /// Should code of this frame be interpreted for now? Takes one off its score.
    fn is_thrashing(&mut self, gfn: Gfn) -> bool {
        match self.thrash_slot(gfn) {
            Some(slot) if slot.gfn == gfn && slot.score > THRASH_LIMIT => {
                slot.score -= 1;
                true
            }
            _ => false,
        }
    }

    /// Finds or makes the view for a key; its slot.
    fn obtain<H: Host>(
        &mut self,
        mmu: &mut Mmu,
        host: &mut H,
        stats: &mut Stats,
        key: ViewKey,
    ) -> Result<Option<u32>, MmuError> {
        if let Some(index) = self.store.find(key) {
            return Ok(Some(index));
        }
        if self.store.full() {
            if let Some(victim) = self.store.victim() {
                self.retire(mmu, host, stats, victim);
            }
        }
        let view = loop {
            match View::new(host, key) {
                Ok(view) => break view,
                // Make room with the views of others; when there are none left, it is the host's failure.
                Err(HostError::NoMemory) => match self.store.victim() {
                    Some(victim) => self.retire(mmu, host, stats, victim),
                    None => return Err(MmuError::Host(HostError::NoMemory)),
                },
                Err(error) => return Err(MmuError::Host(error)),
            }
        };
        if let Err(error) = mmu.track(host, key.gfn, Reason::View) {
            host.free_page(view.shown);
            return Err(error);
        }
        stats.count(Counter::Views);
        match self.store.insert(view) {
            Ok(index) => Ok(Some(index)),
            Err(view) => {
                mmu.untrack(key.gfn, Reason::View);
                host.free_page(view.shown);
                Ok(None)
            }
        }
    }

    fn retire<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats, index: u32) {
        self.resume = None;
        crossing::hide(&mut self.store, host, index);
        if let Some(key) = self.store.get_mut(index).filter(|view| view.tail > 0).map(|view| view.key) {
            crossing::hide_into(&mut self.store, host, &key, None);
        }
        if let Some(view) = self.store.remove(index) {
            view.free_blocks(&mut self.patch, Span::PAGE);
            mmu.drop_view(host, view.key.gfn, view.key.page);
            mmu.untrack(view.key.gfn, Reason::View);
            host.free_page(view.shown);
            stats.count(Counter::ViewsRetired);
        }
    }

    /// Guest memory was written (`len` bytes within one page).
    pub fn wrote<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats, gpa: Gpa, len: u64) {
        let gfn = gpa.frame();
        self.resume = None;
        let mut n = 0;
        while let Some(index) = self.store.nth_of(gfn, n) {
            stats.count(Counter::CodeWrites);
            self.hide_written(host, index, gpa.offset(), len as usize);
            let (patch, counts) = (&mut self.patch, self.counts.first_mut());
            let keep = self.store.get_mut(index).zip(counts).is_some_and(|(view, counts)| {
                view.writes = view.writes.saturating_add(1);
                view.writes < WRITES_TO_RETIRE && view.wrote(host, patch, counts, gpa.offset(), len as usize).is_ok()
            });
            if keep {
                n += 1;
                continue;
            }
            self.retire(mmu, host, stats, index);
            if let Some(slot) = self.thrash_slot(gfn) {
                if slot.gfn != gfn {
                    *slot = Thrash { gfn, score: 0 };
                }
                slot.score = slot.score.saturating_add(THRASH_STEP);
            }
        }
    }

    /// Takes views of other frames at the same linear page out of all address spaces, until they are fetched from again.
    fn uninstall_others<H: Host>(&self, mmu: &mut Mmu, host: &mut H, this: &ViewKey) {
        let other = |key: &ViewKey| key.page == this.page && key.env == this.env && key.gfn != this.gfn;
        let mut from = 0;
        while let Some(index) = self.store.next_key_where(from, other) {
            from = index + 1;
            if let Some(key) = self.store.key_of(index) {
                mmu.drop_view(host, key.gfn, key.page);
            }
        }
    }

    /// A write to a page with a crossing instruction at either end takes it back.
    fn hide_written<H: Host>(&mut self, host: &mut H, index: u32, offset: usize, len: usize) {
        let Some(view) = self.store.get_mut(index) else { return };
        let (key, tail) = (view.key, usize::from(view.tail));
        if view.crossing.is_some_and(|c| offset.saturating_add(len) > usize::from(c.offset)) {
            crossing::hide(&mut self.store, host, index);
        }
        if offset < tail {
            crossing::hide_into(&mut self.store, host, &key, None);
        }
    }

    /// Frames `first..first + count` are not what they were: their views go.
    pub fn retire_range<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats, first: Gfn, count: u64) {
        let range = first.0..first.0.saturating_add(count);
        while let Some(index) = self.store.next_where(0, |gfn| range.contains(&gfn.0)) {
            self.retire(mmu, host, stats, index);
        }
    }

    /// Compares every view with guest memory, where the client may have written without a word.
    fn revalidate<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats) -> Result<(), HostError> {
        let mut from = 0;
        while let Some(index) = self.store.next_where(from, |_| true) {
            from = index + 1;
            let Some(view) = self.store.get_mut(index) else { continue };
            if let Some((start, end)) = view.difference(host)? {
                let gpa = view.key.gfn.base().add(start as u64);
                self.wrote(mmu, host, stats, gpa, (end - start) as u64);
            }
        }
        Ok(())
    }

    /// Gives all pages back.
    pub fn free_all<H: Host>(&mut self, host: &mut H) {
        while let Some(index) = self.store.victim() {
            if let Some(view) = self.store.remove(index) {
                host.free_page(view.shown);
            }
        }
        self.patch.free(host);
    }

    /// Is patch memory in place, in a hole of the guest's? Puts it there, or somewhere else if the guest has claimed the place.
    pub(crate) fn patch_ready<H: Host>(
        &mut self,
        cpu: &VcpuState,
        mmu: &mut Mmu,
        host: &mut H,
        stats: &mut Stats,
    ) -> Result<bool, MmuError> {
        self.claimed |= self.patch.was_for_unpaged(cpu);
        if self.patch.ready(cpu) && !self.claimed {
            return Ok(true);
        }
        let better_for = if self.claimed { None } else { self.patch.better_elsewhere(mmu, host, cpu)? };
        if self.claimed || better_for.is_some() {
            self.claimed = false;
            self.withdraw(mmu, host, stats)?;
        }
        if self.patch.placed() {
            return Ok(self.patch.serves(cpu));
        }
        // Looking for a hole reads every page directory: not at each entry.
        if let Some(left) = self.no_hole.checked_sub(1) {
            self.no_hole = left;
            return Ok(false);
        }
        let placed = self.patch.place(mmu, host, stats, cpu, better_for.unwrap_or(Gva(cpu.linear_rip())))?;
        self.no_hole = if placed { 0 } else { NO_HOLE_PAUSE };
        Ok(placed)
    }

    /// Takes the windows away, and all jumps to blocks there with the views they stand in.
    pub(crate) fn withdraw<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats) -> Result<(), MmuError> {
        let patched = |key: &ViewKey| has_blocks(key.env);
        while let Some(index) = self.store.next_key_where(0, patched) {
            self.retire(mmu, host, stats, index);
        }
        self.patch.remove(mmu, host, stats)
    }

    /// The key of the view that the guest executes at a linear address.
    fn key(gfn: Gfn, at: Gva, env: Env) -> ViewKey {
        ViewKey { gfn, page: at.page(), env }
    }
}
