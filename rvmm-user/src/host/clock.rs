//! The machine's clock: nanoseconds since it was switched on.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that started when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    unix_ns: i64,
}

impl Clock {
    /// Starts.
    pub fn start() -> Clock {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), unix_ns: i64::try_from(since_1970.as_nanos()).unwrap_or(0) }
    }

    /// Nanoseconds since the start; monotonic.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time of day at the start, in nanoseconds after 1970.
    pub fn unix_ns_at_start(&self) -> i64 {
        self.unix_ns
    }
}
