//! The event loop: signals, time limit, and the end of the vCPU's thread.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::error::Error;
use crate::outcome::RunEnd;
use crate::shared::Shared;

/// Signals that end a run in an orderly way.
const ENDING_SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// A descriptor that yields the ending signals. Made before any other thread, so that all inherit the blocked signals.
pub fn block_signals() -> Result<OwnedFd, Error> {
    let failed = |source| Error::Host { what: "taking over signals", source };
    let set = vmm_sys_util::signal::create_sigset(&ENDING_SIGNALS)
        .map_err(|error| failed(io::Error::from_raw_os_error(error.errno())))?;
    // SAFETY: a valid signal set, and no wish for the old one.
    if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    // SAFETY: a valid signal set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the loop waits for.
pub struct Sources {
    pub shared: Arc<Shared>,
    pub signals: OwnedFd,
    /// Seconds after which the run is ended.
    pub time_limit: Option<u64>,
    /// Written by the vCPU's thread at its end.
    pub vcpu_done: EventFd,
}

/// Serves events until the vCPU's thread has ended.
pub fn serve(sources: Sources) -> Result<(), Error> {
    let failed = |what: &'static str| {
        move |error: &dyn std::fmt::Debug| Error::Host { what, source: io::Error::other(format!("{error:?}")) }
    };
    let limit = match sources.time_limit {
        Some(seconds) => {
            let mut timer = TimerFd::new().map_err(|error| failed("creating a timer")(&error))?;
            timer
                .reset(Duration::from_secs(seconds.max(1)), None)
                .map_err(|error| failed("setting a timer")(&error))?;
            Some((timer, seconds))
        }
        None => None,
    };
    let mut manager = EventManager::new().map_err(|error| failed("making the event loop")(&error))?;
    let server = manager.add_subscriber(Server {
        limit,
        shared: sources.shared,
        signals: sources.signals,
        vcpu_done: sources.vcpu_done,
        done: false,
    });
    loop {
        manager.run().map_err(|error| failed("waiting for events")(&error))?;
        let server = manager.subscriber_mut(server).map_err(|error| failed("the event loop")(&error))?;
        if server.done {
            return Ok(());
        }
    }
}

struct Server {
    shared: Arc<Shared>,
    signals: OwnedFd,
    limit: Option<(TimerFd, u64)>,
    vcpu_done: EventFd,
    done: bool,
}

impl MutEventSubscriber for Server {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut wanted = vec![Events::new(&self.signals, EventSet::IN), Events::new(&self.vcpu_done, EventSet::IN)];
        if let Some((limit, _)) = &self.limit {
            // Edge-triggered: it expires once, and is never read.
            wanted.push(Events::new(limit, EventSet::IN | EventSet::EDGE_TRIGGERED));
        }
        for events in wanted {
            if let Err(error) = ops.add(events) {
                tracing::error!("an event source cannot be watched: {error}");
                self.done = true;
            }
        }
    }

    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        let fd = events.fd();
        if fd == self.vcpu_done.as_raw_fd() {
            self.done = true;
        } else if fd == self.signals.as_raw_fd() {
            self.shared.stop(RunEnd::Signal(self.read_signal()));
        } else if let Some((_, seconds)) = &self.limit {
            self.shared.stop(RunEnd::Timeout(*seconds));
        }
    }
}

impl Server {
    fn read_signal(&self) -> libc::c_int {
        // SAFETY: all-zero is a valid signalfd_siginfo.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the buffer is `size` bytes long, and the structure is plain data.
        let read = unsafe { libc::read(self.signals.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), size) };
        if read == size as isize {
            info.ssi_signo as libc::c_int
        } else {
            libc::SIGTERM
        }
    }
}
