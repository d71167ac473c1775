//! What the scanner knows about every byte of a page: the state behind an execution view.
//!
//! One byte of state per byte of the page. A byte is *shown* when the view holds the guest's byte there; everything else
//! is int3 (or belongs to a patch). The invariants on which correctness rests:
//!
//! 1. Every shown byte belongs to a verbatim instruction, and the view shows all bytes of each verbatim instruction. So
//!    from every boundary that the scanner knows, the guest runs exactly its own instruction, or traps.
//! 2. In the middle of a verbatim instruction no critical instruction begins, except in those that were shown in spite of
//!    that because they are hot ([`PageMap::note_hit`]), which are counted.
//!
//! What is not promised: a jump into the middle of an instruction, to a byte that the scanner has never seen as a boundary,
//! where the instruction found there goes on into bytes of a site. Making that exact too (hide every instruction whose
//! middle reaches into hidden bytes, and so on backwards) was built and measured on a Debian 6.1 686 kernel's text: it takes
//! back 24 % of all instructions, where invariant 2 costs 4 %, most of them calls whose displacement holds a critical opcode.

use crate::page::{byte, CodeSize, PageBytes, PageOffset, Span, MAX_INSTRUCTION, PAGE_SIZE};
use crate::scan::ScanCounts;
use crate::tactic::{traps, Tactic};

/// Why the first byte of an instruction is int3 in the view.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SiteReason {
    /// The instruction is critical: its row in the table says what it is.
    Critical,
    /// Its bytes go on in the next page.
    PageCrossing,
    /// A jump into its middle would run a critical instruction verbatim.
    InteriorCritical,
    /// It overlaps an instruction that begins in its middle and is int3.
    InteriorOverlap,
    /// The decoder knows no such instruction: the interpreter decides (#UD, as a rule).
    Invalid,
    /// The guest's own int3: #BP for the guest.
    GuestBreakpoint,
}

impl SiteReason {
    /// Every reason, in the order of [`SiteReason::index`].
    pub const ALL: [SiteReason; 6] = [
        SiteReason::Critical,
        SiteReason::PageCrossing,
        SiteReason::InteriorCritical,
        SiteReason::InteriorOverlap,
        SiteReason::Invalid,
        SiteReason::GuestBreakpoint,
    ];

    /// Name for counters.
    pub const fn name(self) -> &'static str {
        match self {
            SiteReason::Critical => "critical",
            SiteReason::PageCrossing => "page-crossing",
            SiteReason::InteriorCritical => "interior-critical",
            SiteReason::InteriorOverlap => "interior-overlap",
            SiteReason::Invalid => "invalid",
            SiteReason::GuestBreakpoint => "guest-breakpoint",
        }
    }

    /// Position in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What stands at one byte of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Not scanned: int3 in the view. Scan from here when execution arrives.
    Unscanned,
    /// A scanned instruction begins here and is shown verbatim.
    Verbatim {
        /// Its length in bytes.
        len: u8,
    },
    /// Shown, in the middle of a verbatim instruction. Execution that arrives here runs the guest's own bytes; scanning
    /// from here is needed only to go on beyond the instruction.
    Interior {
        /// Length of the instruction that begins at this byte.
        len: u8,
    },
    /// A scanned instruction begins here and is int3 in the view: emulate it from the guest's bytes.
    Site {
        /// Why.
        reason: SiteReason,
        /// Its length in bytes; for page-crossing ones, the bytes in this page.
        len: u8,
    },
    /// The jump to a patch block begins here (5 bytes).
    JumpHead,
    /// A guest instruction that has been moved into a patch block began here: translate the address through the block's
    /// map and go on there.
    Moved {
        /// Its length in bytes.
        len: u8,
    },
    /// Covered by a patch region and no instruction start of it: interpret from the guest's bytes.
    Covered,
}

impl Place {
    /// The tactic at work here, where an instruction begins.
    pub const fn tactic(self) -> Option<Tactic> {
        match self {
            Place::Verbatim { .. } => Some(Tactic::Verbatim),
            Place::Site { .. } => Some(Tactic::Int3),
            Place::JumpHead | Place::Moved { .. } => Some(Tactic::Jump),
            Place::Unscanned | Place::Interior { .. } | Place::Covered => None,
        }
    }
}

/// State of one byte: kind in the high nibble, a length in the low one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell(u8);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Unscanned = 0,
    Start = 1,
    Tail = 2,
    // The sites, in the order of `SiteReason`.
    Critical = 3,
    PageCrossing = 4,
    InteriorCritical = 5,
    InteriorOverlap = 6,
    Invalid = 7,
    GuestBreakpoint = 8,
    JumpHead = 9,
    Moved = 10,
    Covered = 11,
}

