//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rvmm_patcher::TacticSet;

use crate::boot::Protocol;
use crate::cpuid;
use crate::disk::options::DiskOptions;
use crate::display::DisplayArg;
use crate::host::escape::Key;
use crate::memory::MAX_MIB;
use crate::outcome::STATUS_HELP;

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
    /// The real rings of VMM, guest kernel and guest user; in long mode always 0/3/3 [default: 0/1/3].
    #[arg(long, value_enum)]
    pub model: Option<ModelArg>,
    /// rvmm (/dev/rvmm), kvm (/dev/kvm), or the path of another KVM-compatible device.
    #[arg(long, default_value = "rvmm", value_parser = parse_engine)]
    pub engine: PathBuf,
    /// Where COM1 is: stdio, pty (a new pseudo-terminal, whose name is printed), file=PATH (output only), or none [default: stdio; none with
    /// --display curses].
    #[arg(long, value_parser = parse_serial)]
    pub serial: Option<SerialArg>,
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
    /// Where COM1 is. The terminal is not its own when it is the screen's.
    pub fn serial(&self) -> SerialArg {
        let default = if self.display == DisplayArg::Curses { SerialArg::None } else { SerialArg::Stdio };
        self.serial.clone().unwrap_or(default)
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

/// Size in MiB.
fn parse_memory(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes() {
        [.., b'M' | b'm'] => (&text[..text.len() - 1], 1),
        [.., b'G' | b'g'] => (&text[..text.len() - 1], 1024),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "not a size: give MiB, or a number with M or G".to_string())?;
    match number.checked_mul(factor) {
        Some(mib) if mib <= MAX_MIB => Ok(mib),
        _ => Err(format!("more than {MAX_MIB} MiB: the guest's physical addresses reach no further")),
    }
}

fn parse_engine(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("give rvmm, kvm or a path".into()),
        "rvmm" => Ok("/dev/rvmm".into()),
        "kvm" => Ok("/dev/kvm".into()),
        path if path.contains('/') => Ok(path.into()),
        other => Err(format!("unknown engine {other}: give rvmm, kvm or a path")),
    }
}

fn parse_cpu(text: &str) -> Result<cpuid::Wanted, String> {
    let (model, vendor) = match text.split_once(",vendor=") {
        None => (text, "GenuineIntel"),
        Some(parts) => parts,
    };
    let model = match model {
        "32" => cpuid::Model::Bits32,
        "pae" => cpuid::Model::Pae,
        "64" => cpuid::Model::Bits64,
        other => return Err(format!("unknown CPU {other}: give 32, pae or 64")),
    };
    match vendor {
        "GenuineIntel" => Ok(cpuid::Wanted { model, vendor: cpuid::Vendor::Intel }),
        "AuthenticAMD" if model == cpuid::Model::Bits64 => Ok(cpuid::Wanted { model, vendor: cpuid::Vendor::Amd }),
        "AuthenticAMD" => Err("the 32-bit CPUs are Intel's".into()),
        other => Err(format!("unknown vendor {other}: give GenuineIntel or AuthenticAMD")),
    }
}

/// The drives to start from as the CMOS memory has them: three halves of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootOrder(pub [u8; 3]);

fn parse_boot_order(text: &str) -> Result<BootOrder, String> {
    let mut order = BootOrder::default();
    let letters: Vec<char> = text.chars().collect();
    if letters.is_empty() || letters.len() > order.0.len() {
        return Err("give one to three of the letters a, c, d, n".into());
    }
    for (index, letter) in letters.iter().enumerate() {
        if letters.iter().take(index).any(|before| before == letter) {
            return Err(format!("{letter} is there twice"));
        }
        let code = match letter {
            'a' => 1,
            'c' => 2,
            'd' => 3,
            'n' => 4,
            other => {
                return Err(format!("unknown drive {other}: give a (floppy), c (disk), d (CD-ROM) or n (network)"))
            }
        };
        if let Some(slot) = order.0.get_mut(index) {
            *slot = code;
        }
    }
    Ok(order)
}

