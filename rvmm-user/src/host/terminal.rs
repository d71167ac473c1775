//! The terminal in raw mode, and back again whatever happens.
//!
//! It is restored when the guard goes out of scope (ordinary ends, errors, unwinding), by the panic hook before a panic prints, and by
//! the signals that end a run, which reach the event loop as events and so take the ordinary way.

use std::io;
use std::sync::{Mutex, PoisonError};

/// The settings to go back to while the terminal is raw.
static SAVED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// While it lives, standard input's terminal is raw.
#[derive(Debug)]
pub struct RawTerminal(());

/// Whether standard input is a terminal, and this process is in its foreground.
pub fn stdin_is_interactive() -> bool {
    // SAFETY: plain system calls on a descriptor number and on this process.
    unsafe { libc::isatty(libc::STDIN_FILENO) == 1 && libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

/// Whether standard input is a terminal at all.
pub fn stdin_is_terminal() -> bool {
    // SAFETY: a plain system call on a descriptor number.
    unsafe { libc::isatty(libc::STDIN_FILENO) == 1 }
}

impl RawTerminal {
    /// Makes the terminal raw: every key goes to the guest, Ctrl-C included.
    pub fn enter() -> io::Result<RawTerminal> {
        // SAFETY: all-zero is a valid termios, which tcgetattr then fills in.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: a valid pointer to a termios.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &mut settings) } != 0 {
            return Err(io::Error::last_os_error());
        }
        *saved() = Some(settings);
        restore_before_panics();
        let mut raw = settings;
        // SAFETY: a valid pointer to a termios.
        unsafe { libc::cfmakeraw(&mut raw) };
        set(&raw)?;
        Ok(RawTerminal(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Goes back to the settings from before, if the terminal is raw.
fn restore() {
    if let Some(settings) = saved().take() {
        if let Err(error) = set(&settings) {
            eprintln!("rvmm: the terminal cannot be restored: {error} (type `reset`)");
        }
    }
}

fn restore_before_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        print(info);
    }));
}

fn set(settings: &libc::termios) -> io::Result<()> {
    // SAFETY: a valid pointer to a termios.
    match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, settings) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<libc::termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}
