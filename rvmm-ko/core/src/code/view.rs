//! One execution view: what the CPU sees of a guest code page.

use alloc::vec::Vec;

use rvmm_arch::host::{Host, HostError, HostPage};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::trace;
use rvmm_arch::{Gfn, Gva};
use rvmm_mmu::Env;
use rvmm_mmu::Mmu;
use rvmm_patcher::block::VcpuPageLayout;
use rvmm_patcher::tactic::{install, install_trap, remove, JumpRefusal, JumpRequest};
use rvmm_patcher::{
    forget, scan, CodeSize, PageBytes, PageMap, PageOffset, Place, Reach, ScanCounts, ScanInput, ScanRefusal, Span,
    Tactic, TacticSet,
};

use super::patch::PatchArea;

/// What became of a site that was to be patched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patched {
    /// A jump leads to its block.
    Done {
        /// Where the word is of which a VERW in the block asks.
        asks: Option<u64>,
    },
    /// It keeps its int3, and has a block behind it.
    Trapped {
        /// Likewise.
        asks: Option<u64>,
    },
    /// No tactic applies: it keeps its int3, and is interpreted.
    Refused,
}

/// What a view stands for: the same frame executed at two linear addresses has two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewKey {
    /// The guest frame.
    pub gfn: Gfn,
    /// The linear page.
    pub page: Gva,
    /// The execution environment.
    pub env: Env,
}

/// The size of the code that runs in an execution environment: 32 bits in 0 and 1, 64 bits in 2 and 3.
#[must_use]
pub const fn code_size(env: Env) -> CodeSize {
    if env.0 < 2 {
        CodeSize::Bits32
    } else {
        CodeSize::Bits64
    }
}

/// The heap part of a view: what the guest's page held when it was last looked at, and what is known of it.
struct Known {
    source: PageBytes,
    map: PageMap,
}

impl Known {
    /// Writes `span` of the view anew: what the map says, and the two ends that are shown beyond it.
    fn write<H: Host>(
        &self,
        host: &mut H,
        shown: HostPage,
        linear: u64,
        (tail, crossing): (u8, Option<Crossing>),
        span: Span,
    ) {
        let view = host.bytes(shown);
        self.map.write_view(&self.source, linear, view, span);
        let head = crossing.map_or(4096, |c| usize::from(c.offset));
        for (range, from) in [(0..usize::from(tail), 0), (head..4096, head)] {
            if let (Some(to), Some(bytes)) = (view.get_mut(range.clone()), self.source.get(from..range.end)) {
                to.copy_from_slice(bytes);
            }
        }
    }
}

/// A view.
pub struct View {
    /// What it stands for.
    pub key: ViewKey,
    /// The page that the CPU executes.
    pub shown: HostPage,
    /// Writes to the guest's page since code of it was last executed.
    pub writes: u8,
    /// Reads of the guest's page that trapped since code of it was last executed.
    pub reads: u8,
    /// The instruction at the end of the page whose bytes go on in the next one, if it is shown; see [`super::crossing`].
    pub crossing: Option<Crossing>,
    /// Arrivals at it while it was not shown only because a critical instruction begins in its middle.
    pub crossing_hits: u8,
    /// Bytes at the start of the page that are shown because an instruction of the page before ends in them.
    pub tail: u8,
    /// One element; a box that can fail.
    known: Vec<Known>,
}

/// A page-crossing instruction that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crossing {
    /// Offset of its first byte.
    pub offset: u16,
    /// Bytes of it in the next page.
    pub tail: u8,
    /// The view that shows them.
    pub next: ViewKey,
}

impl core::fmt::Debug for View {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The bytes of a guest frame; all zero where there is no RAM (such a frame is never executed from a view).
fn read_page<H: Host>(host: &mut H, gfn: Gfn, to: &mut PageBytes) -> Result<(), HostError> {
    if !host.read_ram(gfn.base(), to)? {
        to.fill(0);
    }
    Ok(())
}

/// What the patcher is to do for the site at an offset.
fn request<'a>(
    key: &ViewKey,
    page: &'a PageBytes,
    tactics: TacticSet,
    layout: &'a VcpuPageLayout,
    offset: usize,
) -> JumpRequest<'a> {
    let (linear, site) = (key.page.0, PageOffset::of(offset as u64));
    JumpRequest { page, linear, code_size: code_size(key.env), site, tactics, layout, owner: 0 }
}

