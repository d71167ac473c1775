//! Instruction fetch and decoding.

use crate::exec::canonical;
use crate::mem;
use crate::reg;
use crate::step::Stop;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};
use rvmm_arch::machine::{Access, AccessKind, Machine};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::{Exception, Gva, VcpuState, PAGE_SIZE};

/// The longest instruction, bytes.
const MAX_LEN: usize = 15;

/// 0F 0D and 0F 18 to 0F 1F decode as the no-operations they are on a CPU without MPX and CET.
const OPTIONS: u32 = DecoderOptions::FORCE_RESERVED_NOP;

/// A slot of a decode cache, see [`crate::step::step_cached`]. A slot is used only while the bytes at RIP still are those
/// it was decoded from, so nothing ever has to be invalidated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoded {
    rip: u64,
    /// The instruction's bytes, the first lowest, and the bits they fill.
    bytes: u128,
    mask: u128,
    /// 0: empty.
    bitness: u32,
    ins: Instruction,
}

/// Fetches and decodes the instruction at RIP. The second page is touched only if the instruction reaches into it.
/// `cache` may be empty.
///
/// #GP(0) beyond the limit of CS, at an address that is not canonical or for more than 15 bytes, #UD for what is no instruction (a LOCK prefix where none
/// may be included), #PF with the address of the byte that could not be fetched.
pub(crate) fn fetch<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    mode: CpuMode,
    cache: &mut [Decoded],
) -> Result<Instruction, Stop> {
    let cs = cpu.segment(SegReg::Cs);
    let (bitness, allowed) = match mode {
        CpuMode::Long if !canonical(cpu.rip) => return Err(Exception::gp(0).into()),
        CpuMode::Long => (64, MAX_LEN),
        _ => {
            let limit = u64::from(cs.limit);
            if cpu.rip > limit {
                return Err(Exception::gp(0).into());
            }
            let left = limit.wrapping_sub(cpu.rip).saturating_add(1);
            (if cs.db() { 32 } else { 16 }, left.min(MAX_LEN as u64) as usize)
        }
    };
    let access = Access { kind: AccessKind::Fetch, privilege: mem::privilege(cpu) };
    let la = Gva(cpu.linear_rip());
    let here = allowed.min(PAGE_SIZE as usize - la.offset());
    let mut buf = [0; MAX_LEN + 1];

    let gpa = m.translate(cpu, la, access)?;
    let (first, _) = buf.split_at_mut(here);
    m.read(gpa, first)?;
    let available = first.len();
    let bytes = u128::from_le_bytes(buf);
    let slot = slot_of(cache, cpu.rip);
    if let Some(slot) = &slot {
        let same = slot.rip == cpu.rip && slot.bitness == bitness && slot.bytes == bytes & slot.mask;
        if same && slot.ins.len() <= available {
            return Ok(slot.ins);
        }
    }
    let (first, rest) = buf.split_at_mut(here);
    let mut decoded = decode(bitness, first, cpu.rip);
    if let (Some(slot), (ins, DecoderError::None)) = (slot, &decoded) {
        let mask = 1u128.wrapping_shl((ins.len() as u32).wrapping_mul(8)).wrapping_sub(1);
        *slot = Decoded { rip: cpu.rip, bytes: bytes & mask, mask, bitness, ins: *ins };
    }
    if decoded.1 == DecoderError::NoMoreBytes && here < allowed {
        let next = mem::wrap(cpu, la.page().add(PAGE_SIZE));
        let reached = if canonical(next.0) {
            m.translate(cpu, next, access).map_err(Stop::from)
        } else {
            Err(Exception::gp(0).into())
        };
        let gpa = match reached {
            Err(Stop::Fault(_)) if begins_nothing(bitness, first, cpu.rip) => return Err(Exception::ud().into()),
            other => other?,
        };
        let (second, _) = rest.split_at_mut(allowed - here);
        m.read(gpa, second)?;
        let (all, _) = buf.split_at(allowed);
        decoded = decode(bitness, all, cpu.rip);
    }
    match decoded {
        (ins, DecoderError::None) => Ok(ins),
        (_, DecoderError::NoMoreBytes) if begins_nothing(bitness, buf.get(..here).unwrap_or(&[]), cpu.rip) => {
            Err(Exception::ud().into())
        }
        (_, DecoderError::NoMoreBytes) => Err(Exception::gp(0).into()),
        // An invalid encoding that uses up all 15 bytes is one that is too long.
        (ins, _) if ins.len() >= MAX_LEN => Err(Exception::gp(0).into()),
        _ => Err(Exception::ud().into()),
    }
}

/// The slot for code at `rip`.
fn slot_of(cache: &mut [Decoded], rip: u64) -> Option<&mut Decoded> {
    let used = 1_usize.wrapping_shl(cache.len().checked_ilog2()?);
    cache.get_mut(rip as usize & used.wrapping_sub(1))
}

/// Decodes the instruction at the start of `bytes`.
fn decode(bitness: u32, bytes: &[u8], ip: u64) -> (Instruction, DecoderError) {
    match Decoder::try_with_ip(bitness, bytes, ip, OPTIONS) {
        Ok(mut decoder) => {
            let ins = decoder.decode();
            (ins, decoder.last_error())
        }
        Err(_) => (Instruction::default(), DecoderError::InvalidInstruction),
    }
}

/// Is there no instruction that begins with `bytes`, of which the decoder would like to see more? It reads a ModRM byte of undefined opcodes, too, where a
/// CPU has no reason to. Rare: where the bytes behind cannot be fetched.
fn begins_nothing(bitness: u32, bytes: &[u8], ip: u64) -> bool {
    let mut all = [0; MAX_LEN];
    let Some(known) = all.get_mut(..bytes.len()).filter(|known| known.len() < MAX_LEN) else { return false };
    known.copy_from_slice(bytes);
    (0..=u8::MAX).all(|next| {
        if let Some(place) = all.get_mut(bytes.len()) {
            *place = next;
        }
        let (ins, error) = decode(bitness, &all, ip);
        error == DecoderError::InvalidInstruction && ins.len() < MAX_LEN
    })
}

/// RIP after an instruction: it does not wrap at 64 KiB in 16-bit code, but does at 4 GiB outside 64-bit mode.
pub(crate) fn next_rip(rip: u64, ins: &Instruction, mode: CpuMode) -> u64 {
    let next = rip.wrapping_add(ins.len() as u64);
    if mode == CpuMode::Long {
        next
    } else {
        next & reg::mask(4)
    }
}
