//! Tour 1/22, next: `rvmm-user/src/vcpu/mod.rs`.
//! `rvmm run`, from its arguments to its end.

mod options;
mod payload;
mod report;
mod serial;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::boot::kernel_rom;
use crate::cli::RunArgs;
use crate::controls::Front;
use crate::cpuid;
use crate::devices::debug_console::DebugConsole;
use crate::engine::Engine;
use crate::error::{Error, ImageError};
use crate::firmware;
use crate::host::clock::Clock;
use crate::host::events::{self, Sources};
use crate::host::output::OutputQueue;
use crate::machine::board::{self, Board};
use crate::machine::diskettes::Diskettes;
use crate::machine::drives::Drives;
use crate::machine::video::Display;
use crate::machine::{Machine, Parts, SerialOutput};
use crate::media;
use crate::memory;
use crate::memory::ram::{Backing, Ram};
use crate::memory::video;
use crate::outcome::RunEnd;
use crate::shared::Shared;
use crate::vcpu::setup::{self, ResetState, Start};
use crate::vcpu::{self, VcpuReport};
use crate::vulnerabilities::ArchCapabilities;
use payload::Payload;

/// How long the end of a run waits for its last output to be taken.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a guest to its end.
pub fn run(args: &RunArgs) -> Result<RunEnd, Error> {
    let serials = args.serials();
    serial::check(&serials)?;
    // Before any thread: all must have these signals blocked.
    let signals = events::block_signals()?;

    let memory = memory::create(args.memory)?;
    let memory_bytes = args.memory << 20;
    let payload = payload::load(args, &memory, memory_bytes)?;
    let roms = match &payload {
        Payload::Kernel(_) => None,
        Payload::Firmware(_) => Some(Arc::new(firmware::read(&args.firmware)?)),
    };
    let apic = args.apic(roms.is_some());
    let has_display = roms.as_ref().is_some_and(|roms| roms.vga_bytes().is_some());
    let entry = match &payload {
        Payload::Kernel(entry) => Some(*entry),
        Payload::Firmware(kernel) => kernel.as_ref().map(|kernel| kernel.try_out(has_display)).transpose()?,
    };
    let video = if has_display { Some(video::create()?) } else { None };
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
    options::configure(args, &engine, &vm)?;
    let serial_ports = serial::ports(&serials)?;
    let outputs: Vec<OutputQueue> = serial_ports.iter().map(|port| port.output.clone()).collect();
    let debug = serial::debug_console(args)?;
    let clock = Clock::start();
    let board = backing.roms.as_ref().map(|roms| {
        Board::new(&board::Setup {
            memory_bytes,
            apic,
            vga_rom_bytes: roms.vga_bytes(),
            menu_wait_ms: args.firmware.boot_menu,
            kernel_rom: entry.map(|_| kernel_rom::image()),
        })
    });
    let display = backing.video.clone().map(Display::new);
    let mut machine = Machine::new(Parts {
        memory_bytes,
        ram: Ram::new(backing),
        unix_ns: clock.unix_ns_at_start(),
        apic,
        serial_outputs: outputs.iter().map(|queue| Box::new(queue.clone()) as SerialOutput).collect(),
        debug_exit: args.debug_exit,
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
        apic,
        tsc_khz: engine.tsc_khz(&vcpu),
        capabilities: ArchCapabilities::of_host(vm.rvmm().is_some()),
    };
    let profile = cpuid::profile(&host, args.cpu)?;
    let (model, reset) = (profile.model, ResetState { signature: profile.signature(), apic });
    let tsc = host.tsc_khz.map_or("of unknown rate".into(), |khz| format!("of {khz} kHz"));
    if entry.is_some_and(|entry| entry.needs_long_mode) && model != cpuid::Model::Bits64 {
        let path = args.kernel.clone().unwrap_or_default();
        return Err(Error::Image { path, reason: ImageError::SixtyFourBit });
    }
    let (place, restarts, kernel) = match payload {
        Payload::Kernel(entry) => {
            if profile.apic {
                let failed =
                    |_| Error::Host { what: "writing the MP table", source: io::Error::other("no memory there") };
                machine.describe_processors(profile.signature(), profile.features()).map_err(failed)?;
            }
            setup::prepare(&vcpu, profile, &Start::Kernel(&entry))?;
            (format!("at {:#x} in {:?} mode", entry.rip, entry.mode), None, None)
        }
        Payload::Firmware(kernel) => {
            setup::prepare(&vcpu, profile, &Start::Reset(&reset))?;
            ("at the reset vector".into(), (!args.firmware.no_reboot).then_some(reset), kernel)
        }
    };
    tracing::info!("starting {place} on {}, CPU {model:?}, TSC {tsc}", engine.name());

    let shared = Arc::new(Shared::new(machine, clock)?);
    // Nobody else sets it.
    let _ = wake.set(Arc::downgrade(&shared));

    let raw = serial::attach_inputs(args, serial_ports, &shared)?;
    let front = Front::start(args, &shared)?;
    let outputs: Vec<OutputQueue> = outputs.into_iter().chain(debug).collect();
    let job = vcpu::Job {
        vcpu,
        vm: Arc::clone(&vm),
        shared: Arc::clone(&shared),
        outputs: outputs.clone(),
        restarts,
        kernel,
    };
    let report = run_threads(job, &shared, signals, args.timeout)?;
    // What was written is durable before the run's end is told.
    let media = shared.lock().machine.take_media();
    drop(media);
    for output in &outputs {
        output.finish(OUTPUT_PATIENCE);
    }
    drop(raw);
    front.finish(&report.end);

    report::finish(args, &vm, &shared, &report)?;
    Ok(report.end)
}

/// Runs the vCPU in a thread of its own and serves events in this one until it ends.
fn run_threads(
    job: vcpu::Job,
    shared: &Arc<Shared>,
    signals: events::Blocked,
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
