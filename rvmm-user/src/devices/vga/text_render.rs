//! Text modes.

use super::screen::Line;
use super::{Image, Screen};

/// The text on a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen {
    pub columns: u32,
    pub rows: u32,
    /// Row by row from the top.
    pub cells: Vec<Cell>,
    /// Column and row of the cursor, if it is on; whether it is in its dark phase does not matter.
    pub cursor: Option<(u32, u32)>,
}

/// A character on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The character's code; see [`cp437`](super::cp437) for what it usually looks like.
    pub character: u8,
    /// Colours as RGB.
    pub foreground: [u8; 3],
    pub background: [u8; 3],
    pub blinks: bool,
}

impl TextScreen {
    /// A row's characters as text, without blanks at its end.
    pub fn row(&self, row: u32) -> String {
        let start = row as usize * self.columns as usize;
        let cells = self.cells.get(start..start + self.columns as usize).unwrap_or_default();
        let text: String = cells.iter().map(|cell| super::cp437::to_char(cell.character)).collect();
        text.trim_end().to_string()
    }
}

/// The attribute byte's parts.
struct Attribute {
    foreground: u8,
    background: u8,
    blinks: bool,
}

impl Screen {
    fn text_attribute(&self, attribute: u8) -> Attribute {
        let blinks = self.registers.attribute(0x10) & 8 != 0;
        Attribute {
            foreground: attribute & 0x0F,
            background: if blinks { attribute >> 4 & 7 } else { attribute >> 4 },
            blinks: blinks && attribute & 0x80 != 0,
        }
    }

    pub(super) fn text_screen(&self) -> TextScreen {
        let registers = &self.registers;
        let colours = self.colours();
        let rgb = |bits: u8| colours.get(usize::from(self.attribute_colour(bits))).copied().unwrap_or_default();
        let columns = registers.columns();
        let scans = (u32::from(registers.crtc(9) & 0x1F) + 1) << u8::from(registers.crtc(9) & 0x80 != 0);
        let mut text = TextScreen { columns, rows: 0, cells: Vec::new(), cursor: None };
        let cursor_on = registers.crtc(0x0A) & 0x20 == 0 && registers.crtc(0x0A) & 0x1F <= registers.crtc(0x0B) & 0x1F;
        let mut countdown = 0;
        self.scan(|line| {
            if countdown > 0 {
                countdown -= 1;
                return;
            }
            // A row begins here. What is left of it after a smooth scroll has its full height all the same: there is no half row of text.
            countdown = (scans - 1).saturating_sub(line.row_scan);
            for column in 0..columns {
                let counter = line.counter + column & 0xFFFF;
                let address = self.address(counter, line.row_scan);
                let attribute = self.text_attribute(self.plane(address, 1));
                text.cells.push(Cell {
                    character: self.plane(address, 0),
                    foreground: rgb(attribute.foreground),
                    background: rgb(attribute.background),
                    blinks: attribute.blinks,
                });
                if cursor_on && counter == registers.pair(0x0E) {
                    text.cursor = Some((column, text.rows));
                }
            }
            text.rows += 1;
        });
        text
    }

    pub(super) fn render_text(&self) -> Image {
        let (width, height) = self.size();
        let colours = self.colours();
        let mut image = Image::empty(width, height);
        let doubled = self.registers.half_clock();
        let mut dots = Vec::new();
        self.scan(|line| {
            self.text_line(line, &mut dots);
            let visible = dots.iter().take((width >> u8::from(doubled)) as usize);
            for &colour in visible {
                let rgb = colours.get(usize::from(colour)).copied().unwrap_or_default();
                image.rgb.extend(rgb);
                if doubled {
                    image.rgb.extend(rgb);
                }
            }
        });
        image
    }

    /// A scan line's dots as indices into the palette, with the column beyond the last that panning uncovers.
    fn text_line(&self, line: Line, dots: &mut Vec<u8>) {
        let registers = &self.registers;
        let width = registers.dots();
        let mode = registers.attribute(0x10);
        let fonts = font_offsets(registers.sequencer(3));
        let scan = line.row_scan;
        let (start, end) = (u32::from(registers.crtc(0x0A) & 0x1F), u32::from(registers.crtc(0x0B) & 0x1F));
        // The cursor is on for eight frames and off for eight, a blinking character for sixteen each.
        let cursor_here = registers.crtc(0x0A) & 0x20 == 0 && (start..=end).contains(&scan) && self.frame & 8 == 0;
        let cursor = registers.pair(0x0E);
        let underlined = scan == u32::from(registers.crtc(0x14) & 0x1F);
        let palette = std::array::from_fn::<u8, 16, _>(|bits| self.attribute_colour(bits as u8));
        let dac = |bits: u8| palette.get(usize::from(bits & 0x0F)).copied().unwrap_or(0);
        dots.clear();
        for column in 0..=registers.columns() {
            let counter = line.counter + column & 0xFFFF;
            let [character, attribute, ..] = self.planes(self.address(counter, scan));
            let font = if attribute & 8 != 0 { fonts.1 } else { fonts.0 };
            let mut glyph = u32::from(self.plane(font + u32::from(character) * 32 + scan & 0xFFFF, 2)) << 1;
            if mode & 4 != 0 && (0xC0..=0xDF).contains(&character) {
                // Line graphics reach into the ninth dot.
                glyph |= glyph >> 1 & 1;
            }
            if underlined && attribute & 0x77 == 0x01 {
                glyph = 0x1FF;
            }
            let colours = self.text_attribute(attribute);
            if colours.blinks && self.frame & 16 != 0 {
                glyph = 0;
            }
            if cursor_here && counter == cursor {
                glyph = 0x1FF;
            }
            let (foreground, background) = (dac(colours.foreground), dac(colours.background));
            dots.extend((0..width).map(|dot| if glyph >> (8 - dot) & 1 != 0 { foreground } else { background }));
        }
        // With nine dots, 8 means no panning and 0 means one dot.
        let shift = if width == 9 { (line.panning + 1) % 9 } else { line.panning & 7 };
        dots.drain(..(shift as usize).min(dots.len()));
    }
}

/// Where the fonts begin in plane 2: for attribute bit 3 clear (character map B) and set (A).
fn font_offsets(select: u8) -> (u32, u32) {
    let offset = |low: u8, high: u8| u32::from(low & 3) << 14 | u32::from(high & 1) << 13;
    (offset(select, select >> 4), offset(select >> 2, select >> 5))
}
