//! The port by which the option ROM of a machine with a kernel says that firmware is done: a word, the number of entries of the memory map.

/// The port.
pub const PORT: u16 = 0x505;

/// The number that a write of `data` tells.
pub fn entries(data: &[u8]) -> Option<u16> {
    data.try_into().ok().map(u16::from_le_bytes)
}
