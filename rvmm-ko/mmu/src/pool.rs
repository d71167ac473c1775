//! The shadow pages in existence: a fixed number of slots, found by key, aged from newest to oldest.

use alloc::vec::Vec;

use rvmm_arch::host::{HostError, HostPage};
use rvmm_arch::Gfn;

use crate::links::{bucket, filled, NONE};
use crate::role::Key;

/// Number of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageIndex(pub u32);

/// A shadow page.
#[derive(Clone, Copy, Debug)]
pub struct ShadowPage {
    /// The table itself.
    pub host: HostPage,
    /// What it shadows.
    pub key: Key,
    /// Head of the list of entries that refer to it.
    pub parents: u32,
    /// Entries of it that are in a list (leaves of guest frames, links to tables).
    pub used: u16,
    /// Writes to its guest table since that was last on the path of a fault. Counted in the newest shadow of a table
    /// only, see [`Pool::table_writes`]; a table gets a new shadow by being used.
    writes: u8,
    /// Its guest table may have been written since its entries were made. The same for all shadows of a table.
    pub unsync: bool,
    /// An execution view has been in it.
    pub viewed: bool,
    /// Never reclaimed for want of memory.
    pub pinned: bool,
    /// A root whose guest maps something where patch memory should be.
    pub conflict: bool,
    /// A root: the epoch of the MMU when `conflict` was found out.
    pub checked: u64,
    next_in_bucket: u32,
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy)]
enum Slot {
    Free { next: u32 },
    Used(ShadowPage),
}

/// All slots.
pub struct Pool {
    slots: Vec<Slot>,
    buckets: Vec<u32>,
    free: u32,
    newest: u32,
    oldest: u32,
    live: u32,
}

impl Pool {
    /// A pool of `pages` slots.
    ///
    /// # Errors
    /// No memory.
    pub fn new(pages: u32) -> Result<Self, HostError> {
        let mut slots = filled(pages as usize, Slot::Free { next: NONE })?;
        let mut free = NONE;
        for (i, slot) in slots.iter_mut().enumerate().rev() {
            *slot = Slot::Free { next: free };
            free = i as u32;
        }
        let buckets = filled((pages as usize).next_power_of_two(), NONE)?;
        Ok(Self { slots, buckets, free, newest: NONE, oldest: NONE, live: 0 })
    }

    /// Number of shadow pages in existence.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Number of slots.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The page in a slot.
    #[must_use]
    pub fn get(&self, index: PageIndex) -> Option<&ShadowPage> {
        match self.slots.get(index.0 as usize) {
            Some(Slot::Used(page)) => Some(page),
            _ => None,
        }
    }

    /// The page in a slot, to be changed.
    pub fn get_mut(&mut self, index: PageIndex) -> Option<&mut ShadowPage> {
        match self.slots.get_mut(index.0 as usize) {
            Some(Slot::Used(page)) => Some(page),
            _ => None,
        }
    }

