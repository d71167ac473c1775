//! The machine's clock: nanoseconds since it was switched on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// In [`Clock::stopped_at`]: it runs.
const RUNS: u64 = u64::MAX;

/// A clock that started when it was made. It can be stopped while the machine is paused; whoever does so holds the machine's lock, under which
/// all look at it.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    unix_ns: i64,
    /// What it shows while it is stopped.
    stopped_at: AtomicU64,
    /// For how long it has been stopped.
    lost_ns: AtomicU64,
}

impl Clock {
    /// Starts.
    pub fn start() -> Clock {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock {
            start: Instant::now(),
            unix_ns: i64::try_from(since_1970.as_nanos()).unwrap_or(0),
            stopped_at: AtomicU64::new(RUNS),
            lost_ns: AtomicU64::new(0),
        }
    }

    /// Stops it, if it runs.
    pub fn stop(&self) {
        self.stopped_at.store(self.now_ns(), Ordering::Relaxed);
    }

    /// Lets it go on from where it was stopped.
    pub fn go_on(&self) {
        let stopped = self.stopped_at.swap(RUNS, Ordering::Relaxed);
        if stopped != RUNS {
            self.lost_ns.store(self.elapsed_ns().saturating_sub(stopped), Ordering::Relaxed);
        }
    }

    /// Nanoseconds since the start, without those for which it was stopped; monotonic.
    pub fn now_ns(&self) -> u64 {
        match self.stopped_at.load(Ordering::Relaxed) {
            RUNS => self.elapsed_ns().saturating_sub(self.lost_ns.load(Ordering::Relaxed)),
            stopped => stopped,
        }
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time of day at the start, in nanoseconds after 1970.
    pub fn unix_ns_at_start(&self) -> i64 {
        self.unix_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_count_what_it_was_stopped_for() {
        let clock = Clock::start();
        clock.stop();
        let stopped = clock.now_ns();
        std::thread::sleep(std::time::Duration::from_millis(300));
        clock.stop();
        assert_eq!(clock.now_ns(), stopped);
        clock.go_on();
        let after = clock.now_ns();
        assert!((stopped..stopped + 250_000_000).contains(&after));
        clock.go_on();
        assert!(clock.now_ns() >= after);
    }
}
