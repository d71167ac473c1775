//! String instructions. With a REP prefix a step is one iteration, see [`Exec::rep_many`], or as many as nobody can tell from that:
//! [`crate::batch`].

use crate::batch::{self, Done};
use crate::bits::set_compare_flags;
use crate::exec::{Exec, Res};
use crate::reg::mask;
use iced_x86::{Mnemonic, OpKind};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::SegReg;

impl<M: Machine> Exec<'_, M> {
    /// Size of addresses and of the count: 2, 4 or 8 bytes.
    pub fn string_address_size(&self) -> u32 {
        let of = |kind| match kind {
            OpKind::MemorySegSI | OpKind::MemoryESDI | OpKind::MemorySegDI => 2,
            OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI => 4,
            OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::MemorySegRDI => 8,
            _ => 0,
        };
        match of(self.kind(0)) {
            0 => of(self.kind(1)),
            size => size,
        }
    }

    /// Does one iteration of a string instruction: all of it without a REP prefix; with one, if the count is not 0,
    /// `iteration` and the count less one. If iterations are left, RIP goes back to the instruction and RF is set, as
    /// an interrupt between them would find it (SDM vol. 3 §18.3.1.1), and as keeps an instruction breakpoint from
    /// being met again. But first `many` is asked for as many iterations as it can do at once, given how many are left.
    pub fn rep_many(
        &mut self,
        many: impl FnOnce(&mut Self, u64) -> Done,
        iteration: impl FnOnce(&mut Self) -> Res,
    ) -> Res {
        let (repe, repne) = (self.ins.has_rep_prefix(), self.ins.has_repne_prefix());
        if !repe && !repne {
            return iteration(self);
        }
        let size = self.string_address_size();
        let count = self.gpr(gpr::RCX, size);
        if count == 0 {
            return Ok(());
        }
        let done = match many(self, count)? {
            Some(done) => done,
            None => {
                iteration(self)?;
                1
            }
        };
        let left = count.wrapping_sub(done);
        self.set_gpr(gpr::RCX, size, left);
        let goes_on = match self.ins.mnemonic() {
            Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq => self.flag(Rflags::ZF) != repne,
            _ => true,
        };
        if left != 0 && goes_on {
            self.cpu.rip = self.start_rip;
            self.cpu.rflags.insert(Rflags::RF);
            self.keep_rf = true;
        }
        Ok(())
    }

    /// Segment and offset of the source, [rSI] in DS or the overriding segment.
    pub fn string_source(&self) -> (SegReg, u64) {
        (self.memory_segment(), self.gpr(gpr::RSI, self.string_address_size()))
    }

    /// Segment and offset of the destination, ES:[rDI].
    pub fn string_dest(&self) -> (SegReg, u64) {
        (SegReg::Es, self.gpr(gpr::RDI, self.string_address_size()))
    }

    /// Moves rSI or rDI (`index`) by `size` bytes in the direction of DF.
    pub fn string_advance(&mut self, index: usize, size: u32) {
        let address_size = self.string_address_size();
        let by = u64::from(size);
        let old = self.gpr(index, address_size);
        let new = if self.flag(Rflags::DF) { old.wrapping_sub(by) } else { old.wrapping_add(by) };
        self.set_gpr(index, address_size, new & mask(address_size));
    }
}

/// MOVS.
pub(crate) fn movs<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.mem_size();
    x.rep_many(batch::movs, |x| {
        let (seg, from) = x.string_source();
        let v = x.load(seg, from, size)?;
        let (seg, to) = x.string_dest();
        x.store(seg, to, size, v)?;
        x.string_advance(gpr::RSI, size);
        x.string_advance(gpr::RDI, size);
        Ok(())
    })
}

/// CMPS: source less destination.
pub(crate) fn cmps<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.mem_size();
    x.rep_many(batch::cmps, |x| {
        let (seg, from) = x.string_source();
        let a = x.load(seg, from, size)?;
        let (seg, to) = x.string_dest();
        let b = x.load(seg, to, size)?;
        set_compare_flags(x, a, b, size);
        x.string_advance(gpr::RSI, size);
        x.string_advance(gpr::RDI, size);
        Ok(())
    })
}

/// STOS.
pub(crate) fn stos<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.mem_size();
    x.rep_many(batch::stos, |x| {
        let (seg, to) = x.string_dest();
        let v = x.gpr(gpr::RAX, size);
        x.store(seg, to, size, v)?;
        x.string_advance(gpr::RDI, size);
        Ok(())
    })
}

/// LODS.
pub(crate) fn lods<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.mem_size();
    x.rep_many(batch::lods, |x| {
        let (seg, from) = x.string_source();
        let v = x.load(seg, from, size)?;
        x.set_gpr(gpr::RAX, size, v);
        x.string_advance(gpr::RSI, size);
        Ok(())
    })
}

/// SCAS: accumulator less destination.
pub(crate) fn scas<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.mem_size();
    x.rep_many(batch::scas, |x| {
        let (seg, to) = x.string_dest();
        let b = x.load(seg, to, size)?;
        let a = x.gpr(gpr::RAX, size);
        set_compare_flags(x, a, b, size);
        x.string_advance(gpr::RDI, size);
        Ok(())
    })
}
