//! Writes that an interpreted instruction made to tracked guest frames, acted upon after it has retired.

use rvmm_arch::Gpa;

/// More tracked writes than one instruction or event delivery makes: PUSHA across two pages makes 8, a call gate to an
/// inner ring up to 35 in at most three pages. Adjacent ones are merged.
const CAPACITY: usize = 16;

/// The log.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteLog {
    entries: [(Gpa, usize); CAPACITY],
    len: usize,
    overflow: bool,
}

impl WriteLog {
    /// Notes a write of `len` bytes within one page.
    pub fn note(&mut self, gpa: Gpa, len: usize) {
        if let Some((at, n)) = self.entries.get_mut(..self.len).and_then(|e| e.last_mut()) {
            if at.add(*n as u64) == gpa && at.frame() == gpa.frame() {
                *n += len;
                return;
            }
            if gpa.add(len as u64) == *at && at.frame() == gpa.frame() {
                *at = gpa;
                *n += len;
                return;
            }
        }
        match self.entries.get_mut(self.len) {
            Some(slot) => {
                *slot = (gpa, len);
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    /// Nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0 && !self.overflow
    }

    /// Takes one range (start, bytes) out of the log; order does not matter to its users.
    pub fn pop(&mut self) -> Option<(Gpa, u64)> {
        self.len = self.len.checked_sub(1)?;
        self.entries.get(self.len).map(|(gpa, len)| (*gpa, *len as u64))
    }

    /// Did it not hold all writes? Then everything that depends on guest memory must be dropped. Resets the mark.
    pub fn take_overflow(&mut self) -> bool {
        core::mem::take(&mut self.overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_merge_downwards() {
        let mut log = WriteLog::default();
        for i in 0..8 {
            log.note(Gpa(0x1ffc - i * 4), 4);
        }
        assert_eq!(log.pop(), Some((Gpa(0x1fe0), 32)));
        assert_eq!(log.pop(), None);
        assert!(!log.take_overflow());
    }

    #[test]
    fn too_many_are_reported() {
        let mut log = WriteLog::default();
        for i in 0..=CAPACITY as u64 {
            log.note(Gpa(i * 64), 4);
        }
        assert!(log.take_overflow());
        assert!(!log.take_overflow());
    }
}
