//! For tests: disks that fail on demand, scratch files, and guest memory.

use std::collections::HashSet;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::DiskError;
use super::{byte_range, Disk, SECTOR};

/// What a [`FaultyDisk`] holds, and how it is to behave.
#[derive(Debug, Default)]
pub struct FaultyState {
    /// The sectors' contents.
    pub data: Vec<u8>,
    /// Sectors that cannot be read.
    pub bad: HashSet<u64>,
    /// The host has no room.
    pub full: bool,
    /// Accesses panic.
    pub panics: bool,
    /// Flushes fail.
    pub broken_flush: bool,
    /// Flushes so far.
    pub flushes: u32,
}

/// A disk in memory that fails on demand.
pub struct FaultyDisk {
    state: Arc<Mutex<FaultyState>>,
    sector_size: u32,
    read_only: bool,
}

impl FaultyDisk {
    /// A disk of zeros.
    pub fn new(sectors: usize) -> Self {
        Self::with(vec![0; sectors * SECTOR as usize], SECTOR, false)
    }

    /// A disk with these contents.
    pub fn with(data: Vec<u8>, sector_size: u32, read_only: bool) -> Self {
        let state = FaultyState { data, ..FaultyState::default() };
        FaultyDisk { state: Arc::new(Mutex::new(state)), sector_size, read_only }
    }

    /// Its contents and its faults.
    pub fn state(&self) -> Arc<Mutex<FaultyState>> {
        Arc::clone(&self.state)
    }

    fn lock(&self) -> MutexGuard<'_, FaultyState> {
        self.state.lock().unwrap()
    }
}

impl Disk for FaultyDisk {
    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn sectors(&self) -> u64 {
        self.lock().data.len() as u64 / u64::from(self.sector_size)
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&mut self, lba: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())? as usize;
        let state = self.lock();
        let panics = state.panics;
        assert!(!panics, "as the test wants it");
        let count = data.len() as u64 / u64::from(self.sector_size);
        if (lba..lba + count).any(|sector| state.bad.contains(&sector)) {
            return Err(DiskError::Read(io::Error::from_raw_os_error(libc::EIO)));
        }
        data.copy_from_slice(&state.data[at..at + data.len()]);
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        let at = byte_range(self, lba, data.len())? as usize;
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        let mut state = self.lock();
        if state.full {
            return Err(DiskError::Write(io::Error::from_raw_os_error(libc::ENOSPC)));
        }
        state.data[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.flushes += 1;
        if state.broken_flush {
            return Err(DiskError::Flush(io::Error::from_raw_os_error(libc::EIO)));
        }
        Ok(())
    }
}

/// Sectors full of one byte.
pub fn filled(byte: u8, sectors: usize) -> Vec<u8> {
    vec![byte; sectors * SECTOR as usize]
}

/// A file's path, which is removed at the end.
pub struct Scratch(PathBuf);

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A path where nothing is yet.
pub fn scratch(name: &str) -> Scratch {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Scratch(std::env::temp_dir().join(format!("rvmm-test-{}-{number}-{name}", std::process::id())))
}
