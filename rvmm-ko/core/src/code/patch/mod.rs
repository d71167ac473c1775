//! Patch memory, where patch blocks live, and the patch-visible vCPU page, in the guest's linear space.
//!
//! Their windows are holes in the guest's own tables, present in kernel roots only. When the guest maps something there they
//! move, with all jumps taken back; where there is no hole, sites keep their int3. Blocks are execute-only like views.
//! The vCPU page can be written by the guest's kernel, so nothing in it is trusted: it holds flags and selectors that
//! only the guest itself would suffer from.

mod delivery;
pub mod heat;
mod vcpu_page;

use alloc::vec::Vec;

use rvmm_arch::host::{Host, HostError, HostPage};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Hpa, Model, VcpuState, PAGE_SIZE};
use rvmm_mmu::{Mmu, MmuError, Occupied, OverlayAccess, WindowSlot};
use rvmm_patcher::block::{BlockState, VcpuPageLayout, SCRATCH_WORDS};
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints, GRANULE};
use rvmm_patcher::tactic::BLOCK_BYTES;
use rvmm_patcher::{CodeSize, TacticSet};

use super::view::code_size;
use super::window::{self, Windows, CODE_ENTRIES};
use crate::direct::VIEW_PKEY;
use heat::HeatTables;
pub use vcpu_page::{Returns, Waits};
use vcpu_page::{KERNEL_GS, SCRATCH, SHADOW, VFLAGS, VIF};

/// Pages that one directory entry spans.
const ENTRY_PAGES: usize = 1024;
/// Pages of patch memory. A block's place is chosen by what the displacement of its jump must be, so blocks are spread, and
/// pages are taken as they are needed.
const CODE_PAGES: usize = CODE_ENTRIES * ENTRY_PAGES;
/// Blocks at a time.
const BLOCKS: usize = 12_288;
const INT3: u8 = 0xcc;

/// The vCPU page's rights for guest-kernel code that runs in `ring`.
const fn page_rights(ring: u8) -> OverlayAccess {
    OverlayAccess { write: true, execute: false, user: ring == 3, pkey: 0 }
}
/// The rights of patch memory.
const CODE_PAGE: OverlayAccess = OverlayAccess { write: false, execute: true, user: true, pkey: VIEW_PKEY };

/// Refusals for want of a place after which another window is considered.
const MISPLACED: u16 = 32;
/// Moves of that kind in the life of a VM: each costs all that was patched.
const MAX_MOVES: u8 = 4;

/// Moves for code without paging, in the life of a VM: a guest that goes to and fro between paging and none, with tables that have something
/// where the one has a hole for the other, goes without blocks while paging is off.
const MAX_UNPAGED_MOVES: u8 = 8;

/// Patch memory of a VM with one virtual CPU.
pub struct PatchArea {
    /// The blocks that are switched on.
    pub tactics: TacticSet,
    /// Which ring the vCPU page is for.
    model: Model,
    windows: Option<Windows>,
    /// They were put there while paging was off.
    unpaged: bool,
    unpaged_moves_left: u8,
    /// The ring that the vCPU page is for now.
    ring: u8,
    vcpu_page: Option<HostPage>,
    /// Behind the vCPU page: the blocks that push the frames of events, and the one that loads null selectors again; for which code.
    delivery: Option<(HostPage, CodeSize)>,
    pages: Vec<Option<HostPage>>,
    granules: Vec<u16>,
    blocks: Vec<Block>,
    hints: SearchHints,
    /// Bytes of code in blocks.
    bytes: u64,
    /// Refusals for want of a place since the windows are where they are.
    no_place: u16,
    moves_left: u8,
    /// Where code is that finds no place, if the windows should be moved for it.
    misplaced_for: Option<Gva>,
    /// How often sites and jump windows were met.
    pub heat: HeatTables,
    /// Where a block is generated; one element, off the stack.
    buffer: Vec<[u8; BLOCK_BYTES]>,
}

impl core::fmt::Debug for PatchArea {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PatchArea").field("windows", &self.windows).finish_non_exhaustive()
    }
}

