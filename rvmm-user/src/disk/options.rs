//! How an image is to be used: `FILE[,format=raw|qcow2][,readonly=on|off][,snapshot=on|off]`.

use std::path::PathBuf;
use std::str::FromStr;

use super::format::Format;
use crate::commas;

/// An image and how it is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The file or block device.
    pub path: PathBuf,
    /// Its format; `None`: what its first bytes say.
    pub format: Option<Format>,
    /// Never written to.
    pub read_only: bool,
    /// Writes are kept elsewhere and thrown away at the end.
    pub snapshot: bool,
}

impl DiskOptions {
    /// An image that is read and written, in the format that it has.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        DiskOptions { path: path.into(), format: None, read_only: false, snapshot: false }
    }

    /// The same, never written to.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// As on QEMU's command line: options behind commas, and two commas for one in the file's name.
impl FromStr for DiskOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = commas::split(text).into_iter();
        let path = parts.next().unwrap_or_default();
        if path.is_empty() {
            return Err("there is no file name".into());
        }
        let mut options = DiskOptions::new(path);
        for part in parts {
            match part.split_once('=') {
                Some(("format", "raw")) => options.format = Some(Format::Raw),
                Some(("format", "qcow2")) => options.format = Some(Format::Qcow2),
                Some(("format", other)) => return Err(format!("the format is raw or qcow2, not {other}")),
                Some(("readonly", value)) => options.read_only = switch("readonly", value)?,
                Some(("snapshot", value)) => options.snapshot = switch("snapshot", value)?,
                _ => return Err(format!("{part}: there are format=, readonly= and snapshot=")),
            }
        }
        if options.read_only && options.snapshot {
            return Err("readonly=on and snapshot=on contradict each other".into());
        }
        Ok(options)
    }
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{name} is on or off, not {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_behind_commas() {
        assert_eq!("a.img".parse(), Ok(DiskOptions::new("a.img")));
        assert_eq!("a.img,readonly=on".parse(), Ok(DiskOptions::new("a.img").read_only()));
        let both = DiskOptions { format: Some(Format::Raw), snapshot: true, ..DiskOptions::new("a,b") };
        assert_eq!("a,,b,format=raw,readonly=off,snapshot=on".parse(), Ok(both));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in
            ["", ",readonly=on", "a,", "a,format=vmdk", "a,readonly", "a,snapshot=yes", "a,readonly=on,snapshot=on"]
        {
            assert!(text.parse::<DiskOptions>().is_err(), "{text}");
        }
    }
}
