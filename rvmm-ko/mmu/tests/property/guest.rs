//! The random guest: which frames are its tables in which paging mode, what it writes there, and where it goes.

use rvmm_arch::Gva;
use rvmm_mmu::paging::{canonical_of, GuestMode};

use crate::common::{FakeHost, Rng};

pub const FRAMES: u64 = 48;
/// The tables of each format and level. Frames 1 and 4 serve both formats, one after the other or at once.
const DIRECTORIES: [u64; 3] = [1, 2, 3];
const TABLES: [u64; 4] = [4, 5, 6, 7];
const WIDE: [&[u64]; 4] = [&[4, 15, 16], &[1, 14], &[12, 13], &[10, 11]];
/// Frames with directory pointers of PAE at three places. They are no other tables: setting an accessed bit there would set a
/// reserved bit of a pointer, which CPUs that keep the pointers in registers (SDM vol. 3 §4.4.1) do not notice.
const POINTERS: [u64; 2] = [8, 9];
const POINTER_PLACES: [u64; 3] = [0, 0x20, 0xfe0];
/// Frames below are tables.
pub const FIRST_DATA: u64 = 18;

const NARROW_INDEX: [&[u64]; 2] = [&[0, 1, 2, 511, 512, 1023], &[0, 1, 2, 255, 256, 768, 769, 1023]];
/// 260 is where hosts of four levels have the VMM area.
const WIDE_INDEX: [&[u64]; 4] =
    [&[0, 1, 2, 511], &[0, 1, 2, 510, 511], &[0, 1, 3, 510, 511], &[0, 1, 255, 256, 260, 511]];
const PAE_TOP: [u64; 3] = [0, 1, 3];

/// A write to a table.
pub struct Edit {
    pub gfn: u64,
    pub index: u64,
    pub value: u64,
    pub bytes: u64,
}

fn flags(rng: &mut Rng) -> u64 {
    let present = u64::from(rng.chance(98));
    let write = u64::from(rng.chance(90)) << 1;
    let user = u64::from(rng.chance(94)) << 2;
    present | write | user | rng.below(4) << 5 | rng.below(2) << 8
}

/// An entry of 32-bit paging.
pub fn narrow_entry(rng: &mut Rng, level: usize) -> u64 {
    let base = if level == 1 {
        match rng.below(8) {
            0 => return 0,
            1 => rng.pick(&DIRECTORIES) << 12,
            2 => rng.pick(&TABLES) << 12,
            3 => (FRAMES - 3 + rng.below(5)) << 12,
            _ => (FIRST_DATA + rng.below(6)) << 12,
        }
    } else {
        match rng.below(10) {
            0 if rng.chance(50) => return 0,
            // A large page: the RAM of this guest, the same with nothing behind it, or with a reserved bit.
            1 | 2 => rng.pick(&[0, 0, 0x40_0000, 0x20_0000]) | 0x80,
            // The directory itself as a page table.
            3 => rng.pick(&DIRECTORIES) << 12,
            _ => rng.pick(&TABLES) << 12,
        }
    };
    base | flags(rng)
}

/// An entry of `level` of PAE (`pae`) or 4-level paging. Any width of the physical address is possible.
pub fn wide_entry(rng: &mut Rng, level: usize, pae: bool) -> u64 {
    if pae && level == 3 {
        return match rng.below(12) {
            0 => 0,
            // Not frame 8 as a directory: see above.
            1 => (1 << rng.below(64) | 1) & !0x8000,
            _ => rng.pick(WIDE[1]) << 12 | 1,
        };
    }
    let base = match (level, rng.below(20)) {
        (_, 0) => return 0,
        (1, 1..=3) => any_table(rng) << 12,
        (1, 4 | 5) => (FRAMES - 3 + rng.below(5)) << 12,
        (1, _) => (FIRST_DATA + rng.below(6)) << 12,
        // Large pages: all RAM, the same beyond it, with a reserved bit, with PAT.
        (2, 1..=3) => rng.pick(&[0, 0, 0x20_0000, 0x2000, 0x1000]) | 0x80,
        (3, 1..=3) => rng.pick(&[0, 0, 0x4000_0000, 0x20_0000, 0x1000]) | 0x80,
        (4, 1) => 0x80,
        // Any table: self-maps, wrong levels.
        (_, 4) => any_table(rng) << 12,
        _ => rng.pick(WIDE[level - 2]) << 12,
    };
    let mut high = 0;
    if rng.chance(6) {
        high |= 1 << 63;
    }
    if rng.chance(2) {
        // An address bit: with bit 44 the frame is another one modulo 2^32.
        high |= 1 << rng.pick(&[36, 44, 44, 51, 52, 62]);
    }
    base | flags(rng) | high
}

fn any_table(rng: &mut Rng) -> u64 {
    let tables = rng.pick(&WIDE);
    rng.pick(tables)
}

/// Fills all tables.
pub fn build(rng: &mut Rng, host: &mut FakeHost) {
    for (level, tables) in [(2, &DIRECTORIES[..]), (1, &TABLES)] {
        for &table in tables {
            for &index in NARROW_INDEX[level - 1] {
                let value = narrow_entry(rng, level);
                host.set_gpte(table, index as usize, value as u32);
            }
        }
    }
    for level in 1..=4 {
        for &table in WIDE[level - 1] {
            for &index in WIDE_INDEX[level - 1] {
                let value = wide_entry(rng, level, false);
                host.set_wide(table, index as usize, value);
            }
        }
    }
    for table in POINTERS {
        for place in POINTER_PLACES {
            for index in 0..4 {
                let value = wide_entry(rng, 3, true);
                host.set_wide(table, (place / 8 + index) as usize, value);
            }
        }
    }
}

