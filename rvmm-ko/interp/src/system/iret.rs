//! IRET: in protected mode to the same ring and to an outer one, in long mode with the rules of 64-bit mode, from which SS:RSP
//! is always popped, to virtual 8086 mode and in it (SDM vol. 2 "IRET/IRETD/IRETQ").

use super::far;
use super::load;
use super::task;
use super::virtual8086::{self, acts_on_vif, vif_from_image};
use crate::exec::{Exec, Res};
use iced_x86::Mnemonic;
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{Efer, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Selector};
use rvmm_arch::{Exception, Vector};

/// The flags that any IRET loads.
const ALWAYS: Rflags = Rflags::STATUS.union(Rflags::TF).union(Rflags::DF).union(Rflags::NT);
/// The flags that a 32- or 64-bit IRET loads besides.
const WIDE: Rflags = Rflags::RF.union(Rflags::AC).union(Rflags::ID);

/// IRET, IRETD and IRETQ.
pub(super) fn iret<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = match x.ins.mnemonic() {
        Mnemonic::Iret => 2,
        Mnemonic::Iretd => 4,
        _ => 8,
    };
    if x.mode.segments_are_shifted() {
        return real(x, size);
    }
    let long = x.cpu.efer.contains(Efer::LMA);
    if x.flag(Rflags::NT) {
        return if long { Err(Exception::gp(0).into()) } else { task::nested_return(x) };
    }
    let item = u64::from(size);
    let rip = x.peek(0, size)?;
    let selector = Selector(x.peek(item, size)? as u16);
    let image = Rflags::from_bits_retain(x.peek(2 * item, size)?);
    if image.contains(Rflags::VM) && x.cpu.cpl == 0 && !long {
        virtual8086::enter(x, rip, selector, image)?;
        x.keep_rf = true;
        x.cpu.nmi_blocked = false;
        return Ok(());
    }
    let writable = writable_flags(x, size);
    let mut code = far::return_segment(x, selector)?;
    if selector.rpl() == x.cpu.cpl && x.mode != CpuMode::Long {
        far::check_entry_point(x.cpu, code.desc, rip, 0)?;
        code.touch(x.cpu, x.m)?;
        x.set_sp(x.sp().wrapping_add(3 * item));
        far::enter(x.cpu, &code, selector.rpl(), rip);
    } else {
        let pointer = x.peek(3 * item, size)?;
        let ss = Selector(x.peek(4 * item, size)? as u16);
        // Of the manual's two answers for an absent SS, #SS in the pseudo-code and #NP in the list of exceptions, the
        // one that emulated CPUs give too.
        let mut stack = far::return_stack(x, ss, &code, Vector::NP)?;
        far::check_entry_point(x.cpu, code.desc, rip, 0)?;
        code.touch(x.cpu, x.m)?;
        stack.touch(x)?;
        far::enter_with_stack(x, &code, &stack, rip, pointer);
    }
    finish(x, size, writable, image);
    Ok(())
}

/// The flags that IRET may change at this CPL and IOPL. VM is not among them: a protected-mode return to virtual 8086
/// mode happens at CPL 0 only, and is decided before; in long mode there is none.
fn writable_flags<M: Machine>(x: &Exec<'_, M>, size: u32) -> Rflags {
    let mut flags = ALWAYS;
    if size >= 4 {
        flags |= WIDE;
    }
    if x.cpu.cpl <= x.cpu.rflags.iopl() {
        flags |= Rflags::IF;
    }
    if x.cpu.cpl == 0 {
        flags |= Rflags::IOPL;
        if size >= 4 {
            flags |= Rflags::VIF | Rflags::VIP;
        }
    }
    flags
}

/// Loads the flags and opens NMIs again. A 16-bit IRET leaves RF to be cleared like any other instruction.
fn finish<M: Machine>(x: &mut Exec<'_, M>, size: u32, writable: Rflags, image: Rflags) {
    x.set_flags(writable, image);
    x.keep_rf = size >= 4;
    x.cpu.nmi_blocked = false;
}

/// IRET in real and virtual 8086 mode. The latter knows no nested tasks, and depends on IOPL.
fn real<M: Machine>(x: &mut Exec<'_, M>, size: u32) -> Res {
    let vif = acts_on_vif(x, size)?;
    let item = u64::from(size);
    let rip = x.peek(0, size)?;
    let selector = Selector(x.peek(item, size)? as u16);
    let image = Rflags::from_bits_retain(x.peek(2 * item, size)?);
    let cs = load::real(x.cpu.segment(SegReg::Cs), selector);
    if rip > u64::from(cs.limit) {
        return Err(Exception::gp(0).into());
    }
    if vif {
        x.cpu.rflags = vif_from_image(x.cpu.rflags, image)?;
    }
    x.set_sp(x.sp().wrapping_add(3 * item));
    *x.cpu.segment_mut(SegReg::Cs) = cs;
    x.cpu.rip = rip;
    let mut writable = ALWAYS;
    if !vif {
        writable |= Rflags::IF;
    }
    if x.mode == CpuMode::Real {
        writable |= Rflags::IOPL;
    }
    if size == 4 {
        writable |= WIDE;
    }
    finish(x, size, writable, image);
    Ok(())
}
