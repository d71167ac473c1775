//! SYSCALL, and the way back from it, without an exit: what is lent to the switcher so that a guest program gets to its kernel and the
//! kernel to its program by themselves, and what has become of the virtual CPU when the stay is over.
//!
//! While a program runs directly, most of what SYSCALL makes of the CPU is known beforehand: CPL, CS, SS, and all virtual flags, since a
//! program runs directly only with IF=1 and IOPL=0, and the switcher leaves a SYSCALL with TF, AC or NT to the engine. The rest (RCX, R11,
//! RIP, the other flags) is real and comes back with the exit. So everything the kernel needs in order to run is put in place before
//! the program is entered, for the case that it makes a system call: its shadow root, its private descriptors, the vCPU page of the
//! blocks. Likewise a return in the segments of SYSRET, to 64-bit or to compatibility code, with IF=1 and nothing unusual in the flags, leaves
//! nothing unknown. docs/architecture.md, "System calls of 64-bit programs".
//!
//! 32-bit kernels are entered at events (reflect.rs) and SYSENTER (sysenter.rs), and left by an IRET or SYSEXIT to the one CS and SS, flat ones, that the
//! program ran with last.

use rvmm_arch::host::{EventLoan, GuestContext, Host, SyscallFrom, SyscallLoan, SyscallSupport, WorldExit};
use rvmm_arch::regs::{Efer, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector};
use rvmm_arch::stats::Counter;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, VcpuState};
use rvmm_interp::{behind_syscall, enter_by_syscall, leave_by_sysret, leave_by_sysret_to_compat};
use rvmm_mmu::{Env, Space};
use rvmm_patcher::TacticSet;

use crate::code::{has_blocks, plain, PatchArea, Waits};
use crate::direct::{self, Mode};
use crate::segments::{DescriptorShadow, PRIVATE_CS, PRIVATE_SS};
use crate::vcpu::{Flow, Vcpu};

/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;
/// Type bit of a code segment.
const CONFORMING: u16 = 4;

/// The virtual CPU as it was, before it was made another one for a moment.
struct Saved {
    seg: [Segment; 2],
    rflags: Rflags,
    shadow: InterruptShadow,
    cpl: u8,
    rip: u64,
    env: Env,
}

/// Bits 63 to 47 of an address are equal.
pub(crate) const fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// The virtual flags of any program behind a turn.
pub(crate) fn program_flags(cpu: &mut VcpuState) {
    cpu.rflags = Rflags::ONE | Rflags::IF;
    cpu.shadow = InterruptShadow::None;
}

/// The virtual CPU as a turn to the program leaves it, but for general registers, RIP and native flags. `sel`: outside long mode, its CS and SS.
pub(crate) fn program(cpu: &mut VcpuState, segments: &DescriptorShadow, sel: [Selector; 2]) {
    program_flags(cpu);
    if cpu.long_mode() {
        return leave_by_sysret(cpu);
    }
    for (reg, selector) in [SegReg::Cs, SegReg::Ss].into_iter().zip(sel) {
        *cpu.segment_mut(reg) = segments.loaded(selector);
    }
    cpu.cpl = 3;
}

/// The virtual CPU as a turn at SYSCALL leaves it, from whatever program, but for the same.
fn turn(cpu: &mut VcpuState) {
    program_flags(cpu);
    enter_by_syscall(cpu);
}

/// Are these flat 32-bit code and a flat stack of a program's, in the GDT?
fn flat_program([code, stack]: [&Segment; 2]) -> bool {
    let own = |segment: &Segment| {
        let selector = segment.selector;
        let named = !selector.is_null() && !selector.is_ldt() && selector.rpl() == 3;
        named && segment.dpl() == 3 && segment.flat() && segment.db()
    };
    own(code) && code.is_code() && !code.long() && code.attrs & CONFORMING == 0 && own(stack) && stack.writable()
}

impl Vcpu {
    /// May the stay that is about to begin go on through turns, as far as the state says so?
    fn may_turn(&self) -> bool {
        let cpu = &self.state;
        self.options.tactics.contains(TacticSet::SYSCALL)
            && (!cpu.long_mode() || self.may_turn_at_syscall())
            // Its kernel would be interpreted.
            && self.hides_views()
            // Its kernel would be stepped through, or must not meet breakpoints in views.
            && !self.verifier.is_on()
            && cpu.dr7 & 0xff == 0
            && !cpu.rflags.intersects(Rflags::TF | Rflags::VIF | Rflags::VIP)
    }

