// SPDX-License-Identifier: GPL-2.0
//! The kernel's side of tracepoints: rvmm-ko/trace.h declares them.
//!
//! Why not `kernel::declare_trace!`: it looks for the tracepoints among the kernel's own bindings, and its static branch needs
//! a generated file that kernel headers do not carry. So the static key's count is read instead of its branch being patched.

use kernel::bindings;
use rvmm_arch::fault::EventSource;
use rvmm_arch::host::WorldExit;
use rvmm_arch::trace::{Direction, TraceEvent, TracePoint};

/// Tracepoints and the functions that trace.c makes of them; prototypes as in trace.h.
mod shim {
    use kernel::bindings::tracepoint;
    extern "C" {
        pub(super) static __tracepoint_rvmm_entry: tracepoint;
        pub(super) static __tracepoint_rvmm_exit: tracepoint;
        pub(super) static __tracepoint_rvmm_page_fault: tracepoint;
        pub(super) static __tracepoint_rvmm_interpret: tracepoint;
        pub(super) static __tracepoint_rvmm_inject: tracepoint;
        pub(super) static __tracepoint_rvmm_scan: tracepoint;
        pub(super) static __tracepoint_rvmm_patch: tracepoint;
        pub(super) static __tracepoint_rvmm_pio: tracepoint;
        pub(super) static __tracepoint_rvmm_mmio: tracepoint;
        pub(super) static __tracepoint_rvmm_userspace_exit: tracepoint;

        pub(super) fn rust_do_trace_rvmm_entry(mode: *const u8, mode_len: u32, rip: u64, cr3: u64, step: bool);
        pub(super) fn rust_do_trace_rvmm_exit(
            reason: *const u8,
            reason_len: u32,
            vector: u8,
            ring: u8,
            rip: u64,
            error: u32,
            cr2: u64,
        );
        pub(super) fn rust_do_trace_rvmm_page_fault(
            address: u64,
            error: u32,
            outcome: *const u8,
            outcome_len: u32,
            gpa: u64,
        );
        pub(super) fn rust_do_trace_rvmm_interpret(rip: u64, cpl: u8, cause: *const u8, cause_len: u32);
        pub(super) fn rust_do_trace_rvmm_inject(
            kind: *const u8,
            kind_len: u32,
            vector: u8,
            has_error: bool,
            error: u32,
            payload: u64,
        );
        pub(super) fn rust_do_trace_rvmm_scan(address: u64, instructions: u64, sites: u64);
        pub(super) fn rust_do_trace_rvmm_patch(
            site: u64,
            tactic: *const u8,
            tactic_len: u32,
            reason: *const u8,
            reason_len: u32,
            block: u64,
            len: u32,
        );
        pub(super) fn rust_do_trace_rvmm_pio(write: bool, port: u16, size: u8, value: u32);
        pub(super) fn rust_do_trace_rvmm_mmio(write: bool, gpa: u64, len: u8, value: u64);
        pub(super) fn rust_do_trace_rvmm_userspace_exit(reason: u32);
    }
}

/// A kernel without tracepoints has neither them nor the functions.
const THERE: bool = cfg!(CONFIG_TRACEPOINTS);

/// Does anybody listen at `point`? One load and test where `point` is a constant.
#[inline(always)]
pub(crate) fn listened(point: TracePoint) -> bool {
    if !THERE {
        return false;
    }
    let tracepoint: *const bindings::tracepoint = match point {
        TracePoint::Entry => &raw const shim::__tracepoint_rvmm_entry,
        TracePoint::Exit => &raw const shim::__tracepoint_rvmm_exit,
        TracePoint::PageFault => &raw const shim::__tracepoint_rvmm_page_fault,
        TracePoint::Interpret => &raw const shim::__tracepoint_rvmm_interpret,
        TracePoint::Inject => &raw const shim::__tracepoint_rvmm_inject,
        TracePoint::Scan => &raw const shim::__tracepoint_rvmm_scan,
        TracePoint::Patch => &raw const shim::__tracepoint_rvmm_patch,
        TracePoint::Pio => &raw const shim::__tracepoint_rvmm_pio,
        TracePoint::Mmio => &raw const shim::__tracepoint_rvmm_mmio,
        TracePoint::ClientExit => &raw const shim::__tracepoint_rvmm_userspace_exit,
    };
    // SAFETY: the tracepoint is trace.c's and lives as long as the module. The kernel changes the count at any time, by
    // aligned stores; a stale one costs or loses an event at the moment of switching.
    unsafe { (&raw const (*tracepoint).key.key.enabled.counter).read_volatile() != 0 }
}