/// A site keeps its int3, or gets it again.
fn trace_refusal<H: Host>(host: &mut H, site: Gva, reason: &'static str) {
    trace!(host, Patch { site, tactic: Tactic::Int3.name(), reason, block: 0, len: 0 });
}

impl View {
    /// A view of which nothing is scanned: int3 all over.
    ///
    /// # Errors
    /// No memory, or the guest's memory cannot be reached.
    pub fn new<H: Host>(host: &mut H, key: ViewKey) -> Result<Self, HostError> {
        let mut known = Vec::new();
        known.try_reserve_exact(1).map_err(|_| HostError::NoMemory)?;
        known.push(Known { source: [0; 4096], map: PageMap::EMPTY });
        for known in &mut known {
            read_page(host, key.gfn, &mut known.source)?;
        }
        let shown = host.alloc_page()?;
        host.bytes(shown).fill(rvmm_patcher::INT3);
        Ok(Self { key, shown, writes: 0, reads: 0, crossing: None, crossing_hits: 0, tail: 0, known })
    }

    /// What stands at an offset.
    pub fn place(&self, offset: usize) -> Place {
        self.known.first().map_or(Place::Unscanned, |k| k.map.at(PageOffset::of(offset as u64)))
    }

    /// The instruction at an offset, if it begins there, is known and shown as it is.
    pub fn verbatim(&self, offset: usize) -> Option<&[u8]> {
        let Place::Verbatim { len } = self.place(offset) else { return None };
        self.known.first()?.source.get(offset..)?.get(..len.into())
    }

    /// The byte that the CPU sees at an offset.
    pub fn shown_at<H: Host>(&self, host: &mut H, offset: usize) -> Option<u8> {
        host.bytes(self.shown).get(offset).copied()
    }

