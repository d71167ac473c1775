//! Raw images: files, sparse or not, and block devices.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{DiskError, Reason};
use super::{byte_range, check_length, Disk};

/// A raw image.
///
/// If its size is no whole number of sectors, the last one is filled with zeros, as QEMU does; writing that sector makes the file
/// longer.
#[derive(Debug)]
pub struct Raw {
    file: File,
    /// Bytes that must be there; reads behind them, in the last sector, give zeros.
    length: u64,
    sectors: u64,
    sector_size: u32,
    writable: bool,
}

impl Raw {
    /// The image in `file`, which is open for writing if it is `writable`.
    pub fn new(mut file: File, path: &Path, sector_size: u32, writable: bool) -> Result<Self, Reason> {
        // The metadata of block devices have no size.
        let length = file.seek(SeekFrom::End(0)).map_err(Reason::Open)?;
        check_length(length, sector_size, path)?;
        Ok(Raw { file, length, sectors: length.div_ceil(u64::from(sector_size)), sector_size, writable })
    }
}

impl Disk for Raw {
    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        !self.writable
    }

    fn read(&mut self, lba: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())?;
        let there = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
        let (there, beyond) = data.split_at_mut_checked(there).ok_or(DiskError::OutOfRange)?;
        // A file that has become shorter is an error, like any other sector that is lost.
        self.file.read_exact_at(there, at).map_err(DiskError::Read)?;
        beyond.fill(0);
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())?;
        if !self.writable {
            return Err(DiskError::ReadOnly);
        }
        self.file.write_all_at(data, at).map_err(DiskError::Write)?;
        self.length = self.length.max(at + data.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.writable {
            return Ok(());
        }
        loop {
            match self.file.sync_data() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(DiskError::Flush),
            }
        }
    }
}
