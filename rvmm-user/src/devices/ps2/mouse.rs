//! A PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse"), with the wheel and the five buttons of Microsoft's IntelliMouse and
//! IntelliMouse Explorer, which their drivers switch on by certain sequences of sample rates.

use std::collections::VecDeque;

use super::{ACK, ANSWERS_LIMIT, RESEND, SELF_TEST_PASSED};

/// Left button, bit 0 of [`Mouse::set_buttons`].
pub const LEFT: u8 = 1 << 0;
/// Right button.
pub const RIGHT: u8 = 1 << 1;
/// Middle button.
pub const MIDDLE: u8 = 1 << 2;
/// Fourth and fifth button.
pub const SIDE: u8 = 1 << 3;
/// The fifth button.
pub const EXTRA: u8 = 1 << 4;

/// The most that the counters hold; a real mouse's overflow much sooner.
const COUNTER_LIMIT: i32 = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Standard,
    Wheel,
    FiveButtons,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Stream,
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Resolution,
    SampleRate,
}

/// The mouse.
#[derive(Debug)]
pub struct Mouse {
    mode: Mode,
    /// Echoes everything.
    wraps: bool,
    /// Reports movement by itself in stream mode.
    reporting: bool,
    scaled: bool,
    /// 2 to this power counts per millimetre.
    resolution: u8,
    /// Reports per second.
    rate: u8,
    /// The last three sample rates set.
    rates: [u8; 3],
    protocol: Protocol,
    command: Option<Command>,
    answers: VecDeque<u8>,
    packet: VecDeque<u8>,
    /// What was sent last, for FE: a byte or a whole packet.
    last: Vec<u8>,
    x: i32,
    y: i32,
    wheel: i32,
    buttons: u8,
    reported_buttons: u8,
    next_report_ns: u64,
}

impl Mouse {
    /// A mouse after its power-on reset: not reporting.
    pub fn new() -> Self {
        Mouse {
            mode: Mode::Stream,
            wraps: false,
            reporting: false,
            scaled: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            protocol: Protocol::Standard,
            command: None,
            answers: VecDeque::new(),
            packet: VecDeque::new(),
            last: Vec::new(),
            x: 0,
            y: 0,
            wheel: 0,
            buttons: 0,
            reported_buttons: 0,
            next_report_ns: 0,
        }
    }

    /// The mouse was moved by so many counts: right, up, and the wheel towards the user.
    pub fn move_by(&mut self, right: i32, up: i32, wheel: i32) {
        let add = |counter: &mut i32, by: i32| {
            *counter = counter.saturating_add(by).clamp(-COUNTER_LIMIT, COUNTER_LIMIT);
        };
        add(&mut self.x, right);
        add(&mut self.y, up);
        add(&mut self.wheel, wheel);
    }

    /// The buttons that are down now: [`LEFT`], [`RIGHT`], [`MIDDLE`], [`SIDE`], [`EXTRA`].
    pub fn set_buttons(&mut self, buttons: u8) {
        self.buttons = buttons & 0x1F;
    }

    /// Makes the report that is due at `now_ns`, if one is.
    pub fn update(&mut self, now_ns: u64) {
        if self.wants_report() && now_ns >= self.next_report_ns {
            self.report();
            self.next_report_ns = now_ns.saturating_add(1_000_000_000 / u64::from(self.rate.max(1)));
        }
    }

