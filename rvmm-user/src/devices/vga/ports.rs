//! The registers' ports. Offsets are from 3B0: 00 is port 3B0, 2F is port 3DF. Each is a byte wide.

use super::timing::Timing;
use super::{Registers, Vga};
use crate::devices::OPEN_BUS;

/// The first of the VGA's ports.
pub const BASE: u16 = 0x3B0;
/// Number of ports from [`BASE`] on.
pub const COUNT: u16 = 0x30;

impl Vga {
    /// Reads the port at `offset` from [`BASE`].
    pub fn port_read(&mut self, offset: u16, now_ns: u64) -> u8 {
        let registers = &mut self.registers;
        match BASE.wrapping_add(offset) {
            0x3C0 => registers.attribute_index,
            0x3C1 => registers.attribute(registers.attribute_index & 0x1F),
            // Input status 0: no interrupt is pending, and no monitor pulls the sense line.
            0x3C2 => 0,
            0x3C3 => registers.subsystem,
            0x3C4 => registers.sequencer_index,
            0x3C5 => registers.sequencer(registers.sequencer_index),
            0x3C6 => registers.dac.mask,
            0x3C7 => registers.dac.state(),
            0x3C8 => registers.dac.write_index(),
            0x3C9 => registers.dac.read(),
            0x3CA => registers.feature,
            0x3CC => registers.misc,
            0x3CE => registers.graphics_index,
            0x3CF => registers.graphics(registers.graphics_index),
            port @ (0x3B0..=0x3BF | 0x3D0..=0x3DF) if is_here(registers, port) => match port & 0x0F {
                // The CRT controller's two registers repeat, as they do on the adapters before.
                0x0 | 0x2 | 0x4 | 0x6 => registers.crtc_index,
                0x1 | 0x3 | 0x5 | 0x7 => registers.crtc(registers.crtc_index),
                0xA => {
                    registers.attribute_data_next = false;
                    self.retrace.read(&Timing::new(&self.registers), now_ns)
                }
                _ => OPEN_BUS,
            },
            _ => OPEN_BUS,
        }
    }

    /// Writes the port at `offset` from [`BASE`].
    pub fn port_write(&mut self, offset: u16, value: u8) {
        let registers = &mut self.registers;
        match BASE.wrapping_add(offset) {
            0x3C0 => {
                if registers.attribute_data_next {
                    registers.set_attribute(registers.attribute_index & 0x1F, value);
                } else {
                    registers.attribute_index = value & 0x3F;
                }
                registers.attribute_data_next = !registers.attribute_data_next;
            }
            0x3C2 => registers.misc = value,
            0x3C3 => registers.subsystem = value & 1,
            0x3C4 => registers.sequencer_index = value & 7,
            0x3C5 => registers.set_sequencer(registers.sequencer_index, value),
            0x3C6 => registers.dac.mask = value,
            0x3C7 => registers.dac.start_reading(value),
            0x3C8 => registers.dac.start_writing(value),
            0x3C9 => registers.dac.write(value),
            0x3CE => registers.graphics_index = value & 0x0F,
            0x3CF => registers.set_graphics(registers.graphics_index, value),
            port @ (0x3B0..=0x3BF | 0x3D0..=0x3DF) if is_here(registers, port) => match port & 0x0F {
                0x0 | 0x2 | 0x4 | 0x6 => registers.crtc_index = value & 0x3F,
                0x1 | 0x3 | 0x5 | 0x7 => registers.set_crtc(registers.crtc_index, value),
                0xA => registers.feature = value & 0x10,
                _ => {}
            },
            _ => {}
        }
        self.end_direct_text(false);
    }

    /// Reads Bochs' interface; `offset` 0 is port 1CE (index), 1 and 2 are 1CF and 1D0 (data). Of 16 bits only.
    pub fn dispi_read(&self, offset: u16) -> u16 {
        match offset {
            0 => self.registers.dispi.index,
            1 | 2 => self.registers.dispi.read(self.registers.dispi.index),
            _ => u16::MAX,
        }
    }

    /// Writes Bochs' interface.
    pub fn dispi_write(&mut self, offset: u16, value: u16) {
        match offset {
            0 => self.registers.dispi.index = value,
            1 | 2 => self.dispi_set(self.registers.dispi.index, value),
            _ => {}
        }
    }

    pub(super) fn dispi_set(&mut self, index: u16, value: u16) {
        let clear = self.registers.dispi.write(index, value);
        self.end_direct_text(false);
        if clear > 0 {
            self.vram.clear(clear);
        }
    }
}

/// Whether the CRT controller and its neighbours are at 3Dx, or at 3Bx.
fn is_here(registers: &Registers, port: u16) -> bool {
    registers.is_colour() == (port >= 0x3D0)
}
