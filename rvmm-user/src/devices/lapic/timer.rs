//! The local APIC's timer (Intel SDM volume 3, section 11.5.4): it counts down from the initial count at the bus clock, divided.

/// The bus clock. QEMU's machine has the same one, and kernels that do not measure it (xv6) count on it.
pub const FREQUENCY_HZ: u64 = 1_000_000_000;
/// Nanoseconds of a count that is not divided.
const NS_PER_COUNT: u64 = 1_000_000_000 / FREQUENCY_HZ;
/// A host is not asked for periodic expiries at shorter distances; those in between would be one interrupt anyway.
const SHORTEST_WAIT_NS: u64 = 50_000;

/// The counter. What an expiry does is the local vector table's.
#[derive(Clone, Debug)]
pub struct Timer {
    initial: u32,
    /// Divide configuration register.
    divide: u32,
    periodic: bool,
    /// When the counter was loaded with `from`; without, it stands still.
    running: Option<Run>,
}

/// A countdown.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Its beginning.
    since_ns: u64,
    /// The count then.
    from: u32,
}

impl Timer {
    /// After a reset.
    pub fn new() -> Timer {
        Timer { initial: 0, divide: 0, periodic: false, running: None }
    }

    /// The initial count register.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// The divide configuration register.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the initial count, which starts the counter; 0 stops it.
    pub fn write_initial(&mut self, count: u32, now_ns: u64) {
        self.initial = count;
        self.running = (count != 0).then_some(Run { since_ns: now_ns, from: count });
    }

    /// Writes the divide configuration: the counter goes on from where it is. Expiries until now must have been taken.
    pub fn write_divide(&mut self, value: u32, now_ns: u64) {
        let count = self.current(now_ns);
        self.divide = value & 0xB;
        if self.running.is_some() {
            self.running = Some(Run { since_ns: now_ns, from: count });
        }
    }

    /// Whether the counter starts again by itself at zero. Expiries until now must have been taken.
    pub fn set_periodic(&mut self, periodic: bool) {
        self.periodic = periodic;
    }

    /// The current count register. Expiries until now must have been taken.
    pub fn current(&self, now_ns: u64) -> u32 {
        let Some(run) = self.running else { return 0 };
        let counted = now_ns.saturating_sub(run.since_ns) / self.step_ns();
        u32::try_from(u64::from(run.from).saturating_sub(counted)).unwrap_or(u32::MAX)
    }

    /// Whether the counter came to zero since the last call.
    pub fn take_expiry(&mut self, now_ns: u64) -> bool {
        let Some(due) = self.due_ns() else { return false };
        if now_ns < due {
            return false;
        }
        self.running = self.periodic.then(|| {
            let period = u64::from(self.initial) * self.step_ns();
            let late = (now_ns - due).checked_rem(period).unwrap_or(0);
            Run { since_ns: now_ns - late, from: self.initial }
        });
        true
    }

    /// When the counter should be looked at next.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        let due = self.due_ns()?;
        Some(if self.periodic { due.max(now_ns.saturating_add(SHORTEST_WAIT_NS)) } else { due })
    }

    fn due_ns(&self) -> Option<u64> {
        let run = self.running?;
        Some(run.since_ns.saturating_add(u64::from(run.from) * self.step_ns()))
    }

    /// Nanoseconds of a count: the clock divided by 2, 4, … 128, or with 1011 by 1 (figure 11-10).
    fn step_ns(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        NS_PER_COUNT << ((code + 1) & 7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_countdown_ends_at_zero() {
        let mut timer = Timer::new();
        timer.write_divide(0xB, 0);
        timer.write_initial(1000, 500);
        assert_eq!((timer.current(500), timer.current(501), timer.next_event_ns(600)), (1000, 999, Some(1500)));
        assert!(!timer.take_expiry(1499));
        assert!(timer.take_expiry(1500));
        assert!(!timer.take_expiry(9999));
        assert_eq!((timer.current(9999), timer.initial(), timer.next_event_ns(9999)), (0, 1000, None));
    }

    #[test]
    fn a_periodic_one_keeps_its_beat_when_it_is_looked_at_late() {
        let mut timer = Timer::new();
        timer.set_periodic(true);
        timer.write_initial(1_000_000, 0);
        assert_eq!(timer.next_event_ns(0), Some(2_000_000), "divided by two after a reset");
        assert!(timer.take_expiry(5_500_000));
        assert_eq!(timer.next_event_ns(5_500_000), Some(6_000_000));
        assert_eq!(timer.current(5_500_000), 250_000);
        timer.write_initial(0, 5_600_000);
        assert_eq!((timer.next_event_ns(5_600_000), timer.current(5_600_000)), (None, 0));
    }

    #[test]
    fn the_clock_is_divided_as_the_register_says() {
        let divisors = [0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010, 0b1011].map(|code| {
            let mut timer = Timer::new();
            timer.write_divide(code, 0);
            timer.step_ns()
        });
        assert_eq!(divisors, [2, 4, 8, 16, 32, 64, 128, 1]);
    }

    #[test]
    fn a_new_divisor_counts_from_where_the_counter_is() {
        let mut timer = Timer::new();
        timer.write_divide(0xB, 0);
        timer.write_initial(1000, 0);
        timer.write_divide(0x3, 400);
        assert_eq!((timer.current(400), timer.current(400 + 16 * 100)), (600, 500));
        assert_eq!(timer.next_event_ns(400), Some(400 + 16 * 600));
    }

    proptest! {
        #[test]
        fn any_programme_is_served(
            steps in proptest::collection::vec((0u8..4, any::<u32>(), 0u64..1 << 40), 0..60)
        ) {
            let mut timer = Timer::new();
            let mut now = 0u64;
            for (what, value, later) in steps {
                now += later;
                timer.take_expiry(now);
                match what {
                    0 => timer.write_initial(value, now),
                    1 => timer.write_divide(value, now),
                    2 => timer.set_periodic(value & 1 != 0),
                    _ => {}
                }
                prop_assert!(timer.current(now) <= timer.initial());
                prop_assert!(timer.next_event_ns(now).is_none_or(|at| at >= now));
            }
        }

        #[test]
        fn the_count_falls_one_by_one(count in 1u32.., divide in 0u32..16, at in 0u64..1 << 40) {
            let mut timer = Timer::new();
            timer.write_divide(divide, 0);
            timer.write_initial(count, 0);
            let step = timer.step_ns();
            let expected = u64::from(count).saturating_sub(at / step);
            if !timer.take_expiry(at) {
                prop_assert_eq!(u64::from(timer.current(at)), expected);
            } else {
                prop_assert_eq!(expected, 0);
            }
        }
    }
}
