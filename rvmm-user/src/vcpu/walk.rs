//! From a linear address to a physical one, as the guest's page tables are now, for whoever looks from outside (Intel SDM, volume 3, chapter 5).
//! Nothing is checked but presence: who looks is not the guest.

use kvm_bindings::kvm_sregs;

/// The smallest page.
pub const PAGE: u64 = 4096;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const EFER_LMA: u64 = 1 << 10;
const PRESENT: u64 = 1 << 0;
/// An entry above the last level maps a page.
const LARGE: u64 = 1 << 7;
/// The address in an entry of eight bytes.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The physical address, if one is mapped. `read` reads guest-physical memory.
pub fn physical(sregs: &kvm_sregs, linear: u64, read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    if sregs.efer & EFER_LMA == 0 && linear > u32::MAX.into() {
        return None;
    }
    if sregs.cr0 & CR0_PG == 0 {
        return Some(linear);
    }
    if sregs.efer & EFER_LMA != 0 {
        wide(sregs.cr3 & ADDRESS, linear, 4, read)
    } else if sregs.cr4 & CR4_PAE != 0 {
        // The four entries that CR3 points at are a level of their own, without large pages.
        let entry = long(sregs.cr3 & 0xFFFF_FFE0 | (linear >> 30 & 3) << 3, read)?;
        (entry & PRESENT != 0).then(|| wide(entry & ADDRESS, linear, 2, read))?
    } else {
        narrow(sregs, linear, read)
    }
}

/// Tables of 512 entries, `levels` of them.
fn wide(root: u64, linear: u64, levels: u32, read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    let mut table = root;
    for level in (1..=levels).rev() {
        let shift = 12 + 9 * (level - 1);
        let entry = long(table | (linear >> shift & 0x1FF) << 3, read)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 1 || entry & LARGE != 0 && level <= 3 {
            let offset = (1 << shift) - 1;
            return Some(entry & ADDRESS & !offset | linear & offset);
        }
        table = entry & ADDRESS;
    }
    None
}

/// Two levels of 1,024 entries.
fn narrow(sregs: &kvm_sregs, linear: u64, read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    let word = |gpa: u64| {
        let mut bytes = [0; 4];
        let entry = read(gpa, &mut bytes).then(|| u64::from(u32::from_le_bytes(bytes)))?;
        (entry & PRESENT != 0).then_some(entry)
    };
    let entry = word(sregs.cr3 & 0xFFFF_F000 | (linear >> 22) << 2)?;
    if entry & LARGE != 0 && sregs.cr4 & CR4_PSE != 0 {
        // Bits 20–13 of the entry are bits 39–32 of the address.
        return Some((entry >> 13 & 0xFF) << 32 | entry & 0xFFC0_0000 | linear & 0x3F_FFFF);
    }
    let entry = word(entry & 0xFFFF_F000 | (linear >> 12 & 0x3FF) << 2)?;
    Some(entry & 0xFFFF_F000 | linear & 0xFFF)
}

fn long(gpa: u64, read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    let mut bytes = [0; 8];
    read(gpa, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn walk(sregs: kvm_sregs, entries: &[(u64, u64)], linear: u64) -> Option<u64> {
        let memory: HashMap<u64, u64> = entries.iter().copied().collect();
        physical(&sregs, linear, &|gpa, bytes| {
            let value = memory.get(&gpa).copied().unwrap_or(0).to_le_bytes();
            bytes.copy_from_slice(&value[..bytes.len()]);
            true
        })
    }

    #[test]
    fn without_paging_an_address_is_an_address() {
        assert_eq!(walk(kvm_sregs::default(), &[], 0x1234), Some(0x1234));
        assert_eq!(walk(kvm_sregs::default(), &[], 1 << 32), None);
    }

    #[test]
    fn thirty_two_bit_tables_are_walked() {
        let sregs = kvm_sregs { cr0: CR0_PG, cr3: 0x1000, cr4: CR4_PSE, ..Default::default() };
        let entries = [(0x1000 + 4, 0x2003), (0x2000 + 8, 0x5003), (0x1000 + 0x300 * 4, 0x0040_0083)];
        assert_eq!(walk(sregs, &entries, 0x40_2123), Some(0x5123));
        assert_eq!(walk(sregs, &entries, 0xC012_3456), Some(0x0052_3456));
        assert_eq!(walk(sregs, &entries, 0x40_3000), None);
        assert_eq!(walk(sregs, &entries, 0), None);
    }

    #[test]
    fn pae_tables_are_walked() {
        let sregs = kvm_sregs { cr0: CR0_PG, cr3: 0x1020, cr4: CR4_PAE, ..Default::default() };
        let entries = [(0x1038, 0x2001), (0x2000, 0x3003), (0x3008, 0x1_0000_0003), (0x2008, 0x20_0083)];
        assert_eq!(walk(sregs, &entries, 0xC000_1ABC), Some(0x1_0000_0ABC));
        assert_eq!(walk(sregs, &entries, 0xC021_2345), Some(0x21_2345));
        assert_eq!(walk(sregs, &entries, 0), None);
    }

    #[test]
    fn four_levels_are_walked() {
        let sregs = kvm_sregs { cr0: CR0_PG, cr3: 0x1000, cr4: CR4_PAE, efer: EFER_LMA, ..Default::default() };
        let entries =
            [(0x1FF8, 0x2003), (0x2FF0, 0x4000_0083), (0x2FF8, 0x3003), (0x3000, 0x4003), (0x4000, 1 << 63 | 0x7003)];
        assert_eq!(walk(sregs, &entries, 0xFFFF_FFFF_C000_0010), Some(0x7010));
        assert_eq!(walk(sregs, &entries, 0xFFFF_FFFF_8123_4567), Some(0x4123_4567));
        assert_eq!(walk(sregs, &entries, 0), None);
    }
}
