//! Instructions on the flags that privilege decides about: CLI, STI, PUSHF, POPF (SDM vol. 2, vol. 3 §20.3 and §20.4).

use crate::exec::{Exec, Res};
use crate::step::{Stop, Unsupported};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::segment::CpuMode;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::Exception;

/// What CLI and STI act on.
enum Target {
    /// IF itself.
    If,
    /// VIF, with CR4.PVI at CPL 3.
    Vif,
}

fn target<M: Machine>(x: &Exec<'_, M>) -> Res<Target> {
    match x.mode {
        CpuMode::Real => Ok(Target::If),
        CpuMode::Virtual8086 => Err(Stop::Unsupported(Unsupported::Mode)),
        CpuMode::Protected | CpuMode::Long => {
            if x.cpu.cpl <= x.cpu.rflags.iopl() {
                Ok(Target::If)
            } else if x.cpu.cpl == 3 && x.cpu.cr4.contains(Cr4::PVI) {
                Ok(Target::Vif)
            } else {
                Err(Exception::gp(0).into())
            }
        }
    }
}

/// CLI.
pub(super) fn cli<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let flag = match target(x)? {
        Target::If => Rflags::IF,
        Target::Vif => Rflags::VIF,
    };
    x.cpu.rflags.remove(flag);
    Ok(())
}

/// STI. Where it sets IF, interrupts wait for one more instruction; setting VIF makes no shadow.
pub(super) fn sti<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    match target(x)? {
        Target::If => {
            if !x.flag(Rflags::IF) {
                x.shadow = InterruptShadow::Sti;
            }
            x.cpu.rflags.insert(Rflags::IF);
        }
        Target::Vif => {
            if x.flag(Rflags::VIP) {
                return Err(Exception::gp(0).into());
            }
            x.cpu.rflags.insert(Rflags::VIF);
        }
    }
    Ok(())
}

/// PUSHF, PUSHFD: the image has VM and RF clear.
pub(super) fn pushf<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    not_virtual_8086(x)?;
    let image = x.cpu.rflags.difference(Rflags::VM | Rflags::RF).union(Rflags::ONE);
    x.push(image.bits(), x.ins.stack_pointer_increment().unsigned_abs())
}

/// POPF, POPFD: IOPL changes at CPL 0 only, IF where CPL <= IOPL, AC and ID with 32 bits only; VM, VIF and VIP never;
/// RF is cleared. What may not be changed is silently kept.
pub(super) fn popf<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    not_virtual_8086(x)?;
    let size = x.ins.stack_pointer_increment().unsigned_abs();
    let image = Rflags::from_bits_retain(x.pop(size)?);
    let mut writable = Rflags::STATUS | Rflags::TF | Rflags::DF | Rflags::NT;
    if size != 2 {
        writable |= Rflags::AC | Rflags::ID;
    }
    if x.mode == CpuMode::Real || x.cpu.cpl <= x.cpu.rflags.iopl() {
        writable |= Rflags::IF;
    }
    if x.cpu.cpl == 0 {
        writable |= Rflags::IOPL;
    }
    x.set_flags(writable, image);
    Ok(())
}

/// In virtual 8086 mode the flags have rules of their own.
fn not_virtual_8086<M: Machine>(x: &Exec<'_, M>) -> Res {
    if x.mode == CpuMode::Virtual8086 {
        return Err(Stop::Unsupported(Unsupported::Mode));
    }
    Ok(())
}
