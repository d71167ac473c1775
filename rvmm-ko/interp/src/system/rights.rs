//! Questions about descriptors: LAR, LSL, VERR, VERW, ARPL (SDM vol. 3 §5.10). None of them faults on a bad selector.

use super::descriptor::{self, kind, Entry};
use super::tables::{require_protected, word};
use crate::exec::{Exec, Res};
use iced_x86::Mnemonic;
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{Efer, Rflags};
use rvmm_arch::segment::Selector;

/// The descriptor of a selector that is not null and within its table, where the privilege of the asker suffices;
/// conforming code is open to all.
fn visible<M: Machine>(x: &mut Exec<'_, M>, selector: Selector) -> Res<Option<Entry>> {
    if selector.is_null() {
        return Ok(None);
    }
    let Some(entry) = descriptor::find(x.cpu, x.m, selector)? else {
        return Ok(None);
    };
    let needed = selector.rpl().max(x.cpu.cpl);
    Ok((entry.desc.is_conforming() || needed <= entry.desc.dpl()).then_some(entry))
}

/// LAR and LSL: ZF says whether the register was loaded.
pub(super) fn lar_lsl<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    let selector = Selector(word(x, 1)?);
    let rights = x.ins.mnemonic() == Mnemonic::Lar;
    let answer = visible(x, selector)?.and_then(|entry| {
        let system = !entry.desc.is_code_or_data();
        let long = x.cpu.efer.contains(Efer::LMA);
        let known = match entry.desc.kind() {
            // Under EFER.LMA these types are reserved.
            kind::TSS16 | kind::TSS16_BUSY | kind::CALL16 | kind::TASK if long => false,
            kind::TSS16 | kind::LDT | kind::TSS16_BUSY | kind::TSS32 | kind::TSS32_BUSY => true,
            kind::CALL16 | kind::TASK | kind::CALL32 => rights,
            _ => false,
        };
        let value = if rights { (entry.desc.0 >> 32) & 0x00f0_ff00 } else { u64::from(entry.desc.limit()) };
        (!system || known).then_some(value)
    });
    x.cpu.rflags.set(Rflags::ZF, answer.is_some());
    if let Some(value) = answer {
        x.set_reg(x.op_reg(0), value);
    }
    Ok(())
}

/// VERR and VERW: ZF says whether the segment may be read or written.
pub(super) fn verify<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    let selector = Selector(word(x, 0)?);
    let write = x.ins.mnemonic() == Mnemonic::Verw;
    let granted =
        visible(x, selector)?
            .is_some_and(|entry| if write { entry.desc.is_writable_data() } else { entry.desc.is_readable() });
    x.cpu.rflags.set(Rflags::ZF, granted);
    Ok(())
}

/// ARPL: raises the RPL of a selector to that of another one.
pub(super) fn arpl<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    let dest = x.dest(0)?;
    let old = x.dest_get(dest)?;
    let to = Selector(old as u16);
    let rpl = Selector(x.reg(x.op_reg(1)) as u16).rpl();
    let raised = to.rpl() < rpl;
    if raised {
        // iced has a 32-bit register for the destination, of which only the lower half is written.
        x.dest_put(dest, (old & !0xffff) | u64::from(to.with_rpl(rpl).0))?;
    }
    x.cpu.rflags.set(Rflags::ZF, raised);
    Ok(())
}
