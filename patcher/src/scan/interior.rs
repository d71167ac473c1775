//! The middles of instructions: may an instruction be shown, given what would run if the guest jumped into it?

use super::ScanCounts;
use crate::decode::{PageDecoder, Verdict};
use crate::page::{PageBytes, MAX_INSTRUCTION, PAGE_SIZE};
use crate::page_map::{Cell, PageMap, SiteReason};

/// Show the instruction of `len` bytes at `start`, unless a jump into its middle forbids it.
///
/// On success returns how far the instructions in its middle reach, which may be beyond its end: those bytes must be shown
/// too, and [`super::settle`] sees to it.
pub(super) fn show(
    decoder: &mut PageDecoder<'_>,
    page: &PageBytes,
    map: &mut PageMap,
    counts: &mut ScanCounts,
    start: u16,
    len: u8,
) -> Result<u16, SiteReason> {
    let mut middle = [Cell::UNSCANNED; MAX_INSTRUCTION as usize];
    let end = start + u16::from(len);
    let mut reach = end;
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
        let found_end = at + u16::from(found.len);
        match found.verdict {
            Verdict::Critical(_) => return Err(SiteReason::InteriorCritical),
            Verdict::Crossing => return Err(SiteReason::InteriorOverlap),
            // An invalid encoding faults as the guest's would: the bytes that make it invalid are the guest's.
            Verdict::Harmless | Verdict::Breakpoint | Verdict::Invalid => {}
        }
        if found_end > PAGE_SIZE as u16 {
            return Err(SiteReason::InteriorOverlap);
        }
        *slot = Cell::tail(found.len);
        reach = reach.max(found_end);
    }
    map.set(start, Cell::start(len));
    for (at, slot) in (start..end).zip(middle).skip(1) {
        map.set(at, slot);
    }
    Ok(reach)
}
