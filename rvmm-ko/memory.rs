// SPDX-License-Identifier: GPL-2.0
//! Memslots: which client memory stands behind which guest frames (KVM_SET_USER_MEMORY_REGION).

use crate::kvm_abi::{MemoryRegion, MEM_READONLY};
use crate::sys::pin::{self, PinnedRange};
use crate::sys::task::AddressSpace;
use kernel::prelude::*;
use rvmm_arch::host::{Backing, GuestMemory, HostError};
use rvmm_arch::{Gfn, Gpa, Pfn};

/// Memslots of a VM; KVM_CAP_NR_MEMSLOTS.
pub(crate) const MAX_SLOTS: u32 = 512;
/// KVM_MEM_MAX_NR_PAGES.
const MAX_PAGES: u64 = (1 << 31) - 1;

struct Slot {
    id: u32,
    base: u64,
    readonly: bool,
    range: PinnedRange,
}

impl Slot {
    fn end(&self) -> u64 {
        self.base.wrapping_add(self.range.len())
    }
}

/// What a region call is to do, decided before anything changes.
pub(crate) enum Change {
    /// Nothing differs.
    None,
    /// A new slot.
    Create,
    /// The slot goes.
    Delete,
    /// The slot goes to other guest addresses.
    Move,
}

/// The guest's physical memory.
#[derive(Default)]
pub(crate) struct Memory {
    /// In no order; few.
    slots: KVec<Slot>,
    /// The slot that was hit last.
    recent: usize,
}

impl Memory {
    fn find_id(&self, id: u32) -> Option<&Slot> {
        self.slots.iter().find(|s| s.id == id)
    }

    /// Guest frames of a slot.
    pub(crate) fn extent(&self, id: u32) -> Option<(Gfn, u64)> {
        self.find_id(id).map(|s| (Gfn(s.base), s.range.len()))
    }

    /// Pages pinned now.
    pub(crate) fn pinned(&self) -> u64 {
        self.slots.iter().fold(0, |n: u64, s| n.wrapping_add(s.range.pinned()))
    }

    /// Judges a region as KVM does: EINVAL, EEXIST, or what is to be done.
    pub(crate) fn check(&self, r: &MemoryRegion) -> Result<Change> {
        let pages = r.memory_size >> 12;
        let misaligned = (r.memory_size | r.guest_phys_addr | r.userspace_addr) & 0xfff != 0;
        let hva_end = r.userspace_addr.checked_add(r.memory_size);
        let gpa_end = r.guest_phys_addr.checked_add(r.memory_size);
        if r.flags & !MEM_READONLY != 0
            || misaligned
            || r.slot >= MAX_SLOTS
            || pages > MAX_PAGES
            || gpa_end.is_none()
            || !hva_end.is_some_and(|end| end <= 1 << 56)
        {
            return Err(EINVAL);
        }
        let old = self.find_id(r.slot);
        if pages == 0 {
            return if old.is_some() { Ok(Change::Delete) } else { Err(EINVAL) };
        }
        let base = r.guest_phys_addr >> 12;
        let readonly = r.flags & MEM_READONLY != 0;
        let change = match old {
            None => Change::Create,
            Some(s) if s.range.len() != pages || s.readonly != readonly || s.range.hva() != r.userspace_addr => {
                return Err(EINVAL)
            }
            Some(s) if s.base == base => return Ok(Change::None),
            Some(_) => Change::Move,
        };
        let end = base.wrapping_add(pages);
        if self.slots.iter().any(|s| s.id != r.slot && base < s.end() && s.base < end) {
            return Err(EEXIST);
        }
        Ok(change)
    }

    /// Adds a checked region.
    pub(crate) fn create(&mut self, owner: &AddressSpace, r: &MemoryRegion) -> Result {
        let readonly = r.flags & MEM_READONLY != 0;
        let range = PinnedRange::new(owner, r.userspace_addr, (r.memory_size >> 12) as usize, !readonly)?;
        self.slots.push(Slot { id: r.slot, base: r.guest_phys_addr >> 12, readonly, range }, GFP_KERNEL)?;
        Ok(())
    }

