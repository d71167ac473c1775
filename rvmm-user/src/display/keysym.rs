//! X11's key symbols, which VNC sends (keysymdef.h; RFC 6143, section 7.5.4).

use super::layout::key_for;
use crate::devices::ps2::keys::Key;

#[rustfmt::skip]
const NAMED: &[(u32, &str)] = &[
    (0xFF08, "backspace"), (0xFF09, "tab"), (0xFE20, "tab"), (0xFF0D, "ret"), (0xFF13, "pause"), (0xFF6B, "pause"), (0xFF14, "scroll_lock"),
    (0xFF15, "print"), (0xFF61, "print"), (0xFF1B, "esc"), (0xFFFF, "delete"),
    (0xFF50, "home"), (0xFF51, "left"), (0xFF52, "up"), (0xFF53, "right"), (0xFF54, "down"), (0xFF55, "pgup"), (0xFF56, "pgdn"),
    (0xFF57, "end"), (0xFF63, "insert"), (0xFF67, "menu"), (0xFF7F, "num_lock"),
    (0xFF80, "spc"), (0xFF89, "tab"), (0xFF8D, "kp_enter"), (0xFF95, "kp_7"), (0xFF96, "kp_4"), (0xFF97, "kp_8"), (0xFF98, "kp_6"),
    (0xFF99, "kp_2"), (0xFF9A, "kp_9"), (0xFF9B, "kp_3"), (0xFF9C, "kp_1"), (0xFF9D, "kp_5"), (0xFF9E, "kp_0"), (0xFF9F, "kp_decimal"),
    (0xFFAA, "kp_multiply"), (0xFFAB, "kp_add"), (0xFFAC, "kp_comma"), (0xFFAD, "kp_subtract"), (0xFFAE, "kp_decimal"),
    (0xFFAF, "kp_divide"), (0xFFB0, "kp_0"), (0xFFB1, "kp_1"), (0xFFB2, "kp_2"), (0xFFB3, "kp_3"), (0xFFB4, "kp_4"), (0xFFB5, "kp_5"),
    (0xFFB6, "kp_6"), (0xFFB7, "kp_7"), (0xFFB8, "kp_8"), (0xFFB9, "kp_9"), (0xFFBD, "kp_equals"),
    (0xFFBE, "f1"), (0xFFBF, "f2"), (0xFFC0, "f3"), (0xFFC1, "f4"), (0xFFC2, "f5"), (0xFFC3, "f6"), (0xFFC4, "f7"), (0xFFC5, "f8"),
    (0xFFC6, "f9"), (0xFFC7, "f10"), (0xFFC8, "f11"), (0xFFC9, "f12"),
    (0xFFE1, "shift"), (0xFFE2, "shift_r"), (0xFFE3, "ctrl"), (0xFFE4, "ctrl_r"), (0xFFE5, "caps_lock"), (0xFFE7, "alt"),
    (0xFFE8, "alt_r"), (0xFFE9, "alt"), (0xFFEA, "alt_r"), (0xFE03, "alt_r"), (0xFFEB, "meta_l"), (0xFFEC, "meta_r"),
];

/// The key for a symbol, and whether Shift belongs to the symbol.
pub fn key_for_symbol(symbol: u32) -> Option<(Key, bool)> {
    match NAMED.iter().find(|(known, _)| *known == symbol) {
        Some((_, name)) => Key::named(name).map(|key| (key, false)),
        // Latin 1 is as it is; other characters are at 01000000.
        None => {
            char::from_u32(if symbol < 0x100 { symbol } else { symbol.checked_sub(0x0100_0000)? }).and_then(key_for)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_name_keys() {
        for (symbol, name) in NAMED {
            assert_eq!(key_for_symbol(*symbol).unwrap().0.name(), *name);
        }
        assert_eq!(key_for_symbol(0x41), Some((Key::named("a").unwrap(), true)));
        assert_eq!(key_for_symbol(0x0100_003D), Some((Key::named("equal").unwrap(), false)));
        assert_eq!([0, 0xE9, 0x1234, 0xFFFF_FFFF].map(key_for_symbol), [None; 4]);
    }
}
