//! What a kernel is given beside itself: the initial RAM disk, or modules with arguments.

use std::path::Path;

use crate::commas;
use crate::error::Error;

/// A file for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file's name and its arguments, as given.
    pub text: String,
    pub data: Vec<u8>,
}

impl Module {
    /// The arguments alone.
    pub fn arguments(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, arguments)| arguments)
    }
}

/// Reads the modules that `given` names. A `list` is written as QEMU takes it: `file arguments,file arguments`, a comma of a name or an argument
/// twice.
pub fn read(given: &Path, list: bool) -> Result<Vec<Module>, Error> {
    let read_file = |path: &Path| {
        std::fs::read(path).map_err(|source| Error::File { what: "initrd", path: path.to_path_buf(), source })
    };
    let text = match given.to_str() {
        Some(text) if list => text,
        // Nothing but a file has a name that is no text.
        _ => return Ok(vec![Module { text: given.display().to_string(), data: read_file(given)? }]),
    };
    commas::split(text)
        .into_iter()
        .map(|text| {
            let name = text.split_once(' ').map_or(text.as_str(), |(name, _)| name);
            let data = read_file(Path::new(name))?;
            Ok(Module { text, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_behind_the_name() {
        let module = |text: &str| Module { text: text.into(), data: Vec::new() };
        assert_eq!((module("a b  c").arguments(), module("a").arguments()), ("b  c", ""));
    }

    #[test]
    fn files_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two,2"));
        std::fs::write(&one, b"1").unwrap();
        std::fs::write(&two, b"22").unwrap();
        let list = format!("{} x y,{}", one.display(), dir.path().join("two,,2").display());
        let modules = read(Path::new(&list), true).unwrap();
        assert_eq!((modules[0].data.as_slice(), modules[0].arguments()), (&b"1"[..], "x y"));
        assert_eq!((modules[1].data.as_slice(), modules[1].text.as_str()), (&b"22"[..], two.to_str().unwrap()));
        assert_eq!(read(&two, false).unwrap().len(), 1);
        assert!(
            matches!(read(Path::new("/nonexistent x"), true), Err(Error::File { path, .. }) if path == Path::new("/nonexistent"))
        );
    }
}
