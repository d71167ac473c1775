//! Which bytes a jump covers: the site and the neighbours that it needs for five bytes.
//!
//! A neighbour may have gone into another jump's block already. The region then takes all of that jump's in and stands in for both:
//! `pushf; mov eax, cs; push eax; push 1f; iretq` becomes one block, whichever of its sites was hot first.

use crate::block::BlockRefusal;
use crate::decode::{PageDecoder, Verdict};
use crate::page::{CodeSize, PageBytes, PageOffset, Span, MAX_INSTRUCTION, PAGE_SIZE};
use crate::page_map::{PageMap, Place, SiteReason, JUMP_LEN};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Instructions in front of the site that a region may take along.
const BACKWARD: usize = 6;

/// Other jumps that a region may take in.
pub(super) const MAX_ABSORBED: usize = 4;

/// Opcodes that trap at once in guest-kernel mode, whatever follows: a displacement byte of the jump may be one of these
/// where a guest instruction began. int3; HLT, CLI, STI; INS, OUTS; IN, OUT (IOPL is 0 and there is no I/O bitmap).
const TRAPPING: [u8; 16] =
    [0xCC, 0xF4, 0xFA, 0xFB, 0x6C, 0x6D, 0x6E, 0x6F, 0xE4, 0xE5, 0xE6, 0xE7, 0xEC, 0xED, 0xEE, 0xEF];

/// Opcodes that exist in legacy modes only and are invalid in 64-bit code (SDM 2, tables, superscript i64): #UD,
/// whatever follows. PUSH and POP of ES, CS, SS and DS; DAA, DAS, AAA, AAS; PUSHA, POPA; 82; far CALL and JMP. BOUND, LES, LDS and
/// AAD are not among them, because their opcodes are the prefixes EVEX, VEX and REX2; nor are INTO, AAM and SALC (CE, D4, D6),
/// which QEMU's TCG executes (micro-guest x64-undefined-more).
const INVALID_64: [u8; 16] =
    [0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82, 0x9A, 0xEA];

/// Does this byte, as an opcode, trap at once in guest-kernel mode? Patch memory is best where the highest bytes of
/// displacements to it do.
#[must_use]
pub fn traps(opcode: u8, size: CodeSize) -> bool {
    TRAPPING.contains(&opcode) || size == CodeSize::Bits64 && INVALID_64.contains(&opcode)
}

/// What a jump's displacement must look like: bit n set means that its byte n must be a trapping opcode, because a guest
/// instruction begins there and the guest may jump to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JumpConstraint {
    /// The bytes of the displacement, by bit.
    pub trapping: u8,
    /// The size of the code in which they must.
    pub code_size: CodeSize,
}

impl JumpConstraint {
    /// True if a jump whose next instruction is at `next` may lead to `target`.
    pub fn allows(self, next: u64, target: u64) -> bool {
        let displacement = (target as u32).wrapping_sub(next as u32).to_le_bytes();
        let trapping = |(bit, value): (u32, u8)| self.trapping >> bit & 1 == 0 || traps(value, self.code_size);
        self.reaches(next, target) && (0..4).zip(displacement).all(trapping)
    }

    /// Is the target near enough for 32 bits? In 32-bit code, whose addresses wrap, every target is.
    fn reaches(self, next: u64, target: u64) -> bool {
        self.code_size != CodeSize::Bits64 || i32::try_from(target.wrapping_sub(next) as i64).is_ok()
    }

    /// The first address in `from..end` to which the jump may lead. From the highest byte of the displacement down: one that
    /// must trap and does not is counted up, and the bytes below it begin at zero again.
    pub(crate) fn first_allowed(self, next: u64, from: u64, end: u64) -> Option<u64> {
        let mut target = from;
        if !self.reaches(next, target) {
            // The first one that is reached, if there is one.
            target = next.wrapping_sub(1 << 31);
        }
        while (from..end).contains(&target) && self.reaches(next, target) {
            let displacement = target.wrapping_sub(next) as u32;
            let wrong = (0..4u32).rev().find(|&byte| {
                let value = (displacement >> (8 * byte)) as u8;
                self.trapping >> byte & 1 != 0 && !traps(value, self.code_size)
            });
            let Some(byte) = wrong else { return Some(target) };
            let step = 1u64 << (8 * byte);
            target = target.wrapping_add(step - (u64::from(displacement) & (step - 1)));
        }
        None
    }

    /// How hard it is to find such a target: byte 0 is a matter of 256 places, byte 1 of 65,536 and so on.
    fn difficulty(self) -> u32 {
        u32::from(self.trapping)
    }
}

/// A region that could become a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its bytes; the jump stands at the first five.
    pub span: Span,
    /// One past the last byte that moves into the block. What follows up to the end of `span` is filler behind code that
    /// does not fall through.
    pub moved: u16,
    /// What the jump must look like.
    pub constraint: JumpConstraint,
    /// How many other jumps it takes in: those that overlap `span`, each as a whole.
    pub absorbs: u8,
    /// It covers bytes of which nobody knows yet what they are.
    pub blind: bool,
    /// Bytes of it, from its start on, to which conditional branches of its own lead: these move along and do not trap. Whether others lead there
    /// as well is not known; if so, they will be met.
    pub inner: u64,
}

