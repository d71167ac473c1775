//! SYSCALL without an exit: what is lent to the switcher so that a guest program gets to its kernel by itself, and what has become
//! of the virtual CPU when the stay is over.
//!
//! While a program runs directly, most of what SYSCALL makes of the CPU is known beforehand: CPL, CS, SS, and all virtual flags, since a
//! program runs directly only with IF=1 and IOPL=0, and the switcher leaves a SYSCALL with TF or AC to the engine. The rest (RCX, R11,
//! RIP, the other flags) is real and comes back with the exit. So everything the kernel needs in order to run is put in place before
//! the program is entered, for the case that it makes a system call: its shadow root, its private descriptors, the vCPU page of the
//! blocks. docs/architecture.md, "System calls of 64-bit programs".

use rvmm_arch::host::{GuestContext, Host, SyscallFrom, SyscallLoan, SyscallSupport};
use rvmm_arch::regs::{Efer, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment};
use rvmm_arch::stats::Counter;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, VcpuState};
use rvmm_interp::{behind_syscall, enter_by_syscall};
use rvmm_mmu::{Env, Space};
use rvmm_patcher::TacticSet;

use crate::code::has_blocks;
use crate::direct::{self, Mode};
use crate::segments::{PRIVATE_CS, PRIVATE_SS};
use crate::vcpu::{Flow, Vcpu};

/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;
/// Flags of a program that a turn never brings to its kernel: the switcher makes none then, but what the virtual CPU had at the entry may
/// be older.
const NOT_IN_A_TURN: Rflags = Rflags::TF.union(Rflags::AC).union(Rflags::RF);

/// What a turn changes of the virtual CPU, as it was before.
struct Program {
    seg: [Segment; 2],
    rflags: Rflags,
    shadow: InterruptShadow,
    cpl: u8,
    rip: u64,
    env: Env,
}

/// Bits 63 to 47 of an address are equal.
const fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// The virtual CPU as a turn leaves it, but for general registers and RIP.
fn turn(cpu: &mut VcpuState) {
    cpu.rflags.remove(NOT_IN_A_TURN);
    cpu.shadow = InterruptShadow::None;
    enter_by_syscall(cpu);
}

impl Vcpu {
    /// May the next SYSCALL of the program that is about to run be a turn, as far as the state says so?
    fn may_turn(&self) -> bool {
        let cpu = &self.state;
        // A program's CPU must know SYSCALL where the host's does: once it has been executed, RCX and R11 are gone.
        let known = match self.features.syscall {
            SyscallSupport::None => false,
            SyscallSupport::Long => true,
            SyscallSupport::Compatibility => self.parts.cpuid.is_amd(),
        };
        self.options.tactics.contains(TacticSet::SYSCALL)
            && known
            && cpu.long_mode()
            && cpu.efer.contains(Efer::SCE)
            && canonical(cpu.msrs.lstar)
            // Its kernel would be interpreted.
            && self.hides_views()
            // Its kernel would be stepped through, or must not meet breakpoints in views.
            && !self.verifier.is_on()
            && cpu.dr7 & 0xff == 0
            && !cpu.rflags.intersects(Rflags::TF | Rflags::VIF | Rflags::VIP)
    }

