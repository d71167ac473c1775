//! Rectangles of pixels: Raw, and Zlib where the client knows it (RFC 6143, section 7.7; the encodings' registry, number 6).

use std::io;

use flate2::{Compress, Compression, FlushCompress};

use super::changes::{row, Rectangle};
use super::format::PixelFormat;
use crate::devices::vga::Image;

/// Pixels as they are.
pub const RAW: i32 = 0;
/// Pixels as they are, in one zlib stream for the whole connection.
pub const ZLIB: i32 = 6;
/// Pseudo-encoding: the screen's size may change.
pub const DESKTOP_SIZE: i32 = -223;

/// A connection's way of encoding.
pub struct Encoder {
    pub format: PixelFormat,
    /// The client knows [`ZLIB`].
    pub compresses: bool,
    stream: Compress,
}

impl Encoder {
    /// Before the client has said anything.
    pub fn new() -> Encoder {
        Encoder { format: PixelFormat::default(), compresses: false, stream: Compress::new(Compression::fast(), true) }
    }

    /// Appends a rectangle of `image`, with its header.
    pub fn rectangle(&mut self, image: &Image, part: Rectangle, out: &mut Vec<u8>) -> io::Result<()> {
        header(part, if self.compresses { ZLIB } else { RAW }, out);
        let mut pixels = Vec::with_capacity(part.width as usize * part.height as usize * 4);
        for y in part.y..part.y + part.height {
            for pixel in row(image, part.x, y, part.width).chunks_exact(3) {
                if let [red, green, blue] = pixel {
                    self.format.write([*red, *green, *blue], &mut pixels);
                }
            }
        }
        if !self.compresses {
            out.extend(pixels);
            return Ok(());
        }
        let packed = self.compress(&pixels)?;
        out.extend(u32::try_from(packed.len()).map_err(io::Error::other)?.to_be_bytes());
        out.extend(packed);
        Ok(())
    }

    /// Compresses so that the client can unpack all of it now.
    fn compress(&mut self, mut input: &[u8]) -> io::Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(input.len() / 8 + 256);
        loop {
            let before = self.stream.total_in();
            self.stream.compress_vec(input, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            let taken = usize::try_from(self.stream.total_in() - before).map_err(io::Error::other)?;
            input = input.get(taken..).unwrap_or_default();
            // Room that is left says that nothing is kept back.
            if input.is_empty() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(packed.capacity());
        }
    }
}

/// Appends the pseudo-rectangle that changes the screen's size.
pub fn desktop_size(width: u32, height: u32, out: &mut Vec<u8>) {
    header(Rectangle { x: 0, y: 0, width, height }, DESKTOP_SIZE, out);
}

/// The head of FramebufferUpdate.
pub fn update(rectangles: usize) -> Vec<u8> {
    let [high, low] = (rectangles as u16).to_be_bytes();
    vec![0, 0, high, low]
}

fn header(part: Rectangle, encoding: i32, out: &mut Vec<u8>) {
    for value in [part.x, part.y, part.width, part.height] {
        out.extend((value as u16).to_be_bytes());
    }
    out.extend(encoding.to_be_bytes());
}
