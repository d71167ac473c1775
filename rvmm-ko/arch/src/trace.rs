//! Tracepoints: what happens, one event at a time, for whoever traces the host (docs/tracing.md). Plain data; names that
//! are text in the trace are text here, so that each is written in one place only.

use crate::addr::{Gpa, Gva};
use crate::fault::{Event, PageFaultCode};
use crate::host::{Host, WorldExit};
use crate::stats::Counter;

/// A tracepoint: what can be listened to by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TracePoint {
    /// [`TraceEvent::Entry`].
    Entry,
    /// [`TraceEvent::Exit`].
    Exit,
    /// [`TraceEvent::PageFault`].
    PageFault,
    /// [`TraceEvent::Interpret`].
    Interpret,
    /// [`TraceEvent::Inject`].
    Inject,
    /// [`TraceEvent::Scan`].
    Scan,
    /// [`TraceEvent::Patch`].
    Patch,
    /// [`TraceEvent::Pio`].
    Pio,
    /// [`TraceEvent::Mmio`].
    Mmio,
    /// [`TraceEvent::ClientExit`].
    ClientExit,
}

/// Which way the data of a device access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

/// An event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceEvent {
    /// The guest world is about to be entered.
    Entry {
        /// Whose code runs: `kernel` or `user`.
        mode: &'static str,
        /// The real EIP; in a patch block, if execution goes on in one.
        rip: u64,
        /// The guest's CR3.
        cr3: u64,
        /// With TF: a single step, by rvmm or by the guest.
        step: bool,
    },
    /// The guest world was left.
    Exit {
        /// Why.
        exit: WorldExit,
        /// The ring that the exit frame shows.
        ring: u8,
        /// The real EIP; in a patch block, if the CPU was in one.
        rip: u64,
        /// The error code, or 0.
        error: u32,
        /// CR2 if it was #PF, else 0.
        cr2: u64,
    },
    /// What a page fault in the guest world was.
    PageFault {
        /// The linear address.
        address: Gva,
        /// The hardware's error code.
        code: PageFaultCode,
        /// `hidden`, `true`, …: see docs/tracing.md.
        outcome: &'static str,
        /// Where the guest's tables lead, unless the fault was the guest's or is mended.
        gpa: Option<Gpa>,
    },
    /// An instruction is about to be interpreted.
    Interpret {
        /// The guest's EIP.
        rip: u64,
        /// The virtual CPL.
        cpl: u8,
        /// Why: the counter that counts it.
        cause: Counter,
    },
    /// An event goes to the guest: an exception or interrupt about to be delivered, or a software interrupt that was.
    Inject(Event),
    /// Code was scanned.
    Scan {
        /// From this linear address on.
        address: Gva,
        /// Instructions decoded.
        instructions: u64,
        /// Sites found.
        sites: u64,
    },
    /// A hot site got a tactic.
    Patch {
        /// Its linear address.
        site: Gva,
        /// `jump`, or `int3` if no jump is possible or one was taken back.
        tactic: &'static str,
        /// Why not a jump; `hot` for a jump.
        reason: &'static str,
        /// The block's address, or 0.
        block: u64,
        /// The block's bytes, or 0.
        len: u32,
    },
    /// A port access: a write when it goes to the client, a read when it is answered.
    Pio {
        /// IN or OUT.
        direction: Direction,
        /// Port number.
        port: u16,
        /// Bytes.
        size: u8,
        /// The value.
        value: u32,
    },
    /// An access to memory without RAM behind it, as for [`TraceEvent::Pio`].
    Mmio {
        /// Read or write.
        direction: Direction,
        /// The address.
        gpa: Gpa,
        /// Bytes.
        len: u8,
        /// The value.
        value: u64,
    },
    /// KVM_RUN returns.
    ClientExit {
        /// The exit reason of KVM's ABI.
        reason: u32,
    },
}

/// `trace!(host, Scan { … })` shows a [`TraceEvent`] if somebody listens at the [`TracePoint`] of its name. If nobody does, it
/// is one test: what the event is made of is evaluated in [`show`] only.
#[macro_export]
macro_rules! trace {
    ($host:expr, $point:ident $($event:tt)+) => {
        if $crate::host::Host::traces(&*$host, $crate::trace::TracePoint::$point) {
            $crate::trace::show($host, move || $crate::trace::TraceEvent::$point $($event)+);
        }
    };
}

/// Shows an event, away from the frames and the path of those who trace.
#[cold]
#[inline(never)]
pub fn show<H: Host>(host: &mut H, event: impl FnOnce() -> TraceEvent) {
    host.trace(&event());
}
