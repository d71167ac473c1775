//! The MC146818A real-time clock and its battery-backed memory behind ports 70 and 71 (Motorola data sheet ADI856R2).
//!
//! Time is kept as a difference to the host's; the three interrupt sources are computed from the time that passed, not stepped.

use super::rtc_time::{from_unix, to_unix, Encoding, Fields};

const SECOND_NS: u64 = 1_000_000_000;
/// Register A's UIP rises so long before the registers change.
const UPDATE_NOTICE_NS: u64 = 244_000;

const REG_A: u8 = 0x0A;
const REG_B: u8 = 0x0B;
const REG_C: u8 = 0x0C;
const REG_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;

const A_UIP: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_SQUARE_WAVE: u8 = 0x08;
const B_BINARY: u8 = 0x04;
const B_HOURS_24: u8 = 0x02;
/// Interrupt enables of register B and flags of register C share their bits: periodic, alarm, update ended.
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;
const C_IRQ: u8 = 0x80;
const D_VALID: u8 = 0x80;

/// Alarm registers of C0–FF match any value.
const ANY: u8 = 0xC0;

/// The clock and its memory.
#[derive(Debug)]
pub struct Rtc {
    index: u8,
    memory: [u8; 128],
    /// Guest time at power-on, nanoseconds after 1970. 64 bits would end in 2262, and the guest may set any year.
    base_unix_ns: i128,
    /// The registers while the guest holds the clock still with register B's SET.
    held: Option<Fields>,
    flags: u8,
    /// The flags are complete up to this moment.
    flagged_to_ns: u64,
}

impl Rtc {
    /// A clock that shows `unix_ns` (nanoseconds after 1970) at power-on, in a machine with `memory_bytes` of memory.
    pub fn new(unix_ns: i64, memory_bytes: u64) -> Self {
        let mut memory = [0u8; 128];
        let mut put = |index: usize, value: u64, bytes: usize| {
            for (slot, byte) in memory.iter_mut().skip(index).take(bytes).zip(value.to_le_bytes()) {
                *slot = byte;
            }
        };
        put(usize::from(REG_A), 0x26, 1);
        put(usize::from(REG_B), u64::from(B_HOURS_24), 1);
        // Equipment: a mathematics coprocessor, no diskette drive, no display adapter of its own.
        put(0x14, 0x02, 1);
        put(0x15, 640, 2);
        let extended_kib = (memory_bytes >> 10).saturating_sub(1024).min(0xFFFF);
        put(0x17, extended_kib, 2);
        put(0x30, extended_kib, 2);
        let above_16_mib = memory_bytes.saturating_sub(16 << 20) >> 16;
        put(0x34, above_16_mib.min(0xFFFF), 2);
        Rtc { index: REG_D, memory, base_unix_ns: unix_ns.into(), held: None, flags: 0, flagged_to_ns: 0 }
    }

    /// Gives a byte of the battery-backed memory (0E–7F) its value, as a set-up program would.
    pub fn set_up(&mut self, index: u8, value: u8) {
        if index > REG_D && index < 0x80 {
            self.set_register(index, value);
        }
    }

    /// The RESET pin: interrupts are off, their flags and the square wave's enable are cleared; the clock and the memory stay.
    pub fn reset(&mut self, now_ns: u64) {
        self.update_flags(now_ns);
        self.flags = 0;
        let kept = self.register(REG_B) & !(PERIODIC | ALARM | UPDATE | B_SQUARE_WAVE);
        self.set_register(REG_B, kept);
    }

    /// Writes port 70: selects a register. Bit 7 masks NMI on a PC; there is no source of NMI here.
    pub fn write_index(&mut self, value: u8) {
        self.index = value & 0x7F;
    }

