//! Whether a qcow2 file holds all that its tables point to, and counts the references to it. What reads such files, imago and QEMU, takes what lies
//! behind the end for zeros: a copy that broke off would be a disk with holes in it. And imago, when it writes, loses its way (until the stack is used
//! up) where it frees a cluster for which there is no block of reference counts.
//!
//! The format: docs/interop/qcow2.txt of QEMU.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fields of the header of version 2 are in its first bytes.
const HEADER: usize = 60;
/// From version 3 on the incompatible features are here, and the width of reference counts.
const FEATURES: u64 = 72;
const REFCOUNT_ORDER: u64 = 96;
/// The width that version 2 has: 16 bits.
const ORDER_OF_2: u32 = 4;
const MAX_ORDER: u32 = 6;
/// Entries of the second tables have two words.
const EXTENDED: u64 = 1 << 4;
/// Bits 9–55 of an entry of any table are an offset in the file.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
/// An entry of the second table that describes compressed data.
const COMPRESSED: u64 = 1 << 62;
/// Tables have whole clusters, of so many bytes at most (2 MiB).
const MAX_CLUSTER_BITS: u32 = 21;
/// QEMU takes no first table that is larger, and no table of reference counts.
const MAX_FIRST: u32 = (32 << 20) / 8;
const MAX_COUNTS: u64 = 8 << 20;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A table points to this offset, behind the file's end.
    Missing(u64),
    /// The cluster at this offset is in use, and there is no reference count for it.
    Uncounted(u64),
}

/// Where the blocks of reference counts are.
struct Counts {
    blocks: Vec<u8>,
    /// Bytes of the file that one block counts for, as a power of 2.
    bits: u32,
}

impl Counts {
    fn read(file: &File, header: &[u8], length: u64) -> io::Result<Result<Counts, Flaw>> {
        let bits = word(header, 20);
        let mut order = [0; 4];
        if word(header, 4) > 2 {
            file.read_exact_at(&mut order, REFCOUNT_ORDER)?;
        } else {
            order = ORDER_OF_2.to_be_bytes();
        }
        let order = u32::from_be_bytes(order).min(MAX_ORDER);
        let at = u64::from(word(header, 48)) << 32 | u64::from(word(header, 52));
        let bytes = u64::from(word(header, 56)) << bits;
        let table = if bytes > MAX_COUNTS { None } else { read_table(file, at, bytes, length)? };
        // A block is a cluster of counts of 2^order bits.
        Ok(table.map(|blocks| Counts { blocks, bits: bits + bits + 3 - order }).ok_or(Flaw::Missing(at)))
    }

    /// Is there a block of counts for the byte at `offset`, in the file?
    fn cover(&self, offset: u64, length: u64) -> bool {
        let block = usize::try_from(offset >> self.bits).ok().and_then(|index| offsets(&self.blocks).nth(index));
        block.is_some_and(|entry| entry & OFFSET != 0 && entry & OFFSET < length)
    }
}

/// The first flaw of `file`, `length` bytes long, that is met. What else is wrong with the file is not looked at here.
pub fn first_flaw(file: &File, length: u64) -> io::Result<Option<Flaw>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let (version, bits, entries) = (word(&header, 4), word(&header, 20), word(&header, 36));
    let first = u64::from(word(&header, 40)) << 32 | u64::from(word(&header, 44));
    if version > 2 {
        let mut features = [0; 8];
        file.read_exact_at(&mut features, FEATURES)?;
        if u64::from_be_bytes(features) & EXTENDED != 0 {
            return Ok(None);
        }
    }
    if !(9..=MAX_CLUSTER_BITS).contains(&bits) || entries > MAX_FIRST {
        return Ok(None);
    }
    let counts = match Counts::read(file, &header, length)? {
        Ok(counts) => counts,
        Err(flaw) => return Ok(Some(flaw)),
    };
    let look = |offset: u64| match offset {
        offset if offset >= length => Some(Flaw::Missing(offset)),
        offset if !counts.cover(offset, length) => Some(Flaw::Uncounted(offset)),
        _ => None,
    };
    if let Some(flaw) = look(0) {
        return Ok(Some(flaw));
    }
    let Some(table) = read_table(file, first, u64::from(entries) * 8, length)? else {
        return Ok(Some(Flaw::Missing(first)));
    };
    for entry in offsets(&table) {
        let second = entry & OFFSET;
        if second == 0 {
            continue;
        }
        let Some(table) = read_table(file, second, 1 << bits, length)? else { return Ok(Some(Flaw::Missing(second))) };
        let used = offsets(&table).filter_map(|entry| data(entry, bits));
        let flaw = look(second).or_else(|| {
            used.into_iter().find_map(|(first, last)| look(first).or_else(|| look(last.min(length.saturating_sub(1)))))
        });
        if flaw.is_some() {
            return Ok(flaw);
        }
    }
    Ok(None)
}

