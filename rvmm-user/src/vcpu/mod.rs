//! Tour 2/22, next: `rvmm-ko/vm.rs`.
//! The run loop of the virtual CPU.

mod alarm;
mod exit;
pub mod handover;
pub mod kick;
pub mod orders;
mod registers;
mod reset;
mod reset_state;
pub mod setup;
mod walk;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::{kvm_interrupt, KVMIO};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use crate::counters::ExitCounters;
use crate::engine::Vm;
use crate::host::output::OutputQueue;
use crate::machine::{BusEvent, ResetLine};
use crate::outcome::RunEnd;
use crate::shared::Shared;
use exit::Exit;
use handover::Handover;
use kick::Registration;

ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);

/// How long the vCPU waits at a time for room in a full output queue before it looks at the reason to stop.
const OUTPUT_WAIT: Duration = Duration::from_millis(20);

/// What became of a run: why it ended, and what the vCPU did.
pub struct VcpuReport {
    pub end: RunEnd,
    pub counters: ExitCounters,
}

/// What the vCPU's thread works with.
pub struct Job {
    pub vcpu: VcpuFd,
    pub vm: Arc<Vm>,
    pub shared: Arc<Shared>,
    /// Queues for which the guest waits while they are full.
    pub outputs: Vec<OutputQueue>,
    /// What the guest's reset does, a triple fault too: the machine starts again at the reset vector, or the run ends.
    pub restarts: Option<setup::ResetState>,
    /// The kernel that firmware starts.
    pub kernel: Option<Handover>,
}

/// What an exit leads to that is more than an access served.
enum Turn {
    End(RunEnd),
    /// Firmware is done, and the kernel starts; the memory map has so many entries.
    StartKernel(u16),
}

/// Runs the guest until something ends it.
pub fn run(job: Job) -> VcpuReport {
    let Job { mut vcpu, vm, shared, outputs, restarts, kernel } = job;
    let shared = &shared;
    let mut counters = ExitCounters::default();
    let registration = match shared.kicker.register(&mut vcpu) {
        Ok(registration) => registration,
        Err(error) => {
            let end = RunEnd::Engine { message: format!("no timer for its thread: {error}"), verify: false };
            shared.stop(end.clone());
            return VcpuReport { end, counters };
        }
    };
    let end = loop {
        let turn = match prepare_entry(&mut vcpu, &vm, shared, &registration, &mut counters) {
            Some(end) => Some(Turn::End(end)),
            None => match vcpu.run().map(|_| ()) {
                Ok(()) => {
                    take_cpu(&mut vcpu, shared);
                    handle_exit(&mut vcpu, shared, &mut counters)
                }
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    take_cpu(&mut vcpu, shared);
                    shared.lock().alarm_rang();
                    counters.interrupted += 1;
                    continue;
                }
                Err(error) => {
                    break RunEnd::Engine {
                        message: format!("KVM_RUN failed: {}", io::Error::from_raw_os_error(error.errno())),
                        verify: false,
                    }
                }
            },
        };
        match (turn, &restarts) {
            (None, _) => {}
            (Some(Turn::StartKernel(entries)), _) => {
                let Some(kernel) = &kernel else { continue };
                if let Err(error) = kernel.start(&mut vcpu, &vm, shared, entries) {
                    break RunEnd::Engine { message: error.to_string(), verify: false };
                }
            }
            (Some(Turn::End(RunEnd::Reset(_) | RunEnd::TripleFault)), Some(state)) => {
                counters.resets += 1;
                if let Err(error) = reset::restart(&mut vcpu, shared, state) {
                    break RunEnd::Engine { message: error.to_string(), verify: false };
                }
            }
            (Some(Turn::End(end)), _) => break end,
        }
        for output in &outputs {
            while output.is_full() && shared.lock().stopped().is_none() {
                output.wait_for_room(OUTPUT_WAIT);
            }
        }
    };
    drop(registration);
    // Whoever waits for the guest need not any longer.
    shared.stop(end.clone());
    say_where(&vcpu);
    VcpuReport { end, counters }
}

