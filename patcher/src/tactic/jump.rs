//! Tour 18/22, next: `patcher/src/block/flags.rs`.
//! The jump tactic: `jmp rel32` over a site and its neighbours, all of which move into a patch block.
//!
//! Commit: the page map marks the region, the view gets the jump and int3 behind it. Undo: the region is unscanned again.
//! Between the two, execution that arrives at the region's first byte runs the block; at another boundary of it, it traps
//! and the VMM enters the block there; elsewhere in it, the VMM interprets.

use super::region::{candidates, MAX_ABSORBED};
use super::TacticSet;
use crate::block::{build, BlockRefusal, VcpuPageLayout};
use crate::decode::PageDecoder;
use crate::page::{CodeSize, PageBytes, PageOffset, Span};
use crate::page_map::{Cell, JumpSite, PageMap, Place, SiteReason, JUMP_LEN, MAX_JUMPS};
use crate::patch_memory::{BlockId, NewBlock, PatchMemory};
use crate::scan::settle::{settle, Loser};
use crate::scan::ScanCounts;
use crate::table::classify_index;

/// Bytes that a block's code may have.
pub const BLOCK_BYTES: usize = 512;

/// Jumps of a page beyond which harmless instructions with a critical one in their middle get none: the rest is for
/// sensitive instructions, which trap for ever without one.
const MAX_INTERIOR_JUMPS: usize = MAX_JUMPS / 2;

/// Traps with a block that a jump may take in.
const MAX_TRAPS_TAKEN: usize = 8;

/// What to install.
pub struct JumpRequest<'a> {
    /// The guest's bytes of the page.
    pub page: &'a PageBytes,
    /// Linear address of the page's first byte; CS.base is 0, as it always is in 64-bit code.
    pub linear: u64,
    /// Code size of the segment.
    pub code_size: CodeSize,
    /// The site: a boundary that the page map knows.
    pub site: PageOffset,
    /// The blocks that are switched on.
    pub tactics: TacticSet,
    /// The vCPU page.
    pub layout: &'a VcpuPageLayout,
    /// What the caller wants to find in [`crate::patch_memory::Block::owner`]: the view's number, say.
    pub owner: u32,
}

/// Why a site keeps its int3 (or its own trap).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JumpRefusal {
    /// The page has its number of jumps.
    PageFull,
    /// No region over the site can be moved.
    Region(BlockRefusal),
    /// Patch memory has no place, or none whose displacement traps where it must, or is too far away.
    NoPlace,
    /// A jump covers the site already.
    Covered,
}

impl From<BlockRefusal> for JumpRefusal {
    fn from(refusal: BlockRefusal) -> Self {
        match refusal {
            BlockRefusal::OutOfReach => JumpRefusal::NoPlace,
            refusal => JumpRefusal::Region(refusal),
        }
    }
}

impl JumpRefusal {
    /// Kinds of refusal, for arrays of counters.
    pub const COUNT: usize = JumpRefusal::ALL.len();

    /// Every kind of refusal, in the order of [`JumpRefusal::index`].
    pub const ALL: [JumpRefusal; 6] = [
        JumpRefusal::PageFull,
        JumpRefusal::Region(BlockRefusal::TooLong),
        JumpRefusal::Region(BlockRefusal::NotMovable),
        JumpRefusal::Region(BlockRefusal::InnerBranch),
        JumpRefusal::NoPlace,
        JumpRefusal::Covered,
    ];

    /// Name for counters.
    pub const fn name(self) -> &'static str {
        match self {
            JumpRefusal::PageFull => "page-full",
            JumpRefusal::Region(BlockRefusal::TooLong) => "block-too-long",
            JumpRefusal::Region(BlockRefusal::NotMovable) => "not-movable",
            JumpRefusal::Region(BlockRefusal::InnerBranch) => "inner-branch",
            JumpRefusal::NoPlace | JumpRefusal::Region(BlockRefusal::OutOfReach) => "no-place",
            JumpRefusal::Covered => "covered",
        }
    }

    /// Position in arrays of counters.
    pub const fn index(self) -> usize {
        match self {
            JumpRefusal::PageFull => 0,
            JumpRefusal::Region(BlockRefusal::TooLong) => 1,
            JumpRefusal::Region(BlockRefusal::NotMovable) => 2,
            JumpRefusal::Region(BlockRefusal::InnerBranch) => 3,
            JumpRefusal::NoPlace | JumpRefusal::Region(BlockRefusal::OutOfReach) => 4,
            JumpRefusal::Covered => 5,
        }
    }
}

/// An installed jump. The caller copies the code to the block's address first, writes the view second, and then frees the blocks of
/// the jumps that it has taken in.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// The block.
    pub block: BlockId,
    /// Linear address of the block.
    pub address: u64,
    /// Bytes of code in the buffer.
    pub len: u16,
    /// The bytes of the view to write again.
    pub changed: Span,
    /// Addresses of the blocks of jumps, and of traps, that are part of this one now, and no longer of the map.
    pub absorbed: [Option<u64>; MAX_ABSORBED + MAX_TRAPS_TAKEN],
    /// Where the word is of which a VERW in the block asks.
    pub asks: Option<u64>,
}

