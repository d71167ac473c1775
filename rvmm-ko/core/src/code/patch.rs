//! Patch memory, where patch blocks live, and the patch-visible vCPU page, in the guest's linear space.
//!
//! Their windows are holes in the guest's own tables, present in kernel roots only. When the guest maps something there they
//! move, with all jumps taken back; where there is no hole, sites keep their int3. Blocks are execute-only like views.
//! The vCPU page can be written by the guest's kernel, so nothing in it is trusted: it holds flags and selectors that
//! only the guest itself would suffer from.

use alloc::vec::Vec;

use rvmm_arch::host::{
    BlockCall, BlockEvent, Host, HostError, HostPage, BLOCK_CALL, BLOCK_EVENT, VCPU_CR2, VCPU_FLAGS, VCPU_IF,
    VCPU_WORDS,
};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::SegReg;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Gva, Hpa, Model, VcpuState, PAGE_SIZE};
use rvmm_mmu::{Mmu, MmuError, Occupied, OverlayAccess, WindowSlot};
use rvmm_patcher::block::{
    self, BlockState, VcpuPageLayout, CALL_WORD, EVENT_WORDS, NO_RETURN, NO_SHADOW, SCRATCH_WORDS,
};
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints, GRANULE};
use rvmm_patcher::tactic::BLOCK_BYTES;
use rvmm_patcher::{CodeSize, TacticSet};

use super::view::code_size;
use super::window::{self, Windows, CODE_ENTRIES};
use crate::direct::VIEW_PKEY;
use crate::segments::PRIVATE_SS;
use crate::syscall::canonical;

/// Pages that one directory entry spans.
const ENTRY_PAGES: usize = 1024;
/// Pages of patch memory. A block's place is chosen by what the displacement of its jump must be, so blocks are spread, and
/// pages are taken as they are needed.
const CODE_PAGES: usize = CODE_ENTRIES * ENTRY_PAGES;
/// Blocks at a time.
const BLOCKS: usize = 12_288;
const INT3: u8 = 0xcc;

// The fields of the vCPU page, byte offsets: four bytes each, and eight from SHADOW on.
const VIF: u16 = 0;
const PENDING: u16 = 4;
const VFLAGS: u16 = 8;
const CS: u16 = 12;
const SS: u16 = 16;
const RETURN_CS: u16 = 20;
const SHADOW: u16 = 24;
const CONTROL: u16 = 32;
const KERNEL_GS: u16 = 64;
const PROGRAM: u16 = 72;
const SCRATCH: u16 = 88;
const EVENT: u16 = 176;
const RELOAD: u16 = 232;
const WRITABLE: u16 = 328;
/// The switcher reads the call of a block and the virtual flags, and writes what comes before `CONTROL`, and an event.
const _: () = {
    assert!(SCRATCH as usize + 8 * CALL_WORD == BLOCK_CALL);
    assert!(CONTROL as usize == 8 * VCPU_WORDS);
    assert!(CONTROL as usize + 8 == VCPU_CR2);
    assert!(VIF as usize == VCPU_IF && VFLAGS as usize == VCPU_FLAGS);
    assert!(core::mem::size_of::<BlockCall>() == 8 * (SCRATCH_WORDS - CALL_WORD));
    assert!(BlockCall::BY_SYSRETQ == block::BY_SYSRETQ && BlockCall::BY_IRETQ == block::BY_IRETQ);
    assert!(BlockCall::BY_SYSRETL == block::BY_SYSRETL && BlockCall::BY_IRETQ_COMPAT == block::BY_IRETQ_COMPAT);
    assert!(BlockCall::BY_SYSEXIT == block::BY_SYSEXIT);
    assert!(EVENT as usize == BLOCK_EVENT && EVENT as usize >= SCRATCH as usize + 8 * SCRATCH_WORDS);
    assert!(core::mem::size_of::<BlockEvent>() == 8 * EVENT_WORDS);
    assert!(block::CALL_VECTOR == rvmm_arch::host::CALL_VECTOR);
    assert!(RELOAD as usize >= EVENT as usize + 8 * EVENT_WORDS);
    assert!(WRITABLE as usize >= RELOAD as usize + 8 * block::RELOAD_WORDS);
    assert!(RELOAD_AT as usize + block::RELOAD_BYTES <= PAGE_SIZE as usize);
};

/// Offset of the block that loads null selectors again, behind those that push frames.
const RELOAD_AT: u64 = 128;

/// The virtual flags beside IF.
const VIRTUAL: Rflags = Rflags::IOPL.union(Rflags::AC);

/// The vCPU page's rights for guest-kernel code that runs in `ring`.
const fn vcpu_page(ring: u8) -> OverlayAccess {
    OverlayAccess { write: true, execute: false, user: ring == 3, pkey: 0 }
}
/// The rights of patch memory.
const CODE_PAGE: OverlayAccess = OverlayAccess { write: false, execute: true, user: true, pkey: VIEW_PKEY };

