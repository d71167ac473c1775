//! Shadow entries, in the host's long-mode format (SDM vol. 3 §4.5).
//!
//! The accessed and dirty bits are always set: the CPU then never writes to a shadow table. The guest's own bits are
//! kept exact by *not mapping* what is not accessed yet and mapping read-only what is not dirty yet. No entry is
//! global: every CR3 load of the world switch forgets them all.

use rvmm_arch::{Hpa, Pfn};

use crate::gpte::Permissions;

/// P.
pub const PRESENT: u64 = 1 << 0;
/// R/W.
pub const WRITE: u64 = 1 << 1;
/// U/S.
pub const USER: u64 = 1 << 2;
/// A and D, preset.
pub const TRACES: u64 = 1 << 5 | 1 << 6;
/// The accessed bit alone, preset in entries that refer to tables.
pub const ACCESSED: u64 = 1 << 5;
/// G: never set.
pub const GLOBAL: u64 = 1 << 8;
/// Ignored by the CPU: the leaf is an execution view.
pub const VIEW: u64 = 1 << 9;
/// XD.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Position of the 4-bit protection key.
pub const PKEY_SHIFT: u32 = 59;
/// The frame's address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const _: () = assert!(VIEW & (ADDRESS | PRESENT | WRITE | USER | TRACES | GLOBAL | NO_EXECUTE) == 0);

/// The frame an entry refers to.
#[must_use]
pub const fn pfn(entry: u64) -> Pfn {
    Hpa(entry & ADDRESS).frame()
}

/// The bits of a table entry that follow the guest's.
pub const TABLE_RIGHTS: u64 = WRITE | NO_EXECUTE;

/// An entry for a lower table: writes and fetches as the guest's own entry at this level has it. Always user: the leaf decides.
#[must_use]
pub const fn table(frame: Pfn, permissions: Permissions) -> u64 {
    (frame.base().0 & ADDRESS) | PRESENT | USER | ACCESSED | table_rights(permissions)
}

/// [`TABLE_RIGHTS`] for these permissions.
#[must_use]
pub const fn table_rights(permissions: Permissions) -> u64 {
    (if permissions.write { WRITE } else { 0 }) | if permissions.execute { 0 } else { NO_EXECUTE }
}

/// A page of guest memory in the kernel tree: never executable; supervisor where the guest's kernel runs in ring 1, user
/// where it runs in ring 3.
#[must_use]
pub const fn kernel_data(frame: Pfn, write: bool, user: bool) -> u64 {
    own_page(frame, write, false, user, 0)
}

/// A page of guest memory in the user tree.
#[must_use]
pub const fn user_page(frame: Pfn, write: bool, execute: bool) -> u64 {
    (frame.base().0 & ADDRESS)
        | PRESENT
        | USER
        | TRACES
        | if write { WRITE } else { 0 }
        | if execute { 0 } else { NO_EXECUTE }
}

/// A page of rvmm's own, in the kernel tree.
#[must_use]
pub const fn own_page(frame: Pfn, write: bool, execute: bool, user: bool, pkey: u8) -> u64 {
    (frame.base().0 & ADDRESS)
        | PRESENT
        | TRACES
        | (((pkey & 15) as u64) << PKEY_SHIFT)
        | if write { WRITE } else { 0 }
        | if user { USER } else { 0 }
        | if execute { 0 } else { NO_EXECUTE }
}

/// An execution view: executable, never writable.
#[must_use]
pub const fn view(frame: Pfn, user: bool, pkey: u8) -> u64 {
    own_page(frame, false, true, user, pkey) | VIEW
}
