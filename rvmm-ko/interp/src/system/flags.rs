//! Instructions on the flags that privilege decides about: CLI, STI, PUSHF, POPF (SDM vol. 2, vol. 3 §21.3 and §21.4).

use super::virtual8086::{acts_on_vif, image_with_vif, vif_from_image};
use crate::exec::{Exec, Res};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::segment::CpuMode;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::Exception;

/// What CLI and STI act on.
enum Target {
    /// IF itself.
    If,
    /// VIF, with CR4.PVI at CPL 3, or CR4.VME in virtual 8086 mode.
    Vif,
}

fn target<M: Machine>(x: &Exec<'_, M>) -> Res<Target> {
    let virtual_flag = if x.mode == CpuMode::Virtual8086 { Cr4::VME } else { Cr4::PVI };
    if x.mode == CpuMode::Real || x.cpu.cpl <= x.cpu.rflags.iopl() {
        Ok(Target::If)
    } else if x.cpu.cpl == 3 && x.cpu.cr4.contains(virtual_flag) {
        Ok(Target::Vif)
    } else {
        Err(Exception::gp(0).into())
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
    let size = x.ins.stack_pointer_increment().unsigned_abs();
    let flags = if acts_on_vif(x, size)? { image_with_vif(x.cpu.rflags) } else { x.cpu.rflags };
    let image = flags.difference(Rflags::VM | Rflags::RF).union(Rflags::ONE);
    x.push(image.bits(), size)
}

/// POPF, POPFD: IOPL changes at CPL 0 only, IF where CPL <= IOPL, AC and ID with 32 bits only; VM, VIF and VIP never;
/// RF is cleared. What may not be changed is silently kept.
pub(super) fn popf<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.ins.stack_pointer_increment().unsigned_abs();
    let vif = acts_on_vif(x, size)?;
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
    if vif {
        x.cpu.rflags = vif_from_image(x.cpu.rflags, image)?;
    }
    x.set_flags(writable, image);
    Ok(())
}
