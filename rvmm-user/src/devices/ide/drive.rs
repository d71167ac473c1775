//! A drive of either kind, as its channel sees it.

use super::ata::Ata;
use super::geometry::Geometry;
use super::interface::{Interface, Phase};
use crate::devices::atapi::Cdrom;
use crate::devices::block::{Completion, Request};

/// A drive.
#[derive(Debug)]
pub enum Drive {
    /// A hard disk.
    Disk(Ata),
    /// A CD-ROM.
    Cdrom(Cdrom),
}

/// Calls the same function of either kind.
macro_rules! either {
    ($drive:expr, $name:ident $(, $argument:expr)*) => {
        match $drive {
            Drive::Disk(drive) => drive.$name($($argument),*),
            Drive::Cdrom(drive) => drive.$name($($argument),*),
        }
    };
}

impl Drive {
    /// The geometry that a hard disk was made with.
    pub fn geometry(&self) -> Option<Geometry> {
        match self {
            Drive::Disk(disk) => Some(disk.geometry()),
            Drive::Cdrom(_) => None,
        }
    }

    /// The cable's side.
    pub fn port(&self) -> &Interface {
        match self {
            Drive::Disk(disk) => &disk.port,
            Drive::Cdrom(cdrom) => &cdrom.port,
        }
    }

    /// The cable's side, to be changed.
    pub fn port_mut(&mut self) -> &mut Interface {
        match self {
            Drive::Disk(disk) => &mut disk.port,
            Drive::Cdrom(cdrom) => &mut cdrom.port,
        }
    }

    /// Power-on or the reset line.
    pub fn hard_reset(&mut self) {
        either!(self, hard_reset);
    }

    /// The software reset, as it ends.
    pub fn soft_reset(&mut self) {
        either!(self, soft_reset);
    }

    /// Gives up the command under way.
    pub fn cancel(&mut self) {
        either!(self, cancel);
    }

    /// EXECUTE DEVICE DIAGNOSTIC.
    pub fn diagnose(&mut self) {
        either!(self, diagnose);
    }

    /// Executes a command.
    pub fn command(&mut self, code: u8) {
        either!(self, command, code);
    }

    /// The medium is done with what [`Drive::take_request`] gave.
    pub fn complete(&mut self, completion: Completion) {
        either!(self, complete, completion);
    }

    /// What the medium is to do.
    pub fn take_request(&mut self) -> Option<Request> {
        self.port_mut().take_request()
    }

    /// Reads a word from the data register.
    pub fn read_word(&mut self) -> u16 {
        if self.port().phase != Phase::PioIn {
            return 0;
        }
        let word = self.port_mut().read_word();
        self.check_block();
        word
    }

    /// Writes a word to the data register.
    pub fn write_word(&mut self, word: u16) {
        if self.port().phase == Phase::PioOut {
            self.port_mut().write_word(word);
            self.check_block();
        }
    }

    /// The bus master has transferred `count` bytes.
    pub fn dma_moved(&mut self, count: usize) {
        self.port_mut().advance(count);
        self.check_block();
    }

    fn check_block(&mut self) {
        if self.port().block_ended() {
            either!(self, block_ended);
        }
    }
}
