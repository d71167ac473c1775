//! The window A0000–BFFFF: how the sequencer and the graphics controller lead an access to the planes (IBM VGA manual, "Graphics Controller").

use super::Vga;
use crate::devices::OPEN_BUS;

/// Where the window begins in the guest's memory.
pub const BASE: u64 = 0xA0000;
/// Its bytes.
pub const SIZE: u64 = 0x20000;

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// No memory answers here.
    Nothing,
    /// A byte of the linear memory: the banked window of Bochs' modes.
    Linear(usize),
    /// All planes at this address; `selected` says which of them the access is for, ahead of the map mask or the read map.
    Planes { address: usize, selected: Selected },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    All,
    /// Odd/even: planes 0 and 2, or 1 and 3.
    Parity(u8),
    /// Chain 4: the one plane.
    One(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Vga {
    /// Reads `data.len()` bytes at `offset` from [`BASE`].
    pub fn memory_read(&mut self, offset: u32, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.read_byte(at);
        }
    }

    /// Writes `data` at `offset` from [`BASE`].
    pub fn memory_write(&mut self, offset: u32, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            self.write_byte(at, *byte);
        }
    }

    fn target(&self, offset: u32, direction: Direction) -> Target {
        let registers = &self.registers;
        if registers.dispi.is_enabled() {
            if offset >= 0x10000 {
                return Target::Nothing;
            }
            let address = offset as usize;
            return match registers.dispi.bpp() {
                4 => Target::Planes { address: registers.dispi.bank_offset() + address, selected: Selected::All },
                _ => Target::Linear(registers.dispi.bank_offset() + address),
            };
        }
        // Miscellaneous output bit 1 lets the CPU reach the memory at all.
        if registers.misc & 2 == 0 || registers.subsystem & 1 == 0 {
            return Target::Nothing;
        }
        let (start, size) = match registers.graphics(6) >> 2 & 3 {
            0 => (0, 0x20000),
            1 => (0, 0x10000),
            2 => (0x10000, 0x8000),
            _ => (0x18000, 0x8000),
        };
        let address = match offset.checked_sub(start) {
            Some(address) if address < size => address as usize & 0xFFFF,
            _ => return Target::Nothing,
        };
        let odd_even = match direction {
            Direction::Read => registers.graphics(5) & 0x10 != 0,
            Direction::Write => registers.sequencer(4) & 4 == 0,
        };
        let low = address as u8;
        if registers.sequencer(4) & 8 != 0 {
            // The two bits that choose the plane leave room for the window's highest two, where double-word addresses of the CRT controller have
            // them, too.
            Target::Planes { address: address & !3 | address >> 14, selected: Selected::One(low & 3) }
        } else if odd_even {
            Target::Planes { address: address & !1, selected: Selected::Parity(low & 1) }
        } else {
            Target::Planes { address, selected: Selected::All }
        }
    }

    fn read_byte(&mut self, offset: u32) -> u8 {
        if let Some(place) = self.text_place(offset) {
            let mut byte = [0];
            self.vram.read_text(place, &mut byte);
            return byte[0];
        }
        let (address, selected) = match self.target(offset, Direction::Read) {
            Target::Nothing => return OPEN_BUS,
            Target::Linear(at) => {
                let mut byte = [0];
                self.vram.read(at, &mut byte);
                return byte[0];
            }
            Target::Planes { address, selected } => (address, selected),
        };
        let mut planes = [0; 4];
        self.vram.read(address * 4, &mut planes);
        self.latches = planes;
        let registers = &self.registers;
        if registers.graphics(5) & 8 != 0 {
            return compare(planes, registers.graphics(2), registers.graphics(7));
        }
        let plane = match selected {
            Selected::All => registers.graphics(4) & 3,
            Selected::Parity(parity) => registers.graphics(4) & 2 | parity,
            Selected::One(plane) => plane,
        };
        planes.get(usize::from(plane)).copied().unwrap_or(OPEN_BUS)
    }

    fn write_byte(&mut self, offset: u32, value: u8) {
        if let Some(place) = self.text_place(offset) {
            return self.vram.write_text(place, &[value]);
        }
        let (address, selected) = match self.target(offset, Direction::Write) {
            Target::Nothing => return,
            Target::Linear(at) => return self.vram.write(at, &[value]),
            Target::Planes { address, selected } => (address, selected),
        };
        let selected = match selected {
            Selected::All => 0x0F,
            Selected::Parity(parity) => 0x05 << parity,
            Selected::One(plane) => 1 << plane,
        };
        let mask = self.registers.sequencer(2) & selected;
        if mask == 0 {
            return;
        }
        let written = self.datapath(value);
        let mut planes = written;
        if mask != 0x0F {
            self.vram.read(address * 4, &mut planes);
            for (plane, (old, new)) in planes.iter_mut().zip(written).enumerate() {
                if mask >> plane & 1 != 0 {
                    *old = new;
                }
            }
        }
        self.vram.write(address * 4, &planes);
    }

    /// What the graphics controller makes of a byte for each of the planes.
    fn datapath(&self, value: u8) -> [u8; 4] {
        let registers = &self.registers;
        let mode = registers.graphics(5) & 3;
        if mode == 1 {
            return self.latches;
        }
        let rotated = value.rotate_right(u32::from(registers.graphics(3) & 7));
        let (set_reset, enabled) = (registers.graphics(0), registers.graphics(1));
        let bit_mask = match mode {
            3 => registers.graphics(8) & rotated,
            _ => registers.graphics(8),
        };
        let mut plane = 0;
        self.latches.map(|latch| {
            let of = |bits: u8| if bits >> plane & 1 != 0 { 0xFF } else { 0 };
            let source = match mode {
                0 if of(enabled) == 0 => rotated,
                2 => of(value),
                _ => of(set_reset),
            };
            plane += 1;
            let combined = match registers.graphics(3) >> 3 & 3 {
                0 => source,
                1 => source & latch,
                2 => source | latch,
                _ => source ^ latch,
            };
            combined & bit_mask | latch & !bit_mask
        })
    }
}

/// Read mode 1: a one for each pixel whose colour is `colour`, in those planes that `cares` names.
fn compare(planes: [u8; 4], colour: u8, cares: u8) -> u8 {
    planes.iter().enumerate().fold(0xFF, |equal, (plane, bits)| {
        let wanted = if colour >> plane & 1 != 0 { 0xFF } else { 0 };
        let care = if cares >> plane & 1 != 0 { 0xFF } else { 0 };
        equal & !((bits ^ wanted) & care)
    })
}
