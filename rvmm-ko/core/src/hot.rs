//! Which guest instructions cost the most exits: a table of bounded size, for people who look for the next thing to patch.
//!
//! Approximate in one direction: a count is never too high. It may be too low, or a cold place may be missing, where many places
//! share a slot.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::stats::{hot_key, Counter};

use crate::code::filled;

/// Places shown.
pub const HOTTEST: usize = 64;
/// Slots in which places compete before they are shown.
const SLOTS: usize = 1 << 11;
/// Exits in a slot between two looks at whether its place is one of the hottest.
const STEP: u32 = 64;

/// A place and what it cost: exits of one cause at one linear address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotPlace {
    /// See [`hot_key`].
    pub key: u64,
    /// Exits.
    pub count: u64,
}

/// The table.
#[derive(Debug)]
pub struct HotPlaces {
    slots: Vec<(u64, u32)>,
    top: Vec<HotPlace>,
}

impl HotPlaces {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, HostError> {
        Ok(Self { slots: filled(SLOTS, (u64::MAX, 0))?, top: filled(HOTTEST, HotPlace::default())? })
    }

    /// An exit at a linear address, counted under `cause`.
    pub fn note(&mut self, at: u64, cause: Counter) {
        let key = hot_key(at, cause);
        let hash = (at as u32 ^ cause as u32).wrapping_mul(0x9e37_79b1) >> 16;
        let Some(slot) = self.slots.get_mut(hash as usize % SLOTS) else { return };
        if slot.0 == key {
            slot.1 = slot.1.saturating_add(1);
            let count = slot.1;
            if count % STEP == 0 {
                self.publish(key, count.into());
            }
        } else if slot.1 == 0 {
            *slot = (key, 1);
        } else {
            // Whoever comes often wins the slot in the end.
            slot.1 = slot.1.wrapping_sub(1);
        }
    }

    /// A slot has counted `count` of `key`, less what it has lost to others.
    #[cold]
    fn publish(&mut self, key: u64, count: u64) {
        let known = self.top.iter().position(|place| place.key == key && place.count != 0);
        let coldest = || (0..).zip(&self.top).min_by_key(|(_, place)| place.count).map(|(index, _): (usize, _)| index);
        let Some(place) = known.or_else(coldest).and_then(|index| self.top.get_mut(index)) else { return };
        if place.count < count {
            *place = HotPlace { key, count };
        }
    }

    /// The places, in no order; those with count 0 are unused.
    #[must_use]
    pub fn places(&self) -> &[HotPlace] {
        &self.top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hottest(places: &HotPlaces) -> HotPlace {
        places.places().iter().copied().max_by_key(|place| place.count).unwrap_or_default()
    }

    #[test]
    fn the_hottest_place_is_found_among_many() -> Result<(), HostError> {
        let mut places = HotPlaces::new()?;
        for round in 0..100_000_u64 {
            places.note(0xc100_0000 + round % 5000 * 7, Counter::InterpretedSite);
            places.note(0xc123_4567, Counter::InterpretedPrivileged);
        }
        let hottest = hottest(&places);
        assert_eq!(hottest.key, hot_key(0xc123_4567, Counter::InterpretedPrivileged));
        assert!(hottest.count <= 100_000 && hottest.count > 80_000, "{}", hottest.count);
        Ok(())
    }

    #[test]
    fn places_that_become_hot_later_are_seen() -> Result<(), HostError> {
        let mut places = HotPlaces::new()?;
        // As firmware does: many places, none of them often.
        for _ in 0..576 {
            (0..100).for_each(|at| places.note(0xf_7000 + at * 3, Counter::InterpretedMode));
        }
        for _ in 0..5000 {
            (0..30).for_each(|at| places.note(0x8010_4000 + at * 5, Counter::InterpretedPio));
        }
        let late = places.places().iter().filter(|place| place.count > 4000).count();
        assert!(late >= 28, "{late}");
        Ok(())
    }

    #[test]
    fn causes_are_kept_apart_and_counts_are_never_too_high() -> Result<(), HostError> {
        let mut places = HotPlaces::new()?;
        for _ in 0..1000 {
            places.note(1, Counter::InterpretedSite);
            places.note(1, Counter::InterpretedMmio);
        }
        let used = places.places().iter().filter(|place| place.count != 0);
        assert_eq!(used.clone().count(), 2);
        assert!(used.clone().all(|place| place.count <= 1000 && place.count > 900));
        Ok(())
    }
}