/// As a serial port, but for what has input.
fn parse_debug_console(text: &str) -> Result<SerialArg, String> {
    match parse_serial(text) {
        Ok(console @ (SerialArg::Stdio | SerialArg::File(_))) => Ok(console),
        _ => Err("give stdio or file=PATH".into()),
    }
}

/// QEMU's spellings are taken too: `file:PATH` and `null`.
fn parse_serial(text: &str) -> Result<SerialArg, String> {
    match text {
        "stdio" => return Ok(SerialArg::Stdio),
        "pty" => return Ok(SerialArg::Pty),
        "none" | "null" => return Ok(SerialArg::None),
        _ => {}
    }
    match text.strip_prefix("file=").or_else(|| text.strip_prefix("file:")) {
        Some(path) if !path.is_empty() => Ok(SerialArg::File(path.into())),
        _ => Err("give stdio, pty, file=PATH or none".into()),
    }
}

fn tactics_help() -> String {
    let one = |set: TacticSet| !set.is_empty() && set != TacticSet::JUMP && TacticSet::JUMP.contains(set);
    let groups = [TacticSet::JUMP, TacticSet::SYSCALL, TacticSet::PAGING, TacticSet::REFLECT, TacticSet::SERVE];
    let is_default = |set: TacticSet| groups.contains(&set) && TacticSet::DEFAULT.contains(set);
    let defaults: Vec<&str> =
        TacticSet::WORDS.iter().filter(|(_, set)| is_default(*set)).map(|(word, _)| *word).collect();
    let blocks: Vec<&str> = TacticSet::WORDS.iter().filter(|(_, set)| one(*set)).map(|(word, _)| *word).collect();
    format!(
        "What may be replaced by patch blocks, separated by commas: {}; jump is all of them, int3 none. And syscall: SYSCALL and SYSENTER of \
         programs reach their kernel, and it its programs, without an exit; prefill: shadow page-table entries are made before they are missed; \
         unsync: page tables that the guest writes are followed when it flushes, not at every write; paging is these two; \
         reflect: page faults and INT n of programs reach their kernel without an exit, with syscall; \
         serve: hidden page faults end no stay in the guest world. default is {}",
        blocks.join(", "),
        defaults.join(","),
    )
}

