//! Debug registers: MOV to and from DR0 to DR7 (SDM vol. 3 §17.2).

use super::deliver::DR7_GD;
use crate::exec::{Exec, Res};
use iced_x86::Register;
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::Cr4;
use rvmm_arch::Exception;

/// DR6.BD: a debug register was about to be accessed.
const DR6_BD: u64 = 1 << 13;
/// Bits of DR6 that can be written: B0 to B3, BD, BS, BT.
const DR6_WRITABLE: u64 = 0xe00f;
/// Bits of DR6 that read as 1.
const DR6_ONES: u64 = 0xffff_0ff0;
/// Bits of DR7 that can be written: L0 to G3, LE, GE, GD, R/W and LEN.
const DR7_WRITABLE: u64 = 0xffff_23ff;
/// Bits of DR7 that read as 1.
const DR7_ONES: u64 = 0x400;

/// A debug register, its aliases resolved.
#[derive(Clone, Copy)]
enum Which {
    /// DR0 to DR3.
    Address(usize),
    /// DR6, or DR4.
    Status,
    /// DR7, or DR5.
    Control,
}

/// The register meant, if it may be accessed now: #UD for DR4 and DR5 with CR4.DE and for those beyond DR7, #GP(0)
/// outside CPL 0, #DB with DR7.GD.
fn checked<M: Machine>(x: &Exec<'_, M>, reg: Register) -> Res<Which> {
    let extended = x.cpu.cr4.contains(Cr4::DE);
    let which = match reg {
        Register::DR0 => Which::Address(0),
        Register::DR1 => Which::Address(1),
        Register::DR2 => Which::Address(2),
        Register::DR3 => Which::Address(3),
        Register::DR4 if !extended => Which::Status,
        Register::DR5 if !extended => Which::Control,
        Register::DR6 => Which::Status,
        Register::DR7 => Which::Control,
        _ => return Err(Exception::ud().into()),
    };
    x.require_cpl0()?;
    if x.cpu.dr7 & DR7_GD != 0 {
        return Err(Exception::debug(DR6_BD).into());
    }
    Ok(which)
}

/// MOV r, DRn.
pub(super) fn read<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let value = match checked(x, x.op_reg(1))? {
        Which::Address(i) => x.cpu.dr.get(i).copied().unwrap_or(0),
        Which::Status => x.cpu.dr6,
        Which::Control => x.cpu.dr7,
    };
    x.set_reg(x.op_reg(0), value);
    Ok(())
}

/// MOV DRn, r. In 64-bit mode the upper halves of DR6 and DR7 must be 0.
pub(super) fn write<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let which = checked(x, x.op_reg(0))?;
    let value = x.reg(x.op_reg(1));
    match which {
        Which::Address(i) => {
            if let Some(slot) = x.cpu.dr.get_mut(i) {
                *slot = value;
            }
        }
        Which::Status | Which::Control if value >> 32 != 0 => return Err(Exception::gp(0).into()),
        Which::Status => x.cpu.dr6 = (value & DR6_WRITABLE) | DR6_ONES,
        Which::Control => x.cpu.dr7 = (value & DR7_WRITABLE) | DR7_ONES,
    }
    x.m.changed(x.cpu, Change::DebugRegisters);
    Ok(())
}