    /// Moves a checked region.
    pub(crate) fn relocate(&mut self, r: &MemoryRegion) {
        if let Some(s) = self.slots.iter_mut().find(|s| s.id == r.slot) {
            s.base = r.guest_phys_addr >> 12;
        }
    }

    /// Removes a slot and unpins its pages. No table may map them any more.
    pub(crate) fn delete(&mut self, id: u32) {
        if let Some(at) = self.slots.iter().position(|s| s.id == id) {
            let gone = self.slots.remove(at);
            drop(gone);
        }
    }

    /// Is any of `count` frames from `first` on in a slot?
    fn overlaps(&self, first: Gfn, count: u64) -> bool {
        let end = first.0.saturating_add(count);
        self.slots.iter().any(|s| s.base < end && first.0 < s.end())
    }

    fn slot_of(&mut self, gfn: Gfn) -> Option<&mut Slot> {
        let holds = |s: &Slot| s.base <= gfn.0 && gfn.0 < s.end();
        if !self.slots.get(self.recent).is_some_and(holds) {
            self.recent = self.slots.iter().position(holds)?;
        }
        self.slots.get_mut(self.recent)
    }

    /// The frame, pinned if it was not.
    fn frame(&mut self, gfn: Gfn) -> Result<Frame, HostError> {
        match self.slot_of(gfn) {
            None => Ok(None),
            Some(s) => {
                let readonly = s.readonly;
                s.range.frame(gfn.0.wrapping_sub(s.base)).map(|pfn| Some((pfn, readonly)))
            }
        }
    }
}

/// A frame and whether it is read-only; `None` where there is no slot.
type Frame = Option<(u32, bool)>;

fn backing(frame: Frame) -> Backing {
    match frame {
        None => Backing::Mmio,
        Some((pfn, readonly)) => Backing::Ram { pfn: Pfn(u64::from(pfn)), readonly },
    }
}

fn read(frame: Frame, gpa: Gpa, buf: &mut [u8]) -> bool {
    frame.map(|(pfn, _)| pin::read_frame(pfn, gpa.offset(), buf)).is_some()
}

fn write(frame: Frame, gpa: Gpa, data: &[u8]) -> bool {
    let writable = frame.filter(|(_, readonly)| !readonly);
    writable.map(|(pfn, _)| pin::write_frame(pfn, gpa.offset(), data)).is_some()
}

fn compare_exchange(frame: Frame, gpa: Gpa, size: u8, old: u64, new: u64) -> bool {
    let writable = frame.filter(|(_, readonly)| !readonly);
    writable.is_some_and(|(pfn, _)| pin::compare_exchange_frame(pfn, gpa.offset(), size, old, new))
}

impl GuestMemory for Memory {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.frame(gfn).map(backing)
    }

    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| read(frame, gpa, buf))
    }

    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| write(frame, gpa, data))
    }

    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| compare_exchange(frame, gpa, size, old, new))
    }

    fn has_memory(&mut self, first: Gfn, count: u64) -> bool {
        self.overlaps(first, count)
    }
}

/// The same memory where nothing can be pinned, as that may sleep: a page that is not is an error.
pub(crate) struct OnlyPinned<'a>(pub(crate) &'a mut Memory);

impl OnlyPinned<'_> {
    fn frame(&mut self, gfn: Gfn) -> Result<Frame, HostError> {
        let Some(s) = self.0.slot_of(gfn) else { return Ok(None) };
        let pfn = s.range.pinned_frame(gfn.0.wrapping_sub(s.base)).ok_or(HostError::BadClientMemory)?;
        Ok(Some((pfn, s.readonly)))
    }
}

impl GuestMemory for OnlyPinned<'_> {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.frame(gfn).map(backing)
    }

    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| read(frame, gpa, buf))
    }

    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| write(frame, gpa, data))
    }

    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        self.frame(gpa.frame()).map(|frame| compare_exchange(frame, gpa, size, old, new))
    }

    fn has_memory(&mut self, first: Gfn, count: u64) -> bool {
        self.0.overlaps(first, count)
    }
}
