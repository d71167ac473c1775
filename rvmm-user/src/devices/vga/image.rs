//! A picture.

/// Pixels of three bytes each: red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: u32,
    pub height: u32,
    /// `width` × `height` × 3 bytes, line by line from the top.
    pub rgb: Vec<u8>,
}

impl Image {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Image {
        Image { width, height, rgb: colour.repeat(width as usize * height as usize) }
    }

    /// An empty picture, for whoever adds the pixels in their order.
    pub fn empty(width: u32, height: u32) -> Image {
        Image { width, height, rgb: Vec::with_capacity(width as usize * height as usize * 3) }
    }

    /// The pixel at `x`, `y`; black outside.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        match self.rgb.get(at..at + 3) {
            Some([red, green, blue]) if x < self.width => [*red, *green, *blue],
            _ => [0; 3],
        }
    }
}
