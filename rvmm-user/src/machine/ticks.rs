//! Timer ticks that the guest could not take in time.
//!
//! A request line remembers one edge. When the guest was kept from running (the host was busy, or the guest runs slowly), the edges
//! that came meanwhile would be lost and its clock would go slow. They are counted instead, and each is put on the line as soon as the
//! one before has been taken, up to a bound.
//!
//! A guest whose tick handler takes longer than a tick (under verification it may) would then do nothing else. So while ticks worth a tenth of a
//! second wait, the next is not delivered before as much time has passed since the end of the last handler as that took: half of the time
//! stays the guest's own. A guest that idles need not wait for that.
//!
//! Nor does a slow timer run more than twice as fast for a guest that catches up: what counts ticks for a time limit (a BIOS that waits two
//! seconds for a diskette, which takes its time whatever the guest has missed) must not see them fly by, and a program that counts the ticks during
//! which it ran (Pintos' tests of its scheduler, at 100 Hz) must run between any two. Fast ticks are not spaced, nor
//! held back when a few are missing: a kernel that measures its ticks by the time stamp counter, which goes on while the guest cannot, finds them
//! all there when it looks (Linux's check of its I/O APIC wants five in 40 ms, and panics). Of a slow timer, a second is kept, as of Linux's.

/// Missed ticks beyond this are dropped: one second of Linux's HZ=250.
pub const MAX_BACKLOG: u64 = 250;

/// Missed time beyond this is dropped.
const MAX_BEHIND_NS: u64 = 1_000_000_000;

/// Waiting ticks worth so much time show that the guest cannot keep up.
const PRESSURE_NS: u64 = 100_000_000;

/// But so many at least, and no more than so many, of whatever period.
const PRESSURE: core::ops::RangeInclusive<u64> = 4..=25;

/// A timer with this period or a longer one is slow: its ticks are spaced when they come late. 100 Hz is, by whatever divisor.
const SLOW_NS: u64 = 9_900_000;

/// A handler that took longer than this was not slow but not running.
const LONGEST_PAUSE_NS: u64 = 500_000_000;

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
    /// Half a period after the last delivery, of a slow timer.
    spaced_until: u64,
    /// What the timer is programmed to, if it ticks by itself.
    period_ns: Option<u64>,
    counters: TickCounters,
}

impl Ticks {
    /// `edges` more edges came, of a timer with this period.
    pub fn came(&mut self, edges: u64, period_ns: Option<u64>) {
        self.counters.due += edges;
        self.period_ns = period_ns;
        let wanted = self.backlog.saturating_add(edges);
        let kept = period_ns.and_then(|period| MAX_BEHIND_NS.checked_div(period)).unwrap_or(MAX_BACKLOG);
        self.backlog = wanted.min(kept.clamp(1, MAX_BACKLOG));
        self.counters.dropped += wanted - self.backlog;
    }

    /// `edges` more edges came while the line was masked. Such a line remembers one, if it has none yet (`requested`), and that is what counts, also of
    /// those that waited: whoever masks the timer wants no ticks. But for a handler, which may mask it for as long as it runs: what comes then is [`Ticks::came`]'s.
    pub fn came_masked(&mut self, edges: u64, period_ns: Option<u64>, requested: bool, now_ns: u64) {
        let handling = self.handling_since.is_some_and(|since| now_ns.saturating_sub(since) < LONGEST_PAUSE_NS);
        if handling {
            return self.came(edges, period_ns);
        }
        self.period_ns = period_ns;
        self.counters.dropped += self.backlog;
        self.backlog = if requested { 0 } else { edges.min(1) };
        self.counters.due += self.backlog;
    }

    /// Whether to put a tick on the line, which must not hold one already.
    pub fn take(&mut self) -> bool {
        let any = self.backlog > 0;
        self.backlog -= u64::from(any);
        any
    }

    /// The CPU took a tick.
    pub fn delivered(&mut self, now_ns: u64) {
        self.handling_since = Some(now_ns);
        let spacing = self.period_ns.filter(|period| *period >= SLOW_NS).unwrap_or(0) / 2;
        self.spaced_until = now_ns.saturating_add(spacing);
        self.counters.delivered += 1;
    }

    /// The guest has ended the interrupt and would take another tick.
    pub fn handled(&mut self, now_ns: u64) {
        if let Some(since) = self.handling_since.take() {
            let took = now_ns.saturating_sub(since);
            self.not_before = now_ns.saturating_add(took.min(LONGEST_PAUSE_NS));
        }
    }

    /// The guest has nothing else to do.
    pub fn idle(&mut self) {
        self.not_before = 0;
    }

    /// The timer was programmed anew: what it missed before does not count any more.
    pub fn forget(&mut self) {
        self.counters.dropped += self.backlog;
        self.backlog = 0;
        self.spaced_until = 0;
    }

    /// Until when a tick on the line is kept from the CPU, if it is.
    pub fn held_back_until(&self, now_ns: u64) -> Option<u64> {
        let paused = if self.backlog >= self.pressure() { self.not_before } else { 0 };
        let until = paused.max(self.spaced_until);
        (now_ns < until).then_some(until)
    }

