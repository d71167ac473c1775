//! Locks on images, the same as QEMU's, so that each program's keep the other out (QEMU, block/file-posix.c, "raw_apply_lock_bytes").
//!
//! They are read locks on single bytes far behind the first ones, of the kind that belongs to an open file (OFD locks), so that they
//! go when the last descriptor does, kill -9 included. Byte 100+n says "I do n", byte 200+n "nobody else may do n"; n is 0 for
//! reading, 1 for writing, 3 for resizing. Everybody first locks and then looks whether others hold the opposite.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// "I do it."
const DOES: i64 = 100;
/// "Nobody else may."
const FORBIDS: i64 = 200;

const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only, together with others that only read.
    Read,
    /// Reading and writing, alone.
    Write,
}

impl Access {
    fn does(self) -> &'static [i64] {
        match self {
            Access::Read => &[READ],
            // A raw file whose last sector is not whole may grow.
            Access::Write => &[READ, WRITE, RESIZE],
        }
    }

    fn forbids(self) -> &'static [i64] {
        &[WRITE, RESIZE]
    }
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Others use the file in a way that excludes this one.
    InUse,
    /// The file system cannot lock.
    Unsupported(io::Error),
}

/// Locks `file` for `access` until it is closed. When this fails, the locks taken so far stay until then, too.
pub fn lock(file: &File, access: Access) -> Result<(), LockError> {
    for byte in bytes(access, DOES, FORBIDS) {
        control(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte)?;
    }
    for byte in bytes(access, FORBIDS, DOES) {
        if control(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)? != libc::F_UNLCK {
            return Err(LockError::InUse);
        }
    }
    Ok(())
}

/// The bytes for what `access` does and forbids, counted from these two.
fn bytes(access: Access, does: i64, forbids: i64) -> impl Iterator<Item = i64> {
    let does = access.does().iter().map(move |operation| does + operation);
    does.chain(access.forbids().iter().map(move |operation| forbids + operation))
}

/// One lock operation on one byte. Returns the kind of lock that was in the way (for F_OFD_GETLK).
fn control(file: &File, command: libc::c_int, kind: libc::c_int, byte: i64) -> Result<libc::c_int, LockError> {
    // SAFETY: `flock` consists of integers, for which zero is a value. OFD locks want `l_pid` zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte as libc::off_t;
    lock.l_len = 1;
    loop {
        // SAFETY: the descriptor is open, and `lock` lives longer than the call, which is all that the kernel writes to.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } == 0 {
            return Ok(libc::c_int::from(lock.l_type));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::EACCES) => return Err(LockError::InUse),
            _ => return Err(LockError::Unsupported(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn try_both(first: Access, second: Access) -> Result<(), LockError> {
        let path = crate::disk::testing::scratch("lock");
        std::fs::write(&path, [0; 512]).unwrap();
        let file = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (one, two) = (file(), file());
        lock(&one, first).unwrap();
        lock(&two, second)
    }

    #[test]
    fn writers_are_alone() {
        assert!(matches!(try_both(Access::Write, Access::Write), Err(LockError::InUse)));
        assert!(matches!(try_both(Access::Read, Access::Write), Err(LockError::InUse)));
        assert!(matches!(try_both(Access::Write, Access::Read), Err(LockError::InUse)));
    }

    #[test]
    fn readers_share() {
        assert!(try_both(Access::Read, Access::Read).is_ok());
    }

    #[test]
    fn a_lock_ends_with_its_file() {
        let path = crate::disk::testing::scratch("unlock");
        std::fs::write(&path, [0; 512]).unwrap();
        let file = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let one = file();
        lock(&one, Access::Write).unwrap();
        drop(one);
        lock(&file(), Access::Write).unwrap();
    }
}
