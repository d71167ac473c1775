//! What a drive asks of its medium, and what comes back.
//!
//! A drive does no I/O: it hands out a [`Request`], stays busy, and is given the [`Completion`] whenever that has been served. A drive
//! has one request under way at most; requests of one drive are served in order.

/// Something for the medium to do. Addresses and counts are in sectors of the medium (512 bytes, 2,048 on a CD).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read `sectors` sectors from `lba` on.
    Read {
        /// The first sector.
        lba: u64,
        /// How many.
        sectors: u32,
    },
    /// Write whole sectors from `lba` on.
    Write {
        /// The first sector.
        lba: u64,
        /// Their contents.
        data: Vec<u8>,
    },
    /// Make durable what has been written.
    Flush,
}

/// The end of a [`Request`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// What was read: all sectors before the one that failed.
    pub data: Vec<u8>,
    /// Sectors that were read or written before the one that failed.
    pub sectors: u32,
    /// Why the next sector failed; `None` when everything was done.
    pub error: Option<Failure>,
}

/// Why a sector could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The medium has no such sector.
    NoSuchSector,
    /// The sector cannot be read.
    Unreadable,
    /// The sector could not be written, or what was written could not be made durable. A full host is one reason.
    Unwritable,
    /// The medium may not be written to.
    WriteProtected,
}

/// A medium as a drive sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Its size in sectors.
    pub sectors: u64,
    /// Whether writing is forbidden.
    pub read_only: bool,
}