    /// When [`Mouse::update`] will have something to do.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        self.wants_report().then_some(self.next_report_ns.max(now_ns))
    }

    /// Whether a byte waits to be sent.
    pub fn has_byte(&self) -> bool {
        !self.answers.is_empty() || !self.packet.is_empty()
    }

    /// The next byte for the controller.
    pub fn take(&mut self) -> Option<u8> {
        self.answers.pop_front().or_else(|| self.packet.pop_front())
    }

    /// A byte from the controller.
    pub fn receive(&mut self, byte: u8) {
        if self.answers.len() > ANSWERS_LIMIT {
            // The guest never reads; the bytes that it would not get are those of the oldest commands.
            self.answers.clear();
        }
        if self.wraps && !matches!(byte, 0xEC | 0xFF) {
            self.answer(&[byte]);
            return;
        }
        // A new command stops what was being sent.
        self.packet.clear();
        match self.command.take() {
            Some(command) => self.parameter(command, byte),
            None => self.start(byte),
        }
    }

    fn parameter(&mut self, command: Command, value: u8) {
        match command {
            Command::Resolution if value <= 3 => self.resolution = value,
            Command::SampleRate if [10, 20, 40, 60, 80, 100, 200].contains(&value) => {
                self.rate = value;
                let [_, second, third] = self.rates;
                self.rates = [second, third, value];
            }
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACK]);
    }

    fn start(&mut self, command: u8) {
        match command {
            0xE6 => self.scaled = false,
            0xE7 => self.scaled = true,
            0xE8 => self.command = Some(Command::Resolution),
            0xE9 => return self.answer(&[ACK, self.status(), self.resolution, self.rate]),
            0xEA => {
                self.mode = Mode::Stream;
                self.clear_counters();
            }
            0xEB => {
                self.answer(&[ACK]);
                self.report();
                return;
            }
            0xEC => self.wraps = false,
            0xEE => self.wraps = true,
            0xF0 => {
                self.mode = Mode::Remote;
                self.clear_counters();
            }
            0xF2 => {
                // The sequences end with the question who is there.
                match self.rates {
                    [200, 100, 80] => self.protocol = Protocol::Wheel,
                    [200, 200, 80] if self.protocol != Protocol::Standard => self.protocol = Protocol::FiveButtons,
                    _ => {}
                }
                return self.answer(&[ACK, self.identity()]);
            }
            0xF3 => self.command = Some(Command::SampleRate),
            0xF4 => {
                self.reporting = true;
                self.clear_counters();
            }
            0xF5 => self.reporting = false,
            0xF6 => self.set_defaults(),
            0xFE => {
                self.answers.extend(std::mem::take(&mut self.last));
                return;
            }
            0xFF => {
                self.set_defaults();
                self.wraps = false;
                self.protocol = Protocol::Standard;
                self.rates = [0; 3];
                self.answers.clear();
                return self.answer(&[ACK, SELF_TEST_PASSED, self.identity()]);
            }
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACK]);
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.answers.extend(bytes);
        self.last = bytes.to_vec();
    }

    fn identity(&self) -> u8 {
        match self.protocol {
            Protocol::Standard => 0,
            Protocol::Wheel => 3,
            Protocol::FiveButtons => 4,
        }
    }

    fn status(&self) -> u8 {
        let [left, right, middle] = [LEFT, RIGHT, MIDDLE].map(|button| u8::from(self.buttons & button != 0));
        u8::from(self.mode == Mode::Remote) << 6
            | u8::from(self.reporting) << 5
            | u8::from(self.scaled) << 4
            | left << 2
            | middle << 1
            | right
    }

    fn set_defaults(&mut self) {
        self.mode = Mode::Stream;
        self.reporting = false;
        self.scaled = false;
        self.resolution = 2;
        self.rate = 100;
        self.clear_counters();
    }

    fn clear_counters(&mut self) {
        (self.x, self.y, self.wheel) = (0, 0, 0);
        self.packet.clear();
    }

    fn wants_report(&self) -> bool {
        let changed = (self.x, self.y, self.wheel) != (0, 0, 0) || self.buttons != self.reported_buttons;
        self.mode == Mode::Stream && self.reporting && !self.wraps && changed && !self.has_byte()
    }

    /// Puts a packet into the buffer; what a packet cannot hold stays for the next.
    fn report(&mut self) {
        let take = |counter: &mut i32, limit: i32| {
            let part = (*counter).clamp(-limit, limit);
            *counter -= part;
            part
        };
        let (mut x, mut y) = (take(&mut self.x, 127), take(&mut self.y, 127));
        if self.scaled && self.mode == Mode::Stream {
            (x, y) = (scale(x), scale(y));
        }
        let low = |value: i32| value.to_le_bytes()[0];
        let first = self.buttons & 0x07 | 0x08 | u8::from(x < 0) << 4 | u8::from(y < 0) << 5;
        self.packet.clear();
        self.packet.extend([first, low(x), low(y)]);
        match self.protocol {
            // A mouse without a wheel has nothing to remember of it.
            Protocol::Standard => self.wheel = 0,
            Protocol::Wheel => {
                let wheel = take(&mut self.wheel, 7);
                self.packet.push_back(low(wheel));
            }
            Protocol::FiveButtons => {
                let wheel = take(&mut self.wheel, 7);
                self.packet.push_back(low(wheel) & 0x0F | (self.buttons & (SIDE | EXTRA)) << 1);
            }
        }
        self.reported_buttons = self.buttons;
        self.last = self.packet.iter().copied().collect();
    }
}

