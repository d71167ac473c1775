//! The alarm of a vCPU's thread: a POSIX timer whose signal goes to that very thread. What falls due interrupts the guest on the CPU where it runs;
//! a second thread that waited for the time would have to be woken, and to kick the first: two interrupts between CPUs for each tick.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use vmm_sys_util::signal::SIGRTMIN;

/// A timer that sets `immediate_exit` and interrupts its thread. Dropped in that thread, while `immediate_exit` still exists.
pub struct Alarm {
    timer: libc::timer_t,
}

// SAFETY: the identifier of a timer is the process's, and its calls may come from any thread.
unsafe impl Send for Alarm {}

impl Alarm {
    /// For the calling thread, which must have the signal's handler, [`rings`], installed.
    pub fn new(immediate_exit: *const AtomicU8) -> io::Result<Alarm> {
        // SAFETY: all-zero is a valid sigevent.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGRTMIN();
        event.sigev_value = libc::sigval { sival_ptr: immediate_exit.cast_mut().cast() };
        // SAFETY: no precondition.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: a valid sigevent, and room for the identifier.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } {
            0 => Ok(Alarm { timer }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Rings once, this long from now; `None`: not at all. What was set before is forgotten.
    pub fn set(&self, after: Option<Duration>) -> io::Result<()> {
        // Zero would be no alarm.
        let after = after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1)));
        let seconds = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
        let value = libc::timespec { tv_sec: seconds, tv_nsec: after.subsec_nanos().into() };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the timer exists, and the time is valid; the time that was left is not asked for.
        match unsafe { libc::timer_settime(self.timer, 0, &once, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // A signal that is on its way reaches this thread before the call returns, hence while its flag exists.
        // SAFETY: the timer exists; nobody uses it after this.
        unsafe { libc::timer_delete(self.timer) };
    }
}

/// The signal's handler. A kick has set the flag already; for an alarm it is done here.
pub extern "C" fn rings(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    if info.si_code == libc::SI_TIMER {
        // SAFETY: a timer's signal has a value, which for the only timers with this signal is the flag; it exists as long as they do.
        unsafe { &*info.si_value().sival_ptr.cast::<AtomicU8>() }.store(1, Ordering::Release);
    }
}
