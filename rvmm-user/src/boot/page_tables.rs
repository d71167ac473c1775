//! The identity mapping in which a 64-bit kernel is entered (Intel SDM volume 3, section 4.5): the lower 4 GiB in pages of 2 MiB.

use vm_memory::{Bytes, GuestAddress};

use super::unexpected;
use crate::error::Error;
use crate::memory::GuestMemory;

/// The top-level table (CR3). Behind it come the table of the next level and four page directories, one for each GiB.
pub const TOP: u64 = 0x9000;
const SECOND: u64 = TOP + PAGE;
const DIRECTORIES: u64 = SECOND + PAGE;

const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 2 << 20;
const ENTRIES: u64 = 512;
const GIB: u64 = 4;

/// Present and writable.
const TABLE: u64 = 0b11;
/// … accessed, dirty, and a page by itself.
const LARGE: u64 = TABLE | 1 << 5 | 1 << 6 | 1 << 7;

/// Writes the tables.
pub fn write(memory: &GuestMemory) -> Result<(), Error> {
    let write = |entry: u64, address: u64| memory.write_obj(entry, GuestAddress(address)).map_err(unexpected);
    write(SECOND | TABLE, TOP)?;
    for gib in 0..GIB {
        write((DIRECTORIES + gib * PAGE) | TABLE, SECOND + gib * 8)?;
    }
    for page in 0..GIB * ENTRIES {
        write((page * LARGE_PAGE) | LARGE, DIRECTORIES + page * 8)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn every_address_below_4_gib_maps_to_itself() {
        let memory = memory::create(4).unwrap();
        write(&memory).unwrap();
        let entry =
            |table: u64, index: u64| -> u64 { memory.read_obj(GuestAddress((table & !0xFFF) + index * 8)).unwrap() };
        for address in [0, 0x7000, 0x10_0000, 0x1FF_FFFF, 0xBFFF_FFFF, 0xFFFF_FFFFu64] {
            let second = entry(TOP, address >> 39);
            let directory = entry(second, address >> 30);
            let page = entry(directory, address >> 21 & 511);
            assert_eq!((second & 0x81, directory & 0x81, page & 0x83), (1, 1, 0x83), "{address:x}");
            assert_eq!(page & !0x1F_FFFF, address & !0x1F_FFFF);
        }
        assert_eq!(entry(TOP, 1), 0);
        assert_eq!(entry(SECOND, 4), 0);
    }
}
