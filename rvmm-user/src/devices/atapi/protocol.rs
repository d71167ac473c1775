//! How packets and their data get over the cable (ATA/ATAPI-6, section 9.8 and 9.9).

use super::commands::Reply;
use super::sense::Sense;
use super::{identify, Cdrom, SIGNATURE};
use crate::devices::block::{Completion, Failure, Request};
use crate::devices::ide::interface::Phase;
use crate::devices::ide::registers::{ABRT, DRDY, DSC, ERR};

/// The size of a packet.
pub const PACKET: usize = 12;
/// The size of a sector.
pub const SECTOR: usize = 2048;
/// The most sectors that the medium is asked for at once: 64 KiB.
const PIECE: u32 = 32;

/// Interrupt reason: a command, no data.
const COMMAND: u8 = 0x01;
/// Interrupt reason: to the host.
const TO_HOST: u8 = 0x02;

/// Features of the command PACKET: data by DMA.
const BY_DMA: u8 = 0x01;
/// Features: the bus is released meanwhile, which this drive does not do.
const OVERLAP: u8 = 0x02;

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Idle,
    /// IDENTIFY PACKET DEVICE is read.
    Identify,
    /// The packet is being written.
    Packet(Way),
    /// The answer is being read.
    Data(Way),
    /// Sectors are being read.
    Sectors(Way, Rest),
}

/// How data goes to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Dma,
    /// In blocks of so many bytes at most.
    Pio(u16),
}

/// What is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    next: u64,
    left: u32,
    error: Option<Failure>,
}

impl Cdrom {
    /// Executes the ATA command `code`.
    pub fn command(&mut self, code: u8) {
        self.port.irq = false;
        self.port.error = 0;
        match code {
            0x08 => self.soft_reset(),
            0xA0 => self.begin_packet(),
            0xA1 => self.identify(),
            // Section 9.12: whoever takes this for a disk learns what it is.
            0x20 | 0xEC => {
                self.port.regs.set_signature(SIGNATURE.0, SIGNATURE.1);
                self.abort();
            }
            // The power commands: nothing turns that could stop.
            0xE0..=0xE3 | 0xE6 => self.port.finish(),
            0xE5 => {
                self.port.regs.count.now = 0xFF;
                self.port.finish();
            }
            0xEF => self.set_features(),
            _ => self.abort(),
        }
    }

    /// A block has been transferred.
    pub fn block_ended(&mut self) {
        match self.stage {
            Stage::Idle => {}
            Stage::Identify => self.port.rest(DRDY | DSC),
            Stage::Packet(way) => self.packet_written(way),
            Stage::Data(way) if self.port.left() > 0 => self.send_block(way),
            Stage::Data(_) => self.succeed(),
            Stage::Sectors(way, _) if self.port.left() > 0 => self.send_block(way),
            Stage::Sectors(way, rest) => self.read_on(way, rest),
        }
    }

    /// The medium has answered.
    pub(super) fn piece_read(&mut self, completion: Completion) {
        let Stage::Sectors(way, rest) = self.stage else { return };
        let rest = Rest {
            next: rest.next + u64::from(completion.sectors),
            left: rest.left.saturating_sub(completion.sectors),
            error: completion.error,
        };
        self.stage = Stage::Sectors(way, rest);
        if completion.data.is_empty() {
            return self.read_on(way, rest);
        }
        self.port.load(completion.data);
        self.send_block(way);
    }

    fn abort(&mut self) {
        self.stage = Stage::Idle;
        self.port.fail(0, ABRT);
    }

    fn identify(&mut self) {
        self.stage = Stage::Identify;
        self.port.load(identify::data(self.place));
        self.port.start_block(Phase::PioIn, usize::MAX);
        self.port.irq = true;
    }

    fn set_features(&mut self) {
        let regs = &self.port.regs;
        // The transfer mode, as for disks; everything else there is to choose is for disks.
        match (regs.features.now, regs.count.now >> 3) {
            (0x03, 0 | 1 | 4 | 8) | (0x66 | 0xCC, _) => self.port.finish(),
            _ => self.abort(),
        }
    }

