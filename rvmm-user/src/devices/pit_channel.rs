//! One counter of the 8254 (Intel 8254 data sheet, order number 231164), in units of its own clock.
//!
//! The counter is not stepped: its value and its output are computed from the tick at which it was loaded. `now` is always in
//! ticks of 1,193,182 Hz since power-on and never goes back.

/// The six counting modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 0: the output rises when the count is done.
    TerminalCount,
    /// 1: one low pulse per rising gate.
    OneShot,
    /// 2: one low tick per period.
    RateGenerator,
    /// 3: half a period high, half low.
    SquareWave,
    /// 4: one low tick when the count is done.
    SoftwareStrobe,
    /// 5: the same, started by a rising gate.
    HardwareStrobe,
}

impl Mode {
    /// From bits 3–1 of a control word; 6 and 7 are 2 and 3.
    pub fn from_bits(bits: u8) -> Mode {
        match bits & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::RateGenerator,
            3 | 7 => Mode::SquareWave,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Mode::TerminalCount => 0,
            Mode::OneShot => 1,
            Mode::RateGenerator => 2,
            Mode::SquareWave => 3,
            Mode::SoftwareStrobe => 4,
            Mode::HardwareStrobe => 5,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Mode::RateGenerator | Mode::SquareWave)
    }

    fn is_started_by_gate(self) -> bool {
        matches!(self, Mode::OneShot | Mode::HardwareStrobe)
    }
}

/// Which bytes of the 16-bit count the guest reads and writes (control word bits 5–4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Least significant byte only.
    Low,
    /// Most significant byte only.
    High,
    /// Low byte, then high byte.
    Both,
}

/// Where the count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// A control word came, but no count (or, in modes 1 and 5, no gate edge) yet.
    Waiting,
    /// Counting since this tick.
    Since(u64),
    /// The gate stopped it after so many ticks.
    Held(u64),
}

/// A counter.
#[derive(Debug)]
pub struct Channel {
    mode: Mode,
    access: Access,
    bcd: bool,
    gate: bool,
    run: Run,
    /// The count in use, 1–65,536.
    count: u64,
    /// A count written to a running periodic counter: it takes effect at the end of the period.
    next_count: Option<u64>,
    /// The count register was written and not yet loaded (status bit 6).
    null_count: bool,
    pending_low: Option<u8>,
    read_high_next: bool,
    latched: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    /// A counter after power-on, when its mode is not defined; it counts nothing.
    pub fn new(gate: bool) -> Self {
        Channel {
            mode: Mode::TerminalCount,
            access: Access::Both,
            bcd: false,
            gate,
            run: Run::Waiting,
            count: 0x1_0000,
            next_count: None,
            null_count: true,
            pending_low: None,
            read_high_next: false,
            latched: None,
            latched_status: None,
        }
    }

    /// A control word with an access field other than "latch".
    pub fn write_control(&mut self, mode: Mode, access: Access, bcd: bool) {
        self.mode = mode;
        self.access = access;
        self.bcd = bcd;
        self.run = Run::Waiting;
        self.next_count = None;
        self.null_count = true;
        self.pending_low = None;
        self.read_high_next = false;
        self.latched = None;
        self.latched_status = None;
    }

    /// Writes one byte of the count.
    pub fn write_count(&mut self, value: u8, now: u64) {
        let raw = match self.access {
            Access::Low => u16::from(value),
            Access::High => u16::from(value) << 8,
            Access::Both => match self.pending_low.take() {
                None => {
                    self.pending_low = Some(value);
                    if self.mode == Mode::TerminalCount {
                        // The first byte stops the count (data sheet, mode 0).
                        self.run = Run::Waiting;
                    }
                    return;
                }
                Some(low) => u16::from_le_bytes([low, value]),
            },
        };
        let count = self.decode_count(raw);
        self.null_count = true;
        if self.mode.is_started_by_gate() {
            // Loaded by the next gate edge.
            self.next_count = Some(count);
        } else if self.mode.is_periodic() && self.run != Run::Waiting {
            self.next_count = Some(count);
        } else {
            self.count = count;
            self.null_count = false;
            self.run = if self.gate { Run::Since(now) } else { Run::Held(0) };
        }
    }

