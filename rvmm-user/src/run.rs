//! Tour 1/22, next: `rvmm-user/src/vcpu/mod.rs`.
//! `rvmm run`, from its arguments to its end.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rvmm_abi::{Model, OptionFlags, Options, StatsScope};
use vmm_sys_util::eventfd::EventFd;

use crate::boot;
use crate::cli::{DiskArgs, ModelArg, RunArgs, SerialArg, StatsFormat};
use crate::controls::Front;
use crate::cpuid;
use crate::devices::debug_console::DebugConsole;
use crate::engine::{Engine, Vm};
use crate::error::{Error, ImageError};
use crate::firmware;
use crate::host::clock::Clock;
use crate::host::events::{self, Sources};
use crate::host::input;
use crate::host::output::OutputQueue;
use crate::host::pty::Pty;
use crate::host::terminal::{self, RawTerminal};
use crate::machine::board::{self, Board};
use crate::machine::diskettes::Diskettes;
use crate::machine::drives::Drives;
use crate::machine::video::Display;
use crate::machine::{Machine, Parts, MAX_BACKLOG};
use crate::media;
use crate::memory;
use crate::memory::ram::{Backing, Ram, Roms};
use crate::memory::video;
use crate::outcome::RunEnd;
use crate::shared::Shared;
use crate::stats::{self, Named};
use crate::vcpu::setup::{self, ResetState, Start};
use crate::vcpu::{self, VcpuReport};
use crate::vulnerabilities::ArchCapabilities;

/// How long the end of a run waits for its last output to be taken.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a guest to its end.
pub fn run(args: &RunArgs) -> Result<RunEnd, Error> {
    // Before any thread: all must have these signals blocked.
    let signals = events::block_signals()?;

    let memory = memory::create(args.memory)?;
    let memory_bytes = args.memory << 20;
    let payload = load(args, &memory, memory_bytes)?;
    let roms = match &payload {
        Payload::Kernel(_) => None,
        Payload::Firmware => Some(Arc::new(firmware::read(&args.firmware)?)),
    };
    let video = match &roms {
        Some(roms) if roms.vga_bytes().is_some() => Some(video::create()?),
        _ => None,
    };
    let backing = Backing { memory, roms, video };

    let wake = media::Wake::default();
    let mut drives = media::mount(&args.disks, &wake)?;
    let mut diskettes = media::mount_diskettes(&args.disks, &wake)?;
    if backing.roms.is_some() {
        // The chip set has its channels and controllers, with drives or without.
        drives.get_or_insert_with(|| Drives::new([[None, None], [None, None]]));
        diskettes.get_or_insert_with(|| Diskettes::new([None, None]));
    }

    let engine = Engine::open(&args.engine)?;
    if backing.roms.is_some() {
        engine.require_roms()?;
    }
    let supported = engine.supported_cpuid()?;
    let vm = Arc::new(engine.create_vm(backing.clone())?);
    configure(args, &engine, &vm)?;
    let (sink, pty) = serial_port(&args.serial())?;
    let output = OutputQueue::start(sink)?;
    let debug = debug_console(args)?;
    let clock = Clock::start();
    let board = backing.roms.as_ref().map(|roms| Board::new(&board_setup(args, roms, memory_bytes)));
    let display = backing.video.clone().map(Display::new);
    let mut machine = Machine::new(Parts {
        memory_bytes,
        ram: Ram::new(backing),
        unix_ns: clock.unix_ns_at_start(),
        apic: args.apic(),
        serial_output: Box::new(output.clone()),
        debug: debug.clone().map(|queue| DebugConsole::new(Box::new(queue))),
        board,
        drives,
        diskettes,
        display,
    });
    machine.set_boot_order(args.firmware.boot_order.0);
    if let Some(regions) = machine.take_layout() {
        vm.show(&regions)?;
    }
    // What the loader wrote.
    vm.memory_written(&[(0, memory::end(memory_bytes))])?;

    let vcpu = vm.create_vcpu()?;
    let host = cpuid::Host {
        supported,
        invariant_tsc: cpuid::invariant_tsc(),
        apic: args.apic(),
        tsc_khz: engine.tsc_khz(&vcpu),
        capabilities: ArchCapabilities::of_host(vm.rvmm().is_some()),
    };
    let profile = cpuid::profile(&host, args.cpu)?;
    let (model, reset) = (profile.model, ResetState { signature: profile.signature(), apic: args.apic() });
    let tsc = host.tsc_khz.map_or("of unknown rate".into(), |khz| format!("of {khz} kHz"));
    let place = match &payload {
        Payload::Kernel(entry) if entry.needs_long_mode && model != cpuid::Model::Bits64 => {
            let path = args.kernel.clone().unwrap_or_default();
            return Err(Error::Image { path, reason: ImageError::SixtyFourBit });
        }
        Payload::Kernel(entry) => {
            if profile.apic {
                let failed =
                    |_| Error::Host { what: "writing the MP table", source: io::Error::other("no memory there") };
                machine.describe_processors(profile.signature(), profile.features()).map_err(failed)?;
            }
            setup::prepare(&vcpu, profile, &Start::Kernel(entry))?;
            format!("at {:#x} in {:?} mode", entry.rip, entry.mode)
        }
        Payload::Firmware => {
            setup::prepare(&vcpu, profile, &Start::Reset(&reset))?;
            "at the reset vector".into()
        }
    };
    tracing::info!("starting {place} on {}, CPU {model:?}, TSC {tsc}", engine.name());

    let restarts = (matches!(payload, Payload::Firmware) && !args.firmware.no_reboot).then_some(reset);
    let shared = Arc::new(Shared::new(machine, clock)?);
    // Nobody else sets it.
    let _ = wake.set(Arc::downgrade(&shared));

    if let Some(pty) = pty {
        pty.start_reader(Arc::clone(&shared))?;
    }
    let raw = attach_input(args, &shared)?;
    let front = Front::start(args, &shared)?;
    let outputs: Vec<OutputQueue> = std::iter::once(output).chain(debug).collect();
    let job = vcpu::Job { vcpu, vm: Arc::clone(&vm), shared: Arc::clone(&shared), outputs: outputs.clone(), restarts };
    let report = run_threads(job, &shared, signals, args.timeout)?;
    // What was written is durable before the run's end is told.
    let media = shared.lock().machine.take_media();
    drop(media);
    for output in &outputs {
        output.finish(OUTPUT_PATIENCE);
    }
    drop(raw);
    front.finish(&report.end);

    finish(args, &vm, &shared, &report)?;
    Ok(report.end)
}

