//! Device accesses that only the client can answer.
//!
//! An instruction that touches a device is abandoned before it changes anything; the client is asked; then the
//! instruction is executed again from its start, and every access that was already answered is taken from this log. So
//! an instruction with several device accesses (a read-modify-write of MMIO) asks once for each, and no access is made
//! twice.

use rvmm_arch::Gpa;

use crate::constants::Constants;

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
    /// Elements of INS, one after the other.
    PortInString {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
        /// How many; together [`STRING_BYTES`] at most.
        count: u16,
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
    /// Elements of OUTS, one after the other.
    PortOutString {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
        /// How many; together [`STRING_BYTES`] at most.
        count: u16,
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

impl IoAccess {
    /// Is it one to a port?
    #[must_use]
    pub fn is_port(&self) -> bool {
        !matches!(self, Self::MmioRead { .. } | Self::MmioWrite { .. })
    }
}

/// The most that one access can bring or take: what `kvm_run` has room for behind its fields.
pub const STRING_BYTES: usize = 1024;

/// What the log says to an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was answered: the value read, or 0 for a write.
    Done(u64),
    /// As before, and nobody had to be asked: a register that the client has told to be constant.
    Constant(u64),
    /// The client must be asked.
    Ask,
    /// One instruction made more accesses than the log holds, or others than before: a bug, the guest is stopped.
    Overflow,
}

/// More accesses than any instruction makes: the 108 bytes of FNSAVE, at an odd address, in accesses of 8 bytes and less.
const CAPACITY: usize = 20;

/// The accesses of the instruction that is being executed.
#[derive(Clone, Debug)]
pub struct IoLog {
    done: [Option<(IoAccess, u64)>; CAPACITY],
    answered: usize,
    cursor: usize,
    pending: Option<IoAccess>,
    /// Writes of an instruction that has retired, behind the pending one. The first of them is `posted_next`.
    posted: [Option<IoAccess>; CAPACITY],
    posted_next: usize,
    /// The pending access is such a write.
    posting: bool,
    /// What is memory has changed since the first answer: the accesses may be others, in another order.
    moved: bool,
    /// With that: the answers that have been taken since the instruction started, a bit for each.
    taken: u32,
    /// What the last [`IoAccess::PortInString`] brought, or the pending [`IoAccess::PortOutString`] takes.
    string: [u8; STRING_BYTES],
}

impl Default for IoLog {
    fn default() -> Self {
        Self {
            done: [None; CAPACITY],
            answered: 0,
            cursor: 0,
            pending: None,
            posted: [None; CAPACITY],
            posted_next: 0,
            posting: false,
            moved: false,
            taken: 0,
            string: [0; STRING_BYTES],
        }
    }
}

impl IoLog {
    /// The instruction starts (again).
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.taken = 0;
    }

    /// The instruction has retired, or was given up for a fault: its accesses are history.
    pub fn clear(&mut self) {
        self.answered = 0;
        self.cursor = 0;
        self.moved = false;
        self.pending = None;
        // As good as always: this is done behind each interpreted instruction.
        if self.posting {
            self.posted = [None; CAPACITY];
            self.posted_next = 0;
            self.posting = false;
        }
    }

    /// The virtual CPU is made another one: an instruction that waits to be executed again is given up. Writes of one that has retired are
    /// still to be made.
    pub fn give_up(&mut self) {
        if !self.posting {
            self.clear();
        }
    }

    /// The client shows the guest other memory than before: what was a device may be RAM, and RAM a device. An instruction that waits to be
    /// executed again may make fewer accesses than it has made, and others between them.
    pub fn memory_changed(&mut self) {
        self.moved |= self.answered != 0 || self.pending.is_some() && !self.posting;
    }

    /// The answer to an access that need not be the next one.
    fn take_any(&mut self, access: IoAccess) -> Option<u64> {
        let free = |index: usize| self.taken >> index & 1 == 0;
        let made = self.done.iter().take(self.answered).enumerate();
        let (index, value) = made
            .flat_map(|(index, made)| made.map(|made| (index, made)))
            .find_map(|(index, (made, value))| (made == access && free(index)).then_some((index, value)))?;
        self.taken |= 1 << index;
        Some(value)
    }

    /// True while an instruction waits to be executed again with answers at hand, or has retired with writes that the client has not
    /// made yet; nothing may come between.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.answered != 0 || self.posting
    }

    /// The instruction has made no access so far.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.answered == 0 && self.pending.is_none()
    }

    /// Appends a write to those that the client is to make for an instruction that has retired on the CPU, where it cannot be executed
    /// again. The log must be clear before the first. False: there is no room.
    pub fn post(&mut self, write: IoAccess) -> bool {
        if self.pending.is_none() {
            self.pending = Some(write);
            self.posting = true;
            return true;
        }
        match self.posted.iter_mut().find(|place| place.is_none()) {
            Some(place) if self.posting && self.posted_next == 0 => {
                *place = Some(write);
                true
            }
            _ => false,
        }
    }

    /// Was the first access that was answered one to a port?
    #[must_use]
    pub fn is_port(&self) -> bool {
        self.done.first().copied().flatten().is_some_and(|(first, _)| first.is_port())
    }

    /// The access that waits for the client.
    #[must_use]
    pub fn pending(&self) -> Option<IoAccess> {
        self.pending
    }

    /// Makes an access: takes its answer from the log or from what is constant, or notes that the client must be asked.
    pub fn access(&mut self, access: IoAccess, constants: &Constants) -> Answer {
        if self.moved {
            if let Some(value) = self.take_any(access) {
                return Answer::Done(value);
            }
        }
        if self.moved || self.cursor >= self.answered {
            if self.answered >= CAPACITY {
                return Answer::Overflow;
            }
            // Noted as if the client had said so: it may say something else before the instruction is executed again.
            if let (Some(value), Some(slot)) = (constants.answer(access), self.done.get_mut(self.answered)) {
                *slot = Some((access, value));
                self.taken |= 1 << self.answered;
                self.answered += 1;
                self.cursor += 1;
                return Answer::Constant(value);
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

    /// Where the client's answer to a pending [`IoAccess::PortInString`] is to be put, before [`IoLog::complete`]; or what it is to be given for
    /// an [`IoAccess::PortOutString`].
    pub fn string_mut(&mut self) -> &mut [u8] {
        &mut self.string
    }

    /// The first `len` bytes of that.
    #[must_use]
    pub fn string(&self, len: usize) -> &[u8] {
        self.string.get(..len).unwrap_or(&[])
    }

    /// The client has answered the pending access (`value` counts for reads only).
    pub fn complete(&mut self, value: u64) {
        let Some(access) = self.pending.take() else { return };
        if self.posting {
            self.pending = self.posted.get_mut(self.posted_next).and_then(Option::take);
            self.posted_next = if self.pending.is_some() { self.posted_next.wrapping_add(1) } else { 0 };
            self.posting = self.pending.is_some();
            return;
        }
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
        let none = Constants::default();
        let read = IoAccess::MmioRead { gpa: Gpa(0xa0000), len: 4 };
        let write = IoAccess::MmioWrite { gpa: Gpa(0xa0000), len: 4, data: 5 };
        log.rewind();
        assert_eq!(log.access(read, &none), Answer::Ask);
        log.complete(4);
        assert!(log.unfinished());
        log.rewind();
        assert_eq!(log.access(read, &none), Answer::Done(4));
        assert_eq!(log.access(write, &none), Answer::Ask);
        log.complete(0);
        log.rewind();
        assert_eq!(log.access(read, &none), Answer::Done(4));
        assert_eq!(log.access(write, &none), Answer::Done(0));
        log.clear();
        assert!(!log.unfinished());
        assert_eq!(log.access(read, &none), Answer::Ask);
    }

    #[test]
    fn posted_writes_are_made_in_order_and_once() {
        let mut log = IoLog::default();
        let write = |at: u64| IoAccess::MmioWrite { gpa: Gpa(at), len: 8, data: at };
        for at in 0..=CAPACITY as u64 {
            assert!(log.post(write(at)));
        }
        assert!(!log.post(write(99)));
        for at in 0..=CAPACITY as u64 {
            assert!(log.unfinished());
            assert_eq!(log.pending(), Some(write(at)));
            log.complete(0);
        }
        assert_eq!((log.pending(), log.unfinished()), (None, false));
        assert!(log.post(write(7)) && log.post(write(8)));
        log.clear();
        assert_eq!((log.pending(), log.unfinished()), (None, false));
        assert!(log.post(write(9)));
        log.complete(0);
        assert_eq!(log.pending(), None);
    }

    #[test]
    fn what_is_given_up_is_not_what_has_retired() {
        let mut log = IoLog::default();
        let none = Constants::default();
        let write = |at: u64| IoAccess::MmioWrite { gpa: Gpa(at), len: 8, data: at };
        assert_eq!(log.access(write(1), &none), Answer::Ask);
        log.complete(0);
        log.give_up();
        assert!(!log.unfinished());
        assert!(log.post(write(2)) && log.post(write(3)));
        for at in [2, 3] {
            log.give_up();
            assert_eq!(log.pending(), Some(write(at)));
            log.complete(0);
        }
        assert!(!log.unfinished());
    }

    #[test]
    fn memory_may_change_under_an_instruction() {
        let none = Constants::default();
        let [text, frame, port] = [
            IoAccess::MmioRead { gpa: Gpa(0xb8000), len: 4 },
            IoAccess::MmioWrite { gpa: Gpa(0xfd00_0000), len: 4, data: 5 },
            IoAccess::PortOut { port: 0x3c5, size: 1, value: 1 },
        ];
        // A device becomes RAM: the read is made no more.
        let mut log = IoLog::default();
        log.rewind();
        assert_eq!(log.access(text, &none), Answer::Ask);
        log.complete(7);
        log.memory_changed();
        log.rewind();
        assert_eq!(log.access(frame, &none), Answer::Ask);
        log.complete(0);
        log.rewind();
        assert_eq!(log.access(frame, &none), Answer::Done(0));
        log.clear();
        // RAM becomes a device: a read comes before what was answered.
        assert_eq!(log.access(port, &none), Answer::Ask);
        // The client changes memory before it says that it has made the access.
        log.memory_changed();
        log.complete(0);
        for _ in 0..2 {
            log.rewind();
            assert_eq!(log.access(text, &none), Answer::Ask);
        }
        log.complete(7);
        log.rewind();
        assert_eq!((log.access(text, &none), log.access(port, &none)), (Answer::Done(7), Answer::Done(0)));
        log.clear();
        // Without answers there is nothing that could differ.
        log.memory_changed();
        assert_eq!(log.access(port, &none), Answer::Ask);
        log.complete(0);
        log.rewind();
        assert_eq!(log.access(text, &none), Answer::Overflow);
    }

    #[test]
    fn a_constant_is_what_it_was_when_the_instruction_is_executed_again() {
        let mut log = IoLog::default();
        let (read, write) =
            (IoAccess::MmioRead { gpa: Gpa(0x20), len: 4 }, IoAccess::MmioWrite { gpa: Gpa(0x20), len: 4, data: 8 });
        let [before, after] = [7, 8].map(|value| Constants::new([(Gpa(0x20), value)]));
        assert_eq!((log.access(read, &before), log.access(write, &before)), (Answer::Constant(7), Answer::Ask));
        log.complete(0);
        log.rewind();
        assert_eq!((log.access(read, &after), log.access(write, &after)), (Answer::Done(7), Answer::Done(0)));
        log.clear();
        assert_eq!(log.access(read, &after), Answer::Constant(8));
    }

    #[test]
    fn another_access_than_before_is_an_error() {
        let mut log = IoLog::default();
        let none = Constants::default();
        assert_eq!(log.access(IoAccess::PortIn { port: 0x60, size: 1 }, &none), Answer::Ask);
        log.complete(1);
        log.rewind();
        assert_eq!(log.access(IoAccess::PortIn { port: 0x61, size: 1 }, &none), Answer::Overflow);
    }
}
