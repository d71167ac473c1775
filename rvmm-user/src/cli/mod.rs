//! The command line.

mod parse;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rvmm_patcher::TacticSet;

use crate::boot::Protocol;
use crate::cpuid;
use crate::devices::debug_exit;
use crate::disk::options::DiskOptions;
use crate::display::DisplayArg;
use crate::host::escape::Key;
use crate::outcome::STATUS_HELP;
use parse::*;

/// Runs unmodified x86 kernels deprivileged, on hosts without VT-x or AMD-V.
#[derive(Debug, Parser)]
#[command(name = "rvmm", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Say more of what happens, on standard error (twice: much more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a guest.
    #[command(after_help = STATUS_HELP)]
    Run(Box<RunArgs>),
    /// Tell whether this host can run guests, and what would stay imperfect.
    Check(CheckArgs),
    /// Show the module's counters.
    Stats(StatsArgs),
    /// Write a picture of a run's screen to a file.
    Screenshot(ScreenshotArgs),
    /// Control a run through its monitor: `help` lists the commands.
    Monitor(MonitorArgs),
}

/// Options that make no sense with a kernel. Named with those that need one, too: clap does not ask for the kernel any more as soon as something
/// is there that excludes it.
const WITHOUT_KERNEL: [&str; 2] = ["boot_order", "boot_menu"];

#[derive(Debug, Args)]
#[command(args_override_self = true)] // the last one counts, so that scripts can add to a given command line
pub struct RunArgs {
    /// A Linux bzImage, a multiboot image (1 or 2), or an ELF image with a PVH entry point. With a disk, a display or --bios firmware starts it,
    /// else nothing comes before it. Without a kernel the machine starts in firmware, too.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// How the kernel is entered [default: as the image says].
    #[arg(long, value_enum, value_name = "PROTOCOL", requires = "kernel", conflicts_with_all = WITHOUT_KERNEL)]
    pub boot: Option<BootArg>,
    /// The initial RAM disk; for multiboot modules with arguments: 'FILE ARGUMENTS,FILE ARGUMENTS', a comma in them twice.
    #[arg(long, value_name = "FILE", requires = "kernel", conflicts_with_all = WITHOUT_KERNEL)]
    pub initrd: Option<PathBuf>,
    /// The guest kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "kernel", conflicts_with_all = WITHOUT_KERNEL)]
    pub append: String,
    /// Guest memory: MiB, or a number with M or G.
    #[arg(short, long, value_name = "SIZE", default_value = "256", value_parser = parse_memory)]
    pub memory: u64,
    /// The guest's CPU: 32, pae (32-bit with PAE and NX) or 64; 64 may have ,vendor=GenuineIntel or AuthenticAMD behind it [default: 64 if the
    /// engine can, else 32; GenuineIntel].
    #[arg(long, value_name = "CPU", value_parser = parse_cpu)]
    pub cpu: Option<cpuid::Wanted>,
    /// Give the machine a local APIC and an I/O APIC [default: on with firmware, off without].
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub apic: Option<Switch>,
    /// The real rings of VMM, guest kernel and guest user; in long mode always 0/3/3 [default: 0/1/3].
    #[arg(long, value_enum)]
    pub model: Option<ModelArg>,
    /// rvmm (/dev/rvmm), kvm (/dev/kvm), or the path of another KVM-compatible device.
    #[arg(long, default_value = "rvmm", value_parser = parse_engine)]
    pub engine: PathBuf,
    /// Where COM1 is: stdio, pty (a new pseudo-terminal, whose name is printed), file=PATH (output only), or none [default: stdio; none with
    /// --display curses]. Given again it is COM2, and so on up to COM4; one of them may be stdio.
    #[arg(long, value_name = "WHERE", value_parser = parse_serial)]
    pub serial: Vec<SerialArg>,
    /// Where the screen is: curses (this terminal), vnc, vnc=ADDRESS:PORT, vnc=:NUMBER, vnc=unix:PATH, or none. VNC has no password and is at
    /// 127.0.0.1:5900 unless told otherwise.
    #[arg(long, value_name = "WHERE", default_value = "none")]
    pub display: DisplayArg,
    /// A socket on which the run is controlled (`rvmm monitor`, `rvmm screenshot`, and whatever speaks QEMU's QMP).
    #[arg(long, value_name = "unix:PATH")]
    pub monitor: Option<MonitorPath>,
    /// The key that, with x after it, ends a run on a terminal: ctrl- and a letter or one of ] ^ _.
    #[arg(long, value_name = "KEY", default_value = "ctrl-a")]
    pub escape: Key,
    // The help is the patcher's own list of words.
    #[arg(long, value_name = "LIST", value_parser = parse_tactics, help = tactics_help())]
    pub tactics: Option<TacticSet>,
    /// Compare directly executed kernel code with the interpreter, each instruction the first N times (without N: always), and stop at
    /// the first difference.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub verify: Option<u32>,
    /// Execute nothing directly.
    #[arg(long, conflicts_with_all = ["verify", "tactics"])]
    pub interpret_all: bool,
    /// Print counters at the end, on standard error.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "table")]
    pub stats: Option<StatsFormat>,
    /// Write the counters to a file instead of standard error.
    #[arg(long, value_name = "FILE", requires = "stats")]
    pub stats_file: Option<PathBuf>,
    /// The port on which the guest ends the run with a status of its own, as by QEMU's isa-debug-exit; many guests expect it at 0xF4.
    #[arg(long, value_name = "PORT", default_value = debug_exit::DEFAULT_PORT, value_parser = parse_port)]
    pub debug_exit: u16,
    /// End the run after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    // Last, as a heading is for all that comes behind it.
    #[command(flatten)]
    pub disks: DiskArgs,
    #[command(flatten)]
    pub firmware: FirmwareArgs,
}

