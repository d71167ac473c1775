//! The diskette controller 82077AA in its PC/AT mode (Intel data sheet, order number 290166), and up to four drives.
//!
//! Heads move and diskettes turn in no time. Commands: everything but the three SCAN commands, which are answered as invalid.

mod commands;
mod format_track;
pub mod media;
mod move_bytes;
mod result;
mod transfer;

use std::collections::VecDeque;

use super::block::{Completion, Request};
use super::dma::Dma;
use super::dma8237::IsaDma;
use media::{Diskette, Drive};
use transfer::Transfer;

/// The DMA channel of a PC's diskette controller.
pub const DMA_CHANNEL: usize = 2;

/// Digital output: the controller works (0: it is held in reset).
const DOR_ENABLE: u8 = 0x04;
/// Digital output: interrupts and DMA reach the bus.
const DOR_GATE: u8 = 0x08;
/// Data rate select: reset, once.
const DSR_RESET: u8 = 0x80;

/// Main status: a byte can be transferred.
const RQM: u8 = 0x80;
/// Main status: to the host.
const DIO: u8 = 0x40;
/// Main status: data is transferred without DMA.
const NON_DMA: u8 = 0x20;
/// Main status: a command is under way.
const BUSY: u8 = 0x10;

/// Status register 0: the drive was found changed by polling, as after a reset.
const POLLED: u8 = 0xC0;

/// Digital input: the disk change line.
const CHANGED: u8 = 0x80;

/// CONFIGURE: a seek goes before each transfer.
const IMPLIED_SEEK: u8 = 0x40;
/// CONFIGURE: there is no FIFO; the default.
const NO_FIFO: u8 = 0x20;
/// CONFIGURE: drives are not polled for changes.
const NO_POLLING: u8 = 0x10;

/// What the controller is doing.
#[derive(Debug)]
enum Phase {
    /// It waits for a command.
    Idle,
    /// Bytes of a command have come.
    Command(Vec<u8>),
    /// Sectors are transferred.
    Transfer(Transfer),
    /// The host reads these.
    Result(VecDeque<u8>),
}

/// What CONFIGURE, SPECIFY and PERPENDICULAR MODE have set.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    /// SPECIFY's bytes: times, of which there are none, and whether there is no DMA.
    specify: [u8; 2],
    /// CONFIGURE's: implied seek, FIFO, polling, threshold; precompensation.
    configure: [u8; 2],
    perpendicular: u8,
    locked: bool,
}

/// The controller.
#[derive(Debug)]
pub struct Floppy {
    drives: [Option<Drive>; 4],
    phase: Phase,
    output: u8,
    tape: u8,
    rate: u8,
    settings: Settings,
    /// The last command's end of track, which DUMPREG shows.
    last_eot: u8,
    /// What SENSE INTERRUPT STATUS will tell: status register 0 of each drive that interrupted.
    sense: VecDeque<u8>,
    interrupt: bool,
    queued: Option<(usize, Request)>,
    under_way: u32,
    abandoned: u32,
}

impl Floppy {
    /// A controller after power-on, which holds itself in reset, with these drives; an inner `None` is an empty drive.
    pub fn new(drives: [Option<Option<Diskette>>; 4]) -> Self {
        let mut floppy = Floppy {
            drives: drives.map(|drive| drive.map(Drive::new)),
            phase: Phase::Idle,
            output: 0,
            tape: 0,
            rate: 2,
            settings: Settings::default(),
            last_eot: 0,
            sense: VecDeque::new(),
            interrupt: false,
            queued: None,
            under_way: 0,
            abandoned: 0,
        };
        floppy.hard_reset();
        floppy
    }

    /// Power-on or the reset line.
    pub fn hard_reset(&mut self) {
        (self.settings, self.rate, self.tape) = (Settings::default(), 2, 0);
        self.soft_reset();
        self.output = 0;
        self.sense.clear();
        self.interrupt = false;
    }

