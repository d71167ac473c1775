//! isa-debug-exit: the port through which a test guest ends its run with a status.
//!
//! The port and its widths are QEMU's. The status is the value itself; QEMU reports `value * 2 + 1`.

/// Where QEMU's device of that name sits by default, as an option's value.
pub const DEFAULT_PORT: &str = "0x501";

/// The guest's status from a write of `data` (1, 2 or 4 bytes, little-endian), or `None` for another width.
pub fn status(data: &[u8]) -> Option<u32> {
    match *data {
        [a] => Some(u32::from(a)),
        [a, b] => Some(u32::from(u16::from_le_bytes([a, b]))),
        [a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_gives_the_value_written() {
        assert_eq!(status(&[7]), Some(7));
        assert_eq!(status(&[0x34, 0x12]), Some(0x1234));
        assert_eq!(status(&[1, 0, 0, 0x80]), Some(0x8000_0001));
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[1, 2, 3]), None);
    }
}
