//! The bases of FS and GS as instructions reach them: SWAPGS, RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE (SDM vol. 2). All of them
//! exist in 64-bit mode only.

use crate::exec::{canonical, Exec, Res};
use iced_x86::Mnemonic;
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::Cr4;
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::Exception;

/// SWAPGS: exchanges the base of GS with IA32_KERNEL_GS_BASE.
pub(super) fn swapgs<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.mode != CpuMode::Long {
        return Err(Exception::ud().into());
    }
    x.require_cpl0()?;
    let old = x.cpu.segment(SegReg::Gs).base;
    x.cpu.segment_mut(SegReg::Gs).base = x.cpu.msrs.kernel_gs_base;
    x.cpu.msrs.kernel_gs_base = old;
    Ok(())
}

/// RDFSBASE and its kin: at any privilege level, with CR4.FSGSBASE. #GP(0) for a base that is not canonical.
pub(super) fn base<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.mode != CpuMode::Long || !x.cpu.cr4.contains(Cr4::FSGSBASE) {
        return Err(Exception::ud().into());
    }
    let reg = match x.ins.mnemonic() {
        Mnemonic::Rdfsbase | Mnemonic::Wrfsbase => SegReg::Fs,
        _ => SegReg::Gs,
    };
    let operand = x.op_reg(0);
    if matches!(x.ins.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Rdgsbase) {
        x.set_reg(operand, x.cpu.segment(reg).base);
        return Ok(());
    }
    let value = x.reg(operand);
    if !canonical(value) {
        return Err(Exception::gp(0).into());
    }
    x.cpu.segment_mut(reg).base = value;
    Ok(())
}