/// What the guest writes into one of its tables, most often of the mode it is in.
pub fn edit(rng: &mut Rng, host: &FakeHost, mode: GuestMode) -> Edit {
    let mode = if rng.chance(85) { mode } else { rng.pick(&MODES) };
    let (gfn, index, fresh, bytes) = match mode {
        GuestMode::Off | GuestMode::TwoLevel => {
            let level = 1 + rng.below(2) as usize;
            let gfn = if level == 2 { rng.pick(&DIRECTORIES) } else { rng.pick(&TABLES) };
            (gfn, rng.pick(NARROW_INDEX[level - 1]), narrow_entry(rng, level), 4)
        }
        GuestMode::Pae if rng.chance(15) => {
            let index = rng.pick(&POINTER_PLACES) / 8 + rng.below(4);
            (rng.pick(&POINTERS), index, wide_entry(rng, 3, true), 8)
        }
        _ => {
            let level = 1 + rng.below(if mode == GuestMode::Pae { 2 } else { 4 }) as usize;
            let gfn = rng.pick(WIDE[level - 1]);
            (gfn, rng.pick(WIDE_INDEX[level - 1]), wide_entry(rng, level, false), 8)
        }
    };
    let old = if bytes == 4 { host.gpte(gfn, index as usize).into() } else { host.wide(gfn, index as usize) };
    // Often only the flags change.
    let keep = !((1 << 63) | 0x7f);
    let value = if rng.chance(40) { old & keep | fresh & !keep } else { fresh };
    let value = if bytes == 4 { value & 0xffff_ffff } else { value };
    Edit { gfn, index, value, bytes }
}

/// An entry of a directory that permits everything and has been used.
pub const USED: u64 = 0x67;

/// Is it one of the frames that serve as tables of this level in this mode (and not for the pointers of PAE)?
pub fn is_table(gfn: u64, level: u8, mode: GuestMode) -> bool {
    match (mode, level) {
        (GuestMode::TwoLevel, 2) => DIRECTORIES.contains(&gfn),
        (GuestMode::Pae, 2) | (GuestMode::FourLevel, 2..=4) => WIDE[usize::from(level) - 1].contains(&gfn),
        _ => false,
    }
}

/// What the guest writes into this frame, if it takes it for a table.
pub fn edit_of(rng: &mut Rng, host: &FakeHost, mode: GuestMode, gfn: u64) -> Edit {
    for _ in 0..200 {
        let edit = edit(rng, host, mode);
        if edit.gfn == gfn {
            return edit;
        }
    }
    Edit { gfn, index: rng.pick(WIDE_INDEX[0]), value: 0, bytes: 8 }
}

pub const MODES: [GuestMode; 3] = [GuestMode::TwoLevel, GuestMode::Pae, GuestMode::FourLevel];

/// A CR3 for a mode.
pub fn cr3(rng: &mut Rng, mode: GuestMode) -> u64 {
    match mode {
        GuestMode::Off | GuestMode::TwoLevel => rng.pick(&DIRECTORIES) << 12 | rng.pick(&[0, 0x18]),
        GuestMode::Pae => rng.pick(&POINTERS) << 12 | rng.pick(&POINTER_PLACES),
        GuestMode::FourLevel => rng.pick(WIDE[3]) << 12 | rng.pick(&[0, 0x18]),
    }
}

/// All pages that the guest uses in a mode.
pub fn pages(mode: GuestMode) -> Vec<Gva> {
    let mut pages = Vec::new();
    match mode {
        GuestMode::Off | GuestMode::TwoLevel => {
            for pde in NARROW_INDEX[1] {
                pages.extend(NARROW_INDEX[0].iter().map(|pte| Gva(pde << 22 | pte << 12)));
            }
        }
        GuestMode::Pae | GuestMode::FourLevel => {
            let (tops, uppers): (&[u64], _) =
                if mode == GuestMode::Pae { (&[0], &PAE_TOP[..]) } else { (WIDE_INDEX[3], WIDE_INDEX[2]) };
            for top in tops {
                for upper in uppers {
                    for pde in WIDE_INDEX[1] {
                        let base = top << 39 | upper << 30 | pde << 21;
                        pages.extend(WIDE_INDEX[0].iter().map(|pte| canonical_of(base | pte << 12)));
                    }
                }
            }
        }
    }
    pages
}

pub fn address(rng: &mut Rng, pages: &[Gva]) -> Gva {
    Gva(rng.pick(pages).0 | (rng.below(1024) * 4))
}

/// A place for a window: where the guest has tables, and elsewhere.
pub fn window(rng: &mut Rng, mode: GuestMode) -> Gva {
    let mode = if rng.chance(85) { mode } else { rng.pick(&MODES) };
    match mode {
        GuestMode::Off | GuestMode::TwoLevel => Gva(rng.pick(&[2, 768, 1023]) << 22),
        _ => {
            let page = rng.pick(&pages(mode)).0;
            let page = if rng.chance(30) { page ^ 3 << 30 } else { page };
            let page = if mode == GuestMode::FourLevel && rng.chance(15) { page ^ 5 << 40 } else { page };
            Gva(canonical_of(page).0 & !0x3f_ffff)
        }
    }
}
