//! Settling: take verbatim instructions back until the page map's invariant holds everywhere.

use super::ScanCounts;
use crate::page::{PageBytes, Span, MAX_INSTRUCTION, PAGE_SIZE};
use crate::page_map::{Cell, PageMap, SiteReason};

/// What becomes of an instruction that cannot stay shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loser {
    /// It is emulated from now on.
    BecomesSite,
    /// It is scanned again when execution arrives.
    BecomesUnscanned,
}

/// Check every verbatim instruction near `span`, from the last to the first, since it depends only on bytes behind its
/// start. Each one taken back may hide bytes of overlapping ones, so the check goes on backwards as far as needed. Ends,
/// because every step takes an instruction away. Returns the bytes whose state changed.
pub(crate) fn settle(page: &PageBytes, map: &mut PageMap, span: Span, loser: Loser, counts: &mut ScanCounts) -> Span {
    let mut changed = Span::EMPTY;
    if span.is_empty() {
        return changed;
    }
    let mut low = span.start.saturating_sub(MAX_INSTRUCTION - 1);
    let mut at = span.end.min(PAGE_SIZE as u16);
    while at > low {
        at -= 1;
        let cell = map.cell(at);
        if !cell.is_start() || map.span_equals_guest(page, at, at + u16::from(cell.len())) {
            continue;
        }
        let hidden = take_back(map, at, loser);
        counts.demoted = counts.demoted.wrapping_add(1);
        counts.verbatim = counts.verbatim.wrapping_sub(1);
        if loser == Loser::BecomesSite {
            counts.site(SiteReason::InteriorOverlap);
        }
        changed = changed.union(hidden);
        low = low.min(at.saturating_sub(MAX_INSTRUCTION - 1));
        at = hidden.end;
    }
    changed
}

/// Hide the instruction at `start`, except for bytes that other shown instructions hold too.
pub(crate) fn take_back(map: &mut PageMap, start: u16, loser: Loser) -> Span {
    let len = map.cell(start).len();
    let end = start + u16::from(len);
    let cell = match loser {
        Loser::BecomesSite => Cell::site(SiteReason::InteriorOverlap, len),
        Loser::BecomesUnscanned => Cell::UNSCANNED,
    };
    map.set(start, cell);
    for at in start + 1..end {
        if map.cell(at).is_tail() && map.start_over(at).is_none() {
            map.set(at, Cell::UNSCANNED);
        }
    }
    Span::new(start, end)
}
