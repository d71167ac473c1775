//! SYSENTER of 64-bit guests' programs without an exit. The real IA32_SYSENTER_CS is 0, so it faults before anything has happened, and the
//! switcher sees that it was one; what it makes of the CPU is all in the guest's MSRs. docs/architecture.md, "System calls of 64-bit programs".

use rvmm_arch::host::{EventLoan, EventSlot, GuestContext};
use rvmm_arch::segment::Selector;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::VcpuState;
use rvmm_interp::{enter_by_sysenter, has_sysenter};

use crate::code::PatchArea;
use crate::direct::Mode;
use crate::syscall::{canonical, program};
use crate::vcpu::Vcpu;

/// The virtual CPU as a turn at SYSENTER leaves it, from whatever program, but for general registers, RIP and native flags.
pub(crate) fn turn(cpu: &mut VcpuState) {
    program(cpu);
    enter_by_sysenter(cpu);
    cpu.shadow = InterruptShadow::None;
}

impl Vcpu {
    /// Is the next SYSENTER of a program one that does something on the guest's CPU?
    fn sysenter_leads(&self) -> bool {
        let (cpu, cpuid) = (&self.state, &self.parts.cpuid);
        let addresses = [cpu.msrs.sysenter_eip, cpu.msrs.sysenter_esp];
        cpuid.announces_sysenter() && has_sysenter(cpu, cpuid.is_amd()) && addresses.into_iter().all(canonical)
    }

    /// With a loan of turns both ways in `ctx`, and the virtual CPU that of the kernel behind one: lends SYSENTER as well, in `loan`. Leaves CS,
    /// SS, CPL, RIP and flags of the virtual CPU as they come.
    pub(crate) fn lend_sysenter(&mut self, mode: Mode, program_cs: Selector, ctx: &GuestContext, loan: &mut EventLoan) {
        if ctx.syscall.back == 0 || !self.sysenter_leads() {
            return;
        }
        loan.flat_code = self.flat_code(mode, program_cs);
        turn(&mut self.state);
        let [code, _] = self.parts.segments.private_descriptors(&self.state);
        let words = PatchArea::words(&self.state, self.waits(), self.returns());
        if let Some(slot) = loan.slots.get_mut(EventLoan::SYSENTER) {
            let (block, stack) = (self.state.msrs.sysenter_eip, self.state.msrs.sysenter_esp);
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
