//! One IDE channel: the command block (eight ports at 1F0 or 170), the control block (3F6 or 376), and the bus master's registers.

use super::bus_master::BusMaster;
use super::drive::Drive;
use super::geometry::Geometry;
use super::interface::Phase;
use super::registers::{BSY, DEV, DRQ, DSC, HOB, NIEN, SRST};
use crate::devices::block::{Completion, Request};
use crate::devices::dma::Dma;

const DATA: u16 = 0;
const ERROR: u16 = 1;
const DEVICE: u16 = 6;
const STATUS: u16 = 7;

const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
const DEVICE_RESET: u8 = 0x08;

/// A channel with up to two drives.
///
/// Where no drive is, reads give 0, as in QEMU: the pull-down resistor of a real cable makes BSY read as 0 as well.
#[derive(Debug)]
pub struct Channel {
    drives: [Option<Drive>; 2],
    /// Which of them is selected.
    selected: usize,
    /// The device control register.
    control: u8,
    master: BusMaster,
    /// The interrupt line's level when it was last looked at, for the bus master's interrupt bit.
    line: bool,
}

impl Channel {
    /// A channel with drives 0 and 1.
    pub fn new(drives: [Option<Drive>; 2]) -> Self {
        Channel { drives, selected: 0, control: 0, master: BusMaster::default(), line: false }
    }

    /// The geometries of the hard disks.
    pub fn geometries(&self) -> [Option<Geometry>; 2] {
        self.drives.each_ref().map(|drive| drive.as_ref().and_then(Drive::geometry))
    }

    /// Power-on or the reset line.
    pub fn reset(&mut self) {
        for drive in self.drives.iter_mut().flatten() {
            drive.hard_reset();
        }
        (self.selected, self.control, self.line) = (0, 0, false);
        self.master = BusMaster::default();
    }

    /// Drive 0 or 1, to change its medium for example.
    pub fn drive_mut(&mut self, drive: usize) -> Option<&mut Drive> {
        self.drives.get_mut(drive)?.as_mut()
    }

    /// Reads `width` bytes (1, 2 or 4) of the command block from `offset` (0–7) on. Only the data register is wider than one.
    pub fn read(&mut self, offset: u16, width: usize, dma: &mut dyn Dma) -> u32 {
        if offset == DATA {
            return self.read_data(width, dma);
        }
        let bytes = (offset..8).take(width.min(4)).zip((0..4).map(|byte| 8 * byte));
        bytes.fold(0, |value, (offset, shift)| value | u32::from(self.read_register(offset)) << shift)
    }

    /// Writes `width` bytes (1, 2 or 4) of the command block from `offset` (0–7) on.
    pub fn write(&mut self, offset: u16, width: usize, value: u32, dma: &mut dyn Dma) {
        if offset == DATA {
            self.write_data(width, value);
        } else {
            for (offset, byte) in (offset..8).zip(value.to_le_bytes().into_iter().take(width)) {
                self.write_register(offset, byte);
            }
        }
        self.proceed(dma);
    }

    /// Reads the alternate status register (3F6 or 376): status, and no interrupt is taken back.
    pub fn read_control(&self) -> u8 {
        self.answering().map_or(0, |drive| self.status_of(drive))
    }

    /// Writes the device control register (3F6 or 376).
    pub fn write_control(&mut self, value: u8, dma: &mut dyn Dma) {
        let was = std::mem::replace(&mut self.control, value);
        let drives = self.drives.iter_mut().flatten();
        if value & !was & SRST != 0 {
            for drive in drives {
                drive.cancel();
                drive.port_mut().status = BSY | DSC;
            }
        } else if was & !value & SRST != 0 {
            drives.for_each(Drive::soft_reset);
            self.selected = 0;
        }
        self.proceed(dma);
    }

    /// Reads `width` bytes of the bus master's registers from `offset` (0–7) on.
    pub fn read_master(&self, offset: u16, width: usize) -> u32 {
        let bytes = (offset..8).take(width.min(4)).zip((0..4).map(|byte| 8 * byte));
        bytes.fold(0, |value, (offset, shift)| value | u32::from(self.master.read(offset)) << shift)
    }

    /// Writes `width` bytes of the bus master's registers from `offset` (0–7) on.
    pub fn write_master(&mut self, offset: u16, width: usize, value: u32, dma: &mut dyn Dma) {
        for (offset, byte) in (offset..8).zip(value.to_le_bytes().into_iter().take(width)) {
            self.master.write(offset, byte);
        }
        self.proceed(dma);
    }

    /// The level of the interrupt line (14 or 15).
    pub fn irq(&self) -> bool {
        let pending = self.drive().is_some_and(|drive| drive.port().irq);
        pending && self.control & NIEN == 0
    }

    /// Something for a medium to do, and of which drive. To be asked for after every access and completion.
    pub fn take_request(&mut self) -> Option<(usize, Request)> {
        self.drives.iter_mut().enumerate().find_map(|(index, drive)| Some((index, drive.as_mut()?.take_request()?)))
    }