/// Slots of the table that tells how often a site was hit; a collision starts anew.
const HEAT_SLOTS: usize = 1 << 14;
/// Hits after which a site gets a block.
const HOT: u8 = 4;
/// Arrivals at a moved instruction, each of which traps on the jump that covers it, after which the jump is taken back.
const WINDOW_HITS: u8 = 32;
/// Never try again: every tactic refused.
const REFUSED: u8 = u8::MAX;
/// … of a site whose jump was taken back.
const NO_JUMP: u8 = REFUSED - 1;
/// Refusals for want of a place after which another window is considered.
const MISPLACED: u16 = 32;
/// Moves of that kind in the life of a VM: each costs all that was patched.
const MAX_MOVES: u8 = 4;

/// Moves for code without paging, in the life of a VM: a guest that goes to and fro between paging and none, with tables that have something
/// where the one has a hole for the other, goes without blocks while paging is off.
const MAX_UNPAGED_MOVES: u8 = 8;

/// Does an event wait for the guest, so that a block that opens interrupts must ask for an exit?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// Nothing waits.
    Nothing,
    /// An interrupt, an NMI, or the client for the interrupt window.
    Event,
}

/// Who does an IRET that stays in the guest's ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    /// Its block, if the flags in the frame are usual.
    Native,
    /// The VMM: there is more to do than a block knows.
    Vmm,
}

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
    heat: Vec<(u64, u8)>,
    /// The same for arrivals in the middle of a jump window.
    window_heat: Vec<(u64, u8)>,
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

/// What to do about a site that was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heat {
    /// Nothing yet.
    Cold,
    /// It is to have a block, if it can.
    Hot,
    /// Likewise, but no jump.
    NoJump,
    /// Nothing any more.
    Refused,
}

