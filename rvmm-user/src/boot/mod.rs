//! Loads a guest kernel into memory and says in which state the CPU must enter it.

mod bzimage;
mod checksum;
mod gdt;
mod multiboot;

use std::path::Path;

use crate::error::{Error, ImageError};
use crate::memory::GuestMemory;

pub use gdt::{FlatSegments, GDT_ADDRESS, GDT_BYTES};

/// What to load.
pub struct Payload<'a> {
    /// For messages.
    pub kernel_path: &'a Path,
    pub kernel: &'a [u8],
    pub initrd: Option<&'a [u8]>,
    pub command_line: &'a str,
    /// Size of guest memory.
    pub memory_bytes: u64,
}

/// How the CPU enters the kernel: 32-bit protected mode without paging, flat segments, interrupts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub eip: u32,
    pub eax: u32,
    pub ebx: u32,
    pub esi: u32,
    pub segments: FlatSegments,
}

/// Loads `payload`, whichever of the known kinds it is.
pub fn load(memory: &GuestMemory, payload: &Payload<'_>) -> Result<Entry, Error> {
    let kernel = payload.kernel;
    let entry = if kernel.get(0x202..0x206) == Some(b"HdrS") {
        bzimage::load(memory, payload)
    } else if kernel.starts_with(b"\x7FELF") {
        multiboot::load(memory, payload)
    } else {
        Err(Failure::Image(ImageError::Unknown))
    };
    let entry = entry.map_err(|failure| match failure {
        Failure::Image(reason) => Error::Image { path: payload.kernel_path.to_path_buf(), reason },
        Failure::Other(error) => error,
    })?;
    gdt::write(memory, entry.segments)?;
    Ok(entry)
}

/// What a loader can fail with; [`load`] adds the path to what concerns the image.
enum Failure {
    Image(ImageError),
    Other(Error),
}

impl From<ImageError> for Failure {
    fn from(reason: ImageError) -> Self {
        Failure::Image(reason)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

/// Memory that a loader writes to does not exist, although it checked the size before: a bug of its own.
fn unexpected(error: vm_memory::GuestMemoryError) -> Error {
    Error::Host { what: "writing to guest memory", source: std::io::Error::other(error.to_string()) }
}

/// Whole MiB that hold `bytes`.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The part of the error that a size check yields.
fn too_small(payload: &Payload<'_>, needed: u64, purpose: &'static str) -> Failure {
    Failure::Other(Error::Memory { memory_mib: payload.memory_bytes >> 20, needed_mib: mib(needed), purpose })
}