/// Candidates for the region of one site, easiest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    items: [Option<Region>; BACKWARD + 1],
    /// Why the last candidate that failed did.
    pub refusal: BlockRefusal,
}

impl Candidates {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.items.iter().flatten()
    }
}

/// The regions over the instruction at `site`, which must be a known boundary.
pub(super) fn candidates(page: &PageBytes, linear: u64, size: CodeSize, map: &PageMap, site: PageOffset) -> Candidates {
    let mut decoder = PageDecoder::new(page, linear, size);
    let mut found = Candidates { items: [None; BACKWARD + 1], refusal: BlockRefusal::NotMovable };
    let mut start = Some(site.get());
    for slot in &mut found.items {
        let Some(at) = start else { break };
        match grow(&mut decoder, size, map, at, site.get()) {
            // Taking in a region that works is no gain if the new one is entered in its middle, which takes both back in the end.
            Ok(region) if region.absorbs > 0 && is_entered(map, &region) => {}
            Ok(region) => *slot = Some(region),
            Err(refusal) => found.refusal = refusal,
        }
        start = before(map, at);
    }
    // Last those that cover what nobody knows. Of the others first those that no branch leads into, as `je 1f; sti; 1:` does; then those that leave other jumps alone, the easiest to place,
    // and of those the shortest: each boundary inside a region traps when jumped to.
    found.items.sort_unstable_by_key(|region| {
        region.map_or((true, true, u8::MAX, u32::MAX, 0), |region| {
            let len = region.span.end - region.span.start;
            (region.blind, is_entered(map, &region), region.absorbs, region.constraint.difficulty(), len)
        })
    });
    found
}

/// Does a branch of the page lead into the region's middle, other than the region's own?
fn is_entered(map: &PageMap, region: &Region) -> bool {
    let inner = |at: u16| region.inner.checked_shr((at - region.span.start).into()).unwrap_or(0) & 1 != 0;
    (region.span.start + 1..region.span.end).any(|at| map.is_entered(at) && !inner(at))
}

/// The nearest known boundary whose instruction ends at `at`, or the jump whose region does.
fn before(map: &PageMap, at: u16) -> Option<u16> {
    let instruction = (at.saturating_sub(MAX_INSTRUCTION)..at).rev().find(|&start| match map.cell(start).place() {
        Place::Verbatim { len } | Place::Site { len, .. } => start + u16::from(len) == at,
        _ => false,
    });
    instruction.or_else(|| map.jumps().find(|jump| jump.end == at).map(|jump| jump.start))
}

/// The bytes of the displacement of a jump at `start`, by bit, that stand over a boundary of the instruction at `at`: its own,
/// and whatever begins in its middle and is known (a branch behind a LOCK prefix leads to one), also from before the region's bytes
/// were forgotten, for the branch may have been scanned then.
fn boundaries(map: &PageMap, start: u16, at: u16, len: u8) -> u8 {
    let known = |byte| map.cell(byte).is_boundary() || map.is_entered(byte);
    let here = (at..at + u16::from(len)).filter(|&byte| byte == at || known(byte));
    here.filter(|byte| (1..JUMP_LEN).contains(&(byte - start))).fold(0, |bits, byte| bits | 1 << (byte - start - 1))
}

