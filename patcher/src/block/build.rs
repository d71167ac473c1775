//! From a region of guest code to a block.

use super::emit::{Emitter, FarHole};
use super::layout::VcpuPageLayout;
use super::map::{BlockMap, Undo};
use super::relocate::{inner_branch, relocate, Position};
use super::{control, flags, iret, selectors, swapgs, sysret, verw, BlockRefusal};
use crate::decode::{PageDecoder, Verdict};
use crate::page::{CodeSize, PageBytes};
use crate::table::{row, BlockKind, RowId};
use crate::tactic::{Region, TacticSet};
use iced_x86::{Code, FlowControl, Instruction, OpKind};

/// Branches of a block that lead forward to a boundary of its own.
const INNER_BRANCHES: usize = 4;

/// A block's code length and address map.
#[derive(Clone, Copy, Debug)]
pub struct Built {
    /// Bytes of code.
    pub len: u16,
    /// The map.
    pub map: BlockMap,
    /// Where the word is of which a VERW asks in it.
    pub asks: Option<u64>,
}

/// Generate the block of `region`, to stand at linear address `address`, into `code`.
///
/// Sensitive instructions get their block where `tactics` allows it. Other critical ones become an exit to the VMM at their
/// boundary, which emulates them there. The instruction at `site`, for which the block is made, must not be one of those.
#[expect(clippy::too_many_arguments, reason = "what, where from and where to; a struct would only rename them")]
pub fn build(
    page: &PageBytes,
    linear: u64,
    size: CodeSize,
    region: &Region,
    site: u16,
    tactics: TacticSet,
    layout: &VcpuPageLayout,
    address: u64,
    code: &mut [u8],
) -> Result<Built, BlockRefusal> {
    let mut decoder = PageDecoder::new(page, linear, size);
    let mut e = Emitter::new(code, size, address, layout);
    let mut at = region.span.start;
    let mut falls_through = true;
    let mut asks = None;
    let mut inner: [Option<(u16, FarHole)>; INNER_BRANCHES] = Default::default();
    while at < region.moved {
        for place in &mut inner {
            if let Some((_, hole)) = place.take_if(|(to, _)| *to == at) {
                e.land_far(&hole);
            }
        }
        let found = decoder.decode(at);
        let end = at + u16::from(found.len);
        let instruction = *decoder.instruction();
        let position = Position { guest: i32::from(at), next: i32::from(end), page: linear, region: region.span };
        let kind = block_kind(&instruction, found.verdict, tactics);
        if at == site && !worthwhile(&instruction, size, kind, tactics) {
            return Err(BlockRefusal::NotMovable);
        }
        match (kind, found.verdict) {
            (_, Verdict::Crossing | Verdict::Breakpoint | Verdict::Invalid) => return Err(BlockRefusal::NotMovable),
            (BlockKind::None, Verdict::Critical(_)) => exit_here(&mut e, &position),
            (BlockKind::None, Verdict::Harmless) => {
                let bytes = page.get(usize::from(at)..usize::from(end)).unwrap_or(&[]);
                if let Some((opcode, to)) = inner_branch(&instruction, bytes, &position, region.moved) {
                    e.stand(position.guest, Undo::HEAD);
                    let hole = e.jump_far_over(opcode);
                    let place = inner.iter_mut().find(|place| place.is_none()).ok_or(BlockRefusal::InnerBranch)?;
                    *place = Some((to, hole));
                } else {
                    relocate(&mut e, &instruction, bytes, decoder.displacement_at(), &position)?;
                }
            }
            (kind, _) => {
                replace(&mut e, size, (kind, tactics), &instruction, &position)?;
                asks = asks.or(verw::operand(&instruction, size).filter(|_| kind == BlockKind::Verw));
            }
        }
        falls_through = !matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Exception
        );
        at = end;
    }
    if at != region.moved {
        return Err(BlockRefusal::NotMovable);
    }
    // One that leads to where no instruction of the region begins.
    if inner.iter().any(Option::is_some) {
        return Err(BlockRefusal::InnerBranch);
    }
    if falls_through {
        e.stand(i32::from(region.moved), Undo::empty());
        e.branch(&[0xE9], linear.wrapping_add(u64::from(region.moved)));
    }
    let (len, map) = e.finish()?;
    Ok(Built { len, map, asks })
}

