//! The escape key of an interactive run: a control key (Ctrl-A unless told otherwise) and a second key.

use std::fmt;
use std::str::FromStr;

/// What the user asked of rvmm rather than of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Quit,
    Help,
}

/// A control key, by the code that it sends (1–31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u8);

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Key, String> {
        match text.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([key @ (b'a'..=b'z' | b']' | b'^' | b'_')]) => Ok(Key(key & 0x1F)),
            _ => Err("give ctrl- and a letter or one of ] ^ _".into()),
        }
    }
}

impl Key {
    /// The key's character without Ctrl, in lower case.
    pub fn letter(self) -> char {
        char::from(self.0 | 0x40).to_ascii_lowercase()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctrl-{}", char::from(self.0 | 0x40))
    }
}

/// Recognises the escape sequence across reads.
#[derive(Debug)]
pub struct Escape {
    key: Key,
    pending: bool,
}

impl Escape {
    /// A recogniser of `key`.
    pub fn new(key: Key) -> Escape {
        Escape { key, pending: false }
    }

    /// The text for the key and `h`.
    pub fn help(&self) -> String {
        let key = self.key;
        format!("\r\nrvmm: {key} x  end the run\r\n      {key} h  this help\r\n      {key} {key}  send {key}\r\n")
    }

    /// Splits what was typed into what goes to the guest and what is meant for rvmm; the last request counts.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, Option<Request>) {
        let Key(escape) = self.key;
        let mut through = Vec::with_capacity(typed.len());
        let mut request = None;
        for &key in typed {
            if !std::mem::take(&mut self.pending) {
                if key == escape {
                    self.pending = true;
                } else {
                    through.push(key);
                }
                continue;
            }
            match key {
                b'x' | b'X' => request = Some(Request::Quit),
                b'h' | b'H' | b'?' => request = Some(Request::Help),
                key if key == escape => through.push(escape),
                // Not ours: the guest gets both.
                other => through.extend([escape, other]),
            }
        }
        (through, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_pass_and_escapes_are_taken() {
        let mut escape = Escape::new("ctrl-a".parse().unwrap());
        assert_eq!(escape.filter(b"ls\r"), (b"ls\r".to_vec(), None));
        assert_eq!(escape.filter(b"a\x01h"), (b"a".to_vec(), Some(Request::Help)));
        assert_eq!(escape.filter(b"\x01\x01"), (vec![1], None));
        assert_eq!(escape.filter(b"\x01c"), (vec![1, b'c'], None));
    }

    #[test]
    fn an_escape_may_come_in_two_reads() {
        let mut escape = Escape::new("ctrl-a".parse().unwrap());
        assert_eq!(escape.filter(b"\x01"), (vec![], None));
        assert_eq!(escape.filter(b"x"), (vec![], Some(Request::Quit)));
    }

    #[test]
    fn other_keys_can_be_chosen() {
        let key: Key = "ctrl-]".parse().unwrap();
        assert_eq!(key.to_string(), "Ctrl-]");
        assert_eq!(Escape::new(key).filter(b"\x01\x1dx"), (vec![1], Some(Request::Quit)));
        for wrong in ["", "a", "ctrl-", "ctrl-ab", "ctrl-1", "alt-x"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }
}
