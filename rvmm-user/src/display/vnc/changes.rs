//! What changed between two pictures.

use crate::devices::vga::Image;

/// A part of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Pictures are compared in squares of this size.
const TILE: u32 = 64;

/// Everything of a picture.
pub fn all(image: &Image) -> Vec<Rectangle> {
    vec![Rectangle { x: 0, y: 0, width: image.width, height: image.height }]
}

/// The parts of `new` that differ from `old`: squares, neighbours in a row joined. Pictures of different sizes differ everywhere.
pub fn between(old: &Image, new: &Image) -> Vec<Rectangle> {
    if (old.width, old.height) != (new.width, new.height) {
        return all(new);
    }
    let mut changed: Vec<Rectangle> = Vec::new();
    for y in (0..new.height).step_by(TILE as usize) {
        let height = TILE.min(new.height - y);
        for x in (0..new.width).step_by(TILE as usize) {
            let width = TILE.min(new.width - x);
            if (y..y + height).all(|line| row(old, x, line, width) == row(new, x, line, width)) {
                continue;
            }
            match changed.last_mut() {
                Some(last) if last.y == y && last.x + last.width == x => last.width += width,
                _ => changed.push(Rectangle { x, y, width, height }),
            }
        }
    }
    changed
}

/// `width` pixels of a line, as bytes.
pub fn row(image: &Image, x: u32, y: u32, width: u32) -> &[u8] {
    let start = (y as usize * image.width as usize + x as usize) * 3;
    image.rgb.get(start..start + width as usize * 3).unwrap_or_default()
}

/// The picture cut or filled up to a size, for clients whose screen cannot change its size.
pub fn fitted(image: Image, (width, height): (u32, u32)) -> Image {
    if (image.width, image.height) == (width, height) {
        return image;
    }
    let mut fitted = Image::empty(width, height);
    for y in 0..height {
        let line = if y < image.height { row(&image, 0, y, width.min(image.width)) } else { &[] };
        fitted.rgb.extend(line);
        fitted.rgb.resize((y as usize + 1) * width as usize * 3, 0);
    }
    fitted
}
