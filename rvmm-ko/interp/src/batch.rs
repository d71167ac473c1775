//! Many iterations of a string instruction with a REP prefix in one step, where that cannot be told from one iteration a step.
//!
//! All of them lie in one page for each operand, and [`Machine::is_plain`] says of these pages that accesses to them are memory and
//! nothing else. So no iteration faults unless the first one does, none has an effect besides the memory it writes, and one translation
//! is enough. Wherever this does not hold, at an element that crosses a page or a limit, where an offset wraps, with single steps,
//! breakpoints or an interrupt shadow, and for an instruction that may overwrite itself, the answer is `None` and [`Exec::rep_many`] goes
//! on by one. Interrupts are looked for between steps, so after a page at the latest; the manual leaves open after how many iterations
//! (SDM vol. 2 "REP"). Where the instruction overwrites the page tables it is translated by, the batch ends by the old translation,
//! as it would with a TLB (SDM vol. 3 §4.10.4.1).

use core::num::NonZeroU64;

use crate::bits::set_compare_flags;
use crate::exec::{Exec, Res};
use crate::mem;
use crate::reg::mask;
use rvmm_arch::machine::{Access, AccessKind, Change, Machine};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Gpa, Gva, PAGE_SIZE};

/// Bytes copied at a time. They are on the kernel's stack, twice for CMPS, which is why the functions that have them are not inlined.
const CHUNK: usize = 256;

/// Iterations done, or `None`: none, and nothing changed but accessed bits that the first iteration sets as well.
pub(crate) type Done = Res<Option<u64>>;

/// One operand of the string instruction: an element of it at each iteration.
#[derive(Clone, Copy)]
struct Operand {
    seg: SegReg,
    /// Of the first iteration's element.
    offset: u64,
    kind: AccessKind,
}

/// The direction and size of iterations.
#[derive(Clone, Copy)]
struct Stride {
    /// Bytes of an element.
    size: NonZeroU64,
    /// DF: towards lower addresses.
    backward: bool,
}

impl Stride {
    /// Bytes in `n` elements. `n` is at most that of a page.
    const fn bytes(self, n: u64) -> u64 {
        self.size.get().wrapping_mul(n)
    }

    /// Of `total` bytes, whose lowest address is known, the next `len` behind `done`: how far up they begin.
    const fn at(self, total: u64, done: u64, len: u64) -> u64 {
        if self.backward {
            total.wrapping_sub(done).wrapping_sub(len)
        } else {
            done
        }
    }

    /// The elements in `bytes`, in the order of iterations.
    fn elements(self, bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
        let size = (self.size.get() as usize).max(1);
        let count = bytes.len() / size;
        (0..count).map(move |i| {
            let i = if self.backward { count.wrapping_sub(1).wrapping_sub(i) } else { i };
            let at = i.wrapping_mul(size);
            uint(bytes.get(at..at.wrapping_add(size)).unwrap_or(&[]))
        })
    }
}

/// Up to 8 bytes as a little-endian number.
fn uint(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |v, byte| v << 8 | u64::from(*byte))
}

