//! The walk: decode from the entry along straight-line code and direct branches, and place what is found.

use super::interior::show;
use super::{Branches, ScanCounts, ScanInput};
use crate::decode::{PageDecoder, Verdict};
use crate::page::{Span, PAGE_SIZE};
use crate::page_map::{Cell, PageMap, SiteReason};
use iced_x86::{FlowControl, Instruction};

/// Branch targets that wait to be scanned.
const WORKLIST: usize = 64;

/// Offsets still to be walked from.
struct Worklist {
    items: [u16; WORKLIST],
    len: usize,
}

impl Worklist {
    fn push(&mut self, at: u16) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = at;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    fn pop(&mut self) -> Option<u16> {
        self.len = self.len.checked_sub(1)?;
        self.items.get(self.len).copied()
    }
}

/// What the walk does after an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Control can reach the following byte.
    FallsThrough,
    /// Control does not fall through.
    Ends,
}

struct Walk<'a, 'b> {
    input: &'a ScanInput<'a>,
    map: &'b mut PageMap,
    counts: &'b mut ScanCounts,
    decoder: PageDecoder<'a>,
    work: Worklist,
    budget: u16,
    changed: Span,
}

/// Walk from the entry; returns the bytes whose state changed.
pub(super) fn walk(input: &ScanInput<'_>, map: &mut PageMap, counts: &mut ScanCounts) -> Span {
    let mut walk = Walk {
        input,
        map,
        counts,
        decoder: PageDecoder::new(input.page, input.linear, input.code_size),
        work: Worklist { items: [0; WORKLIST], len: 0 },
        // The entry itself is always scanned.
        budget: input.reach.instructions.max(1),
        changed: Span::EMPTY,
    };
    walk.run(input.entry.get());
    while walk.budget > 0 {
        let Some(at) = walk.work.pop() else { break };
        walk.run(at);
    }
    walk.changed
}

impl Walk<'_, '_> {
    /// Straight on from `at`, until control ends or the walk is in step with an earlier one.
    fn run(&mut self, mut at: u16) {
        while at < PAGE_SIZE as u16 && self.budget > 0 {
            let cell = self.map.cell(at);
            // A byte in the middle of a shown instruction, reached as a boundary, is placed like any other: from now on it
            // is known to be one.
            if !cell.is_tail() && !cell.is_unscanned() {
                if cell.is_patched() {
                    self.map.arrive_under_jump(at, self.input.linear, self.input.code_size);
                }
                return;
            }
            let next = self.place(at);
            if next == Next::Ends {
                return;
            }
            at += u16::from(self.map.cell(at).len().max(1));
        }
    }

    /// Decode and place one instruction.
    fn place(&mut self, at: u16) -> Next {
        self.budget -= 1;
        self.counts.instructions = self.counts.instructions.wrapping_add(1);
        let found = self.decoder.decode(at);
        self.changed = self.changed.union(Span::new(at, at + u16::from(found.len)));
        let (reason, next) = match found.verdict {
            Verdict::Harmless => {
                let next = self.follow();
                let shown = show(&mut self.decoder, self.input.page, self.map, self.counts, at, found.len);
                let Err(reason) = shown else {
                    self.counts.verbatim = self.counts.verbatim.wrapping_add(1);
                    return next;
                };
                (reason, next)
            }
            Verdict::Critical(id) => {
                if let Some(count) = self.counts.rows.get_mut(usize::from(id)) {
                    *count = count.wrapping_add(1);
                }
                (SiteReason::Critical, after_emulation(self.decoder.instruction()))
            }
            Verdict::Breakpoint => (SiteReason::GuestBreakpoint, Next::Ends),
            Verdict::Invalid => (SiteReason::Invalid, Next::Ends),
            Verdict::Crossing => (SiteReason::PageCrossing, Next::Ends),
        };
        self.counts.site(reason);
        self.map.set(at, Cell::site(reason, found.len));
        next
    }

    /// Note the branch target of the instruction just decoded, and say whether control falls through.
    fn follow(&mut self) -> Next {
        let instruction = *self.decoder.instruction();
        match instruction.flow_control() {
            FlowControl::ConditionalBranch | FlowControl::Call => {
                self.note_target(&instruction);
                Next::FallsThrough
            }
            FlowControl::UnconditionalBranch => {
                self.note_target(&instruction);
                Next::Ends
            }
            FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception => Next::Ends,
            FlowControl::Next | FlowControl::IndirectCall | FlowControl::Interrupt | FlowControl::XbeginXabortXend => {
                Next::FallsThrough
            }
        }
    }

    fn note_target(&mut self, instruction: &Instruction) {
        if self.input.reach.branches == Branches::Ignore {
            return;
        }
        let delta = instruction.near_branch_target().wrapping_sub(self.input.linear);
        if delta >= PAGE_SIZE as u64 {
            return;
        }
        self.map.note_entered(delta as u16);
        if !self.work.push(delta as u16) {
            self.counts.dropped_targets = self.counts.dropped_targets.wrapping_add(1);
        }
    }
}

/// Whether the guest goes on behind a critical instruction once it has been emulated.
fn after_emulation(instruction: &Instruction) -> Next {
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt => {
            Next::FallsThrough
        }
        _ => Next::Ends,
    }
}
