//! For guests that are slower than their timer: a periodic one whose handler takes longer than its period would leave the guest nothing but
//! that. When this has gone on for a while, the next interrupt is kept from the CPU for as long as the last one kept the CPU: half of the time
//! is the guest's own. (For ticks of the 8254, of which none is lost: `machine/ticks.rs`.)

/// So many expiries behind one another that came before the guest was done with the one before are too many.
const PRESSURE: u32 = 10;
/// More of them than this are not counted.
const MOST: u32 = 2 * PRESSURE;
/// What kept the CPU longer than this was not slow but not running.
const LONGEST_PAUSE_NS: u64 = 500_000_000;

/// How a guest keeps up.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    behind: u32,
    /// When the CPU took the timer's interrupt, until it would take another one.
    taken_ns: Option<u64>,
    not_before_ns: u64,
}

impl Pace {
    /// The timer expired.
    pub fn expired(&mut self, now_ns: u64) {
        if self.taken_ns.is_some() {
            self.behind = MOST.min(self.behind + 1);
        } else if now_ns >= self.not_before_ns {
            self.behind = self.behind.saturating_sub(1);
        }
    }

    /// The CPU took its interrupt.
    pub fn taken(&mut self, now_ns: u64) {
        self.taken_ns = Some(now_ns);
    }

    /// The CPU would take an interrupt now.
    pub fn ready(&mut self, now_ns: u64) {
        let Some(taken_ns) = self.taken_ns.take() else { return };
        if self.behind >= PRESSURE {
            let took = now_ns.saturating_sub(taken_ns);
            self.not_before_ns = now_ns.saturating_add(took.min(LONGEST_PAUSE_NS));
        }
    }

    /// The CPU waits for an interrupt.
    pub fn idle(&mut self) {
        self.not_before_ns = 0;
    }

    /// Until when the next interrupt is kept from the CPU, if it is.
    pub fn held_until(&self, now_ns: u64) -> Option<u64> {
        (now_ns < self.not_before_ns).then_some(self.not_before_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: u64 = 10_000_000;

    /// A guest whose handler takes `handler` ns of each period, for 100 of them: for how long it had the CPU to itself.
    fn own_time(handler: u64) -> u64 {
        let mut pace = Pace::default();
        let (mut requested, mut handling, mut own, mut held) = (false, 0, 0, false);
        let step = 1_000_000;
        for now in (0..100 * PERIOD).step_by(step as usize) {
            if handling == 0 {
                pace.ready(now);
            }
            if now % PERIOD == 0 {
                pace.expired(now);
                requested = true;
            }
            held |= pace.held_until(now).is_some();
            if handling == 0 && requested && pace.held_until(now).is_none() {
                pace.taken(now);
                (requested, handling) = (false, handler);
            }
            if handling == 0 {
                own += step;
            }
            handling = handling.saturating_sub(step);
        }
        assert_eq!(held, handler > PERIOD, "{handler}");
        own
    }

    #[test]
    fn a_guest_that_keeps_up_is_left_alone() {
        assert_eq!(own_time(1_000_000), 90 * PERIOD);
        assert_eq!(own_time(9_000_000), 10 * PERIOD);
    }

    #[test]
    fn a_guest_that_does_not_has_time_of_its_own() {
        for handler in [12_000_000, 25_000_000, 100_000_000] {
            let own = own_time(handler);
            assert!((20 * PERIOD..60 * PERIOD).contains(&own), "{handler}: {own}");
        }
    }

    #[test]
    fn a_guest_that_idles_does_not_wait() {
        let mut pace = Pace { behind: MOST, taken_ns: Some(0), not_before_ns: 0 };
        pace.ready(1000);
        assert_eq!((pace.held_until(1000), pace.held_until(2000)), (Some(2000), None));
        pace.idle();
        assert_eq!(pace.held_until(1000), None);
        // Nor is it behind when the next expiry finds it waiting.
        let mut pace = Pace::default();
        for tick in 0..100 {
            let now = tick * PERIOD;
            pace.expired(now);
            pace.taken(now);
            pace.ready(now + 1000);
            pace.idle();
        }
        assert_eq!(pace.behind, 0);
    }
}
