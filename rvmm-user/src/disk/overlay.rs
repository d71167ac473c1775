//! `snapshot=on`: writes go to a temporary file that has no name, and are gone at the end; the image is only read.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::error::DiskError;
use super::{byte_range, Disk};

/// Bytes that are copied as one when some of them are first written. A multiple of every sector size.
const CLUSTER: u64 = 64 << 10;

/// A disk with a layer for writes above it.
pub struct Overlay {
    image: Box<dyn Disk>,
    layer: File,
    /// Which clusters are in the layer: bit n of entry m stands for cluster 64 m + n.
    copied: BTreeMap<u64, u64>,
}

/// A part of a request that is in one cluster.
struct Piece {
    cluster: u64,
    /// Where the piece begins, in bytes from the disk's beginning.
    at: u64,
    length: usize,
}

impl Overlay {
    /// An empty layer over `image`, in a file in `TMPDIR`.
    pub fn new(image: Box<dyn Disk>) -> io::Result<Self> {
        Ok(Overlay { image, layer: temporary()?, copied: BTreeMap::new() })
    }

    fn has(&self, cluster: u64) -> bool {
        self.copied.get(&(cluster / 64)).is_some_and(|bits| bits & (1 << (cluster % 64)) != 0)
    }

    /// Copies a cluster to the layer, unless it is there. It counts as copied only when all of it is.
    fn copy(&mut self, cluster: u64) -> Result<(), DiskError> {
        if self.has(cluster) {
            return Ok(());
        }
        let size = u64::from(self.image.sector_size());
        let at = cluster * CLUSTER;
        let length = CLUSTER.min(self.image.sectors() * size - at);
        let mut data = vec![0; length as usize];
        self.image.read(at / size, &mut data)?;
        self.layer.write_all_at(&data, at).map_err(DiskError::Write)?;
        *self.copied.entry(cluster / 64).or_default() |= 1 << (cluster % 64);
        Ok(())
    }

    /// Whether the piece is all that its cluster has, so that nothing of it need be copied.
    fn is_whole(&self, piece: &Piece) -> bool {
        piece.at % CLUSTER == 0 && piece.length as u64 == CLUSTER
    }
}

fn temporary() -> io::Result<File> {
    // Without a name from the start, so that nothing stays after kill -9. Other users must not read a guest's disk.
    let directory = std::env::temp_dir();
    let open = || OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(&directory);
    open().or_else(|_| {
        vmm_sys_util::tempfile::TempFile::new_in(&directory).map(|file| file.into_file()).map_err(Into::into)
    })
}

fn pieces(at: u64, length: usize) -> impl Iterator<Item = Piece> {
    let end = at + length as u64;
    let next = move |&from: &u64| Some((from / CLUSTER + 1) * CLUSTER).filter(|next| *next < end);
    std::iter::successors(Some(at), next).map(move |from| Piece {
        cluster: from / CLUSTER,
        at: from,
        length: (((from / CLUSTER + 1) * CLUSTER).min(end) - from) as usize,
    })
}

impl Disk for Overlay {
    fn sector_size(&self) -> u32 {
        self.image.sector_size()
    }

    fn sectors(&self) -> u64 {
        self.image.sectors()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&mut self, lba: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let mut rest = data;
        let at = byte_range(self, lba, rest.len())?;
        let size = u64::from(self.sector_size());
        for piece in pieces(at, rest.len()) {
            let (part, behind) = rest.split_at_mut_checked(piece.length).ok_or(DiskError::OutOfRange)?;
            if self.has(piece.cluster) {
                self.layer.read_exact_at(part, piece.at).map_err(DiskError::Read)?;
            } else {
                self.image.read(piece.at / size, part)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        let mut rest = data;
        let at = byte_range(self, lba, rest.len())?;
        for piece in pieces(at, rest.len()) {
            let (part, behind) = rest.split_at_checked(piece.length).ok_or(DiskError::OutOfRange)?;
            if !self.is_whole(&piece) {
                self.copy(piece.cluster)?;
            }
            self.layer.write_all_at(part, piece.at).map_err(DiskError::Write)?;
            *self.copied.entry(piece.cluster / 64).or_default() |= 1 << (piece.cluster % 64);
            rest = behind;
        }
        Ok(())
    }

    /// Nothing: what is thrown away need not be durable.
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
