//! Modes are set as IBM's table of mode registers has them, which is what every VGA BIOS writes.

mod memory;
mod modes;
mod ports;
mod text_window;
mod vbe;

use super::*;

/// A mode's registers.
pub(super) struct Mode {
    misc: u8,
    sequencer: [u8; 5],
    crtc: [u8; 25],
    graphics: [u8; 9],
    attribute: [u8; 21],
}

const EGA_PALETTE: [u8; 16] = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F];

pub(super) fn attributes(palette: [u8; 16], rest: [u8; 5]) -> [u8; 21] {
    std::array::from_fn(|index| if index < 16 { palette[index] } else { rest[index - 16] })
}

#[rustfmt::skip]
pub(super) fn mode_13() -> Mode {
    Mode {
        misc: 0x63,
        sequencer: [0x03, 0x01, 0x0F, 0x00, 0x0E],
        crtc: [
            0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF,
        ],
        graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF],
        attribute: attributes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [0x41, 0, 0x0F, 0, 0]),
    }
}

#[rustfmt::skip]
pub(super) fn mode_12() -> Mode {
    Mode {
        misc: 0xE3,
        sequencer: [0x03, 0x01, 0x0F, 0x00, 0x06],
        crtc: [
            0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF,
        ],
        graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF],
        attribute: attributes(EGA_PALETTE, [0x01, 0, 0x0F, 0, 0]),
    }
}

#[rustfmt::skip]
pub(super) fn mode_4() -> Mode {
    Mode {
        misc: 0x63,
        sequencer: [0x03, 0x09, 0x03, 0x00, 0x02],
        crtc: [
            0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF,
        ],
        graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0F, 0x0F, 0xFF],
        attribute: attributes([0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23], [0x01, 0, 0x03, 0, 0]),
    }
}

#[rustfmt::skip]
pub(super) fn mode_6() -> Mode {
    Mode {
        misc: 0x63,
        sequencer: [0x03, 0x01, 0x01, 0x00, 0x06],
        crtc: [
            0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF,
        ],
        graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0D, 0x0F, 0xFF],
        attribute: attributes([0x17; 16], [0x01, 0, 0x01, 0, 0]),
    }
}

pub(super) fn vga() -> Vga {
    Vga::new(Box::new(vec![0; VRAM_SIZE]))
}

/// Writes an indexed register.
pub(super) fn set(vga: &mut Vga, port: u16, index: u8, value: u8) {
    vga.port_write(port - super::ports::BASE, index);
    vga.port_write(port - super::ports::BASE + 1, value);
}

pub(super) fn out(vga: &mut Vga, port: u16, value: u8) {
    vga.port_write(port - super::ports::BASE, value);
}

pub(super) fn input(vga: &mut Vga, port: u16) -> u8 {
    vga.port_read(port - super::ports::BASE, 0)
}

/// Sets a mode by the ports, and a palette in which colour n is n, 2n, 3n.
pub(super) fn set_mode(vga: &mut Vga, mode: &Mode) {
    out(vga, 0x3C2, mode.misc);
    mode.sequencer.iter().enumerate().for_each(|(index, value)| set(vga, 0x3C4, index as u8, *value));
    set(vga, 0x3D4, 0x11, 0);
    mode.crtc.iter().enumerate().for_each(|(index, value)| set(vga, 0x3D4, index as u8, *value));
    mode.graphics.iter().enumerate().for_each(|(index, value)| set(vga, 0x3CE, index as u8, *value));
    input(vga, 0x3DA);
    for (index, value) in mode.attribute.iter().enumerate() {
        out(vga, 0x3C0, index as u8);
        out(vga, 0x3C0, *value);
    }
    out(vga, 0x3C0, 0x20);
    out(vga, 0x3C8, 0);
    for colour in 0..=255u8 {
        for part in 1..=3u8 {
            out(vga, 0x3C9, colour.wrapping_mul(part) & 0x3F);
        }
    }
    out(vga, 0x3C6, 0xFF);
}

/// What colour n of [`set_mode`]'s palette looks like.
pub(super) fn rgb(colour: u8) -> [u8; 3] {
    [1, 2, 3].map(|part: u8| {
        let value = colour.wrapping_mul(part) & 0x3F;
        value << 2 | value >> 4
    })
}

pub(super) fn poke(vga: &mut Vga, address: u32, data: &[u8]) {
    vga.memory_write(address - super::memory::BASE as u32, data);
}

pub(super) fn peek(vga: &mut Vga, address: u32) -> u8 {
    let mut byte = [0];
    vga.memory_read(address - super::memory::BASE as u32, &mut byte);
    byte[0]
}
