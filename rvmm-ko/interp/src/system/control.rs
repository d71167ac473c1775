//! Control registers: MOV to and from CR0 to CR4 and CR8, LMSW, SMSW, CLTS (SDM vol. 3 §2.5).

use super::descriptor::kind;
use super::features::{has, physical_bits, Feature};
use crate::exec::{Exec, Res};
use iced_x86::{OpKind, Register};
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::{Exception, VcpuState};

/// The bits of CR0 that exist; writes to the others of the low 32 are ignored.
const CR0_BITS: Cr0 = Cr0::PE
    .union(Cr0::MP)
    .union(Cr0::EM)
    .union(Cr0::TS)
    .union(Cr0::NE)
    .union(Cr0::WP)
    .union(Cr0::AM)
    .union(Cr0::NW)
    .union(Cr0::CD)
    .union(Cr0::PG);

/// MOV r, CRn.
pub(super) fn read<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let value = match x.op_reg(1) {
        Register::CR0 => x.cpu.cr0.bits(),
        Register::CR2 => x.cpu.cr2,
        Register::CR3 => x.cpu.cr3,
        Register::CR4 => x.cpu.cr4.bits(),
        Register::CR8 => x.cpu.cr8,
        _ => return Err(Exception::ud().into()),
    };
    x.require_cpl0()?;
    x.set_reg(x.op_reg(0), value);
    Ok(())
}

/// MOV CRn, r.
pub(super) fn write<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let to = x.op_reg(0);
    if !matches!(to, Register::CR0 | Register::CR2 | Register::CR3 | Register::CR4 | Register::CR8) {
        return Err(Exception::ud().into());
    }
    x.require_cpl0()?;
    let value = x.reg(x.op_reg(1));
    match to {
        Register::CR0 => set_cr0(x.cpu, x.m, value),
        Register::CR2 => {
            x.cpu.cr2 = value;
            Ok(())
        }
        Register::CR3 => set_cr3(x.cpu, x.m, value),
        Register::CR4 => set_cr4(x.cpu, x.m, value),
        _ => {
            if value > 15 {
                return Err(Exception::gp(0).into());
            }
            x.cpu.cr8 = value;
            Ok(())
        }
    }
}

/// Bit 63 of what is written to CR3 with CR4.PCIDE: translations may stay. It is not stored.
const CR3_KEEP: u64 = 1 << 63;

/// Writes CR3. In long mode #GP(0) for bits beyond the width of physical addresses; elsewhere there are but 32.
///
/// With PAE outside long mode the four entries that CR3 points to are not loaded here, and so not checked: every page walk reads
/// them from memory, as AMD's CPUs do (APM vol. 2 §5.2.2; Intel's keep them in registers, SDM vol. 3 §4.4.1).
fn set_cr3<M: Machine>(cpu: &mut VcpuState, m: &mut M, value: u64) -> Res {
    let value = if cpu.cr4.contains(Cr4::PCIDE) { value & !CR3_KEEP } else { value };
    // No CPU has fewer than 32 bits of physical address, so CPUID need not be asked about most values.
    if cpu.efer.contains(Efer::LMA) && value >> 32 != 0 && value >> physical_bits(cpu, m) != 0 {
        return Err(Exception::gp(0).into());
    }
    cpu.cr3 = value;
    m.changed(cpu, Change::Cr3);
    Ok(())
}

/// Writes CR0. #GP(0) for PG without PE, NW without CD, and the combinations that long mode forbids: entering it without PAE, from
/// code with the L bit or with a 16-bit TSS, and leaving it from 64-bit mode (SDM vol. 3 §10.8.5).
fn set_cr0<M: Machine>(cpu: &mut VcpuState, m: &mut M, value: u64) -> Res {
    let old = cpu.cr0;
    let new = Cr0::from_bits_retain(value).intersection(CR0_BITS).union(Cr0::ET);
    let paging = new.contains(Cr0::PG);
    if value >> 32 != 0
        || (paging && !new.contains(Cr0::PE))
        || (new.contains(Cr0::NW) && !new.contains(Cr0::CD))
        || (!paging && (cpu.mode() == CpuMode::Long || cpu.cr4.contains(Cr4::PCIDE)))
    {
        return Err(Exception::gp(0).into());
    }
    let toggles_long_mode = cpu.efer.contains(Efer::LME) && paging != old.contains(Cr0::PG);
    if toggles_long_mode && paging {
        let narrow_task = cpu.tr.usable() && matches!(cpu.tr.kind(), kind::TSS16 | kind::TSS16_BUSY);
        if !cpu.cr4.contains(Cr4::PAE) || cpu.segment(SegReg::Cs).long() || narrow_task {
            return Err(Exception::gp(0).into());
        }
    }
    cpu.cr0 = new;
    if toggles_long_mode {
        let efer = cpu.efer.bits();
        cpu.efer.set(Efer::LMA, paging);
        m.changed(cpu, Change::Efer(efer));
    }
    m.changed(cpu, Change::Cr0(old.bits()));
    Ok(())
}

