//! The keys of a keyboard: their names, which are QEMU's (`QKeyCode`), and their scan codes.
//!
//! Codes of set 2 and 3 are from IBM's "Keyboard and Auxiliary Device Controller" (PS/2 Hardware Interface Technical Reference, 1988) and, for keys
//! that are younger, from Microsoft's "Keyboard Scan Code Specification", revision 1.3a. Set 1 is set 2 as the 8042 translates it.

/// In [`Codes::set2`]: the code has the prefix E0.
pub const EXTENDED: u16 = 0xE000;

/// A key, as an index into [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u8);

/// What a key sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// QEMU's name of the key.
    pub name: &'static str,
    /// The make code of set 2: a byte, with [`EXTENDED`] if E0 comes before it.
    pub set2: u16,
    /// The make code of set 3; 0 if the set has no such key.
    pub set3: u8,
}

const fn key(name: &'static str, set2: u16, set3: u8) -> Codes {
    Codes { name, set2, set3 }
}

/// All keys. Pause and Print Screen have sequences of their own (scancodes.rs); what stands here is what identifies them.
#[rustfmt::skip]
pub const TABLE: &[Codes] = &[
    key("esc", 0x76, 0x08), key("f1", 0x05, 0x07), key("f2", 0x06, 0x0F), key("f3", 0x04, 0x17), key("f4", 0x0C, 0x1F),
    key("f5", 0x03, 0x27), key("f6", 0x0B, 0x2F), key("f7", 0x83, 0x37), key("f8", 0x0A, 0x3F), key("f9", 0x01, 0x47),
    key("f10", 0x09, 0x4F), key("f11", 0x78, 0x56), key("f12", 0x07, 0x5E),
    key("print", 0xE07C, 0x57), key("scroll_lock", 0x7E, 0x5F), key("pause", 0xE077, 0x62),
    key("grave_accent", 0x0E, 0x0E), key("1", 0x16, 0x16), key("2", 0x1E, 0x1E), key("3", 0x26, 0x26), key("4", 0x25, 0x25),
    key("5", 0x2E, 0x2E), key("6", 0x36, 0x36), key("7", 0x3D, 0x3D), key("8", 0x3E, 0x3E), key("9", 0x46, 0x46),
    key("0", 0x45, 0x45), key("minus", 0x4E, 0x4E), key("equal", 0x55, 0x55), key("backspace", 0x66, 0x66),
    key("tab", 0x0D, 0x0D), key("q", 0x15, 0x15), key("w", 0x1D, 0x1D), key("e", 0x24, 0x24), key("r", 0x2D, 0x2D),
    key("t", 0x2C, 0x2C), key("y", 0x35, 0x35), key("u", 0x3C, 0x3C), key("i", 0x43, 0x43), key("o", 0x44, 0x44),
    key("p", 0x4D, 0x4D), key("bracket_left", 0x54, 0x54), key("bracket_right", 0x5B, 0x5B), key("backslash", 0x5D, 0x5C),
    key("caps_lock", 0x58, 0x14), key("a", 0x1C, 0x1C), key("s", 0x1B, 0x1B), key("d", 0x23, 0x23), key("f", 0x2B, 0x2B),
    key("g", 0x34, 0x34), key("h", 0x33, 0x33), key("j", 0x3B, 0x3B), key("k", 0x42, 0x42), key("l", 0x4B, 0x4B),
    key("semicolon", 0x4C, 0x4C), key("apostrophe", 0x52, 0x52), key("ret", 0x5A, 0x5A),
    key("shift", 0x12, 0x12), key("less", 0x61, 0x13), key("z", 0x1A, 0x1A), key("x", 0x22, 0x22), key("c", 0x21, 0x21),
    key("v", 0x2A, 0x2A), key("b", 0x32, 0x32), key("n", 0x31, 0x31), key("m", 0x3A, 0x3A), key("comma", 0x41, 0x41),
    key("dot", 0x49, 0x49), key("slash", 0x4A, 0x4A), key("shift_r", 0x59, 0x59),
    key("ctrl", 0x14, 0x11), key("meta_l", 0xE01F, 0x8B), key("alt", 0x11, 0x19), key("spc", 0x29, 0x29),
    key("alt_r", 0xE011, 0x39), key("meta_r", 0xE027, 0x8C), key("menu", 0xE02F, 0x8D), key("ctrl_r", 0xE014, 0x58),
    key("insert", 0xE070, 0x67), key("home", 0xE06C, 0x6E), key("pgup", 0xE07D, 0x6F), key("delete", 0xE071, 0x64),
    key("end", 0xE069, 0x65), key("pgdn", 0xE07A, 0x6D), key("up", 0xE075, 0x63), key("left", 0xE06B, 0x61),
    key("down", 0xE072, 0x60), key("right", 0xE074, 0x6A),
    key("num_lock", 0x77, 0x76), key("kp_divide", 0xE04A, 0x77), key("kp_multiply", 0x7C, 0x7E), key("kp_subtract", 0x7B, 0x84),
    key("kp_7", 0x6C, 0x6C), key("kp_8", 0x75, 0x75), key("kp_9", 0x7D, 0x7D), key("kp_add", 0x79, 0x7C),
    key("kp_4", 0x6B, 0x6B), key("kp_5", 0x73, 0x73), key("kp_6", 0x74, 0x74), key("kp_1", 0x69, 0x69),
    key("kp_2", 0x72, 0x72), key("kp_3", 0x7A, 0x7A), key("kp_0", 0x70, 0x70), key("kp_decimal", 0x71, 0x71),
    key("kp_enter", 0xE05A, 0x79), key("kp_equals", 0x0F, 0), key("kp_comma", 0x6D, 0),
    key("ro", 0x51, 0), key("katakanahiragana", 0x13, 0), key("yen", 0x6A, 0), key("henkan", 0x64, 0), key("muhenkan", 0x67, 0),
    key("hiragana", 0x62, 0), key("katakana", 0x63, 0),
    key("power", 0xE037, 0), key("sleep", 0xE03F, 0), key("wake", 0xE05E, 0),
    key("audionext", 0xE04D, 0x93), key("audioprev", 0xE015, 0x94), key("audiostop", 0xE03B, 0x98), key("audioplay", 0xE034, 0),
    key("audiomute", 0xE023, 0x9C), key("volumeup", 0xE032, 0x95), key("volumedown", 0xE021, 0x9D), key("mediaselect", 0xE050, 0),
    key("mail", 0xE048, 0), key("calculator", 0xE02B, 0), key("computer", 0xE040, 0), key("ac_search", 0xE010, 0),
    key("ac_home", 0xE03A, 0), key("ac_back", 0xE038, 0), key("ac_forward", 0xE030, 0), key("ac_stop", 0xE028, 0),
    key("ac_refresh", 0xE020, 0), key("ac_bookmarks", 0xE018, 0),
];

