//! The 8254 programmable interval timer: three counters behind ports 40–43.
//!
//! Counter 0 drives interrupt request line 0, counter 1 once refreshed memory, counter 2 drives the speaker and can be gated and
//! seen through port 61.

use super::pit_channel::{Access, Channel, Mode};

/// The clock of all three counters: a twelfth of 14.31818 MHz.
pub const FREQUENCY_HZ: u64 = 1_193_182;

const NS_PER_S: u128 = 1_000_000_000;

/// Timer ticks since power-on after `now_ns` nanoseconds, rounded down.
pub fn ticks_at(now_ns: u64) -> u64 {
    (u128::from(now_ns) * u128::from(FREQUENCY_HZ) / NS_PER_S) as u64
}

/// The first nanosecond at which [`ticks_at`] says `ticks`.
pub fn ns_at(ticks: u64) -> u64 {
    (u128::from(ticks) * NS_PER_S).div_ceil(u128::from(FREQUENCY_HZ)) as u64
}

/// The timer.
#[derive(Debug)]
pub struct Pit {
    channels: [Channel; 3],
    /// Rising edges of counter 0 were counted up to this tick.
    counted_to: u64,
    /// Edges that a write caused by itself (an output that a control word made high).
    extra_edges: u64,
}

impl Pit {
    /// The timer after power-on: nothing counts until the guest programs it.
    pub fn new() -> Self {
        Pit { channels: [Channel::new(true), Channel::new(true), Channel::new(false)], counted_to: 0, extra_edges: 0 }
    }

    /// Reads port 40–43.
    pub fn read(&mut self, port: u16, now_ns: u64) -> u8 {
        let now = ticks_at(now_ns);
        self.bank_edges(now);
        match self.channels.get_mut(usize::from(port & 3)) {
            Some(channel) => channel.read(now),
            // The control word register cannot be read.
            None => super::OPEN_BUS,
        }
    }

    /// Writes port 40–43. Returns whether counter 0 was programmed anew, so that missed ticks of the old programme are void.
    pub fn write(&mut self, port: u16, value: u8, now_ns: u64) -> bool {
        let now = ticks_at(now_ns);
        let index = port & 3;
        self.bank_edges(now);
        if index == 3 {
            return self.write_control(value, now);
        }
        if let Some(channel) = self.channels.get_mut(usize::from(index)) {
            let was_high = channel.output(now);
            channel.write_count(value, now);
            if index == 0 && !was_high && channel.output(now) {
                self.extra_edges += 1;
            }
        }
        false
    }

    /// Interrupt edges of counter 0 since the last call.
    pub fn take_irq_edges(&mut self, now_ns: u64) -> u64 {
        self.bank_edges(ticks_at(now_ns));
        std::mem::take(&mut self.extra_edges)
    }

    /// When counter 0 will next raise its line, in nanoseconds.
    pub fn next_irq_edge_ns(&mut self, now_ns: u64) -> Option<u64> {
        let now = ticks_at(now_ns);
        self.bank_edges(now);
        let [irq, _, _] = &mut self.channels;
        irq.next_rising_edge(now).map(ns_at)
    }

    /// How long counter 0's period is, in nanoseconds, if it has one.
    pub fn irq_period_ns(&self) -> Option<u64> {
        let [irq, _, _] = &self.channels;
        irq.period().map(ns_at)
    }

    /// Gates counter 2 (port 61 bit 0).
    pub fn set_speaker_gate(&mut self, high: bool, now_ns: u64) {
        let [_, _, speaker] = &mut self.channels;
        speaker.set_gate(high, ticks_at(now_ns));
    }

    /// Counter 2's output (port 61 bit 5).
    pub fn speaker_output(&mut self, now_ns: u64) -> bool {
        let [_, _, speaker] = &mut self.channels;
        speaker.output(ticks_at(now_ns))
    }

    /// Counts the edges so far. Whatever looks at or changes a counter does this first: a counter takes over a new period as soon
    /// as it is looked at, and edges of the old one could no longer be told.
    fn bank_edges(&mut self, now: u64) {
        if now <= self.counted_to {
            return;
        }
        let [irq, _, _] = &mut self.channels;
        self.extra_edges += irq.rising_edges(self.counted_to, now);
        self.counted_to = now;
    }