/// The block that stands in for an instruction, if `tactics` has it on.
fn block_kind(instruction: &Instruction, verdict: Verdict, tactics: TacticSet) -> BlockKind {
    let id: Option<RowId> = match verdict {
        Verdict::Critical(id) => Some(id),
        Verdict::Harmless => crate::table::classify_index(instruction),
        _ => None,
    };
    let kind = id.and_then(row).map_or(BlockKind::None, |row| row.block);
    if tactics.allows(kind) {
        kind
    } else {
        BlockKind::None
    }
}

/// True if the block does better for its site than int3 or the instruction's own trap.
fn worthwhile(instruction: &Instruction, size: CodeSize, kind: BlockKind, tactics: TacticSet) -> bool {
    match (kind, instruction.code()) {
        (BlockKind::None, _) => {
            crate::table::classify_index(instruction).is_none() && tactics.contains(TacticSet::INTERIOR)
        }
        (BlockKind::Pushf, code) => matches!(code, Code::Pushfd | Code::Pushfq),
        (BlockKind::Popf, code) => matches!(code, Code::Popfd | Code::Popfq),
        (BlockKind::Iret, code) => is_own_iret(code, size),
        (BlockKind::Sysret, code) => size == CodeSize::Bits64 && matches!(code, Code::Sysretq | Code::Sysretd),
        // Its segments are never those of SYSRET as well, to which ring 0 returns.
        (BlockKind::Sysexit, code) => code == Code::Sysexitd,
        (BlockKind::ReadSelector, _) => instruction.op0_kind() == OpKind::Register,
        (BlockKind::Verw, _) => verw::operand(instruction, size).is_some(),
        (BlockKind::ReadControl, code) => {
            matches!(code, Code::Mov_r32_cr | Code::Mov_r64_cr) && control::readable(instruction)
        }
        _ => true,
    }
}

/// Is it the IRET whose frame is of the code's own size? 64-bit code that means it says so with REX.W.
fn is_own_iret(code: Code, size: CodeSize) -> bool {
    code == if size == CodeSize::Bits64 { Code::Iretq } else { Code::Iretd }
}

fn exit_here(e: &mut Emitter<'_>, position: &Position) {
    e.stand(position.guest, Undo::HEAD);
    e.exit();
}

fn replace(
    e: &mut Emitter<'_>,
    size: CodeSize,
    (kind, tactics): (BlockKind, TacticSet),
    instruction: &Instruction,
    position: &Position,
) -> Result<(), BlockRefusal> {
    let (guest, next) = (position.guest, position.next);
    match (kind, instruction.code()) {
        (BlockKind::Cli, _) => flags::cli(e, guest),
        (BlockKind::Sti, _) => flags::sti(e, guest, next, position.page.wrapping_add_signed(i64::from(next))),
        (BlockKind::Pushf, Code::Pushfd | Code::Pushfq) => flags::pushf(e, guest, next),
        (BlockKind::Popf, Code::Popfd | Code::Popfq) => flags::popf(e, guest, next),
        (BlockKind::Iret, code) if is_own_iret(code, size) => {
            iret::iret(e, guest, tactics.contains(TacticSet::SYSCALL));
        }
        (BlockKind::Sysret, Code::Sysretq) if size == CodeSize::Bits64 => sysret::sysret(e, guest, sysret::To::Long),
        (BlockKind::Sysret, Code::Sysretd) if size == CodeSize::Bits64 => {
            sysret::sysret(e, guest, sysret::To::Compatibility);
        }
        (BlockKind::Sysexit, Code::Sysexitd) => sysret::sysexit(e, guest),
        (BlockKind::Swapgs, _) => swapgs::swapgs(e, guest, next),
        (BlockKind::ReadSelector, _) => match selectors::read(e, instruction, guest) {
            Ok(()) => {}
            Err(_) => exit_here(e, position),
        },
        (BlockKind::PushSelector, _) => selectors::push(e, instruction, guest)?,
        (BlockKind::ReadControl, Code::Mov_r32_cr | Code::Mov_r64_cr) => {
            if !control::read(e, instruction, guest) {
                exit_here(e, position);
            }
        }
        (BlockKind::Verw, _) => match verw::operand(instruction, size) {
            Some(operand) if verw::verw(e, operand, guest, next) => {}
            _ => exit_here(e, position),
        },
        // Forms of another size than the code's: rare enough for the interpreter.
        _ => exit_here(e, position),
    }
    Ok(())
}
