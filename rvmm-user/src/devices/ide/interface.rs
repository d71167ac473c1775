//! What ATA and ATAPI drives have in common: registers, the interrupt, the data buffer, and the request that is under way.

use super::registers::{TaskFile, BSY, DRDY, DRQ, DSC, ERR, PASSED};
use crate::devices::block::Request;

/// What the drive is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a command.
    Idle,
    /// It waits for its medium.
    Busy,
    /// The host reads the buffer, word by word.
    PioIn,
    /// The host fills the buffer, word by word.
    PioOut,
    /// The bus master reads the buffer.
    DmaIn,
    /// The bus master fills the buffer.
    DmaOut,
}

/// The drive's side of the cable.
#[derive(Debug)]
pub struct Interface {
    /// The command block registers.
    pub regs: TaskFile,
    /// The status register.
    pub status: u8,
    /// The error register.
    pub error: u8,
    /// An interrupt is pending.
    pub irq: bool,
    /// What it is doing.
    pub phase: Phase,
    /// Data on its way.
    pub buffer: Vec<u8>,
    /// The next byte of it.
    at: usize,
    /// The end of the block that the host transfers before the drive looks at it again.
    end: usize,
    queued: Option<Request>,
    /// Requests that were taken and have not come back.
    under_way: u32,
    /// How many of these nobody waits for any more.
    abandoned: u32,
}

impl Interface {
    /// A drive at rest.
    pub fn new() -> Self {
        Interface {
            regs: TaskFile::default(),
            status: 0,
            error: PASSED,
            irq: false,
            phase: Phase::Idle,
            buffer: Vec::new(),
            at: 0,
            end: 0,
            queued: None,
            under_way: 0,
            abandoned: 0,
        }
    }

    /// Gives up whatever it was doing. What the medium does for it already is not called back.
    pub fn cancel(&mut self) {
        self.queued = None;
        self.abandoned = self.under_way;
        self.phase = Phase::Idle;
        self.buffer = Vec::new();
        (self.at, self.end) = (0, 0);
        self.irq = false;
    }

    /// Asks the medium, and is busy.
    pub fn ask(&mut self, request: Request) {
        self.queued = Some(request);
        self.phase = Phase::Busy;
        self.status = BSY;
    }

    /// What the medium is to do.
    pub fn take_request(&mut self) -> Option<Request> {
        let request = self.queued.take()?;
        self.under_way += 1;
        Some(request)
    }

    /// A request has ended. Returns whether the drive waits for it.
    pub fn answered(&mut self) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        if self.abandoned > 0 {
            self.abandoned -= 1;
            return false;
        }
        self.phase == Phase::Busy && self.queued.is_none()
    }

    /// Ends the command, with an interrupt.
    pub fn finish(&mut self) {
        self.end_with(DRDY | DSC, 0);
    }

    /// Ends the command with an error, and an interrupt.
    pub fn fail(&mut self, status: u8, error: u8) {
        self.end_with(DRDY | DSC | ERR | status, error);
    }

    /// Ends the command with this status and error, and an interrupt.
    pub fn end_with(&mut self, status: u8, error: u8) {
        self.rest(status);
        self.error = error;
        self.irq = true;
    }

    /// Ends the command without an interrupt, as after data that the host has read.
    pub fn rest(&mut self, status: u8) {
        self.phase = Phase::Idle;
        self.status = status;
        // Up to 128 KiB need not be kept for the next command.
        self.buffer = Vec::new();
        (self.at, self.end) = (0, 0);
    }

    /// Puts `data` into the buffer, to be transferred from its beginning. Nothing of it is in a block yet.
    pub fn load(&mut self, data: Vec<u8>) {
        self.buffer = data;
        (self.at, self.end) = (0, 0);
    }

    /// Wants the next block of at most `size` bytes transferred.
    pub fn start_block(&mut self, phase: Phase, size: usize) {
        self.end = self.at.saturating_add(size).min(self.buffer.len());
        self.phase = phase;
        self.status = DRDY | DSC | DRQ;
    }

    /// Bytes of the buffer that were not transferred.
    pub fn left(&self) -> usize {
        self.buffer.len().saturating_sub(self.at)
    }

    /// Whether the block has been transferred.
    pub fn block_ended(&self) -> bool {
        self.at >= self.end
    }

    /// Reads a word of the block; a byte behind its end is 0.
    pub fn read_word(&mut self) -> u16 {
        let byte = |at: usize| if at < self.end { self.buffer.get(at).copied().unwrap_or(0) } else { 0 };
        let word = u16::from_le_bytes([byte(self.at), byte(self.at + 1)]);
        self.at = (self.at + 2).min(self.end);
        word
    }

    /// Writes a word of the block; a byte behind its end is lost.
    pub fn write_word(&mut self, word: u16) {
        for byte in word.to_le_bytes() {
            if self.at < self.end {
                if let Some(place) = self.buffer.get_mut(self.at) {
                    *place = byte;
                }
                self.at += 1;
            }
        }
    }

    /// The rest of the block, for the bus master.
    pub fn rest_of_block(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.at..self.end).unwrap_or_default()
    }

    /// The bus master has transferred `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.at = (self.at + count).min(self.end);
    }
}
