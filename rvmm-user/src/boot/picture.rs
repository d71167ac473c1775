//! What the display shows when a kernel is entered.

/// The display, as firmware has left it: text of 80 columns and 25 lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Where video memory is, if firmware has given it a place.
    pub frame_buffer: Option<u64>,
    /// Its size.
    pub bytes: u64,
}

/// What a kernel would like to have; 0 where it does not care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub text: bool,
    pub width: u32,
    pub height: u32,
    pub depth: u32,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// The text that firmware has left.
    Text,
    /// Lines of pixels, one behind the other.
    Pixels { address: u64, width: u16, height: u16, depth: u8 },
}

/// The size for a kernel that does not care.
const USUAL: (u16, u16) = (1024, 768);
const LARGEST: (u32, u32) = (4096, 4096);

/// Position and width of red, green and blue in a pixel.
pub type Colours = [(u8, u8); 3];

impl Screen {
    /// The answer to `wish`. A wish is a preference: kernels look at what they got.
    pub fn grant(&self, wish: &Wish) -> Picture {
        let Some(address) = self.frame_buffer.filter(|_| !wish.text) else { return Picture::Text };
        let depth = match wish.depth {
            15 | 16 | 24 => wish.depth as u8,
            _ => 32,
        };
        let bytes =
            |width: u16, height: u16| u64::from(width) * u64::from(height) * u64::from(depth.next_multiple_of(8)) / 8;
        let fits = |width: u32, height: u32| {
            // The adapter counts in characters of eight pixels.
            let size = (width / 8 * 8, height);
            let size = (u16::try_from(size.0).ok()?, u16::try_from(size.1).ok()?);
            let fine = width >= 8 && height > 0 && width <= LARGEST.0 && height <= LARGEST.1;
            (fine && bytes(size.0, size.1) <= self.bytes).then_some(size)
        };
        let (width, height) = fits(wish.width, wish.height).unwrap_or(USUAL);
        Picture::Pixels { address, width, height, depth }
    }
}

impl Picture {
    /// Where the colours are in a pixel of `depth` bits.
    pub fn colours(depth: u8) -> Colours {
        match depth {
            15 => [(10, 5), (5, 5), (0, 5)],
            16 => [(11, 5), (5, 6), (0, 5)],
            _ => [(16, 8), (8, 8), (0, 8)],
        }
    }

    /// Bytes of a line of `width` pixels.
    pub fn pitch(width: u16, depth: u8) -> u32 {
        u32::from(width) * u32::from(depth.next_multiple_of(8)) / 8
    }

    /// What both versions of multiboot tell: address, bytes of a line, width, height, bits and kind, and behind that the colours.
    pub fn describe(&self) -> Description {
        match *self {
            Picture::Text => Description {
                address: 0xB_8000,
                pitch: 160,
                width: 80,
                height: 25,
                depth: 16,
                kind: 2,
                colours: Vec::new(),
            },
            Picture::Pixels { address, width, height, depth } => Description {
                address,
                pitch: Picture::pitch(width, depth),
                width: width.into(),
                height: height.into(),
                depth,
                kind: 1,
                colours: Picture::colours(depth).into_iter().flat_map(|(at, bits)| [at, bits]).collect(),
            },
        }
    }
}

/// A frame buffer as multiboot describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub address: u64,
    pub pitch: u32,
    pub width: u32,
    pub height: u32,
    pub depth: u8,
    /// 1: colours in the pixel; 2: text.
    pub kind: u8,
    pub colours: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen { frame_buffer: Some(0xFD00_0000), bytes: 16 << 20 };

    #[test]
    fn a_wish_is_granted_where_the_adapter_can() {
        let pixels = |width, height, depth| match SCREEN.grant(&Wish { text: false, width, height, depth }) {
            Picture::Pixels { width, height, depth, .. } => (width, height, depth),
            Picture::Text => panic!("text"),
        };
        assert_eq!(pixels(800, 600, 24), (800, 600, 24));
        assert_eq!(pixels(0, 0, 0), (1024, 768, 32));
        assert_eq!(pixels(4000, 4000, 32), (1024, 768, 32), "more than there is memory");
        assert_eq!(pixels(u32::MAX, 1, 8), (1024, 768, 32));
        assert_eq!(pixels(1366, 768, 15), (1360, 768, 15));
        assert_eq!(Picture::pitch(800, 15), 1600);
    }

    #[test]
    fn text_is_what_there_is_without_a_frame_buffer() {
        assert_eq!(SCREEN.grant(&Wish { text: true, ..Wish::default() }), Picture::Text);
        assert_eq!(Screen { frame_buffer: None, ..SCREEN }.grant(&Wish::default()), Picture::Text);
        assert_eq!(Picture::Text.describe().address, 0xB_8000);
    }
}