impl Cell {
    pub(crate) const UNSCANNED: Cell = Cell::new(Kind::Unscanned, 0);

    const fn new(kind: Kind, len: u8) -> Cell {
        Cell((kind as u8) << 4 | (len & 0xF))
    }

    pub(crate) const fn start(len: u8) -> Cell {
        Cell::new(Kind::Start, len)
    }

    pub(crate) const fn tail(len: u8) -> Cell {
        Cell::new(Kind::Tail, len)
    }

    pub(crate) const fn site(reason: SiteReason, len: u8) -> Cell {
        let kind = match reason {
            SiteReason::Critical => Kind::Critical,
            SiteReason::PageCrossing => Kind::PageCrossing,
            SiteReason::InteriorCritical => Kind::InteriorCritical,
            SiteReason::InteriorOverlap => Kind::InteriorOverlap,
            SiteReason::Invalid => Kind::Invalid,
            SiteReason::GuestBreakpoint => Kind::GuestBreakpoint,
        };
        Cell::new(kind, len)
    }

    pub(crate) const fn jump_head(len: u8) -> Cell {
        Cell::new(Kind::JumpHead, len)
    }

    pub(crate) const fn moved(len: u8) -> Cell {
        Cell::new(Kind::Moved, len)
    }

    pub(crate) const fn covered() -> Cell {
        Cell::new(Kind::Covered, 0)
    }

    /// Covered, and a boundary that the scanner knows all the same: one in the middle of a moved instruction, or in filler.
    pub(crate) const fn covered_boundary() -> Cell {
        Cell::new(Kind::Covered, 1)
    }

    /// Does the scanner know an instruction that begins at this byte?
    pub(crate) const fn is_boundary(self) -> bool {
        let kind = self.0 >> 4;
        kind == Kind::Start as u8 || kind >= Kind::Critical as u8 && (kind < Kind::Covered as u8 || self.len() != 0)
    }

    pub(crate) const fn len(self) -> u8 {
        self.0 & 0xF
    }

    pub(crate) const fn is_start(self) -> bool {
        self.0 >> 4 == Kind::Start as u8
    }

    pub(crate) const fn is_tail(self) -> bool {
        self.0 >> 4 == Kind::Tail as u8
    }

    pub(crate) const fn is_shown(self) -> bool {
        self.is_start() || self.is_tail()
    }

    pub(crate) const fn is_unscanned(self) -> bool {
        self.0 >> 4 == Kind::Unscanned as u8
    }

    pub(crate) const fn is_patched(self) -> bool {
        self.0 >> 4 >= Kind::JumpHead as u8
    }

    pub(crate) const fn place(self) -> Place {
        let len = self.len();
        let reason = match self.0 >> 4 {
            1 => return Place::Verbatim { len },
            2 => return Place::Interior { len },
            3 => SiteReason::Critical,
            4 => SiteReason::PageCrossing,
            5 => SiteReason::InteriorCritical,
            6 => SiteReason::InteriorOverlap,
            7 => SiteReason::Invalid,
            8 => SiteReason::GuestBreakpoint,
            9 => return Place::JumpHead,
            10 => return Place::Moved { len },
            11 => return Place::Covered,
            _ => return Place::Unscanned,
        };
        Place::Site { reason, len }
    }
}

/// The jumps that a page can hold; a page that wants more keeps int3 for the rest.
pub const MAX_JUMPS: usize = 192;

/// A committed jump: where it stands, how many guest bytes its region covers, and where it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JumpSite {
    /// Offset of the jump, which is the first byte of the region.
    pub start: u16,
    /// One past the last byte of the region.
    pub end: u16,
    /// Linear address of the patch block.
    pub block: u64,
}

/// The traps with a block that a page can hold.
pub const MAX_TRAPS: usize = 64;

/// A site that keeps its int3 and has a block all the same, in which execution goes on behind the trap (`crate::tactic::install_trap`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapSite {
    /// Offset of the instruction.
    pub start: u16,
    /// One past its last byte.
    pub end: u16,
    /// Linear address of the patch block.
    pub block: u64,
}

impl TrapSite {
    /// The instruction's bytes.
    pub fn span(&self) -> Span {
        Span::new(self.start, self.end)
    }
}

/// Counters of hits in a page map.
const HEAT: usize = 1024;

/// Hits after which a harmless instruction with a critical one in its middle is shown all the same.
pub const HOT: u8 = 16;