/// 2:1 scaling, as the technical reference tabulates it; a packet's nine bits hold twice 127.
fn scale(count: i32) -> i32 {
    let scaled = match count.abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        more => more * 2,
    };
    scaled * count.signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| mouse.take()).collect()
    }

    fn send(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().for_each(|byte| mouse.receive(*byte));
        drain(mouse)
    }

    #[test]
    fn commands_have_their_answers() {
        let mut mouse = Mouse::new();
        assert_eq!(send(&mut mouse, &[0xFF]), [0xFA, 0xAA, 0x00]);
        assert_eq!(send(&mut mouse, &[0xF2]), [0xFA, 0x00]);
        assert_eq!(send(&mut mouse, &[0xE9]), [0xFA, 0x00, 2, 100]);
        assert_eq!(send(&mut mouse, &[0xE8, 3, 0xF3, 40, 0xE7, 0xF4]), [0xFA; 6]);
        mouse.set_buttons(LEFT | RIGHT);
        assert_eq!(send(&mut mouse, &[0xE9]), [0xFA, 0x35, 3, 40]);
        assert_eq!(send(&mut mouse, &[0xF3, 41]), [0xFA, 0xFE]);
        assert_eq!(send(&mut mouse, &[0x00]), [0xFE]);
        assert_eq!(send(&mut mouse, &[0xFE]), [0xFE]);
    }

    #[test]
    fn movement_is_reported_at_the_sample_rate() {
        let mut mouse = Mouse::new();
        mouse.move_by(5, 5, 0);
        mouse.update(0);
        assert!(!mouse.has_byte(), "reporting is off");
        send(&mut mouse, &[0xF4]);
        mouse.move_by(5, -3, 0);
        mouse.set_buttons(LEFT);
        mouse.update(1000);
        assert_eq!(drain(&mut mouse), [0x29, 5, 0xFD]);
        mouse.move_by(-200, 0, 0);
        mouse.update(2000);
        assert!(!mouse.has_byte());
        assert_eq!(mouse.next_event_ns(2000), Some(10_001_000));
        mouse.update(10_001_000);
        assert_eq!(drain(&mut mouse), [0x19, 0x81, 0]);
        mouse.update(20_001_000);
        assert_eq!(drain(&mut mouse), [0x19, 0xB7, 0]);
        assert_eq!(mouse.next_event_ns(20_001_000), None);
    }

    #[test]
    fn the_wheel_appears_after_its_knock() {
        let mut mouse = Mouse::new();
        send(&mut mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80]);
        assert_eq!(send(&mut mouse, &[0xF2]), [0xFA, 3]);
        send(&mut mouse, &[0xF4]);
        mouse.move_by(0, 0, -1);
        mouse.update(0);
        assert_eq!(drain(&mut mouse), [8, 0, 0, 0xFF]);
        send(&mut mouse, &[0xF3, 200, 0xF3, 200, 0xF3, 80]);
        assert_eq!(send(&mut mouse, &[0xF2]), [0xFA, 4]);
        mouse.set_buttons(EXTRA);
        mouse.move_by(0, 0, 2);
        mouse.update(1_000_000_000);
        assert_eq!(drain(&mut mouse), [8, 0, 0, 0x22]);
        assert_eq!(send(&mut mouse, &[0xFF, 0xF2]), [0xFA, 0xAA, 0, 0xFA, 0]);
    }

    #[test]
    fn remote_mode_reports_when_asked_and_wrap_mode_echoes() {
        let mut mouse = Mouse::new();
        send(&mut mouse, &[0xF4, 0xF0]);
        mouse.move_by(1, 2, 0);
        mouse.update(1_000_000);
        assert!(!mouse.has_byte());
        assert_eq!(send(&mut mouse, &[0xEB]), [0xFA, 0x08, 1, 2]);
        send(&mut mouse, &[0xEE]);
        assert_eq!(send(&mut mouse, &[0x55, 0xF4]), [0x55, 0xF4]);
        assert_eq!(send(&mut mouse, &[0xEC]), [0xFA]);
    }

    #[test]
    fn scaling_is_as_tabulated() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, -4, -10].map(scale), [0, 1, 1, 3, 6, 9, 12, -6, -20]);
    }

    proptest! {
        #[test]
        fn any_input_is_survived_and_bounded(steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<i32>()), 0..400)) {
            let mut mouse = Mouse::new();
            let mut now = 0u64;
            for (kind, value, by) in steps {
                now += u64::from(value) * 1_000_000;
                match kind % 5 {
                    0 => mouse.receive(value),
                    1 => drop(mouse.take()),
                    2 => mouse.move_by(by, by / 2, by % 9),
                    3 => mouse.set_buttons(value),
                    _ => mouse.update(now),
                }
                prop_assert!(mouse.packet.len() <= 4 && mouse.answers.len() <= ANSWERS_LIMIT + 5);
                let _ = mouse.next_event_ns(now);
            }
        }
    }
}
