//! Device accesses that only the client can answer.
//!
//! An instruction that touches a device is abandoned before it changes anything; the client is asked; then the
//! instruction is executed again from its start, and every access that was already answered is taken from this log. So
//! an instruction with several device accesses (a read-modify-write of MMIO) asks once for each, and no access is made
//! twice.

use rvmm_arch::Gpa;

/// One device access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoAccess {
    /// IN.
    PortIn {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
    },
    /// OUT.
    PortOut {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
        /// The value, zero-extended.
        value: u32,
    },
    /// Read of memory without RAM behind it.
    MmioRead {
        /// Guest-physical address.
        gpa: Gpa,
        /// 1 to 8 bytes.
        len: u8,
    },
    /// Write to memory without RAM behind it, or to read-only RAM.
    MmioWrite {
        /// Guest-physical address.
        gpa: Gpa,
        /// 1 to 8 bytes.
        len: u8,
        /// The bytes, little-endian, zero-extended.
        data: u64,
    },
}

/// What the log says to an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was answered: the value read, or 0 for a write.
    Done(u64),
    /// The client must be asked.
    Ask,
    /// One instruction made more accesses than the log holds, or others than before: a bug, the guest is stopped.
    Overflow,
}

/// More accesses than any instruction makes (FXSAVE to MMIO apart, which is not interpreted).
const CAPACITY: usize = 8;

/// The accesses of the instruction that is being executed.
#[derive(Clone, Debug)]
pub struct IoLog {
    done: [Option<(IoAccess, u64)>; CAPACITY],
    answered: usize,
    cursor: usize,
    pending: Option<IoAccess>,
}

impl Default for IoLog {
    fn default() -> Self {
        Self { done: [None; CAPACITY], answered: 0, cursor: 0, pending: None }
    }
}

impl IoLog {
    /// The instruction starts (again).
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// The instruction has retired, or was given up for a fault: its accesses are history.
    pub fn clear(&mut self) {
        self.answered = 0;
        self.cursor = 0;
        self.pending = None;
    }

    /// True while an instruction waits to be executed again with answers at hand; nothing may come between.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.answered != 0
    }

    /// Was the first access that was answered one to a port?
    #[must_use]
    pub fn is_port(&self) -> bool {
        let first = self.done.first().copied().flatten();
        matches!(first, Some((IoAccess::PortIn { .. } | IoAccess::PortOut { .. }, _)))
    }

    /// The access that waits for the client.
    #[must_use]
    pub fn pending(&self) -> Option<IoAccess> {
        self.pending
    }

    /// Makes an access: takes its answer from the log, or notes that the client must be asked.
    pub fn access(&mut self, access: IoAccess) -> Answer {
        if self.cursor >= self.answered {
            if self.answered >= CAPACITY {
                return Answer::Overflow;
            }
            self.pending = Some(access);
            return Answer::Ask;
        }
        match self.done.get(self.cursor) {
            Some(Some((made, value))) if *made == access => {
                let value = *value;
                self.cursor += 1;
                Answer::Done(value)
            }
            _ => Answer::Overflow,
        }
    }

    /// The client has answered the pending access (`value` counts for reads only).
    pub fn complete(&mut self, value: u64) {
        let Some(access) = self.pending.take() else { return };
        if let Some(slot) = self.done.get_mut(self.answered) {
            *slot = Some((access, value));
            self.answered += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_modify_write_asks_once_for_each_access() {
        let mut log = IoLog::default();
        let read = IoAccess::MmioRead { gpa: Gpa(0xa0000), len: 4 };
        let write = IoAccess::MmioWrite { gpa: Gpa(0xa0000), len: 4, data: 5 };
        log.rewind();
        assert_eq!(log.access(read), Answer::Ask);
        log.complete(4);
        assert!(log.unfinished());
        log.rewind();
        assert_eq!(log.access(read), Answer::Done(4));
        assert_eq!(log.access(write), Answer::Ask);
        log.complete(0);
        log.rewind();
        assert_eq!(log.access(read), Answer::Done(4));
        assert_eq!(log.access(write), Answer::Done(0));
        log.clear();
        assert!(!log.unfinished());
        assert_eq!(log.access(read), Answer::Ask);
    }

    #[test]
    fn another_access_than_before_is_an_error() {
        let mut log = IoLog::default();
        assert_eq!(log.access(IoAccess::PortIn { port: 0x60, size: 1 }), Answer::Ask);
        log.complete(1);
        log.rewind();
        assert_eq!(log.access(IoAccess::PortIn { port: 0x61, size: 1 }), Answer::Overflow);
    }
}