    /// The page with this key.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<PageIndex> {
        let mut at = self.first(key.gfn);
        while let Some(index) = at {
            if self.get(index).is_some_and(|p| p.key == *key) {
                return Some(index);
            }
            at = self.next(index);
        }
        None
    }

    /// The first page that shadows `gfn`, in any role.
    #[must_use]
    pub fn first(&self, gfn: Gfn) -> Option<PageIndex> {
        self.same(self.buckets.get(bucket(gfn.0, self.buckets.len())).copied()?, gfn)
    }

    /// The next page that shadows the same frame as `index`.
    #[must_use]
    pub fn next(&self, index: PageIndex) -> Option<PageIndex> {
        let page = self.get(index)?;
        self.same(page.next_in_bucket, page.key.gfn)
    }

    fn same(&self, mut at: u32, gfn: Gfn) -> Option<PageIndex> {
        while let Some(page) = self.get(PageIndex(at)) {
            if page.key.gfn == gfn {
                return Some(PageIndex(at));
            }
            at = page.next_in_bucket;
        }
        None
    }

    /// Is there a shadow page whose entries come from the contents of `gfn`?
    #[must_use]
    pub fn shadows_table(&self, gfn: Gfn) -> bool {
        self.first_table(gfn).is_some()
    }

    /// Is there one that must be in line with those contents?
    #[must_use]
    pub fn shadows_table_in_sync(&self, gfn: Gfn) -> bool {
        self.first_table(gfn).and_then(|index| self.get(index)).is_some_and(|page| !page.unsync)
    }

    /// Are there shadows of the table `gfn` that may be out of line with it?
    #[must_use]
    pub fn is_unsync(&self, gfn: Gfn) -> bool {
        self.first_table(gfn).and_then(|index| self.get(index)).is_some_and(|page| page.unsync)
    }

    /// Marks all shadows of the table `gfn`.
    pub fn set_unsync(&mut self, gfn: Gfn, unsync: bool) {
        let mut at = self.first(gfn);
        while let Some(index) = at {
            if let Some(page) = self.get_mut(index).filter(|p| p.key.derives_from_frame()) {
                page.unsync = unsync;
            }
            at = self.next(index);
        }
    }

    /// The count of writes to the table `gfn` since its last use, where it is shadowed.
    pub fn table_writes(&mut self, gfn: Gfn) -> Option<&mut u8> {
        let first = self.first_table(gfn)?;
        self.get_mut(first).map(|p| &mut p.writes)
    }

    fn first_table(&self, gfn: Gfn) -> Option<PageIndex> {
        let mut at = self.first(gfn);
        while let Some(index) = at {
            if self.get(index).is_some_and(|p| p.key.derives_from_frame()) {
                return Some(index);
            }
            at = self.next(index);
        }
        None
    }

    /// The oldest page that may be reclaimed; `spare` is not considered.
    #[must_use]
    pub fn oldest(&self, spare: Option<PageIndex>) -> Option<PageIndex> {
        let mut at = self.oldest;
        while let Some(page) = self.get(PageIndex(at)) {
            if !page.pinned && Some(PageIndex(at)) != spare {
                return Some(PageIndex(at));
            }
            at = page.newer;
        }
        None
    }

    /// Puts a page into a free slot, as the newest; `None` if there is none.
    pub fn insert(&mut self, host: HostPage, key: Key) -> Option<PageIndex> {
        let index = self.free;
        let Some(Slot::Free { next }) = self.slots.get(index as usize).copied() else {
            return None;
        };
        let buckets = self.buckets.len();
        let head = self.buckets.get_mut(bucket(key.gfn.0, buckets))?;
        self.free = next;
        let page = ShadowPage {
            host,
            key,
            parents: NONE,
            used: 0,
            writes: 0,
            unsync: false,
            viewed: false,
            pinned: false,
            conflict: false,
            checked: 0,
            next_in_bucket: *head,
            newer: NONE,
            older: NONE,
        };
        *head = index;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Slot::Used(page);
        }
        self.live = self.live.wrapping_add(1);
        self.append(index);
        Some(PageIndex(index))
    }

    /// Empties a slot. The page must be in no list of the caller's any more.
    pub fn remove(&mut self, index: PageIndex) -> Option<HostPage> {
        let page = *self.get(index)?;
        self.detach(index.0);
        let at = bucket(page.key.gfn.0, self.buckets.len());
        let head = self.buckets.get(at).copied()?;
        if head == index.0 {
            *self.buckets.get_mut(at)? = page.next_in_bucket;
        } else {
            let mut before = head;
            while let Some(p) = self.get_mut(PageIndex(before)) {
                if p.next_in_bucket == index.0 {
                    p.next_in_bucket = page.next_in_bucket;
                    break;
                }
                before = p.next_in_bucket;
            }
        }
        *self.slots.get_mut(index.0 as usize)? = Slot::Free { next: self.free };
        self.free = index.0;
        self.live = self.live.wrapping_sub(1);
        Some(page.host)
    }

    /// Makes a page the newest.
    pub fn touch(&mut self, index: PageIndex) {
        if self.newest != index.0 && self.get(index).is_some() {
            self.detach(index.0);
            self.append(index.0);
        }
    }

    fn append(&mut self, index: u32) {
        let newest = self.newest;
        if let Some(page) = self.get_mut(PageIndex(index)) {
            page.older = newest;
            page.newer = NONE;
        }
        match self.get_mut(PageIndex(newest)) {
            Some(page) => page.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn detach(&mut self, index: u32) {
        let Some(&ShadowPage { newer, older, .. }) = self.get(PageIndex(index)) else {
            return;
        };
        match self.get_mut(PageIndex(newer)) {
            Some(page) => page.older = older,
            None => self.newest = older,
        }
        match self.get_mut(PageIndex(older)) {
            Some(page) => page.newer = newer,
            None => self.oldest = newer,
        }
    }
}