impl RunArgs {
    /// Whether the machine has APICs: with firmware or without, unless it is said.
    pub fn apic(&self, firmware: bool) -> bool {
        self.apic.map_or(firmware, |switch| switch == Switch::On)
    }

    /// Where the serial ports are, COM1 first. The terminal is not COM1's own when it is the screen's.
    pub fn serials(&self) -> Vec<SerialArg> {
        let default = if self.display == DisplayArg::Curses { SerialArg::None } else { SerialArg::Stdio };
        if self.serial.is_empty() {
            vec![default]
        } else {
            self.serial.clone()
        }
    }
}

/// Disks and drives.
#[derive(Debug, Args)]
#[command(next_help_heading = "Disks")]
pub struct DiskArgs {
    /// An IDE disk; up to four, in their order. Behind the file, with commas: format=raw or qcow2, readonly=on, snapshot=on (writes are
    /// thrown away at the end).
    #[arg(long, value_name = "FILE[,...]")]
    pub disk: Vec<DiskOptions>,
    /// A CD-ROM in an IDE drive, the first of the secondary channel.
    #[arg(long, value_name = "FILE")]
    pub cdrom: Option<PathBuf>,
    /// A diskette; up to two, with options like a disk's. The size says which format.
    #[arg(long, value_name = "FILE[,...]")]
    pub floppy: Vec<DiskOptions>,
}

impl DiskArgs {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.disk.is_empty() || self.cdrom.is_some() || !self.floppy.is_empty()
    }
}

/// What a machine has that starts in firmware.
#[derive(Debug, Args)]
#[command(next_help_heading = "Starting like a PC")]
pub struct FirmwareArgs {
    /// The firmware, which starts at the reset vector [default: SeaBIOS].
    #[arg(long, value_name = "FILE")]
    pub bios: Option<PathBuf>,
    /// The display adapter's firmware, or none for a machine without a display adapter [default: SeaBIOS' for the standard VGA].
    #[arg(long, value_name = "FILE")]
    pub vgabios: Option<PathBuf>,
    /// The drives to start from, in this order: a floppy, c disk, d CD-ROM, n network.
    #[arg(long, value_name = "LETTERS", default_value = "cad", value_parser = parse_boot_order, conflicts_with = "kernel")]
    pub boot_order: BootOrder,
    /// Show the firmware's boot menu and wait so long for a key.
    #[arg(long, value_name = "MS", num_args = 0..=1, require_equals = true, default_missing_value = "3000", conflicts_with = "kernel")]
    pub boot_menu: Option<u16>,
    /// End the run when the guest resets the machine or triple-faults, instead of starting the machine again.
    #[arg(long)]
    pub no_reboot: bool,
    /// Where the debug ports E9 and 402 write, on which firmware says what it does: file=PATH or stdio.
    #[arg(long, value_name = "WHERE", value_parser = parse_debug_console)]
    pub debugcon: Option<SerialArg>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The engine to check.
    #[arg(long, default_value = "rvmm", value_parser = parse_engine)]
    pub engine: PathBuf,
}

#[derive(Debug, Args)]
pub struct ScreenshotArgs {
    /// The run's monitor socket.
    #[arg(long, value_name = "PATH")]
    pub monitor: MonitorPath,
    /// The picture: PPM if it is called so, else PNG.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct MonitorArgs {
    /// The run's monitor socket.
    #[arg(long, value_name = "PATH")]
    pub monitor: MonitorPath,
    /// A command, as `sendkey ctrl-alt-delete`, or as JSON [default: commands from standard input, one a line].
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// A socket's path; QEMU's way of writing it is taken too: `unix:PATH,server=on,wait=off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorPath(pub PathBuf);

impl std::str::FromStr for MonitorPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        let path =
            [",server=on,wait=off", ",server,nowait"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
        match path {
            "" => Err("give unix:PATH".into()),
            path => Ok(MonitorPath(path.into())),
        }
    }
}

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Only the VM that was made last, instead of the sum over all VMs since the module was loaded.
    #[arg(long)]
    pub last: bool,
    /// Leave out counters that are zero.
    #[arg(long)]
    pub nonzero: bool,
    /// table or json.
    #[arg(long, value_enum, default_value = "table")]
    pub format: StatsFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelArg {
    #[value(name = "0/1/3")]
    Ring013,
    #[value(name = "0/3/3")]
    Ring033,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootArg {
    /// Linux's 32-bit boot protocol; a 64-bit kernel switches to long mode by itself
    Linux32,
    /// Linux's 64-bit boot protocol, in long mode
    Linux64,
    /// Multiboot 1
    Multiboot,
    /// Multiboot 2
    Multiboot2,
    /// PVH
    Pvh,
}

impl From<BootArg> for Protocol {
    fn from(arg: BootArg) -> Self {
        match arg {
            BootArg::Linux32 => Protocol::Linux32,
            BootArg::Linux64 => Protocol::Linux64,
            BootArg::Multiboot => Protocol::Multiboot,
            BootArg::Multiboot2 => Protocol::Multiboot2,
            BootArg::Pvh => Protocol::Pvh,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    Table,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialArg {
    Stdio,
    Pty,
    File(PathBuf),
    None,
}

/// The drives to start from as the CMOS memory has them: three halves of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootOrder(pub [u8; 3]);

#[cfg(test)]
mod tests;
