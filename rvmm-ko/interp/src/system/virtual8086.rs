//! Virtual 8086 mode: entry by IRET, the way to ring 0, and the rules of IOPL and of CR4.VME for the instructions on flags and for
//! INT n (SDM vol. 3 §21.2 and §21.3; vol. 2 "INT n", "IRET").

use super::stack::{Frame, Stack};
use super::tss;
use crate::exec::{Exec, Res};
use crate::mem;
use rvmm_arch::machine::{Machine, Privilege};
use rvmm_arch::regs::{gpr, Cr4, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector};
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// Rights of every segment there: data, read and write, accessed; DPL 3, present; 16 bits.
const RIGHTS: u16 = 0xf3;
/// The last offset of every segment there.
const LIMIT: u32 = 0xffff;
/// Flags that a return from ring 0 loads: all there are.
const FLAGS: u64 = 0x3f_7fd5;
/// The interrupt redirection bitmap: so many bytes, in front of the I/O bitmap.
const REDIRECTION: u32 = 32;

/// The segment register that `selector` gives in virtual 8086 mode.
pub(super) const fn segment(selector: Selector) -> Segment {
    Segment { limit: LIMIT, attrs: RIGHTS, ..Segment::real_mode(selector.0) }
}

/// Does PUSHF, POPF or IRET with an operand size of `size` bytes act on VIF in the place of IF? Only in virtual 8086 mode with IOPL
/// below 3, with CR4.VME and 16 bits; #GP(0) there without.
pub(super) fn acts_on_vif<M: Machine>(x: &Exec<'_, M>, size: u32) -> Res<bool> {
    if x.mode != CpuMode::Virtual8086 || x.cpu.rflags.iopl() == 3 {
        return Ok(false);
    }
    if size == 2 && x.cpu.cr4.contains(Cr4::VME) {
        return Ok(true);
    }
    Err(Exception::gp(0).into())
}

/// VIF and VIP are both set where they act, in virtual 8086 mode with CR4.VME and at CPL 3 with CR4.PVI: #GP(0) instead of the next
/// instruction, so that ring 0 delivers the interrupt that it has noted in VIP. Only ring 0 can set both; CLI, STI, POPF and IRET do not get
/// there. As Bochs does it; the manual tells of the instructions alone (SDM vol. 3 §21.3.2).
pub(crate) fn virtual_interrupt_is_due(cpu: &VcpuState) -> bool {
    cpu.rflags.contains(Rflags::VIF | Rflags::VIP)
        && match cpu.mode() {
            CpuMode::Virtual8086 => cpu.cr4.contains(Cr4::VME),
            CpuMode::Real => false,
            CpuMode::Protected | CpuMode::Long => cpu.cpl == 3 && cpu.cr4.contains(Cr4::PVI),
        }
}

/// The 16 flags as 8086 code sees them that has VIF for IF: IOPL is 3.
pub(super) fn image_with_vif(flags: Rflags) -> Rflags {
    let mut image = flags | Rflags::IOPL;
    image.set(Rflags::IF, flags.contains(Rflags::VIF));
    image
}

/// The flags of `now` with VIF from the IF of `image`, which 8086 code wants to load. #GP(0) where that would set TF, or IF while an
/// interrupt is pending.
pub(super) fn vif_from_image(now: Rflags, image: Rflags) -> Res<Rflags> {
    let pending = now.contains(Rflags::VIP) && image.contains(Rflags::IF);
    if pending || image.contains(Rflags::TF) {
        return Err(Exception::gp(0).into());
    }
    let mut flags = now;
    flags.set(Rflags::VIF, image.contains(Rflags::IF));
    Ok(flags)
}

