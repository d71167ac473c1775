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
        let settings = get(libc::STDIN_FILENO)?;
        *saved() = Some(settings);
        restore_before_panics();
        make_raw(libc::STDIN_FILENO)?;
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
        if let Err(error) = set(libc::STDIN_FILENO, &settings) {
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

/// Makes the terminal `fd` raw, for good.
pub fn make_raw(fd: libc::c_int) -> io::Result<()> {
    let mut settings = get(fd)?;
    // SAFETY: a valid pointer to a termios.
    unsafe { libc::cfmakeraw(&mut settings) };
    set(fd, &settings)
}

fn get(fd: libc::c_int) -> io::Result<libc::termios> {
    // SAFETY: all-zero is a valid termios, which tcgetattr then fills in.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to a termios.
    match unsafe { libc::tcgetattr(fd, &mut settings) } {
        0 => Ok(settings),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(fd: libc::c_int, settings: &libc::termios) -> io::Result<()> {
    // At once: to wait for the output would be to wait for a terminal that is stopped, for as long as it is.
    // SAFETY: a valid pointer to a termios.
    match unsafe { libc::tcsetattr(fd, libc::TCSANOW, settings) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<libc::termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_terminal_that_takes_no_output_can_still_be_set() {
        let (mut master, mut slave) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: two places for descriptors; no name and no settings are wanted.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
        assert_eq!(opened, 0);
        // SAFETY: both are new and nobody else's.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let fd = slave.as_raw_fd();
        // Nobody reads the other side, so this thread comes to a stop in write(2), until the other side goes.
        let writer = std::thread::spawn(move || {
            let bytes = [b'x'; 4096];
            // SAFETY: the bytes are there; the descriptor is open until this thread was joined.
            while unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } > 0 {}
        });
        std::thread::sleep(Duration::from_millis(300));
        let (done, waits) = mpsc::channel();
        let setter = std::thread::spawn(move || {
            let settings = get(fd).unwrap();
            done.send(set(fd, &settings)).unwrap();
        });
        let outcome = waits.recv_timeout(Duration::from_secs(5));
        drop(master);
        writer.join().unwrap();
        setter.join().unwrap();
        assert!(outcome.is_ok_and(|set| set.is_ok()));
    }
}
