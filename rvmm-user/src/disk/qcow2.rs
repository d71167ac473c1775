//! qcow2 images, through the crate imago (by one of the maintainers of QEMU's block layer; MIT).
//!
//! imago orders its writes so that a crash at any moment leaks clusters at worst; what it has cached reaches the file on a flush.
//! Images that refer to other files (a backing image, an external data file) are refused: a guest with a raw image could write
//! itself a qcow2 header that names any file of the host's.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use imago::qcow2::Qcow2 as Image;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use super::error::{DiskError, Reason};
use super::qcow2_whole::{self, Flaw};
use super::{byte_range, check_length, Disk};

type Storage = imago::file::File;

/// A qcow2 image.
pub struct Qcow2 {
    image: FormatAccess<Storage>,
    length: u64,
    sector_size: u32,
    writable: bool,
}

impl Qcow2 {
    /// The image in `file`, which is open for writing if it is `writable`.
    pub fn new(file: File, path: &Path, sector_size: u32, writable: bool) -> Result<Self, Reason> {
        let storage = |file: File| Storage::try_from(file).map_err(Reason::Open);
        let head = Image::<Storage>::open_image(storage(file.try_clone().map_err(Reason::Open)?)?, false)
            .map_err(Reason::Qcow2)?;
        if head.requires_external_data_file() {
            let name = head.implicit_external_data_file().cloned();
            return Err(Reason::RefersTo(name.unwrap_or_else(|| "its data file".into())));
        }
        if let Some(name) = head.implicit_backing_file() {
            return Err(Reason::RefersTo(name.clone()));
        }
        drop(head);
        // A block device may be larger than its image, and a file's length is where the image ends.
        let bytes = (&file).seek(SeekFrom::End(0)).map_err(Reason::Open)?;
        match qcow2_whole::first_flaw(&file, bytes).map_err(Reason::Qcow2)? {
            Some(Flaw::Missing(offset)) => return Err(Reason::Truncated { bytes, offset }),
            // What is only read needs no counts.
            Some(Flaw::Uncounted(offset)) if writable => return Err(Reason::Uncounted(offset)),
            Some(Flaw::Uncounted(_)) | None => {}
        }
        let image = Image::<Storage>::builder(storage(file)?)
            .write(writable)
            .open(DenyImplicitOpenGate::default())
            .map_err(Reason::Qcow2)?;
        let image = FormatAccess::new(image);
        let length = image.size();
        check_length(length, sector_size, path)?;
        Ok(Qcow2 { image, length, sector_size, writable })
    }

    /// How many of `length` bytes at `at` are inside the image.
    fn inside(&self, at: u64, length: usize) -> usize {
        usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX).min(length)
    }
}

impl Disk for Qcow2 {
    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn sectors(&self) -> u64 {
        self.length.div_ceil(u64::from(self.sector_size))
    }

    fn is_read_only(&self) -> bool {
        !self.writable
    }

    fn read(&mut self, lba: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())?;
        let (there, beyond) = data.split_at_mut_checked(self.inside(at, data.len())).ok_or(DiskError::OutOfRange)?;
        self.image.read(there, at).map_err(DiskError::Read)?;
        beyond.fill(0);
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())?;
        if !self.writable {
            return Err(DiskError::ReadOnly);
        }
        let (there, beyond) = data.split_at_checked(self.inside(at, data.len())).ok_or(DiskError::OutOfRange)?;
        // The image does not grow: what could not be read again is not taken.
        if beyond.iter().any(|byte| *byte != 0) {
            return Err(DiskError::OutOfRange);
        }
        self.image.write(there, at).map_err(DiskError::Write)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.writable {
            return Ok(());
        }
        self.image.flush().and_then(|()| self.image.sync()).map_err(DiskError::Flush)
    }
}