fn parse_tactics(text: &str) -> Result<TacticSet, String> {
    let set = TacticSet::parse(text).map_err(|error| {
        let words: Vec<&str> = TacticSet::WORDS.iter().map(|(word, _)| *word).collect();
        format!("{error}; known are {}", words.join(", "))
    })?;
    if set.contains(TacticSet::REFLECT) && !set.contains(TacticSet::SYSCALL) {
        return Err("reflect does nothing without syscall: give both".into());
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_lists_every_tactic() {
        let help = tactics_help();
        for (word, _) in TacticSet::WORDS {
            assert!(help.contains(word), "{word}: {help}");
        }
    }

    #[test]
    fn a_tactic_that_would_do_nothing_is_refused() {
        assert!(parse_tactics("jump,reflect").is_err_and(|message| message.contains("syscall")));
        assert_eq!(parse_tactics("reflect,syscall"), Ok(TacticSet::REFLECT | TacticSet::SYSCALL));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_memory("64"), Ok(64));
        assert_eq!(parse_memory("64M"), Ok(64));
        assert_eq!(parse_memory("1g"), Ok(1024));
        assert_eq!(parse_memory("4G"), Ok(4096));
        assert!(parse_memory("1024G").is_err());
        assert!(parse_memory("").is_err());
        assert!(parse_memory("M").is_err());
        assert!(parse_memory("18446744073709551615G").is_err());
    }

    #[test]
    fn boot_orders() {
        assert_eq!(parse_boot_order("cad"), Ok(BootOrder([2, 1, 3])));
        assert_eq!(parse_boot_order("d"), Ok(BootOrder([3, 0, 0])));
        for text in ["", "x", "aa", "acdn", "A"] {
            assert!(parse_boot_order(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_consoles() {
        assert_eq!(parse_debug_console("stdio"), Ok(SerialArg::Stdio));
        assert_eq!(parse_debug_console("file:x"), Ok(SerialArg::File("x".into())));
        assert!(parse_debug_console("pty").is_err());
    }

    #[test]
    fn what_firmware_alone_starts_needs_no_kernel() {
        assert!(Cli::try_parse_from(["rvmm", "run", "--bios", "b"]).is_ok());
        assert!(Cli::try_parse_from(["rvmm", "run", "--bios", "b", "--append", "a"]).is_err());
        assert!(Cli::try_parse_from(["rvmm", "run", "--boot-menu", "--initrd", "i"]).is_err());
        assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--boot-order", "c"]).is_err());
        assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--bios", "b", "--no-reboot"]).is_ok());
        assert!(Cli::try_parse_from(["rvmm", "run", "--kernel", "k", "--debugcon", "stdio"]).is_ok());
    }

    #[test]
    fn verify_takes_an_optional_count() {
        let parse = |words: &[&str]| {
            let words = ["rvmm", "run", "--kernel", "k"].iter().chain(words);
            match Cli::try_parse_from(words).unwrap().command {
                Command::Run(args) => args,
                _ => unreachable!(),
            }
        };
        assert_eq!(parse(&[]).verify, None);
        assert_eq!(parse(&["--verify"]).verify, Some(0));
        assert_eq!(parse(&["--verify=50"]).verify, Some(50));
        assert_eq!(parse(&["--stats"]).stats, Some(StatsFormat::Table));
        assert_eq!(parse(&["--stats=json"]).stats, Some(StatsFormat::Json));
        assert_eq!(parse(&["--engine", "kvm"]).engine, PathBuf::from("/dev/kvm"));
        assert_eq!(parse(&["-m", "1G"]).memory, 1024);
    }

    #[test]
    fn cpus() {
        use cpuid::{Model, Vendor, Wanted};
        assert_eq!(parse_cpu("32"), Ok(Wanted { model: Model::Bits32, vendor: Vendor::Intel }));
        assert_eq!(parse_cpu("pae,vendor=GenuineIntel"), Ok(Wanted { model: Model::Pae, vendor: Vendor::Intel }));
        assert_eq!(parse_cpu("64,vendor=AuthenticAMD"), Ok(Wanted { model: Model::Bits64, vendor: Vendor::Amd }));
        for text in ["", "16", "64,", "64,vendor=", "64,vendor=amd", "32,vendor=AuthenticAMD", "64,+apic"] {
            assert!(parse_cpu(text).is_err(), "{text}");
        }
    }

    #[test]
    fn monitors_and_displays() {
        for text in ["/run/x", "unix:/run/x", "unix:/run/x,server,nowait", "unix:/run/x,server=on,wait=off"] {
            assert_eq!(text.parse(), Ok(MonitorPath("/run/x".into())));
        }
        assert!("unix:".parse::<MonitorPath>().is_err());
        let run = |words: &[&str]| match Cli::try_parse_from(["rvmm", "run"].iter().chain(words)).unwrap().command {
            Command::Run(args) => args,
            _ => unreachable!(),
        };
        assert_eq!(run(&[]).serial(), SerialArg::Stdio);
        assert_eq!(run(&["--display", "curses"]).serial(), SerialArg::None);
        assert_eq!(run(&["--display", "curses", "--serial", "pty"]).serial(), SerialArg::Pty);
    }

    #[test]
    fn serial_ports() {
        for (text, meant) in [
            ("stdio", SerialArg::Stdio),
            ("pty", SerialArg::Pty),
            ("none", SerialArg::None),
            ("null", SerialArg::None),
            ("file=x=y", SerialArg::File("x=y".into())),
            ("file:x:y", SerialArg::File("x:y".into())),
        ] {
            assert_eq!(parse_serial(text), Ok(meant), "{text}");
        }
        for text in ["", "file=", "file", "pty=", "tty"] {
            assert!(parse_serial(text).is_err(), "{text}");
        }
    }
}