/// The size of the code that a CPU is in.
fn size_of(cpu: &VcpuState) -> CodeSize {
    code_size(super::plain(cpu))
}

/// A vector of `n` times `value`, or no memory.
pub fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>, HostError> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| HostError::NoMemory)?;
    v.resize(n, value);
    Ok(v)
}

impl PatchArea {
    /// An area without a window. Takes no memory where no tactic needs it.
    ///
    /// # Errors
    /// No memory.
    pub fn new(tactics: TacticSet, model: Model) -> Result<Self, HostError> {
        let on = usize::from(!tactics.is_empty());
        Ok(Self {
            tactics,
            model,
            windows: None,
            unpaged: false,
            unpaged_moves_left: MAX_UNPAGED_MOVES,
            ring: 0,
            vcpu_page: None,
            delivery: None,
            pages: filled(on * CODE_PAGES, None)?,
            granules: filled(on * CODE_PAGES * PAGE_SIZE as usize / GRANULE, 0)?,
            blocks: filled(on * BLOCKS, Block::FREE)?,
            hints: SearchHints::default(),
            bytes: 0,
            no_place: 0,
            moves_left: MAX_MOVES,
            misplaced_for: None,
            heat: HeatTables::new(on != 0)?,
            buffer: filled(on, [0; BLOCK_BYTES])?,
        })
    }

    /// The tables over patch memory, and the layout of the vCPU page.
    pub fn memory(&mut self) -> Option<(PatchMemory<'_>, VcpuPageLayout)> {
        self.memory_and_buffer().map(|(memory, layout, _)| (memory, layout))
    }

    /// The same, and the buffer in which a block is generated.
    pub fn memory_and_buffer(&mut self) -> Option<(PatchMemory<'_>, VcpuPageLayout, &mut [u8; BLOCK_BYTES])> {
        let windows = self.windows.as_ref()?;
        let granules = self.granules.get_mut(..windows.entries * ENTRY_PAGES * PAGE_SIZE as usize / GRANULE)?;
        let memory = PatchMemory::new(windows.code.0, granules, &mut self.blocks, &mut self.hints);
        Some((memory, Self::layout(windows), self.buffer.first_mut()?))
    }

    /// Are the windows in place, and is there no reason to put them elsewhere?
    #[must_use]
    pub fn ready(&self, cpu: &VcpuState) -> bool {
        self.serves(cpu) && self.misplaced_for.is_none()
    }

    /// Are the windows in place, and can the code at hand use them?
    #[must_use]
    pub fn serves(&self, cpu: &VcpuState) -> bool {
        let (size, here) = (size_of(cpu), Gva(cpu.linear_rip()));
        let usable = self.windows.is_some_and(|windows| windows.serves(size) && windows.reach(here, size));
        usable && self.ring == self.model.kernel_ring(cpu)
    }

    /// The address space that `cpu` is in has something where a window is: may they move for it?
    pub fn may_move(&mut self, cpu: &VcpuState) -> bool {
        if cpu.paging() {
            return true;
        }
        let left = self.unpaged_moves_left;
        self.unpaged_moves_left = left.saturating_sub(1);
        left > 0
    }

    /// Are the windows where they are because that was a hole while paging was off, and it is on? A boot loader's place is not the one
    /// for the kernel that it has loaded.
    pub fn was_for_unpaged(&self, cpu: &VcpuState) -> bool {
        self.unpaged && self.windows.is_some() && cpu.paging()
    }

    /// Is there a window?
    #[must_use]
    pub fn placed(&self) -> bool {
        self.windows.is_some()
    }

    /// Bytes of code in blocks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A site's jump found no place: where the code is that keeps finding none, the windows may be moved for it.
    pub fn found_no_place(&mut self, at: Gva) {
        self.no_place = self.no_place.saturating_add(1);
        if self.no_place == MISPLACED && self.moves_left > 0 {
            self.misplaced_for = Some(at);
        }
    }

