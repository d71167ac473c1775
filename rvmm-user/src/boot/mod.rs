//! Loads a guest kernel into memory and says in which state the CPU must enter it.

mod addresses;
mod bzimage;
mod checksum;
mod elf;
mod gdt;
mod ground;
pub mod kernel_rom;
pub mod modules;
mod multiboot;
mod multiboot2;
mod page_tables;
mod picture;
mod place;
mod pvh;
#[cfg(test)]
mod robust_tests;
mod rsdp;
mod sections;
#[cfg(test)]
mod testing;

use std::path::Path;

use crate::error::{Error, ImageError};
use crate::memory::map::Map;
use crate::memory::GuestMemory;

use elf::Executable;
pub use gdt::{FlatSegments, GDT_ADDRESS, GDT_BYTES};
use modules::Module;
pub use page_tables::TOP as PAGE_TABLES;
pub use picture::{Picture, Screen};

/// What to load.
pub struct Payload<'a> {
    /// For messages, and for kernels that are told their own name.
    pub kernel_path: &'a Path,
    pub kernel: &'a [u8],
    /// The initial RAM disk, or the modules where the protocol has several.
    pub modules: &'a [Module],
    pub command_line: &'a str,
    /// Size of guest memory.
    pub memory_bytes: u64,
    /// What the kernel is told of it.
    pub map: &'a Map,
    /// The display, if firmware has set one up.
    pub screen: Option<Screen>,
    /// Firmware runs before the kernel does.
    pub firmware: bool,
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
    /// Multiboot 2.
    Multiboot2,
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
    /// What the display is to show, where the kernel has asked for something.
    pub picture: Option<Picture>,
}

/// What an image is, and how it is loaded.
enum Kind<'a> {
    BzImage(Option<Mode>),
    Multiboot(multiboot::Header, Option<Executable<'a>>),
    Multiboot2(multiboot2::Header, Option<Executable<'a>>),
    Pvh(Executable<'a>, u32),
}

/// Whether the kernel takes several modules with arguments: `--initrd` is a list then.
pub fn takes_modules(path: &Path, kernel: &[u8], protocol: Option<Protocol>) -> Result<bool, Error> {
    let kind = identify(kernel, protocol).map_err(|failure| failure.of(path))?;
    Ok(matches!(kind, Kind::Multiboot(..) | Kind::Multiboot2(..)))
}

/// Loads `payload`, whichever of the known kinds it is.
pub fn load(memory: &GuestMemory, payload: &Payload<'_>) -> Result<Entry, Error> {
    let loaded = identify(payload.kernel, payload.protocol).and_then(|kind| match kind {
        Kind::BzImage(mode) => bzimage::load(memory, payload, mode),
        Kind::Multiboot(header, elf) => multiboot::load(memory, payload, &header, elf.as_ref()),
        Kind::Multiboot2(header, elf) => multiboot2::load(memory, payload, &header, elf.as_ref()),
        Kind::Pvh(elf, entry) => pvh::load(memory, payload, &elf, entry),
    });
    let entry = loaded.map_err(|failure| failure.of(payload.kernel_path))?;
    gdt::write(memory, entry.segments, entry.mode)?;
    Ok(entry)
}

fn identify(kernel: &[u8], protocol: Option<Protocol>) -> Result<Kind<'_>, Failure> {
    if kernel.get(0x202..0x206) == Some(b"HdrS") {
        return match protocol {
            None => Ok(Kind::BzImage(None)),
            Some(Protocol::Linux32) => Ok(Kind::BzImage(Some(Mode::Protected))),
            Some(Protocol::Linux64) => Ok(Kind::BzImage(Some(Mode::Long))),
            Some(Protocol::Multiboot | Protocol::Multiboot2 | Protocol::Pvh) => Err(ImageError::NoElf.into()),
        };
    }
    let is_elf = kernel.starts_with(b"\x7FELF");
    let first = || multiboot_kind(kernel, is_elf);
    let second = || multiboot2_kind(kernel, is_elf);
    let wanted = match protocol {
        Some(Protocol::Linux32 | Protocol::Linux64) => Err(ImageError::NoBzImage.into()),
        Some(Protocol::Multiboot) => Ok(first()?.ok_or(ImageError::NoMultiboot)?),
        Some(Protocol::Multiboot2) => Ok(second()?.ok_or(ImageError::NoMultiboot2)?),
        Some(Protocol::Pvh) if is_elf => Ok(pvh_kind(kernel)?.ok_or(ImageError::NoPvh)?),
        Some(Protocol::Pvh) => Err(ImageError::NoPvh.into()),
        None => any_kind(kernel, is_elf),
    };
    match wanted {
        Err(Failure::Image(_)) if !is_elf && !looks_like_multiboot(kernel) => Err(ImageError::Unknown.into()),
        other => other,
    }
}

/// The first of the protocols for which the image has what it takes. If none has, the reason of the one that came nearest.
fn any_kind(kernel: &[u8], is_elf: bool) -> Result<Kind<'_>, Failure> {
    let first = multiboot_kind(kernel, is_elf);
    if let Ok(Some(kind)) = first {
        return Ok(kind);
    }
    let second = multiboot2_kind(kernel, is_elf);
    if let Ok(Some(kind)) = second {
        return Ok(kind);
    }
    let third = if is_elf { pvh_kind(kernel) } else { Ok(None) };
    if let Ok(Some(kind)) = third {
        return Ok(kind);
    }
    first.and(second).and(third).and(Err(ImageError::NoEntry.into()))
}

