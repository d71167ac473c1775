//! Single steps on the CPU: instructions that the interpreter does not have (x87, vectors) where they cannot run in
//! place, one at a time, with TF.
//!
//! In kernel mode the instruction alone is shown to the CPU, on pages of its own that stand in for the views of the one
//! or two pages it lies on; everything around it is int3. In user mode the guest's own pages do. Where its memory is nothing that guest
//! code may touch, other pages stand in for that (stand_in.rs).

use rvmm_arch::fault::{Exception, PageFaultCode, Vector};
use rvmm_arch::host::{GuestContext, Host, HostError, HostPage, WorldExit};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::Rflags;
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gfn, Gva, Hpa, PAGE_SIZE};
use rvmm_interp::Unsupported;
use rvmm_mmu::{FaultOutcome, ViewInstall};

use crate::blocks::Left;
use crate::client::{ClientExit, InternalError};
use crate::code::PROTECTION;
use crate::direct::{self, Mode};
use crate::exits::fault_address;
use crate::stand_in::{copy_frame, Blocked, StandInPages, StandIns, StoodIn};
use crate::vcpu::{Flow, Vcpu};

/// The longest instruction, bytes.
pub const MAX_INSTRUCTION: usize = 15;

const INT3: u8 = 0xcc;
/// More instructions than a block has.
const BLOCK_STEPS: u32 = 64;
/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;

/// The pages that stand in for views, and for data.
#[derive(Debug)]
pub struct StepPages {
    pages: [HostPage; 2],
    pub(crate) data: [StandInPages; 2],
}

impl StepPages {
    /// Takes them.
    ///
    /// # Errors
    /// No memory.
    pub fn new<H: Host>(host: &mut H) -> Result<Self, HostError> {
        let pages = pair(host, H::alloc_page, |host, page| host.free_page(page))?;
        match pair(host, StandInPages::new, |host, pages: StandInPages| pages.free(host)) {
            Ok(data) => Ok(Self { pages, data }),
            Err(error) => {
                for page in pages {
                    host.free_page(page);
                }
                Err(error)
            }
        }
    }

    /// Gives them back.
    pub fn free<H: Host>(&mut self, host: &mut H) {
        for page in self.pages {
            host.free_page(page);
        }
        for pages in self.data {
            pages.free(host);
        }
    }
}

/// Two of something, or none.
pub(crate) fn pair<H, T>(
    host: &mut H,
    take: impl Fn(&mut H) -> Result<T, HostError>,
    give_back: impl Fn(&mut H, T),
) -> Result<[T; 2], HostError> {
    let first = take(host)?;
    match take(host) {
        Ok(second) => Ok([first, second]),
        Err(error) => {
            give_back(host, first);
            Err(error)
        }
    }
}

/// The bytes of an instruction and where they lie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetched {
    pub bytes: [u8; MAX_INSTRUCTION],
    /// Bytes that could be fetched.
    pub available: usize,
    /// Frames of the first and, if it was needed, the second page.
    pub frames: [Option<Gfn>; 2],
}

/// How a single step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stepped {
    /// The instruction (or an iteration of it) was executed.
    Done,
    /// It raised an exception of the guest's.
    Faulted(Exception),
    /// It trapped on a byte that is not the guest's (int3 of a view): RIP is behind it.
    Trapped,
    /// A block asked for an exit; RIP is at a guest boundary.
    Asked,
    /// It needs the interpreter: a device, a tracked page.
    NeedsInterpreter(Blocked),
    /// A fetch in kernel mode found no view.
    NeedView(Gfn, Gva),
}