    /// Reads port 71.
    pub fn read_data(&mut self, now_ns: u64) -> u8 {
        self.update_flags(now_ns);
        match self.index {
            REG_A => {
                let uip = self.held.is_none() && self.since_second(now_ns) >= SECOND_NS - UPDATE_NOTICE_NS;
                self.register(REG_A) & !A_UIP | if uip { A_UIP } else { 0 }
            }
            REG_C => {
                let irq = if self.irq_line() { C_IRQ } else { 0 };
                std::mem::take(&mut self.flags) | irq
            }
            REG_D => D_VALID,
            index => {
                let fields = self.fields(now_ns);
                let encoding = self.encoding();
                match index {
                    0x00 => encoding.encode(fields.second),
                    0x02 => encoding.encode(fields.minute),
                    0x04 => encoding.encode_hour(fields.hour),
                    0x06 => encoding.encode(fields.weekday),
                    0x07 => encoding.encode(fields.day),
                    0x08 => encoding.encode(fields.month),
                    0x09 => encoding.encode((fields.year % 100) as u8),
                    CENTURY => encoding.encode((fields.year / 100) as u8),
                    other => self.register(other),
                }
            }
        }
    }

    /// Writes port 71.
    pub fn write_data(&mut self, value: u8, now_ns: u64) {
        self.update_flags(now_ns);
        match self.index {
            0x00 | 0x02 | 0x04 | 0x06..=0x09 | CENTURY => self.write_time(value, now_ns),
            REG_A => self.set_register(REG_A, value & !A_UIP),
            REG_B => self.write_b(value, now_ns),
            REG_C | REG_D => {}
            index => self.set_register(index, value),
        }
    }

    /// The level of interrupt request line 8.
    pub fn irq_line(&self) -> bool {
        self.flags & self.register(REG_B) & (PERIODIC | ALARM | UPDATE) != 0
    }

    /// Brings the interrupt flags up to `now_ns`.
    pub fn update_flags(&mut self, now_ns: u64) {
        let from = self.flagged_to_ns;
        if now_ns <= from {
            return;
        }
        self.flagged_to_ns = now_ns;
        if let Some(period) = self.period_ns() {
            if now_ns / period != from / period {
                self.flags |= PERIODIC;
            }
        }
        if self.held.is_some() {
            return;
        }
        let (first, last) = (self.unix_s(from) + 1, self.unix_s(now_ns));
        if first > last {
            return;
        }
        self.flags |= UPDATE;
        // More than a day covers every alarm.
        let first = first.max(last - 86_400);
        if (first..=last).any(|second| self.alarm_matches(&from_unix(second))) {
            self.flags |= ALARM;
        }
    }

    /// When an enabled source may next raise the line, in nanoseconds.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        let enabled = self.register(REG_B);
        let periodic =
            self.period_ns().filter(|_| enabled & PERIODIC != 0).map(|period| (now_ns / period + 1) * period);
        let second = (enabled & (ALARM | UPDATE) != 0 && self.held.is_none())
            .then(|| now_ns + (SECOND_NS - self.since_second(now_ns)));
        match (periodic, second) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn register(&self, index: u8) -> u8 {
        self.memory.get(usize::from(index)).copied().unwrap_or(super::OPEN_BUS)
    }

