//! What can go wrong with an image, when it is opened and later.

use std::io;
use std::path::PathBuf;

use super::format::Format;
use super::lock::Access;
use crate::devices::block::Failure;

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the disk image {} cannot be used: {reason}", path.display())]
pub struct OpenError {
    /// The image.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It cannot be opened.
    #[error("{0}")]
    Open(io::Error),
    /// It cannot be opened for writing.
    #[error("it cannot be opened for writing: {0}")]
    NotWritable(io::Error),
    /// It is neither file nor block device.
    #[error("it is neither a file nor a block device")]
    NoImage,
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// Its size cannot be told in a disk's terms.
    #[error("it is too large: {0} bytes")]
    TooLarge(u64),
    /// Somebody else has it open.
    #[error("it is in use by another program (rvmm, QEMU or one of its tools); {}", wanted(*.0))]
    InUse(Access),
    /// Its format is known, but not supported.
    #[error("it is a {0} image, which rvmm does not read")]
    Format(Format),
    /// A qcow2 image with something that rvmm does not support, or damaged.
    #[error("as a qcow2 image: {0}")]
    Qcow2(io::Error),
    /// A qcow2 image whose tables point behind the file's end.
    #[error("it is truncated: of {bytes} bytes, and a table points to byte {offset}")]
    Truncated { bytes: u64, offset: u64 },
    /// A qcow2 image with something in use that it has no reference count for.
    #[error("it is damaged: there is no reference count for its byte {0}")]
    Uncounted(u64),
    /// A qcow2 image that needs other files.
    #[error("it is a qcow2 image that refers to another file, {0}, which rvmm does not open for it")]
    RefersTo(String),
    /// No room for the writes of `snapshot=on`.
    #[error("no temporary file for snapshot=on: {0}")]
    Temporary(io::Error),
}

fn wanted(access: Access) -> &'static str {
    match access {
        Access::Write => "it can be had for writing only alone",
        Access::Read => "it can be shared only with others that do not write",
    }
}

impl OpenError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let path = self.path.display();
        let convert = |from: &str| format!("convert it: qemu-img convert -f {from} -O raw '{path}' '{path}.raw'");
        Some(match &self.reason {
            Reason::Open(source) if source.kind() == io::ErrorKind::NotFound => "check the path".into(),
            Reason::Open(_) => return None,
            Reason::NotWritable(_) => "give readonly=on, or snapshot=on to throw the writes away at the end".into(),
            Reason::NoImage => "give an image file or a block device".into(),
            Reason::Empty => "make it larger, for example with `truncate -s 64M`".into(),
            Reason::TooLarge(_) => "give a smaller one".into(),
            Reason::InUse(_) => "end the other program, or have both open it with readonly=on or snapshot=on".into(),
            Reason::Format(format) => convert(format.name()),
            Reason::Qcow2(_) | Reason::RefersTo(_) => convert(Format::Qcow2.name()),
            Reason::Uncounted(_) => {
                "'qemu-img check -r all' may repair it; readonly=on or snapshot=on reads it as it is".into()
            }
            Reason::Truncated { .. } => "fetch or copy it again, and compare its checksum".into(),
            Reason::Temporary(_) => "let TMPDIR name a directory with room".into(),
        })
    }
}

/// A sector access that failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk has no such sectors.
    #[error("there are no such sectors")]
    OutOfRange,
    /// The disk is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host could not read.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The host could not write.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// The host could not make written data durable.
    #[error("cannot flush: {0}")]
    Flush(io::Error),
}

impl DiskError {
    /// The same, as a drive tells it to the guest.
    pub fn failure(&self) -> Failure {
        match self {
            DiskError::OutOfRange => Failure::NoSuchSector,
            DiskError::ReadOnly => Failure::WriteProtected,
            DiskError::Read(_) => Failure::Unreadable,
            DiskError::Write(_) | DiskError::Flush(_) => Failure::Unwritable,
        }
    }
}