    /// Before the entry of a program, with everything for it in `ctx`: lends what a turn needs, if there may be one.
    pub(crate) fn lend_syscall<H: Host>(&mut self, host: &mut H, mode: Mode, ctx: &mut GuestContext) {
        if mode == Mode::Kernel || !self.may_turn() {
            return;
        }
        let cpu = &mut self.state;
        let program = Program {
            seg: [*cpu.segment(SegReg::Cs), *cpu.segment(SegReg::Ss)],
            rflags: cpu.rflags,
            shadow: cpu.shadow,
            cpl: cpu.cpl,
            rip: cpu.rip,
            env: self.env,
        };
        turn(cpu);
        cpu.rip = cpu.msrs.lstar;
        self.kernel_env = self.parts.code.env_now(&self.state);
        self.env = self.kernel_env;
        // Without the kernel's root, or where patch memory is in its way, the next SYSCALL traps, and settles that for the one behind it.
        let found = self.parts.mmu.known_root(host, &self.state, Space::Kernel, self.env);
        if let Some(root) = found.filter(|root| !has_blocks(self.env) || !root.conflict) {
            self.lend_to_blocks(host, Mode::Kernel, ctx);
            let segments = &self.parts.segments;
            let ring = u16::from(segments.deprivileging().kernel_ring);
            ctx.syscall = SyscallLoan {
                cr3: root.hpa.0,
                cr4: direct::cr4(&self.state, Mode::Kernel, &self.features, segments.deprivileging()).bits(),
                rip: self.state.msrs.lstar,
                sfmask: self.state.msrs.sfmask,
                sel: [PRIVATE_CS, PRIVATE_SS].map(|index| index << 3 | ring),
                on: 1,
                descriptors: segments.private_descriptors(&self.state),
                ..SyscallLoan::default()
            };
        }
        let cpu = &mut self.state;
        [*cpu.segment_mut(SegReg::Cs), *cpu.segment_mut(SegReg::Ss)] = program.seg;
        (cpu.rflags, cpu.shadow, cpu.cpl, cpu.rip) = (program.rflags, program.shadow, program.cpl, program.rip);
        self.env = program.env;
    }

    /// After the stay, before the registers are stored: in which mode the guest is now. If a turn was made, the virtual CPU is in its
    /// kernel, and `before` what an entry there would have been.
    pub(crate) fn take_syscall(&mut self, mode: Mode, ctx: &GuestContext, before: &mut GuestContext) -> Mode {
        if ctx.syscall.turns == 0 {
            return mode;
        }
        self.parts.stats.add(Counter::Syscall, ctx.syscall.turns);
        turn(&mut self.state);
        self.env = self.kernel_env;
        self.parts.segments.privates_are(ctx.syscall.descriptors);
        for (reg, selector) in [SegReg::Cs, SegReg::Ss].into_iter().zip(ctx.syscall.sel) {
            if let Some(slot) = before.sel.get_mut(reg as usize) {
                *slot = selector;
            }
        }
        Mode::Kernel
    }

    /// A SYSCALL has been executed but for what it does to RIP, flags and segments.
    pub(crate) fn finish_syscall<H: Host>(&mut self, host: &mut H, from: SyscallFrom, ctx: &GuestContext) -> Flow {
        self.parts.stats.count(Counter::ExitSyscall);
        let mode = match from {
            SyscallFrom::Long => CpuMode::Long,
            SyscallFrom::Compatibility => CpuMode::Protected,
        };
        // Not cut to the width of the segment that the program was entered in: it may have changed that.
        self.state.rip = ctx.rip;
        self.state.shadow = InterruptShadow::None;
        behind_syscall(&mut self.state, mode);
        // A single step is judged by the new TF; a breakpoint met before it, held up by a load of SS, comes now (SDM vol. 3 §6.8.3).
        let mut trap = if ctx.syscall.debug != 0 { ctx.dr6 & 0xf } else { 0 };
        if self.state.rflags.contains(Rflags::TF) {
            trap |= DR6_BS;
        }
        if trap != 0 {
            return self.deliver(host, Exception::debug(trap).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_turn_leaves_is_what_the_interpreter_makes_of_it() {
        let mut cpu = VcpuState::reset();
        cpu.efer = Efer::LME | Efer::LMA | Efer::SCE;
        cpu.msrs.star = 0x0013_0010_0000_0000;
        cpu.msrs.sfmask = 0x4_7700;
        cpu.rflags = Rflags::ONE | Rflags::IF | Rflags::CF | Rflags::DF | Rflags::AC;
        cpu.cpl = 3;
        let (mut turned, mut called) = (cpu.clone(), cpu);
        turn(&mut turned);
        behind_syscall(&mut called, CpuMode::Long);
        assert_eq!((turned.seg, turned.cpl, turned.rflags), (called.seg, 0, called.rflags));
        assert!(!turned.rflags.intersects(Rflags::IF | Rflags::AC | Rflags::DF));
    }
}