    /// May the next SYSCALL of the program that is about to run be a turn?
    fn may_turn_at_syscall(&self) -> bool {
        let cpu = &self.state;
        // A program's CPU must know SYSCALL where the host's does: once it has been executed, RCX and R11 are gone.
        let known = match self.features.syscall {
            SyscallSupport::None => false,
            SyscallSupport::Long => true,
            SyscallSupport::Compatibility => self.parts.cpuid.is_amd(),
        };
        known && cpu.efer.contains(Efer::SCE) && canonical(cpu.msrs.lstar)
    }

    /// Before an entry, with everything for it in `ctx`: lends what turns need, if there may be any; those at events in `events`, which is empty.
    ///
    /// # Errors
    /// Host failures.
    // Off the frame of its caller.
    #[inline(never)]
    pub(crate) fn lend_syscall<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        ctx: &mut GuestContext,
        events: &mut EventLoan,
    ) -> Flow {
        // The kernel needs it for the way back only, of which blocks know.
        if mode == Mode::Kernel && !has_blocks(self.env) || !self.may_turn() {
            return Ok(());
        }
        self.find_gates(host)?;
        let cpu = &self.state;
        if mode == Mode::User {
            self.program_sel = [SegReg::Cs, SegReg::Ss].map(|reg| cpu.segment(reg).selector);
        }
        let saved = Saved {
            seg: [*cpu.segment(SegReg::Cs), *cpu.segment(SegReg::Ss)],
            rflags: cpu.rflags,
            shadow: cpu.shadow,
            cpl: cpu.cpl,
            rip: cpu.rip,
            env: self.env,
        };
        let back = self.back(host, mode, ctx);
        if mode == Mode::User || back.is_some() {
            self.lend_turn(host, mode, (back, &saved), ctx);
            let [cs, _] = saved.seg;
            self.lend_events(mode, cs.selector, ctx, events);
            self.lend_sysenter(mode, cs.selector, ctx, events);
        }
        let cpu = &mut self.state;
        [*cpu.segment_mut(SegReg::Cs), *cpu.segment_mut(SegReg::Ss)] = saved.seg;
        (cpu.rflags, cpu.shadow, cpu.cpl, cpu.rip) = (saved.rflags, saved.shadow, saved.cpl, saved.rip);
        self.env = saved.env;
        Ok(())
    }

    /// Is a SYSCALL of compatibility code, on a host whose CPU has it there, one of the guest's too? `may_turn` has seen to the vendor.
    fn compat_has_syscall(&self) -> bool {
        self.features.syscall == SyscallSupport::Compatibility && canonical(self.state.msrs.cstar)
    }

    /// The half of a loan that is for turns back, if there may be any. Leaves the virtual CPU as the program.
    fn back<H: Host>(&mut self, host: &mut H, mode: Mode, ctx: &GuestContext) -> Option<SyscallLoan> {
        // An IRET with NT is a fault, and opens NMIs; and whatever waits for IF would have to be delivered in between.
        let special = mode == Mode::Kernel && self.state.rflags.contains(Rflags::NT) || self.state.nmi_blocked;
        let waits = self.waits() != Waits::Nothing;
        program(&mut self.state, &self.parts.segments, self.program_sel);
        let env = plain(&self.state);
        let flat = flat_program([SegReg::Cs, SegReg::Ss].map(|reg| self.state.segment(reg)));
        let parts = &mut self.parts;
        // An IRETQ loads CS and SS from the guest's table: they must be what SYSRET makes of them, and loadable for real.
        if special || waits || parts.segments.lags() || !parts.segments.loadable(&self.state, Mode::User) {
            return None;
        }
        if !flat && !self.state.long_mode() {
            return None;
        }
        let cr3 = match mode {
            // Programs have one root, whatever code they are in.
            Mode::User => Some(ctx.cr3),
            Mode::Kernel => parts.mmu.known_root(host, &self.state, Space::User, env).map(|root| root.hpa.0),
        }?;
        let (blocks, vcpu_page) = parts.code.patch.calls(host)?;
        let deprivileging = parts.segments.deprivileging();
        let program_sel = [SegReg::Cs, SegReg::Ss].map(|reg| self.state.segment(reg).selector);
        // A STAR that leads to the LDT.
        if program_sel.iter().any(|selector| selector.is_ldt()) {
            return None;
        }
        let compat_cs = self.compat_code();
        let sysexit = {
            let [code, stack] = program_sel.map(|selector| selector.0);
            self.sysexit_loads([if self.state.long_mode() { compat_cs } else { code }, stack])
        };
        Some(SyscallLoan {
            back: 1,
            program_sel: program_sel.map(|selector| selector.0),
            compat_cs,
            sysexit: sysexit.into(),
            program_cr3: cr3,
            program_cr4: direct::cr4(&self.state, Mode::User, &self.features, deprivileging).bits(),
            blocks,
            vcpu_page: vcpu_page.0,
            ..SyscallLoan::default()
        })
    }

    /// Makes the virtual CPU the kernel's as a turn leaves it: behind SYSCALL, or where there is none behind an event or SYSENTER. Where that is not lent either
    /// it is the kernel that is about to be entered. False: there is none.
    fn turn_to_kernel(&mut self, mode: Mode, saved: &Saved) -> bool {
        if self.state.long_mode() {
            turn(&mut self.state);
            self.state.rip = self.state.msrs.lstar;
            return true;
        }
        if self.turn_by_event() || self.turn_by_sysenter() {
            return true;
        }
        let cpu = &mut self.state;
        [*cpu.segment_mut(SegReg::Cs), *cpu.segment_mut(SegReg::Ss)] = saved.seg;
        (cpu.rflags, cpu.cpl, cpu.rip) = (saved.rflags, saved.cpl, saved.rip);
        mode == Mode::Kernel
    }

    /// The selector of the compatibility code that SYSRET goes to, if an IRETQ by it gives the same segment: flat, of 32 bits. 0: it does not. The
    /// virtual CPU is the program, and stays it.
    fn compat_code(&mut self) -> u16 {
        if !self.state.long_mode() {
            return 0;
        }
        leave_by_sysret_to_compat(&mut self.state);
        let code = self.state.segment(SegReg::Cs);
        let same = !code.selector.is_ldt() && self.parts.segments.matches(SegReg::Cs, code);
        let selector = if same { code.selector.0 } else { 0 };
        leave_by_sysret(&mut self.state);
        selector
    }

    /// Lends turns to the kernel, and those back if that half is there. Leaves the virtual CPU as the kernel.
    #[inline(never)]
    fn lend_turn<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        (back, saved): (Option<SyscallLoan>, &Saved),
        ctx: &mut GuestContext,
    ) {
        if !self.turn_to_kernel(mode, saved) {
            return;
        }
        let long = self.state.long_mode();
        self.kernel_env = self.parts.code.env_now(&self.state);
        if mode == Mode::Kernel && self.kernel_env != self.env {
            return;
        }
        self.env = self.kernel_env;
        // Without the kernel's root, or where patch memory is in its way, the next SYSCALL traps, and settles that for the one behind it.
        let found = self.parts.mmu.known_root(host, &self.state, Space::Kernel, self.env);
        let Some(root) = found.filter(|root| !has_blocks(self.env) || !root.conflict) else { return };
        let mut loan = back.filter(|_| has_blocks(self.env)).unwrap_or_default();
        self.parts.code.patch.refit_delivery(host, &self.state);
        if mode == Mode::User {
            self.lend_to_blocks(host, Mode::Kernel, ctx);
        }
        if loan.back != 0 {
            let [cs, ss] = loan.program_sel;
            self.parts.code.patch.lend_program(host, Some([cs, ss, loan.compat_cs]));
            loan.words = PatchArea::words(&self.state, self.waits(), self.returns());
        }
        let segments = &self.parts.segments;
        let ring = u16::from(segments.deprivileging().kernel_ring);
        ctx.syscall = SyscallLoan {
            cr3: root.hpa.0,
            cr4: direct::cr4(&self.state, Mode::Kernel, &self.features, segments.deprivileging()).bits(),
            rip: if long { self.state.msrs.lstar } else { 0 },
            sfmask: self.state.msrs.sfmask,
            sel: [PRIVATE_CS, PRIVATE_SS].map(|index| index << 3 | ring),
            on: 1,
            compat_rip: if long { self.state.msrs.cstar } else { 0 },
            compat: u16::from(long && self.compat_has_syscall()),
            kernel: u16::from(mode == Mode::Kernel),
            descriptors: segments.private_descriptors(&self.state),
            ..loan
        };
        // An entry of the kernel, which reads the guest's register in the interpreter only, may come to be its program.
        if ctx.syscall.back != 0 {
            ctx.use_tsc_aux = u32::from(self.reads_tsc_aux());
        }
    }

    /// Entries are lent to data segments for one load. May there be a way back all the same? Not where a return would load CS or SS from one
    /// of them. Outside long mode the switcher sees to it that no register has kept what it was lent.
    pub(crate) fn may_return_with_lent(ctx: &GuestContext) -> bool {
        let [es, _, _, ds, fs, gs] = ctx.sel;
        let lent = [es, ds, fs, gs].into_iter().zip(0..).filter(|(_, bit)| ctx.disarm >> bit & 1 != 0);
        let mut other = lent.map(|(selector, _)| ctx.syscall.program_sel.iter().all(|own| own | 3 != selector | 3));
        ctx.long == 0 && other.all(|other| other)
    }

    /// Entries that are lent to data segments for one load cannot be what a return loads: no way back in this stay.
    pub(crate) fn lend_no_return(ctx: &mut GuestContext) {
        if ctx.syscall.kernel != 0 {
            ctx.syscall = SyscallLoan::default();
        }
        ctx.syscall.back = 0;
    }

    /// After the stay, before the registers are stored: in which mode the guest is now. If turns were made, the virtual CPU is what the
    /// last of them made of it, and `before` what an entry there would have been.
    pub(crate) fn take_syscall<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        exit: WorldExit,
        (ctx, before): (&GuestContext, &mut GuestContext),
        events: &EventLoan,
    ) -> Mode {
        let loan = &ctx.syscall;
        let taken = events.slots.iter().any(|slot| slot.taken != 0);
        if loan.turns == 0 && loan.returns == 0 && !taken {
            return mode;
        }
        self.parts.stats.add(Counter::Syscall, loan.turns);
        self.parts.stats.add(Counter::TurnBack, loan.returns);
        let (now, descriptors, sel) = if let Some(slot) = loan.kernel.checked_sub(EventLoan::BY_EVENT) {
            let code = self.behind_event(events, slot.into());
            self.env = self.kernel_env;
            let [_, stack] = loan.descriptors;
            (Mode::Kernel, [code, stack], loan.sel)
        } else if loan.kernel != 0 {
            turn(&mut self.state);
            self.env = self.kernel_env;
            (Mode::Kernel, loan.descriptors, loan.sel)
        } else {
            program(&mut self.state, &self.parts.segments, loan.program_sel.map(Selector));
            // That of compatibility code, if it went back there, or the program has gone there itself.
            let code = self.parts.segments.loaded(Selector(ctx.sel[SegReg::Cs as usize]));
            *self.state.segment_mut(SegReg::Cs) = code;
            // Of a fault it is always set; where the host was called for, it is the program's.
            if matches!(exit, WorldExit::HostInterrupt(_) | WorldExit::Nmi | WorldExit::MachineCheck) {
                self.state.rflags |= Rflags::from_bits_retain(ctx.rflags) & Rflags::RF;
            }
            self.parts.code.patch.take_back_from_program(host, &mut self.state);
            self.env = plain(&self.state);
            (Mode::User, [0; 2], [code.selector.0, loan.program_sel[1]])
        };
        self.parts.segments.privates_are(descriptors);
        for (reg, selector) in [SegReg::Cs, SegReg::Ss].into_iter().zip(sel) {
            if let Some(slot) = before.sel.get_mut(reg as usize) {
                *slot = selector;
            }
        }
        // What `store` takes for "nothing was executed" is not, however the registers look.
        before.rip = self.state.wrap(ctx.rip);
        before.gpr = ctx.gpr;
        now
    }

    /// A block has called ring 0 for a return that is more than a turn, and RIP is at the guest's instruction again.
    pub(crate) fn serve_call<H: Host>(&mut self, host: &mut H) -> Flow {
        self.parts.stats.count(Counter::ExitSyscall);
        if self.must_offer_events() {
            return Ok(());
        }
        self.interpret(host, Counter::InterpretedPrivileged)
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
        // The native flags are real, and come with the exit.
        let virtual_flags = |cpu: &VcpuState| cpu.rflags - direct::NATIVE;
        assert_eq!((turned.seg, turned.cpl, virtual_flags(&turned)), (called.seg, 0, virtual_flags(&called)));
        assert!(!turned.rflags.intersects(Rflags::IF | Rflags::AC | Rflags::DF));
    }
}
