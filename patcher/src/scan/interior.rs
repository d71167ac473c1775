//! The middles of instructions: may an instruction be shown, given what would run if the guest jumped into it?

use super::ScanCounts;
use crate::decode::{PageDecoder, Verdict};
use crate::page::{PageBytes, MAX_INSTRUCTION};
use crate::page_map::{Cell, PageMap, SiteReason};

/// Show the instruction of `len` bytes at `start`, unless what would run in its middle forbids it.
pub(super) fn show(
    decoder: &mut PageDecoder<'_>,
    page: &PageBytes,
    map: &mut PageMap,
    counts: &mut ScanCounts,
    start: u16,
    len: u8,
) -> Result<(), SiteReason> {
    let mut middle = [Cell::UNSCANNED; MAX_INSTRUCTION as usize];
    let end = start + u16::from(len);
    for (at, slot) in (start..end).zip(middle.iter_mut()).skip(1) {
        let cell = map.cell(at);
        if !cell.is_unscanned() {
            if !map.equals_guest(page, at) {
                return Err(SiteReason::InteriorOverlap);
            }
            *slot = cell;
            continue;
        }
        counts.interior = counts.interior.wrapping_add(1);
        let found = decoder.decode(at);
        if let Verdict::Critical(_) = found.verdict {
            return Err(SiteReason::InteriorCritical);
        }
        *slot = Cell::tail(found.len);
    }
    map.set(start, Cell::start(len));
    for (at, slot) in (start..end).zip(middle).skip(1) {
        map.set(at, slot);
    }
    Ok(())
}
