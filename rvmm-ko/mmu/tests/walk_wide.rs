//! The guest walk of PAE and 4-level paging against a specification written down separately from SDM vol. 3 §4.4 to §4.8: every
//! combination of the permission bits at every level, kind of access, privilege and mode bit; every bit of every entry for
//! several physical address widths; every combination of accessed and dirty bits.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{FakeHost, Rng};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::Gva;
use rvmm_mmu::walk::{walk, Traces, Walked};
use rvmm_mmu::Paging;

const KINDS: [AccessKind; 3] = [AccessKind::Read, AccessKind::Write, AccessKind::Fetch];
const PRIVILEGES: [Privilege; 3] = [Privilege::User, Privilege::Supervisor, Privilege::Implicit];
/// Frame of the table of each level, 1 the lowest.
const TABLE: [u64; 5] = [0, 4, 3, 2, 1];
const NX: u64 = 1 << 63;

/// The paging structures of the two modes, as tables 4-8 to 4-11 and 4-14 to 4-20 have them.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Format {
    Pae,
    Long,
}

#[derive(Clone, Copy, Debug)]
struct Modes {
    format: Format,
    wp: bool,
    nxe: bool,
    smep: bool,
    smap: bool,
    ac: bool,
    width: u32,
}

impl Modes {
    fn all(format: Format, width: u32) -> impl Iterator<Item = Self> {
        let bit = |n: u32, i: u32| n >> i & 1 != 0;
        (0..32).map(move |n| Self {
            format,
            wp: bit(n, 0),
            nxe: bit(n, 1),
            smep: bit(n, 2),
            smap: bit(n, 3),
            ac: bit(n, 4),
            width,
        })
    }
    fn levels(&self) -> usize {
        if self.format == Format::Pae {
            3
        } else {
            4
        }
    }
    fn la(&self) -> u64 {
        if self.format == Format::Pae {
            0xc765_4abc
        } else {
            0xffff_9234_8765_4abc
        }
    }
    fn cr3(&self) -> u64 {
        // The pointers of PAE are in the middle of their frame.
        TABLE[self.levels()] << 12 | if self.format == Format::Pae { 0x7e0 } else { 0x18 }
    }
    fn paging(&self) -> Paging {
        let mut cr0 = Cr0::PE | Cr0::PG;
        cr0.set(Cr0::WP, self.wp);
        let mut cr4 = Cr4::PAE;
        cr4.set(Cr4::SMEP, self.smep);
        cr4.set(Cr4::SMAP, self.smap);
        let mut efer = if self.format == Format::Long { Efer::LME | Efer::LMA } else { Efer::empty() };
        efer.set(Efer::NXE, self.nxe);
        let rflags = if self.ac { Rflags::AC } else { Rflags::empty() };
        Paging { cr0, cr3: self.cr3(), cr4, efer, rflags, physical_bits: self.width as u8 }
    }
    /// Where the entry of `level` is in a table that begins at `table`.
    fn entry_at(&self, table: u64, level: usize) -> u64 {
        let index = match (self.format, level) {
            (Format::Pae, 3) => self.la() >> 30 & 3,
            _ => self.la() >> (3 + 9 * level) & 511,
        };
        (table & 0x000f_ffff_ffff_f000) + index * 8 + if (self.format, level) == (Format::Pae, 3) { 0x7e0 } else { 0 }
    }
    fn reserved(&self, level: usize, large: bool) -> u64 {
        let bits = |high: u32, low: u32| -> u64 { (low..=high).map(|n| 1 << n).sum() };
        let mut reserved = match (self.format, level) {
            (Format::Pae, 3) => return bits(63, self.width) | bits(8, 5) | bits(2, 1),
            (Format::Pae, _) => bits(62, self.width),
            (Format::Long, 4) => bits(51, self.width) | bits(7, 7),
            (Format::Long, _) => bits(51, self.width),
        };
        if !self.nxe {
            reserved |= NX;
        }
        match (large, level) {
            (true, 2) => reserved | bits(20, 13),
            (true, 3) => reserved | bits(29, 13),
            _ => reserved,
        }
    }
}

/// What the manual says of an access: the physical address, log2 of the page's size, and the entries used with their values
/// afterwards; or the error code.
type Verdict = Result<(u64, u32, Vec<(u64, u64)>), u32>;

