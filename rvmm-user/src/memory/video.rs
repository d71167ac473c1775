//! Video memory: the adapter writes it, and the guest, which has it as its linear frame buffer.

use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::{MmapRegion, VolatileMemory};

use crate::devices::vga::{Vram, VRAM_SIZE};
use crate::devices::OPEN_BUS;
use crate::error::Error;

/// Offsets that the adapter has written: from the first to behind the last.
pub type Written = Arc<Mutex<Option<(usize, usize)>>>;

/// The adapter's hold on the memory.
pub struct Video {
    region: Arc<MmapRegion>,
    written: Written,
}

/// Video memory of the usual size.
pub fn create() -> Result<Arc<MmapRegion>, Error> {
    let failed = |reason: vm_memory::mmap::MmapRegionError| Error::HostMemory { mib: 16, reason: reason.to_string() };
    MmapRegion::new(VRAM_SIZE).map(Arc::new).map_err(failed)
}

impl Video {
    /// The adapter's hold on `region`, and where it says what it wrote.
    pub fn new(region: Arc<MmapRegion>) -> (Video, Written) {
        let written = Written::default();
        (Video { region, written: Arc::clone(&written) }, written)
    }

    fn note(&self, start: usize, end: usize) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (low, high) = written.unwrap_or((start, end));
        *written = Some((low.min(start), high.max(end)));
    }
}

impl Vram for Video {
    fn size(&self) -> usize {
        self.region.size()
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        match self.region.get_slice(offset, data.len()) {
            Ok(slice) => {
                slice.copy_to(data);
            }
            Err(_) => data.fill(OPEN_BUS),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        if let Ok(slice) = self.region.get_slice(offset, data.len()) {
            slice.copy_from(data);
            self.note(offset, offset + data.len());
        }
    }

    fn clear(&mut self, length: usize) {
        let zeros = [0; 4096];
        let length = length.min(self.size());
        for offset in (0..length).step_by(zeros.len()) {
            let part = zeros.get(..length - offset).unwrap_or(&zeros);
            self.write(offset, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_as_one_range() {
        let (mut video, written) = Video::new(create().unwrap());
        video.write(0x100, &[1, 2]);
        video.write(0x10, &[3]);
        video.write(usize::MAX, &[4]);
        assert_eq!(written.lock().unwrap().take(), Some((0x10, 0x102)));
        let mut data = [0; 2];
        video.read(0x100, &mut data);
        assert_eq!(data, [1, 2]);
        video.clear(0x101);
        video.read(0x100, &mut data);
        assert_eq!(data, [0, 2]);
        video.read(VRAM_SIZE - 1, &mut data);
        assert_eq!(data, [0xFF; 2], "beyond the end");
    }
}
