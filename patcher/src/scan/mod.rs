//! Tour 13/22, next: `patcher/src/table/mod.rs`.
//! Block scanning ahead of execution.
//!
//! From the byte at which execution arrived, the scanner follows straight-line code and, inside the page, direct
//! branches. Each instruction becomes either verbatim bytes or an int3 site; bytes that it does not reach stay int3 and
//! call it again when execution gets there. Nothing here depends on guessing what is code: any bytes at all may be scanned,
//! because what is shown is shown only where it is harmless ([`crate::page_map`] states the invariant).
//!
//! A scan has three steps: [`walk`] decodes and places, [`interior`] looks at every byte at which the guest could jump into
//! the middle of something, [`settle`] takes overlapping instructions back until every known boundary is exact.

mod forget;
mod interior;
pub(crate) mod settle;
mod walk;

pub use forget::forget;

use crate::page::{CodeSize, PageBytes, PageOffset, Span};
use crate::page_map::{PageMap, Place, SiteReason};
use crate::table::ROW_COUNT;
use crate::tactic::JumpRefusal;

/// What to scan.
pub struct ScanInput<'a> {
    /// The guest's bytes of the page.
    pub page: &'a PageBytes,
    /// Linear address of the page's first byte.
    pub linear: u64,
    /// The byte at which execution arrived.
    pub entry: PageOffset,
    /// Code size of the segment.
    pub code_size: CodeSize,
    /// How far to go.
    pub reach: Reach,
}

/// How far a scan goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Whether direct branches inside the page are followed.
    pub branches: Branches,
    /// Instructions to decode at most before the scan stops at the next boundary.
    pub instructions: u16,
}

impl Default for Reach {
    fn default() -> Self {
        Reach { branches: Branches::Follow, instructions: 512 }
    }
}

/// Whether a scan follows direct branches inside the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branches {
    /// Follow them.
    Follow,
    /// Only straight-line code from the entry.
    Ignore,
}

/// Why a page cannot be scanned at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanRefusal {
    /// Code of this size never runs directly: interpret it.
    CodeSize(CodeSize),
}

/// What a scan did.
#[derive(Clone, Copy, Debug)]
pub struct ScanOutcome {
    /// What stands at the entry now. Never [`Place::Unscanned`].
    pub entry: Place,
    /// The bytes of the view to write again ([`PageMap::write_view`]).
    pub changed: Span,
}

/// Counters of the scanner, added up over scans.
#[derive(Clone, Debug)]
pub struct ScanCounts {
    /// Scans that ran.
    pub scans: u64,
    /// Instructions decoded at boundaries.
    pub instructions: u64,
    /// Instructions decoded in the middle of others.
    pub interior: u64,
    /// Instructions shown verbatim.
    pub verbatim: u64,
    /// Instructions taken back after they had been shown.
    pub demoted: u64,
    /// Hot instructions shown in spite of a critical one in their middle, see [`PageMap::note_hit`].
    pub unguarded: u64,
    /// Branch targets dropped because the worklist was full; they are scanned when execution arrives there.
    pub dropped_targets: u64,
    /// Sites by reason, see [`SiteReason::index`].
    pub sites: [u64; SiteReason::ALL.len()],
    /// Critical sites by row of the table.
    pub rows: [u64; ROW_COUNT],
    /// Scans refused.
    pub refused: u64,
    /// Jumps installed.
    pub jumps: u64,
    /// Of these, by row of the site; jumps for harmless instructions (tactic `interior`) are in no row.
    pub jump_rows: [u64; ROW_COUNT],
    /// Jumps refused, by [`JumpRefusal::index`](crate::tactic::JumpRefusal::index).
    pub jump_refusals: [u64; JumpRefusal::COUNT],
}

impl Default for ScanCounts {
    fn default() -> Self {
        Self::ZERO
    }
}

impl ScanCounts {
    /// All zero.
    pub const ZERO: ScanCounts = ScanCounts {
        scans: 0,
        instructions: 0,
        interior: 0,
        verbatim: 0,
        demoted: 0,
        unguarded: 0,
        dropped_targets: 0,
        sites: [0; SiteReason::ALL.len()],
        rows: [0; ROW_COUNT],
        refused: 0,
        jumps: 0,
        jump_rows: [0; ROW_COUNT],
        jump_refusals: [0; JumpRefusal::COUNT],
    };

    pub(crate) fn site(&mut self, reason: SiteReason) {
        if let Some(count) = self.sites.get_mut(reason.index()) {
            *count = count.wrapping_add(1);
        }
    }
}

/// Scan from `input.entry` and extend `map`. After it, write `changed` of the view, and take back the jumps that
/// [`PageMap::pierced`] names.
pub fn scan(input: &ScanInput<'_>, map: &mut PageMap, counts: &mut ScanCounts) -> Result<ScanOutcome, ScanRefusal> {
    if input.code_size == CodeSize::Bits16 {
        counts.refused = counts.refused.wrapping_add(1);
        return Err(ScanRefusal::CodeSize(input.code_size));
    }
    counts.scans = counts.scans.wrapping_add(1);
    let walked = walk::walk(input, map, counts);
    let settled = settle::settle(input.page, map, walked, settle::Loser::BecomesSite, counts);
    Ok(ScanOutcome { entry: map.at(input.entry), changed: walked.union(settled) })
}
