//! For tests: a channel with disks behind it, and a driver as systems have them.

use std::sync::{Arc, Mutex};

use super::ata::Ata;
use super::channel::Channel;
use super::drive::Drive;
use super::geometry::Geometry;
use super::registers::{BSY, DRQ};
use super::Place;
use crate::devices::dma::Dma;
use crate::devices::testing::Ram;
use crate::disk::perform::perform;
use crate::disk::testing::{FaultyDisk, FaultyState};
use crate::disk::Disk;

/// Where the driver has its table of regions.
const TABLE: u32 = 0x1000;
/// Where its data is.
pub const DATA: usize = 0x1_0000;

/// A channel, memory, and the media.
pub struct Bench {
    pub channel: Channel,
    pub ram: Ram,
    pub media: [Option<Box<dyn Disk>>; 2],
}

/// A disk of this size as drive 0, its geometry the usual one.
pub fn with_disk(sectors: usize) -> (Bench, Arc<Mutex<FaultyState>>) {
    with(FaultyDisk::new(sectors))
}

/// A disk as drive 0.
pub fn with(disk: FaultyDisk) -> (Bench, Arc<Mutex<FaultyState>>) {
    let state = disk.state();
    let place = Place { channel: 0, drive: 0 };
    let drive = Ata::new(disk.medium(), Geometry::usual(disk.sectors()), place);
    (Bench::new([Some(Drive::Disk(drive)), None], [Some(Box::new(disk)), None]), state)
}

impl Bench {
    pub fn new(drives: [Option<Drive>; 2], media: [Option<Box<dyn Disk>>; 2]) -> Self {
        Bench { channel: Channel::new(drives), ram: Ram::new(0x8_0000), media }
    }

    /// Has the media do what they are asked for.
    pub fn serve(&mut self) {
        while let Some((drive, request)) = self.channel.take_request() {
            let medium = self.media[drive].as_mut().unwrap();
            let (completion, _) = perform(medium.as_mut(), &request);
            self.channel.complete(drive, completion, &mut self.ram);
        }
    }

    /// Writes a register of the command block.
    pub fn set(&mut self, offset: u16, value: u8) {
        self.channel.write(offset, 1, value.into(), &mut self.ram);
    }

    /// Reads a register of the command block.
    pub fn get(&mut self, offset: u16) -> u8 {
        self.channel.read(offset, 1, &mut self.ram) as u8
    }

    pub fn status(&mut self) -> u8 {
        self.serve();
        self.get(7)
    }

    /// Writes the command block for a 28-bit address, and the command.
    pub fn command28(&mut self, code: u8, lba: u32, count: u8) {
        let [low, mid, high, top] = lba.to_le_bytes();
        for (offset, value) in [(6, 0xE0 | top), (2, count), (3, low), (4, mid), (5, high), (7, code)] {
            self.set(offset, value);
        }
    }

    /// Writes the command block for a 48-bit address, and the command.
    pub fn command48(&mut self, code: u8, lba: u64, count: u16) {
        let [a, b, c, d, e, f, ..] = lba.to_le_bytes();
        let [count, high_count] = count.to_le_bytes();
        let writes =
            [(6, 0x40), (2, high_count), (3, d), (4, e), (5, f), (2, count), (3, a), (4, b), (5, c), (7, code)];
        for (offset, value) in writes {
            self.set(offset, value);
        }
    }

    /// Reads blocks of at most `block` bytes as long as the drive has some. The line must be high for each, and low behind.
    pub fn read_blocks(&mut self, block: usize) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            self.serve();
            if self.channel.read_control() & (BSY | DRQ) != DRQ {
                return data;
            }
            assert!(self.channel.irq(), "no interrupt for a block");
            self.get(7);
            assert!(!self.channel.irq());
            for _ in 0..block / 4 {
                if self.channel.read_control() & DRQ == 0 || self.channel.irq() {
                    break;
                }
                data.extend(self.channel.read(0, 4, &mut self.ram).to_le_bytes());
            }
        }
    }

    /// Writes `data` in blocks of `block` bytes, waiting for an interrupt before each but the first.
    pub fn write_blocks(&mut self, data: &[u8], block: usize) {
        for (index, part) in data.chunks(block).enumerate() {
            self.serve();
            assert_eq!(self.channel.irq(), index > 0, "block {index}");
            assert_eq!(self.get(7) & (BSY | DRQ), DRQ);
            for word in part.chunks(2) {
                let word = u32::from(u16::from_le_bytes([word[0], word[1]]));
                self.channel.write(0, 2, word, &mut self.ram);
            }
        }
        self.serve();
    }

    /// Writes a table of regions and its address.
    pub fn regions(&mut self, regions: &[(u32, u16)]) {
        for (index, (address, count)) in regions.iter().enumerate() {
            let end: u16 = if index + 1 == regions.len() { 0x8000 } else { 0 };
            let entry = [&address.to_le_bytes()[..], &count.to_le_bytes(), &end.to_le_bytes()].concat();
            self.ram.write(u64::from(TABLE) + 8 * index as u64, &entry).unwrap();
        }
        self.channel.write_master(4, 4, TABLE, &mut self.ram);
    }

    /// A region for each 32 KiB of `bytes` bytes from [`DATA`] on.
    pub fn map(&mut self, bytes: usize) {
        let starts: Vec<usize> = (0..bytes).step_by(0x8000).collect();
        let regions: Vec<(u32, u16)> =
            starts.iter().map(|at| ((DATA + at) as u32, (bytes - at).min(0x8000) as u16)).collect();
        self.regions(&regions);
    }

    /// Starts the bus master.
    pub fn start(&mut self) {
        self.channel.write_master(2, 1, 0x06, &mut self.ram);
        self.channel.write_master(0, 1, 0x01, &mut self.ram);
        self.serve();
    }

    /// Its status register.
    pub fn master(&self) -> u8 {
        self.channel.read_master(2, 1) as u8
    }
}
