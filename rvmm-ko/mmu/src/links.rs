//! Doubly linked lists of shadow entries, without allocation: one node per entry of every possible shadow page.
//!
//! An entry that refers to a shadow table is in the list of that table's parents; a leaf is in the reverse-map list of
//! its guest frame. The heads are kept by whoever owns the list.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::Gfn;

/// No entry, no page, no frame.
pub const NONE: u32 = u32::MAX;

/// Entries of a table.
pub const ENTRIES: usize = 512;

/// Number of a shadow entry: shadow page times [`ENTRIES`] plus index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryId(pub u32);

impl EntryId {
    /// The entry `index` of page number `page`.
    #[must_use]
    pub const fn new(page: u32, index: usize) -> Self {
        Self(page.wrapping_mul(ENTRIES as u32).wrapping_add(index as u32 & 511))
    }
    /// Number of its page.
    #[must_use]
    pub const fn page(self) -> u32 {
        self.0 / ENTRIES as u32
    }
    /// Its index in the page.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize % ENTRIES
    }
}

/// The number of a guest frame as a target. Frames from 2^32 - 1 on have none: no memory is there, but a guest with 45 physical
/// address bits and more may name them, and must not get those below instead.
#[must_use]
pub const fn frame(gfn: Gfn) -> u32 {
    if gfn.0 < NONE as u64 {
        gfn.0 as u32
    } else {
        NONE
    }
}

#[derive(Clone, Copy)]
struct Node {
    /// What the entry refers to: a guest frame (leaf) or a shadow page (table); [`NONE`] if it is in no list.
    target: u32,
    next: u32,
    prev: u32,
}

const FREE: Node = Node { target: NONE, next: NONE, prev: NONE };

/// All nodes.
pub struct Links {
    nodes: Vec<Node>,
}

impl Links {
    /// Nodes for `pages` shadow pages.
    ///
    /// # Errors
    /// No memory.
    pub fn new(pages: u32) -> Result<Self, HostError> {
        let count = (pages as usize).checked_mul(ENTRIES).ok_or(HostError::NoMemory)?;
        Ok(Self { nodes: filled(count, FREE)? })
    }

    /// What the entry refers to, if it is in a list.
    #[must_use]
    pub fn target(&self, id: EntryId) -> Option<u32> {
        self.nodes.get(id.0 as usize).map(|n| n.target).filter(|&t| t != NONE)
    }

    /// The entry after `id`.
    #[must_use]
    pub fn next(&self, id: EntryId) -> Option<EntryId> {
        self.nodes.get(id.0 as usize).and_then(|n| entry(n.next))
    }

    /// Puts `id` at the front of the list that starts at `head`; returns the new head.
    #[must_use]
    pub fn push(&mut self, head: u32, id: EntryId, target: u32) -> u32 {
        if let Some(first) = self.nodes.get_mut(head as usize) {
            first.prev = id.0;
        }
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            *node = Node { target, next: head, prev: NONE };
        }
        id.0
    }

    /// Takes `id` out of the list that starts at `head`; returns the new head.
    #[must_use]
    pub fn remove(&mut self, head: u32, id: EntryId) -> u32 {
        let Some(node) = self.nodes.get_mut(id.0 as usize) else {
            return head;
        };
        let Node { next, prev, .. } = core::mem::replace(node, FREE);
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.prev = prev;
        }
        match self.nodes.get_mut(prev as usize) {
            Some(before) => {
                before.next = next;
                head
            }
            None => next,
        }
    }
}

/// The entry that a list field names.
#[must_use]
pub const fn entry(raw: u32) -> Option<EntryId> {
    if raw == NONE {
        None
    } else {
        Some(EntryId(raw))
    }
}

/// A vector of `count` copies of `value`, made once at creation.
///
/// # Errors
/// No memory.
pub fn filled<T: Copy>(count: usize, value: T) -> Result<Vec<T>, HostError> {
    let mut v = Vec::new();
    v.try_reserve_exact(count).map_err(|_| HostError::NoMemory)?;
    v.resize(count, value);
    Ok(v)
}

/// Bucket of a frame in a table of `buckets` (a power of two) lists.
#[must_use]
pub const fn bucket(gfn: u64, buckets: usize) -> usize {
    // Fibonacci hashing: frames come in runs, and the upper half of the product is spread evenly.
    (gfn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & buckets.wrapping_sub(1)
}