fn manual(host: &FakeHost, m: Modes, access: Access) -> Verdict {
    let user = access.privilege == Privilege::User;
    let (write, fetch) = (access.kind == AccessKind::Write, access.kind == AccessKind::Fetch);
    let code = u32::from(write) << 1 | u32::from(user) << 2 | u32::from(fetch && (m.nxe || m.smep)) << 4;
    let (mut read_write, mut user_address, mut disabled) = (true, true, false);
    let mut used = Vec::new();
    let mut table = TABLE[m.levels()] << 12;
    for level in (1..=m.levels()).rev() {
        let at = m.entry_at(table, level);
        let entry = if at + 8 <= host.ram.len() as u64 { host.wide(at >> 12, (at & 4095) as usize / 8) } else { 0 };
        if entry & 1 == 0 {
            return Err(code);
        }
        let pointer = (m.format, level) == (Format::Pae, 3);
        let large = entry & 0x80 != 0 && level > 1 && !pointer;
        if entry & m.reserved(level, large) != 0 {
            return Err(code | 9);
        }
        if !pointer {
            read_write &= entry & 2 != 0;
            user_address &= entry & 4 != 0;
            disabled |= entry & NX != 0;
        }
        used.push((at, if pointer { entry } else { entry | 0x20 }));
        table = entry & 0x000f_ffff_ffff_f000;
        if large || level == 1 {
            let smap_stops = m.smap && !(m.ac && access.privilege == Privilege::Supervisor);
            let permitted = match (user, user_address, access.kind) {
                (true, false, _) => false,
                (true, true, AccessKind::Read) => true,
                (true, true, AccessKind::Write) => read_write,
                (true, true, AccessKind::Fetch) => !disabled,
                (false, false, AccessKind::Read) => true,
                (false, false, AccessKind::Write) => !m.wp || read_write,
                (false, false, AccessKind::Fetch) => !disabled,
                (false, true, AccessKind::Read) => !smap_stops,
                (false, true, AccessKind::Write) => !smap_stops && (!m.wp || read_write),
                (false, true, AccessKind::Fetch) => !m.smep && !disabled,
            };
            if !permitted {
                return Err(code | 1);
            }
            if write {
                used.last_mut().unwrap().1 |= 0x40;
            }
            let bits = 3 + 9 * level as u32;
            let page = (1_u64 << bits) - 1;
            return Ok((table & !page | m.la() & page, bits, used));
        }
    }
    unreachable!()
}

