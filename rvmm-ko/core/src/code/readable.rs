//! Views where nothing keeps the guest's kernel from reading them: in ring 3 on a host without protection keys, in ring 1 on one
//! that has no SMAP either.
//!
//! The CPU cannot tell a read from a fetch there, and a read of a mapped view finds int3 where the guest has its code. Two habits of
//! code keep that from happening. Code reads *other* code, to patch it: only the pages that were fetched from last are mapped as
//! views, and all the others as what the guest has in them. And code that reads *its own* page does so soon, as a loader does that
//! moves itself: a page is interpreted at first, and again for long when it was seen to read itself. docs/patching.md, "Hosts that
//! cannot hide views".

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::{Gfn, Gva};

use super::patch::filled;

/// Views mapped at a time: one instruction needs two at most.
const AT_A_TIME: usize = 2;
/// Instructions of a page that are interpreted before it gets a view.
const TRIAL: u32 = 4096;
/// The same after each instruction that read the page it is on.
const LONG_TRIAL: u32 = 1 << 20;
/// Frames whose trials are told apart.
const SLOTS: usize = 4096;

/// Which views are mapped where they can be read, and which pages are on trial.
#[derive(Debug)]
pub struct Readable {
    mapped: [Option<(Gfn, Gva)>; AT_A_TIME],
    next: usize,
    /// Frame and instructions left; empty where views are hidden.
    trials: Vec<(Gfn, u32)>,
}

impl Readable {
    /// Takes no memory where views are always hidden.
    ///
    /// # Errors
    /// No memory.
    pub fn new(needed: Needed) -> Result<Self, HostError> {
        let slots = if needed == Needed::Yes { SLOTS } else { 0 };
        Ok(Self { mapped: [None; AT_A_TIME], next: 0, trials: filled(slots, (Gfn(u64::MAX), 0))? })
    }

    fn trial(&mut self, gfn: Gfn) -> Option<&mut u32> {
        let slot = self.trials.get_mut((gfn.0 as usize) % SLOTS)?;
        if slot.0 != gfn {
            *slot = (gfn, TRIAL);
        }
        Some(&mut slot.1)
    }

    /// Is code of this frame to be interpreted for now?
    pub fn on_trial(&mut self, gfn: Gfn) -> bool {
        self.trial(gfn).is_some_and(|left| *left > 0)
    }

    /// An instruction of this frame was interpreted to its end. (A repeated one that has not come to it may read anything yet.)
    pub fn tried(&mut self, gfn: Gfn) {
        if let Some(left) = self.trial(gfn) {
            *left = left.saturating_sub(1);
        }
    }

    /// An instruction has read the page it is on.
    pub fn reads_itself(&mut self, gfn: Gfn) {
        if let Some(left) = self.trial(gfn) {
            *left = LONG_TRIAL;
        }
    }

    /// The view of this frame at this linear page is being mapped. Answers which must be unmapped for it.
    pub fn mapping(&mut self, gfn: Gfn, page: Gva) -> Option<(Gfn, Gva)> {
        if self.mapped.contains(&Some((gfn, page))) {
            return None;
        }
        let slot = self.mapped.get_mut(self.next % AT_A_TIME)?;
        self.next = (self.next + 1) % AT_A_TIME;
        slot.replace((gfn, page))
    }
}

/// Is there a ring in which this host cannot hide views from a guest's kernel?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needed {
    /// There is.
    Yes,
    /// They are hidden in every ring.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_none_twice() {
        let mut readable = Readable::new(Needed::Yes).unwrap();
        let page = |n| (Gfn(n), Gva(n << 12));
        for n in 0..AT_A_TIME as u64 {
            assert_eq!(readable.mapping(page(n).0, page(n).1), None);
        }
        assert_eq!(readable.mapping(page(0).0, page(0).1), None, "there already");
        let other = (Gfn(0), Gva(5 << 12));
        assert_eq!(readable.mapping(other.0, other.1), Some(page(0)), "another page of the same frame");
        assert_eq!(readable.mapping(page(0).0, page(0).1), Some(page(1)));
    }

    #[test]
    fn a_page_is_tried_for_a_while_and_longer_when_it_reads_itself() {
        let mut readable = Readable::new(Needed::Yes).unwrap();
        let tried = |readable: &mut Readable| {
            (0..)
                .find(|_| {
                    let over = !readable.on_trial(Gfn(7));
                    readable.tried(Gfn(7));
                    over
                })
                .unwrap()
        };
        assert_eq!(tried(&mut readable), TRIAL);
        assert_eq!(tried(&mut readable), 0);
        readable.reads_itself(Gfn(7));
        assert_eq!(tried(&mut readable), LONG_TRIAL);
        assert!(!Readable::new(Needed::No).unwrap().on_trial(Gfn(7)));
    }
}
