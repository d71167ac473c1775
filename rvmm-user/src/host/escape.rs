//! The escape key of an interactive run: Ctrl-A and a second key.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What the user asked of rvmm rather than of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Quit,
    Help,
}

/// The text for Ctrl-A h.
pub const HELP: &str =
    "\r\nrvmm: Ctrl-A x  end the run\r\n      Ctrl-A h  this help\r\n      Ctrl-A Ctrl-A  send Ctrl-A\r\n";

/// Recognises the escape sequence across reads.
#[derive(Debug, Default)]
pub struct Escape {
    pending: bool,
}

impl Escape {
    /// Splits what was typed into what goes to the guest and what is meant for rvmm; the last request counts.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, Option<Request>) {
        let mut through = Vec::with_capacity(typed.len());
        let mut request = None;
        for &key in typed {
            if !std::mem::take(&mut self.pending) {
                if key == ESCAPE {
                    self.pending = true;
                } else {
                    through.push(key);
                }
                continue;
            }
            match key {
                b'x' | b'X' => request = Some(Request::Quit),
                b'h' | b'H' | b'?' => request = Some(Request::Help),
                ESCAPE => through.push(ESCAPE),
                // Not ours: the guest gets both.
                other => through.extend([ESCAPE, other]),
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
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"ls\r"), (b"ls\r".to_vec(), None));
        assert_eq!(escape.filter(b"a\x01h"), (b"a".to_vec(), Some(Request::Help)));
        assert_eq!(escape.filter(b"\x01\x01"), (vec![1], None));
        assert_eq!(escape.filter(b"\x01c"), (vec![1, b'c'], None));
    }

    #[test]
    fn an_escape_may_come_in_two_reads() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"\x01"), (vec![], None));
        assert_eq!(escape.filter(b"x"), (vec![], Some(Request::Quit)));
    }
}
