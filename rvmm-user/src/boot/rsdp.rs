//! Where firmware has left the root of its ACPI tables (ACPI specification, section 5.2.5).

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemory;

const AREA: std::ops::Range<u64> = 0xE_0000..0x10_0000;
const ALIGN: usize = 16;
const SIGNATURE: &[u8] = b"RSD PTR ";
/// Size of the first version, which the checksum is for, and of the second.
const FIRST: usize = 20;
const SECOND: usize = 36;

/// The root's address and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rsdp {
    pub address: u64,
    pub bytes: Vec<u8>,
    /// Version 2 or later, with 64-bit addresses.
    pub extended: bool,
}

/// Looks where kernels look, but for the EBDA.
pub fn find(memory: &GuestMemory) -> Option<Rsdp> {
    let mut area = vec![0; (AREA.end - AREA.start) as usize];
    memory.read_slice(&mut area, GuestAddress(AREA.start)).ok()?;
    (0..area.len()).step_by(ALIGN).find_map(|at| {
        let found = area.get(at..)?;
        let first = found.get(..FIRST)?;
        let sum = first.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if !first.starts_with(SIGNATURE) || sum != 0 {
            return None;
        }
        let extended = first.get(15).is_some_and(|revision| *revision >= 2);
        let bytes = if extended { found.get(..SECOND)? } else { first };
        Some(Rsdp { address: AREA.start + at as u64, bytes: bytes.to_vec(), extended })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_a_checksum() {
        let memory = crate::memory::create(2).unwrap();
        assert_eq!(find(&memory), None);
        let mut root = *b"RSD PTR \0BOCHS \0\x78\x56\x34\x02";
        let sum = root.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        memory.write_slice(&root, GuestAddress(0xF_5AC0)).unwrap();
        assert_eq!(find(&memory), None);
        root[8] = 0u8.wrapping_sub(sum);
        memory.write_slice(&root, GuestAddress(0xF_5AC0)).unwrap();
        assert_eq!(find(&memory), Some(Rsdp { address: 0xF_5AC0, bytes: root.to_vec(), extended: false }));
    }
}
