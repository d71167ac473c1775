//! Commands that move sectors: in pieces that the medium is asked for one after the other.

use super::{Ata, Power};
use crate::devices::block::{Completion, Failure, Request};
use crate::devices::ide::interface::Phase;
use crate::devices::ide::registers::{ABRT, DF, DRDY, DSC, IDNF, UNC};

/// The most sectors that the medium is asked for at once: 128 KiB.
const PIECE: u32 = 256;
/// The size of a sector in bytes.
const SECTOR: usize = 512;

/// What a command does with sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    /// Written, made durable and read again.
    WriteVerify,
    Verify,
    Flush,
}

/// How the sectors get to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    None,
    /// By the data register, so many sectors per DRQ block.
    Pio(u8),
    Dma,
}

/// How the command has its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Chs,
    /// 28 bits.
    Short,
    /// 48 bits.
    Long,
}

/// What the medium is doing for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What the command is about.
    Main,
    /// Making durable what was written, before the command ends.
    Flushing,
    /// Reading what was written.
    Checking,
}

/// A command under way.
#[derive(Clone, Debug)]
pub struct Job {
    kind: Kind,
    transfer: Transfer,
    address: Address,
    step: Step,
    first: u64,
    count: u32,
    /// The next sector to ask the medium for.
    next: u64,
    /// Sectors from there on.
    left: u32,
    /// Why `next` cannot be had; told when the sectors before it have been.
    error: Option<Failure>,
}

impl Job {
    /// A command for `count` sectors from `lba` on.
    pub fn new(kind: Kind, transfer: Transfer, address: Address, lba: u64, count: u32) -> Self {
        let (first, next, left) = (lba, lba, count);
        Job { kind, transfer, address, step: Step::Main, first, count, next, left, error: None }
    }

    /// FLUSH CACHE.
    pub fn flush() -> Self {
        Self::new(Kind::Flush, Transfer::None, Address::Short, 0, 0)
    }

    fn block_bytes(&self) -> usize {
        match self.transfer {
            Transfer::Pio(sectors) => usize::from(sectors) * SECTOR,
            Transfer::None | Transfer::Dma => usize::MAX,
        }
    }
}

impl Ata {
    /// Begins a command.
    pub(super) fn start(&mut self, job: Job) {
        self.power = Power::Active;
        let job = self.job.insert(job);
        match job.kind {
            Kind::Flush => self.port.ask(Request::Flush),
            Kind::Read | Kind::Verify => self.ask_piece(),
            Kind::Write | Kind::WriteVerify if self.medium.read_only => self.abort(),
            Kind::Write | Kind::WriteVerify => self.want_piece(),
        }
    }

    /// How many sectors the next piece has; 0 when there is none behind the last sector.
    fn piece(&self) -> u32 {
        let Some(job) = &self.job else { return 0 };
        let there = self.medium.sectors.saturating_sub(job.next);
        job.left.min(PIECE).min(u32::try_from(there).unwrap_or(u32::MAX))
    }

    /// Asks the medium for the next piece.
    fn ask_piece(&mut self) {
        match (self.piece(), &self.job) {
            (0, _) | (_, None) => self.fail(Failure::NoSuchSector),
            (sectors, Some(job)) => self.port.ask(Request::Read { lba: job.next, sectors }),
        }
    }

    /// Asks the host for the next piece.
    fn want_piece(&mut self) {
        match self.piece() {
            0 => self.fail(Failure::NoSuchSector),
            sectors => {
                self.port.load(vec![0; sectors as usize * SECTOR]);
                self.next_block();
            }
        }
    }

    /// Wants the next block of the buffer transferred.
    fn next_block(&mut self) {
        let Some(job) = &self.job else { return };
        let reading = job.kind == Kind::Read;
        let phase = match (job.transfer, reading) {
            (Transfer::Dma, true) => Phase::DmaIn,
            (Transfer::Dma, false) => Phase::DmaOut,
            (_, true) => Phase::PioIn,
            (_, false) => Phase::PioOut,
        };
        self.port.start_block(phase, job.block_bytes());
    }