/// From `start` over whole instructions until the region holds the site and five bytes, and all of each jump that it meets.
fn grow(
    decoder: &mut PageDecoder<'_>,
    size: CodeSize,
    map: &PageMap,
    start: u16,
    site: u16,
) -> Result<Region, BlockRefusal> {
    let (mut trapping, mut inner) = (0u8, 0u64);
    let mut at = start;
    // Where the last jump met ends.
    let (mut absorbs, mut jump_end) = (0u8, start);
    loop {
        if at >= PAGE_SIZE as u16 {
            return Err(BlockRefusal::NotMovable);
        }
        if at >= jump_end {
            if let Some(jump) = map.jump_at(PageOffset::of(u64::from(at))) {
                if jump.start != at || usize::from(absorbs) == MAX_ABSORBED {
                    return Err(BlockRefusal::NotMovable);
                }
                (absorbs, jump_end) = (absorbs + 1, jump.end);
            }
        }
        let known = match map.cell(at).place() {
            Place::Verbatim { .. } => true,
            Place::Site { reason, .. } => {
                !matches!(reason, SiteReason::PageCrossing | SiteReason::Invalid | SiteReason::GuestBreakpoint)
            }
            Place::JumpHead | Place::Moved { .. } => at < jump_end,
            _ => false,
        };
        if !known {
            return Err(BlockRefusal::NotMovable);
        }
        let found = decoder.decode(at);
        trapping |= boundaries(map, start, at, found.len);
        if matches!(found.verdict, Verdict::Crossing | Verdict::Invalid | Verdict::Breakpoint) {
            return Err(BlockRefusal::NotMovable);
        }
        let end = at + u16::from(found.len);
        // Out of step with a jump's instructions.
        if at >= jump_end && (at..end).any(|at| map.cell(at).is_patched()) {
            return Err(BlockRefusal::NotMovable);
        }
        let complete = end > site && end >= jump_end && end - start >= JUMP_LEN;
        let instruction = decoder.instruction();
        if instruction.is_jcc_short_or_near() {
            let to = instruction.near_branch_target().wrapping_sub(decoder.linear()).wrapping_sub(start.into());
            inner |= 1u64.checked_shl(u32::try_from(to).unwrap_or(u32::MAX)).unwrap_or(0);
        }
        let movable = match instruction.flow_control() {
            // Control comes back behind a call: that must be a place that does not trap.
            FlowControl::Call => complete,
            FlowControl::IndirectCall => complete && instruction.op0_kind() == OpKind::Register,
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return => {
                if end > site && end >= jump_end && !complete {
                    let region = over_filler(decoder, size, map, (Span::new(start, end), site), (trapping, absorbs))?;
                    return Ok(Region { inner, ..region });
                }
                complete
            }
            FlowControl::Exception | FlowControl::XbeginXabortXend => false,
            FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::Interrupt => true,
        };
        if !movable {
            return Err(BlockRefusal::NotMovable);
        }
        if complete {
            return Ok(Region {
                span: Span::new(start, end),
                moved: end,
                constraint: JumpConstraint { trapping, code_size: size },
                absorbs,
                blind: false,
                inner,
            });
        }
        at = end;
    }
}

/// Code that does not fall through ends too early: let the jump cover the filler behind it, as compilers put between
/// functions and in front of loops, and kernels behind returns that they have shortened (INT3, against speculation). It is not
/// moved, and a jump to its start traps like one to any other boundary.
///
/// Behind a return to a program and behind a jump it may also be code that has never run, as the fault handler of an IRET is in Linux' 32-bit entry, and what
/// a jump there leads past on most CPUs. (Behind a RET the next function begins, which will.) Nobody knows where its instructions begin, so every byte of the
/// displacement over it must trap. That is for sites that trap for ever without; a harmless instruction is shown in the end.
fn over_filler(
    decoder: &mut PageDecoder<'_>,
    size: CodeSize,
    map: &PageMap,
    (code, site): (Span, u16),
    (mut trapping, absorbs): (u8, u8),
) -> Result<Region, BlockRefusal> {
    let harmless = matches!(
        map.cell(site).place(),
        Place::Site { reason: SiteReason::InteriorCritical | SiteReason::InteriorOverlap, .. }
    );
    // The instruction decoded last is that which does not fall through.
    let may_be_blind = !harmless && is_left_for_good(decoder.instruction());
    let (mut at, mut blind) = (code.end, false);
    while at - code.start < JUMP_LEN {
        if at >= PAGE_SIZE as u16 {
            return Err(BlockRefusal::NotMovable);
        }
        let found = decoder.decode(at);
        trapping |= boundaries(map, code.start, at, found.len);
        let free = (at..at + u16::from(found.len)).all(|at| !map.cell(at).is_patched());
        let filler = match found.verdict {
            Verdict::Harmless => is_filler(decoder.instruction()),
            Verdict::Breakpoint => true,
            _ => false,
        };
        if !filler && may_be_blind && map.cell(at).place() == Place::Unscanned {
            trapping |= 1 << (at - code.start - 1);
            blind = true;
            at += 1;
            continue;
        }
        if !free || !filler {
            return Err(BlockRefusal::NotMovable);
        }
        at += u16::from(found.len);
    }
    let span = Span::new(code.start, at);
    Ok(Region {
        span,
        moved: code.end,
        constraint: JumpConstraint { trapping, code_size: size },
        absorbs,
        blind,
        inner: 0,
    })
}

/// A jump, or a return to a program.
fn is_left_for_good(instruction: &Instruction) -> bool {
    let returns = [Mnemonic::Iretd, Mnemonic::Iretq, Mnemonic::Sysret, Mnemonic::Sysretq, Mnemonic::Sysexit];
    returns.contains(&instruction.mnemonic()) || instruction.flow_control() == FlowControl::UnconditionalBranch
}

/// NOP in its encodings, and the LEAs that assemblers use as such: a register to itself.
fn is_filler(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Nop => true,
        Mnemonic::Lea => {
            // In 64-bit code a 32-bit register would lose its upper half.
            let size = instruction.op0_register().size();
            let whole = instruction.code_size() != iced_x86::CodeSize::Code64 || size == 8;
            whole
                && instruction.op0_register() == instruction.memory_base()
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == 0
        }
        _ => false,
    }
}
