//! A pseudo-terminal for a serial port. Whoever wants to talk to the guest opens its other side, once, again and again, or never: while
//! nobody has it open the guest's output is dropped, as on a serial line without a cable, and the guest goes on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::shared::Shared;

/// How often to look whether somebody has opened the other side: the kernel tells only when it is closed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Our side.
pub struct Pty {
    master: File,
    path: PathBuf,
}

impl Pty {
    /// Makes a pseudo-terminal in raw mode, so that bytes pass as they are.
    pub fn open() -> io::Result<Pty> {
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: two places for descriptors; no name and no settings are wanted.
        if unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both are new and nobody else's. The other side is closed again here, which hangs our side up until it is opened.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for fd in [master.as_raw_fd(), slave.as_raw_fd()] {
            // SAFETY: a plain system call on an open descriptor.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
        // SAFETY: a plain system call on an open descriptor. A write to a full terminal must not block: see `Write`.
        check(unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        super::terminal::make_raw(slave.as_raw_fd())?;
        let path = name(&master)?;
        Ok(Pty { master, path })
    }

    /// What the other side is called.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A second handle, for the thread that writes.
    pub fn writer(&self) -> io::Result<PtyWriter> {
        Ok(PtyWriter(self.master.try_clone()?))
    }

    /// Starts the thread that reads for the guest's serial port with this number (0 is COM1). It ends with the run or the process.
    pub fn start_reader(mut self, shared: Arc<Shared>, port: usize) -> Result<(), Error> {
        let body = move || {
            let mut buffer = [0; 4096];
            loop {
                match self.read(&mut buffer) {
                    Ok(count) => {
                        if !shared.serial_input(port, buffer.get(..count).unwrap_or_default()) {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!("the pseudo-terminal cannot be read any more: {error}");
                        return;
                    }
                }
            }
        };
        thread::Builder::new()
            .name("serial-in".into())
            .spawn(body)
            .map(drop)
            .map_err(|source| Error::Host { what: "starting the serial input thread", source })
    }

    /// Waits for bytes, across any number of hang-ups.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if wait_for(&self.master, libc::POLLIN)? & libc::POLLIN == 0 {
                thread::sleep(LOOK_AGAIN);
                continue;
            }
            match self.master.read(buffer) {
                // Hung up in between.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => thread::sleep(LOOK_AGAIN),
                Err(error) if transient(&error) => {}
                done => return done,
            }
        }
    }
}

/// The guest's output on its way to whoever has the other side open.
pub struct PtyWriter(File);

impl Write for PtyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if wait_for(&self.0, libc::POLLOUT)? & libc::POLLHUP != 0 {
                return Ok(bytes.len());
            }
            match self.0.write(bytes) {
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(bytes.len()),
                Err(error) if transient(&error) => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Waits for one of `events` or for a hang-up, which is always reported.
fn wait_for(file: &File, events: libc::c_short) -> io::Result<libc::c_short> {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    loop {
        // SAFETY: one valid pollfd.
        match check(unsafe { libc::poll(&mut poll, 1, -1) }) {
            Ok(()) => return Ok(poll.revents),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn name(master: &File) -> io::Result<PathBuf> {
    let mut name = vec![0u8; 128];
    // SAFETY: the buffer has as many bytes as said.
    let failed = unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(0));
    Ok(OsString::from_vec(name).into())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn other_side(pty: &Pty) -> File {
        OpenOptions::new().read(true).write(true).open(pty.path()).unwrap()
    }

    #[test]
    fn bytes_pass_as_they_are() {
        let mut pty = Pty::open().unwrap();
        let mut writer = pty.writer().unwrap();
        let mut other = other_side(&pty);
        let bytes: Vec<u8> = (0..=255).collect();
        writer.write_all(&bytes).unwrap();
        let mut got = vec![0; 256];
        other.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
        other.write_all(&bytes).unwrap();
        let mut count = 0;
        while count < 256 {
            count += pty.read(&mut got[count..]).unwrap();
        }
        assert_eq!(got, bytes, "and there is no echo");
    }

    #[test]
    fn output_without_a_reader_is_dropped_before_and_between_and_input_comes_after() {
        let mut pty = Pty::open().unwrap();
        let mut writer = pty.writer().unwrap();
        for _ in 0..2 {
            writer.write_all(&[b'x'; 100_000]).unwrap();
            let mut other = other_side(&pty);
            other.write_all(b"?").unwrap();
            let mut got = [0; 8];
            assert_eq!(pty.read(&mut got).unwrap(), 1);
            writer.write_all(b"!").unwrap();
            assert_eq!(other.read(&mut got).unwrap(), 1);
            assert_eq!(got[0], b'!', "nothing of what was written before");
        }
    }

    #[test]
    fn a_reader_that_goes_away_frees_the_writer() {
        let pty = Pty::open().unwrap();
        let mut writer = pty.writer().unwrap();
        let other = other_side(&pty);
        let thread = thread::spawn(move || writer.write_all(&[b'x'; 100_000]));
        thread::sleep(Duration::from_millis(200));
        drop(other);
        thread.join().unwrap().unwrap();
    }
}