    /// The medium of drive `drive` is done with a request. To be called in the order of the requests.
    pub fn complete(&mut self, drive: usize, completion: Completion, dma: &mut dyn Dma) {
        if let Some(drive) = self.drive_mut(drive) {
            drive.complete(completion);
        }
        self.proceed(dma);
    }

    /// The selected drive.
    fn drive(&self) -> Option<&Drive> {
        self.drives.get(self.selected)?.as_ref()
    }

    /// The drive that answers reads: the selected one, or drive 1 for an absent drive 0. Drive 0 says nothing for drive 1.
    fn answering(&self) -> Option<&Drive> {
        match (&self.drives, self.selected) {
            ([None, Some(other)], 0) => Some(other),
            _ => self.drive(),
        }
    }

    fn status_of(&self, drive: &Drive) -> u8 {
        // A drive that answers for another one has nothing to say of its own state (section 9.16).
        match self.drive() {
            Some(_) => drive.port().status,
            None => 0,
        }
    }

    fn read_register(&mut self, offset: u16) -> u8 {
        let previous = self.control & HOB != 0;
        let Some(drive) = self.answering() else { return 0 };
        match offset {
            ERROR => drive.port().error,
            STATUS => {
                let status = self.status_of(drive);
                if let Some(drive) = self.selected_mut() {
                    drive.port_mut().irq = false;
                }
                self.watch_line();
                status
            }
            // The drive bit is the channel's: both drives see what is written.
            DEVICE => drive.port().regs.read(DEVICE, false) & !DEV | if self.selected == 0 { 0 } else { DEV },
            _ => drive.port().regs.read(offset, previous),
        }
    }

    fn write_register(&mut self, offset: u16, value: u8) {
        self.control &= !HOB;
        if offset == STATUS {
            return self.command(value);
        }
        // Section 9.1: while BSY or DRQ is set, the registers are not to be written.
        if self.drive().is_some_and(|drive| drive.port().status & (BSY | DRQ) != 0) {
            return;
        }
        for drive in self.drives.iter_mut().flatten() {
            drive.port_mut().regs.write(offset, value);
        }
        if offset == DEVICE {
            self.selected = usize::from(value & DEV != 0);
            self.watch_line();
        }
    }

    fn command(&mut self, code: u8) {
        if self.control & SRST != 0 {
            return;
        }
        if code == EXECUTE_DEVICE_DIAGNOSTIC {
            return self.diagnose();
        }
        let Some(drive) = self.selected_mut() else { return };
        let busy = drive.port().status & (BSY | DRQ) != 0;
        if !busy || code == DEVICE_RESET && matches!(drive, Drive::Cdrom(_)) {
            drive.command(code);
        }
        self.watch_line();
    }

    /// Both drives test themselves; drive 0 is selected then, and interrupts (section 8.11).
    fn diagnose(&mut self) {
        for drive in self.drives.iter_mut().flatten() {
            drive.diagnose();
        }
        self.selected = 0;
        if let Some(drive) = self.selected_mut() {
            drive.port_mut().irq = true;
        }
        self.watch_line();
    }

    fn selected_mut(&mut self) -> Option<&mut Drive> {
        self.drives.get_mut(self.selected)?.as_mut()
    }

    /// A 32-bit access is two 16-bit ones; an 8-bit one is a 16-bit one whose high byte is lost.
    fn read_data(&mut self, width: usize, dma: &mut dyn Dma) -> u32 {
        let Some(drive) = self.selected_mut() else { return 0 };
        let mut value = u32::from(drive.read_word());
        match width {
            1 => value &= 0xFF,
            2 => {}
            _ => value |= u32::from(drive.read_word()) << 16,
        }
        self.proceed(dma);
        value
    }

    fn write_data(&mut self, width: usize, value: u32) {
        let Some(drive) = self.selected_mut() else { return };
        drive.write_word(value as u16);
        if width > 2 {
            drive.write_word((value >> 16) as u16);
        }
    }

    /// Lets the bus master transfer what can be, and watches the interrupt line.
    fn proceed(&mut self, dma: &mut dyn Dma) {
        while self.master.is_active() {
            let Channel { drives, selected, master, .. } = self;
            let Some(Some(drive)) = drives.get_mut(*selected) else { break };
            let moved = match drive.port().phase {
                Phase::DmaIn => master.deliver(drive.port_mut().rest_of_block(), dma),
                Phase::DmaOut => master.collect(drive.port_mut().rest_of_block(), dma),
                _ => break,
            };
            if moved == 0 {
                break;
            }
            drive.dma_moved(moved);
        }
        self.watch_line();
    }

    /// The bus master's interrupt bit follows the rising edge of the line.
    fn watch_line(&mut self) {
        let line = self.irq();
        if line && !self.line {
            self.master.interrupted();
        }
        self.line = line;
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
