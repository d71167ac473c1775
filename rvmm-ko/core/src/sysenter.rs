//! SYSENTER of programs without an exit, and SYSEXIT. The real IA32_SYSENTER_CS is 0, so SYSENTER faults before anything has happened, and the
//! switcher sees that it was one; what it makes of the CPU is all in the guest's MSRs. SYSEXIT has a block. docs/architecture.md, "System calls of
//! 64-bit programs" and "Turns of 32-bit guests".

use rvmm_arch::host::{EventLoan, EventSlot, GuestContext};
use rvmm_arch::segment::{SegReg, Selector};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::VcpuState;
use rvmm_interp::{enter_by_sysenter, has_sysenter, sysexit_segments};

use crate::code::PatchArea;
use crate::direct::Mode;
use crate::syscall::{canonical, program_flags};
use crate::vcpu::Vcpu;

/// The virtual CPU as a turn at SYSENTER leaves it, from whatever program, but for general registers, RIP and native flags.
pub(crate) fn turn(cpu: &mut VcpuState) {
    program_flags(cpu);
    enter_by_sysenter(cpu);
    cpu.shadow = InterruptShadow::None;
}

impl Vcpu {
    /// Are SYSENTER and SYSEXIT more than faults on the guest's CPU?
    fn knows_sysenter(&self) -> bool {
        let (cpu, cpuid) = (&self.state, &self.parts.cpuid);
        cpuid.announces_sysenter() && has_sysenter(cpu, cpuid.is_amd())
    }

    /// Where SYSENTER leads to: RIP, and RSP. `None`: it is a fault.
    fn sysenter_leads_to(&self) -> Option<[u64; 2]> {
        let cpu = &self.state;
        let [rip, rsp] = [cpu.msrs.sysenter_eip, cpu.msrs.sysenter_esp];
        let mask = if cpu.long_mode() { u64::MAX } else { 0xffff_ffff };
        (self.knows_sysenter() && canonical(rip) && canonical(rsp)).then_some([rip & mask, rsp & mask])
    }

    /// Makes the virtual CPU that of the kernel behind a SYSENTER. False: it is a fault.
    pub(crate) fn turn_by_sysenter(&mut self) -> bool {
        let Some([rip, _]) = self.sysenter_leads_to() else { return false };
        turn(&mut self.state);
        self.state.rip = rip;
        true
    }

    /// Does SYSEXIT to 32-bit code load these selectors of CS and SS, and what the guest's table has there? Then it is a return in them.
    pub(crate) fn sysexit_loads(&self, sel: [u16; 2]) -> bool {
        let mut loads = [SegReg::Cs, SegReg::Ss].into_iter().zip(sysexit_segments(&self.state)).zip(sel);
        self.knows_sysenter()
            && loads.all(|((reg, segment), selector)| {
                segment.selector.0 == selector && self.parts.segments.matches(reg, &segment)
            })
    }

    /// With a loan of turns both ways in `ctx`, and the virtual CPU that of the kernel behind one: lends SYSENTER as well, in `loan`. Leaves CS,
    /// SS, CPL, RIP and flags of the virtual CPU as they come.
    pub(crate) fn lend_sysenter(&mut self, mode: Mode, program_cs: Selector, ctx: &GuestContext, loan: &mut EventLoan) {
        if ctx.syscall.back == 0 {
            return;
        }
        let Some([block, stack]) = self.sysenter_leads_to() else { return };
        loan.flat_code = self.flat_code(mode, program_cs);
        turn(&mut self.state);
        let [code, same_stack] = self.parts.segments.private_descriptors(&self.state);
        // One SS for all that is lent.
        let [_, lent_stack] = ctx.syscall.descriptors;
        if same_stack != lent_stack {
            return;
        }
        let words = PatchArea::words(&self.state, self.waits(), self.returns());
        if let Some(slot) = loan.slots.get_mut(EventLoan::SYSENTER) {
            *slot = EventSlot { block, stack, code, words, ..EventSlot::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rvmm_arch::regs::{Efer, Rflags};
    use rvmm_arch::segment::SegReg;

    #[test]
    fn a_turn_leaves_what_sysenter_does() {
        let mut cpu = VcpuState::reset();
        cpu.efer = Efer::LME | Efer::LMA | Efer::SCE;
        cpu.msrs.star = 0x0023_0010_0000_0000;
        cpu.msrs.sysenter_cs = 0x33;
        cpu.rflags = Rflags::ONE | Rflags::IF | Rflags::RF | Rflags::CF;
        cpu.cpl = 3;
        turn(&mut cpu);
        let [cs, ss] = [SegReg::Cs, SegReg::Ss].map(|reg| *cpu.segment(reg));
        assert_eq!((cs.selector.0, cs.attrs, ss.selector.0, ss.attrs), (0x30, 0xa09b, 0x38, 0xc093));
        assert_eq!((cpu.cpl, cpu.rflags), (0, Rflags::ONE));
    }
}
