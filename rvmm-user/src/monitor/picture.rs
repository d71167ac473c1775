//! Picture files.

use std::io;
use std::path::Path;

use crate::devices::vga::Image;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ppm,
    Png,
}

impl Format {
    /// The format that QEMU calls `name`.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "ppm" => Some(Format::Ppm),
            "png" => Some(Format::Png),
            _ => None,
        }
    }

    /// The format that a file's name asks for: PPM if it ends so, else PNG.
    pub fn of_file(path: &Path) -> Format {
        let is_ppm = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("ppm"));
        if is_ppm {
            Format::Ppm
        } else {
            Format::Png
        }
    }

    /// QEMU's name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::Ppm => "ppm",
            Format::Png => "png",
        }
    }
}

/// The file's bytes.
pub fn encode(image: &Image, format: Format) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    match format {
        Format::Ppm => {
            file.extend(format!("P6\n{} {}\n255\n", image.width, image.height).bytes());
            file.extend(&image.rgb);
        }
        Format::Png => {
            let mut encoder = png::Encoder::new(&mut file, image.width, image.height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header().map_err(io::Error::other)?;
            writer.write_image_data(&image.rgb).map_err(io::Error::other)?;
            writer.finish().map_err(io::Error::other)?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_their_files() {
        let mut image = Image::filled(3, 2, [1, 2, 3]);
        image.rgb[9..12].copy_from_slice(&[200, 100, 50]);
        let ppm = encode(&image, Format::Ppm).unwrap();
        assert_eq!(ppm, [b"P6\n3 2\n255\n".as_slice(), &image.rgb].concat());
        let png = encode(&image, Format::Png).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, pixels), (3, 2, image.rgb));
    }

    #[test]
    fn a_file_s_name_tells_its_format() {
        assert_eq!(Format::of_file("a.PPM".as_ref()), Format::Ppm);
        assert_eq!(Format::of_file("a.png".as_ref()), Format::Png);
        assert_eq!(Format::of_file("a".as_ref()), Format::Png);
    }
}
