//! Timer ticks that the guest could not take in time.
//!
//! A request line remembers one edge. When the guest was kept from running (the host was busy, or the guest runs slowly), the edges
//! that came meanwhile would be lost and its clock would go slow. They are counted instead and delivered one after the other, each as
//! soon as the guest has dealt with the one before, up to a bound.
//!
//! A guest whose tick handler takes longer than a tick (under verification it may) would then do nothing else. So after a handler the
//! next missed tick waits for as long as that handler took: half of the time stays the guest's own.

/// Missed ticks beyond this are dropped: one second of Linux's HZ=250.
pub const MAX_BACKLOG: u64 = 250;

/// What became of the ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounters {
    /// Edges of the timer's output.
    pub due: u64,
    /// Delivered to the CPU.
    pub delivered: u64,
    /// Given up because the backlog was full or the timer was programmed anew.
    pub dropped: u64,
}

/// The backlog of one timer.
#[derive(Debug, Default)]
pub struct Ticks {
    backlog: u64,
    /// When the tick that the guest is handling was delivered.
    handling_since: Option<u64>,
    not_before: u64,
    counters: TickCounters,
}

impl Ticks {
    /// `edges` more edges came.
    pub fn missed(&mut self, edges: u64) {
        self.counters.due += edges;
        let wanted = self.backlog.saturating_add(edges);
        self.backlog = wanted.min(MAX_BACKLOG);
        self.counters.dropped += wanted - self.backlog;
    }

    /// Whether to raise the line now. `idle`: the guest could take a tick, and none is requested or in service.
    pub fn take_due(&mut self, idle: bool, now_ns: u64) -> bool {
        if !idle {
            return false;
        }
        if let Some(since) = self.handling_since.take() {
            self.not_before = now_ns.saturating_add(now_ns.saturating_sub(since));
        }
        if self.backlog == 0 || now_ns < self.not_before {
            return false;
        }
        self.backlog -= 1;
        true
    }

    /// The CPU took a tick.
    pub fn delivered(&mut self, now_ns: u64) {
        self.handling_since = Some(now_ns);
        self.counters.delivered += 1;
    }

    /// The timer was programmed anew: what it missed before does not count any more.
    pub fn forget(&mut self) {
        self.counters.dropped += self.backlog;
        self.backlog = 0;
    }

    /// When a tick that waits only for its spacing may be raised.
    pub fn held_back_until(&self, now_ns: u64) -> Option<u64> {
        (self.backlog > 0 && self.handling_since.is_none() && now_ns < self.not_before).then_some(self.not_before)
    }

    /// The counters.
    pub fn counters(&self) -> TickCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_bounded_and_what_is_dropped_is_counted() {
        let mut ticks = Ticks::default();
        ticks.missed(MAX_BACKLOG + 7);
        assert_eq!(ticks.counters().dropped, 7);
        let mut raised = 0;
        while ticks.take_due(true, 0) {
            raised += 1;
        }
        assert_eq!(raised, MAX_BACKLOG);
    }

    #[test]
    fn a_slow_handler_is_given_a_pause() {
        let mut ticks = Ticks::default();
        ticks.missed(3);
        assert!(ticks.take_due(true, 1000));
        ticks.delivered(1000);
        assert!(!ticks.take_due(false, 2000), "still handling");
        assert!(!ticks.take_due(true, 6000), "handled for 5000");
        assert_eq!(ticks.held_back_until(6000), Some(11_000));
        assert!(!ticks.take_due(true, 10_999));
        assert!(ticks.take_due(true, 11_000));
    }

    #[test]
    fn reprogramming_forgets() {
        let mut ticks = Ticks::default();
        ticks.missed(3);
        ticks.forget();
        assert!(!ticks.take_due(true, 0));
        assert_eq!(ticks.counters().dropped, 3);
    }
}
