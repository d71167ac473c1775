//! The commands by which firmware loads the tables: 128 bytes each, little-endian.

const ENTRY: usize = 128;
const NAME: usize = 56;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;

/// Where a file is to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Anywhere below 4 GiB.
    High = 1,
    /// E0000–FFFFF, where operating systems look.
    FSegment = 2,
}

/// The list.
#[derive(Debug, Default)]
pub struct Loader {
    bytes: Vec<u8>,
}

impl Loader {
    /// Loads `file`.
    pub fn allocate(&mut self, file: &str, align: u32, zone: Zone) {
        let mut entry = start(ALLOCATE, &[file]);
        entry.extend(align.to_le_bytes());
        entry.push(zone as u8);
        self.push(entry);
    }

    /// Adds the address of `source` to the `size` bytes at `offset` of `file`.
    pub fn add_address(&mut self, file: &str, offset: usize, size: u8, source: &str) {
        let mut entry = start(ADD_POINTER, &[file, source]);
        entry.extend((offset as u32).to_le_bytes());
        entry.push(size);
        self.push(entry);
    }

    /// Makes the byte at `offset` of `file` one that lets `len` bytes from `from` on add up to zero.
    pub fn add_checksum(&mut self, file: &str, offset: usize, from: usize, len: usize) {
        let mut entry = start(ADD_CHECKSUM, &[file]);
        for number in [offset, from, len] {
            entry.extend((number as u32).to_le_bytes());
        }
        self.push(entry);
    }

    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, mut entry: Vec<u8>) {
        entry.resize(ENTRY, 0);
        self.bytes.extend(entry);
    }
}

fn start(command: u32, names: &[&str]) -> Vec<u8> {
    let mut entry = command.to_le_bytes().to_vec();
    for name in names {
        entry.extend(name.bytes().chain(std::iter::repeat(0)).take(NAME));
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_their_fields_where_firmware_reads_them() {
        let mut loader = Loader::default();
        loader.allocate("a", 64, Zone::FSegment);
        loader.add_address("a", 5, 4, "b");
        loader.add_checksum("a", 9, 1, 20);
        let bytes = loader.bytes();
        assert_eq!(bytes.len(), 3 * ENTRY);
        assert_eq!((bytes[0], bytes[4], bytes[60], bytes[64]), (1, b'a', 64, 2));
        assert_eq!((bytes[128], bytes[132], bytes[188], bytes[244], bytes[248]), (2, b'a', b'b', 5, 4));
        assert_eq!((bytes[256], bytes[316], bytes[320], bytes[324]), (3, 9, 1, 20));
    }
}