/// Goes from ring 0 to virtual 8086 mode: IRETD found `image`, with VM set, above CS:EIP; SS:ESP and the data segments lie above that.
pub(super) fn enter<M: Machine>(x: &mut Exec<'_, M>, rip: u64, cs: Selector, image: Rflags) -> Res {
    let pointer = x.peek(12, 4)?;
    let mut selectors = [Selector(0); 5];
    for (i, selector) in (4u64..).zip(selectors.iter_mut()) {
        *selector = Selector(x.peek(i.wrapping_mul(4), 4)? as u16);
    }
    if rip > u64::from(LIMIT) {
        return Err(Exception::gp(0).into());
    }
    x.set_flags(Rflags::from_bits_retain(FLAGS), image);
    for (reg, selector) in [SegReg::Ss, SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].into_iter().zip(selectors) {
        *x.cpu.segment_mut(reg) = segment(selector);
    }
    *x.cpu.segment_mut(SegReg::Cs) = segment(cs);
    x.cpu.cpl = 3;
    x.cpu.rip = rip;
    x.cpu.gpr[gpr::RSP] = pointer;
    Ok(())
}

/// What an event that leaves the mode pushes above SS:ESP.
pub(super) fn push_segments(frame: &mut Frame, cpu: &VcpuState) {
    for reg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
        frame.push(cpu.segment(reg).selector.0.into());
    }
}

/// The data segments behind such an event: none can be used.
pub(super) fn drop_segments(cpu: &mut VcpuState) {
    for reg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
        *cpu.segment_mut(reg) = Segment::null(Selector(0));
    }
}

/// INT n: goes to the handler of the 8086 program itself if CR4.VME is set and the redirection bitmap has a 0 there. `false`: it goes
/// through the IDT, and IOPL 3 allows that. #GP(0) where it does not.
pub(super) fn redirect<M: Machine>(x: &mut Exec<'_, M>, vector: Vector) -> Res<bool> {
    if x.cpu.cr4.contains(Cr4::VME) && is_redirected(x, vector)? {
        enter_own_handler(x, vector)?;
        return Ok(true);
    }
    if x.cpu.rflags.iopl() < 3 {
        return Err(Exception::gp(0).into());
    }
    Ok(false)
}

/// Is the vector's bit in the redirection bitmap clear? #GP(0) for a TSS that has no such bit.
fn is_redirected<M: Machine>(x: &mut Exec<'_, M>, vector: Vector) -> Res<bool> {
    let byte = u32::from(vector.0 / 8);
    let at = tss::io_map_base(x.cpu, x.m)?.and_then(|base| base.wrapping_add(byte).checked_sub(REDIRECTION));
    let Some(at) = at.filter(|at| *at <= x.cpu.tr.limit) else {
        return Err(Exception::gp(0).into());
    };
    let bits = tss::read(x.cpu, x.m, at, 1)?;
    Ok(bits >> (vector.0 % 8) & 1 == 0)
}

/// As on an 8086: the frame of three words, and the table at linear address 0.
fn enter_own_handler<M: Machine>(x: &mut Exec<'_, M>, vector: Vector) -> Res {
    let entry = mem::read_uint(x.cpu, x.m, Gva(u64::from(vector.0).wrapping_mul(4)), 4, Privilege::Implicit)?;
    let own = x.cpu.rflags.iopl() == 3;
    let image = if own { x.cpu.rflags } else { image_with_vif(x.cpu.rflags) };
    let stack = Stack::current(x.cpu);
    let mut frame = Frame::new(2);
    frame.push((image | Rflags::ONE).bits());
    frame.push(x.cpu.segment(SegReg::Cs).selector.0.into());
    frame.push(x.cpu.rip);
    let placed = stack.place(x.cpu, x.m, &frame, Exception::with_code(Vector::SS, 0))?;
    placed.write(x.m, &frame)?;
    stack.set_pointer(x.cpu, placed.pointer);
    *x.cpu.segment_mut(SegReg::Cs) = segment(Selector((entry >> 16) as u16));
    x.cpu.rip = entry & 0xffff;
    x.cpu.rflags.remove(Rflags::TF | Rflags::RF | if own { Rflags::IF } else { Rflags::VIF });
    Ok(())
}