fn looks_like_multiboot(kernel: &[u8]) -> bool {
    !matches!((multiboot::Header::find(kernel), multiboot2::Header::find(kernel)), (Ok(None), Ok(None)))
}

fn multiboot_kind(kernel: &[u8], is_elf: bool) -> Result<Option<Kind<'_>>, Failure> {
    let Some(header) = multiboot::Header::find(kernel)? else { return Ok(None) };
    let elf = executable(kernel, is_elf, header.addresses.is_some())?;
    // Multiboot 1 knows 32-bit ELF files only (specification, section 3.1.2).
    if header.addresses.is_none() && elf.as_ref().is_some_and(|elf| elf.sixty_four_bit) {
        return Err(ImageError::SixtyFourBitMultiboot.into());
    }
    Ok(Some(Kind::Multiboot(header, elf)))
}

fn multiboot2_kind(kernel: &[u8], is_elf: bool) -> Result<Option<Kind<'_>>, Failure> {
    let Some(header) = multiboot2::Header::find(kernel)? else { return Ok(None) };
    let elf = executable(kernel, is_elf, header.addresses.is_some())?;
    Ok(Some(Kind::Multiboot2(header, elf)))
}

/// The ELF headers. A kernel whose multiboot header says where it is to be loaded can do without.
fn executable(kernel: &[u8], is_elf: bool, has_addresses: bool) -> Result<Option<Executable<'_>>, Failure> {
    match (is_elf, has_addresses) {
        (true, true) => Ok(Executable::parse(kernel).ok()),
        (true, false) => Executable::parse(kernel).map(Some),
        (false, true) => Ok(None),
        (false, false) => Err(ImageError::NoAddresses.into()),
    }
}

fn pvh_kind(kernel: &[u8]) -> Result<Option<Kind<'_>>, Failure> {
    let elf = Executable::parse(kernel)?;
    Ok(pvh::find_entry(&elf)?.map(|entry| Kind::Pvh(elf, entry)))
}

impl<'a> Payload<'a> {
    /// The one module that Linux's boot protocol knows.
    fn initrd(&self) -> Option<&'a [u8]> {
        self.modules.first().map(|module| module.data.as_slice())
    }
}

/// What a loader can fail with; [`load`] adds the path to what concerns the image.
enum Failure {
    Image(ImageError),
    Other(Error),
}

impl Failure {
    fn of(self, path: &Path) -> Error {
        match self {
            Failure::Image(reason) => Error::Image { path: path.to_path_buf(), reason },
            Failure::Other(error) => error,
        }
    }
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