/// Where the guest was when it was ended: what a user needs first when it hung.
fn say_where(vcpu: &VcpuFd) {
    match (vcpu.get_regs(), vcpu.get_sregs()) {
        (Ok(regs), Ok(sregs)) => tracing::info!("the guest was at\n{}", registers::describe(&regs, &sregs)),
        _ => tracing::info!("the engine does not tell where the guest was"),
    }
}

/// Shows the guest its memory as the devices have changed it, and delivers an interrupt if the guest can take one, or asks to be told
/// when it can.
fn prepare_entry(
    vcpu: &mut VcpuFd,
    vm: &Vm,
    shared: &Shared,
    registration: &Registration,
    counters: &mut ExitCounters,
) -> Option<RunEnd> {
    registration.clear();
    let mut state = match orders::obey(vcpu, shared) {
        Ok(state) => state,
        Err(end) => return Some(end),
    };
    // Read under the lock, so that the devices never see an earlier time after a later one.
    let now = shared.clock.now_ns();
    let run = vcpu.get_kvm_run();
    let ready = run.ready_for_interrupt_injection != 0 && run.if_flag != 0;
    if ready {
        state.machine.cpu_is_ready(now);
    }
    state.machine.collect();
    state.update(now);
    let signals = state.machine.take_signals();
    if signals.init {
        return Some(RunEnd::Reset(ResetLine::Init));
    }
    let mut vector = None;
    if state.machine.intr(now) && ready {
        vector = Some(state.machine.acknowledge(now));
    }
    let window = state.machine.intr(now);
    run.request_interrupt_window = u8::from(window);
    state.window_requested = window;
    if let Some(cr8) = state.machine.cr8() {
        run.cr8 = cr8;
    }
    let (layout, written) = (state.machine.take_layout(), state.machine.take_written());
    let constants = state.machine.take_constants();
    drop(state);
    let shown = layout
        .map_or(Ok(()), |regions| vm.show(&regions))
        .and_then(|()| vm.memory_written(&written))
        .and_then(|()| constants.map_or(Ok(()), |constants| vm.set_constants(vcpu, &constants)));
    if let Err(error) = shown {
        return Some(RunEnd::Engine { message: error.to_string(), verify: false });
    }
    if signals.nmi {
        if let Err(error) = vcpu.nmi() {
            let error = io::Error::from_raw_os_error(error.errno());
            return Some(RunEnd::Engine { message: format!("KVM_NMI failed: {error}"), verify: false });
        }
    }
    if let Some(vector) = vector {
        counters.interrupts += 1;
        if let Err(error) = inject(vcpu, vector) {
            return Some(RunEnd::Engine { message: format!("KVM_INTERRUPT failed: {error}"), verify: false });
        }
    }
    None
}

/// Tells the local APIC what the guest did to CR8 and IA32_APIC_BASE.
fn take_cpu(vcpu: &mut VcpuFd, shared: &Shared) {
    let run = vcpu.get_kvm_run();
    let (cr8, apic_base) = (run.cr8, run.apic_base);
    shared.lock().machine.set_cpu(cr8, apic_base);
}

