//! The US layout: which key makes a character, and whether with Shift.
//!
//! A PC's keyboard sends positions; what is on the key caps is between the guest and its user. Terminals and VNC tell characters, so a layout has to
//! be assumed; the US one is what firmware, boot loaders and kernels begin with.

use crate::devices::ps2::keys::Key;

/// Characters of keys whose name is not their character: plain, with Shift, and the key.
const PUNCTUATION: [(char, char, &str); 21] = [
    ('`', '~', "grave_accent"),
    ('1', '!', "1"),
    ('2', '@', "2"),
    ('3', '#', "3"),
    ('4', '$', "4"),
    ('5', '%', "5"),
    ('6', '^', "6"),
    ('7', '&', "7"),
    ('8', '*', "8"),
    ('9', '(', "9"),
    ('0', ')', "0"),
    ('-', '_', "minus"),
    ('=', '+', "equal"),
    ('[', '{', "bracket_left"),
    (']', '}', "bracket_right"),
    ('\\', '|', "backslash"),
    (';', ':', "semicolon"),
    ('\'', '"', "apostrophe"),
    (',', '<', "comma"),
    ('.', '>', "dot"),
    ('/', '?', "slash"),
];

/// The key for `character`, and whether Shift belongs to it; `None` if no key makes it.
pub fn key_for(character: char) -> Option<(Key, bool)> {
    let name = match character {
        'a'..='z' | 'A'..='Z' => {
            let mut name = [0; 4];
            let key = Key::named(character.to_ascii_lowercase().encode_utf8(&mut name))?;
            return Some((key, character.is_ascii_uppercase()));
        }
        ' ' => "spc",
        '\n' | '\r' => "ret",
        '\t' => "tab",
        _ => {
            let (_, shifted, name) =
                PUNCTUATION.into_iter().find(|(plain, shifted, _)| [*plain, *shifted].contains(&character))?;
            return Some((Key::named(name)?, shifted == character));
        }
    };
    Some((Key::named(name)?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_character_has_a_key() {
        let mut pairs = std::collections::HashSet::new();
        for character in ' '..='~' {
            assert!(pairs.insert(key_for(character).unwrap()), "{character}");
        }
        assert_eq!(key_for('A'), Some((Key::named("a").unwrap(), true)));
        assert_eq!(key_for('é'), None);
    }
}