impl<M: Machine> Exec<'_, M> {
    /// May more than one iteration be done in this step, as far as the CPU's own state tells?
    fn may_batch(&self) -> bool {
        !self.flag(Rflags::TF) && self.cpu.dr7 & 0xff == 0 && self.cpu.shadow == InterruptShadow::None
    }

    fn stride(&self) -> Option<Stride> {
        let size = NonZeroU64::new(self.mem_size().into())?;
        Some(Stride { size, backward: self.flag(Rflags::DF) })
    }

    fn source(&self) -> Operand {
        let (seg, offset) = self.string_source();
        Operand { seg, offset, kind: AccessKind::Read }
    }

    fn destination(&self, kind: AccessKind) -> Operand {
        let (seg, offset) = self.string_dest();
        Operand { seg, offset, kind }
    }

    /// How many iterations stay within the page of the operand's first element and do not wrap its offset. 0 where the first one is
    /// not like that, or faults.
    fn reach(&mut self, operand: Operand, stride: Stride) -> u64 {
        let size = stride.size.get();
        let Ok(la) = self.linear(operand.seg, operand.offset, size as u32, size as u32, operand.kind) else { return 0 };
        let within = la.offset() as u64;
        let room = PAGE_SIZE.wrapping_sub(within);
        if room < size {
            return 0;
        }
        // The last element before the wrap is left to the path that knows what becomes of it.
        if stride.backward {
            (within / stride.size).wrapping_add(1).min(operand.offset / stride.size)
        } else {
            let top = mask(self.string_address_size());
            (room / stride.size).min(top.wrapping_sub(operand.offset) / stride.size)
        }
    }

    /// The guest-physical address of the lowest byte of `n` elements, which [`Exec::reach`] says are in one page. `None` where the
    /// segment does not permit them all, or their page is not plain memory.
    fn place(&mut self, operand: Operand, stride: Stride, n: u64) -> Res<Option<Gpa>> {
        let Operand { seg, offset, kind } = operand;
        let size = stride.size.get();
        let lowest = offset.wrapping_sub(if stride.backward { stride.bytes(n.wrapping_sub(1)) } else { 0 });
        let Ok(low) = self.linear(seg, lowest, stride.bytes(n) as u32, size as u32, kind) else { return Ok(None) };
        // The address that a page fault reports is the first iteration's.
        let first = self.linear(seg, offset, size as u32, size as u32, kind)?;
        let access = Access { kind, privilege: self.privilege() };
        let gpa = self.m.translate(self.cpu, first, access)?;
        let gpa = gpa.page().add(low.offset() as u64);
        Ok(self.m.is_plain(gpa, kind)?.then_some(gpa))
    }

    /// Is the instruction itself in the frame of `gpa`? Then one iteration may change the next.
    fn overwrites_itself(&mut self, gpa: Gpa) -> Res<bool> {
        let base = if self.mode == CpuMode::Long { 0 } else { self.cpu.segment(SegReg::Cs).base };
        let first = mem::wrap(self.cpu, Gva(base.wrapping_add(self.start_rip)));
        let last = mem::wrap(self.cpu, first.add((self.ins.len() as u64).saturating_sub(1)));
        let access = Access { kind: AccessKind::Fetch, privilege: self.privilege() };
        let mut own = self.m.translate(self.cpu, first, access)?.frame() == gpa.frame();
        if last.page() != first.page() {
            own |= self.m.translate(self.cpu, last, access)?.frame() == gpa.frame();
        }
        Ok(own)
    }

    /// Moves rSI or rDI (`index`) by `n` elements.
    fn advance(&mut self, index: usize, stride: Stride, n: u64) {
        let size = self.string_address_size();
        let (old, by) = (self.gpr(index, size), stride.bytes(n));
        let new = if stride.backward { old.wrapping_sub(by) } else { old.wrapping_add(by) };
        self.set_gpr(index, size, new & mask(size));
    }

    /// Tells the machine of `n` iterations done.
    fn batched(&mut self, n: u64) -> Done {
        self.m.changed(self.cpu, Change::Iterations(n));
        Ok(Some(n))
    }
}

/// MOVS, up to `count` iterations.
#[inline(never)]
pub(crate) fn movs<M: Machine>(x: &mut Exec<'_, M>, count: u64) -> Done {
    let Some(stride) = x.stride().filter(|_| x.may_batch()) else { return Ok(None) };
    let (source, dest) = (x.source(), x.destination(AccessKind::Write));
    let n = count.min(x.reach(source, stride)).min(x.reach(dest, stride));
    if n < 2 {
        return Ok(None);
    }
    let Some(from) = x.place(source, stride, n)? else { return Ok(None) };
    let Some(to) = x.place(dest, stride, n)? else { return Ok(None) };
    if straddles(from, to, stride) || x.overwrites_itself(to)? {
        return Ok(None);
    }
    copy(x.m, from, to, stride, stride.bytes(n))?;
    x.advance(gpr::RSI, stride, n);
    x.advance(gpr::RDI, stride, n);
    x.batched(n)
}

/// Do the elements of the two operands overlap, but not as a whole? What an iteration reads there is half what an earlier one wrote.
fn straddles(from: Gpa, to: Gpa, stride: Stride) -> bool {
    (1..stride.size.get()).contains(&from.0.abs_diff(to.0))
}