    /// Would the windows be better elsewhere, for code that found no place or for that at hand, which cannot use them? Where that
    /// code is, then. Answered once for code without a place.
    ///
    /// # Errors
    /// Host failures.
    pub fn better_elsewhere<H: Host>(
        &mut self,
        mmu: &Mmu,
        host: &mut H,
        cpu: &VcpuState,
    ) -> Result<Option<Gva>, MmuError> {
        let Some(now) = self.windows else { return Ok(None) };
        let serves = self.serves(cpu);
        let misplaced = self.misplaced_for.take();
        let Some(near) = misplaced.filter(|_| serves).or((!serves).then(|| Gva(cpu.linear_rip()))) else {
            return Ok(None);
        };
        // A guest that goes to and fro between kinds of code goes without.
        if self.moves_left == 0 {
            return Ok(None);
        }
        let mut occupied: Occupied = [false; 1024];
        if !mmu.occupied(host, cpu, window::base(near), &mut occupied)? {
            return Ok(None);
        }
        let size = size_of(cpu);
        let better = window::choose(&occupied, near, size)
            .is_some_and(|then| !serves || !now.reach(near, size) || then.fit > now.fit_for(near, size));
        self.moves_left = self.moves_left.saturating_sub(1);
        Ok(better.then_some(near))
    }

    /// Puts the windows into holes of the guest's, for the code around `near`. False: there are none.
    ///
    /// # Errors
    /// Host failures.
    #[inline(never)]
    pub fn place<H: Host>(
        &mut self,
        mmu: &mut Mmu,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        near: Gva,
    ) -> Result<bool, MmuError> {
        let mut occupied: Occupied = [false; 1024];
        let paging = mmu.occupied(host, cpu, window::base(near), &mut occupied)?;
        let Some(windows) = window::choose(&occupied, near, size_of(cpu)).filter(|_| paging) else {
            stats.count(Counter::RefusedNoHole);
            return Ok(false);
        };
        let page = match self.vcpu_page {
            Some(page) => page,
            None => *self.vcpu_page.insert(host.alloc_page().map_err(MmuError::Host)?),
        };
        let starts = [Some(windows.vcpu), windows.code_entry(0), windows.code_entry(1)];
        for (slot, start) in WindowSlot::ALL.into_iter().zip(starts) {
            mmu.set_overlay(host, stats, slot, start)?;
        }
        self.ring = self.model.kernel_ring(cpu);
        mmu.install_overlay_page(host, windows.vcpu, host.pfn(page), page_rights(self.ring))?;
        self.place_delivery(mmu, host, cpu, &windows)?;
        for (page, at) in self.pages.iter().zip(0..).take(windows.entries * ENTRY_PAGES) {
            if let Some(page) = page {
                let at = windows.code.add(PAGE_SIZE.wrapping_mul(at));
                mmu.install_overlay_page(host, at, host.pfn(*page), CODE_PAGE)?;
            }
        }
        self.windows = Some(windows);
        self.unpaged = !cpu.paging();
        Ok(true)
    }

