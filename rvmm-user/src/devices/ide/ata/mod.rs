//! A hard disk (ATA/ATAPI-6, NCITS 361).

mod commands;
mod identify;
mod job;

use super::geometry::Geometry;
use super::interface::{Interface, Phase};
use super::registers::{DRDY, DSC, PASSED};
use super::Place;
use crate::devices::block::{Completion, Medium};
use job::Job;

/// The most sectors of a DRQ block of READ and WRITE MULTIPLE.
const MOST_MULTIPLE: u8 = 16;

/// How fast the drive transfers, by SET FEATURES: a mode's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferMode {
    /// PIO alone was chosen.
    Pio,
    /// Multiword DMA.
    Multiword(u8),
    /// Ultra DMA.
    Ultra(u8),
}

/// How much of the drive is awake. It has no motor, so that only what it says changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Active,
    Standby,
    /// Until a reset.
    Sleep,
}

/// A hard disk.
#[derive(Debug)]
pub struct Ata {
    /// The cable's side.
    pub port: Interface,
    medium: Medium,
    place: Place,
    /// What the drive was made with.
    geometry: Geometry,
    /// What INITIALIZE DEVICE PARAMETERS chose.
    translation: Geometry,
    multiple: u8,
    mode: TransferMode,
    power: Power,
    /// Written data may wait for a flush.
    write_cache: bool,
    read_ahead: bool,
    job: Option<Job>,
}

impl Ata {
    /// A disk with this medium, after power-on.
    pub fn new(medium: Medium, geometry: Geometry, place: Place) -> Self {
        let mut disk = Ata {
            port: Interface::new(),
            medium,
            place,
            geometry,
            translation: geometry,
            multiple: MOST_MULTIPLE,
            mode: TransferMode::Ultra(5),
            power: Power::Active,
            write_cache: true,
            read_ahead: true,
            job: None,
        };
        disk.soft_reset();
        disk
    }

    /// What the drive was made with.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Power-on or the reset line.
    pub fn hard_reset(&mut self) {
        self.translation = self.geometry;
        self.multiple = MOST_MULTIPLE;
        self.mode = TransferMode::Ultra(5);
        (self.write_cache, self.read_ahead) = (true, true);
        self.soft_reset();
    }

    /// The software reset, as it ends: the signature of a disk (section 9.12). What SET FEATURES and the like chose stays.
    pub fn soft_reset(&mut self) {
        self.cancel();
        self.power = Power::Active;
        self.port.regs.set_signature(0, 0);
        self.port.error = PASSED;
        self.port.status = DRDY | DSC;
    }

    /// Gives up the command under way.
    pub fn cancel(&mut self) {
        self.port.cancel();
        self.job = None;
    }

    /// The medium is done.
    pub fn complete(&mut self, completion: Completion) {
        if self.port.answered() {
            self.job_answered(completion);
        }
    }

    /// The host, or the bus master, has transferred a block.
    pub fn block_ended(&mut self) {
        match self.port.phase {
            Phase::PioIn | Phase::DmaIn => self.block_read(),
            Phase::PioOut | Phase::DmaOut => self.block_written(),
            Phase::Idle | Phase::Busy => {}
        }
    }
}
