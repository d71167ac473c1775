//! A CD-ROM drive: packet commands over ATA (ATA/ATAPI-6, section 8.23; SFF-8020i), which are SCSI's (MMC-2, SPC-2).

mod commands;
mod identify;
mod information;
mod mode;
mod protocol;
mod sense;
mod toc;

use crate::devices::block::{Completion, Medium};
use crate::devices::ide::interface::Interface;
use crate::devices::ide::registers::PASSED;
use crate::devices::ide::Place;
use protocol::Stage;
use sense::Sense;

/// What tells a drive with packet commands from a disk, in the middle and the high address register.
const SIGNATURE: (u8, u8) = (0x14, 0xEB);

/// What GET EVENT STATUS NOTIFICATION has to tell of the medium next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaEvent {
    None,
    New,
    Removed,
}

/// A CD-ROM drive.
#[derive(Debug)]
pub struct Cdrom {
    /// The cable's side.
    pub port: Interface,
    place: Place,
    medium: Option<Medium>,
    tray_open: bool,
    /// PREVENT ALLOW MEDIUM REMOVAL.
    locked: bool,
    event: MediaEvent,
    /// What REQUEST SENSE tells.
    sense: Sense,
    /// A medium was inserted, which the next command is told instead of being executed.
    attention: bool,
    stage: Stage,
}

impl Cdrom {
    /// A drive, after power-on, with this medium in it. Its sectors have 2,048 bytes.
    pub fn new(medium: Option<Medium>, place: Place) -> Self {
        let mut drive = Cdrom {
            port: Interface::new(),
            place,
            medium,
            tray_open: false,
            locked: false,
            event: MediaEvent::None,
            sense: Sense::NONE,
            // As in QEMU: the medium of power-on is not announced. Simple drivers would take that for a failure.
            attention: false,
            stage: Stage::Idle,
        };
        drive.soft_reset();
        drive
    }

    /// Takes the medium out, or puts another one in.
    pub fn insert(&mut self, medium: Option<Medium>) {
        self.attention = medium.is_some();
        self.event = if medium.is_some() { MediaEvent::New } else { MediaEvent::Removed };
        (self.medium, self.tray_open) = (medium, false);
    }

    /// Whether the guest keeps the medium from being taken out by hand.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Power-on or the reset line.
    pub fn hard_reset(&mut self) {
        self.soft_reset();
        (self.locked, self.tray_open, self.attention) = (false, false, false);
        self.sense = Sense::NONE;
    }

    /// The software reset, as it ends: the signature, and DRDY clear (ATA/ATAPI-6, section 9.12).
    pub fn soft_reset(&mut self) {
        self.cancel();
        self.port.regs.set_signature(SIGNATURE.0, SIGNATURE.1);
        self.port.error = PASSED;
        self.port.status = 0;
    }

    /// Gives up the command under way.
    pub fn cancel(&mut self) {
        self.port.cancel();
        self.stage = Stage::Idle;
    }

    /// EXECUTE DEVICE DIAGNOSTIC.
    pub fn diagnose(&mut self) {
        self.soft_reset();
    }

    /// The medium is done.
    pub fn complete(&mut self, completion: Completion) {
        if self.port.answered() {
            self.piece_read(completion);
        }
    }

    /// The medium, if it can be read.
    fn loaded(&self) -> Option<Medium> {
        self.medium.filter(|_| !self.tray_open)
    }
}

#[cfg(test)]
mod tests;
