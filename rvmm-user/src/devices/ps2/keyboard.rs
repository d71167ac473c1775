//! A PS/2 keyboard of 102 keys and more (IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)").
//!
//! All commands, the three scan-code sets, key types of set 3, typematic repetition, the 16-byte buffer. Not done: the shift codes that a
//! real keyboard sends around its grey cursor keys in sets 1 and 2 while Num Lock or Shift is on.
//!
//! Whoever types does so at the keyboard's pace: a key is only pressed or released when the bytes of the one before have been taken. So typing
//! faster than the guest reads loses nothing, and the buffer cannot overrun.

use std::collections::VecDeque;

use super::keys::Key;
use super::scancodes::{sequence, Modifiers, Set};
use super::{ACK, ANSWERS_LIMIT, RESEND, SELF_TEST_PASSED};

/// Key events that may wait to be typed.
pub const TYPED_LIMIT: usize = 1024;

/// A command whose parameter comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Leds,
    ScanCodeSet,
    Typematic,
    /// FB, FC, FD: the type of the keys named by the following bytes.
    KeyType(KeyType),
}

/// How a key behaves in set 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyType {
    repeats: bool,
    breaks: bool,
}

const TYPEMATIC: KeyType = KeyType { repeats: true, breaks: false };
const MAKE_BREAK: KeyType = KeyType { repeats: false, breaks: true };
const MAKE_ONLY: KeyType = KeyType { repeats: false, breaks: false };
const TYPEMATIC_MAKE_BREAK: KeyType = KeyType { repeats: true, breaks: true };

/// The key that is being repeated.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    key: Key,
    at_ns: u64,
}

/// The keyboard.
#[derive(Debug)]
pub struct Keyboard {
    enabled: bool,
    set: Set,
    /// Bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    leds: u8,
    typematic: u8,
    /// By make code of set 3.
    types: [KeyType; 256],
    command: Option<Command>,
    /// Answers to commands go out before scan codes.
    answers: VecDeque<u8>,
    codes: VecDeque<u8>,
    /// The byte to send again on FE.
    last_sent: u8,
    typed: VecDeque<(Key, bool)>,
    held: Vec<Key>,
    repeat: Option<Repeat>,
}

impl Keyboard {
    /// A keyboard that has passed its self-test and is scanning.
    pub fn new() -> Self {
        Keyboard {
            enabled: true,
            set: Set::Two,
            leds: 0,
            typematic: DEFAULT_TYPEMATIC,
            types: default_types(),
            command: None,
            answers: VecDeque::new(),
            codes: VecDeque::new(),
            last_sent: SELF_TEST_PASSED,
            typed: VecDeque::new(),
            held: Vec::new(),
            repeat: None,
        }
    }

    #[cfg(test)]
    /// The lights: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// Somebody presses or releases `key`. `false`: more than [`TYPED_LIMIT`] events wait, and this one was not taken.
    pub fn type_key(&mut self, key: Key, down: bool) -> bool {
        if self.typed.len() >= TYPED_LIMIT {
            return false;
        }
        self.typed.push_back((key, down));
        true
    }

    #[cfg(test)]
    /// All that was typed has reached the guest.
    pub fn is_drained(&self) -> bool {
        self.typed.is_empty() && self.codes.is_empty() && self.answers.is_empty()
    }

    /// Does what is due at `now_ns`: types what waits, repeats what is held.
    pub fn update(&mut self, now_ns: u64) {
        while self.codes.is_empty() {
            let Some((key, down)) = self.typed.pop_front() else { break };
            self.key_moved(key, down, now_ns);
        }
        if let Some(repeat) = self.repeat.filter(|repeat| repeat.at_ns <= now_ns) {
            if self.codes.is_empty() && self.enabled {
                self.codes.extend(sequence(self.set, repeat.key.codes(), true, self.modifiers()));
            }
            self.repeat = Some(Repeat { at_ns: now_ns.saturating_add(period_ns(self.typematic)), ..repeat });
        }
    }

