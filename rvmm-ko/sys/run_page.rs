// SPDX-License-Identifier: GPL-2.0
//! The page of `kvm_run`, shared with the client, which may change any byte at any time.

use core::ptr::NonNull;
use kernel::bindings;
use kernel::mm::virt::VmaNew;
use kernel::page::Page;
use kernel::prelude::*;

extern "C" {
    fn rvmm_page_address(page: *mut bindings::page) -> *mut u8;
}

/// The page. All access is volatile, by offset, and copies what it reads once.
///
/// # Invariants
/// `base` is the direct-map address of `page`.
pub(crate) struct RunPage {
    page: Page,
    base: NonNull<u8>,
}

// SAFETY: volatile integer accesses only.
unsafe impl Send for RunPage {}
// SAFETY: as above; torn or stale values are the client's own doing.
unsafe impl Sync for RunPage {}

macro_rules! accessors {
    ($($read:ident $write:ident $ty:ty),+ $(,)?) => {$(
        /// Reads at a multiple of the type's size; 0 beyond the page.
        #[allow(dead_code)]
        pub(crate) fn $read(&self, offset: usize) -> $ty {
            const SIZE: usize = core::mem::size_of::<$ty>();
            if offset % SIZE != 0 || offset >= 4096 {
                return 0;
            }
            // SAFETY: by the invariant and the check the place is aligned and in the page.
            unsafe { self.base.as_ptr().add(offset).cast::<$ty>().read_volatile() }
        }

        /// Writes at a multiple of the type's size; ignored beyond the page.
        #[allow(dead_code)]
        pub(crate) fn $write(&self, offset: usize, value: $ty) {
            const SIZE: usize = core::mem::size_of::<$ty>();
            if offset % SIZE == 0 && offset < 4096 {
                // SAFETY: as for reading.
                unsafe { self.base.as_ptr().add(offset).cast::<$ty>().write_volatile(value) };
            }
        }
    )+};
}

impl RunPage {
    /// A zeroed page.
    pub(crate) fn new() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: a valid page without __GFP_HIGHMEM. INVARIANT: by definition of page_address.
        let base = NonNull::new(unsafe { rvmm_page_address(page.as_ptr()) }).ok_or(ENOMEM)?;
        Ok(Self { page, base })
    }

    accessors!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

    /// Maps the page. EINVAL unless the mapping is one page at offset 0.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        // SAFETY: the area is being set up, so nobody else changes it.
        let offset = unsafe { (*vma.as_ptr()).vm_pgoff };
        if offset != 0 || vma.end().wrapping_sub(vma.start()) != 4096 {
            return Err(EINVAL);
        }
        vma.set_dontexpand();
        vma.set_mixedmap().vm_insert_page(vma.start(), &self.page)
    }
}
