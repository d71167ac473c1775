//! Guest page-table entries: what one means, per paging mode. Each mode is an implementation of [`PagingMode`]; the walk
//! is the same for all.

use rvmm_arch::regs::Cr4;
use rvmm_arch::{Gpa, Gva};

use crate::paging::{GuestMode, Paging};

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
    /// The dirty bit.
    const DIRTY: u64 = DIRTY;

    /// The accessed bit of an entry of `level`; 0 where there is none.
    #[must_use]
    fn accessed(_level: u8) -> u64 {
        ACCESSED
    }
    /// The top-level table.
    fn root(paging: &Paging) -> Gpa;
    /// Index of `la`'s entry in its table of `level` (1 is the lowest).
    fn index(la: Gva, level: u8) -> u64;
    /// The meaning of `raw` in a table of `level`.
    fn decode(raw: u64, level: u8, paging: &Paging) -> Entry;
}

/// A, where an entry has it.
pub const ACCESSED: u64 = 1 << 5;
/// D, in an entry that maps a page.
pub const DIRTY: u64 = 1 << 6;
/// P.
pub const PRESENT: u64 = 1 << 0;

/// The same, where the mode is known at run time only.
impl GuestMode {
    /// Levels of tables; 0 with paging off.
    #[must_use]
    pub const fn levels(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::TwoLevel => TwoLevel::LEVELS,
            Self::Pae => Pae::LEVELS,
            Self::FourLevel => FourLevel::LEVELS,
        }
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_bytes(self) -> u8 {
        match self {
            Self::Off | Self::TwoLevel => TwoLevel::ENTRY_BYTES,
            Self::Pae | Self::FourLevel => Pae::ENTRY_BYTES,
        }
    }

    /// The accessed bit of an entry of `level`; 0 where there is none.
    #[must_use]
    pub fn accessed(self, level: u8) -> u64 {
        match self {
            Self::Pae => Pae::accessed(level),
            Self::Off | Self::TwoLevel | Self::FourLevel => ACCESSED,
        }
    }

    /// The top-level table.
    #[must_use]
    pub fn root(self, paging: &Paging) -> Gpa {
        match self {
            Self::Off => Gpa(0),
            Self::TwoLevel => TwoLevel::root(paging),
            Self::Pae => Pae::root(paging),
            Self::FourLevel => FourLevel::root(paging),
        }
    }

    /// Index of `la`'s entry in its table of `level`.
    #[must_use]
    pub fn index(self, la: Gva, level: u8) -> u64 {
        match self {
            Self::Off | Self::TwoLevel => TwoLevel::index(la, level),
            Self::Pae => Pae::index(la, level),
            Self::FourLevel => FourLevel::index(la, level),
        }
    }

    /// The meaning of `raw` in a table of `level`.
    #[must_use]
    pub fn decode(self, raw: u64, level: u8, paging: &Paging) -> Entry {
        match self {
            Self::Off | Self::TwoLevel => TwoLevel::decode(raw, level, paging),
            Self::Pae => Pae::decode(raw, level, paging),
            Self::FourLevel => FourLevel::decode(raw, level, paging),
        }
    }
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

/// Address bits of an 8-byte entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Execute-disable, or reserved.
const NO_EXECUTE: u64 = 1 << 63;
/// PS in a directory entry.
const LARGE: u64 = 1 << 7;

/// Bits 51 to `physical_bits`: addresses that the guest's bus does not have.
const fn beyond(physical_bits: u8) -> u64 {
    if physical_bits >= 52 {
        0
    } else {
        ADDRESS & !((1_u64 << physical_bits) - 1)
    }
}

/// What the entries of PAE and of 4-level paging have in common; `reserved` is what else the mode reserves.
fn decode_wide(raw: u64, level: u8, paging: &Paging, reserved: u64) -> Entry {
    if raw & PRESENT == 0 {
        return Entry::NotPresent;
    }
    let unusable = if paging.no_execute() { 0 } else { NO_EXECUTE };
    if raw & (reserved | unusable | beyond(paging.physical_bits)) != 0 {
        return Entry::Reserved;
    }
    let permissions = Permissions { write: raw & 2 != 0, user: raw & 4 != 0, execute: raw & NO_EXECUTE == 0 };
    let bits = 12_u8.wrapping_add(9_u8.wrapping_mul(level.wrapping_sub(1) & 3));
    if level > 1 && raw & LARGE == 0 {
        return Entry::Table { base: Gpa(raw & ADDRESS), permissions };
    }
    // Bit 12 is PAT where the page is large; the other bits below the page's base must be 0.
    let below = (1_u64 << bits).wrapping_sub(1) & ADDRESS;
    if raw & below & !(1 << 12) != 0 {
        return Entry::Reserved;
    }
    Entry::Page { base: Gpa(raw & ADDRESS & !below), bits, permissions }
}

/// PAE paging (SDM vol. 3 §4.4). The four directory pointers are read with every walk, as AMD's CPUs do; Intel's keep copies
/// from the load of CR3 on.
#[derive(Clone, Copy, Debug)]
pub struct Pae;

impl Pae {
    /// Bits of a present directory pointer that must be 0 (table 4-8): R/W and U/S, A, D, PS and G, and all above the address.
    #[must_use]
    pub const fn pointer_reserved(physical_bits: u8) -> u64 {
        0x1e6 | !0 << 52 | beyond(physical_bits)
    }
}

impl PagingMode for Pae {
    const LEVELS: u8 = 3;
    const ENTRY_BYTES: u8 = 8;

    fn accessed(level: u8) -> u64 {
        if level >= 3 {
            0
        } else {
            ACCESSED
        }
    }

    fn root(paging: &Paging) -> Gpa {
        Gpa(paging.cr3 & 0xffff_ffe0)
    }

    fn index(la: Gva, level: u8) -> u64 {
        match level {
            1 => (la.0 >> 12) & 0x1ff,
            2 => (la.0 >> 21) & 0x1ff,
            _ => (la.0 >> 30) & 3,
        }
    }

    fn decode(raw: u64, level: u8, paging: &Paging) -> Entry {
        if level < 3 {
            // Bits 62:52 are reserved (tables 4-9 to 4-11).
            return decode_wide(raw, level, paging, 0x7ff0_0000_0000_0000);
        }
        if raw & PRESENT == 0 {
            Entry::NotPresent
        } else if raw & Self::pointer_reserved(paging.physical_bits) != 0 {
            Entry::Reserved
        } else {
            Entry::Table { base: Gpa(raw & ADDRESS), permissions: Permissions::ALL }
        }
    }
}

/// 4-level paging (SDM vol. 3 §4.5). Pages of 1 GiB are always understood.
#[derive(Clone, Copy, Debug)]
pub struct FourLevel;

impl PagingMode for FourLevel {
    const LEVELS: u8 = 4;
    const ENTRY_BYTES: u8 = 8;

    fn root(paging: &Paging) -> Gpa {
        Gpa(paging.cr3 & ADDRESS)
    }

    fn index(la: Gva, level: u8) -> u64 {
        let shift = 12_u32.wrapping_add(9_u32.wrapping_mul(u32::from(level.wrapping_sub(1) & 3)));
        (la.0 >> shift) & 0x1ff
    }

    fn decode(raw: u64, level: u8, paging: &Paging) -> Entry {
        // PS is reserved in a PML4E (table 4-15). Bits 62:52 are ignored.
        decode_wide(raw, level, paging, if level >= 4 { LARGE } else { 0 })
    }
}
