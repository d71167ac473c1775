//! The VGA's graphics modes: 16 colours in planes, the CGA's two and four colours, 256 colours.

use super::screen::Line;
use super::{Image, Screen};

impl Screen {
    pub(super) fn render_graphics(&self) -> Image {
        let (width, height) = self.size();
        let colours = self.colours();
        let palette = std::array::from_fn::<u8, 16, _>(|bits| self.attribute_colour(bits as u8));
        let many = self.registers.graphics(5) & 0x40 != 0;
        // Pixels of 256 colours take two dots each, and dots take two clocks in the modes with half of them.
        let repeat = 1 << (u8::from(many) + u8::from(self.registers.half_clock()));
        let mut image = Image::empty(width, height);
        let mut pixels = Vec::new();
        self.scan(|line| {
            self.pixels(line, many, &palette, &mut pixels);
            let panning = if many { line.panning >> 1 & 3 } else { line.panning & 7 };
            for &pixel in pixels.iter().skip(panning as usize).take(width as usize / repeat) {
                let rgb = colours.get(usize::from(pixel)).copied().unwrap_or_default();
                for _ in 0..repeat {
                    image.rgb.extend(rgb);
                }
            }
        });
        image
    }

    /// A scan line's pixels as indices into the palette, with those beyond the last character that panning uncovers.
    fn pixels(&self, line: Line, many: bool, palette: &[u8; 16], pixels: &mut Vec<u8>) {
        let registers = &self.registers;
        let interleaved = registers.graphics(5) & 0x20 != 0;
        // The counter may advance with every second or fourth character only.
        let slower = if registers.crtc(0x14) & 0x20 != 0 { 2 } else { u8::from(registers.crtc(0x17) & 8 != 0) };
        let colour = |bits: u8| palette.get(usize::from(bits & 0x0F)).copied().unwrap_or(0);
        pixels.clear();
        for column in 0..=registers.columns() {
            let counter = line.counter + (column >> slower) & 0xFFFF;
            let planes = self.planes(self.address(counter, line.row_scan));
            if many {
                pixels.extend(planes);
            } else if interleaved {
                // Two bits a pixel: even bytes are in planes 0 and 2, odd ones in 1 and 3.
                let [even, odd, even_high, odd_high] = planes;
                for (low, high) in [(even, even_high), (odd, odd_high)] {
                    pixels.extend([6, 4, 2, 0].map(|shift| colour(low >> shift & 3 | (high >> shift & 3) << 2)));
                }
            } else {
                pixels.extend((0..8).rev().map(|bit| colour(nibble(planes, bit))));
            }
        }
    }
}

/// The four planes' bits at `bit`.
pub(super) fn nibble(planes: [u8; 4], bit: u32) -> u8 {
    let [blue, green, red, intensity] = planes.map(|plane| plane >> bit & 1);
    blue | green << 1 | red << 2 | intensity << 3
}