/// The scanner's knowledge of one page. About 11 KiB; all of it lives in memory that the caller provides.
pub struct PageMap {
    cells: [Cell; PAGE_SIZE],
    /// Hits of sites that could be shown when hot, by low offset bits: a collision only shows one a little earlier.
    heat: [u8; HEAT],
    jumps: [Option<JumpSite>; MAX_JUMPS],
    /// Jumps that the scanner has found to stand over a boundary with a byte that does not trap.
    pierced: [bool; MAX_JUMPS],
    traps: [Option<TrapSite>; MAX_TRAPS],
    /// A bit for each byte to which a branch of the page leads. One that is gone may have left its bit: they say only where a jump
    /// window would be entered, which costs an exit each time.
    entered: [u8; PAGE_SIZE / 8],
}

impl Default for PageMap {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PageMap {
    /// A map of a page of which nothing has been scanned.
    pub const EMPTY: PageMap = PageMap {
        cells: [Cell::UNSCANNED; PAGE_SIZE],
        heat: [0; HEAT],
        jumps: [None; MAX_JUMPS],
        pierced: [false; MAX_JUMPS],
        traps: [None; MAX_TRAPS],
        entered: [0; PAGE_SIZE / 8],
    };

    /// Forget everything: the page is unscanned again.
    pub fn reset(&mut self) {
        self.cells.fill(Cell::UNSCANNED);
        self.heat.fill(0);
        self.jumps.fill(None);
        self.pierced = [false; MAX_JUMPS];
        self.traps.fill(None);
        self.entered.fill(0);
    }

    /// Note that a branch leads to a byte of the page.
    pub(crate) fn note_entered(&mut self, at: u16) {
        if let Some(bits) = self.entered.get_mut(usize::from(at / 8)) {
            *bits |= 1 << (at % 8);
        }
    }

    /// Does a branch of the page lead to this byte?
    pub(crate) fn is_entered(&self, at: u16) -> bool {
        self.entered.get(usize::from(at / 8)).is_some_and(|bits| bits >> (at % 8) & 1 != 0)
    }

    /// What stands at this byte.
    pub fn at(&self, offset: PageOffset) -> Place {
        self.cell(offset.get()).place()
    }

    /// Note that the site at `offset` was hit as a boundary. A harmless instruction that is a site only because of what its
    /// middle holds ([`SiteReason::InteriorCritical`]) is shown verbatim after [`HOT`] hits: emulating 4 % of a kernel for
    /// ever costs more than the jump into a middle, which no compiler emits, is worth. Returns the bytes of the view to
    /// write again, and counts the instruction in [`ScanCounts::unguarded`].
    pub fn note_hit(&mut self, page: &PageBytes, offset: PageOffset, counts: &mut ScanCounts) -> Option<Span> {
        let Place::Site { reason: SiteReason::InteriorCritical, len } = self.at(offset) else { return None };
        let start = offset.get();
        let heat = &mut self.heat[usize::from(start) % HEAT];
        *heat = heat.saturating_add(1);
        let hot = *heat >= HOT;
        let end = start + u16::from(len);
        let free = (start + 1..end).all(|at| self.cell(at).is_unscanned() || self.equals_guest(page, at));
        if !hot || !free {
            return None;
        }
        self.set(start, Cell::start(len));
        for at in start + 1..end {
            if self.cell(at).is_unscanned() {
                self.set(at, Cell::tail(1));
            }
        }
        counts.unguarded = counts.unguarded.wrapping_add(1);
        Some(Span::new(start, end))
    }

    /// The committed jumps of the page, in no particular order.
    pub fn jumps(&self) -> impl Iterator<Item = &JumpSite> {
        self.jumps.iter().flatten()
    }

    /// The jump whose region covers this byte.
    pub fn jump_at(&self, offset: PageOffset) -> Option<&JumpSite> {
        self.jumps().find(|jump| (jump.start..jump.end).contains(&offset.get()))
    }

    /// The traps with a block, in no particular order.
    pub fn traps(&self) -> impl Iterator<Item = &TrapSite> {
        self.traps.iter().flatten()
    }

    /// The block of the site at this byte, which keeps its int3.
    pub fn trap_at(&self, offset: PageOffset) -> Option<&TrapSite> {
        self.traps().find(|trap| trap.start == offset.get())
    }

    /// A free slot for a trap.
    pub(crate) fn free_trap(&mut self) -> Option<&mut Option<TrapSite>> {
        self.traps.iter_mut().find(|slot| slot.is_none())
    }

    /// Drops the traps with a block whose instructions overlap `span`, and hands each to `dropped`. The sites keep their int3.
    pub fn drop_traps(&mut self, span: Span, mut dropped: impl FnMut(TrapSite)) {
        for place in &mut self.traps {
            if let Some(trap) = place.take_if(|trap| trap.span().overlaps(span)) {
                dropped(trap);
            }
        }
    }

