// SPDX-License-Identifier: GPL-2.0
//! The VM's own pages: shadow tables, execution views, patch memory.

use crate::sys::page::OwnedPage;
use kernel::prelude::*;
use rvmm_arch::host::{HostError, HostPage, HostPages};
use rvmm_arch::Pfn;

/// Pages a VM may have: 128 MiB.
const QUOTA: usize = 32768;

/// A pool of pages with stable handles.
pub(crate) struct PagePool {
    pages: KVVec<Option<OwnedPage>>,
    /// Free handles; has room for all, so giving back never allocates.
    free: KVVec<u32>,
    /// Pages given back where they could not go to the host at once; has room for all as well.
    parked: KVVec<u32>,
    /// Stands in for handles that were never given out, so that a bug reads zeros instead of faulting.
    none: OwnedPage,
}

impl PagePool {
    /// An empty pool.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { pages: KVVec::new(), free: KVVec::new(), parked: KVVec::new(), none: OwnedPage::new()? })
    }

    fn get(&self, page: HostPage) -> &OwnedPage {
        self.pages.get(page.0 as usize).and_then(Option::as_ref).unwrap_or(&self.none)
    }

    /// As `free_page`, with interrupts off: the host has the page back by [`PagePool::free_parked`].
    pub(crate) fn park_page(&mut self, page: HostPage) {
        // There is room by `handle`; should there be none, the page is the pool's until the end.
        let _ = self.parked.push_within_capacity(page.0);
    }

    /// Gives the host the pages that could not go to it before.
    pub(crate) fn free_parked(&mut self) {
        while let Some(handle) = self.parked.pop() {
            self.free_page(HostPage(handle));
        }
    }

    fn handle(&mut self) -> Result<u32> {
        if let Some(handle) = self.free.pop() {
            return Ok(handle);
        }
        let next = self.pages.len();
        if next >= QUOTA {
            return Err(ENOMEM);
        }
        self.free.reserve(next.wrapping_add(1), GFP_KERNEL)?;
        self.parked.reserve(next.wrapping_add(1), GFP_KERNEL)?;
        self.pages.push(None, GFP_KERNEL)?;
        Ok(next as u32)
    }
}

impl HostPages for PagePool {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        let page = OwnedPage::new().map_err(|_| HostError::NoMemory)?;
        let handle = self.handle().map_err(|_| HostError::NoMemory)?;
        if let Some(place) = self.pages.get_mut(handle as usize) {
            *place = Some(page);
        }
        Ok(HostPage(handle))
    }

    fn free_page(&mut self, page: HostPage) {
        if let Some(gone) = self.pages.get_mut(page.0 as usize).and_then(Option::take) {
            drop(gone);
            // There is room by `handle`; should there be none, the handle is lost and nothing else.
            let _ = self.free.push_within_capacity(page.0);
        }
    }

    fn pfn(&self, page: HostPage) -> Pfn {
        Pfn(self.get(page).phys() >> 12)
    }

    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        self.get(page).read_entry(index)
    }

    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        if let Some(Some(page)) = self.pages.get(page.0 as usize) {
            page.write_entry(index, value);
        }
    }

    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        match self.pages.get_mut(page.0 as usize) {
            Some(Some(page)) => page.bytes(),
            _ => self.none.bytes(),
        }
    }
}