    fn write_control(&mut self, value: u8, now: u64) -> bool {
        let select = value >> 6;
        if select == 3 {
            self.read_back(value, now);
            return false;
        }
        let access = match value >> 4 & 3 {
            0 => {
                if let Some(channel) = self.channels.get_mut(usize::from(select)) {
                    channel.latch_count(now);
                }
                return false;
            }
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        if let Some(channel) = self.channels.get_mut(usize::from(select)) {
            let was_high = channel.output(now);
            channel.write_control(Mode::from_bits(value >> 1), access, value & 1 != 0);
            if select == 0 && !was_high && channel.output(now) {
                self.extra_edges += 1;
            }
        }
        select == 0
    }

    /// The read-back command: bits 5 and 4 low latch count and status of the counters in bits 3–1.
    fn read_back(&mut self, value: u8, now: u64) {
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if value & (2 << index) == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                channel.latch_count(now);
            }
            if value & 0x10 == 0 {
                channel.latch_status(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Linux's periodic programme: mode 2, HZ = 250.
    fn periodic() -> Pit {
        let mut pit = Pit::new();
        assert!(pit.write(0x43, 0x34, 0));
        for byte in 4773u16.to_le_bytes() {
            pit.write(0x40, byte, 0);
        }
        pit
    }

    #[test]
    fn ticks_and_nanoseconds_agree() {
        for ticks in [0, 1, 2, 1_193_181, 1_193_182, 987_654_321] {
            assert_eq!(ticks_at(ns_at(ticks)), ticks);
            assert_eq!(ticks_at(ns_at(ticks + 1) - 1), ticks);
        }
        assert_eq!(ticks_at(SECOND), FREQUENCY_HZ);
    }

    #[test]
    fn a_second_holds_250_ticks() {
        let mut pit = periodic();
        // The output went from low (mode 0) to high (mode 2) when it was programmed.
        assert_eq!(pit.take_irq_edges(0), 1);
        assert_eq!(pit.take_irq_edges(SECOND), 249);
        assert_eq!(pit.take_irq_edges(2 * SECOND), 250);
        assert_eq!(pit.take_irq_edges(2 * SECOND), 0);
    }

    #[test]
    fn the_announced_edge_comes_when_announced() {
        let mut pit = periodic();
        pit.take_irq_edges(0);
        let at = pit.next_irq_edge_ns(0).unwrap();
        assert_eq!(pit.take_irq_edges(at - 1), 0);
        assert_eq!(pit.take_irq_edges(at), 1);
    }

    #[test]
    fn one_shot_programmes_give_one_edge_each() {
        let mut pit = Pit::new();
        pit.write(0x43, 0x38, 0);
        pit.take_irq_edges(0);
        for start in [1000, 2_000_000, 5_000_000] {
            pit.write(0x40, 0xE8, start);
            pit.write(0x40, 0x03, start);
            assert_eq!(pit.take_irq_edges(start), 0);
            assert_eq!(pit.take_irq_edges(start + 900_000), 1);
            assert_eq!(pit.next_irq_edge_ns(start + 900_000), None);
        }
    }

    #[test]
    fn a_clock_that_steps_back_counts_nothing_twice() {
        let mut pit = periodic();
        pit.take_irq_edges(0);
        assert_eq!(pit.take_irq_edges(9_000_000), 2);
        assert_eq!(pit.take_irq_edges(5_000_000), 0);
        assert_eq!(pit.take_irq_edges(9_000_000), 0);
    }

    #[test]
    fn the_speaker_counter_serves_tsc_calibration() {
        // Gate on, mode 0, 50 ms: bit 5 of port 61 must rise after just that time.
        let mut pit = Pit::new();
        pit.set_speaker_gate(true, 0);
        pit.write(0x43, 0xB0, 0);
        for byte in 59_659u16.to_le_bytes() {
            pit.write(0x42, byte, 0);
        }
        assert!(!pit.speaker_output(49_999_000));
        assert!(pit.speaker_output(50_001_000));
    }

    #[test]
    fn read_back_latches_status_then_count() {
        let mut pit = periodic();
        pit.write(0x43, 0xC2, 0);
        assert_eq!(pit.read(0x40, 0), 0b1011_0100);
        assert_eq!(pit.read(0x40, SECOND), (4773u16 & 0xFF) as u8);
        assert_eq!(pit.read(0x40, SECOND), (4773u16 >> 8) as u8);
    }
}
