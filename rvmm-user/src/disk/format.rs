//! Which format an image has, by its first bytes.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An image format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The sectors, one after the other.
    Raw,
    /// QEMU's, version 2 or 3.
    Qcow2,
    /// QEMU's older one.
    Qcow,
    /// VMware's.
    Vmdk,
    /// VirtualBox's.
    Vdi,
    /// Hyper-V's.
    Vhdx,
}

impl Format {
    /// Its name, which is the one qemu-img has for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Qcow => "qcow",
            Format::Vmdk => "vmdk",
            Format::Vdi => "vdi",
            Format::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where each format has its mark; raw is what has none.
const MARKS: [(usize, &[u8], Format); 7] = [
    // The version, big-endian, is behind it.
    (0, b"QFI\xFB\0\0\0\x01", Format::Qcow),
    (0, b"QFI\xFB", Format::Qcow2),
    (0, b"KDMV", Format::Vmdk),
    (0, b"COWD", Format::Vmdk),
    (0, b"# Disk DescriptorFile", Format::Vmdk),
    (0x40, &[0x7F, 0x10, 0xDA, 0xBE], Format::Vdi),
    (0, b"vhdxfile", Format::Vhdx),
];

/// The format of an image that begins with `head`.
pub fn of(head: &[u8]) -> Format {
    let has = |&(at, mark, _): &(usize, &[u8], Format)| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    MARKS.iter().find(|mark| has(mark)).map_or(Format::Raw, |&(_, _, format)| format)
}

/// The format of an image.
pub fn probe(file: &File) -> io::Result<Format> {
    let mut head = [0; 0x48];
    let mut have = 0;
    while let Some(rest) = head.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, have as u64) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(of(head.get(..have).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_mark() {
        let mut vdi = [0; 0x48];
        vdi[0x40..0x44].copy_from_slice(&0xBEDA_107F_u32.to_le_bytes());
        assert_eq!(of(&vdi), Format::Vdi);
        assert_eq!(of(b"QFI\xFB\0\0\0\x02"), Format::Qcow2);
        assert_eq!(of(b"QFI\xFB\0\0\0\x03...."), Format::Qcow2);
        assert_eq!(of(b"QFI\xFB\0\0\0\x01...."), Format::Qcow);
        assert_eq!(of(b"KDMV\x01\0\0\0"), Format::Vmdk);
        assert_eq!(of(b"vhdxfile"), Format::Vhdx);
    }

    #[test]
    fn anything_else_is_raw() {
        assert_eq!(of(&[]), Format::Raw);
        assert_eq!(of(b"QF"), Format::Raw);
        assert_eq!(of(&[0xEB, 0x3C, 0x90]), Format::Raw);
    }
}
