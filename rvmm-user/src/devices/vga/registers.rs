//! The registers, and what their bits mean to memory and picture alike.

use super::dac::Dac;
use super::dispi::Dispi;

/// All registers that can be read back, and the indices and flip-flops in front of them.
#[derive(Clone, Debug)]
pub struct Registers {
    /// Miscellaneous output (3C2).
    pub misc: u8,
    /// Feature control (3DA).
    pub feature: u8,
    /// Video subsystem enable (3C3); bit 0.
    pub subsystem: u8,
    pub sequencer_index: u8,
    sequencer: [u8; 5],
    pub crtc_index: u8,
    crtc: [u8; 0x19],
    pub graphics_index: u8,
    graphics: [u8; 9],
    /// Bits 4–0 the index, bit 5 "palette address source": the picture is on.
    pub attribute_index: u8,
    /// The next write to 3C0 is data.
    pub attribute_data_next: bool,
    attribute: [u8; 0x15],
    pub dac: Dac,
    pub dispi: Dispi,
}

/// Bits that exist in the sequencer's registers.
const SEQUENCER_MASKS: [u8; 5] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E];
/// Bits that exist in the graphics controller's registers.
const GRAPHICS_MASKS: [u8; 9] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF];
/// Bits that exist in the attribute controller's registers; the first 16 are the palette.
const ATTRIBUTE_MASKS: [u8; 5] = [0xEF, 0xFF, 0x3F, 0x0F, 0x0F];

impl Registers {
    /// At power-on, for a memory of `vram_size` bytes.
    pub fn new(vram_size: usize) -> Self {
        Registers {
            misc: 0,
            feature: 0,
            subsystem: 1,
            sequencer_index: 0,
            sequencer: [0; 5],
            crtc_index: 0,
            crtc: [0; 0x19],
            graphics_index: 0,
            graphics: [0; 9],
            attribute_index: 0,
            attribute_data_next: false,
            attribute: [0; 0x15],
            dac: Dac::new(),
            dispi: Dispi::new(vram_size),
        }
    }

    /// Sequencer register `index`; 0 if there is none.
    pub fn sequencer(&self, index: u8) -> u8 {
        self.sequencer.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// CRT controller register `index`; 0 if there is none.
    pub fn crtc(&self, index: u8) -> u8 {
        self.crtc.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Graphics controller register `index`; 0 if there is none.
    pub fn graphics(&self, index: u8) -> u8 {
        self.graphics.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Attribute controller register `index`; 0 if there is none.
    pub fn attribute(&self, index: u8) -> u8 {
        self.attribute.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Sets a sequencer register.
    pub fn set_sequencer(&mut self, index: u8, value: u8) {
        let mask = SEQUENCER_MASKS.get(usize::from(index)).copied().unwrap_or(0);
        set(&mut self.sequencer, index, value & mask);
    }

    /// Sets a CRT controller register, unless it is protected (register 11, bit 7: registers 0–7, but for bit 8 of the line compare).
    pub fn set_crtc(&mut self, index: u8, value: u8) {
        let value = match index {
            0..=7 if self.crtc(0x11) & 0x80 != 0 => match index {
                7 => self.crtc(7) & !0x10 | value & 0x10,
                _ => return,
            },
            _ => value,
        };
        set(&mut self.crtc, index, value);
    }

    /// Sets a graphics controller register.
    pub fn set_graphics(&mut self, index: u8, value: u8) {
        let mask = GRAPHICS_MASKS.get(usize::from(index)).copied().unwrap_or(0);
        set(&mut self.graphics, index, value & mask);
    }

    /// Sets an attribute controller register.
    pub fn set_attribute(&mut self, index: u8, value: u8) {
        let mask = match index {
            0..=0x0F => 0x3F,
            _ => ATTRIBUTE_MASKS.get(usize::from(index).wrapping_sub(0x10)).copied().unwrap_or(0),
        };
        set(&mut self.attribute, index, value & mask);
    }

    /// The CRT controller and input status 1 are at 3Dx, not at 3Bx.
    pub fn is_colour(&self) -> bool {
        self.misc & 1 != 0
    }

    /// The registers ask for graphics, not text.
    pub fn is_graphics(&self) -> bool {
        self.graphics(6) & 1 != 0
    }

    /// Nothing is shown: the sequencer's "screen off", or the attribute controller is being programmed.
    pub fn is_blank(&self) -> bool {
        self.sequencer(1) & 0x20 != 0 || self.attribute_index & 0x20 == 0
    }

    /// Character columns that are displayed.
    pub fn columns(&self) -> u32 {
        u32::from(self.crtc(1)) + 1
    }

    /// Scan lines that are displayed.
    pub fn lines(&self) -> u32 {
        self.ten_bits(0x12, 1, 6) + 1
    }

    /// A vertical value: eight bits in a register of its own, the ninth and tenth in register 7.
    pub fn ten_bits(&self, register: u8, bit8: u8, bit9: u8) -> u32 {
        let overflow = u32::from(self.crtc(7));
        u32::from(self.crtc(register)) | (overflow >> bit8 & 1) << 8 | (overflow >> bit9 & 1) << 9
    }

    /// The scan line behind which the address starts again at 0.
    pub fn line_compare(&self) -> u32 {
        let bit8 = u32::from(self.crtc(7)) >> 4 & 1;
        let bit9 = u32::from(self.crtc(9)) >> 6 & 1;
        u32::from(self.crtc(0x18)) | bit8 << 8 | bit9 << 9
    }

    /// A 16-bit value in two registers, the high byte first.
    pub fn pair(&self, register: u8) -> u32 {
        u32::from(self.crtc(register)) << 8 | u32::from(self.crtc(register.wrapping_add(1)))
    }

    /// Dots of a character: eight or nine.
    pub fn dots(&self) -> u32 {
        if self.sequencer(1) & 1 != 0 {
            8
        } else {
            9
        }
    }

    /// Every dot lasts two clocks (modes with 320 or 360 dots).
    pub fn half_clock(&self) -> bool {
        self.sequencer(1) & 8 != 0
    }
}

fn set(registers: &mut [u8], index: u8, value: u8) {
    if let Some(register) = registers.get_mut(usize::from(index)) {
        *register = value;
    }
}
