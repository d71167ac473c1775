//! Views where nothing keeps the guest's kernel from reading them: in ring 3 on a host without protection keys, in ring 1 on one
//! that has no SMAP either.
//!
//! The CPU cannot tell a read from a fetch there, and a read of a mapped view finds int3 where the guest has its code. But code is
//! read by other code: only the pages that were fetched from last are mapped as views, and all the others as what the guest has in
//! them. So a kernel that checks a function before it patches it finds its own bytes, and only a page that reads itself, or one that
//! ran just before, shows what rvmm has put there. docs/patching.md, "Hosts that cannot hide views".

use rvmm_arch::{Gfn, Gva};

/// Views mapped at a time. One instruction needs two at most; the others are for the callers of short functions.
const AT_A_TIME: usize = 2;

/// Which views are mapped, where they can be read.
#[derive(Debug, Default)]
pub struct Readable {
    mapped: [Option<(Gfn, Gva)>; AT_A_TIME],
    next: usize,
}

impl Readable {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_none_twice() {
        let mut readable = Readable::default();
        let page = |n| (Gfn(n), Gva(n << 12));
        for n in 0..AT_A_TIME as u64 {
            assert_eq!(readable.mapping(page(n).0, page(n).1), None);
        }
        assert_eq!(readable.mapping(page(0).0, page(0).1), None, "there already");
        let other = (Gfn(0), Gva(5 << 12));
        assert_eq!(readable.mapping(other.0, other.1), Some(page(0)), "another page of the same frame");
        assert_eq!(readable.mapping(page(0).0, page(0).1), Some(page(1)));
    }
}
