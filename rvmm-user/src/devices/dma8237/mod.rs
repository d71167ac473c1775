//! The DMA controllers of a PC: two 8237A and the page registers that lengthen their addresses (Intel 8237A data sheet, order
//! number 231466; 82371SB PIIX3 data sheet, section 2.3).
//!
//! Channels 0–3 move bytes, 5–7 words; channel 4 connects the first controller to the second. That this one is unmasked is not
//! demanded, as QEMU does not: without firmware nobody would have done it. Left out are memory-to-memory transfers, which no PC can
//! do because of where the page registers are.

mod controller;

use super::dma::Dma;
use controller::Controller;

/// Which page register (port 80–8F) belongs to channels 0–7.
const PAGES: [u8; 8] = [0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA];

/// Both controllers and the page registers.
#[derive(Debug)]
pub struct IsaDma {
    low: Controller,
    high: Controller,
    pages: [u8; 16],
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// So many bytes were moved.
    pub bytes: usize,
    /// The channel's count has run out: the device gets TC.
    pub terminal_count: bool,
}

impl Moved {
    const NOTHING: Moved = Moved { bytes: 0, terminal_count: false };
}

/// Which way a device transfers.
enum Buffer<'a> {
    ToMemory(&'a [u8]),
    FromMemory(&'a mut [u8]),
}

impl IsaDma {
    /// The controllers after power-on: all channels masked.
    pub fn new() -> Self {
        IsaDma { low: Controller::new(), high: Controller::new(), pages: [0; 16] }
    }

    /// Reads register `offset` (0–15) of the first controller (port 00 + offset).
    pub fn read_low(&mut self, offset: u16) -> u8 {
        self.low.read(offset)
    }

    /// Writes register `offset` (0–15) of the first controller (port 00 + offset).
    pub fn write_low(&mut self, offset: u16, value: u8) {
        self.low.write(offset, value);
    }

    /// Reads register `offset` (0–15) of the second controller (port C0 + 2 · offset).
    pub fn read_high(&mut self, offset: u16) -> u8 {
        self.high.read(offset)
    }

    /// Writes register `offset` (0–15) of the second controller (port C0 + 2 · offset).
    pub fn write_high(&mut self, offset: u16, value: u8) {
        self.high.write(offset, value);
    }

    /// Reads page register `offset` (0–15, port 80 + offset).
    pub fn read_page(&self, offset: u16) -> u8 {
        self.pages.get(usize::from(offset)).copied().unwrap_or(super::OPEN_BUS)
    }

    /// Writes page register `offset` (0–15, port 80 + offset). Those that belong to no channel remember what was written.
    pub fn write_page(&mut self, offset: u16, value: u8) {
        if let Some(page) = self.pages.get_mut(usize::from(offset)) {
            *page = value;
        }
    }

    /// A device on `channel` (0–7) has `data` for memory. Nothing is moved while the channel is masked, switched off, or programmed
    /// for the other direction. What goes to absent memory is lost.
    pub fn deliver(&mut self, channel: usize, data: &[u8], memory: &mut dyn Dma) -> Moved {
        self.transfer(channel, Buffer::ToMemory(data), memory)
    }

    /// A device on `channel` (0–7) wants `data` filled from memory. Absent memory reads as ones.
    pub fn collect(&mut self, channel: usize, data: &mut [u8], memory: &mut dyn Dma) -> Moved {
        self.transfer(channel, Buffer::FromMemory(data), memory)
    }

    fn transfer(&mut self, channel: usize, mut buffer: Buffer<'_>, memory: &mut dyn Dma) -> Moved {
        let page = PAGES.get(channel).and_then(|page| self.pages.get(usize::from(*page))).copied().unwrap_or(0);
        let (controller, unit, page) = match channel {
            0..=3 => (&mut self.low, 1, u64::from(page) << 16),
            // The word address' top bit takes the place of the page's lowest.
            _ => (&mut self.high, 2, u64::from(page & !1) << 16),
        };
        let Some(channel) = controller.ready(channel % 4, matches!(buffer, Buffer::ToMemory(_))) else {
            return Moved::NOTHING;
        };
        let length = match &buffer {
            Buffer::ToMemory(data) => data.len(),
            Buffer::FromMemory(data) => data.len(),
        };
        let mut done: usize = 0;
        while let Some(end) = done.checked_add(unit).filter(|end| *end <= length) {
            let step = controller.step(channel);
            let address = page + step.address * unit as u64;
            match &mut buffer {
                Buffer::ToMemory(data) => {
                    if let Some(part) = data.get(done..end).filter(|_| !step.verify) {
                        // Nobody takes it: lost, as on the bus.
                        let _ = memory.write(address, part);
                    }
                }
                Buffer::FromMemory(data) => {
                    if let Some(part) = data.get_mut(done..end) {
                        if step.verify || memory.read(address, part).is_err() {
                            part.fill(super::OPEN_BUS);
                        }
                    }
                }
            }
            done = end;
            if step.terminal_count {
                return Moved { bytes: done, terminal_count: true };
            }
        }
        Moved { bytes: done, terminal_count: false }
    }
}

#[cfg(test)]
mod tests;