    /// Scans from an offset and shows what was found.
    ///
    /// # Errors
    /// The scanner's refusal.
    pub fn scan<H: Host>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        counts: &mut ScanCounts,
        offset: usize,
    ) -> Result<Place, ScanRefusal> {
        let Some(known) = self.known.first_mut() else { return Ok(Place::Unscanned) };
        let linear = self.key.page.0;
        let input = ScanInput {
            page: &known.source,
            linear,
            entry: PageOffset::of(offset as u64),
            code_size: code_size(self.key.env),
            reach: Reach::default(),
        };
        let sites = |counts: &ScanCounts| counts.sites.iter().fold(0_u64, |sum, n| sum.wrapping_add(*n));
        let before = (counts.instructions, sites(counts));
        let outcome = scan(&input, &mut known.map, counts)?;
        known.write(host, self.shown, linear, (self.tail, self.crossing), outcome.changed);
        let instructions = counts.instructions.wrapping_sub(before.0);
        let sites = sites(counts).wrapping_sub(before.1);
        stats.count(Counter::BlocksScanned);
        stats.add(Counter::InstructionsScanned, instructions);
        stats.add(Counter::SitesInt3, sites);
        trace!(host, Scan { address: self.key.page.add(offset as u64), instructions, sites });
        Ok(outcome.entry)
    }

    /// Where a jump stands that must be taken back, see [`PageMap::pierced`].
    pub fn pierced(&self) -> Option<usize> {
        self.known.first()?.map.pierced().map(usize::from)
    }

    /// Execution arrived at the site at an offset. True: it is shown from now on, resume.
    pub fn hit<H: Host>(&mut self, host: &mut H, stats: &mut Stats, counts: &mut ScanCounts, offset: usize) -> bool {
        let Some(known) = self.known.first_mut() else { return false };
        let Some(span) = known.map.note_hit(&known.source, PageOffset::of(offset as u64), counts) else {
            return false;
        };
        known.write(host, self.shown, self.key.page.0, (self.tail, self.crossing), span);
        stats.set(Counter::Unguarded, counts.unguarded);
        true
    }

    /// Tries to replace the site at an offset by a jump to a block.
    pub fn patch<H: Host>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        counts: &mut ScanCounts,
        (patch, mmu): (&mut PatchArea, &mut Mmu),
        offset: usize,
    ) -> Patched {
        let at = self.key.page.add(offset as u64);
        let Some(known) = self.known.first_mut() else { return Patched::Refused };
        let tactics = patch.tactics;
        let Some((mut memory, layout, code)) = patch.memory_and_buffer() else { return Patched::Refused };
        let request = request(&self.key, &known.source, tactics, &layout, offset);
        match install(&request, &mut known.map, &mut memory, code, counts) {
            Ok(installed) => {
                let len = usize::from(installed.len);
                if patch.write_code(mmu, host, installed.address, len).is_err() {
                    // The jump has not been shown yet: take it back.
                    let head =
                        known.map.jump_at(PageOffset::of(offset as u64)).map_or(offset as u64, |j| u64::from(j.start));
                    if let Some((jump, span)) = remove(&mut known.map, PageOffset::of(head)) {
                        let span = span.union(installed.changed);
                        known.write(host, self.shown, self.key.page.0, (self.tail, self.crossing), span);
                        patch.free_block(jump.block);
                    }
                    installed.absorbed.into_iter().flatten().for_each(|block| patch.free_block(block));
                    stats.count(Counter::RefusedNoMemory);
                    trace_refusal(host, at, "no-memory");
                    return Patched::Refused;
                }
                known.write(host, self.shown, self.key.page.0, (self.tail, self.crossing), installed.changed);
                for block in installed.absorbed.into_iter().flatten() {
                    patch.free_block(block);
                    stats.count(Counter::JumpsMerged);
                }
                stats.count(Counter::SitesJump);
                let (tactic, block) = (Tactic::Jump.name(), installed.address);
                trace!(host, Patch { site: at, tactic, reason: "hot", block, len: len as u32 });
                Patched::Done { asks: installed.asks }
            }
            Err(refusal) => {
                if refusal == JumpRefusal::NoPlace {
                    patch.found_no_place(self.key.page.add(offset as u64));
                }
                stats.count(match refusal {
                    JumpRefusal::PageFull => Counter::RefusedNoMemory,
                    JumpRefusal::NoPlace | JumpRefusal::Covered => Counter::RefusedWindow,
                    JumpRefusal::Region(_) => Counter::RefusedRelocation,
                });
                trace_refusal(host, at, refusal.name());
                self.trap(host, stats, (patch, mmu), offset, refusal.name())
            }
        }
    }

    /// Tries to put a block behind the int3 of the site at an offset, which has no jump for a reason.
    pub fn trap<H: Host>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        (patch, mmu): (&mut PatchArea, &mut Mmu),
        offset: usize,
        reason: &'static str,
    ) -> Patched {
        let tactics = patch.tactics;
        if !tactics.contains(TacticSet::TRAP) {
            return Patched::Refused;
        }
        let Some(known) = self.known.first_mut() else { return Patched::Refused };
        let Some((mut memory, layout, code)) = patch.memory_and_buffer() else { return Patched::Refused };
        let request = request(&self.key, &known.source, tactics, &layout, offset);
        let Ok(installed) = install_trap(&request, &mut known.map, &mut memory, code) else { return Patched::Refused };
        let (address, len) = (installed.address, usize::from(installed.len));
        let site = self.key.page.add(offset as u64);
        if patch.write_code(mmu, host, address, len).is_err() {
            let first = request.site.get();
            known.map.drop_traps(Span::new(first, first.wrapping_add(1)), |_| {});
            patch.free_block(address);
            stats.count(Counter::RefusedNoMemory);
            trace_refusal(host, site, "no-memory");
            return Patched::Refused;
        }
        stats.count(Counter::SitesTrap);
        trace!(host, Patch { site, tactic: "trap", reason, block: address, len: len as u32 });
        Patched::Trapped { asks: installed.asks }
    }

    /// The block behind the int3 of the site at an offset.
    pub fn trap_at(&self, offset: usize) -> Option<u64> {
        let known = self.known.first()?;
        known.map.trap_at(PageOffset::of(offset as u64)).map(|trap| trap.block)
    }

    /// The guest's bytes from an offset to the end of the page.
    pub fn source_from(&self, offset: usize) -> &[u8] {
        self.known.first().and_then(|k| k.source.get(offset..)).unwrap_or(&[])
    }

    /// May the first `len` bytes be shown: is nothing of them a site or covered by a patch?
    pub fn can_show_tail(&self, len: u8) -> bool {
        self.is_plain(0..usize::from(len))
    }

    /// May an instruction at `offset` that goes on in the next page be shown, for what is known of its middle?
    pub fn can_show_head(&self, offset: usize) -> bool {
        self.is_plain(offset.saturating_add(1)..4096)
    }

    fn is_plain(&self, mut range: core::ops::Range<usize>) -> bool {
        let plain = |place| matches!(place, Place::Unscanned | Place::Verbatim { .. } | Place::Interior { .. });
        range.all(|offset| plain(self.place(offset)))
    }

    /// Sets what is shown beyond the map at the two ends.
    pub fn set_ends<H: Host>(&mut self, host: &mut H, tail: u8, crossing: Option<Crossing>) {
        let last = self.crossing.or(crossing).map_or(4096, |c| c.offset);
        let first = self.tail.max(tail);
        self.tail = tail;
        self.crossing = crossing;
        let Some(known) = self.known.first() else { return };
        for span in [Span::new(0, u16::from(first)), Span::new(last, 4096)] {
            known.write(host, self.shown, self.key.page.0, (tail, crossing), span);
        }
    }

    /// Takes the jump that covers an offset back, for good: the region is scanned again when execution arrives, and its sites may have blocks behind int3.
    pub fn unpatch<H: Host>(&mut self, host: &mut H, patch: &mut PatchArea, offset: usize, reason: &'static str) {
        let Some(known) = self.known.first_mut() else { return };
        let Some(head) = known.map.jump_at(PageOffset::of(offset as u64)).map(|jump| u64::from(jump.start)) else {
            return;
        };
        let Some((jump, span)) = remove(&mut known.map, PageOffset::of(head)) else { return };
        patch.free_block(jump.block);
        for at in jump.start..jump.end {
            patch.heat.no_jump(self.key.page.add(u64::from(at)));
        }
        known.write(host, self.shown, self.key.page.0, (self.tail, self.crossing), span);
        trace_refusal(host, self.key.page.add(head), reason);
    }

    /// Where the block is that the guest instruction at an offset was moved to.
    pub fn block_over(&self, offset: usize) -> Option<u64> {
        let known = self.known.first()?;
        known.map.jump_at(PageOffset::of(offset as u64)).map(|jump| jump.block)
    }

    /// Frees the blocks of the jumps and traps that overlap `span`, whose map entries are about to be dropped.
    pub fn free_blocks(&self, patch: &mut PatchArea, span: Span) {
        for map in self.known.iter().map(|known| &known.map) {
            let jumps = map.jumps().map(|jump| (Span::new(jump.start, jump.end), jump.block));
            let traps = map.traps().map(|trap| (trap.span(), trap.block));
            for (_, block) in jumps.chain(traps).filter(|(over, _)| over.overlaps(span)) {
                patch.free_block(block);
            }
        }
    }

    /// The guest's page was written at `offset..offset + len`: drops what depended on it.
    ///
    /// # Errors
    /// The guest's memory cannot be reached.
    pub fn wrote<H: Host>(
        &mut self,
        host: &mut H,
        patch: &mut PatchArea,
        counts: &mut ScanCounts,
        offset: usize,
        len: usize,
    ) -> Result<(), HostError> {
        let end = (offset.saturating_add(len)).min(4096);
        self.free_blocks(patch, Span::new(offset as u16, end as u16));
        let Some(known) = self.known.first_mut() else { return Ok(()) };
        read_page(host, self.key.gfn, &mut known.source)?;
        let changed = forget(&known.source, &mut known.map, Span::new(offset as u16, end as u16), counts);
        known.write(host, self.shown, self.key.page.0, (self.tail, self.crossing), changed);
        Ok(())
    }

    /// Compares with guest memory; the range that differs, if any.
    ///
    /// # Errors
    /// The guest's memory cannot be reached.
    pub fn difference<H: Host>(&self, host: &mut H) -> Result<Option<(usize, usize)>, HostError> {
        const CHUNK: usize = 256;
        let Some(known) = self.known.first() else { return Ok(None) };
        let mut now = [0; CHUNK];
        let mut range: Option<(usize, usize)> = None;
        for (i, then) in known.source.chunks_exact(CHUNK).enumerate() {
            let start = i * CHUNK;
            let same = host.read_ram(self.key.gfn.base().add(start as u64), &mut now)? && now == *then;
            if !same {
                range = Some((range.map_or(start, |r| r.0), start + CHUNK));
            }
        }
        Ok(range)
    }
}
