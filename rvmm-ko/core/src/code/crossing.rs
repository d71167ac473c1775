//! Instructions that cross a page: more than half of a kernel's pages end in one, and some of them are in hot loops.
//!
//! Such an instruction is shown verbatim while two views stand for its two pages: the first shows its head, the second its
//! tail, and the first remembers the second. Whatever could let the CPU see the head with another tail ends that first: a
//! write to either part, a site found in either, the second view's end, and another view put at the second page. In other
//! address spaces another view may be there already: it is taken out, and the fetch that misses it ends the show.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use rvmm_arch::host::Host;
use rvmm_patcher::table::{classify, Policy};
use rvmm_patcher::CodeSize;

use super::store::ViewStore;
use super::view::{code_size, Crossing, ViewKey};

/// The longest instruction, bytes.
const MAX_INSTRUCTION: usize = 15;

/// Hits after which an instruction is shown although a critical one begins in its middle, as one within a page is.
const HOT: u8 = 16;

/// The instruction that begins at `bytes[0]`.
fn decode(bytes: &[u8], size: CodeSize) -> Instruction {
    Decoder::new(size.bits(), bytes, DecoderOptions::NONE).decode()
}

/// Does an instruction that the CPU must not see begin at `bytes[0]`?
fn is_critical(bytes: &[u8], size: CodeSize) -> bool {
    let instruction = decode(bytes, size);
    instruction.is_invalid() || classify(&instruction).is_some_and(|row| row.policy == Policy::Critical)
}

/// Does one begin in the middle of the instruction `bytes[..len]`?
fn hides_critical(bytes: &[u8], len: usize, size: CodeSize) -> bool {
    (1..len).any(|at| is_critical(bytes.get(at..).unwrap_or(&[]), size))
}

/// Copies as much as there is room for.
fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// What became of a crossing instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// It must stay a site.
    No,
    /// It is verbatim now.
    Guarded,
    /// The same, although a critical instruction begins in its middle: it is hot.
    Unguarded,
}

/// Shows the instruction at `offset` of view `first`, whose bytes go on in view `second`, if it may be shown.
pub(super) fn show<H: Host>(store: &mut ViewStore, host: &mut H, first: u32, second: u32, offset: usize) -> Shown {
    let mut bytes = [0; MAX_INSTRUCTION];
    // A page has one such instruction at a time; two, if they overlap, take turns.
    hide(store, host, first);
    let Some(head) = store.get_mut(first).filter(|view| view.can_show_head(offset)) else { return Shown::No };
    let size = code_size(head.key.env);
    let in_first = head.source_from(offset).len();
    copy(&mut bytes, head.source_from(offset));
    let Some(next) = store.get_mut(second) else { return Shown::No };
    copy(bytes.get_mut(in_first..).unwrap_or(&mut []), next.source_from(0));
    let len = decode(&bytes, size).len();
    let Some(tail) = len.checked_sub(in_first).filter(|tail| *tail > 0) else { return Shown::No };
    if is_critical(&bytes, size) || next.tail > 0 || !next.can_show_tail(tail as u8) {
        return Shown::No;
    }
    let unguarded = hides_critical(&bytes, len, size);
    if unguarded {
        let Some(view) = store.get_mut(first) else { return Shown::No };
        view.crossing_hits = view.crossing_hits.saturating_add(1);
        if view.crossing_hits < HOT {
            return Shown::No;
        }
    }
    let Some(next) = store.get_mut(second) else { return Shown::No };
    let (key, crossing) = (next.key, next.crossing);
    next.set_ends(host, tail as u8, crossing);
    if let Some(view) = store.get_mut(first) {
        let shown = Crossing { offset: offset as u16, tail: tail as u8, next: key };
        let tail = view.tail;
        view.set_ends(host, tail, Some(shown));
    }
    if unguarded {
        Shown::Unguarded
    } else {
        Shown::Guarded
    }
}

/// Something was found in a view, or put there: takes back what is shown beyond it at its two ends, if it must not be any more.
pub(super) fn settle<H: Host>(store: &mut ViewStore, host: &mut H, index: u32) {
    let Some(view) = store.get_mut(index) else { return };
    let (key, tail) = (view.key, view.tail);
    if view.crossing.is_some_and(|crossing| !view.can_show_head(usize::from(crossing.offset))) {
        hide(store, host, index);
    }
    if store.get_mut(index).is_some_and(|view| tail > 0 && !view.can_show_tail(tail)) {
        hide_into(store, host, &key, None);
    }
}

/// Takes the crossing instruction of a view back: it is a site again.
pub(super) fn hide<H: Host>(store: &mut ViewStore, host: &mut H, first: u32) {
    let Some(view) = store.get_mut(first) else { return };
    let Some(crossing) = view.crossing else { return };
    let tail = view.tail;
    view.set_ends(host, tail, None);
    if let Some(next) = store.find(crossing.next).and_then(|i| store.get_mut(i)) {
        let crossing = next.crossing;
        next.set_ends(host, 0, crossing);
    }
}

/// Takes back every crossing instruction whose tail is at linear page `page` and is not shown by `but`.
pub(super) fn hide_into<H: Host>(store: &mut ViewStore, host: &mut H, key: &ViewKey, but: Option<&ViewKey>) {
    let into = |c: &Crossing| c.next.page == key.page && c.next.env == key.env && Some(&c.next) != but;
    while let Some(first) = store.next_view_where(0, |view| view.crossing.as_ref().is_some_and(into)) {
        hide(store, host, first);
    }
}
