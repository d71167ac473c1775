//! The views of a VM, found by frame.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::Gfn;

use super::view::{View, ViewKey};

/// No view.
const NONE: u32 = u32::MAX;
const BUCKETS: usize = 1024;

#[derive(Debug)]
struct Slot {
    view: Option<View>,
    next: u32,
}

/// A slab of views with a hash over their frames. Its memory is taken at creation; only views themselves come and go.
#[derive(Debug)]
pub struct ViewStore {
    slots: Vec<Slot>,
    buckets: Vec<u32>,
    capacity: usize,
    /// Where the search for a victim goes on.
    hand: usize,
    used: usize,
}

fn bucket(gfn: Gfn) -> usize {
    (gfn.0 as usize) % BUCKETS
}

impl ViewStore {
    /// A store for `capacity` views.
    ///
    /// # Errors
    /// No memory.
    pub fn new(capacity: usize) -> Result<Self, HostError> {
        let mut slots = Vec::new();
        let mut buckets = Vec::new();
        slots.try_reserve_exact(capacity).map_err(|_| HostError::NoMemory)?;
        buckets.try_reserve_exact(BUCKETS).map_err(|_| HostError::NoMemory)?;
        buckets.resize(BUCKETS, NONE);
        Ok(Self { slots, buckets, capacity, hand: 0, used: 0 })
    }

    /// Every slot that holds a view of `gfn`.
    fn chain(&self, gfn: Gfn) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.buckets.get(bucket(gfn)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let here = at;
            at = slot.next;
            Some(here)
        })
        .filter(move |i| self.view(*i).is_some_and(|v| v.key.gfn == gfn))
    }

    /// The view in a slot.
    pub fn view(&self, index: u32) -> Option<&View> {
        self.slots.get(index as usize).and_then(|s| s.view.as_ref())
    }

    /// A view by its slot.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut View> {
        self.slots.get_mut(index as usize).and_then(|s| s.view.as_mut())
    }

    /// What the view in a slot stands for.
    pub fn key_of(&self, index: u32) -> Option<ViewKey> {
        self.view(index).map(|view| view.key)
    }

    /// The slot of a view.
    pub fn find(&self, key: ViewKey) -> Option<u32> {
        self.chain(key.gfn).find(|i| self.view(*i).is_some_and(|v| v.key == key))
    }

    /// The `n`th view of a frame.
    pub fn nth_of(&self, gfn: Gfn, n: usize) -> Option<u32> {
        self.chain(gfn).nth(n)
    }

    /// Does the frame have a view?
    pub fn has(&self, gfn: Gfn) -> bool {
        self.chain(gfn).next().is_some()
    }

    /// No slot is free: something must be removed first.
    pub fn full(&self) -> bool {
        self.used >= self.capacity
    }

    /// The slot of some view, another one at each call: who must go when the store is full.
    pub fn victim(&mut self) -> Option<u32> {
        for _ in 0..self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            if self.view(self.hand as u32).is_some() {
                return Some(self.hand as u32);
            }
        }
        None
    }

    /// The slots of all views whose frame satisfies `wanted`, one at a time from `from` on.
    pub fn next_where(&self, from: u32, wanted: impl Fn(Gfn) -> bool) -> Option<u32> {
        (from..self.slots.len() as u32).find(|i| self.view(*i).is_some_and(|v| wanted(v.key.gfn)))
    }

    /// The same by key.
    pub fn next_key_where(&self, from: u32, wanted: impl Fn(&ViewKey) -> bool) -> Option<u32> {
        (from..self.slots.len() as u32).find(|i| self.view(*i).is_some_and(|v| wanted(&v.key)))
    }

    /// The same by the view itself.
    pub fn next_view_where(&self, from: u32, wanted: impl Fn(&View) -> bool) -> Option<u32> {
        (from..self.slots.len() as u32).find(|i| self.view(*i).is_some_and(&wanted))
    }

    /// Adds a view; its slot. `Err` gives it back when the store is full.
    ///
    /// # Errors
    /// The store is full.
    pub fn insert(&mut self, view: View) -> Result<u32, View> {
        if self.full() {
            return Err(view);
        }
        let b = bucket(view.key.gfn);
        let next = self.buckets.get(b).copied().unwrap_or(NONE);
        let free = self.slots.iter().position(|s| s.view.is_none());
        let slot = Slot { view: Some(view), next };
        let index = match free.and_then(|i| self.slots.get_mut(i).map(|s| (i, s))) {
            Some((i, place)) => {
                *place = slot;
                i
            }
            // Within the capacity reserved at creation.
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.used += 1;
        if let Some(head) = self.buckets.get_mut(b) {
            *head = index as u32;
        }
        Ok(index as u32)
    }

    /// Takes a view out.
    pub fn remove(&mut self, index: u32) -> Option<View> {
        let slot = self.slots.get_mut(index as usize)?;
        let view = slot.view.take()?;
        let after = slot.next;
        self.used = self.used.saturating_sub(1);
        let b = bucket(view.key.gfn);
        let mut at = self.buckets.get(b).copied().unwrap_or(NONE);
        if at == index {
            if let Some(head) = self.buckets.get_mut(b) {
                *head = after;
            }
        } else {
            while let Some(slot) = self.slots.get_mut(at as usize) {
                if slot.next == index {
                    slot.next = after;
                    break;
                }
                at = slot.next;
            }
        }
        Some(view)
    }
}
