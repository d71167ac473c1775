//! The modes of Bochs' interface: 4 bits a pixel in planes, 8 by the palette, 15, 16, 24 and 32 bits of colour.

use super::graphics_render::nibble;
use super::{Image, Screen};

impl Screen {
    pub(super) fn render_linear(&self) -> Image {
        let dispi = &self.registers.dispi;
        let (width, height) = self.size();
        let mut image = Image::empty(width, height);
        let colours = self.colours();
        let palette = std::array::from_fn::<u8, 16, _>(|bits| self.attribute_colour(bits as u8));
        let indexed = |index: u8| colours.get(usize::from(index)).copied().unwrap_or_default();
        for y in 0..height as usize {
            let start = dispi.start() + y * dispi.stride();
            // The line begins within the copy; it may end beyond it where the offset shifts the last one.
            let line = self.memory.get(start..).unwrap_or_default();
            let before = image.rgb.len();
            let count = width as usize;
            match dispi.bpp() {
                4 => {
                    let skip = dispi.start_pixel() as usize;
                    let pixels = line.chunks_exact(4).flat_map(|planes| {
                        let planes = [0, 1, 2, 3].map(|plane| planes.get(plane).copied().unwrap_or(0));
                        (0..8).rev().map(move |bit| nibble(planes, bit))
                    });
                    let rgb = |bits: u8| indexed(palette.get(usize::from(bits)).copied().unwrap_or(0));
                    image.rgb.extend(pixels.skip(skip).take(count).flat_map(rgb));
                }
                8 => image.rgb.extend(line.iter().take(count).flat_map(|pixel| indexed(*pixel))),
                15 => words(line, count, &mut image, |word| [word >> 10, word >> 5, word].map(five)),
                16 => words(line, count, &mut image, |word| [five(word >> 11), six(word >> 5), five(word)]),
                bpp => {
                    let pixels = line.chunks_exact(usize::from(bpp / 8).max(3)).take(count);
                    image.rgb.extend(pixels.flat_map(|pixel| match pixel {
                        [blue, green, red, ..] => [*red, *green, *blue],
                        _ => [0; 3],
                    }));
                }
            }
            image.rgb.resize(before + count * 3, 0);
        }
        image
    }
}

fn words(line: &[u8], count: usize, image: &mut Image, rgb: impl Fn(u16) -> [u8; 3]) {
    let pixels = line.chunks_exact(2).take(count);
    image.rgb.extend(pixels.flat_map(|pixel| match pixel {
        [low, high] => rgb(u16::from_le_bytes([*low, *high])),
        _ => [0; 3],
    }));
}

/// Five bits spread over eight.
fn five(value: u16) -> u8 {
    let value = (value & 0x1F) as u8;
    value << 3 | value >> 2
}

/// Six bits spread over eight.
fn six(value: u16) -> u8 {
    let value = (value & 0x3F) as u8;
    value << 2 | value >> 4
}
