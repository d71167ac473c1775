//! What can go wrong before and around a run, each with a message and with what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::error::OpenError;
use crate::outcome::Status;

/// A failure that is not the guest's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the user's could not be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    File {
        /// "kernel" or "initrd".
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Nothing to start was given.
    #[error("there is nothing to start: neither a kernel nor firmware was given")]
    Nothing,
    /// A disk image cannot be used.
    #[error(transparent)]
    Disk(#[from] OpenError),
    /// More drives than the IDE channels have places for.
    #[error("there are {0} disks and a CD-ROM, and four places for them")]
    Drives(usize),
    /// More diskettes than drives.
    #[error("there are {0} diskettes, and two drives for them")]
    DisketteDrives(usize),
    /// An image that no diskette is as large as.
    #[error("{} is too large for a diskette: 2,880 KiB is the most", .0.display())]
    TooLargeDiskette(PathBuf),
    /// The firmware could not be read.
    #[error("cannot read the firmware {}: {source}", path.display())]
    Firmware { path: PathBuf, source: io::Error },
    /// A firmware file that is none.
    #[error("{} is no {what}: {reason}", path.display())]
    Rom {
        /// "firmware" or "display adapter's firmware".
        what: &'static str,
        path: PathBuf,
        reason: String,
    },
    /// The kernel is no image that rvmm can start.
    #[error("{} cannot be started: {reason}", path.display())]
    Image { path: PathBuf, reason: ImageError },
    /// The guest's memory is too small for what it must hold.
    #[error("{memory_mib} MiB of guest memory are too small: {needed_mib} MiB are needed for {purpose}")]
    Memory { memory_mib: u64, needed_mib: u64, purpose: &'static str },
    /// The guest's memory could not be had from the host.
    #[error("the host gives no {mib} MiB for the guest: {reason}")]
    HostMemory { mib: u64, reason: String },
    /// The command line does not fit.
    #[error("the guest's command line is {length} bytes long; this kernel takes {limit}")]
    CommandLine { length: usize, limit: usize },
    /// The device could not be opened.
    #[error("cannot open {}: {source}", path.display())]
    Device { path: PathBuf, source: io::Error },
    /// What was opened is no KVM-compatible device.
    #[error("{} is no KVM-compatible device (API version {version}, wanted 12)", path.display())]
    ApiVersion { path: PathBuf, version: i32 },
    /// The engine lacks something that rvmm needs.
    #[error("{engine} cannot run this machine: it lacks {what}")]
    Capability { engine: String, what: &'static str },
    /// An option that only rvmm's own engine knows was given to another one.
    #[error("{option} needs rvmm's own engine; {engine} is not one")]
    RvmmOnly { option: &'static str, engine: String },
    /// Two things want the terminal.
    #[error("--display curses has the terminal; {option} stdio cannot have it too")]
    Terminal { option: &'static str },
    /// More serial ports than a PC has places for, or standard input and output given to two.
    #[error("{0}")]
    SerialPorts(&'static str),
    /// A run's monitor could not be reached, or refused.
    #[error("the monitor {}: {source}", path.display())]
    Monitor { path: PathBuf, source: io::Error },
    /// An ioctl failed.
    #[error("{call} failed: {source}")]
    Ioctl { call: &'static str, source: io::Error },
    /// Something of the host's failed: an eventfd, a thread, the terminal.
    #[error("{what}: {source}")]
    Host { what: &'static str, source: io::Error },
    /// The file for the serial output could not be made.
    #[error("cannot write the serial output to {}: {source}", path.display())]
    SerialFile { path: PathBuf, source: io::Error },
}

/// Why a kernel image cannot be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Neither bzImage nor ELF.
    #[error("it is neither a Linux bzImage nor an ELF file, and has no multiboot header")]
    Unknown,
    /// The file ends too early.
    #[error("it is truncated: {have} bytes of at least {need}")]
    Truncated { have: u64, need: u64 },
    /// A 64-bit kernel for a CPU without long mode.
    #[error("it is a 64-bit (x86-64) kernel, and this guest's CPU has no long mode")]
    SixtyFourBit,
    /// A 64-bit ELF file with a multiboot header.
    #[error("it is a 64-bit ELF file, and multiboot 1 images are 32-bit ELF files")]
    SixtyFourBitMultiboot,
    /// `--boot linux64` for a kernel without a 64-bit entry point.
    #[error("it has no 64-bit entry point: it is a 32-bit kernel")]
    No64BitEntry,
    /// A protocol of ELF files, for a bzImage.
    #[error("it is a bzImage; multiboot and PVH are for ELF files")]
    NoElf,
    /// A protocol of bzImages, for an ELF file.
    #[error("it is an ELF file; Linux's boot protocols are for bzImages")]
    NoBzImage,
    /// A kernel for another processor.
    #[error("it is for another architecture (ELF machine {0}), not for x86")]
    Architecture(u16),
    /// A boot protocol before 2.06.
    #[error("its boot protocol {}.{:02} is too old: 2.06 is the oldest that works", .0 >> 8, .0 & 0xFF)]
    OldProtocol(u16),
    /// A bzImage whose header does not hold together.
    #[error("its bzImage header is damaged ({0})")]
    Header(&'static str),
    /// An ELF file without a multiboot header.
    #[error("it has no multiboot 1 header")]
    NoMultiboot,
    /// An ELF file without a multiboot 2 header.
    #[error("it has no multiboot 2 header")]
    NoMultiboot2,
    /// A multiboot kernel that is no ELF file and has no address fields.
    #[error("its multiboot header does not say where to load it, and it is no ELF file")]
    NoAddresses,
    /// Something that is meant to be a multiboot header.
    #[error("its multiboot header is damaged: {0}")]
    MultibootHeader(&'static str),
    /// A multiboot 2 header tag that a loader must know.
    #[error("its multiboot header has a tag that is not known and not optional (type {0})")]
    MultibootTag(u16),
    /// Multiboot 2 information that a kernel cannot do without.
    #[error("it asks for multiboot information that is not there (type {0})")]
    MultibootInformation(u32),
    /// A multiboot kernel that needs a display.
    #[error("it needs a display, and this machine has none")]
    NoDisplay,
    /// An ELF file without a PVH note.
    #[error("it is an ELF file without a PVH entry point (an ELF note)")]
    NoPvh,
    /// An ELF file with neither.
    #[error("it is an ELF file with none of a multiboot 1 header, a multiboot 2 header and a PVH entry point")]
    NoEntry,
    /// A multiboot header that asks for something else.
    #[error("its multiboot header asks for features that are not there (flags {0:#010x})")]
    MultibootFlags(u32),
    /// An ELF file that does not hold together.
    #[error("its ELF structure is damaged ({0})")]
    Elf(String),
    /// A segment outside the guest's memory.
    #[error("it loads at {start:#x}–{end:#x}, where the guest has no memory")]
    Segment { start: u64, end: u64 },
}

impl Error {
    /// The exit status of `rvmm`.
    pub fn status(&self) -> Status {
        match self {
            Error::Nothing | Error::Drives(_) | Error::DisketteDrives(_) => Status::Usage,
            Error::Disk(_)
            | Error::TooLargeDiskette(_)
            | Error::Firmware { .. }
            | Error::Rom { .. }
            | Error::File { .. }
            | Error::Image { .. }
            | Error::Memory { .. }
            | Error::CommandLine { .. } => Status::Input,
            Error::RvmmOnly { .. } | Error::Terminal { .. } | Error::SerialPorts(_) => Status::Usage,
            Error::HostMemory { .. }
            | Error::Device { .. }
            | Error::ApiVersion { .. }
            | Error::Capability { .. }
            | Error::Ioctl { .. }
            | Error::Host { .. }
            | Error::Monitor { .. }
            | Error::SerialFile { .. } => Status::Host,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound => "check the path".into(),
            Error::File { .. } => return None,
            Error::Nothing => {
                "give --kernel, or what firmware is to start from (--disk, --cdrom, --floppy), or --bios alone".into()
            }
            Error::Disk(error) => return error.hint(),
            Error::DisketteDrives(_) => "give --floppy twice at most".into(),
            Error::TooLargeDiskette(_) => "give it with --disk, or --cdrom".into(),
            Error::Drives(_) => "four disks, or three and a CD-ROM".into(),
            Error::Firmware { .. } => {
                "install SeaBIOS (Debian's package seabios), or give the files with --bios and --vgabios".into()
            }
            Error::Rom { .. } => "Debian's package seabios has bios-256k.bin and vgabios-stdvga.bin".into(),
            Error::Image { reason, .. } => match reason {
                ImageError::SixtyFourBit => {
                    "leave out --cpu; if the engine has no long mode (`rvmm check` tells), take a \
                     32-bit kernel, for example Debian's linux-image-686"
                        .into()
                }
                ImageError::Architecture(_) => {
                    "take an x86 kernel, for example Debian's linux-image-amd64 or linux-image-686".into()
                }
                ImageError::SixtyFourBitMultiboot => "turn it into a 32-bit ELF file (objcopy -O elf32-i386)".into(),
                ImageError::No64BitEntry | ImageError::NoElf | ImageError::NoBzImage | ImageError::NoPvh => {
                    "leave --boot out, so that the image says how it is entered".into()
                }
                ImageError::Truncated { .. }
                | ImageError::Header(_)
                | ImageError::Elf(_)
                | ImageError::Segment { .. } => "fetch or build the file again and compare its checksum".into(),
                ImageError::Unknown | ImageError::OldProtocol(_) => {
                    "give the file that a distribution installs as /boot/vmlinuz-…".into()
                }
                ImageError::NoMultiboot | ImageError::NoMultiboot2 | ImageError::NoEntry => {
                    "give a bzImage, a multiboot image, or a vmlinux with CONFIG_PVH".into()
                }
                ImageError::MultibootFlags(_) => {
                    "page-aligned modules (bit 0), memory information (bit 1) and a video mode (bit 2) may be asked for"
                        .into()
                }
                ImageError::NoDisplay => "give --display, or --vgabios".into(),
                ImageError::MultibootTag(_) | ImageError::MultibootInformation(_) => {
                    "if the kernel can do without it, its header's tag must be marked as optional".into()
                }
                ImageError::MultibootHeader(_) | ImageError::NoAddresses => {
                    "see the multiboot specification, sections 3.1 (both versions)".into()
                }
            },
            Error::Memory { needed_mib, .. } => format!("give --memory {needed_mib} or more"),
            Error::HostMemory { .. } => "give less --memory, or free some".into(),
            Error::CommandLine { .. } => "shorten --append".into(),
            Error::Device { path, source } => device_hint(path, source),
            Error::ApiVersion { .. } => "give --engine rvmm, --engine kvm, or another KVM device".into(),
            Error::Capability { .. } => "run `rvmm check` to see what this host offers".into(),
            Error::RvmmOnly { .. } => "leave the option out, or give --engine rvmm".into(),
            Error::SerialPorts(_) => {
                "give --serial four times at most, stdio once; pty and file=PATH as often as you like".into()
            }
            Error::Terminal { option } => format!("give {option} pty or file=PATH"),
            Error::Monitor { .. } => "is the run still there, with --monitor and this path?".into(),
            Error::Ioctl { .. } => "the kernel log (dmesg) may say more".into(),
            Error::Host { .. } | Error::SerialFile { .. } => return None,
        })
    }
}

fn device_hint(path: &Path, source: &io::Error) -> String {
    let rvmm = path == Path::new("/dev/rvmm");
    match source.kind() {
        io::ErrorKind::NotFound if rvmm => {
            "the module is not loaded: run `insmod rvmm.ko` as root (`make module` builds it)".into()
        }
        io::ErrorKind::NotFound if path == Path::new("/dev/kvm") => {
            "load kvm-intel or kvm-amd, or run on a CPU with VT-x or AMD-V".into()
        }
        io::ErrorKind::PermissionDenied => {
            format!("run as root, or let your user open {}", path.display())
        }
        _ => "run `rvmm check` to see what this host offers".into(),
    }
}
