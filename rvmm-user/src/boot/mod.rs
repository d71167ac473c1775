//! Loads a guest kernel into memory and says in which state the CPU must enter it.

mod bzimage;
mod checksum;
mod elf;
mod gdt;
mod multiboot;
mod page_tables;
mod pvh;
#[cfg(test)]
mod robust_tests;

use std::path::Path;

use crate::error::{Error, ImageError};
use crate::memory::GuestMemory;

use elf::Executable;
pub use gdt::{FlatSegments, GDT_ADDRESS, GDT_BYTES};
pub use page_tables::TOP as PAGE_TABLES;

/// What to load.
pub struct Payload<'a> {
    /// For messages.
    pub kernel_path: &'a Path,
    pub kernel: &'a [u8],
    pub initrd: Option<&'a [u8]>,
    pub command_line: &'a str,
    /// Size of guest memory.
    pub memory_bytes: u64,
    /// How the kernel is to be entered; open: as it says itself.
    pub protocol: Option<Protocol>,
}

/// The ways to enter a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's 32-bit boot protocol. A 64-bit kernel switches to long mode by itself.
    Linux32,
    /// Linux's 64-bit boot protocol.
    Linux64,
    /// Multiboot 1.
    Multiboot,
    /// PVH.
    Pvh,
}

/// The mode of the CPU at entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 32-bit protected mode without paging.
    Protected,
    /// 64-bit mode, on the tables at [`PAGE_TABLES`].
    Long,
}

/// How the CPU enters the kernel. Segments are flat, interrupts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub rip: u64,
    pub eax: u32,
    pub ebx: u32,
    pub esi: u32,
    pub segments: FlatSegments,
    pub mode: Mode,
    /// The kernel is a 64-bit one, in whichever mode it is entered.
    pub needs_long_mode: bool,
}

/// Loads `payload`, whichever of the known kinds it is.
pub fn load(memory: &GuestMemory, payload: &Payload<'_>) -> Result<Entry, Error> {
    let kernel = payload.kernel;
    let entry = if kernel.get(0x202..0x206) == Some(b"HdrS") {
        match payload.protocol {
            None => bzimage::load(memory, payload, None),
            Some(Protocol::Linux32) => bzimage::load(memory, payload, Some(Mode::Protected)),
            Some(Protocol::Linux64) => bzimage::load(memory, payload, Some(Mode::Long)),
            Some(Protocol::Multiboot | Protocol::Pvh) => Err(Failure::Image(ImageError::NoElf)),
        }
    } else if kernel.starts_with(b"\x7FELF") {
        load_elf(memory, payload)
    } else {
        Err(Failure::Image(ImageError::Unknown))
    };
    let entry = entry.map_err(|failure| match failure {
        Failure::Image(reason) => Error::Image { path: payload.kernel_path.to_path_buf(), reason },
        Failure::Other(error) => error,
    })?;
    gdt::write(memory, entry.segments, entry.mode)?;
    Ok(entry)
}

fn load_elf(memory: &GuestMemory, payload: &Payload<'_>) -> Result<Entry, Failure> {
    let kernel = Executable::parse(payload.kernel)?;
    // Multiboot 1 knows 32-bit ELF files only (specification, section 3.1.2).
    let multiboot = match multiboot::find_header(payload.kernel) {
        None => Err(ImageError::NoMultiboot),
        Some(_) if kernel.sixty_four_bit => Err(ImageError::SixtyFourBitMultiboot),
        Some(flags) => Ok(flags),
    };
    match payload.protocol {
        Some(Protocol::Linux32 | Protocol::Linux64) => Err(ImageError::NoBzImage.into()),
        Some(Protocol::Multiboot) => multiboot::load(memory, payload, &kernel, multiboot?),
        Some(Protocol::Pvh) => {
            let entry = pvh::find_entry(&kernel)?.ok_or(ImageError::NoPvh)?;
            pvh::load(memory, payload, &kernel, entry)
        }
        None => match (multiboot, pvh::find_entry(&kernel)?) {
            (Ok(flags), _) => multiboot::load(memory, payload, &kernel, flags),
            (Err(_), Some(entry)) => pvh::load(memory, payload, &kernel, entry),
            (Err(ImageError::NoMultiboot), None) => Err(ImageError::NoEntry.into()),
            (Err(reason), None) => Err(reason.into()),
        },
    }
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
