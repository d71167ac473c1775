//! What ends a run from outside: signals, the time limit; and the end of the vCPU's thread.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::error::Error;
use crate::outcome::RunEnd;
use crate::shared::Shared;

/// Signals that end a run in an orderly way.
const ENDING_SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The ending signals, which no thread takes unless it waits for them.
pub struct Blocked(libc::sigset_t);

/// Blocks the ending signals. Called before any other thread is begun, so that all inherit it.
pub fn block_signals() -> Result<Blocked, Error> {
    let failed = |source| Error::Host { what: "taking over signals", source };
    let set = vmm_sys_util::signal::create_sigset(&ENDING_SIGNALS)
        .map_err(|error| failed(io::Error::from_raw_os_error(error.errno())))?;
    // SAFETY: a valid signal set, and no wish for the old one.
    if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    Ok(Blocked(set))
}

/// Ends the run when one of them comes, from a thread that waits for nothing else. A signalfd would be less: every signal to any thread wakes those
/// that poll one, the vCPU's alarm for each tick too.
fn wait_for_signals(shared: Arc<Shared>, Blocked(set): Blocked) -> io::Result<()> {
    let body = move || loop {
        let mut signal = 0;
        // SAFETY: a valid signal set, and room for the number.
        match unsafe { libc::sigwait(&set, &mut signal) } {
            0 => shared.stop(RunEnd::Signal(signal)),
            error => return tracing::error!("signals cannot be waited for: {}", io::Error::from_raw_os_error(error)),
        }
    };
    thread::Builder::new().name("signals".into()).spawn(body).map(|_| ())
}

/// What the loop waits for.
pub struct Sources {
    pub shared: Arc<Shared>,
    pub signals: Blocked,
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
    wait_for_signals(Arc::clone(&sources.shared), sources.signals)
        .map_err(|error| failed("waiting for signals")(&error))?;
    let mut manager = EventManager::new().map_err(|error| failed("making the event loop")(&error))?;
    let server =
        manager.add_subscriber(Server { limit, shared: sources.shared, vcpu_done: sources.vcpu_done, done: false });
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
    limit: Option<(TimerFd, u64)>,
    vcpu_done: EventFd,
    done: bool,
}

impl MutEventSubscriber for Server {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut wanted = vec![Events::new(&self.vcpu_done, EventSet::IN)];
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
        } else if let Some((_, seconds)) = &self.limit {
            self.shared.stop(RunEnd::Timeout(*seconds));
        }
    }
}
