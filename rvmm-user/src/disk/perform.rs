//! Serving a drive's request from a disk.

use super::error::DiskError;
use super::Disk;
use crate::devices::block::{Completion, Request};

/// Serves `request`. When several sectors fail together, they are tried one by one, so that the drive learns which of them is bad
/// and the others are not lost.
pub fn perform(disk: &mut dyn Disk, request: &Request) -> (Completion, Option<DiskError>) {
    match request {
        Request::Read { lba, sectors } => read(disk, *lba, *sectors),
        Request::Write { lba, data } => write(disk, *lba, data),
        Request::Flush => ended(Vec::new(), 0, disk.flush().err()),
    }
}

fn ended(data: Vec<u8>, sectors: u32, error: Option<DiskError>) -> (Completion, Option<DiskError>) {
    (Completion { data, sectors, error: error.as_ref().map(DiskError::failure) }, error)
}

fn read(disk: &mut dyn Disk, lba: u64, sectors: u32) -> (Completion, Option<DiskError>) {
    let size = disk.sector_size() as usize;
    let mut data = vec![0; sectors as usize * size];
    let Err(whole) = disk.read(lba, &mut data) else {
        return ended(data, sectors, None);
    };
    let mut done = 0;
    for (sector, at) in data.chunks_exact_mut(size).zip(lba..) {
        if let Err(error) = disk.read(at, sector) {
            data.truncate(done as usize * size);
            return ended(data, done, Some(error));
        }
        done += 1;
    }
    // The second attempt succeeded, as it does when the cause was of the moment.
    tracing::debug!("reading sectors {lba} and behind succeeded one by one: {whole}");
    ended(data, done, None)
}

fn write(disk: &mut dyn Disk, lba: u64, data: &[u8]) -> (Completion, Option<DiskError>) {
    let size = disk.sector_size() as usize;
    let Err(whole) = disk.write(lba, data) else {
        return ended(Vec::new(), (data.len() / size) as u32, None);
    };
    let mut done = 0;
    for (sector, at) in data.chunks(size).zip(lba..) {
        if let Err(error) = disk.write(at, sector) {
            return ended(Vec::new(), done, Some(error));
        }
        done += 1;
    }
    tracing::debug!("writing sectors {lba} and behind succeeded one by one: {whole}");
    ended(Vec::new(), done, None)
}
