//! Showing the guest's screen to people, and their keys and mouse to the guest.
//!
//! - [`curses`]: text modes in the terminal that rvmm was started in; graphics as coarse blocks;
//! - [`vnc`]: a VNC server;
//! - [`layout`], [`keysym`]: which key makes which character.
//!
//! Each display has threads of its own and works through [`Controls`](crate::monitor::Controls) only.

pub mod curses;
pub mod keysym;
pub mod layout;
pub mod vnc;

use std::fmt;
use std::str::FromStr;

use vnc::Address;

/// `--display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisplayArg {
    Curses,
    Vnc(Address),
    None,
}

impl FromStr for DisplayArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "curses" => Ok(DisplayArg::Curses),
            "none" => Ok(DisplayArg::None),
            "vnc" => Ok(DisplayArg::Vnc(Address::default())),
            _ => match text.strip_prefix("vnc=") {
                Some(address) => address.parse().map(DisplayArg::Vnc),
                None => Err("give curses, vnc, vnc=ADDRESS or none".into()),
            },
        }
    }
}

impl fmt::Display for DisplayArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DisplayArg::Curses => f.write_str("curses"),
            DisplayArg::None => f.write_str("none"),
            DisplayArg::Vnc(address) => write!(f, "vnc={address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_are_chosen_by_name() {
        for text in ["curses", "none", "vnc=127.0.0.1:5901", "vnc=unix:/tmp/x"] {
            assert_eq!(text.parse::<DisplayArg>().unwrap().to_string(), text);
        }
        assert_eq!("vnc".parse::<DisplayArg>().unwrap().to_string(), "vnc=127.0.0.1:5900");
        for text in ["", "sdl", "vnc=", "vnc=x"] {
            assert!(text.parse::<DisplayArg>().is_err(), "{text}");
        }
    }
}
