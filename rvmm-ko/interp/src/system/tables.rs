//! The table registers: GDTR, IDTR, LDTR and TR (SDM vol. 3 §2.4).

use super::control::{put_word, require_cpl0_under_umip};
use super::descriptor::{self, kind};
use crate::exec::{Exec, Res};
use iced_x86::{Code, Mnemonic, OpKind};
use rvmm_arch::machine::{AccessKind, Change, Machine};
use rvmm_arch::regs::Efer;
use rvmm_arch::segment::{CpuMode, Segment, Selector, TableRegister};
use rvmm_arch::{Exception, Vector};

/// LGDT and LIDT. With an operand size of 16 bits only 24 bits of the base are loaded.
pub(super) fn load<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    let (seg, offset) = x.ea();
    let base_size = if x.mode == CpuMode::Long { 8 } else { 4 };
    let mask = crate::reg::mask(x.address_size());
    let limit = x.load(seg, offset, 2)? as u16;
    let raw = x.load(seg, offset.wrapping_add(2) & mask, base_size)?;
    let base = match x.ins.code() {
        Code::Lgdt_m1632_16 | Code::Lidt_m1632_16 => raw & 0xff_ffff,
        _ => raw,
    };
    if x.mode == CpuMode::Long && !crate::exec::canonical(base) {
        return Err(Exception::gp(0).into());
    }
    let table = TableRegister { base, limit };
    let change = if x.ins.mnemonic() == Mnemonic::Lgdt {
        x.cpu.gdtr = table;
        Change::Gdtr
    } else {
        x.cpu.idtr = table;
        Change::Idtr
    };
    x.m.changed(x.cpu, change);
    Ok(())
}

/// SGDT and SIDT: all of the base, whatever the operand size.
pub(super) fn store<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_cpl0_under_umip(x)?;
    let table = if x.ins.mnemonic() == Mnemonic::Sgdt { x.cpu.gdtr } else { x.cpu.idtr };
    let (seg, offset) = x.ea();
    let mask = crate::reg::mask(x.address_size());
    if x.mode == CpuMode::Long {
        // Ten bytes: translated in one before any is written.
        let span = x.span(seg, offset, 10, AccessKind::Write)?;
        let mut bytes = [0; 10];
        let value = u128::from(table.limit) | u128::from(table.base) << 16;
        for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        return Ok(span.write(x.m, &bytes)?);
    }
    let limit = x.span(seg, offset, 2, AccessKind::Write)?;
    let base = x.span(seg, offset.wrapping_add(2) & mask, 4, AccessKind::Write)?;
    limit.write_uint(x.m, u64::from(table.limit))?;
    Ok(base.write_uint(x.m, table.base)?)
}

/// SLDT and STR.
pub(super) fn store_selector<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    require_cpl0_under_umip(x)?;
    let segment = if x.ins.mnemonic() == Mnemonic::Sldt { &x.cpu.ldtr } else { &x.cpu.tr };
    let value = u64::from(segment.selector.0);
    put_word(x, value)
}

/// #UD in real and virtual 8086 mode.
pub(super) fn require_protected<M: Machine>(x: &Exec<'_, M>) -> Res {
    if x.mode.segments_are_shifted() {
        return Err(Exception::ud().into());
    }
    Ok(())
}

/// A 16-bit operand in a register or in memory.
pub(super) fn word<M: Machine>(x: &mut Exec<'_, M>, i: u32) -> Res<u16> {
    let value = match x.kind(i) {
        OpKind::Register => x.reg(x.op_reg(i)),
        _ => {
            let (seg, offset) = x.ea();
            x.load(seg, offset, 2)?
        }
    };
    Ok(value as u16)
}

/// LLDT.
pub(super) fn lldt<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    x.require_cpl0()?;
    let selector = Selector(word(x, 0)?);
    if selector.is_null() {
        x.cpu.ldtr = Segment::null(selector);
    } else {
        if selector.is_ldt() {
            return Err(descriptor::fault(Vector::GP, selector, 0).into());
        }
        let entry = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
        if entry.desc.is_code_or_data() || entry.desc.kind() != kind::LDT {
            return Err(entry.fault(Vector::GP, 0).into());
        }
        if !entry.desc.present() {
            return Err(entry.fault(Vector::NP, 0).into());
        }
        x.cpu.ldtr = entry.system_segment(x.cpu, x.m)?;
    }
    x.m.changed(x.cpu, Change::Ldtr);
    Ok(())
}

/// LTR: marks the TSS busy.
pub(super) fn ltr<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_protected(x)?;
    x.require_cpl0()?;
    let selector = Selector(word(x, 0)?);
    if selector.is_null() {
        return Err(Exception::gp(0).into());
    }
    if selector.is_ldt() {
        return Err(descriptor::fault(Vector::GP, selector, 0).into());
    }
    let mut entry = descriptor::fetch(x.cpu, x.m, selector, Vector::GP, 0)?;
    let available = match entry.desc.kind() {
        kind::TSS16 => !x.cpu.efer.contains(Efer::LMA),
        kind => kind == kind::TSS32,
    };
    if entry.desc.is_code_or_data() || !available {
        return Err(entry.fault(Vector::GP, 0).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::NP, 0).into());
    }
    let segment = entry.system_segment(x.cpu, x.m)?;
    entry.set_busy(x.cpu, x.m)?;
    x.cpu.tr = Segment { attrs: entry.segment().attrs, ..segment };
    x.m.changed(x.cpu, Change::Tr);
    Ok(())
}