/// What is started.
enum Payload {
    /// A kernel, which is in memory.
    Kernel(boot::Entry),
    /// The firmware.
    Firmware,
}

fn load(args: &RunArgs, memory: &memory::GuestMemory, memory_bytes: u64) -> Result<Payload, Error> {
    let Some(path) = &args.kernel else {
        let DiskArgs { disk, cdrom, floppy } = &args.disks;
        let any = args.firmware.bios.is_some() || !disk.is_empty() || cdrom.is_some() || !floppy.is_empty();
        return if any { Ok(Payload::Firmware) } else { Err(Error::Nothing) };
    };
    let kernel = read_file("kernel", path)?;
    let initrd = args.initrd.as_deref().map(|path| read_file("initrd", path)).transpose()?;
    let entry = boot::load(
        memory,
        &boot::Payload {
            kernel_path: path,
            kernel: &kernel,
            initrd: initrd.as_deref(),
            command_line: &args.append,
            memory_bytes,
            protocol: args.boot.map(boot::Protocol::from),
        },
    )?;
    Ok(Payload::Kernel(entry))
}

fn board_setup(args: &RunArgs, roms: &Roms, memory_bytes: u64) -> board::Setup {
    board::Setup {
        memory_bytes,
        apic: args.apic(),
        vga_rom_bytes: roms.vga_bytes(),
        menu_wait_ms: args.firmware.boot_menu,
    }
}

/// The queue to where the debug ports write.
fn debug_console(args: &RunArgs) -> Result<Option<OutputQueue>, Error> {
    let Some(place) = &args.firmware.debugcon else { return Ok(None) };
    let (sink, _) = serial_port(place)?;
    OutputQueue::start(sink).map(Some)
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { what, path: path.to_path_buf(), source })
}

/// Tells rvmm's own engine what only it can do; any other must not have been asked for it.
fn configure(args: &RunArgs, engine: &Engine, vm: &Vm) -> Result<(), Error> {
    let Some(rvmm) = vm.rvmm() else {
        let asked = [
            (args.verify.is_some(), "--verify"),
            (args.interpret_all, "--interpret-all"),
            (args.tactics.is_some(), "--tactics"),
        ];
        if args.model.is_some() {
            tracing::warn!("--model is ignored: {} has no rings to choose", engine.name());
        }
        return match asked.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(Error::RvmmOnly { option, engine: engine.name() }),
            None => Ok(()),
        };
    };
    let mut options = Options::new(match args.model {
        None | Some(ModelArg::Ring013) => Model::Ring013,
        Some(ModelArg::Ring033) => Model::Ring033,
    });
    let mut flags = OptionFlags::COHERENT_CLIENT;
    if let Some(first) = args.verify {
        flags = flags.with(OptionFlags::VERIFY);
        options.verify_first = first.into();
    }
    if args.interpret_all {
        flags = flags.with(OptionFlags::INTERPRET_ALL);
    }
    if let Some(tactics) = args.tactics {
        flags = flags.with(OptionFlags::TACTICS);
        options.tactics = tactics.bits();
    }
    options.flags = flags.0;
    rvmm.set_options(&options)
}

