//! Video memory: the adapter writes it, and the guest, which has it as its linear frame buffer. Behind it, the memory of text that is shown to the
//! guest directly.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use crate::devices::vga::{text_window, Vram, VRAM_SIZE};
use crate::devices::OPEN_BUS;
use crate::error::Error;

/// Offsets that the adapter has written: from the first to behind the last.
pub type Written = Arc<Mutex<Option<(usize, usize)>>>;

/// Where the memory of text is.
const TEXT: Range<usize> = VRAM_SIZE..VRAM_SIZE + text_window::SIZE;

/// The adapter's hold on the memory.
pub struct Video {
    region: Arc<MmapRegion>,
    written: Written,
}

/// Video memory of the usual size.
pub fn create() -> Result<Arc<MmapRegion>, Error> {
    let failed = |reason: vm_memory::mmap::MmapRegionError| Error::HostMemory { mib: 16, reason: reason.to_string() };
    MmapRegion::new(VRAM_SIZE + text_window::SIZE).map(Arc::new).map_err(failed)
}

impl Video {
    /// The adapter's hold on `region`, and where it says what it wrote.
    pub fn new(region: Arc<MmapRegion>) -> (Video, Written) {
        let written = Written::default();
        (Video { region, written: Arc::clone(&written) }, written)
    }

    /// `len` bytes at `offset` of a part, if they are all in it.
    fn slice(&self, part: Range<usize>, offset: usize, len: usize) -> Option<VolatileSlice<'_>> {
        let start = part.start.checked_add(offset)?;
        let fits = start.checked_add(len)? <= part.end;
        self.region.get_slice(start, len).ok().filter(|_| fits)
    }

    fn note(&self, start: usize, end: usize) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (low, high) = written.unwrap_or((start, end));
        *written = Some((low.min(start), high.max(end)));
    }
}

impl Vram for Video {
    fn size(&self) -> usize {
        VRAM_SIZE
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        match self.slice(0..VRAM_SIZE, offset, data.len()) {
            Some(slice) => {
                slice.copy_to(data);
            }
            None => data.fill(OPEN_BUS),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        if let Some(slice) = self.slice(0..VRAM_SIZE, offset, data.len()) {
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

    fn has_text(&self) -> bool {
        true
    }

    fn read_text(&self, offset: usize, data: &mut [u8]) {
        match self.slice(TEXT, offset, data.len()) {
            Some(slice) => {
                slice.copy_to(data);
            }
            None => data.fill(OPEN_BUS),
        }
    }

    fn write_text(&mut self, offset: usize, data: &[u8]) {
        if let Some(slice) = self.slice(TEXT, offset, data.len()) {
            slice.copy_from(data);
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