    /// Takes the windows away. All jumps must have been taken back.
    ///
    /// # Errors
    /// Host failures.
    pub fn remove<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H, stats: &mut Stats) -> Result<(), MmuError> {
        if self.windows.take().is_some() {
            stats.count(Counter::HoleMoves);
            for slot in WindowSlot::ALL {
                mmu.set_overlay(host, stats, slot, None)?;
            }
            // Nothing of what was there is there any more.
            for page in self.pages.iter().flatten() {
                host.bytes(*page).fill(INT3);
            }
            // What found no place there may find one elsewhere.
            self.no_place = 0;
            self.misplaced_for = None;
            self.hints = SearchHints::default();
            self.heat.forget_sites();
        }
        Ok(())
    }

    /// Gives all pages back.
    pub fn free<H: Host>(&mut self, host: &mut H) {
        self.windows = None;
        for page in self
            .pages
            .drain(..)
            .flatten()
            .chain(self.vcpu_page.take())
            .chain(self.delivery.take().map(|(page, _)| page))
        {
            host.free_page(page);
        }
    }

    /// Frees the block that a jump led to.
    pub fn free_block(&mut self, address: u64) {
        if let Some((mut memory, _)) = self.memory() {
            if let Some((id, len)) = memory.find_block(address).map(|(id, block)| (id, block.len)) {
                memory.free(id);
                self.bytes = self.bytes.saturating_sub(u64::from(len));
            }
        }
    }

    /// Copies the block in the buffer, `len` bytes, to its address.
    ///
    /// # Errors
    /// No memory for a page of it; what was copied does no harm, as no jump leads there.
    pub fn write_code<H: Host>(
        &mut self,
        mmu: &mut Mmu,
        host: &mut H,
        address: u64,
        len: usize,
    ) -> Result<(), MmuError> {
        let (Some(windows), Some(buffer)) = (self.windows, self.buffer.first()) else {
            return Err(MmuError::BadOverlay);
        };
        self.bytes = self.bytes.wrapping_add(len as u64);
        let start = address.wrapping_sub(windows.code.0) as usize;
        for (at, byte) in (start..).zip(buffer.get(..len).unwrap_or(&[])) {
            let number = at / PAGE_SIZE as usize;
            let slot = self.pages.get_mut(number).ok_or(MmuError::BadOverlay)?;
            let page = match *slot {
                Some(page) => page,
                None => {
                    let page = host.alloc_page().map_err(MmuError::Host)?;
                    host.bytes(page).fill(INT3);
                    let gva = windows.code.add(PAGE_SIZE.wrapping_mul(number as u64));
                    if let Err(error) = mmu.install_overlay_page(host, gva, host.pfn(page), CODE_PAGE) {
                        host.free_page(page);
                        return Err(error);
                    }
                    *slot.insert(page)
                }
            };
            if let Some(to) = host.bytes(page).get_mut(at % PAGE_SIZE as usize) {
                *to = *byte;
            }
        }
        Ok(())
    }

    /// Where ring 0 finds the calls of blocks: the code of blocks, first address and length, and the vCPU page.
    pub fn calls<H: Host>(&self, host: &H) -> Option<([u64; 2], Hpa)> {
        let (windows, page) = (self.windows.as_ref()?, self.vcpu_page?);
        let len = (windows.entries * ENTRY_PAGES) as u64 * PAGE_SIZE;
        Some(([windows.code.0, len], host.hpa(page)))
    }

    /// Takes a CPU that stopped before the instruction at `rip` in a block to the guest boundary. False: there is no
    /// instruction of a block there; the guest jumped into patch memory by itself.
    pub fn recover<H: Host>(&mut self, host: &mut H, rip: u64, state: &mut BlockState) -> bool {
        let mut scratch = [0; SCRATCH_WORDS];
        for (i, word) in (0..).zip(scratch.iter_mut()) {
            *word = self.wide_field(host, SCRATCH.wrapping_add(i * 8));
        }
        state.vif = self.field(host, VIF);
        state.vflags = self.field(host, VFLAGS);
        state.shadow = self.wide_field(host, SHADOW);
        state.kernel_gs = self.wide_field(host, KERNEL_GS);
        let Some((memory, _)) = self.memory() else { return false };
        let Some((_, block)) = memory.find_block(rip) else { return false };
        let Some(entry) = block.map.at(rip.wrapping_sub(block.address) as u16) else { return false };
        entry.recover(block.code_size, block.page, &scratch, state);
        let (vif, vflags) = (state.vif, state.vflags);
        self.set_field(host, VIF, vif);
        self.set_field(host, VFLAGS, vflags);
        self.set_wide_field(host, SHADOW, state.shadow);
        self.set_wide_field(host, KERNEL_GS, state.kernel_gs);
        true
    }

    /// Does the address lie in patch memory?
    pub fn contains(&mut self, rip: u64) -> bool {
        self.memory().is_some_and(|(memory, _)| memory.contains(rip))
    }

    /// Where to enter the block at `block` to run the guest instruction at linear address `at`.
    pub fn enter_at(&mut self, block: u64, at: Gva) -> Option<u64> {
        let (memory, _) = self.memory()?;
        let (_, block) = memory.find_block(block)?;
        let offset = block.map.enter_at(at.0.wrapping_sub(block.page) as i32)?;
        Some(block.address.wrapping_add(u64::from(offset)))
    }
}
