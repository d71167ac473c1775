//! Guest page-table entries: what one means, per paging mode. A further mode is a further implementation of
//! [`PagingMode`]; the walk does not change.

use rvmm_arch::regs::Cr4;
use rvmm_arch::{Gpa, Gva};

use crate::paging::Paging;

/// What an entry, or a whole walk, permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// Writes (supervisor writes may ignore this: CR0.WP).
    pub write: bool,
    /// User-mode access.
    pub user: bool,
    /// Instruction fetches (no NX).
    pub execute: bool,
}

impl Permissions {
    /// Everything.
    pub const ALL: Self = Self { write: true, user: true, execute: true };

    /// What both permit.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { write: self.write && other.write, user: self.user && other.user, execute: self.execute && other.execute }
    }
}

/// A decoded entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// P = 0.
    NotPresent,
    /// P = 1 and a reserved bit is set.
    Reserved,
    /// Refers to a table of the next lower level.
    Table {
        /// The table.
        base: Gpa,
        /// What the entry permits.
        permissions: Permissions,
    },
    /// Maps a page.
    Page {
        /// First byte of the page.
        base: Gpa,
        /// log2 of its size.
        bits: u8,
        /// What the entry permits.
        permissions: Permissions,
    },
}

/// The format of one paging mode's tables.
pub trait PagingMode {
    /// Levels of tables.
    const LEVELS: u8;
    /// Bytes of an entry: 4 or 8.
    const ENTRY_BYTES: u8;
    /// The accessed bit.
    const ACCESSED: u64 = 1 << 5;
    /// The dirty bit.
    const DIRTY: u64 = 1 << 6;

    /// The top-level table.
    fn root(paging: &Paging) -> Gpa;
    /// Index of `la`'s entry in its table of `level` (1 is the lowest).
    fn index(la: Gva, level: u8) -> u64;
    /// The meaning of `raw` in a table of `level`.
    fn decode(raw: u64, level: u8, paging: &Paging) -> Entry;
}

/// 32-bit paging (SDM vol. 3 §4.3).
#[derive(Clone, Copy, Debug)]
pub struct TwoLevel;

/// log2 of the size of a 4 MiB page.
pub const LARGE_BITS: u8 = 22;

impl TwoLevel {
    /// Bits of a 4 MiB PDE that must be 0: bit 21 and those of bits 20:13 (address bits 39:32) that are beyond the
    /// physical address width.
    #[must_use]
    pub const fn large_reserved(physical_bits: u8) -> u64 {
        let usable = physical_bits.saturating_sub(32);
        let usable = if usable > 8 { 8 } else { usable };
        (0x3f_e000 << usable) & 0x3f_e000
    }
}

impl PagingMode for TwoLevel {
    const LEVELS: u8 = 2;
    const ENTRY_BYTES: u8 = 4;

    fn root(paging: &Paging) -> Gpa {
        Gpa(paging.cr3 & 0xffff_f000)
    }

    fn index(la: Gva, level: u8) -> u64 {
        if level >= 2 {
            (la.0 >> 22) & 0x3ff
        } else {
            (la.0 >> 12) & 0x3ff
        }
    }

    fn decode(raw: u64, level: u8, paging: &Paging) -> Entry {
        if raw & 1 == 0 {
            return Entry::NotPresent;
        }
        let permissions = Permissions { write: raw & 2 != 0, user: raw & 4 != 0, execute: true };
        let base = Gpa(raw & 0xffff_f000);
        if level < 2 {
            return Entry::Page { base, bits: 12, permissions };
        }
        if raw & (1 << 7) == 0 || !paging.cr4.contains(Cr4::PSE) {
            return Entry::Table { base, permissions };
        }
        if raw & Self::large_reserved(paging.physical_bits) != 0 {
            return Entry::Reserved;
        }
        let base = Gpa((raw & 0xffc0_0000) | ((raw & 0x1f_e000) << 19));
        Entry::Page { base, bits: LARGE_BITS, permissions }
    }
}
