//! What a terminal tells of its keyboard, as keys of a PC's.
//!
//! Terminals tell what a key made, when it is pressed. So every key is pressed and released at once, with the modifiers that belong to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::layout::key_for;
use crate::devices::ps2::keys::Key;
use crate::host::escape;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Keys for the guest, pressed (`true`) or released.
    Keys(Vec<(Key, bool)>),
    /// The escape key and x.
    Quit,
    /// Nothing that goes to anyone.
    Nothing,
}

/// Recognises the escape key across events.
pub struct Keyboard {
    escape: escape::Key,
    pending: bool,
    help: bool,
}

impl Keyboard {
    /// With `escape` as the escape key.
    pub fn new(escape: escape::Key) -> Keyboard {
        Keyboard { escape, pending: false, help: false }
    }

    /// What is to be told to the user below the screen.
    pub fn message(&self) -> Option<String> {
        let key = self.escape;
        self.help.then(|| format!("{key} x ends the run, {key} {key} sends {key}; any key goes on"))
    }

    /// Takes one of the terminal's events.
    pub fn typed(&mut self, event: KeyEvent) -> Typed {
        if event.kind == KeyEventKind::Release {
            return Typed::Nothing;
        }
        self.help = false;
        // Terminals send the same code for Ctrl-] and Ctrl-5; crossterm tells the digit.
        let names = match self.escape.letter() {
            ']' => [']', '5'],
            '^' => ['^', '6'],
            '_' => ['_', '7'],
            letter => [letter, letter],
        };
        let is_escape = event.modifiers.contains(KeyModifiers::CONTROL)
            && matches!(event.code, KeyCode::Char(typed) if names.contains(&typed.to_ascii_lowercase()));
        if !std::mem::take(&mut self.pending) {
            self.pending = is_escape;
            return if is_escape { Typed::Nothing } else { keys(event, false) };
        }
        match event.code {
            _ if is_escape => keys(event, false),
            KeyCode::Char('x' | 'X') => Typed::Quit,
            KeyCode::Char('h' | 'H' | '?') => {
                self.help = true;
                Typed::Nothing
            }
            // Not ours: the guest gets both.
            _ => {
                let escape = KeyEvent::new(KeyCode::Char(self.escape.letter()), KeyModifiers::CONTROL);
                match (keys(escape, false), keys(event, false)) {
                    (Typed::Keys(mut first), Typed::Keys(second)) => {
                        first.extend(second);
                        Typed::Keys(first)
                    }
                    (first, _) => first,
                }
            }
        }
    }
}

fn keys(event: KeyEvent, with_shift: bool) -> Typed {
    let named = |name: &str| Key::named(name).map(|key| (key, false));
    let found = match event.code {
        KeyCode::Char(character) => key_for(character),
        KeyCode::BackTab => return keys(KeyEvent::new(KeyCode::Tab, event.modifiers), true),
        KeyCode::F(number @ 1..=12) => named(&format!("f{number}")),
        KeyCode::Backspace => named("backspace"),
        KeyCode::Enter => named("ret"),
        KeyCode::Left => named("left"),
        KeyCode::Right => named("right"),
        KeyCode::Up => named("up"),
        KeyCode::Down => named("down"),
        KeyCode::Home => named("home"),
        KeyCode::End => named("end"),
        KeyCode::PageUp => named("pgup"),
        KeyCode::PageDown => named("pgdn"),
        KeyCode::Tab => named("tab"),
        KeyCode::Delete => named("delete"),
        KeyCode::Insert => named("insert"),
        KeyCode::Esc => named("esc"),
        KeyCode::PrintScreen => named("print"),
        KeyCode::Pause => named("pause"),
        KeyCode::Menu => named("menu"),
        KeyCode::CapsLock => named("caps_lock"),
        KeyCode::ScrollLock => named("scroll_lock"),
        KeyCode::NumLock => named("num_lock"),
        _ => None,
    };
    let Some((key, shift)) = found else { return Typed::Nothing };
    // A character brings its own Shift; of a key that makes none, the terminal says whether it was held.
    let is_character = matches!(event.code, KeyCode::Char(_));
    let held = |modifier| event.modifiers.contains(modifier);
    let modifiers = [
        ("ctrl", held(KeyModifiers::CONTROL)),
        ("alt", held(KeyModifiers::ALT)),
        ("shift", shift || with_shift || !is_character && held(KeyModifiers::SHIFT)),
    ];
    let modifiers: Vec<Key> =
        modifiers.into_iter().filter(|(_, held)| *held).filter_map(|(name, _)| Key::named(name)).collect();
    let presses = modifiers.iter().chain([&key]).map(|key| (*key, true));
    let releases = [&key].into_iter().chain(modifiers.iter().rev()).map(|key| (*key, false));
    Typed::Keys(presses.chain(releases).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyboard() -> Keyboard {
        Keyboard::new("ctrl-a".parse().unwrap())
    }

    fn typed(keyboard: &mut Keyboard, code: KeyCode, modifiers: KeyModifiers) -> String {
        match keyboard.typed(KeyEvent::new(code, modifiers)) {
            Typed::Keys(keys) => {
                let words = keys.iter().map(|(key, down)| format!("{}{}", if *down { '+' } else { '-' }, key.name()));
                words.collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn keys_come_with_their_modifiers() {
        let mut keyboard = keyboard();
        for (code, modifiers, expected) in [
            (KeyCode::Char('a'), KeyModifiers::NONE, "+a -a"),
            (KeyCode::Char('A'), KeyModifiers::SHIFT, "+shift +a -a -shift"),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, "+ctrl +c -c -ctrl"),
            (KeyCode::Char('?'), KeyModifiers::NONE, "+shift +slash -slash -shift"),
            (KeyCode::F(2), KeyModifiers::ALT, "+alt +f2 -f2 -alt"),
            (KeyCode::Up, KeyModifiers::SHIFT, "+shift +up -up -shift"),
            (KeyCode::BackTab, KeyModifiers::SHIFT, "+shift +tab -tab -shift"),
            (KeyCode::Char('é'), KeyModifiers::NONE, "Nothing"),
        ] {
            assert_eq!(typed(&mut keyboard, code, modifiers), expected);
        }
    }

    #[test]
    fn the_escape_key_is_not_the_guest_s_unless_typed_twice() {
        let mut keyboard = keyboard();
        let escape = (KeyCode::Char('a'), KeyModifiers::CONTROL);
        assert_eq!(typed(&mut keyboard, escape.0, escape.1), "Nothing");
        assert_eq!(typed(&mut keyboard, KeyCode::Char('x'), KeyModifiers::NONE), "Quit");
        assert_eq!(typed(&mut keyboard, escape.0, escape.1), "Nothing");
        assert_eq!(typed(&mut keyboard, escape.0, escape.1), "+ctrl +a -a -ctrl");
        assert_eq!(typed(&mut keyboard, escape.0, escape.1), "Nothing");
        assert_eq!(typed(&mut keyboard, KeyCode::Char('h'), KeyModifiers::NONE), "Nothing");
        assert!(keyboard.message().unwrap().contains("Ctrl-A x"));
        assert_eq!(typed(&mut keyboard, KeyCode::Enter, KeyModifiers::NONE), "+ret -ret");
        assert_eq!(keyboard.message(), None);
        assert_eq!(typed(&mut keyboard, escape.0, escape.1), "Nothing");
        assert_eq!(typed(&mut keyboard, KeyCode::Char('c'), KeyModifiers::NONE), "+ctrl +a -a -ctrl +c -c");
    }
}