/// Other names that QEMU or its users have for keys of [`TABLE`].
const ALIASES: &[(&str, &str)] = &[
    ("sysrq", "print"),
    ("asterisk", "kp_multiply"),
    ("compose", "menu"),
    ("enter", "ret"),
    ("space", "spc"),
    ("page_up", "pgup"),
    ("page_down", "pgdn"),
];

impl Key {
    /// The key that QEMU calls `name`.
    pub fn named(name: &str) -> Option<Key> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        TABLE.iter().position(|codes| codes.name == name).and_then(|index| u8::try_from(index).ok()).map(Key)
    }

    /// The key with this make code in set 1; E0 in the high byte for extended keys. (QEMU writes them as a number, too: bit 7 for E0.)
    pub fn with_set1(code: u16) -> Option<Key> {
        let matches = |codes: &Codes| super::scancodes::set1_of(codes.set2) == code;
        TABLE.iter().position(matches).and_then(|index| u8::try_from(index).ok()).map(Key)
    }

    /// Its name and codes.
    pub fn codes(self) -> Codes {
        // A `Key` is only made from a position in the table.
        TABLE.get(usize::from(self.0)).copied().unwrap_or(Codes { name: "", set2: 0, set3: 0 })
    }

    /// QEMU's name of the key.
    pub fn name(self) -> &'static str {
        self.codes().name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_codes_are_unique() {
        assert!(TABLE.len() < 256);
        let names: HashSet<_> = TABLE.iter().map(|codes| codes.name).collect();
        assert_eq!(names.len(), TABLE.len());
        let set2: HashSet<_> = TABLE.iter().map(|codes| codes.set2).collect();
        assert_eq!(set2.len(), TABLE.len());
        let set3: Vec<_> = TABLE.iter().map(|codes| codes.set3).filter(|code| *code != 0).collect();
        assert_eq!(set3.iter().collect::<HashSet<_>>().len(), set3.len());
    }

    #[test]
    fn keys_are_found_by_name_and_by_set_1_code() {
        for codes in TABLE {
            assert_eq!(Key::named(codes.name).unwrap().name(), codes.name);
        }
        for (alias, name) in ALIASES {
            assert_eq!(Key::named(alias).unwrap().name(), *name);
        }
        assert_eq!(Key::named("nonsense"), None);
        assert_eq!(Key::with_set1(0x1E).unwrap().name(), "a");
        assert_eq!(Key::with_set1(0xE048).unwrap().name(), "up");
        assert_eq!(Key::with_set1(0x3B).unwrap().name(), "f1");
        assert_eq!(Key::with_set1(0x41).unwrap().name(), "f7");
        assert_eq!(Key::with_set1(0x48).unwrap().name(), "kp_8");
        assert_eq!(Key::with_set1(0x00), None);
    }
}