    fn begin_packet(&mut self) {
        let regs = &mut self.port.regs;
        if regs.features.now & OVERLAP != 0 {
            return self.abort();
        }
        let way = match regs.features.now & BY_DMA {
            0 => Way::Pio(u16::from_le_bytes([regs.mid.now, regs.high.now])),
            _ => Way::Dma,
        };
        regs.count.now = COMMAND;
        self.stage = Stage::Packet(way);
        self.port.load(vec![0; PACKET]);
        // The drive wants the packet without an interrupt, as IDENTIFY PACKET DEVICE says.
        self.port.start_block(Phase::PioOut, PACKET);
    }

    fn packet_written(&mut self, way: Way) {
        let Some(packet) = self.port.buffer.first_chunk::<PACKET>().copied() else { return self.abort() };
        match self.execute(&packet) {
            Reply::Done => self.succeed(),
            Reply::Data(data) if data.is_empty() => self.succeed(),
            Reply::Sectors { count: 0, .. } => self.succeed(),
            Reply::Failed(sense) => self.fail(sense),
            // Section 8.23: a limit of 0 is no limit for a command that has data.
            Reply::Data(_) | Reply::Sectors { .. } if way == Way::Pio(0) => self.abort(),
            Reply::Data(data) => {
                self.stage = Stage::Data(way);
                self.port.load(data);
                self.send_block(way);
            }
            Reply::Sectors { lba, count } => self.read_on(way, Rest { next: lba.into(), left: count, error: None }),
        }
    }

    /// Sectors that have been asked for were sent, if any: what now?
    fn read_on(&mut self, way: Way, rest: Rest) {
        self.stage = Stage::Sectors(way, rest);
        match rest.error {
            Some(Failure::NoSuchSector) => self.fail(Sense::OUT_OF_RANGE.at(rest.next)),
            Some(Failure::Unreadable) => self.fail(Sense::UNREADABLE.at(rest.next)),
            Some(Failure::Unwritable | Failure::WriteProtected) => self.fail(Sense::INTERNAL),
            None if rest.left == 0 => self.succeed(),
            None => self.port.ask(Request::Read { lba: rest.next, sectors: rest.left.min(PIECE) }),
        }
    }

    /// Sends the next block of the buffer.
    fn send_block(&mut self, way: Way) {
        self.port.regs.count.now = TO_HOST;
        match way {
            Way::Dma => self.port.start_block(Phase::DmaIn, usize::MAX),
            Way::Pio(limit) => {
                let size = self.block_size(limit);
                [self.port.regs.mid.now, self.port.regs.high.now] = (size as u16).to_le_bytes();
                self.port.start_block(Phase::PioIn, size);
                self.port.irq = true;
            }
        }
    }

    /// The next block's size: within the host's limit, even unless it is the last, and whole sectors if the limit allows.
    fn block_size(&self, limit: u16) -> usize {
        let left = self.port.left();
        // Section 8.23: FFFF is taken for FFFE.
        let limit = usize::from(limit).min(0xFFFE);
        if left <= limit {
            return left;
        }
        match limit {
            limit if limit >= SECTOR && matches!(self.stage, Stage::Sectors(..)) => limit - limit % SECTOR,
            // No even block fits into one byte: one word is transferred all the same.
            limit => (limit & !1).max(2),
        }
    }

    /// The command succeeded.
    fn succeed(&mut self) {
        self.sense = Sense::NONE;
        self.end(DRDY | DSC, 0);
    }

    /// The command failed: CHECK CONDITION, with the sense key in the error register.
    fn fail(&mut self, sense: Sense) {
        self.sense = sense;
        self.end(DRDY | DSC | ERR, sense.key << 4 | ABRT);
    }

    fn end(&mut self, status: u8, error: u8) {
        self.stage = Stage::Idle;
        self.port.regs.count.now = COMMAND | TO_HOST;
        self.port.end_with(status, error);
    }
}
