//! Page faults and int3 that end no stay: the switcher asks in its middle, and goes on if a fault was hidden, or takes the guest's own to its
//! kernel where that is lent (reflect.rs); behind an int3 it goes on in the site's block, if that has one. Everything else ends the stay as
//! ever and is dealt with behind it (exits.rs), where the exception is looked at once more. docs/architecture.md, "Served in place".

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::{GuestContext, Host};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::SegReg;
use rvmm_arch::serve::{Behind, Load, Serve, Served, StayFault, StayHost, StayTrap};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::trace::TracePoint;
use rvmm_arch::{Gpa, Gva, Hpa, VcpuState};
use rvmm_mmu::{Env, FaultOutcome, Mmu, Space};
use rvmm_patcher::TacticSet;

use crate::code::{has_blocks, plain, CodePages};
use crate::constants::Constants;
use crate::direct::Mode;
use crate::io::IoAccess;
use crate::load::loaded_register;
use crate::vcpu::Vcpu;

/// A shadow root, and which tree of the guest's address space it is.
type Tree = (Hpa, Space, Env);

/// The trees of the one address space that a stay can be in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trees {
    /// That of the entry.
    entered: Tree,
    /// Those behind a turn to the kernel, and back.
    lent: [Option<Tree>; 2],
    /// CS with which guest-kernel code runs that has blocks; 0: none does.
    kernel_cs: u16,
}

impl Trees {
    /// Those that a root can be the top of.
    fn of(&self, root: Hpa) -> Option<Tree> {
        self.lent.into_iter().flatten().chain([self.entered]).find(|(top, ..)| *top == root)
    }
}

/// Who is asked. CR0, CR3, CR4 and EFER of the virtual CPU, by which its tables are read, do not change in a stay.
pub(crate) struct Server<'a> {
    pub(crate) mmu: &'a mut Mmu,
    pub(crate) stats: &'a mut Stats,
    pub(crate) code: &'a mut CodePages,
    pub(crate) constants: &'a Constants,
    pub(crate) cpu: &'a VcpuState,
    pub(crate) trees: Trees,
}

impl Server<'_> {
    /// A read of a device's register that the client need not be asked for, by an instruction of the guest's kernel that does nothing else.
    fn constant(&self, host: &mut dyn StayHost, fault: StayFault, env: Env, gpa: Gpa) -> Option<Load> {
        // Behind the start of a page the fault is at the operand's first byte.
        if fault.error & PageFaultCode::W.bits() != 0 || gpa.offset() == 0 || fault.cs != self.trees.kernel_cs {
            return None;
        }
        let value = self.constants.answer(IoAccess::MmioRead { gpa, len: 4 })?;
        let mask = if self.cpu.long_mode() { u64::MAX } else { 0xffff_ffff };
        let rip = fault.rip & mask;
        let code = self.code.shown_at(self.mmu, host, self.cpu, env, Gva(rip))?;
        let register = loaded_register(code, if self.cpu.long_mode() { 64 } else { 32 })?;
        Some(Load { register, value: value as u32, next: rip.wrapping_add(code.len() as u64) & mask })
    }
}

impl Serve for Server<'_> {
    fn page_fault(&mut self, host: &mut dyn StayHost, fault: StayFault) -> Served {
        let Some((root, space, env)) = self.trees.of(fault.root) else { return Served::Exit };
        let code = PageFaultCode::from_bits_truncate(fault.error);
        let gva = Gva(if self.cpu.long_mode() { fault.cr2 } else { fault.cr2 & 0xffff_ffff });
        match self.mmu.serve(host, self.stats, self.cpu, (space, env), root, gva, code) {
            Some(FaultOutcome::Fixed) => {
                self.stats.count(Counter::Served);
                Served::Resume
            }
            Some(FaultOutcome::Mmio { gpa }) if space == Space::Kernel => {
                let Some(load) = self.constant(host, fault, env, gpa) else { return Served::Exit };
                self.stats.count(Counter::ConstantReads);
                Served::Loaded(load)
            }
            // A kernel's goes through its own gate without a change of rings.
            Some(FaultOutcome::Guest(fault)) if space == Space::User => Served::Reflect(fault.error.unwrap_or(0)),
            _ => Served::Exit,
        }
    }

    fn breakpoint(&mut self, host: &mut dyn StayHost, trap: StayTrap) -> Option<Behind> {
        let (_, space, env) = self.trees.of(trap.root)?;
        // Another CS can have another base or size, of which blocks know nothing.
        if space != Space::Kernel || trap.cs != self.trees.kernel_cs {
            return None;
        }
        let mask = if self.cpu.long_mode() { u64::MAX } else { 0xffff_ffff };
        let at = Gva(trap.rip.wrapping_sub(1) & mask);
        let block = self.code.behind_int3(self.mmu, host, self.cpu, env, at)?;
        self.stats.count(Counter::TrapsServed);
        Some(block)
    }
}

impl Vcpu {
    /// May the page faults of the stay that is about to begin be served? Not where somebody wants to see each of them, or single steps.
    pub(crate) fn serves<H: Host>(&self, host: &H) -> bool {
        self.options.tactics.contains(TacticSet::SERVE)
            && !self.verifier.is_on()
            && self.state.dr7 & 0xff == 0
            && !self.state.rflags.contains(Rflags::TF)
            && !host.traces(TracePoint::PageFault)
    }

    /// The trees of the stay that `ctx` is for.
    pub(crate) fn trees(&self, mode: Mode, ctx: &GuestContext) -> Trees {
        let loan = &ctx.syscall;
        let kernel = (loan.on != 0).then_some((Hpa(loan.cr3), Space::Kernel, self.kernel_env));
        let program = (loan.back != 0).then_some((Hpa(loan.program_cr3), Space::User, plain(&self.state)));
        let cs = ctx.sel.get(SegReg::Cs as usize).copied().unwrap_or(0);
        let kernel_cs = match mode {
            Mode::Kernel if has_blocks(self.env()) => cs,
            Mode::User if loan.on != 0 && has_blocks(self.kernel_env) => loan.sel[0],
            _ => 0,
        };
        Trees { entered: (Hpa(ctx.cr3), self.space(mode), self.env()), lent: [kernel, program], kernel_cs }
    }
}
