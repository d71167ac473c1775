//! Frames whose writes must be seen. Page tables in use are known from the pool; what else is tracked is counted here,
//! per frame and reason, in a fixed number of nodes.

use alloc::vec::Vec;

use bitflags::bitflags;
use rvmm_arch::host::HostError;
use rvmm_arch::Gfn;

use crate::links::{bucket, filled, NONE};

bitflags! {
    /// Why writes to a frame are seen.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Reasons: u8 {
        /// A page table with shadows.
        const TABLE = 1 << 0;
        /// An execution view is made from it.
        const VIEW = 1 << 1;
        /// It holds descriptors in use.
        const DESCRIPTOR = 1 << 2;
        /// Something else of the engine's.
        const OTHER = 1 << 3;
    }
}

/// Why the engine tracks a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// An execution view is made from it.
    View,
    /// It holds descriptors in use.
    Descriptor,
    /// Something else.
    Other,
}

impl Reason {
    const ALL: [Self; 3] = [Self::View, Self::Descriptor, Self::Other];

    const fn flag(self) -> Reasons {
        match self {
            Self::View => Reasons::VIEW,
            Self::Descriptor => Reasons::DESCRIPTOR,
            Self::Other => Reasons::OTHER,
        }
    }
}

#[derive(Clone, Copy)]
struct Tracked {
    gfn: Gfn,
    counts: [u32; 3],
    next: u32,
}

/// The table.
pub struct Tracking {
    nodes: Vec<Tracked>,
    buckets: Vec<u32>,
    free: u32,
}

impl Tracking {
    /// Room for `frames` frames.
    ///
    /// # Errors
    /// No memory.
    pub fn new(frames: u32) -> Result<Self, HostError> {
        let mut nodes = filled(frames as usize, Tracked { gfn: Gfn(0), counts: [0; 3], next: NONE })?;
        let mut free = NONE;
        for (i, node) in nodes.iter_mut().enumerate().rev() {
            node.next = free;
            free = i as u32;
        }
        Ok(Self { nodes, buckets: filled((frames as usize).next_power_of_two(), NONE)?, free })
    }

    /// The reasons for `gfn`.
    #[must_use]
    pub fn reasons(&self, gfn: Gfn) -> Reasons {
        let Some(node) = self.find(gfn).and_then(|(at, _)| self.nodes.get(at as usize)) else {
            return Reasons::empty();
        };
        let mut reasons = Reasons::empty();
        for reason in Reason::ALL {
            reasons.set(reason.flag(), node.counts.get(reason as usize).is_some_and(|&n| n != 0));
        }
        reasons
    }

    /// Adds one to a count; `false` if there is no room for another frame.
    #[must_use]
    pub fn add(&mut self, gfn: Gfn, reason: Reason) -> bool {
        let at = match self.find(gfn) {
            Some((at, _)) => at,
            None => match self.insert(gfn) {
                Some(at) => at,
                None => return false,
            },
        };
        if let Some(count) = self.nodes.get_mut(at as usize).and_then(|n| n.counts.get_mut(reason as usize)) {
            *count = count.saturating_add(1);
        }
        true
    }

    /// Takes one from a count.
    pub fn sub(&mut self, gfn: Gfn, reason: Reason) {
        let Some((at, before)) = self.find(gfn) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return;
        };
        if let Some(count) = node.counts.get_mut(reason as usize) {
            *count = count.saturating_sub(1);
        }
        if node.counts == [0; 3] {
            let next = core::mem::replace(&mut node.next, self.free);
            self.free = at;
            match self.nodes.get_mut(before as usize) {
                Some(n) => n.next = next,
                None => {
                    let buckets = self.buckets.len();
                    if let Some(head) = self.buckets.get_mut(bucket(gfn.0, buckets)) {
                        *head = next;
                    }
                }
            }
        }
    }

    /// The node of `gfn` and the one before it in its bucket.
    fn find(&self, gfn: Gfn) -> Option<(u32, u32)> {
        let mut before = NONE;
        let mut at = *self.buckets.get(bucket(gfn.0, self.buckets.len()))?;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.gfn == gfn {
                return Some((at, before));
            }
            before = at;
            at = node.next;
        }
        None
    }

    fn insert(&mut self, gfn: Gfn) -> Option<u32> {
        let at = self.free;
        let buckets = self.buckets.len();
        let node = self.nodes.get_mut(at as usize)?;
        let head = self.buckets.get_mut(bucket(gfn.0, buckets))?;
        self.free = node.next;
        *node = Tracked { gfn, counts: [0; 3], next: *head };
        *head = at;
        Some(at)
    }
}
