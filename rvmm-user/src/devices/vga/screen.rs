//! A moment's registers and memory, and the picture that they make.

use super::text_render::TextScreen;
use super::timing::Timing;
use super::{Image, Registers};

/// The four planes of 64 KiB.
const PLANES: usize = 0x40000;

/// What is needed to draw a moment's picture.
#[derive(Clone, Debug)]
pub struct Screen {
    pub(super) registers: Registers,
    pub(super) memory: Vec<u8>,
    /// Frames since power-on, for what blinks.
    pub(super) frame: u64,
}

/// How many bytes of video memory a picture is made of, from the start of memory.
pub(super) fn visible_bytes(registers: &Registers) -> usize {
    let dispi = &registers.dispi;
    if dispi.is_enabled() {
        // The last line may reach over the end of its row by what the offset shifts it.
        dispi.start() + dispi.height() as usize * dispi.stride()
    } else {
        PLANES
    }
}

impl Screen {
    pub(super) fn new(registers: Registers, memory: Vec<u8>, now_ns: u64) -> Screen {
        let frame = now_ns / Timing::new(&registers).frame_ns();
        Screen { registers, memory, frame }
    }

    /// The picture.
    pub fn render(&self) -> Image {
        let (width, height) = self.size();
        let registers = &self.registers;
        if registers.is_blank() {
            return Image::filled(width, height, [0; 3]);
        }
        if registers.dispi.is_enabled() {
            self.render_linear()
        } else if registers.is_graphics() {
            self.render_graphics()
        } else {
            self.render_text()
        }
    }

    /// The text, in a text mode.
    pub fn text(&self) -> Option<TextScreen> {
        let registers = &self.registers;
        if registers.is_blank() || registers.is_graphics() || registers.dispi.is_enabled() {
            return None;
        }
        Some(self.text_screen())
    }

    /// Width and height in pixels, as a monitor shows it: dots that last two clocks are two pixels wide.
    pub fn size(&self) -> (u32, u32) {
        let registers = &self.registers;
        if registers.dispi.is_enabled() {
            return (registers.dispi.width(), registers.dispi.height());
        }
        let dots = if registers.is_graphics() { 8 } else { registers.dots() };
        (registers.columns() * dots << u8::from(registers.half_clock()), registers.lines())
    }

    /// The byte of `plane` at `address`.
    pub(super) fn plane(&self, address: u32, plane: usize) -> u8 {
        self.memory.get(address as usize * 4 + plane).copied().unwrap_or(0)
    }

    /// The four planes' bytes at `address`.
    pub(super) fn planes(&self, address: u32) -> [u8; 4] {
        let at = address as usize * 4;
        match self.memory.get(at..at + 4) {
            Some([a, b, c, d]) => [*a, *b, *c, *d],
            _ => [0; 4],
        }
    }

    /// The palette's colours.
    pub(super) fn colours(&self) -> [[u8; 3]; 256] {
        self.registers.dac.rgb(self.registers.dispi.has_eight_bit_dac())
    }

    /// What the attribute controller makes of four bits: an index into the palette.
    pub(super) fn attribute_colour(&self, bits: u8) -> u8 {
        let registers = &self.registers;
        let colour = registers.attribute(bits & registers.attribute(0x12) & 0x0F);
        let select = registers.attribute(0x14);
        match registers.attribute(0x10) & 0x80 {
            0 => colour & 0x3F | (select & 0x0C) << 4,
            _ => colour & 0x0F | select << 4,
        }
    }

    /// The address in the planes that the CRT controller's counter means (registers 14 and 17).
    pub(super) fn address(&self, counter: u32, row_scan: u32) -> u32 {
        let (mode, double) = (self.registers.crtc(0x17), self.registers.crtc(0x14) & 0x40 != 0);
        let mut address = if double {
            counter << 2 | counter >> 12 & 3
        } else if mode & 0x40 == 0 {
            counter << 1 | if mode & 0x20 != 0 { counter >> 15 & 1 } else { counter >> 13 & 1 }
        } else {
            counter
        };
        // The CGA's lines alternate between two banks, Hercules' between four: row-scan bits stand in for address bits.
        if mode & 1 == 0 {
            address = address & !0x2000 | (row_scan & 1) << 13;
        }
        if mode & 2 == 0 {
            address = address & !0x4000 | (row_scan >> 1 & 1) << 14;
        }
        address & 0xFFFF
    }

    /// Calls `draw` for each scan line of the picture, in order.
    pub(super) fn scan(&self, mut draw: impl FnMut(Line)) {
        let registers = &self.registers;
        let row_bytes = u32::from(registers.crtc(0x13)) * 2;
        let last_scan = u32::from(registers.crtc(9) & 0x1F);
        let doubled = registers.crtc(9) & 0x80 != 0;
        let mut line = Line {
            counter: registers.pair(0x0C) + u32::from(registers.crtc(8) >> 5 & 3),
            row_scan: u32::from(registers.crtc(8) & 0x1F),
            panning: u32::from(registers.attribute(0x13) & 0x0F),
        };
        let mut repeated = false;
        for y in 0..registers.lines() {
            draw(line);
            if y == registers.line_compare() {
                (line.counter, line.row_scan, repeated) = (0, 0, false);
                if registers.attribute(0x10) & 0x20 != 0 {
                    line.panning = if registers.is_graphics() || registers.dots() == 8 { 0 } else { 8 };
                }
            } else if doubled && !repeated {
                repeated = true;
            } else if line.row_scan == last_scan {
                (line.row_scan, repeated) = (0, false);
                line.counter = (line.counter + row_bytes) & 0xFFFF;
            } else {
                line.row_scan = (line.row_scan + 1) & 0x1F;
                repeated = false;
            }
        }
    }
}

/// A scan line, as the CRT controller counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The counter's value at the line's first character.
    pub counter: u32,
    /// The line within its row of characters.
    pub row_scan: u32,
    /// The attribute controller's pixel panning.
    pub panning: u32,
}
