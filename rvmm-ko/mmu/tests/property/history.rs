//! What guest memory held before each write since the last flush: what a TLB may still know.

use std::collections::HashMap;

use rvmm_arch::{Gfn, Gpa, Gva};

/// Writes, with what they overwrote, in order.
#[derive(Default)]
pub struct History {
    writes: Vec<(Gpa, Vec<u8>)>,
    /// Pages forgotten, and how many writes there had been.
    forgotten: HashMap<u64, usize>,
}

impl History {
    pub fn wrote(&mut self, at: Gpa, old: &[u8]) {
        self.writes.push((at, old.to_vec()));
    }

    /// All translations have been forgotten.
    pub fn forget_all(&mut self) {
        self.writes.clear();
        self.forgotten.clear();
    }

    /// Those of one page have been forgotten.
    pub fn forget(&mut self, gva: Gva) {
        self.forgotten.insert(gva.page().0, self.writes.len());
    }

    /// A frame has other contents, and nothing is known of the old ones.
    pub fn replaced(&mut self, gfn: Gfn) {
        for write in &mut self.writes {
            if write.0.frame() == gfn {
                write.1.clear();
            }
        }
    }

    /// What the entry at `at`, which is `now`, has been since `gva` was last forgotten, the latest first.
    pub fn of(&self, gva: Gva, at: Gpa, now: &[u8]) -> Vec<Vec<u8>> {
        let since = self.forgotten.get(&gva.page().0).copied().unwrap_or(0);
        let mut entry = now.to_vec();
        let mut old = Vec::new();
        for (written, bytes) in self.writes[since..].iter().rev() {
            let mut overlaps = false;
            for (i, byte) in (written.0..).zip(bytes) {
                if let Some(place) = i.checked_sub(at.0).and_then(|i| entry.get_mut(i as usize)) {
                    *place = *byte;
                    overlaps = true;
                }
            }
            if overlaps {
                old.push(entry.clone());
            }
        }
        old
    }
}
