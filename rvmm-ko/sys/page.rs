// SPDX-License-Identifier: GPL-2.0
//! Pages of the host, always reachable through the direct map.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::bindings;
use kernel::prelude::*;

extern "C" {
    /// Start of the direct map (the kernel exports it; it moves with KASLR).
    static page_offset_base: usize;
}

/// Physical address of an address in the direct map.
pub(crate) fn direct_map_to_phys(va: usize) -> u64 {
    // SAFETY: the kernel sets the variable once, long before any module is loaded.
    va.wrapping_sub(unsafe { page_offset_base }) as u64
}

/// Address in the direct map of a physical address.
pub(crate) fn phys_to_direct_map(pa: u64) -> usize {
    // SAFETY: as above.
    (pa as usize).wrapping_add(unsafe { page_offset_base })
}

/// A zeroed page of the host, freed with its owner.
///
/// # Invariants
/// The pointer is the direct-map address of one whole page that this value alone owns. Hardware may read and write it too (page
/// tables, descriptor tables), so table entries are accessed atomically.
pub(crate) struct OwnedPage(NonNull<u8>);

// SAFETY: the page belongs to the value and to no thread.
unsafe impl Send for OwnedPage {}
// SAFETY: shared access goes through atomics only.
unsafe impl Sync for OwnedPage {}

impl OwnedPage {
    /// A zeroed page, charged to the current task's memory group.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: no precondition; 0 on failure.
        let va = unsafe { bindings::get_free_pages_noprof(bindings::GFP_KERNEL_ACCOUNT | bindings::__GFP_ZERO, 0) };
        // INVARIANT: an order-0 allocation without __GFP_HIGHMEM is one page in the direct map, ours until freed.
        NonNull::new(va as *mut u8).map(Self).ok_or(ENOMEM)
    }

    /// Its address in the direct map.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// Its physical address.
    pub(crate) fn phys(&self) -> u64 {
        direct_map_to_phys(self.0.as_ptr().addr())
    }

    /// Its bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8; 4096] {
        // SAFETY: by the invariant the page is valid for its whole size, and `&mut self` makes this the only Rust reference.
        unsafe { self.0.cast().as_mut() }
    }

    fn entry(&self, index: usize) -> Option<&AtomicU64> {
        if index < 512 {
            // SAFETY: by the invariant the page is valid, and index * 8 + 8 lies in it; u64 entries are aligned.
            Some(unsafe { &*self.0.as_ptr().cast::<AtomicU64>().add(index) })
        } else {
            None
        }
    }

    /// Entry `index` of a table page; 0 beyond its end.
    pub(crate) fn read_entry(&self, index: usize) -> u64 {
        self.entry(index).map_or(0, |e| e.load(Ordering::Relaxed))
    }

    /// Sets entry `index` in one store; ignored beyond the end.
    pub(crate) fn write_entry(&self, index: usize, value: u64) {
        if let Some(e) = self.entry(index) {
            e.store(value, Ordering::Release);
        }
    }
}

impl Drop for OwnedPage {
    fn drop(&mut self) {
        // SAFETY: by the invariant this is the page `new` got, freed once.
        unsafe { bindings::free_pages(self.0.as_ptr().addr(), 0) }
    }
}