    /// Takes the diskette out of a drive, or puts another one in.
    pub fn insert(&mut self, drive: usize, diskette: Option<Diskette>) {
        if let Some(Some(drive)) = self.drives.get_mut(drive) {
            (drive.diskette, drive.changed) = (diskette, true);
        }
    }

    /// Reads the register at `offset` (0–7, port 3F0 + offset; 6 is another device's).
    pub fn read(&mut self, offset: u16) -> u8 {
        match offset {
            2 => self.output,
            3 => self.tape,
            4 => self.main_status(),
            5 => self.read_fifo(),
            7 => match self.drives.get(usize::from(self.output & 3)) {
                Some(Some(Drive { changed: false, .. })) => 0,
                // An absent drive and an empty one are alike on this line.
                _ => CHANGED,
            },
            // Status registers A and B belong to the PS/2 modes.
            _ => super::OPEN_BUS,
        }
    }

    /// Writes the register at `offset` (0–7, port 3F0 + offset). [`Floppy::proceed`] is due afterwards.
    pub fn write(&mut self, offset: u16, value: u8) {
        match offset {
            2 => self.write_output(value),
            3 => self.tape = value & 3,
            4 => {
                self.rate = value & 3;
                if value & DSR_RESET != 0 {
                    self.soft_reset();
                }
            }
            5 => self.write_fifo(value),
            7 => self.rate = value & 3,
            _ => {}
        }
    }

    /// The level of the interrupt line (6).
    pub fn irq(&self) -> bool {
        self.interrupt && self.output & DOR_GATE != 0
    }

    /// Something for a diskette to do, and in which drive.
    pub fn take_request(&mut self) -> Option<(usize, Request)> {
        let request = self.queued.take()?;
        self.under_way += 1;
        Some(request)
    }

    /// The diskette is done. To be called in the order of the requests; [`Floppy::proceed`] is due afterwards.
    pub fn complete(&mut self, completion: Completion) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.abandoned > 0 {
            self.abandoned -= 1;
        } else {
            self.sectors_done(completion);
        }
    }

    /// Lets DMA move what can be moved. To be called after accesses to this controller or the DMA controllers, and completions.
    pub fn proceed(&mut self, isa: &mut IsaDma, memory: &mut dyn Dma) {
        if self.output & DOR_GATE != 0 {
            self.move_by_dma(isa, memory);
        }
    }

    fn ask(&mut self, drive: usize, request: Request) {
        self.queued = Some((drive, request));
    }

    fn main_status(&self) -> u8 {
        match &self.phase {
            _ if self.output & DOR_ENABLE == 0 => 0,
            Phase::Idle => RQM,
            Phase::Command(_) => RQM | BUSY,
            Phase::Transfer(transfer) => BUSY | self.transfer_status(transfer),
            Phase::Result(_) => RQM | DIO | BUSY,
        }
    }

    /// By its rising edge, the enable bit ends a reset; then each drive is polled, and found changed (section 4.6).
    fn write_output(&mut self, value: u8) {
        let was = std::mem::replace(&mut self.output, value);
        if (was ^ value) & DOR_ENABLE != 0 {
            self.soft_reset();
            if value & DOR_ENABLE == 0 {
                self.sense.clear();
                self.interrupt = false;
            }
        }
    }

    /// The end of a reset by software. What LOCK protects stays (section 5.2.9).
    fn soft_reset(&mut self) {
        self.queued = None;
        self.abandoned = self.under_way;
        self.phase = Phase::Idle;
        if !self.settings.locked {
            self.settings.configure = [NO_FIFO, 0];
        }
        self.settings.perpendicular &= 0x3C;
        self.sense.clear();
        self.interrupt = self.settings.configure[0] & NO_POLLING == 0;
        if self.interrupt {
            self.sense.extend((0..4).map(|drive| POLLED | drive));
        }
    }
}

#[cfg(test)]
mod tests;