/// All kinds of access in these modes. `traces`: with and without, and the tables compared afterwards; else without.
fn compare(host: &mut FakeHost, m: Modes, traces: bool, what: &dyn Fn() -> String) {
    let paging = m.paging();
    for kind in KINDS {
        for privilege in PRIVILEGES {
            let access = Access { kind, privilege };
            let expected = manual(host, m, access);
            let got = walk(host, &paging, Gva(m.la()), access, Traces::None).unwrap().unwrap();
            check(&got, &expected, &|| format!("{} {m:?} {access:?}", what()));
            if traces {
                let before = host.ram.clone();
                let got = walk(host, &paging, Gva(m.la()), access, Traces::Set).unwrap().unwrap();
                check(&got, &expected, &|| format!("{} {m:?} {access:?} traces", what()));
                let mut after = before.clone();
                if let (Ok((_, _, used)), Walked::Mapped(walk)) = (&expected, &got) {
                    for (step, &(at, value)) in walk.steps().iter().zip(used) {
                        after[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
                        assert_eq!((step.at.0, step.raw), (at, value), "{} {m:?} {access:?}", what());
                    }
                    assert_eq!(walk.dirty, used.last().unwrap().1 & 0x40 != 0, "{} {m:?} {access:?}", what());
                }
                assert!(host.ram == after, "{} {m:?} {access:?}", what());
                host.ram = before;
            }
        }
    }
}

fn check(got: &Walked, expected: &Verdict, context: &dyn Fn() -> String) {
    match (got, expected) {
        (Walked::Mapped(walk), Ok((gpa, bits, used))) => {
            let agrees = (walk.gpa.0, u32::from(walk.bits), walk.steps().len()) == (*gpa, *bits, used.len());
            assert!(agrees, "{}: {walk:x?}, the manual says {expected:x?}", context());
        }
        (Walked::Fault(code), Err(bits)) => {
            assert_eq!(code.bits(), *bits, "{}", context());
        }
        _ => panic!("{}: {got:x?}, the manual says {expected:x?}", context()),
    }
}

/// An entry of `level` with W, U, NX and PS from the bits of `n`. It leads to the next table, or to a page.
fn entry(m: Modes, level: usize, n: u64) -> u64 {
    let pointer = (m.format, level) == (Format::Pae, 3);
    let flags = 1 | if pointer { 0 } else { (n & 3) << 1 | (n >> 2 & 1) << 63 | (n >> 3 & 1) << 7 };
    let large = flags & 0x80 != 0;
    match level {
        1 => 7 << 12 | flags,
        _ if large => 0x8000_1000 | flags,
        _ => TABLE[level - 1] << 12 | flags,
    }
}

fn get(host: &FakeHost, m: Modes, level: usize) -> u64 {
    let at = m.entry_at(TABLE[level] << 12, level);
    host.wide(at >> 12, (at & 4095) as usize / 8)
}

fn set(host: &mut FakeHost, m: Modes, level: usize, value: u64) {
    let at = m.entry_at(TABLE[level] << 12, level);
    host.set_wide(at >> 12, (at & 4095) as usize / 8, value);
}

/// Every combination from `level` down; where the walk ends, what lies below is arbitrary, and must not matter.
fn combinations(host: &mut FakeHost, rng: &mut Rng, m: Modes, level: usize, above: &mut Vec<u64>, count: &mut u64) {
    let pointer = (m.format, level) == (Format::Pae, 3);
    for n in 0..if pointer { 1 } else { 16 } {
        for present in [0, 1] {
            let value = entry(m, level, n) & !1 | present;
            set(host, m, level, value);
            above.push(value);
            let large = value & 0x80 != 0 && !pointer;
            if present == 0 || level == 1 || large {
                for lower in 1..level {
                    let value = entry(m, lower, rng.below(16)) & !u64::from(rng.chance(20));
                    set(host, m, lower, value);
                }
                for modes in Modes::all(m.format, m.width) {
                    compare(host, modes, false, &|| format!("{above:x?}"));
                }
                *count += 1;
            } else {
                combinations(host, rng, m, level - 1, above, count);
            }
            above.pop();
        }
    }
}

#[test]
fn every_combination_of_permissions_at_every_level() {
    for format in [Format::Pae, Format::Long] {
        let m = Modes { format, wp: false, nxe: false, smep: false, smap: false, ac: false, width: 40 };
        let mut count = 0;
        let mut host = FakeHost::new(8, 0);
        combinations(&mut host, &mut Rng::new(1), m, m.levels(), &mut Vec::new(), &mut count);
        // One level of 8 ways to go on, 8 large pages and 16 not present; at the lowest 32, at the highest of four no page that
        // is none but 8 reserved ones.
        let below = |next: u64| 8 * next + 8 + 16;
        assert_eq!(
            count,
            match format {
                Format::Pae => below(32) + 1,
                Format::Long => below(below(below(32))),
            }
        );
    }
}

#[test]
fn every_bit_of_every_entry_for_all_widths() {
    for format in [Format::Pae, Format::Long] {
        for width in [32, 33, 36, 39, 40, 46, 48, 51, 52] {
            for m in Modes::all(format, width).step_by(2).filter(|m| m.smep == m.smap && !m.ac) {
                // A page of each size, and at each level each bit the other way round.
                for leaf in 1..=m.levels().min(3) {
                    for level in leaf..=m.levels() {
                        for bit in 0..64 {
                            let mut host = FakeHost::new(8, 0);
                            for level in leaf..=m.levels() {
                                let flags = if level == leaf && level > 1 { 0b1011 } else { 0b11 };
                                set(&mut host, m, level, entry(m, level, flags));
                            }
                            let value = get(&host, m, level) ^ 1 << bit;
                            set(&mut host, m, level, value);
                            compare(&mut host, m, false, &|| format!("bit {bit} of level {level}: {value:#x}"));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_combination_of_accessed_and_dirty_bits() {
    for format in [Format::Pae, Format::Long] {
        for width in [36, 52] {
            for m in Modes::all(format, width).filter(|m| !m.smep && !m.smap && !m.ac) {
                for leaf in 1..=m.levels().min(3) {
                    for traces in 0..1_u64 << (2 * m.levels()) {
                        let mut host = FakeHost::new(8, 0);
                        for level in leaf..=m.levels() {
                            let pointer = (format, level) == (Format::Pae, 3);
                            let flags = if level == leaf && level > 1 { 0b1011 } else { 0b11 };
                            let bits = if pointer { 0 } else { (traces >> (2 * (level - 1)) & 3) << 5 };
                            set(&mut host, m, level, entry(m, level, flags) | bits);
                        }
                        compare(&mut host, m, true, &|| format!("traces {traces:#x} page of level {leaf}"));
                    }
                }
            }
        }
    }
}
