//! BIOS mode 3, from which tests begin: 80 × 25 characters of 9 × 16 dots, 16 colours (IBM VGA manual, table of mode
//! registers).

use super::Vga;

const SEQUENCER: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
#[rustfmt::skip]
const CRTC: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
];
const GRAPHICS: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x0F, 0xFF];
#[rustfmt::skip]
const ATTRIBUTE: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
    0x0C, 0x00, 0x0F, 0x08, 0x00,
];

impl Vga {
    /// Sets mode 3 and clears its screen. `font`: 16 bytes for each of 256 characters, as BIOSes have them.
    pub fn set_text_mode(&mut self, font: &[u8]) {
        let registers = &mut self.registers;
        registers.misc = 0x67;
        (0..).zip(SEQUENCER).for_each(|(index, value)| registers.set_sequencer(index, value));
        // Register 11 protects the others; it is written after them.
        registers.set_crtc(0x11, 0);
        (0..).zip(CRTC).for_each(|(index, value)| registers.set_crtc(index, value));
        (0..).zip(GRAPHICS).for_each(|(index, value)| registers.set_graphics(index, value));
        (0..).zip(ATTRIBUTE).for_each(|(index, value)| registers.set_attribute(index, value));
        registers.attribute_index = 0x20;
        registers.dac.mask = 0xFF;
        for colour in 0..64u8 {
            // Bits 2–0 are two thirds of red, green and blue, bits 5–3 one third.
            let part = |bit: u8| (colour >> bit & 1) * 42 + (colour >> (bit + 3) & 1) * 21;
            registers.dac.set(colour, [part(2), part(1), part(0)]);
        }
        for address in 0..0x8000usize {
            let (character, attribute) = if address & 1 == 0 { (b' ', 0x07) } else { (0, 0) };
            self.vram.write(address * 4, &[character, attribute]);
        }
        for (character, glyph) in font.chunks(16).take(256).enumerate() {
            for (scan, bits) in glyph.iter().enumerate() {
                self.vram.write((character * 32 + scan) * 4 + 2, &[*bits]);
            }
        }
    }
}