fn inject(vcpu: &VcpuFd, vector: u8) -> io::Result<()> {
    let interrupt = kvm_interrupt { irq: vector.into() };
    // SAFETY: the request reads one `kvm_interrupt` from the reference.
    match unsafe { ioctl_with_ref(vcpu, KVM_INTERRUPT(), &interrupt) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn handle_exit(vcpu: &mut VcpuFd, shared: &Shared, counters: &mut ExitCounters) -> Option<Turn> {
    match exit::decode(vcpu) {
        Exit::PortRead { port, width, data } => {
            counters.port_reads += 1;
            let mut state = shared.lock();
            for access in data.chunks_mut(width.max(1)) {
                state.machine.read_port(port, access, shared.clock.now_ns());
            }
            shared.wake_reader(&state);
            None
        }
        Exit::PortWrite { port, width, data } => {
            counters.port_writes += 1;
            let mut state = shared.lock();
            data.chunks(width.max(1)).find_map(|access| {
                Some(match state.machine.write_port(port, access, shared.clock.now_ns())? {
                    BusEvent::GuestExit(status) => Turn::End(RunEnd::GuestExit(status)),
                    BusEvent::Reset(line) => Turn::End(RunEnd::Reset(line)),
                    BusEvent::PowerOff => Turn::End(RunEnd::PowerOff),
                    BusEvent::StartKernel(entries) => Turn::StartKernel(entries),
                })
            })
        }
        Exit::MemoryRead { gpa, data } => {
            counters.memory_reads += 1;
            shared.lock().machine.read_memory(gpa, data, shared.clock.now_ns());
            None
        }
        Exit::MemoryWrite { gpa, data } => {
            counters.memory_writes += 1;
            shared.lock().machine.write_memory(gpa, data, shared.clock.now_ns());
            None
        }
        Exit::Halt => {
            counters.halts += 1;
            wait_for_interrupt(vcpu, shared).map(Turn::End)
        }
        Exit::IrqWindow => {
            counters.irq_windows += 1;
            None
        }
        // What may come now is looked at before the next entry.
        Exit::TaskPriority => None,
        Exit::Interrupted => {
            shared.lock().alarm_rang();
            counters.interrupted += 1;
            None
        }
        Exit::Shutdown => Some(Turn::End(RunEnd::TripleFault)),
        Exit::InternalError { suberror, data } => {
            Some(engine_stopped(internal_error(suberror, &data), suberror == rvmm_abi::INTERNAL_ERROR_VERIFY))
        }
        Exit::FailEntry { reason } => {
            Some(engine_stopped(format!("the CPU refused to enter the guest (reason {reason:#x})"), false))
        }
        Exit::Unknown { reason } => Some(engine_stopped(
            format!("it left the guest for a reason that rvmm does not know (exit {reason})"),
            false,
        )),
    }
}

fn engine_stopped(message: String, verify: bool) -> Turn {
    Turn::End(RunEnd::Engine { message, verify })
}

/// The guest executed HLT: waits until it has an interrupt to take, or ends the run when none can ever come.
fn wait_for_interrupt(vcpu: &mut VcpuFd, shared: &Shared) -> Option<RunEnd> {
    if vcpu.get_kvm_run().if_flag == 0 {
        return Some(RunEnd::Halted);
    }
    loop {
        let mut state = match orders::obey(vcpu, shared) {
            Ok(state) => state,
            Err(end) => return Some(end),
        };
        let now = shared.clock.now_ns();
        // Its timer's handler is over, however long the guest waits from here on.
        state.machine.cpu_is_ready(now);
        state.machine.collect();
        state.update(now);
        state.machine.cpu_idles();
        if state.machine.intr(now) || state.machine.has_signals() {
            return None;
        }
        drop(shared.wait_until_due(state, now));
    }
}

fn internal_error(suberror: u32, data: &[u64]) -> String {
    let what = match suberror {
        rvmm_abi::INTERNAL_ERROR_VERIFY => "verification found a difference".to_string(),
        rvmm_abi::INTERNAL_ERROR_BUG => "a bug in rvmm".to_string(),
        1 => "it met an instruction that it cannot emulate".to_string(),
        2 => "an event came while another was being delivered".to_string(),
        3 => "an exit came while an event was being delivered".to_string(),
        other => format!("internal error {other:#x}"),
    };
    if data.is_empty() {
        return what;
    }
    let data: Vec<String> = data.iter().map(|word| format!("{word:#x}")).collect();
    format!("{what} (data {})", data.join(" "))
}