/// Find a region and a place for the site's block, generate it into `code`, and commit the jump in the page map.
pub fn install(
    request: &JumpRequest<'_>,
    map: &mut PageMap,
    memory: &mut PatchMemory<'_>,
    code: &mut [u8; BLOCK_BYTES],
    counts: &mut ScanCounts,
) -> Result<Installed, JumpRefusal> {
    let result = find_and_commit(request, map, memory, code, counts);
    let count = match result {
        Ok(_) => {
            let mut decoder = PageDecoder::new(request.page, request.linear, request.code_size);
            decoder.decode(request.site.get());
            if let Some(count) =
                classify_index(decoder.instruction()).and_then(|id| counts.jump_rows.get_mut(usize::from(id)))
            {
                *count = count.wrapping_add(1);
            }
            Some(&mut counts.jumps)
        }
        Err(refusal) => counts.jump_refusals.get_mut(refusal.index()),
    };
    if let Some(count) = count {
        *count = count.wrapping_add(1);
    }
    result
}

fn find_and_commit(
    request: &JumpRequest<'_>,
    map: &mut PageMap,
    memory: &mut PatchMemory<'_>,
    code: &mut [u8; BLOCK_BYTES],
    counts: &mut ScanCounts,
) -> Result<Installed, JumpRefusal> {
    if map.jump_at(request.site).is_some() {
        return Err(JumpRefusal::Covered);
    }
    let interior = matches!(map.at(request.site), Place::Site { reason: SiteReason::InteriorCritical, .. });
    if map.free_jump().is_none() || interior && map.jumps().count() >= MAX_INTERIOR_JUMPS {
        return Err(JumpRefusal::PageFull);
    }
    let found = candidates(request.page, request.linear, request.code_size, map, request.site);
    let mut refusal = JumpRefusal::Region(found.refusal);
    for region in found.iter() {
        if map.traps().filter(|trap| trap.span().overlaps(region.span)).count() > MAX_TRAPS_TAKEN {
            continue;
        }
        let generate = |address: u64, code: &mut [u8]| {
            let site = request.site.get();
            build(
                request.page,
                request.linear,
                request.code_size,
                region,
                site,
                request.tactics,
                request.layout,
                address,
                code,
            )
        };
        // The length does not depend on the place, so build once to know it, where everything is in reach if it is anywhere.
        let len = match generate(memory.nearest(request.linear), code) {
            Ok(built) => built.len,
            Err(reason) => {
                refusal = reason.into();
                continue;
            }
        };
        let next = request.linear.wrapping_add(u64::from(region.span.start)).wrapping_add(u64::from(JUMP_LEN));
        let Some(place) = memory.find(len, next, region.constraint) else {
            refusal = JumpRefusal::NoPlace;
            continue;
        };
        let built = generate(place.address(), code)?;
        let block = memory.take(
            place,
            NewBlock {
                len: built.len,
                code_size: request.code_size,
                page: request.linear,
                region: region.span,
                owner: request.owner,
                map: built.map,
            },
        );
        let jump = JumpSite { start: region.span.start, end: region.span.end, block: place.address() };
        let absorbed = absorb(map, region.span);
        let changed = commit(request, map, jump, region.moved, counts);
        return Ok(Installed { block, address: place.address(), len: built.len, changed, absorbed, asks: built.asks });
    }
    Err(refusal)
}

/// Take the jumps and the traps in `span` out of the map; the addresses of their blocks.
fn absorb(map: &mut PageMap, span: Span) -> [Option<u64>; MAX_ABSORBED + MAX_TRAPS_TAKEN] {
    let mut blocks = [None; MAX_ABSORBED + MAX_TRAPS_TAKEN];
    let mut free = blocks.iter_mut();
    let mut keep = |block| {
        if let Some(slot) = free.next() {
            *slot = Some(block);
        }
    };
    map.drop_jumps(|jump| span.overlaps(Span::new(jump.start, jump.end)), |jump| keep(jump.block));
    map.drop_traps(span, |trap| keep(trap.block));
    blocks
}

/// Mark the region. Instructions outside it that share bytes with it (decoded out of step) are taken back.
fn commit(request: &JumpRequest<'_>, map: &mut PageMap, jump: JumpSite, moved: u16, counts: &mut ScanCounts) -> Span {
    let mut decoder = PageDecoder::new(request.page, request.linear, request.code_size);
    // What is known of its middles stays known: a jump that takes this one in must trap there, too.
    for at in jump.start..jump.end {
        let known = map.cell(at).is_boundary();
        map.set(at, if known { Cell::covered_boundary() } else { Cell::covered() });
    }
    let mut at = jump.start;
    while at < moved {
        let len = decoder.decode(at).len;
        map.set(at, if at == jump.start { Cell::jump_head(len) } else { Cell::moved(len) });
        at += u16::from(len.max(1));
    }
    if let Some(slot) = map.free_jump() {
        *slot = Some(jump);
    }
    let region = Span::new(jump.start, jump.end);
    region.union(settle(request.page, map, region, Loser::BecomesSite, counts))
}

/// Take a jump back: the region is unscanned. The caller writes the returned bytes of the view, then frees the block.
pub fn remove(map: &mut PageMap, start: PageOffset) -> Option<(JumpSite, Span)> {
    let mut found = None;
    map.drop_jumps(|jump| jump.start == start.get(), |jump| found = Some(jump));
    let jump = found?;
    for at in jump.start..jump.end {
        map.set(at, Cell::UNSCANNED);
    }
    Some((jump, Span::new(jump.start, jump.end)))
}
