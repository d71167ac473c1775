//! How runs end, and the exit status of each end.

use std::fmt;

use crate::machine::ResetLine;

/// Exit statuses of `rvmm` other than the guest's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The guest ended with a status above 63.
    GuestStatusTooLarge = 64,
    /// The command line of rvmm is wrong.
    Usage = 65,
    /// A file or the guest's size is wrong.
    Input = 66,
    /// The host or its engine cannot do it.
    Host = 69,
    /// The engine stopped the guest with an error of its own.
    Engine = 70,
    /// `--verify` found a difference.
    Verify = 71,
    /// The guest reset the machine.
    Reset = 80,
    /// The guest triple-faulted.
    TripleFault = 81,
    /// The guest halted with interrupts off.
    Halted = 82,
    /// `--timeout` passed.
    Timeout = 124,
    /// The escape key, like SIGINT; other signals are 128 plus their number.
    Interrupted = 130,
}

/// Statuses that a guest can end with and have passed on as they are.
pub const MAX_GUEST_STATUS: u32 = 63;

/// The table of exit statuses for `--help`.
pub const STATUS_HELP: &str = "\
Exit status of `rvmm run`:
  0-63  the guest's own, written to isa-debug-exit (--debug-exit); 0 also: the guest switched the machine off, or the monitor's quit
   64   the guest's own was larger than 63 (the message says which)
   65   wrong command line
   66   kernel, initrd, firmware, disk or memory size cannot be used
   69   the host cannot do it (module not loaded, no permission, no memory)
   70   the engine stopped the guest with an internal error
   71   --verify found a difference
   80   the guest reset the machine (ports 64, 92, CF9); with firmware only under --no-reboot
   81   triple fault; with firmware only under --no-reboot
   82   HLT with interrupts off
  124   --timeout passed
  130  the escape key (Ctrl-A x) or SIGINT
  129, 131, 143  SIGHUP, SIGQUIT, SIGTERM
";

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The guest wrote this to isa-debug-exit.
    GuestExit(u32),
    /// The guest reset the machine.
    Reset(ResetLine),
    /// The guest switched the machine off (ACPI).
    PowerOff,
    /// Shutdown: a fault while delivering a double fault.
    TripleFault,
    /// HLT with interrupts off and nothing to wake it.
    Halted,
    /// The engine gave up.
    Engine {
        /// What it said.
        message: String,
        /// Verification found a difference.
        verify: bool,
    },
    /// The run took longer than allowed.
    Timeout(u64),
    /// The escape key and x.
    EscapeKey,
    /// The monitor's command to quit.
    Quit,
    /// One of the signals that end a run.
    Signal(i32),
}

impl RunEnd {
    /// The exit status.
    pub fn status(&self) -> u8 {
        let status = match self {
            RunEnd::GuestExit(value) if *value <= MAX_GUEST_STATUS => return *value as u8,
            RunEnd::GuestExit(_) => Status::GuestStatusTooLarge,
            RunEnd::PowerOff => return 0,
            RunEnd::Reset(_) => Status::Reset,
            RunEnd::TripleFault => Status::TripleFault,
            RunEnd::Halted => Status::Halted,
            RunEnd::Engine { verify: true, .. } => Status::Verify,
            RunEnd::Engine { verify: false, .. } => Status::Engine,
            RunEnd::Timeout(_) => Status::Timeout,
            RunEnd::EscapeKey => Status::Interrupted,
            // As asked for, and told so to whoever asked.
            RunEnd::Quit => return 0,
            RunEnd::Signal(number) => return 128u8.wrapping_add(*number as u8),
        };
        status as u8
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::GuestExit(value) if *value <= MAX_GUEST_STATUS => {
                write!(f, "the guest ended with status {value}")
            }
            RunEnd::GuestExit(value) => {
                write!(f, "the guest ended with status {value} ({value:#x}), which is too large for an exit status")
            }
            RunEnd::Reset(line) => {
                let line = match line {
                    ResetLine::Button => return write!(f, "the machine was reset through its monitor"),
                    ResetLine::Init => "INIT from its own local APIC",
                    ResetLine::KeyboardController => "the keyboard controller, port 64",
                    ResetLine::ResetControl => "the reset control register, port CF9",
                    ResetLine::SystemControlA => "system control port A, port 92",
                };
                write!(f, "the guest reset the machine ({line})")
            }
            RunEnd::PowerOff => write!(f, "the guest switched the machine off"),
            RunEnd::TripleFault => {
                write!(f, "the guest triple-faulted: an exception while it was taking a double fault")
            }
            RunEnd::Halted => write!(f, "the guest halted with interrupts off: nothing could ever wake it"),
            RunEnd::Engine { message, .. } => write!(f, "the engine stopped the guest: {message}"),
            RunEnd::Timeout(seconds) => write!(f, "ended after {seconds} s by --timeout"),
            RunEnd::EscapeKey => write!(f, "ended from the keyboard"),
            RunEnd::Quit => write!(f, "ended through its monitor"),
            RunEnd::Signal(number) => {
                let name = match *number {
                    libc::SIGINT => "SIGINT",
                    libc::SIGTERM => "SIGTERM",
                    libc::SIGHUP => "SIGHUP",
                    libc::SIGQUIT => "SIGQUIT",
                    _ => "a signal",
                };
                write!(f, "ended by {name}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_own_status() {
        let ends = [
            RunEnd::GuestExit(0),
            RunEnd::GuestExit(63),
            RunEnd::GuestExit(64),
            RunEnd::Reset(ResetLine::ResetControl),
            RunEnd::TripleFault,
            RunEnd::Halted,
            RunEnd::Engine { message: String::new(), verify: false },
            RunEnd::Engine { message: String::new(), verify: true },
            RunEnd::Timeout(1),
            RunEnd::EscapeKey,
            RunEnd::Signal(libc::SIGTERM),
            RunEnd::Signal(libc::SIGHUP),
        ];
        let mut statuses: Vec<u8> = ends.iter().map(RunEnd::status).collect();
        assert_eq!(statuses[0], 0);
        assert_eq!(statuses[1], 63);
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses.len(), ends.len());
        for status in &statuses[2..] {
            assert!(STATUS_HELP.contains(&status.to_string()), "{status}");
        }
    }
}
