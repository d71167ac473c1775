//! Disk images: what the drives' requests are served from.
//!
//! [`open`] makes a [`Disk`] of an image file or block device: raw ([`raw`]) or qcow2 ([`qcow2`]), locked against others
//! ([`lock`]), with a throw-away layer for writes if asked for ([`overlay`]). A [`worker::Worker`] serves a drive's requests from it
//! on a thread of its own.

pub mod error;
pub mod format;
pub mod lock;
pub mod options;
pub mod overlay;
pub mod perform;
pub mod qcow2;
mod qcow2_whole;
pub mod raw;
#[cfg(test)]
pub mod testing;
pub mod worker;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::devices::block::Medium;
use error::{DiskError, OpenError, Reason};
use format::Format;
use lock::Access;
use options::DiskOptions;
use overlay::Overlay;
use qcow2::Qcow2;
use raw::Raw;

/// The size of a sector of everything but CDs, in bytes.
pub const SECTOR: u32 = 512;
/// The size of a CD's sector (mode 1 user data), in bytes.
pub const CD_SECTOR: u32 = 2048;

/// Sectors that can be read, and perhaps written, in order of the calls.
///
/// Data is a whole number of sectors. Written data may be lost by a crash of the host until [`Disk::flush`] has returned, as in a
/// drive with a write cache.
pub trait Disk: Send {
    /// The size of a sector in bytes: [`SECTOR`] or [`CD_SECTOR`].
    fn sector_size(&self) -> u32;
    /// The number of sectors.
    fn sectors(&self) -> u64;
    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;
    /// Reads sectors from `lba` on. After an error, `data` holds anything.
    fn read(&mut self, lba: u64, data: &mut [u8]) -> Result<(), DiskError>;
    /// Writes sectors from `lba` on. After an error, any part of them may have been written.
    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError>;
    /// Makes durable what was written before.
    fn flush(&mut self) -> Result<(), DiskError>;

    /// What the drive is to know of it.
    fn medium(&self) -> Medium {
        Medium { sectors: self.sectors(), read_only: self.is_read_only() }
    }
}

/// The byte range of `length` bytes from sector `lba` on, if the disk has it.
fn byte_range(disk: &dyn Disk, lba: u64, length: usize) -> Result<u64, DiskError> {
    let size = u64::from(disk.sector_size());
    let length = u64::try_from(length).map_err(|_| DiskError::OutOfRange)?;
    if length % size != 0 {
        return Err(DiskError::OutOfRange);
    }
    match lba.checked_add(length / size) {
        Some(end) if end <= disk.sectors() => lba.checked_mul(size).ok_or(DiskError::OutOfRange),
        _ => Err(DiskError::OutOfRange),
    }
}

/// Refuses an image of `length` bytes that can be no disk, and says so if its last sector is not whole.
fn check_length(length: u64, sector_size: u32, path: &Path) -> Result<(), Reason> {
    let sector_size = u64::from(sector_size);
    if length == 0 {
        return Err(Reason::Empty);
    }
    if length > i64::MAX as u64 - sector_size {
        return Err(Reason::TooLarge(length));
    }
    if length % sector_size != 0 {
        tracing::warn!(
            "{}: {length} bytes are no whole number of {sector_size}-byte sectors: the last one is filled with zeros (is \
             the image truncated?)",
            path.display()
        );
    }
    Ok(())
}

/// Opens an image with sectors of `sector_size` bytes.
///
/// The file is opened for writing only if it may be written to. A file that cannot be, for its permissions say, is refused unless
/// the options say `readonly=on` or `snapshot=on`.
pub fn open(options: &DiskOptions, sector_size: u32) -> Result<Box<dyn Disk>, OpenError> {
    let fail = |reason| OpenError { path: options.path.clone(), reason };
    let writable = !options.read_only && !options.snapshot;
    let file = open_file(options, writable).map_err(fail)?;
    let access = if writable { Access::Write } else { Access::Read };
    if let Err(error) = lock::lock(&file, access) {
        match error {
            lock::LockError::InUse => return Err(fail(Reason::InUse(access))),
            lock::LockError::Unsupported(source) => {
                tracing::warn!(
                    "{}: the file system has no locks ({source}): nothing keeps others from the image",
                    options.path.display()
                );
            }
        }
    }
    let disk: Box<dyn Disk> = match find_format(options, &file).map_err(fail)? {
        Format::Raw => Box::new(Raw::new(file, &options.path, sector_size, writable).map_err(fail)?),
        Format::Qcow2 => Box::new(Qcow2::new(file, &options.path, sector_size, writable).map_err(fail)?),
        other => return Err(fail(Reason::Format(other))),
    };
    if !options.snapshot {
        return Ok(disk);
    }
    Ok(Box::new(Overlay::new(disk).map_err(|source| fail(Reason::Temporary(source)))?))
}

fn open_file(options: &DiskOptions, writable: bool) -> Result<File, Reason> {
    let file = OpenOptions::new().read(true).write(writable).open(&options.path).map_err(|source| {
        let denied = matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
        if writable && denied {
            Reason::NotWritable(source)
        } else {
            Reason::Open(source)
        }
    })?;
    let kind = file.metadata().map_err(Reason::Open)?.file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(file)
    } else {
        Err(Reason::NoImage)
    }
}

fn find_format(options: &DiskOptions, file: &File) -> Result<Format, Reason> {
    match options.format {
        Some(format) => Ok(format),
        None => format::probe(file).map_err(Reason::Open),
    }
}

#[cfg(test)]
mod robust_tests;
#[cfg(test)]
mod tests;
