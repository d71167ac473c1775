//! Instructions that cross a page: more than half of a kernel's pages end in one, and some of them are in hot loops.
//!
//! Such an instruction is shown verbatim while two views stand for its two pages: the first shows its head, the second its
//! tail, and the first remembers the second. Whatever could let the CPU see the head with another tail ends that first: a
//! write to either part, a site found in the tail, the second view's end, and another view put at the second page.

use iced_x86::{Decoder, DecoderOptions};
use rvmm_arch::host::Host;
use rvmm_patcher::table::{classify, Policy};

use super::store::ViewStore;
use super::view::{Crossing, ViewKey};

/// The longest instruction, bytes.
const MAX_INSTRUCTION: usize = 15;

/// Does an instruction that the CPU must not see begin at any byte of `bytes[..len]`?
fn hides_critical(bytes: &[u8], len: usize) -> bool {
    (0..len).any(|at| {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let instruction = Decoder::new(32, rest, DecoderOptions::NONE).decode();
        instruction.is_invalid() || classify(&instruction).is_some_and(|row| row.policy == Policy::Critical)
    })
}

/// Copies as much as there is room for.
fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Shows the instruction at `offset` of view `first`, whose bytes go on in view `second`. False: it must stay a site.
pub(super) fn show<H: Host>(store: &mut ViewStore, host: &mut H, first: u32, second: u32, offset: usize) -> bool {
    let mut bytes = [0; MAX_INSTRUCTION];
    let Some(head) = store.get_mut(first) else { return false };
    let in_first = head.source_from(offset).len();
    copy(&mut bytes, head.source_from(offset));
    let Some(next) = store.get_mut(second) else { return false };
    copy(bytes.get_mut(in_first..).unwrap_or(&mut []), next.source_from(0));
    let len = Decoder::new(32, &bytes, DecoderOptions::NONE).decode().len();
    let Some(tail) = len.checked_sub(in_first).filter(|tail| *tail > 0) else { return false };
    if hides_critical(&bytes, len) || next.tail > 0 || !next.can_show_tail(tail as u8) {
        return false;
    }
    let (key, crossing) = (next.key, next.crossing);
    next.set_ends(host, tail as u8, crossing);
    if let Some(view) = store.get_mut(first) {
        let shown = Crossing { offset: offset as u16, tail: tail as u8, next: key };
        let tail = view.tail;
        view.set_ends(host, tail, Some(shown));
    }
    true
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