fn word(header: &[u8], at: usize) -> u32 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
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

/// The first and the last byte of the file that an entry's data may have, if it has any.
fn data(entry: u64, bits: u32) -> Option<(u64, u64)> {
    if entry & COMPRESSED != 0 {
        let width = 62 - (bits - 8);
        let first = entry & ((1 << width) - 1);
        let sectors = (entry & !(COMPRESSED | 1 << 63)) >> width;
        return Some((first, (first & !511).saturating_add((sectors + 1) * 512 - 1)));
    }
    match entry & OFFSET {
        0 => None,
        first => Some((first, first)),
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
        put(48, &0x4000u64.to_be_bytes());
        put(56, &1u32.to_be_bytes());
        put(96, &4u32.to_be_bytes());
        put(0x4000, &0x5000u64.to_be_bytes());
        put(0x1000, &(second | 1 << 63).to_be_bytes());
        put(0x2000 + 8, &data.to_be_bytes());
        put(0x5FFF, &[0]);
        (file, 0x6000)
    }

    fn flaw(first: u64, second: u64, data: u64) -> Option<Flaw> {
        let (file, length) = image(first, second, data);
        first_flaw(&file, length).unwrap()
    }

    #[test]
    fn what_lies_behind_the_end_is_told() {
        assert_eq!(flaw(0x1000, 0x2000, 0x3000 | 1 << 63), None);
        assert_eq!(flaw(0x1000, 0, 0), None);
        assert_eq!(flaw(0x6000, 0x2000, 0x3000), Some(Flaw::Missing(0x6000)));
        assert_eq!(flaw(0x1000, 0x5200, 0x3000), Some(Flaw::Missing(0x5200)), "a table that ends behind the file");
        assert_eq!(flaw(0x1000, 0x2000, 0x6000 | 1 << 63), Some(Flaw::Missing(0x6000)));
        assert_eq!(flaw(0x1000, 0x2000, COMPRESSED | 1 << 58 | 0x3001), None);
        assert_eq!(flaw(0x1000, 0x2000, COMPRESSED | 0x6001), Some(Flaw::Missing(0x6001)));
    }

    #[test]
    fn what_is_in_use_is_counted() {
        let (file, length) = image(0x1000, 0x2000, 0x3000);
        // A block counts for 2048 clusters of 4 KiB.
        let far = 2048 * 4096;
        file.set_len(far + length).unwrap();
        file.write_all_at(&far.to_be_bytes(), 0x2008).unwrap();
        assert_eq!(first_flaw(&file, far + length).unwrap(), Some(Flaw::Uncounted(far)));
        file.write_all_at(&0x5000u64.to_be_bytes(), 0x4008).unwrap();
        assert_eq!(first_flaw(&file, far + length).unwrap(), None);
        file.write_all_at(&0u64.to_be_bytes(), 0x4000).unwrap();
        assert_eq!(first_flaw(&file, far + length).unwrap(), Some(Flaw::Uncounted(0)));
    }

    #[test]
    fn a_short_file_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(first_flaw(&file, 0).is_err());
    }
}