    /// When [`Keyboard::update`] will have something to do.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        if self.codes.is_empty() && !self.typed.is_empty() {
            return Some(now_ns);
        }
        self.repeat.map(|repeat| repeat.at_ns)
    }

    /// Whether a byte waits to be sent.
    pub fn has_byte(&self) -> bool {
        !self.answers.is_empty() || !self.codes.is_empty()
    }

    /// The next byte for the controller.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.answers.pop_front().or_else(|| self.codes.pop_front())?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// A byte from the controller.
    pub fn receive(&mut self, byte: u8) {
        if self.answers.len() > ANSWERS_LIMIT {
            // The guest never reads; the bytes that it would not get are those of the oldest commands.
            self.answers.clear();
        }
        match self.command.take() {
            // A command in a parameter's place is a command.
            Some(command) if byte < 0xED => self.parameter(command, byte),
            _ => self.start(byte),
        }
    }

    fn parameter(&mut self, command: Command, value: u8) {
        self.answers.push_back(ACK);
        match command {
            Command::Leds => self.leds = value & 0x07,
            Command::Typematic => self.typematic = value & 0x7F,
            Command::ScanCodeSet => match value {
                0 => self.answers.push_back(match self.set {
                    Set::One => 1,
                    Set::Two => 2,
                    Set::Three => 3,
                }),
                1..=3 => {
                    self.codes.clear();
                    self.set = match value {
                        1 => Set::One,
                        2 => Set::Two,
                        _ => Set::Three,
                    };
                }
                _ => {
                    self.answers.pop_back();
                    self.answers.push_back(RESEND);
                }
            },
            Command::KeyType(kind) => {
                if let Some(entry) = self.types.get_mut(usize::from(value)) {
                    *entry = kind;
                }
                // More keys may follow, until a command comes.
                self.command = Some(command);
            }
        }
    }

    fn start(&mut self, command: u8) {
        let answer = match command {
            0xED => self.expect(Command::Leds),
            0xEE => 0xEE,
            0xF0 => self.expect(Command::ScanCodeSet),
            0xF2 => {
                self.answers.extend([ACK, 0xAB, 0x83]);
                return;
            }
            0xF3 => self.expect(Command::Typematic),
            0xF4 => {
                self.codes.clear();
                self.enabled = true;
                ACK
            }
            0xF5 | 0xF6 => {
                self.set_defaults();
                self.enabled = command == 0xF6;
                ACK
            }
            0xF7 => self.all_keys(TYPEMATIC),
            0xF8 => self.all_keys(MAKE_BREAK),
            0xF9 => self.all_keys(MAKE_ONLY),
            0xFA => self.all_keys(TYPEMATIC_MAKE_BREAK),
            // Setting single keys' types ends scanning; F4 starts it again.
            0xFB => self.single_keys(TYPEMATIC),
            0xFC => self.single_keys(MAKE_BREAK),
            0xFD => self.single_keys(MAKE_ONLY),
            0xFE => {
                // Ahead of everything else: it is the byte before.
                self.answers.push_front(self.last_sent);
                return;
            }
            0xFF => {
                self.reset();
                return;
            }
            _ => RESEND,
        };
        self.answers.push_back(answer);
    }

    fn expect(&mut self, command: Command) -> u8 {
        self.command = Some(command);
        ACK
    }

    fn all_keys(&mut self, kind: KeyType) -> u8 {
        self.types = [kind; 256];
        self.codes.clear();
        ACK
    }

    fn single_keys(&mut self, kind: KeyType) -> u8 {
        self.codes.clear();
        self.enabled = false;
        self.expect(Command::KeyType(kind))
    }

    fn set_defaults(&mut self) {
        self.codes.clear();
        self.repeat = None;
        self.set = Set::Two;
        self.typematic = DEFAULT_TYPEMATIC;
        self.types = default_types();
    }

    fn reset(&mut self) {
        self.set_defaults();
        self.enabled = true;
        self.leds = 0;
        self.answers.clear();
        self.answers.extend([ACK, SELF_TEST_PASSED]);
    }

    fn modifiers(&self) -> Modifiers {
        let held = |names: [&str; 2]| self.held.iter().any(|key| names.contains(&key.name()));
        Modifiers { shift: held(["shift", "shift_r"]), ctrl: held(["ctrl", "ctrl_r"]), alt: held(["alt", "alt_r"]) }
    }

    fn key_moved(&mut self, key: Key, down: bool, now_ns: u64) {
        let was_down = self.held.contains(&key);
        if was_down == down {
            // The host's own repetition, or a release of what was pressed elsewhere.
            return;
        }
        let modifiers = self.modifiers();
        if down {
            self.held.push(key);
        } else {
            self.held.retain(|held| *held != key);
        }
        let kind = match self.set {
            Set::Three => self.types.get(usize::from(key.codes().set3)).copied().unwrap_or(TYPEMATIC_MAKE_BREAK),
            _ => TYPEMATIC_MAKE_BREAK,
        };
        if down {
            let repeats = kind.repeats && key.name() != "pause";
            let at_ns = now_ns.saturating_add(delay_ns(self.typematic));
            self.repeat = repeats.then_some(Repeat { key, at_ns });
        } else if self.repeat.is_some_and(|repeat| repeat.key == key) {
            self.repeat = None;
        }
        if self.enabled && (down || kind.breaks) {
            self.codes.extend(sequence(self.set, key.codes(), down, modifiers));
        }
    }
}

/// 500 ms, then 10.9 a second.
const DEFAULT_TYPEMATIC: u8 = 0x2B;

/// Bits 6–5: delay in quarters of a second, less one.
fn delay_ns(typematic: u8) -> u64 {
    u64::from(typematic >> 5 & 3).wrapping_add(1).saturating_mul(250_000_000)
}

/// Bits 4–0: the period is (8 + A) × 2^B × 4.17 ms, A being bits 2–0 and B bits 4–3.
fn period_ns(typematic: u8) -> u64 {
    (u64::from(typematic & 7) + 8 << (typematic >> 3 & 3)).saturating_mul(4_170_000)
}

fn default_types() -> [KeyType; 256] {
    let mut types = [TYPEMATIC; 256];
    for name in ["caps_lock", "shift", "shift_r", "ctrl", "alt"] {
        set_type(&mut types, name, MAKE_BREAK);
    }
    for name in MAKE_ONLY_KEYS {
        set_type(&mut types, name, MAKE_ONLY);
    }
    types
}

fn set_type(types: &mut [KeyType; 256], name: &str, kind: KeyType) {
    let code = Key::named(name).map_or(0, |key| key.codes().set3);
    if let Some(entry) = types.get_mut(usize::from(code)) {
        *entry = kind;
    }
}

/// The keys that have no break code and do not repeat in set 3 after power-on.
#[rustfmt::skip]
const MAKE_ONLY_KEYS: [&str; 41] = [
    "alt_r", "ctrl_r", "insert", "home", "end", "pgup", "pgdn", "num_lock", "kp_7", "kp_4", "kp_1", "kp_divide", "kp_8", "kp_5", "kp_2",
    "kp_0", "kp_multiply", "kp_9", "kp_6", "kp_3", "kp_decimal", "kp_subtract", "kp_enter", "esc", "f1", "f2", "f3", "f4", "f5", "f6",
    "f7", "f8", "f9", "f10", "f11", "f12", "print", "scroll_lock", "pause", "meta_l", "meta_r",
];

#[cfg(test)]
#[path = "keyboard_tests.rs"]
mod tests;
