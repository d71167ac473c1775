//! Scan codes: what the controller makes of set 2, and what a keyboard sends for a key in each set.

use super::keys::{Codes, EXTENDED};

/// The 8042's translation of a keyboard's byte below 80 (PS/2 Hardware Interface Technical Reference, "Scan Code Translation").
#[rustfmt::skip]
const TRANSLATION: [u8; 128] = [
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
];

/// In sets 2 and 3, what comes before the code of a key that is released.
pub const BREAK: u8 = 0xF0;

/// The controller's translation of one byte; `BREAK` is not for this function.
pub fn translate(byte: u8) -> u8 {
    match byte {
        0x83 => 0x41,
        0x84 => 0x54,
        _ => TRANSLATION.get(usize::from(byte)).copied().unwrap_or(byte),
    }
}

/// The make code in set 1 of a make code in set 2 (see [`Codes::set2`]).
pub fn set1_of(set2: u16) -> u16 {
    let [prefix, code] = set2.to_be_bytes();
    u16::from_be_bytes([prefix, translate(code)])
}

/// A scan-code set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    One,
    Two,
    Three,
}

/// Which modifiers are held, for the two keys whose codes depend on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    pub shift: bool,
    pub ctrl: bool,
    pub alt: bool,
}

/// The bytes for pressing or releasing a key.
pub fn sequence(set: Set, codes: Codes, down: bool, modifiers: Modifiers) -> Vec<u8> {
    match set {
        Set::Three if codes.set3 == 0 => Vec::new(),
        Set::Three if down => vec![codes.set3],
        Set::Three => vec![BREAK, codes.set3],
        Set::Two => set2(codes, down, modifiers),
        Set::One => translated(&set2(codes, down, modifiers)),
    }
}

fn set2(codes: Codes, down: bool, modifiers: Modifiers) -> Vec<u8> {
    let make = |extended: bool, code: u8| if extended { vec![0xE0, code] } else { vec![code] };
    let release = |extended: bool, code: u8| if extended { vec![0xE0, BREAK, code] } else { vec![BREAK, code] };
    let plain = |extended, code| if down { make(extended, code) } else { release(extended, code) };
    match codes.name {
        // Pause sends everything when it is pressed and nothing when it is released; with Ctrl it is Break.
        "pause" if !down => Vec::new(),
        "pause" if modifiers.ctrl => vec![0xE0, 0x7E, 0xE0, BREAK, 0x7E],
        "pause" => vec![0xE1, 0x14, 0x77, 0xE1, BREAK, 0x14, BREAK, 0x77],
        // Print Screen brings its own Shift, unless one is held; with Alt it is SysRq, a key of its own.
        "print" if modifiers.alt => plain(false, 0x84),
        "print" if modifiers.shift || modifiers.ctrl => plain(true, 0x7C),
        "print" if down => vec![0xE0, 0x12, 0xE0, 0x7C],
        "print" => vec![0xE0, BREAK, 0x7C, 0xE0, BREAK, 0x12],
        _ => plain(codes.set2 & EXTENDED == EXTENDED, codes.set2 as u8),
    }
}

/// Set 2 as the controller makes set 1 of it, a sequence at a time.
pub fn translated(bytes: &[u8]) -> Vec<u8> {
    let mut released = 0;
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if byte == BREAK {
            released = 0x80;
        } else {
            out.push(translate(byte) | std::mem::take(&mut released));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Key, TABLE};
    use super::*;

    fn bytes(set: Set, name: &str, down: bool) -> Vec<u8> {
        sequence(set, Key::named(name).unwrap().codes(), down, Modifiers::default())
    }

    #[test]
    fn the_translation_is_one_to_one() {
        let mut seen = [false; 256];
        for byte in 0..=0xFFu8 {
            if byte != BREAK && (0x01..0x80).contains(&byte) {
                assert!(!std::mem::replace(&mut seen[usize::from(translate(byte))], true), "{byte:x}");
            }
        }
    }

    #[test]
    fn set_1_has_its_known_codes() {
        for (name, code) in [("esc", 0x01), ("1", 0x02), ("ret", 0x1C), ("spc", 0x39), ("f12", 0x58), ("less", 0x56)] {
            assert_eq!(bytes(Set::One, name, true), [code]);
            assert_eq!(bytes(Set::One, name, false), [code | 0x80]);
        }
        assert_eq!(bytes(Set::One, "right", true), [0xE0, 0x4D]);
        assert_eq!(bytes(Set::One, "right", false), [0xE0, 0xCD]);
        assert_eq!(bytes(Set::One, "kp_enter", true), [0xE0, 0x1C]);
        for codes in TABLE {
            let [prefix, code] = set1_of(codes.set2).to_be_bytes();
            assert!(code < 0x80 && matches!(prefix, 0 | 0xE0), "{}", codes.name);
        }
    }

    #[test]
    fn pause_and_print_screen_have_their_sequences() {
        assert_eq!(bytes(Set::One, "pause", true), [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
        assert!(bytes(Set::One, "pause", false).is_empty());
        assert_eq!(bytes(Set::Two, "print", true), [0xE0, 0x12, 0xE0, 0x7C]);
        assert_eq!(bytes(Set::One, "print", true), [0xE0, 0x2A, 0xE0, 0x37]);
        assert_eq!(bytes(Set::One, "print", false), [0xE0, 0xB7, 0xE0, 0xAA]);
        let print = Key::named("print").unwrap().codes();
        let alt = Modifiers { alt: true, ..Modifiers::default() };
        assert_eq!(sequence(Set::One, print, true, alt), [0x54]);
        let shift = Modifiers { shift: true, ..Modifiers::default() };
        assert_eq!(sequence(Set::Two, print, false, shift), [0xE0, 0xF0, 0x7C]);
        let ctrl = Modifiers { ctrl: true, ..Modifiers::default() };
        assert_eq!(sequence(Set::One, Key::named("pause").unwrap().codes(), true, ctrl), [0xE0, 0x46, 0xE0, 0xC6]);
    }

    #[test]
    fn set_3_has_one_byte_for_every_key() {
        assert_eq!(bytes(Set::Three, "up", true), [0x63]);
        assert_eq!(bytes(Set::Three, "up", false), [0xF0, 0x63]);
        assert_eq!(bytes(Set::Three, "pause", true), [0x62]);
    }
}