/// Bits of CR4 and the CPUID feature that lets the guest set them.
const CR4_FEATURES: [(Feature, Cr4); 18] = [
    (Feature::VME, Cr4::VME.union(Cr4::PVI)),
    (Feature::TSC, Cr4::TSD),
    (Feature::DE, Cr4::DE),
    (Feature::PSE, Cr4::PSE),
    (Feature::PSE36, Cr4::PSE),
    (Feature::PAE, Cr4::PAE),
    (Feature::MCE, Cr4::MCE),
    (Feature::PGE, Cr4::PGE),
    (Feature::FXSR, Cr4::OSFXSR),
    (Feature::SSE, Cr4::OSXMMEXCPT),
    (Feature::UMIP, Cr4::UMIP),
    (Feature::LA57, Cr4::LA57),
    (Feature::FSGSBASE, Cr4::FSGSBASE),
    (Feature::PCID, Cr4::PCIDE),
    (Feature::XSAVE, Cr4::OSXSAVE),
    (Feature::SMEP, Cr4::SMEP),
    (Feature::SMAP, Cr4::SMAP),
    (Feature::PKU, Cr4::PKE),
];

/// Does the guest's CPUID announce all of `bits`? PCE needs no announcement.
fn cr4_announced<M: Machine>(cpu: &VcpuState, m: &mut M, bits: Cr4) -> bool {
    let mut missing = bits.difference(Cr4::PCE);
    for (feature, allowed) in CR4_FEATURES {
        if missing.intersects(allowed) && has(cpu, m, feature) {
            missing.remove(allowed);
        }
    }
    missing.is_empty()
}

/// Writes CR4. #GP(0) for bits that are reserved or not announced, and for what long mode forbids.
fn set_cr4<M: Machine>(cpu: &mut VcpuState, m: &mut M, value: u64) -> Res {
    let old = cpu.cr4;
    let new = Cr4::from_bits_retain(value);
    let toggled = old.symmetric_difference(new);
    let long = cpu.efer.contains(Efer::LMA);
    if !cr4_announced(cpu, m, new.difference(old))
        || (long && toggled.intersects(Cr4::PAE | Cr4::LA57))
        || (toggled.contains(Cr4::PCIDE) && new.contains(Cr4::PCIDE) && (!long || cpu.cr3 & 0xfff != 0))
    {
        return Err(Exception::gp(0).into());
    }
    cpu.cr4 = new;
    m.changed(cpu, Change::Cr4(old.bits()));
    Ok(())
}

/// LMSW: PE, MP, EM and TS from the low four bits; PE can be set but not cleared.
pub(super) fn lmsw<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    let value = match x.kind(0) {
        OpKind::Register => x.reg(x.op_reg(0)),
        _ => {
            let (seg, offset) = x.ea();
            x.load(seg, offset, 2)?
        }
    };
    let old = x.cpu.cr0.bits();
    let new = (old & !0xe) | (value & 0xf);
    set_cr0(x.cpu, x.m, new)
}

/// SMSW: 16 bits to memory or a 16-bit register, all of CR0 to a wider register (as CPUs do; the manual leaves the
/// upper bits undefined).
pub(super) fn smsw<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require_cpl0_under_umip(x)?;
    let value = x.cpu.cr0.bits();
    put_word(x, value)
}

/// CLTS.
pub(super) fn clts<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    let old = x.cpu.cr0;
    x.cpu.cr0.remove(Cr0::TS);
    x.m.changed(x.cpu, Change::Cr0(old.bits()));
    Ok(())
}

/// #GP(0) with CR4.UMIP outside CPL 0: SGDT, SIDT, SLDT, SMSW, STR.
pub(super) fn require_cpl0_under_umip<M: Machine>(x: &Exec<'_, M>) -> Res {
    if x.cpu.cr4.contains(Cr4::UMIP) {
        x.require_cpl0()?;
    }
    Ok(())
}

/// Stores a system word: the register's width to a register, always 16 bits to memory.
pub(super) fn put_word<M: Machine>(x: &mut Exec<'_, M>, value: u64) -> Res {
    match x.kind(0) {
        OpKind::Register => {
            x.set_reg(x.op_reg(0), value);
            Ok(())
        }
        _ => {
            let (seg, offset) = x.ea();
            x.store(seg, offset, 2, value)
        }
    }
}