    /// The host has read a block.
    pub(super) fn block_read(&mut self) {
        let Some(job) = &self.job else {
            // IDENTIFY DEVICE has one block and no job.
            return self.port.rest(DRDY | DSC);
        };
        if self.port.left() > 0 {
            self.next_block();
            self.port.irq = true;
        } else if let Some(failure) = job.error {
            self.fail(failure);
        } else if job.left > 0 {
            self.ask_piece();
        } else if job.transfer == Transfer::Dma {
            self.succeed();
        } else {
            // PIO reads interrupt for blocks only: the end is silent.
            self.succeed();
            self.port.irq = false;
        }
    }

    /// The host has written a block.
    pub(super) fn block_written(&mut self) {
        if self.port.left() > 0 {
            self.next_block();
            self.port.irq = true;
        } else if let Some(job) = &self.job {
            let data = std::mem::take(&mut self.port.buffer);
            self.port.ask(Request::Write { lba: job.next, data });
        }
    }

    /// The medium has answered.
    pub(super) fn job_answered(&mut self, completion: Completion) {
        let Some(job) = &mut self.job else { return };
        match (job.step, job.kind) {
            (Step::Main, Kind::Flush) | (Step::Flushing, Kind::Write) => self.end(completion.error),
            (Step::Flushing, _) => match completion.error {
                Some(failure) => self.fail(failure),
                None => {
                    job.step = Step::Checking;
                    (job.next, job.left) = (job.first, job.count);
                    self.ask_piece();
                }
            },
            (Step::Main, Kind::Read) => self.piece_read(completion),
            (Step::Main, Kind::Verify) | (Step::Checking, _) => {
                job.next += u64::from(completion.sectors);
                job.left = job.left.saturating_sub(completion.sectors);
                match completion.error {
                    None if job.left > 0 => self.ask_piece(),
                    error => self.end(error),
                }
            }
            (Step::Main, Kind::Write | Kind::WriteVerify) => self.piece_written(&completion),
        }
    }

    fn piece_read(&mut self, completion: Completion) {
        let Some(job) = &mut self.job else { return };
        job.next += u64::from(completion.sectors);
        job.left = job.left.saturating_sub(completion.sectors);
        job.error = completion.error;
        match completion.error {
            Some(failure) if completion.data.is_empty() => self.fail(failure),
            _ => {
                self.port.load(completion.data);
                self.next_block();
                self.port.irq = self.port.phase == Phase::PioIn;
            }
        }
    }

    fn piece_written(&mut self, completion: &Completion) {
        let Some(job) = &mut self.job else { return };
        job.next += u64::from(completion.sectors);
        job.left = job.left.saturating_sub(completion.sectors);
        if let Some(failure) = completion.error {
            self.fail(failure);
        } else if job.left > 0 {
            self.want_piece();
            // A DMA command interrupts at its end only.
            self.port.irq |= self.port.phase == Phase::PioOut;
        } else if !self.write_cache || job.kind == Kind::WriteVerify {
            job.step = Step::Flushing;
            self.port.ask(Request::Flush);
        } else {
            self.succeed();
        }
    }

    fn end(&mut self, error: Option<Failure>) {
        match error {
            Some(failure) => self.fail(failure),
            None => self.succeed(),
        }
    }

    /// The command succeeded: the registers name its last sector.
    fn succeed(&mut self) {
        if let Some(job) = self.job.take() {
            if job.count > 0 {
                self.leave_address(job.address, job.first + u64::from(job.count) - 1);
                self.leave_count(job.address, 0);
            }
        }
        self.port.finish();
    }

    /// The command failed: the registers name the sector, and how many were not done.
    fn fail(&mut self, failure: Failure) {
        if let Some(job) = self.job.take() {
            if job.count > 0 {
                self.leave_address(job.address, job.next);
                self.leave_count(job.address, job.left);
            }
        }
        match failure {
            Failure::NoSuchSector => self.port.fail(0, IDNF),
            Failure::Unreadable => self.port.fail(0, UNC),
            Failure::Unwritable => self.port.fail(DF, ABRT),
            Failure::WriteProtected => self.port.fail(0, ABRT),
        }
    }

    fn leave_count(&mut self, address: Address, count: u32) {
        match address {
            Address::Long => self.port.regs.set_count48(count),
            Address::Chs | Address::Short => self.port.regs.count.now = count as u8,
        }
    }
}