/// A slot of the tables of heat.
const fn hash(at: u64) -> usize {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % HEAT_SLOTS
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
            heat: filled(on * HEAT_SLOTS, (0, 0))?,
            window_heat: filled(on * HEAT_SLOTS, (0, 0))?,
            buffer: filled(on, [0; BLOCK_BYTES])?,
        })
    }

    /// Where the vCPU page is, for blocks.
    fn layout(windows: &Windows) -> VcpuPageLayout {
        VcpuPageLayout {
            linear: windows.vcpu.0,
            vif: VIF,
            pending: PENDING,
            shadow: SHADOW,
            vflags: VFLAGS,
            cs: CS,
            ss: SS,
            return_cs: RETURN_CS,
            control: CONTROL,
            kernel_gs: KERNEL_GS,
            program: PROGRAM,
            scratch: SCRATCH,
            event: EVENT,
            writable: WRITABLE,
        }
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
        mmu.install_overlay_page(host, windows.vcpu, host.pfn(page), vcpu_page(self.ring))?;
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

    /// The blocks that push the frames of events, and for a 64-bit kernel the one that loads null selectors again, on the page behind the
    /// vCPU page.
    fn place_delivery<H: Host>(
        &mut self,
        mmu: &mut Mmu,
        host: &mut H,
        cpu: &VcpuState,
        windows: &Windows,
    ) -> Result<(), MmuError> {
        let page = match self.delivery {
            Some((page, _)) => page,
            None => host.alloc_page().map_err(MmuError::Host)?,
        };
        self.delivery = Some((page, size_of(cpu)));
        Self::write_delivery(host, windows, page, size_of(cpu));
        mmu.install_overlay_page(host, Self::delivery_at(windows), host.pfn(page), CODE_PAGE)
    }

    fn write_delivery<H: Host>(host: &mut H, windows: &Windows, page: HostPage, size: CodeSize) {
        let at = Self::delivery_at(windows);
        let code = host.bytes(page);
        code.fill(INT3);
        // Always in reach, being the next page.
        let _near = block::deliver(&Self::layout(windows), size, at.0, code);
        if let Some(code) = code.get_mut(RELOAD_AT as usize..).filter(|_| size == CodeSize::Bits64) {
            let words = windows.vcpu.0.wrapping_add(RELOAD.into());
            let _near = block::reload(words, at.0.wrapping_add(RELOAD_AT), code);
        }
    }

    /// Windows below 4 GiB that were placed for 32-bit code serve 64-bit code as well, and blocks of either size: these must be the kernel's.
    pub fn refit_delivery<H: Host>(&mut self, host: &mut H, cpu: &VcpuState) {
        let (size, windows) = (size_of(cpu), self.windows);
        if let (Some(windows), Some((page, written))) = (windows, &mut self.delivery) {
            if *written != size {
                *written = size;
                Self::write_delivery(host, &windows, *page, size);
            }
        }
    }

    const fn delivery_at(windows: &Windows) -> Gva {
        Gva(windows.vcpu.0.wrapping_add(PAGE_SIZE))
    }

    /// Where the block is that pushes the frame of an event with an error code, and the one without.
    pub fn delivery(&self) -> Option<[u64; 2]> {
        let (windows, _) = (self.windows.as_ref()?, self.delivery?);
        let at = Self::delivery_at(windows).0;
        Some([at, at.wrapping_add(block::WITHOUT_ERROR)])
    }

    /// Is `rip` in one of those blocks?
    pub fn delivers(&self, rip: u64) -> bool {
        self.delivery().is_some_and(|[at, _]| rip.wrapping_sub(at) < RELOAD_AT)
    }

    /// Where the block is that loads null selectors again.
    fn reload_at(&self) -> Option<u64> {
        let (_, size) = self.delivery?;
        let [at, _] = self.delivery().filter(|_| size == CodeSize::Bits64 && self.ring == 3)?;
        Some(at.wrapping_add(RELOAD_AT))
    }

    /// Is there such a block?
    pub fn can_reload(&self) -> bool {
        self.reload_at().is_some()
    }

    /// Is `rip` in it?
    pub fn reloads(&self, rip: u64) -> bool {
        self.reload_at().is_some_and(|at| rip.wrapping_sub(at) < block::RELOAD_BYTES as u64)
    }

    /// Puts what it loads into the vCPU page. Where to enter.
    pub fn lend_reload<H: Host>(&self, host: &mut H, what: &block::Reload) -> Option<u64> {
        let (words, entry) = what.words(self.reload_at()?);
        for (word, at) in words.into_iter().zip((RELOAD..).step_by(8)) {
            self.set_wide_field(host, at, word);
        }
        Some(entry)
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
            self.heat.fill((0, 0));
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

    fn heat_slot(&mut self, at: u64) -> Option<&mut (u64, u8)> {
        self.heat.get_mut(hash(at))
    }

    /// The site at a linear address was hit: is it time for a block?
    pub fn met(&mut self, at: Gva) -> Heat {
        let at = at.0;
        let Some(slot) = self.heat_slot(at) else { return Heat::Cold };
        if slot.0 != at {
            *slot = (at, 0);
        }
        match slot.1 {
            REFUSED => Heat::Refused,
            NO_JUMP => Heat::NoJump,
            n => {
                slot.1 = n.wrapping_add(1).min(NO_JUMP - 1);
                if slot.1 >= HOT {
                    Heat::Hot
                } else {
                    Heat::Cold
                }
            }
        }
    }

    /// Execution arrived at `at`, which a jump covers: has that happened so often that the jump costs more than it saves?
    pub fn window_hit(&mut self, at: Gva) -> bool {
        let at = at.0;
        let Some(slot) = self.window_heat.get_mut(hash(at)) else { return false };
        if slot.0 != at {
            *slot = (at, 0);
        }
        slot.1 = slot.1.saturating_add(1);
        slot.1 > WINDOW_HITS
    }

    /// A jump at this address was taken back.
    pub fn no_jump(&mut self, at: Gva) {
        let at = at.0;
        if let Some(slot) = self.heat_slot(at) {
            *slot = (at, NO_JUMP);
        }
    }

    /// No tactic but int3 applies at this address.
    pub fn refused(&mut self, at: Gva) {
        let at = at.0;
        if let Some(slot) = self.heat_slot(at) {
            *slot = (at, REFUSED);
        }
    }

    fn field<H: Host>(&self, host: &mut H, offset: u16) -> u32 {
        let Some(page) = self.vcpu_page else { return 0 };
        let at = usize::from(offset);
        let bytes = host.bytes(page).get(at..at.wrapping_add(4)).and_then(|b| <[u8; 4]>::try_from(b).ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn set_field<H: Host>(&self, host: &mut H, offset: u16, value: u32) {
        let Some(page) = self.vcpu_page else { return };
        let at = usize::from(offset);
        if let Some(slot) = host.bytes(page).get_mut(at..at.wrapping_add(4)) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn wide_field<H: Host>(&self, host: &mut H, offset: u16) -> u64 {
        let [low, high] = [0, 4].map(|half| u64::from(self.field(host, offset.wrapping_add(half))));
        high << 32 | low
    }

    fn set_wide_field<H: Host>(&self, host: &mut H, offset: u16, value: u64) {
        self.set_field(host, offset, value as u32);
        self.set_field(host, offset.wrapping_add(4), (value >> 32) as u32);
    }

    /// Before guest-kernel code runs: what blocks may read. `waits`: an event does; `returns`: who does an IRET to the guest's
    /// own CS; `writable`: where the word is that a VERW finds to name a segment that ring 0 may write.
    pub fn lend<H: Host>(&self, host: &mut H, cpu: &VcpuState, waits: Waits, returns: Returns, writable: Option<u64>) {
        for (word, at) in Self::words(cpu, waits, returns).into_iter().zip((VIF..).step_by(8)) {
            self.set_wide_field(host, at, word);
        }
        self.lend_program(host, None);
        let control = [cpu.cr0.bits(), cpu.cr2, cpu.cr3, cpu.cr4.bits()];
        for (value, at) in control.into_iter().zip((CONTROL..).step_by(8)) {
            self.set_wide_field(host, at, value);
        }
        self.set_wide_field(host, KERNEL_GS, cpu.msrs.kernel_gs_base);
        self.set_wide_field(host, WRITABLE, writable.unwrap_or(0));
        self.set_field(host, WRITABLE + 8, u32::from(PRIVATE_SS << 3 | u16::from(self.ring)));
    }

    /// What comes before `CONTROL` in the vCPU page.
    pub fn words(cpu: &VcpuState, waits: Waits, returns: Returns) -> [u64; VCPU_WORDS] {
        let selector = |reg| u64::from(cpu.segment(reg).selector.0);
        let return_cs = match returns {
            Returns::Native => selector(SegReg::Cs),
            Returns::Vmm => u64::from(NO_RETURN),
        };
        let mut words = [0; VCPU_WORDS];
        for (at, value) in [
            (VIF, (cpu.rflags & Rflags::IF).bits()),
            (PENDING, u64::from(waits == Waits::Event)),
            (VFLAGS, (cpu.rflags & VIRTUAL).bits()),
            (CS, selector(SegReg::Cs)),
            (SS, selector(SegReg::Ss)),
            (RETURN_CS, return_cs),
            (SHADOW, if cpu.shadow == InterruptShadow::None { NO_SHADOW } else { cpu.rip }),
        ] {
            if let Some(word) = words.get_mut(usize::from(at / 8)) {
                *word |= value << (at % 8 * 8);
            }
        }
        words
    }

    /// The program's CS and SS, and CS of compatibility code (0: none), with which an IRET may call ring 0; `None`: none.
    pub fn lend_program<H: Host>(&self, host: &mut H, program: Option<[u16; 3]>) {
        let field = |selector| if selector == 0 { NO_RETURN } else { u32::from(selector) };
        let fields = program.map_or([NO_RETURN; 3], |sel| sel.map(field));
        for (value, at) in fields.into_iter().zip((PROGRAM..).step_by(4)) {
            self.set_field(host, at, value);
        }
    }

    /// Where ring 0 finds the calls of blocks: the code of blocks, first address and length, and the vCPU page.
    pub fn calls<H: Host>(&self, host: &H) -> Option<([u64; 2], Hpa)> {
        let (windows, page) = (self.windows.as_ref()?, self.vcpu_page?);
        let len = (windows.entries * ENTRY_PAGES) as u64 * PAGE_SIZE;
        Some(([windows.code.0, len], host.hpa(page)))
    }

    /// After a turn back: what of the kernel's blocks outlives the kernel.
    pub fn take_back_from_program<H: Host>(&self, host: &mut H, cpu: &mut VcpuState) {
        let gs = self.wide_field(host, KERNEL_GS);
        // 32-bit kernels have no SWAPGS.
        if cpu.long_mode() && canonical(gs) {
            cpu.msrs.kernel_gs_base = gs;
        }
    }

    /// After guest-kernel code has run, with registers already at a guest boundary: takes the virtual flags back.
    pub fn take_back<H: Host>(&self, host: &mut H, cpu: &mut VcpuState) {
        let vif = Rflags::from_bits_retain(u64::from(self.field(host, VIF))) & Rflags::IF;
        let vflags = Rflags::from_bits_retain(u64::from(self.field(host, VFLAGS))) & VIRTUAL;
        cpu.rflags = (cpu.rflags - Rflags::IF - VIRTUAL) | vif | vflags;
        // A shadow that is still there is that of the instruction at which the CPU was entered and stopped again.
        let mask = if size_of(cpu) == CodeSize::Bits64 { u64::MAX } else { 0xffff_ffff };
        let shadowed = (self.wide_field(host, SHADOW) ^ cpu.rip) & mask == 0 && vif == Rflags::IF;
        if cpu.shadow == InterruptShadow::None && shadowed {
            cpu.shadow = InterruptShadow::Sti;
        }
        // 32-bit code has no SWAPGS. An address that is not canonical can only have been scribbled there.
        let gs = self.wide_field(host, KERNEL_GS);
        if size_of(cpu) == CodeSize::Bits64 && canonical(gs) {
            cpu.msrs.kernel_gs_base = gs;
        }
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