/// Copies `total` bytes, in the order of iterations where it matters: where what one of them writes is read by a later one. Then
/// the beginning is replicated, as guests count on (MOVS to the next byte fills memory): byte by byte, as no iteration reads what it writes
/// itself ([`straddles`]). So the bytes between the operands are read once, and written again and again.
fn copy<M: Machine>(m: &mut M, from: Gpa, to: Gpa, stride: Stride, total: u64) -> Res {
    let apart = from.0.abs_diff(to.0);
    let replicates = apart != 0 && apart < total.min(CHUNK as u64) && (to.0 < from.0) == stride.backward;
    let mut buf = [0; CHUNK];
    let mut most = CHUNK;
    if replicates {
        let (first, rest) = buf.split_at_mut(CHUNK.min(apart as usize));
        m.read(from.add(stride.at(total, 0, apart)), first)?;
        for (slot, byte) in rest.iter_mut().zip(first.iter().cycle()) {
            *slot = *byte;
        }
        // As often as all of them fit.
        most = CHUNK.wrapping_sub(CHUNK.checked_rem(apart as usize).unwrap_or(0));
    }
    let mut done = 0;
    while done < total {
        let len = total.wrapping_sub(done).min(most as u64);
        let at = stride.at(total, done, len);
        // Of what is replicated downwards, the upper end.
        let skip = if replicates && stride.backward { most.saturating_sub(len as usize) } else { 0 };
        let Some(some) = buf.get_mut(skip..skip.saturating_add(len as usize)) else { break };
        if !replicates {
            m.read(from.add(at), some)?;
        }
        m.write(to.add(at), some)?;
        done = done.wrapping_add(len);
    }
    Ok(())
}

/// STOS, up to `count` iterations.
#[inline(never)]
pub(crate) fn stos<M: Machine>(x: &mut Exec<'_, M>, count: u64) -> Done {
    let Some(stride) = x.stride().filter(|_| x.may_batch()) else { return Ok(None) };
    let dest = x.destination(AccessKind::Write);
    let n = count.min(x.reach(dest, stride));
    if n < 2 {
        return Ok(None);
    }
    let Some(to) = x.place(dest, stride, n)? else { return Ok(None) };
    if x.overwrites_itself(to)? {
        return Ok(None);
    }
    let mut buf = [0; CHUNK];
    let value = x.gpr(gpr::RAX, stride.size.get() as u32).to_le_bytes();
    for (slot, byte) in buf.iter_mut().zip(value.iter().take(stride.size.get() as usize).cycle()) {
        *slot = *byte;
    }
    let total = stride.bytes(n);
    let mut done = 0;
    while done < total {
        let len = total.wrapping_sub(done).min(CHUNK as u64);
        let (some, _) = buf.split_at(CHUNK.min(len as usize));
        x.m.write(to.add(done), some)?;
        done = done.wrapping_add(len);
    }
    x.advance(gpr::RDI, stride, n);
    x.batched(n)
}

/// Up to `count` iterations of INS, which writes its destination, or OUTS, which reads its source: elements of `size` bytes, upwards. `make` is told
/// where they are and how many at most, and says how many it has moved.
pub(crate) fn ports<M: Machine>(
    x: &mut Exec<'_, M>,
    count: u64,
    size: u32,
    kind: AccessKind,
    make: impl FnOnce(&mut M, Gpa, u64) -> Res<u64>,
) -> Done {
    let (operand, index) = match kind {
        AccessKind::Write => (x.destination(kind), gpr::RDI),
        _ => (x.source(), gpr::RSI),
    };
    let Some(size) = NonZeroU64::new(size.into()).filter(|_| x.may_batch()) else { return Ok(None) };
    let stride = Stride { size, backward: x.flag(Rflags::DF) };
    let n = count.min(x.reach(operand, stride));
    if n < 2 || stride.backward {
        return Ok(None);
    }
    let Some(at) = x.place(operand, stride, n)? else { return Ok(None) };
    if kind == AccessKind::Write && x.overwrites_itself(at)? {
        return Ok(None);
    }
    let done = make(x.m, at, n)?;
    x.advance(index, stride, done);
    x.batched(done)
}