impl Vcpu {
    /// Reads the bytes at RIP as the guest has them, without any side effect.
    pub(crate) fn fetch<H: Host>(&mut self, host: &mut H) -> Result<Fetched, ClientExit> {
        let privilege = if self.state.cpl == 3 { Privilege::User } else { Privilege::Supervisor };
        let access = Access { kind: AccessKind::Fetch, privilege };
        let mut out = Fetched::default();
        let start = Gva(self.state.linear_rip());
        for slot in 0..2 {
            let at = Gva(self.state.wrap(start.0.wrapping_add(out.available as u64)));
            let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, access)? else { break };
            let room = (PAGE_SIZE as usize - gpa.offset()).min(MAX_INSTRUCTION - out.available);
            let Some(part) = out.bytes.get_mut(out.available..out.available + room) else { break };
            if !host.read_ram(gpa, part)? {
                break;
            }
            out.available += room;
            out.frames[slot] = Some(gpa.frame());
            if out.available >= MAX_INSTRUCTION {
                break;
            }
        }
        Ok(out)
    }

    /// Puts the instruction bytes at RIP into the report.
    pub(crate) fn report_instruction<H: Host>(&mut self, host: &mut H) {
        if let Ok(fetched) = self.fetch(host) {
            let bytes = fetched.bytes.get(..fetched.available).unwrap_or(&[]);
            host.report(format_args!("instruction bytes at {:#x}: {bytes:02x?}", self.state.linear_rip()));
        }
    }

    /// The registers of the guest world for the state that the virtual CPU is in.
    pub(crate) fn real_state(&self, mode: Mode, root: Hpa) -> GuestContext {
        let reads_tsc_aux = self.reads_tsc_aux();
        direct::load(&self.state, mode, root, &self.features, &self.parts.segments, reads_tsc_aux)
    }

    /// May the guest's programs read IA32_TSC_AUX, by RDTSCP or RDPID?
    pub(crate) fn reads_tsc_aux(&self) -> bool {
        self.features.tsc_aux && self.parts.cpuid.announces_tsc_aux()
    }

    /// Executes one guest instruction on the CPU and stops behind it. Views must be in place in kernel mode. Where the
    /// instruction was moved into a patch block, all of what stands for it is stepped through.
    #[inline(never)]
    pub(crate) fn single_step<H: Host>(&mut self, host: &mut H, mode: Mode) -> Result<Stepped, ClientExit> {
        let guest_tf = self.state.rflags & Rflags::TF;
        let start = self.state.rip;
        // Real registers in the middle of a block, which no guest state stands for.
        let mut inside: Option<GuestContext> = None;
        let mut steps = 0;
        loop {
            let root = self.root(host, mode)?;
            let mut before = self.real_state(mode, root);
            match inside.take() {
                Some(ctx) => before = GuestContext { cr3: root.0, ..ctx },
                None => self.lend_to_blocks(host, mode, &mut before),
            }
            before.rflags |= Rflags::TF.bits();
            let mut ctx = before;
            let exit = self.visit(host, mode, &mut ctx, None);
            if let WorldExit::Refused(code) = exit {
                host.report(format_args!("the switcher refused a single step with code {code:#x}: {ctx:x?}"));
                return Err(ClientExit::InternalError(InternalError::SwitchRefused(code)));
            }
            let inner = (ctx.gpr, ctx.rip, ctx.rflags);
            let left = self.leave_blocks(host, mode, exit, &mut ctx);
            let stepped = matches!(exit, WorldExit::Exception(1)) && ctx.dr6 & DR6_BS != 0;
            steps += 1;
            if left == Left::Block && stepped && ctx.rip == start && steps < BLOCK_STEPS {
                (ctx.gpr, ctx.rip, ctx.rflags) = inner;
                inside = Some(ctx);
                continue;
            }
            direct::store(&mut self.state, &ctx, &before, mode, &self.parts.segments);
            self.take_from_blocks(host, mode);
            if mode == Mode::User {
                self.state.rflags = (self.state.rflags - Rflags::TF) | guest_tf;
            }
            if left == Left::Asked {
                return Ok(Stepped::Asked);
            }
            match exit {
                WorldExit::HostInterrupt(_) | WorldExit::Nmi | WorldExit::MachineCheck | WorldExit::Refused(_) => {}
                WorldExit::Exception(1) if stepped => return Ok(Stepped::Done),
                WorldExit::Exception(3) => return Ok(Stepped::Trapped),
                WorldExit::Exception(14) => {
                    if let Some(outcome) = self.step_fault(host, mode, &ctx)? {
                        return Ok(outcome);
                    }
                }
                WorldExit::Exception(13 | 6) if left == Left::Guest && self.moved(host)? => {}
                // It is never lent to a single step.
                WorldExit::Syscall(_) => return Err(ClientExit::InternalError(InternalError::UnexpectedExit(0))),
                WorldExit::Exception(vector) => {
                    let with_code = matches!(vector, 10..=13 | 17);
                    let error = with_code.then_some(ctx.error);
                    return Ok(Stepped::Faulted(Exception { vector: Vector(vector), error, payload: ctx.dr6 }));
                }
            }
            // Interrupted, or a hidden fault: at a guest boundary again. If that is in a block, go back into it, and through all of it: on a
            // slow host several interrupts may come before its end.
            steps = 0;
            if left == Left::Block {
                self.resume_at(host)?;
            }
        }
    }

    /// What a page fault means for a single step; `None`: it was hidden, step again.
    fn step_fault<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        ctx: &GuestContext,
    ) -> Result<Option<Stepped>, ClientExit> {
        let outcome = self.fault_outcome(host, mode, ctx)?;
        let cause = match outcome {
            FaultOutcome::Fixed => return Ok(None),
            FaultOutcome::Guest(exception) => return Ok(Some(Stepped::Faulted(exception))),
            FaultOutcome::NeedView { gpa, page } => return Ok(Some(Stepped::NeedView(gpa.frame(), page))),
            FaultOutcome::Mmio { .. } => Counter::InterpretedMmio,
            FaultOutcome::TrackedWrite { .. } => Counter::InterpretedTableWrite,
            FaultOutcome::ViewAccess { .. }
            | FaultOutcome::Overlay
            | FaultOutcome::Slot { .. }
            | FaultOutcome::NonCanonical => Counter::InterpretedCodeAccess,
        };
        let write = PageFaultCode::from_bits_truncate(ctx.error).contains(PageFaultCode::W);
        Ok(Some(Stepped::NeedsInterpreter(Blocked::new(cause, fault_address(ctx), write, &outcome))))
    }

    /// Executes the instruction at RIP, which the interpreter does not have, on the CPU.
    #[inline(never)]
    pub(crate) fn native_step<H: Host>(&mut self, host: &mut H) -> Flow {
        if self.state.cpl == 3 && self.parts.segments.lags() {
            let parts = &mut self.parts;
            parts.segments.follow_again(&self.state, &mut parts.mmu, host, &mut parts.stats)?;
        }
        self.parts.stats.count(Counter::NativeSteps);
        let tactics = core::mem::replace(&mut self.parts.code.patch.tactics, rvmm_patcher::TacticSet::empty());
        let flow = match direct::steppable(&self.state, &self.parts.segments) {
            Ok(mode) => self.native_step_plain(host, mode),
            Err(_) => self.flat_step(host),
        };
        self.parts.code.patch.tactics = tactics;
        if !matches!(flow, Err(ClientExit::Io(_))) {
            self.parts.io.clear();
        }
        flow
    }

    /// The same in the environment without blocks, which the step pages are installed in.
    fn native_step_plain<H: Host>(&mut self, host: &mut H, mode: Mode) -> Flow {
        let fetched = self.fetch(host)?;
        let trap = self.state.rflags.contains(Rflags::TF);
        let mut stand_ins = StandIns::default();
        let stepped = self.step_alone(host, mode, &fetched, &mut stand_ins)?;
        self.finish_step(host, stepped, &stand_ins, trap)
    }

    /// Steps over `fetched`, shown alone at RIP in kernel mode, and takes away again what was shown for it.
    pub(crate) fn step_alone<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        fetched: &Fetched,
        stand_ins: &mut StandIns,
    ) -> Result<Stepped, ClientExit> {
        self.parts.io.rewind();
        let installed = if mode == Mode::Kernel { self.install_step_pages(host, fetched) } else { Ok(()) };
        let stepped = installed.and_then(|()| self.step_with_stand_ins(host, mode, fetched, stand_ins));
        self.drop_stand_ins(host, stand_ins);
        if mode == Mode::Kernel {
            for gfn in fetched.frames.into_iter().flatten() {
                self.parts.mmu.drop_views(host, gfn);
            }
        }
        stepped
    }

    /// What follows from a step. `trap`: the guest's own TF was set.
    pub(crate) fn finish_step<H: Host>(
        &mut self,
        host: &mut H,
        stepped: Stepped,
        stand_ins: &StandIns,
        trap: bool,
    ) -> Flow {
        match stepped {
            Stepped::Done => {
                self.parts.stats.add(Counter::StandIns, stand_ins.count());
                self.write_memory_behind(host, stand_ins)?;
                // The step was ours; the guest's own comes behind the instruction, too.
                if trap {
                    self.deliver(host, Exception::debug(DR6_BS).into())?;
                }
                self.write_devices_behind(host, stand_ins)
            }
            Stepped::Faulted(exception) => self.deliver(host, exception.into()),
            Stepped::NeedsInterpreter(blocked) => {
                self.parts.stats.count(Counter::NativeRefused);
                let (at, cause) = (blocked.at, blocked.cause.name());
                host.report(format_args!("an instruction for the CPU alone needs the interpreter: {cause} at {at:?}"));
                self.refuse(host, Unsupported::Mode)
            }
            other => {
                host.report(format_args!("a native step ended with {other:?}"));
                self.refuse(host, Unsupported::Mode)
            }
        }
    }

    /// Steps until nothing is in the way, or something is that nothing can stand in for.
    fn step_with_stand_ins<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        fetched: &Fetched,
        stand_ins: &mut StandIns,
    ) -> Result<Stepped, ClientExit> {
        loop {
            let stepped = self.single_step(host, mode)?;
            let Stepped::NeedsInterpreter(blocked) = stepped else { return Ok(stepped) };
            match self.stand_in(host, mode, fetched, stand_ins, blocked)? {
                StoodIn::Yes => {}
                StoodIn::No => return Ok(stepped),
                StoodIn::Faulted(exception) => return Ok(Stepped::Faulted(exception)),
            }
        }
    }

    fn install_step_pages<H: Host>(&mut self, host: &mut H, fetched: &Fetched) -> Flow {
        let start = Gva(self.state.linear_rip());
        let mut bytes = fetched.bytes.get(..fetched.available).unwrap_or(&[]).iter().copied();
        let mut at = start;
        let env = crate::code::plain(&self.state);
        for (gfn, page) in fetched.frames.iter().zip(self.step_pages.pages) {
            let Some(gfn) = gfn else { break };
            // What can be read must be right; TF alone ends the step there.
            if self.hides_views() {
                host.bytes(page).fill(INT3);
            } else {
                copy_frame(host, *gfn, [page])?;
            }
            for (to, from) in host.bytes(page).iter_mut().skip(at.offset()).zip(&mut bytes) {
                *to = from;
            }
            let pfn = host.pfn(page);
            if !self.hides_views() {
                self.parts.stats.count(Counter::CodeReadable);
            }
            let parts = &mut self.parts;
            // The root must be the one that will be entered, so that the views land in it.
            parts.mmu.root(host, &mut parts.stats, &self.state, rvmm_mmu::Space::Kernel, env)?;
            match parts.mmu.install_view(
                host,
                &mut parts.stats,
                &self.state,
                env,
                at.page(),
                *gfn,
                (pfn, PROTECTION),
            )? {
                ViewInstall::Installed => {}
                ViewInstall::Guest(_) | ViewInstall::Moved(_) => break,
            }
            at = Gva(self.state.wrap(at.page().0.wrapping_add(PAGE_SIZE)));
        }
        Ok(())
    }
}
