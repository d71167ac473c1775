//! Whether a qcow2 file holds all that its tables point to. What reads such files, imago and QEMU, takes what lies behind the end for zeros: a copy that
//! broke off would be a disk with holes in it.
//!
//! The format: docs/interop/qcow2.txt of QEMU.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fields of the header that are looked at are in its first bytes.
const HEADER: usize = 48;
/// From version 3 on the incompatible features are here.
const FEATURES: u64 = 72;
/// Entries of the second tables have two words.
const EXTENDED: u64 = 1 << 4;
/// Bits 9–55 of an entry of either table are an offset in the file.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
/// An entry of the second table that describes compressed data.
const COMPRESSED: u64 = 1 << 62;
/// Tables have whole clusters, of so many bytes at most (2 MiB).
const MAX_CLUSTER_BITS: u32 = 21;
/// QEMU takes no first table that is larger.
const MAX_FIRST: u32 = (32 << 20) / 8;

/// The first offset behind the end that a table of `file`, `length` bytes long, points to. Anything else that is wrong with the file is not looked
/// at here.
pub fn first_missing(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let word =
        |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word));
    let (version, bits, entries) = (word(4), word(20), word(36));
    if version > 2 {
        let mut features = [0; 8];
        file.read_exact_at(&mut features, FEATURES)?;
        if u64::from_be_bytes(features) & EXTENDED != 0 {
            return Ok(None);
        }
    }
    let first = u64::from(word(40)) << 32 | u64::from(word(44));
    if !(9..=MAX_CLUSTER_BITS).contains(&bits) || entries > MAX_FIRST {
        return Ok(None);
    }
    let Some(table) = read_table(file, first, u64::from(entries) * 8, length)? else { return Ok(Some(first)) };
    for entry in offsets(&table) {
        let second = entry & OFFSET;
        if second == 0 {
            continue;
        }
        let Some(table) = read_table(file, second, 1 << bits, length)? else { return Ok(Some(second)) };
        let missing = offsets(&table).map(|entry| data_offset(entry, bits)).find(|offset| *offset >= length);
        if missing.is_some() {
            return Ok(missing);
        }
    }
    Ok(None)
}

fn read_table(file: &File, at: u64, bytes: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    if at.checked_add(bytes).is_none_or(|end| end > length) {
        return Ok(None);
    }
    let mut table = vec![0; bytes as usize];
    file.read_exact_at(&mut table, at)?;
    Ok(Some(table))
}

fn offsets(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    table.chunks_exact(8).filter_map(|chunk| chunk.first_chunk()).map(|entry| u64::from_be_bytes(*entry))
}

/// Where an entry's data begin; 0 without.
fn data_offset(entry: u64, bits: u32) -> u64 {
    if entry & COMPRESSED != 0 {
        entry & ((1 << (62 - (bits - 8))) - 1)
    } else {
        entry & OFFSET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clusters of 4 KiB: header, first table, second table, data.
    fn image(first: u64, second: u64, data: u64) -> (File, u64) {
        let file = tempfile::tempfile().unwrap();
        let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
        put(0, b"QFI\xFB\0\0\0\x03");
        put(20, &12u32.to_be_bytes());
        put(36, &1u32.to_be_bytes());
        put(40, &first.to_be_bytes());
        put(0x1000, &(second | 1 << 63).to_be_bytes());
        put(0x2000 + 8, &data.to_be_bytes());
        put(0x3FFF, &[0]);
        (file, 0x4000)
    }

    fn missing(first: u64, second: u64, data: u64) -> Option<u64> {
        let (file, length) = image(first, second, data);
        first_missing(&file, length).unwrap()
    }

    #[test]
    fn what_lies_behind_the_end_is_told() {
        assert_eq!(missing(0x1000, 0x2000, 0x3000 | 1 << 63), None);
        assert_eq!(missing(0x1000, 0, 0), None);
        assert_eq!(missing(0x4000, 0x2000, 0x3000), Some(0x4000));
        assert_eq!(missing(0x1000, 0x3200, 0x3000), Some(0x3200), "a table that ends behind the file");
        assert_eq!(missing(0x1000, 0x2000, 0x4000 | 1 << 63), Some(0x4000));
        assert_eq!(missing(0x1000, 0x2000, COMPRESSED | 1 << 58 | 0x3001), None);
        assert_eq!(missing(0x1000, 0x2000, COMPRESSED | 0x4001), Some(0x4001));
    }

    #[test]
    fn a_short_file_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(first_missing(&file, 0).is_err());
    }
}