    /// So many waiting ticks are too many.
    fn pressure(&self) -> u64 {
        let ticks = self.period_ns.and_then(|period| PRESSURE_NS.checked_div(period)).unwrap_or(*PRESSURE.end());
        ticks.clamp(*PRESSURE.start(), *PRESSURE.end())
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
    fn a_masked_line_remembers_one_tick() {
        let mut ticks = Ticks::default();
        ticks.came_masked(100, Some(10_000_000), false, 1_000_000_000);
        assert!(ticks.take() && !ticks.take());
        ticks.came_masked(0, Some(10_000_000), false, 1_100_000_000);
        assert!(!ticks.take());
        ticks.came_masked(5, Some(10_000_000), true, 1_200_000_000);
        assert!(!ticks.take());
        assert_eq!(ticks.counters(), TickCounters { due: 1, delivered: 0, dropped: 0 });
        // A handler that masks it gets those that come meanwhile, but not for ever.
        ticks.delivered(2_000_000_000);
        ticks.came_masked(3, Some(10_000_000), false, 2_030_000_000);
        assert!(ticks.take() && ticks.take());
        ticks.came_masked(70, Some(10_000_000), false, 2_730_000_000);
        assert!(ticks.take() && !ticks.take());
        assert_eq!(ticks.counters(), TickCounters { due: 5, delivered: 1, dropped: 1 });
    }

    #[test]
    fn the_backlog_is_bounded_and_what_is_dropped_is_counted() {
        let mut ticks = Ticks::default();
        ticks.came(MAX_BACKLOG + 7, None);
        assert_eq!(ticks.counters().dropped, 7);
        let mut taken = 0;
        while ticks.take() {
            taken += 1;
        }
        assert_eq!(taken, MAX_BACKLOG);
    }

    #[test]
    fn a_slow_handler_is_given_a_pause_when_ticks_pile_up() {
        for (period, too_many) in [(None, 25), (Some(1_000_000), 25), (Some(10_000_000), 10), (Some(54_925_439), 4)] {
            let mut ticks = Ticks::default();
            ticks.came(too_many + 1, period);
            assert!(ticks.take());
            assert_eq!(ticks.held_back_until(1000), None);
            ticks.delivered(1000);
            let end = 1000 + period.unwrap_or(0);
            ticks.handled(end + 5000);
            assert_eq!(ticks.held_back_until(end + 5000), Some(2 * end + 9000), "{period:?}");
            assert_eq!(ticks.held_back_until(2 * end + 9000), None);
            assert!(ticks.take());
            let spaced = period.filter(|period| *period >= SLOW_NS).map(|period| 1000 + period / 2);
            assert_eq!(
                ticks.held_back_until(end + 5000),
                spaced.filter(|until| end + 5000 < *until),
                "no pressure any more"
            );
        }
    }

    /// It has been kept from running for 80 ms, and looks at the time stamp counter behind the first tick that it takes.
    #[test]
    fn fast_ticks_that_were_missed_come_at_once() {
        let mut ticks = Ticks::default();
        ticks.came(20, Some(4_000_000));
        for at in 0..20 {
            assert!(ticks.take());
            assert_eq!(ticks.held_back_until(at), None);
            ticks.delivered(at);
            ticks.handled(at + 1);
        }
    }

    #[test]
    fn an_idle_guest_is_not_kept_waiting_nor_a_stopped_one_for_long() {
        let mut ticks = Ticks::default();
        ticks.came(MAX_BACKLOG, None);
        ticks.delivered(0);
        ticks.handled(60_000_000_000);
        assert_eq!(ticks.held_back_until(60_000_000_000), Some(60_500_000_000));
        ticks.idle();
        assert_eq!(ticks.held_back_until(60_000_000_000), None);
    }

    #[test]
    fn a_guest_that_catches_up_sees_time_run_twice_as_fast_at_most() {
        const PERIOD: u64 = 54_925_439;
        let mut ticks = Ticks::default();
        ticks.came(1000, Some(PERIOD));
        assert_eq!(ticks.counters().dropped, 1000 - 18, "a second of a BIOS' clock");
        assert!(ticks.take());
        assert_eq!(ticks.held_back_until(5), None);
        ticks.delivered(5);
        ticks.handled(6);
        ticks.idle();
        assert_eq!(ticks.held_back_until(7), Some(5 + PERIOD / 2));
        assert_eq!(ticks.held_back_until(5 + PERIOD / 2), None);
        while ticks.take() {}
        ticks.delivered(5 + PERIOD / 2);
        assert_eq!(ticks.held_back_until(6 + PERIOD / 2), Some(5 + PERIOD / 2 * 2), "the last one, too");
        assert_eq!(ticks.held_back_until(5 + PERIOD / 2 + PERIOD), None, "what comes now is in time");
        ticks.forget();
        assert_eq!(ticks.held_back_until(6 + PERIOD / 2), None, "programmed anew");
    }

    #[test]
    fn a_guest_at_100_hz_runs_between_two_late_ticks() {
        const PERIOD: u64 = 9_999_800;
        let mut ticks = Ticks::default();
        // It was kept from running for two periods.
        ticks.came(2, Some(PERIOD));
        assert!(ticks.take());
        assert_eq!(ticks.held_back_until(0), None);
        ticks.delivered(0);
        assert!(ticks.take());
        ticks.handled(100);
        assert_eq!(ticks.held_back_until(100), Some(PERIOD / 2));
        assert_eq!(ticks.held_back_until(PERIOD / 2), None);
    }

    #[test]
    fn reprogramming_forgets() {
        let mut ticks = Ticks::default();
        ticks.came(3, None);
        ticks.forget();
        assert!(!ticks.take());
        assert_eq!(ticks.counters().dropped, 3);
    }
}
