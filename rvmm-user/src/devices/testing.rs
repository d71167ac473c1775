//! For tests: guest memory.

use super::dma::{Dma, NoMemory};

/// Memory from address 0 on.
pub struct Ram(pub Vec<u8>);

impl Ram {
    /// So many bytes of zeros.
    pub fn new(size: usize) -> Self {
        Ram(vec![0; size])
    }
}

impl Dma for Ram {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory> {
        let from = gpa as usize;
        let bytes = self.0.get(from..from + data.len()).ok_or(NoMemory { gpa })?;
        data.copy_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), NoMemory> {
        let from = gpa as usize;
        let bytes = self.0.get_mut(from..from + data.len()).ok_or(NoMemory { gpa })?;
        bytes.copy_from_slice(data);
        Ok(())
    }
}