/// LODS, up to `count` iterations: what the last one loads stays.
#[inline(never)]
pub(crate) fn lods<M: Machine>(x: &mut Exec<'_, M>, count: u64) -> Done {
    let Some(stride) = x.stride().filter(|_| x.may_batch()) else { return Ok(None) };
    let source = x.source();
    let n = count.min(x.reach(source, stride));
    if n < 2 {
        return Ok(None);
    }
    let Some(from) = x.place(source, stride, n)? else { return Ok(None) };
    let size = stride.size.get();
    let last = stride.at(stride.bytes(n), stride.bytes(n.wrapping_sub(1)), size);
    let mut buf = [0; 8];
    let (element, _) = buf.split_at_mut((size as usize).min(8));
    x.m.read(from.add(last), element)?;
    x.set_gpr(gpr::RAX, size as u32, u64::from_le_bytes(buf));
    x.advance(gpr::RSI, stride, n);
    x.batched(n)
}

/// CMPS, up to `count` iterations or the one that ends it.
#[inline(never)]
pub(crate) fn cmps<M: Machine>(x: &mut Exec<'_, M>, count: u64) -> Done {
    let Some(stride) = x.stride().filter(|_| x.may_batch()) else { return Ok(None) };
    let (source, dest) = (x.source(), x.destination(AccessKind::Read));
    let n = count.min(x.reach(source, stride)).min(x.reach(dest, stride));
    if n < 2 {
        return Ok(None);
    }
    let Some(from) = x.place(source, stride, n)? else { return Ok(None) };
    let Some(to) = x.place(dest, stride, n)? else { return Ok(None) };
    let n = compare(x, stride, n, |m, at, a, b| {
        m.read(from.add(at), a)?;
        Ok(m.read(to.add(at), b)?)
    })?;
    x.advance(gpr::RSI, stride, n);
    x.advance(gpr::RDI, stride, n);
    x.batched(n)
}

/// SCAS, up to `count` iterations or the one that ends it.
#[inline(never)]
pub(crate) fn scas<M: Machine>(x: &mut Exec<'_, M>, count: u64) -> Done {
    let Some(stride) = x.stride().filter(|_| x.may_batch()) else { return Ok(None) };
    let dest = x.destination(AccessKind::Read);
    let n = count.min(x.reach(dest, stride));
    if n < 2 {
        return Ok(None);
    }
    let Some(to) = x.place(dest, stride, n)? else { return Ok(None) };
    let size = stride.size.get() as usize;
    let value = x.gpr(gpr::RAX, size as u32).to_le_bytes();
    let n = compare(x, stride, n, |m, at, a, b| {
        for (slot, byte) in a.iter_mut().zip(value.iter().take(size).cycle()) {
            *slot = *byte;
        }
        Ok(m.read(to.add(at), b)?)
    })?;
    x.advance(gpr::RDI, stride, n);
    x.batched(n)
}

/// Compares up to `n` pairs of elements, sets the flags of the last pair looked at, and gives the number of pairs. `fill` fetches as many
/// bytes of both operands as the buffers have, so far above their lowest addresses.
fn compare<M: Machine>(
    x: &mut Exec<'_, M>,
    stride: Stride,
    n: u64,
    mut fill: impl FnMut(&mut M, u64, &mut [u8], &mut [u8]) -> Res,
) -> Res<u64> {
    let ends_at_equal = x.ins.has_repne_prefix();
    let (mut a, mut b) = ([0; CHUNK], [0; CHUNK]);
    let total = stride.bytes(n);
    let (mut done, mut pairs, mut last) = (0, 0u64, (0, 0));
    'all: while done < total {
        let len = total.wrapping_sub(done).min(CHUNK as u64);
        let (a, _) = a.split_at_mut(CHUNK.min(len as usize));
        let (b, _) = b.split_at_mut(CHUNK.min(len as usize));
        fill(x.m, stride.at(total, done, len), a, b)?;
        for pair in stride.elements(a).zip(stride.elements(b)) {
            (last, pairs) = (pair, pairs.wrapping_add(1));
            if (pair.0 == pair.1) == ends_at_equal {
                break 'all;
            }
        }
        done = done.wrapping_add(len);
    }
    set_compare_flags(x, last.0, last.1, stride.size.get() as u32);
    Ok(pairs)
}
