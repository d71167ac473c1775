// SPDX-License-Identifier: GPL-2.0
//! Client memory pinned for the guest: page by page on first use, all given back when the range goes.

use super::page::phys_to_direct_map;
use super::task::{cond_resched, AddressSpace};
use kernel::alloc::flags::{__GFP_NOWARN, GFP_KERNEL_ACCOUNT};
use kernel::bindings;
use kernel::ffi::{c_int, c_ulong};
use kernel::prelude::*;
use rvmm_arch::host::HostError;

extern "C" {
    fn pin_user_pages_fast(start: c_ulong, count: c_int, flags: u32, pages: *mut *mut bindings::page) -> c_int;
    fn account_locked_vm(mm: *mut bindings::mm_struct, pages: c_ulong, inc: bool) -> c_int;
    fn rvmm_page_to_pfn(page: *mut bindings::page) -> c_ulong;
    fn rvmm_unpin(pfn: c_ulong, dirty: bool);
}

/// FOLL_WRITE and FOLL_LONGTERM of include/linux/mm_types.h.
const FOLL_WRITE: u32 = 1;
const FOLL_LONGTERM: u32 = 1 << 8;

/// A range of client memory.
///
/// # Invariants
/// A nonzero entry of `pfns` is a page frame on which this value holds a long-term pin. The whole range is charged to the owner's
/// locked memory.
pub(crate) struct PinnedRange {
    owner: AddressSpace,
    /// First address in the client, page-aligned.
    hva: u64,
    /// Frame numbers, 0 while not pinned. 32 bits reach 16 TiB.
    pfns: KVVec<u32>,
    /// Pages charged to the owner.
    charged: usize,
    writable: bool,
    pinned: u64,
}

impl PinnedRange {
    /// A range of `count` pages. ENOMEM beyond the client's RLIMIT_MEMLOCK.
    pub(crate) fn new(owner: &AddressSpace, hva: u64, count: usize, writable: bool) -> Result<Self> {
        // First of all, so that what the client may not lock costs the host nothing: a call can name terabytes.
        // SAFETY: the address space is valid; no lock of it is held.
        kernel::error::to_result(unsafe { account_locked_vm(owner.as_ptr(), count, true) })?;
        // From here on a failure drops it.
        let mut range = Self { owner: owner.share(), hva, pfns: KVVec::new(), charged: count, writable, pinned: 0 };
        range.pfns.resize(count, 0, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        Ok(range)
    }

    /// Pages.
    pub(crate) fn len(&self) -> u64 {
        self.pfns.len() as u64
    }

    /// First address in the client.
    pub(crate) fn hva(&self) -> u64 {
        self.hva
    }

    /// Pages pinned now.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// The frame behind page `index` of the range, if it is pinned already.
    pub(crate) fn pinned_frame(&self, index: u64) -> Option<u32> {
        self.pfns.get(index as usize).copied().filter(|pfn| *pfn != 0)
    }

    /// The frame behind page `index` of the range, pinned on first use; only in the owner's context.
    pub(crate) fn frame(&mut self, index: u64) -> Result<u32, HostError> {
        let Some(entry) = self.pfns.get_mut(index as usize) else { return Err(HostError::BadClientMemory) };
        if *entry != 0 {
            return Ok(*entry);
        }
        if !self.owner.is_current() {
            return Err(HostError::BadClientMemory);
        }
        let mut page = core::ptr::null_mut();
        let flags = FOLL_LONGTERM | if self.writable { FOLL_WRITE } else { 0 };
        let address = self.hva.wrapping_add(index << 12);
        // SAFETY: may sleep here; room for one page; the address is checked by the kernel.
        let got = unsafe { pin_user_pages_fast(address as c_ulong, 1, flags, &mut page) };
        match got {
            1 => {}
            e if e == -(bindings::ENOMEM as c_int) => return Err(HostError::NoMemory),
            _ => return Err(HostError::BadClientMemory),
        }
        // SAFETY: the page was just pinned.
        let pfn = unsafe { rvmm_page_to_pfn(page) };
        match u32::try_from(pfn) {
            Ok(pfn) if pfn != 0 => {
                // INVARIANT: the pin taken above.
                *entry = pfn;
                self.pinned = self.pinned.wrapping_add(1);
                Ok(pfn)
            }
            _ => {
                // SAFETY: gives back the pin taken above.
                unsafe { rvmm_unpin(pfn, false) };
                Err(HostError::BadClientMemory)
            }
        }
    }
}

impl Drop for PinnedRange {
    fn drop(&mut self) {
        for some in self.pfns.chunks(1024) {
            for pfn in some.iter().filter(|p| **p != 0) {
                // SAFETY: by the invariant the pin is ours; no table maps the page any more (the vCPU has dropped the range).
                unsafe { rvmm_unpin(*pfn as c_ulong, self.writable) };
            }
            cond_resched();
        }
        // SAFETY: as in `new`; takes back what that has charged.
        unsafe { account_locked_vm(self.owner.as_ptr(), self.charged, false) };
    }
}

/// Copies from a pinned frame. `offset + buf.len()` is at most 4096, else nothing happens.
pub(crate) fn read_frame(pfn: u32, offset: usize, buf: &mut [u8]) {
    if offset.checked_add(buf.len()).is_some_and(|end| end <= 4096) {
        let from = phys_to_direct_map(u64::from(pfn) << 12).wrapping_add(offset) as *const u8;
        // SAFETY: the frame is pinned RAM, in the direct map, and the range lies in it. The client and the guest may write it at the
        // same time; the kernel's memory model allows such copies, as copy_from_user's.
        unsafe { core::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
    }
}

/// Copies to a pinned, writable frame, under the same bounds.
pub(crate) fn write_frame(pfn: u32, offset: usize, data: &[u8]) {
    if offset.checked_add(data.len()).is_some_and(|end| end <= 4096) {
        let to = phys_to_direct_map(u64::from(pfn) << 12).wrapping_add(offset) as *mut u8;
        // SAFETY: as for reading.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
    }
}

/// Replaces 4 or 8 aligned bytes if they still are `old`.
pub(crate) fn compare_exchange_frame(pfn: u32, offset: usize, size: u8, old: u64, new: u64) -> bool {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
    let at = phys_to_direct_map(u64::from(pfn) << 12).wrapping_add(offset);
    match size {
        // SAFETY: the frame is pinned RAM in the direct map, the place aligned and inside.
        4 if offset % 4 == 0 && offset < 4096 => unsafe {
            (*(at as *const AtomicU32)).compare_exchange(old as u32, new as u32, SeqCst, SeqCst).is_ok()
        },
        // SAFETY: as above.
        8 if offset % 8 == 0 && offset < 4096 => unsafe {
            (*(at as *const AtomicU64)).compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        },
        _ => false,
    }
}