    fn set_register(&mut self, index: u8, value: u8) {
        if let Some(slot) = self.memory.get_mut(usize::from(index)) {
            *slot = value;
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding { binary: self.register(REG_B) & B_BINARY != 0, hours_24: self.register(REG_B) & B_HOURS_24 != 0 }
    }

    fn unix_ns(&self, now_ns: u64) -> i128 {
        self.base_unix_ns + i128::from(now_ns)
    }

    /// Whole seconds after 1970.
    fn unix_s(&self, now_ns: u64) -> i64 {
        self.unix_ns(now_ns).div_euclid(SECOND_NS.into()) as i64
    }

    /// Nanoseconds since the last whole second.
    fn since_second(&self, now_ns: u64) -> u64 {
        self.unix_ns(now_ns).rem_euclid(SECOND_NS.into()) as u64
    }

    fn fields(&self, now_ns: u64) -> Fields {
        self.held.unwrap_or_else(|| from_unix(self.unix_s(now_ns)))
    }

    fn write_time(&mut self, value: u8, now_ns: u64) {
        let mut fields = self.fields(now_ns);
        let encoding = self.encoding();
        let number = encoding.decode(value);
        match self.index {
            0x00 => fields.second = number,
            0x02 => fields.minute = number,
            0x04 => fields.hour = encoding.decode_hour(value),
            0x06 => fields.weekday = number,
            0x07 => fields.day = number,
            0x08 => fields.month = number,
            0x09 => fields.year = fields.year / 100 * 100 + u16::from(number % 100),
            _ => fields.year = fields.year % 100 + u16::from(number) * 100,
        }
        if self.held.is_some() {
            self.held = Some(fields);
        } else {
            self.start_from(&fields, now_ns);
        }
    }

    fn write_b(&mut self, value: u8, now_ns: u64) {
        if value & B_SET != 0 {
            if self.held.is_none() {
                self.held = Some(self.fields(now_ns));
            }
        } else if let Some(fields) = self.held.take() {
            self.start_from(&fields, now_ns);
        }
        // Setting SET also clears UIE (data sheet, register B).
        let cleared = if value & B_SET != 0 { UPDATE } else { 0 };
        self.set_register(REG_B, value & !cleared);
    }

    /// Lets the clock run on from `fields`; the fraction of the second goes on undisturbed.
    fn start_from(&mut self, fields: &Fields, now_ns: u64) {
        let unix_ns = i128::from(to_unix(fields)) * i128::from(SECOND_NS) + i128::from(self.since_second(now_ns));
        self.base_unix_ns = unix_ns - i128::from(now_ns);
    }

    /// Register A's rate: a period of 2^(rate-1) cycles of 32,768 Hz, where rates 1 and 2 are those of 8 and 9.
    fn period_ns(&self) -> Option<u64> {
        let rate = match self.register(REG_A) & 0x0F {
            0 => return None,
            rate @ (1 | 2) => rate + 7,
            rate => rate,
        };
        Some((SECOND_NS << (rate - 1)) / 32_768)
    }

    fn alarm_matches(&self, fields: &Fields) -> bool {
        let encoding = self.encoding();
        let matches = |index: u8, shown: u8| {
            let wanted = self.register(index);
            wanted >= ANY || wanted == shown
        };
        matches(0x01, encoding.encode(fields.second))
            && matches(0x03, encoding.encode(fields.minute))
            && matches(0x05, encoding.encode_hour(fields.hour))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some time in November 2026, half a second past the full second.
    const START: i64 = 1_795_178_096_500_000_000;

    fn clock() -> Rtc {
        Rtc::new(START, 512 << 20)
    }

    fn read(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
        rtc.write_index(index);
        rtc.read_data(now)
    }

    fn write(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
        rtc.write_index(index);
        rtc.write_data(value, now);
    }

    fn bcd(value: u8) -> u8 {
        value / 10 << 4 | value % 10
    }

    #[test]
    fn the_registers_show_the_time_in_bcd() {
        let mut rtc = clock();
        let expected = from_unix(START / 1_000_000_000);
        assert_eq!(read(&mut rtc, 0, 0), bcd(expected.second));
        assert_eq!(read(&mut rtc, 2, 0), bcd(expected.minute));
        assert_eq!(read(&mut rtc, 4, 0), bcd(expected.hour));
        assert_eq!(read(&mut rtc, 9, 0), 0x26);
        assert_eq!(read(&mut rtc, CENTURY, 0), 0x20);
        assert_eq!(read(&mut rtc, REG_D, 0), 0x80);
    }

    #[test]
    fn update_in_progress_shows_before_the_second_ends() {
        let mut rtc = clock();
        assert_eq!(read(&mut rtc, REG_A, 0) & A_UIP, 0);
        assert_eq!(read(&mut rtc, REG_A, 499_900_000) & A_UIP, A_UIP);
        assert_eq!(read(&mut rtc, REG_A, 500_000_000) & A_UIP, 0);
    }

    #[test]
    fn the_guest_sets_the_clock() {
        let mut rtc = clock();
        write(&mut rtc, REG_B, B_SET | B_HOURS_24, 0);
        for (index, value) in [(0, 0x30), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x99)] {
            write(&mut rtc, index, value, 0);
        }
        write(&mut rtc, CENTURY, 0x19, 0);
        assert_eq!(read(&mut rtc, 0, 5_000_000_000), 0x30, "held");
        write(&mut rtc, REG_B, B_HOURS_24, 5_000_000_000);
        assert_eq!(read(&mut rtc, 0, 34_600_000_000), 0x00);
        assert_eq!(read(&mut rtc, 9, 34_600_000_000), 0x00);
        assert_eq!(read(&mut rtc, CENTURY, 34_600_000_000), 0x20);
    }

    #[test]
    fn a_year_beyond_nanoseconds_in_64_bits_is_kept() {
        for (century, year) in [(0x99u8, 0x99u8), (0x00, 0x26), (0x23, 0x00)] {
            let mut rtc = clock();
            write(&mut rtc, CENTURY, century, 0);
            write(&mut rtc, 9, year, 0);
            assert_eq!(read(&mut rtc, CENTURY, 1_000_000_000), century);
            assert_eq!(read(&mut rtc, 9, 1_000_000_000), year);
        }
        // What no calendar has must not stop the machine either.
        let mut rtc = clock();
        for index in [0, 2, 4, 6, 7, 8, 9, CENTURY] {
            write(&mut rtc, index, 0xFF, 0);
        }
        rtc.update_flags(5_000_000_000);
        assert_eq!(read(&mut rtc, REG_D, 5_000_000_000), 0x80);
    }

    #[test]
    fn the_update_interrupt_comes_each_second_and_is_cleared_by_reading_c() {
        let mut rtc = clock();
        write(&mut rtc, REG_B, B_HOURS_24 | UPDATE, 0);
        assert_eq!(rtc.next_event_ns(0), Some(500_000_000));
        rtc.update_flags(499_999_999);
        assert!(!rtc.irq_line());
        rtc.update_flags(500_000_000);
        assert!(rtc.irq_line());
        assert_eq!(read(&mut rtc, REG_C, 500_000_001) & (C_IRQ | UPDATE), C_IRQ | UPDATE);
        assert!(!rtc.irq_line());
        assert_eq!(rtc.next_event_ns(500_000_001), Some(1_500_000_000));
    }

    #[test]
    fn the_alarm_matches_its_second_and_wildcards() {
        let mut rtc = clock();
        let wanted = from_unix(START / 1_000_000_000 + 2);
        write(&mut rtc, 0x01, bcd(wanted.second), 0);
        write(&mut rtc, 0x03, 0xFF, 0);
        write(&mut rtc, 0x05, 0xC0, 0);
        write(&mut rtc, REG_B, B_HOURS_24 | ALARM, 0);
        rtc.update_flags(1_400_000_000);
        assert!(!rtc.irq_line());
        rtc.update_flags(1_500_000_000);
        assert!(rtc.irq_line());
    }

    #[test]
    fn the_periodic_rate_is_register_a_s() {
        let mut rtc = clock();
        write(&mut rtc, REG_A, 0x26, 0);
        write(&mut rtc, REG_B, B_HOURS_24 | PERIODIC, 0);
        assert_eq!(rtc.next_event_ns(0), Some(976_562));
        rtc.update_flags(976_562);
        assert!(rtc.irq_line());
    }

    #[test]
    fn the_memory_tells_the_machine_s_size_and_keeps_what_is_written() {
        let mut rtc = clock();
        assert_eq!(read(&mut rtc, 0x15, 0), 0x80);
        assert_eq!(read(&mut rtc, 0x16, 0), 0x02);
        assert_eq!(read(&mut rtc, 0x34, 0), 0x00);
        assert_eq!(read(&mut rtc, 0x35, 0), 0x1F);
        write(&mut rtc, 0x40, 0xA5, 0);
        assert_eq!(read(&mut rtc, 0xC0, 0), 0xA5, "bit 7 is the NMI mask");
    }
}
