//! Guest memory as devices that read and write it by themselves see it.

/// Guest memory as a bus master sees it.
pub trait Dma {
    /// Reads `data.len()` bytes at the guest-physical address `gpa`.
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory>;
    /// Writes `data` at the guest-physical address `gpa`.
    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), NoMemory>;
}

/// Nothing answers at this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    /// The first guest-physical address without memory.
    pub gpa: u64,
}
