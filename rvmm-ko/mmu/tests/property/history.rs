//! What guest memory held before each write since the last flush: what a TLB may still know.

use std::collections::HashMap;

use rvmm_arch::{Gfn, Gpa, Gva};

use crate::common::FakeHost;

/// Writes, with what they overwrote, in order.
#[derive(Default)]
pub struct History {
    writes: Vec<(Gpa, Vec<u8>)>,
    /// Pages forgotten, and how many writes there had been.
    forgotten: HashMap<u64, usize>,
}

impl History {
    pub fn wrote(&mut self, at: Gpa, old: Vec<u8>) {
        self.writes.push((at, old));
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

    /// Takes memory back, write by write, to where `gva` was last forgotten, and calls `look` at each state on the way, the latest
    /// first. Memory is then as it was.
    pub fn rewind(&self, gva: Gva, host: &mut FakeHost, mut look: impl FnMut(&FakeHost)) {
        let since = self.forgotten.get(&gva.page().0).copied().unwrap_or(0);
        let mut undone = Vec::new();
        for (at, bytes) in self.writes[since..].iter().rev() {
            undone.push((*at, host.replace(*at, bytes)));
            look(host);
        }
        for (at, bytes) in undone.into_iter().rev() {
            host.replace(at, &bytes);
        }
    }
}
