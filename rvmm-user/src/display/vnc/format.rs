//! A client's pixels (RFC 6143, section 7.4).

/// How a pixel is written. Formats with a colour map are served as 3-3-2 by a map that is sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    bits: u8,
    depth: u8,
    big_endian: bool,
    true_colour: bool,
    max: [u16; 3],
    shift: [u8; 3],
}

impl Default for PixelFormat {
    /// 32 bits, little-endian, as most screens have it.
    fn default() -> Self {
        PixelFormat { bits: 32, depth: 24, big_endian: false, true_colour: true, max: [255; 3], shift: [16, 8, 0] }
    }
}

impl PixelFormat {
    /// From the 16 bytes of the protocol; `None` if pixels cannot be so.
    pub fn from_bytes(bytes: &[u8; 16]) -> Option<PixelFormat> {
        let [bits, depth, big, colour, r1, r0, g1, g0, b1, b0, red, green, blue, ..] = *bytes;
        let format = PixelFormat {
            bits,
            depth,
            big_endian: big != 0,
            true_colour: colour != 0,
            max: [[r1, r0], [g1, g0], [b1, b0]].map(u16::from_be_bytes),
            shift: [red, green, blue],
        };
        let is_size = matches!(bits, 8 | 16 | 32);
        if format.true_colour {
            (is_size && format.shift.iter().all(|shift| *shift < bits)).then_some(format)
        } else {
            // The map that is sent; what such a client says of its colours' bits means nothing.
            is_size.then_some(PixelFormat { max: [7, 7, 3], shift: [5, 2, 0], ..format })
        }
    }

    /// As the 16 bytes of the protocol.
    pub fn to_bytes(self) -> [u8; 16] {
        let [[r1, r0], [g1, g0], [b1, b0]] = self.max.map(u16::to_be_bytes);
        let [red, green, blue] = self.shift;
        let flags = [self.big_endian, self.true_colour].map(u8::from);
        [self.bits, self.depth, flags[0], flags[1], r1, r0, g1, g0, b1, b0, red, green, blue, 0, 0, 0]
    }

    /// Whether the client wants a colour map.
    pub fn needs_map(self) -> bool {
        !self.true_colour
    }

    /// The message SetColourMapEntries for such a client: red has three bits, green three, blue two.
    pub fn colour_map() -> Vec<u8> {
        let mut message = vec![1, 0, 0, 0, 1, 0];
        for index in 0..256u32 {
            let part = |value: u32, max: u32| ((value * 0xFFFF / max) as u16).to_be_bytes();
            message.extend([part(index >> 5, 7), part(index >> 2 & 7, 7), part(index & 3, 3)].concat());
        }
        message
    }

    /// Appends a pixel.
    pub fn write(self, [red, green, blue]: [u8; 3], out: &mut Vec<u8>) {
        let scale = |part: u8, max: u16| (u32::from(part) * u32::from(max) + 127) / 255;
        let [max_red, max_green, max_blue] = self.max;
        let [shift_red, shift_green, shift_blue] = self.shift;
        let value = scale(red, max_red) << shift_red
            | scale(green, max_green) << shift_green
            | scale(blue, max_blue) << shift_blue;
        match (self.bits, self.big_endian) {
            (8, _) => out.push(value as u8),
            (16, true) => out.extend((value as u16).to_be_bytes()),
            (16, false) => out.extend((value as u16).to_le_bytes()),
            (_, true) => out.extend(value.to_be_bytes()),
            (_, false) => out.extend(value.to_le_bytes()),
        }
    }
}