    /// Reads one byte: latched status, latched count, or the running count.
    pub fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = self.latched.unwrap_or_else(|| self.encoded_value(now));
        let [low, high] = value.to_le_bytes();
        match self.access {
            Access::Low => {
                self.latched = None;
                low
            }
            Access::High => {
                self.latched = None;
                high
            }
            Access::Both if self.read_high_next => {
                self.read_high_next = false;
                self.latched = None;
                high
            }
            Access::Both => {
                self.read_high_next = true;
                low
            }
        }
    }

    /// Latches the count; ignored while an earlier one is unread.
    pub fn latch_count(&mut self, now: u64) {
        if self.latched.is_none() {
            self.latched = Some(self.encoded_value(now));
        }
    }

    /// Latches the status byte; ignored while an earlier one is unread.
    pub fn latch_status(&mut self, now: u64) {
        if self.latched_status.is_some() {
            return;
        }
        self.settle(now);
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Both => 3,
        };
        self.latched_status = Some(
            u8::from(self.output(now)) << 7
                | u8::from(self.null_count) << 6
                | access << 4
                | self.mode.bits() << 1
                | u8::from(self.bcd),
        );
    }

    /// Drives the gate input.
    pub fn set_gate(&mut self, high: bool, now: u64) {
        self.settle(now);
        let rising = high && !self.gate;
        self.gate = high;
        if rising {
            if self.mode.is_started_by_gate() {
                if let Some(count) = self.next_count.take() {
                    self.count = count;
                    self.null_count = false;
                    self.run = Run::Since(now);
                } else if self.run != Run::Waiting {
                    self.run = Run::Since(now);
                }
            } else if self.mode.is_periodic() && self.run != Run::Waiting {
                self.load_next();
                self.run = Run::Since(now);
            } else if let Run::Held(done) = self.run {
                self.run = Run::Since(now.saturating_sub(done));
            }
        } else if !high && !self.mode.is_started_by_gate() {
            if let Run::Since(start) = self.run {
                self.run = Run::Held(now.saturating_sub(start));
            }
        }
    }

    /// The level of the output at `now`.
    pub fn output(&mut self, now: u64) -> bool {
        self.settle(now);
        let elapsed = match self.run {
            Run::Waiting => return self.mode != Mode::TerminalCount,
            Run::Since(start) => now.saturating_sub(start),
            // A low gate forces a periodic output high.
            Run::Held(_) if self.mode.is_periodic() => return true,
            Run::Held(done) => done,
        };
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => elapsed >= self.count,
            Mode::RateGenerator => elapsed % self.count != self.count - 1,
            Mode::SquareWave => elapsed % self.count < self.count.div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != self.count,
        }
    }

    /// How often the output rose after tick `from`, up to and including tick `to`. The mode and the count did not change between.
    pub fn rising_edges(&mut self, from: u64, to: u64) -> u64 {
        let mut edges = 0;
        // A count waiting for the end of the period changes the period on the way.
        if let (Run::Since(start), Some(_), true) = (self.run, self.next_count, self.mode.is_periodic()) {
            let boundary = self.period_end(start, from);
            if boundary > to {
                return 0;
            }
            edges += 1;
            self.settle(boundary);
            return edges + self.rising_edges(boundary, to);
        }
        let Run::Since(start) = self.run else {
            return 0;
        };
        let (from, to) = (from.saturating_sub(start), to.saturating_sub(start));
        edges
            + match self.mode {
                Mode::TerminalCount | Mode::OneShot => u64::from(from < self.count && self.count <= to),
                Mode::RateGenerator | Mode::SquareWave => to / self.count - from / self.count,
                Mode::SoftwareStrobe | Mode::HardwareStrobe => u64::from(from < self.count + 1 && self.count < to),
            }
    }

    /// The tick of the next rising edge after `now`, if one is to come.
    pub fn next_rising_edge(&mut self, now: u64) -> Option<u64> {
        self.settle(now);
        let Run::Since(start) = self.run else {
            return None;
        };
        let done = start + self.count;
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => (done > now).then_some(done),
            Mode::RateGenerator | Mode::SquareWave => Some(self.period_end(start, now)),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => (done + 1 > now).then_some(done + 1),
        }
    }

    /// How many ticks apart its edges are, if they come by themselves.
    pub fn period(&self) -> Option<u64> {
        (self.mode.is_periodic() && matches!(self.run, Run::Since(_))).then_some(self.count)
    }

    /// The first end of a period after `now`.
    fn period_end(&self, start: u64, now: u64) -> u64 {
        start + (now.saturating_sub(start) / self.count + 1) * self.count
    }

    /// Takes over a waiting count if the period in which it was written is over.
    fn settle(&mut self, now: u64) {
        if self.next_count.is_none() || !self.mode.is_periodic() {
            return;
        }
        let Run::Since(start) = self.run else {
            return;
        };
        let elapsed = now.saturating_sub(start);
        if elapsed >= self.count {
            // Without a note of when it was written, the last whole period is the one that ended.
            self.run = Run::Since(start + elapsed / self.count * self.count);
            self.load_next();
        }
    }

    fn load_next(&mut self) {
        if let Some(count) = self.next_count.take() {
            self.count = count;
        }
        self.null_count = false;
    }

    /// The counting element's value as the guest reads it.
    fn encoded_value(&mut self, now: u64) -> u16 {
        self.settle(now);
        let elapsed = match self.run {
            Run::Waiting => 0,
            Run::Since(start) => now.saturating_sub(start),
            Run::Held(done) => done,
        };
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            Mode::RateGenerator => self.count - elapsed % self.count,
            // It steps by two and reloads every half period.
            Mode::SquareWave => {
                let even = self.count & !1;
                if even == 0 {
                    self.count
                } else {
                    even - (2 * elapsed) % even
                }
            }
            // After the terminal count it goes on from the top of its range.
            _ => (self.count % modulus + modulus - elapsed % modulus) % modulus,
        } % modulus;
        if self.bcd {
            let digit = |power: u64| (value / power % 10) as u16;
            digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
        } else {
            value as u16
        }
    }

    /// Zero stands for the largest count; counts of 1 are illegal in modes 2 and 3 and are taken as 2.
    fn decode_count(&self, raw: u16) -> u64 {
        let (value, full) = if self.bcd {
            let digit = |shift: u32| u64::from(raw >> shift & 0xF);
            (digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0), 10_000)
        } else {
            (u64::from(raw), 0x1_0000)
        };
        match value {
            0 => full,
            1 if self.mode.is_periodic() => 2,
            other => other.min(full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(mode: Mode, count: u16, now: u64) -> Channel {
        let mut channel = Channel::new(true);
        channel.write_control(mode, Access::Both, false);
        let [low, high] = count.to_le_bytes();
        channel.write_count(low, now);
        channel.write_count(high, now);
        channel
    }

    fn value(channel: &mut Channel, now: u64) -> u16 {
        let low = channel.read(now);
        u16::from_le_bytes([low, channel.read(now)])
    }

    #[test]
    fn mode_0_rises_once_at_the_terminal_count_and_counts_on() {
        let mut channel = loaded(Mode::TerminalCount, 100, 1000);
        assert!(!channel.output(1099));
        assert!(channel.output(1100));
        assert_eq!(channel.rising_edges(1000, 1099), 0);
        assert_eq!(channel.rising_edges(1099, 5000), 1);
        assert_eq!(channel.rising_edges(1100, 5000), 0);
        assert_eq!(channel.next_rising_edge(1000), Some(1100));
        assert_eq!(channel.next_rising_edge(1100), None);
        assert_eq!(value(&mut channel, 1040), 60);
        assert_eq!(value(&mut channel, 1101), 0xFFFF);
    }

    #[test]
    fn mode_2_rises_once_per_period() {
        let mut channel = loaded(Mode::RateGenerator, 10, 0);
        assert_eq!(channel.rising_edges(0, 100), 10);
        assert_eq!(channel.rising_edges(9, 10), 1);
        assert_eq!(channel.rising_edges(10, 19), 0);
        assert_eq!(channel.next_rising_edge(10), Some(20));
        assert!(channel.output(8));
        assert!(!channel.output(9));
        assert!(channel.output(10));
        assert_eq!(value(&mut channel, 3), 7);
        assert_eq!(value(&mut channel, 13), 7);
    }

    #[test]
    fn mode_3_is_high_for_the_longer_half_and_counts_by_twos() {
        let mut channel = loaded(Mode::SquareWave, 5, 0);
        let levels: Vec<bool> = (0..5).map(|now| channel.output(now)).collect();
        assert_eq!(levels, [true, true, true, false, false]);
        let mut even = loaded(Mode::SquareWave, 100, 0);
        assert_eq!(value(&mut even, 10), 80);
        assert_eq!(value(&mut even, 60), 80);
    }

    #[test]
    fn mode_4_strobes_low_for_one_tick() {
        let mut channel = loaded(Mode::SoftwareStrobe, 50, 0);
        assert!(channel.output(49));
        assert!(!channel.output(50));
        assert!(channel.output(51));
        assert_eq!(channel.next_rising_edge(0), Some(51));
        assert_eq!(channel.rising_edges(0, 50), 0);
        assert_eq!(channel.rising_edges(50, 51), 1);
    }

    #[test]
    fn modes_1_and_5_wait_for_the_gate() {
        let mut channel = Channel::new(false);
        channel.write_control(Mode::OneShot, Access::Low, false);
        channel.write_count(20, 0);
        assert!(channel.output(100));
        channel.set_gate(true, 200);
        assert!(!channel.output(219));
        assert!(channel.output(220));
        channel.set_gate(false, 230);
        channel.set_gate(true, 300);
        assert!(!channel.output(301), "a second edge starts it again");
    }

    #[test]
    fn a_low_gate_holds_the_count() {
        let mut channel = loaded(Mode::TerminalCount, 100, 0);
        channel.set_gate(false, 30);
        assert_eq!(value(&mut channel, 500), 70);
        channel.set_gate(true, 1000);
        assert_eq!(value(&mut channel, 1010), 60);
        assert_eq!(channel.next_rising_edge(1010), Some(1070));
    }

    #[test]
    fn a_count_written_to_a_running_rate_generator_waits_for_the_period() {
        let mut channel = loaded(Mode::RateGenerator, 100, 0);
        channel.write_count(50, 30);
        channel.write_count(0, 30);
        assert_eq!(value(&mut channel, 40), 60);
        assert_eq!(channel.next_rising_edge(40), Some(100));
        assert_eq!(channel.rising_edges(40, 200), 3);
        assert_eq!(channel.next_rising_edge(200), Some(250));
    }

    #[test]
    fn the_latch_holds_until_both_bytes_are_read() {
        let mut channel = loaded(Mode::RateGenerator, 0x1000, 0);
        channel.latch_count(1);
        channel.latch_count(0x500);
        assert_eq!(value(&mut channel, 0x600), 0x0FFF);
        assert_eq!(value(&mut channel, 0x600), 0x0A00);
    }

    #[test]
    fn status_tells_output_null_count_access_and_mode() {
        let mut channel = Channel::new(true);
        channel.write_control(Mode::RateGenerator, Access::Both, false);
        channel.latch_status(0);
        assert_eq!(channel.read(0), 0b1111_0100);
        channel.write_count(10, 0);
        channel.write_count(0, 0);
        channel.latch_status(1);
        assert_eq!(channel.read(1), 0b1011_0100);
    }

    #[test]
    fn zero_is_the_largest_count_and_bcd_counts_in_decimal() {
        let mut channel = loaded(Mode::RateGenerator, 0, 0);
        assert_eq!(channel.next_rising_edge(0), Some(0x1_0000));
        let mut decimal = Channel::new(true);
        decimal.write_control(Mode::TerminalCount, Access::Both, true);
        decimal.write_count(0x34, 0);
        decimal.write_count(0x12, 0);
        assert_eq!(value(&mut decimal, 35), 0x1199);
    }

    #[test]
    fn the_first_byte_of_a_mode_0_count_stops_it() {
        let mut channel = loaded(Mode::TerminalCount, 10, 0);
        channel.write_count(5, 3);
        assert_eq!(channel.next_rising_edge(4), None);
        assert!(!channel.output(100));
    }
}