/// A text as trace.h takes it.
fn text(s: &'static str) -> (*const u8, u32) {
    (s.as_ptr(), s.len() as u32)
}

/// Hands an event to those who listen at its tracepoint, if any still do.
pub(crate) fn emit(event: &TraceEvent) {
    if !THERE {
        return;
    }
    // SAFETY: the prototypes are those of trace.h; pointers are to static texts of the lengths given, which the kernel copies.
    unsafe {
        match *event {
            TraceEvent::Entry { mode, rip, cr3, step } => {
                let (mode, mode_len) = text(mode);
                shim::rust_do_trace_rvmm_entry(mode, mode_len, rip, cr3, step);
            }
            TraceEvent::Exit { exit, ring, rip, error, cr2 } => {
                let (reason, vector, error) = match exit {
                    WorldExit::Exception(vector) => ("exception", vector, error),
                    WorldExit::HostInterrupt(vector) => ("interrupt", vector, 0),
                    WorldExit::Nmi => ("nmi", 2, 0),
                    WorldExit::MachineCheck => ("machine-check", 18, 0),
                    WorldExit::Syscall(_) => ("syscall", 0, 0),
                    WorldExit::Refused(code) => ("refused", 0, code),
                };
                let (reason, reason_len) = text(reason);
                shim::rust_do_trace_rvmm_exit(reason, reason_len, vector, ring, rip, error, cr2);
            }
            TraceEvent::PageFault { address, code, outcome, gpa } => {
                let (outcome, outcome_len) = text(outcome);
                let gpa = gpa.map_or(u64::MAX, |gpa| gpa.0);
                shim::rust_do_trace_rvmm_page_fault(address.0, code.bits(), outcome, outcome_len, gpa);
            }
            TraceEvent::Interpret { rip, cpl, cause } => {
                let (cause, cause_len) = text(cause.name());
                shim::rust_do_trace_rvmm_interpret(rip, cpl, cause, cause_len);
            }
            TraceEvent::Inject(event) => {
                let (kind, kind_len) = text(match event.source {
                    EventSource::Exception => "exception",
                    EventSource::External => "interrupt",
                    EventSource::Nmi => "nmi",
                    EventSource::Software | EventSource::PrivilegedSoftware => "software",
                });
                let (has_error, error) = (event.error.is_some(), event.error.unwrap_or(0));
                shim::rust_do_trace_rvmm_inject(kind, kind_len, event.vector.0, has_error, error, event.payload);
            }
            TraceEvent::Scan { address, instructions, sites } => {
                shim::rust_do_trace_rvmm_scan(address.0, instructions, sites);
            }
            TraceEvent::Patch { site, tactic, reason, block, len } => {
                let ((tactic, tactic_len), (reason, reason_len)) = (text(tactic), text(reason));
                shim::rust_do_trace_rvmm_patch(site.0, tactic, tactic_len, reason, reason_len, block, len);
            }
            TraceEvent::Pio { direction, port, size, value } => {
                shim::rust_do_trace_rvmm_pio(direction == Direction::Write, port, size, value);
            }
            TraceEvent::Mmio { direction, gpa, len, value } => {
                shim::rust_do_trace_rvmm_mmio(direction == Direction::Write, gpa.0, len, value);
            }
            TraceEvent::ClientExit { reason } => shim::rust_do_trace_rvmm_userspace_exit(reason),
        }
    }
}
