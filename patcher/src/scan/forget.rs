//! Forgetting: guest code has changed, so what was known about it goes.

use super::settle::{settle, take_back, Loser};
use super::ScanCounts;
use crate::page::{PageBytes, Span, MAX_INSTRUCTION};
use crate::page_map::{Cell, PageMap, Place, SiteReason};

/// Forget everything that depends on the bytes in `written`, which the guest has just changed; `page` holds the new bytes.
///
/// Jumps whose region is touched are undone, and traps whose instruction is lose their block; compare [`PageMap::jumps`] and
/// [`PageMap::traps`] before and after, or look them up first, to retire their blocks. Returns the bytes of the view to write again.
pub fn forget(page: &PageBytes, map: &mut PageMap, written: Span, counts: &mut ScanCounts) -> Span {
    if written.is_empty() {
        return Span::EMPTY;
    }
    let mut changed = written;
    map.drop_jumps(
        |jump| Span::new(jump.start, jump.end).overlaps(written),
        |jump| changed = changed.union(Span::new(jump.start, jump.end)),
    );
    map.drop_traps(written, |_| {});
    for at in changed.start..changed.end {
        if map.cell(at).is_patched() && map.jumps().all(|jump| !(jump.start..jump.end).contains(&at)) {
            map.set(at, Cell::UNSCANNED);
        }
    }
    // Whatever reads a changed byte: shown instructions and middles, and sites (a site's length may change too). Sites made
    // by their neighbours near here get another chance.
    let low = written.start.saturating_sub(2 * MAX_INSTRUCTION);
    for at in low..written.end {
        let place = map.cell(at).place();
        let (len, always) = match place {
            Place::Verbatim { len } | Place::Interior { len } => (len, false),
            Place::Site { reason, len } => {
                let neighbour = matches!(reason, SiteReason::InteriorCritical | SiteReason::InteriorOverlap);
                (len, neighbour || reason == SiteReason::PageCrossing)
            }
            _ => continue,
        };
        let reads = Span::new(at, at + u16::from(len)).overlaps(written);
        if !reads && !always {
            continue;
        }
        if matches!(place, Place::Site { .. }) {
            map.set(at, Cell::UNSCANNED);
            changed = changed.union(Span::new(at, at + 1));
        }
        while let Some(start) = map.start_over(at) {
            changed = changed.union(take_back(map, start, Loser::BecomesUnscanned));
            counts.verbatim = counts.verbatim.wrapping_sub(1);
        }
    }
    changed.union(settle(page, map, changed, Loser::BecomesUnscanned, counts))
}