    /// A scan has arrived at this byte of a region. If no instruction was known to begin there when the jump was made, the
    /// jump's displacement may stand over it with any byte: then the jump must go.
    pub(crate) fn arrive_under_jump(&mut self, at: u16, linear: u64, size: CodeSize) {
        if self.cell(at) == Cell::covered() {
            self.set(at, Cell::covered_boundary());
        }
        for (jump, pierced) in self.jumps.iter().zip(self.pierced.iter_mut()) {
            let Some(jump) = jump.filter(|jump| (jump.start + 1..jump.end).contains(&at)) else { continue };
            let byte = jump.bytes(linear).get(usize::from(at - jump.start)).copied();
            if byte.is_some_and(|byte| !traps(byte, size)) {
                *pierced = true;
            }
        }
    }

    /// Where a jump starts that must be taken back because the scanner has found a branch to a byte of it that does not trap.
    /// To be asked after a scan until there is none.
    pub fn pierced(&self) -> Option<PageOffset> {
        let mut jumps = self.jumps.iter().zip(self.pierced);
        let pierced = jumps.find_map(|(jump, pierced)| jump.filter(|_| pierced));
        pierced.map(|jump| PageOffset::of(u64::from(jump.start)))
    }

    pub(crate) fn cell(&self, at: u16) -> Cell {
        self.cells[usize::from(at & 0xFFF)]
    }

    pub(crate) fn set(&mut self, at: u16, cell: Cell) {
        self.cells[usize::from(at & 0xFFF)] = cell;
    }

    /// Drops the jumps that `wanted` picks, and hands each to `dropped`.
    pub(crate) fn drop_jumps(&mut self, wanted: impl Fn(&JumpSite) -> bool, mut dropped: impl FnMut(JumpSite)) {
        for (place, pierced) in self.jumps.iter_mut().zip(self.pierced.iter_mut()) {
            if let Some(jump) = place.take_if(|jump| wanted(jump)) {
                *pierced = false;
                dropped(jump);
            }
        }
    }

    /// A free slot for a jump.
    pub(crate) fn free_jump(&mut self) -> Option<&mut Option<JumpSite>> {
        self.jumps.iter_mut().find(|slot| slot.is_none())
    }

    /// True if the view shows the guest's byte here: by intent, or because the guest's byte is int3 anyway.
    pub(crate) fn equals_guest(&self, page: &PageBytes, at: u16) -> bool {
        let cell = self.cell(at);
        at < PAGE_SIZE as u16 && (cell.is_shown() || (byte(page, at) == INT3 && !cell.is_patched()))
    }

    /// True if the view shows the guest's bytes in all of `start..end`.
    pub(crate) fn span_equals_guest(&self, page: &PageBytes, start: u16, end: u16) -> bool {
        (start..end).all(|at| self.equals_guest(page, at))
    }

    /// The nearest verbatim instruction that holds byte `at`.
    pub(crate) fn start_over(&self, at: u16) -> Option<u16> {
        let first = at.saturating_sub(MAX_INSTRUCTION - 1);
        (first..=at).rev().find(|&start| {
            let cell = self.cell(start);
            cell.is_start() && start + u16::from(cell.len()) > at
        })
    }

    /// Write the view's bytes of `span`: the guest's where they are shown, the jumps, int3 everywhere else.
    pub fn write_view(&self, page: &PageBytes, linear: u64, view: &mut PageBytes, span: Span) {
        for at in span.start..span.end.min(PAGE_SIZE as u16) {
            let shown = self.cell(at).is_shown();
            if let Some(slot) = view.get_mut(usize::from(at)) {
                *slot = if shown { byte(page, at) } else { INT3 };
            }
        }
        for jump in self.jumps().filter(|jump| span.overlaps(Span::new(jump.start, jump.end))) {
            for (at, value) in (jump.start..).zip(jump.bytes(linear)) {
                if let Some(slot) = view.get_mut(usize::from(at)) {
                    *slot = value;
                }
            }
        }
    }
}

/// The int3 opcode, which fills every byte of a view that the guest must not run.
pub const INT3: u8 = 0xCC;

/// Length of `jmp rel32`.
pub const JUMP_LEN: u16 = 5;

impl JumpSite {
    /// The `jmp rel32` from the page at this linear address to the block.
    pub fn bytes(&self, page_linear: u64) -> [u8; JUMP_LEN as usize] {
        let next = page_linear.wrapping_add(u64::from(self.start)).wrapping_add(u64::from(JUMP_LEN));
        let [a, b, c, d, ..] = self.block.wrapping_sub(next).to_le_bytes();
        [0xE9, a, b, c, d]
    }
}
