//! What is expected, by other means than the MMU's: the guest walk on a copy of memory, and who has the windows.

use rvmm_arch::host::{Backing, GuestMemory, HostError};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::{Gfn, Gpa, Gva};
use rvmm_mmu::paging::{canonical, GuestMode};
use rvmm_mmu::walk::{walk, Traces, Walked};
use rvmm_mmu::{Paging, Space};

use crate::common::{compare_exchange, FakeHost};

/// Guest memory with the changes kept apart.
struct Copy<'a> {
    host: &'a FakeHost,
    changes: Vec<(Gpa, Vec<u8>)>,
}

impl GuestMemory for Copy<'_> {
    fn backing(&mut self, _gfn: Gfn) -> Result<Backing, HostError> {
        unreachable!("the walk maps nothing")
    }
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        let at = gpa.0 as usize;
        let Some(bytes) = at.checked_add(buf.len()).and_then(|end| self.host.ram.get(at..end)) else {
            return Ok(false);
        };
        buf.copy_from_slice(bytes);
        for (at, bytes) in &self.changes {
            for (i, byte) in (at.0..).zip(bytes) {
                if let Some(to) = i.checked_sub(gpa.0).and_then(|i| buf.get_mut(i as usize)) {
                    *to = *byte;
                }
            }
        }
        Ok(true)
    }
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        self.changes.push((gpa, data.to_vec()));
        Ok(true)
    }
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        compare_exchange(self, self.host.readonly.contains(&gpa.frame().0), gpa, size, old, new)
    }
    fn has_memory(&mut self, _first: Gfn, _count: u64) -> bool {
        unreachable!("the walk asks for single frames")
    }
}

/// The guest walk by itself, and the accessed and dirty bits that it sets.
pub fn reference(host: &FakeHost, paging: &Paging, gva: Gva, access: Access) -> (Walked, Vec<(Gpa, Vec<u8>)>) {
    let mut copy = Copy { host, changes: Vec::new() };
    let walked = walk(&mut copy, paging, gva, access, Traces::Set).unwrap().unwrap();
    (walked, copy.changes)
}

pub fn access(space: Space, kind: AccessKind) -> Access {
    let privilege = if space == Space::User { Privilege::User } else { Privilege::Supervisor };
    Access { kind, privilege }
}

/// Memory with these changes.
pub fn with(ram: &[u8], changes: &[(Gpa, Vec<u8>)]) -> Vec<u8> {
    let mut ram = ram.to_vec();
    for (at, bytes) in changes {
        ram[at.0 as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    ram
}

/// Whose are the 4 MiB of a window?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The guest has nothing there.
    Free,
    /// It has nothing there, but an entry above forbids writes or fetches.
    Forbidden,
    /// It has something there.
    Taken,
}

/// Follows the guest's tables to the directory entries of a window, by the manual's formats and no code of the MMU's.
pub fn claim(host: &FakeHost, paging: &Paging, mode: GuestMode, start: Gva) -> Claim {
    let read = |at: u64, bytes: usize| -> u64 {
        let at = at as usize;
        let bytes = host.ram.get(at..at.saturating_add(bytes)).unwrap_or(&[]);
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    if (mode != GuestMode::FourLevel && start.0 >> 32 != 0) || !canonical(start) {
        return Claim::Taken;
    }
    if mode == GuestMode::Off {
        return if (start.0 as usize) < host.ram.len() { Claim::Taken } else { Claim::Free };
    }
    if mode == GuestMode::TwoLevel {
        let present = read((paging.cr3 & 0xffff_f000) + (start.0 >> 22) * 4, 4) & 1 != 0;
        return if present { Claim::Taken } else { Claim::Free };
    }
    let beyond = 0x000f_ffff_ffff_f000 & !((1_u64 << paging.physical_bits) - 1);
    let (mut table, mut forbidden) = (paging.cr3 & 0x000f_ffff_ffff_f000, false);
    let mut shifts = [39, 30].into_iter();
    if mode == GuestMode::Pae {
        let pointer = read((paging.cr3 & 0xffff_ffe0) + (start.0 >> 30) * 8, 8);
        if pointer & 1 == 0 {
            return Claim::Free;
        }
        if pointer & (0x1e6 | 0xfff << 52 | beyond) != 0 {
            return Claim::Taken;
        }
        (table, shifts) = (pointer & 0x000f_ffff_ffff_f000, [0, 0].into_iter());
        shifts.nth(1);
    }
    for shift in shifts {
        let entry = read(table + (start.0 >> shift & 511) * 8, 8);
        if entry & 1 == 0 {
            return if forbidden { Claim::Forbidden } else { Claim::Free };
        }
        let no_execute = entry >> 63 == 1;
        let nx = paging.efer.contains(rvmm_arch::regs::Efer::NXE);
        if entry & 0x80 != 0 || entry & beyond != 0 || (no_execute && !nx) {
            return Claim::Taken;
        }
        forbidden |= no_execute || entry & 2 == 0;
        table = entry & 0x000f_ffff_ffff_f000;
    }
    let at = table + (start.0 >> 21 & 511) * 8;
    match (read(at, 8) | read(at + 8, 8)) & 1 {
        1 => Claim::Taken,
        _ if forbidden => Claim::Forbidden,
        _ => Claim::Free,
    }
}
