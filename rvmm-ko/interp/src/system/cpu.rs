//! What an instruction asks of the CPU itself: CPUID, the time-stamp counter, HLT, caches and translations, and the
//! features that exist only where CPUID announces them.

use super::features::{has, has_xsaves, xcr0_supported, Feature};
use crate::exec::{canonical, Exec, Res};
use crate::step::{Stop, Unsupported};
use iced_x86::{Mnemonic, Register};
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::vcpu::Activity;
use rvmm_arch::{xstate, Exception, Gva};

/// Sets EDX:EAX.
pub(super) fn set_edx_eax<M: Machine>(x: &mut Exec<'_, M>, value: u64) {
    x.set_reg(Register::EAX, value);
    x.set_reg(Register::EDX, value >> 32);
}

/// EDX:EAX.
pub(super) fn edx_eax<M: Machine>(x: &Exec<'_, M>) -> u64 {
    x.reg(Register::EDX) << 32 | x.reg(Register::EAX)
}

/// #UD unless CPUID announces `feature`.
fn require<M: Machine>(x: &mut Exec<'_, M>, feature: Feature) -> Res {
    if has(x.cpu, x.m, feature) {
        Ok(())
    } else {
        Err(Exception::ud().into())
    }
}

/// CPUID.
pub(super) fn cpuid<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (leaf, subleaf) = (x.reg(Register::EAX) as u32, x.reg(Register::ECX) as u32);
    let [eax, ebx, ecx, edx] = x.m.cpuid(x.cpu, leaf, subleaf);
    for (reg, value) in [(Register::EAX, eax), (Register::EBX, ebx), (Register::ECX, ecx), (Register::EDX, edx)] {
        x.set_reg(reg, u64::from(value));
    }
    Ok(())
}

/// RDTSC and RDTSCP: #GP(0) with CR4.TSD outside CPL 0.
pub(super) fn rdtsc<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let with_aux = x.ins.mnemonic() == Mnemonic::Rdtscp;
    if with_aux {
        require(x, Feature::RDTSCP)?;
    }
    if x.cpu.cr4.contains(Cr4::TSD) {
        x.require_cpl0()?;
    }
    let now = x.m.rdtsc(x.cpu);
    set_edx_eax(x, now);
    if with_aux {
        x.set_reg(Register::ECX, x.cpu.msrs.tsc_aux);
    }
    Ok(())
}

/// RDPID.
pub(super) fn rdpid<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require(x, Feature::RDPID)?;
    x.set_reg(x.op_reg(0), x.cpu.msrs.tsc_aux);
    Ok(())
}

/// HLT.
pub(super) fn hlt<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    x.cpu.activity = Activity::Halted;
    Ok(())
}

/// INVD, WBINVD, WBNOINVD.
pub(super) fn caches<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    x.m.changed(x.cpu, Change::CacheFlush);
    Ok(())
}

/// INVLPG: the operand's address is not checked against its segment. Nothing happens for one that is not canonical.
pub(super) fn invlpg<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.require_cpl0()?;
    let (seg, offset) = x.ea();
    let base = x.cpu.segment(seg).base;
    let la = match x.mode {
        CpuMode::Long if !matches!(seg, SegReg::Fs | SegReg::Gs) => offset,
        CpuMode::Long => base.wrapping_add(offset),
        _ => base.wrapping_add(offset) & 0xffff_ffff,
    };
    if canonical(la) {
        x.m.changed(x.cpu, Change::Invlpg(Gva(la)));
    }
    Ok(())
}

/// STAC and CLAC.
pub(super) fn alignment_flag<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    require(x, Feature::SMAP)?;
    if x.cpu.cpl != 0 {
        return Err(Exception::ud().into());
    }
    x.cpu.rflags.set(Rflags::AC, x.ins.mnemonic() == Mnemonic::Stac);
    Ok(())
}

/// XGETBV and XSETBV of XCR0.
pub(super) fn xcr<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if !x.cpu.cr4.contains(Cr4::OSXSAVE) {
        return Err(Exception::ud().into());
    }
    let index = x.reg(Register::ECX);
    if x.ins.mnemonic() == Mnemonic::Xgetbv {
        // XCR1, the state in use, can only be answered by the CPU that holds it.
        return match index {
            0 => {
                set_edx_eax(x, x.cpu.xcr0);
                Ok(())
            }
            1 => Err(Stop::Unsupported(Unsupported::StateSave)),
            _ => Err(Exception::gp(0).into()),
        };
    }
    x.require_cpl0()?;
    let value = edx_eax(x);
    let unsupported = value & !xcr0_supported(x.cpu, x.m) != 0;
    if index != 0 || !xstate::is_valid(value) || unsupported {
        return Err(Exception::gp(0).into());
    }
    x.cpu.xcr0 = value;
    Ok(())
}

/// XSAVE, XRSTOR and their kin: run natively once the checks that depend on the virtual CPU have passed. The guest's XCR0 acts there, so
/// they reach the guest's components only.
pub(super) fn state_save<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if !x.cpu.cr4.contains(Cr4::OSXSAVE) {
        return Err(Exception::ud().into());
    }
    if x.cpu.cr0.contains(Cr0::TS) {
        return Err(Exception::new(rvmm_arch::Vector::NM).into());
    }
    Err(Stop::Unsupported(Unsupported::StateSave))
}

/// XSAVES and XRSTORS reach supervisor state, which no guest is promised.
pub(super) fn supervisor_state_save<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if !x.cpu.cr4.contains(Cr4::OSXSAVE) || !has_xsaves(x.cpu, x.m) {
        return Err(Exception::ud().into());
    }
    x.require_cpl0()?;
    Err(Stop::Unsupported(Unsupported::Privileged))
}

/// RDPKRU and WRPKRU.
pub(super) fn protection_keys<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if !x.cpu.cr4.contains(Cr4::PKE) {
        return Err(Exception::ud().into());
    }
    Err(Stop::Unsupported(Unsupported::Privileged))
}

/// An instruction that any program may use where CPUID announces it: left to the CPU.
pub(super) fn native_if<M: Machine>(x: &mut Exec<'_, M>, feature: Feature) -> Res {
    require(x, feature)?;
    Err(Stop::Unsupported(Unsupported::Extension))
}

/// A privileged instruction that no guest is promised: #UD as long as CPUID does not announce it.
pub(super) fn refused_if<M: Machine>(x: &mut Exec<'_, M>, feature: Feature) -> Res {
    require(x, feature)?;
    Err(Stop::Unsupported(Unsupported::Privileged))
}

/// MONITOR, MWAIT: #UD outside CPL 0 too.
pub(super) fn monitor<M: Machine>(x: &mut Exec<'_, M>, feature: Feature) -> Res {
    if x.cpu.cpl != 0 {
        return Err(Exception::ud().into());
    }
    refused_if(x, feature)
}

/// RDPMC: there are no counters, so every index is a wrong one; the same #GP(0) as without CR4.PCE.
pub(super) fn rdpmc<M: Machine>(_x: &mut Exec<'_, M>) -> Res {
    Err(Exception::gp(0).into())
}

/// RDRAND and RDSEED keep their destination for the CPU to fill in.
pub(super) fn random<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let feature = if x.ins.mnemonic() == Mnemonic::Rdrand { Feature::RDRAND } else { Feature::RDSEED };
    native_if(x, feature)
}