/// Where COM1's output goes, and the pseudo-terminal if it is one.
fn serial_port(serial: &SerialArg) -> Result<(Box<dyn Write + Send>, Option<Pty>), Error> {
    Ok(match serial {
        SerialArg::Stdio => (Box::new(io::stdout()), None),
        SerialArg::None => (Box::new(io::sink()), None),
        SerialArg::File(path) => {
            let failed = |source| Error::SerialFile { path: path.clone(), source };
            (Box::new(File::create(path).map_err(failed)?), None)
        }
        SerialArg::Pty => {
            let failed = |source| Error::Host { what: "making a pseudo-terminal", source };
            let pty = Pty::open().map_err(failed)?;
            eprintln!("rvmm: the serial port is {}", pty.path().display());
            (Box::new(pty.writer().map_err(failed)?), Some(pty))
        }
    })
}

/// Connects standard input to COM1, a terminal in raw mode.
fn attach_input(args: &RunArgs, shared: &Arc<Shared>) -> Result<Option<RawTerminal>, Error> {
    if args.serial() != SerialArg::Stdio {
        return Ok(None);
    }
    if terminal::stdin_is_interactive() {
        let raw = RawTerminal::enter().map_err(|source| Error::Host { what: "setting the terminal", source })?;
        eprint!("rvmm: {0} x ends the run, {0} h helps\r\n", args.escape);
        input::start(Arc::clone(shared), Some(args.escape))?;
        return Ok(Some(raw));
    }
    // A background process would be stopped if it read its terminal.
    if !terminal::stdin_is_terminal() {
        input::start(Arc::clone(shared), None)?;
    }
    Ok(None)
}

/// Runs the vCPU in a thread of its own and serves events in this one until it ends.
fn run_threads(
    job: vcpu::Job,
    shared: &Arc<Shared>,
    signals: std::os::fd::OwnedFd,
    time_limit: Option<u64>,
) -> Result<VcpuReport, Error> {
    let failed = |what| move |source| Error::Host { what, source };
    let vcpu_done = EventFd::new(libc::EFD_CLOEXEC).map_err(failed("creating an eventfd"))?;
    let done = DoneOnDrop(vcpu_done.try_clone().map_err(failed("duplicating an eventfd"))?);
    let body = move || {
        let _done = done;
        vcpu::run(job)
    };
    let thread = thread::Builder::new().name("vcpu".into()).spawn(body).map_err(failed("starting the vCPU thread"))?;
    let served = events::serve(Sources { shared: Arc::clone(shared), signals, time_limit, vcpu_done });
    if served.is_err() {
        shared.stop(RunEnd::Engine { message: "the event loop failed".into(), verify: false });
    }
    let report = thread.join().unwrap_or_else(|_| VcpuReport {
        end: RunEnd::Engine { message: "a bug in rvmm: the vCPU's thread panicked".into(), verify: false },
        counters: Default::default(),
    });
    served.map(|()| report)
}

/// Tells the event loop that the vCPU's thread has ended, also when it ends by unwinding.
struct DoneOnDrop(EventFd);

impl Drop for DoneOnDrop {
    fn drop(&mut self) {
        if let Err(error) = self.0.write(1) {
            tracing::error!("the end of the vCPU's thread cannot be told: {error}");
        }
    }
}

/// Says how the run ended and prints what was asked for.
fn finish(args: &RunArgs, vm: &Vm, shared: &Shared, report: &VcpuReport) -> Result<(), Error> {
    if report.end != RunEnd::GuestExit(0) {
        eprintln!("rvmm: {}", report.end);
    }
    tracing::debug!("{}", shared.describe());
    if let RunEnd::Engine { .. } = report.end {
        if let Some(text) = vm.rvmm().and_then(|rvmm| rvmm.report()) {
            eprintln!("{}", text.trim_end());
        }
    }
    if let Some(format) = args.stats {
        print_stats(format, args.stats_file.as_deref(), &collect(vm, shared, report)?)?;
    }
    Ok(())
}

fn collect(vm: &Vm, shared: &Shared, report: &VcpuReport) -> Result<Vec<Named>, Error> {
    let mut counters = match vm.rvmm() {
        Some(rvmm) => stats::read(rvmm, StatsScope::This)?,
        None => Vec::new(),
    };
    counters.extend(report.counters.named().map(|(name, value)| (name.to_string(), value)));
    let ticks = shared.lock().machine.tick_counters();
    for (name, value) in [
        ("timer.ticks_due", ticks.due),
        ("timer.ticks_delivered", ticks.delivered),
        ("timer.ticks_dropped", ticks.dropped),
    ] {
        counters.push((name.into(), value));
    }
    if ticks.dropped > MAX_BACKLOG {
        tracing::info!("the guest was too slow for {} of its timer ticks", ticks.dropped);
    }
    counters.push(("machine.post_code".into(), shared.lock().machine.post_code().into()));
    Ok(counters)
}

fn print_stats(format: StatsFormat, file: Option<&Path>, counters: &[Named]) -> Result<(), Error> {
    let text = stats::format(counters, format);
    let failed = |source| Error::Host { what: "writing the counters", source };
    match file {
        Some(path) => std::fs::write(path, text).map_err(failed),
        None => io::stderr().write_all(text.as_bytes()).map_err(failed),
    }
}
