//! Tour 10/22, next: `rvmm-ko/mmu/src/fault.rs`.
//! What ended a stay in the guest world, and what is done about it.

use rvmm_arch::fault::{Event, EventSource, Exception, PageFaultCode, Vector};
use rvmm_arch::host::{EventLoan, GuestContext, Host, WorldExit, CALL_ERROR};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::Rflags;
use rvmm_arch::stats::Counter;
use rvmm_arch::trace;
use rvmm_arch::Gva;
use rvmm_mmu::{FaultOutcome, Reasons};

use crate::blocks::Left;
use crate::client::{ClientExit, InternalError};
use crate::direct::{self, Mode};
use crate::serve::Server;
use crate::vcpu::{Flow, Parts, Vcpu};

/// Instructions interpreted behind a write to a descriptor table: Linux stores three TLS entries, two words each.
const AHEAD: u32 = 10;

/// RPL of CS in an exit frame.
fn ring(ctx: &GuestContext) -> u16 {
    ctx.sel[1] & 3
}

impl Vcpu {
    /// Runs guest code on the CPU until something ends it, and deals with that.
    #[inline(never)]
    pub(crate) fn run_directly<H: Host>(&mut self, host: &mut H, mode: Mode) -> Flow {
        self.find_verw(host)?;
        let root = self.root(host, mode)?;
        let mut before = self.real_state(mode, root);
        let mut ctx = before;
        self.lend_to_blocks(host, mode, &mut ctx);
        let Some(reloads) = self.lend_reload(host, mode, (&mut ctx, &mut before)) else {
            return self.interpret(host, Counter::InterpretedStaleSegment);
        };
        let mut events = EventLoan::default();
        self.lend_syscall(host, mode, &mut ctx, &mut events)?;
        let exit = self.visit(host, mode, &mut ctx, Some(&mut events));
        if let WorldExit::Refused(code) = exit {
            host.report(format_args!("the switcher refused state {ctx:x?} with code {code:#x}"));
            return Err(ClientExit::InternalError(InternalError::SwitchRefused(code)));
        }
        if reloads {
            self.undo_reload(&mut ctx, &before);
        }
        let mode = self.take_syscall(host, mode, exit, (&ctx, &mut before), &events);
        let undelivered = self.is_undelivered(&ctx);
        self.take_events(&ctx, &events, undelivered);
        if undelivered {
            let exit = self.undo_event(host, exit, (&mut ctx, &mut before), &events)?;
            direct::store(&mut self.state, &ctx, &before, Mode::User, &self.parts.segments);
            return match exit {
                WorldExit::Exception(vector) => self.dispatch(host, Mode::User, Vector(vector), &ctx),
                _ => Ok(()),
            };
        }
        let left = self.leave_blocks(host, mode, exit, &mut ctx);
        direct::store(&mut self.state, &ctx, &before, mode, &self.parts.segments);
        self.take_from_blocks(host, mode);
        if left == Left::Asked {
            return self.serve_block(host);
        }
        match exit {
            WorldExit::HostInterrupt(_) => self.parts.stats.count(Counter::ExitInterrupt),
            WorldExit::Nmi | WorldExit::MachineCheck => self.parts.stats.count(Counter::ExitNmi),
            // A byte of a jump that traps: #GP, or #UD where 64-bit mode has no such opcode.
            WorldExit::Exception(13 | 6) if left == Left::Guest && self.moved(host)? => {
                self.parts.stats.count(Counter::ExitGeneralProtection);
            }
            WorldExit::Syscall(_) if left == Left::Block => return self.serve_call(host),
            WorldExit::Exception(13) if left == Left::Block && ctx.error == CALL_ERROR => return self.serve_call(host),
            WorldExit::Syscall(from) => return self.finish_syscall(host, from, &ctx),
            WorldExit::Exception(6) if left == Left::Guest && mode == Mode::Kernel => {
                // A SYSRET, if it is one.
                self.patch_privileged(host)?;
                return self.exception(host, mode, Vector::UD, &ctx);
            }
            WorldExit::Exception(vector) => {
                self.exception(host, mode, Vector(vector), &ctx)?;
                if left == Left::Block {
                    self.parts.code.stopped = Some(Gva(self.state.linear_rip()));
                }
            }
            WorldExit::Refused(_) => {}
        }
        Ok(())
    }

    /// One stay in the guest world, traced, and counted by the ring its exit frame shows.
    pub(crate) fn visit<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        ctx: &mut GuestContext,
        mut events: Option<&mut EventLoan>,
    ) -> WorldExit {
        ctx.disarm = self.parts.segments.prepare(&self.state, mode, host);
        if ctx.disarm != 0 && !Self::may_return_with_lent(ctx) {
            Self::lend_no_return(ctx);
            if let Some(events) = events.as_deref_mut() {
                *events = EventLoan::default();
            }
        }
        trace_entry(host, mode, ctx, self.state.cr3);
        let exit = self.enter(host, mode, ctx, events);
        trace_exit(host, exit, ctx);
        self.parts.segments.take_back(host);
        self.parts.stats.count(Counter::WorldSwitches);
        self.parts.stats.count(match ring(ctx) {
            1 => Counter::ExitCpl1,
            3 => Counter::ExitCpl3,
            _ => Counter::ExitCpl0,
        });
        exit
    }

    /// Enters the guest world. A stay without events is of one instruction, whose faults its caller wants to see.
    fn enter<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        ctx: &mut GuestContext,
        events: Option<&mut EventLoan>,
    ) -> WorldExit {
        if events.is_none() || !self.serves(host) {
            return host.enter(ctx, events, None);
        }
        let trees = self.trees(mode, ctx);
        let Parts { mmu, stats, code, constants, .. } = &mut self.parts;
        mmu.stock(host);
        let mut server = Server { mmu, stats, code, constants, cpu: &self.state, trees };
        host.enter(ctx, events, Some(&mut server))
    }

    /// A block asked for an exit: because an event can be delivered now, or because it does not do what the guest wants.
    pub(crate) fn serve_block<H: Host>(&mut self, host: &mut H) -> Flow {
        self.parts.stats.count(Counter::ExitBreakpoint);
        if self.must_offer_events() {
            // The run loop delivers it, or tells the client.
            return Ok(());
        }
        self.interpret(host, Counter::InterpretedForward)?;
        self.parts.code.stopped = Some(Gva(self.state.linear_rip()));
        Ok(())
    }

    #[inline(never)]
    fn exception<H: Host>(&mut self, host: &mut H, mode: Mode, vector: Vector, ctx: &GuestContext) -> Flow {
        self.parts.stats.count(match vector {
            Vector::DB => Counter::ExitDebug,
            Vector::BP => Counter::ExitBreakpoint,
            Vector::UD => Counter::ExitInvalidOpcode,
            Vector::NM => Counter::ExitDeviceNotAvailable,
            Vector::GP => Counter::ExitGeneralProtection,
            Vector::PF => Counter::ExitPageFault,
            Vector::NP | Vector::SS | Vector::TS => Counter::ExitSegment,
            _ => Counter::ExitOther,
        });
        self.dispatch(host, mode, vector, ctx)
    }

    /// What is done about an exception, with the registers stored.
    fn dispatch<H: Host>(&mut self, host: &mut H, mode: Mode, vector: Vector, ctx: &GuestContext) -> Flow {
        match vector {
            Vector::BP => {
                // A trap: RIP is behind the byte. In kernel mode it is a site, a byte not yet scanned, or the guest's own.
                self.state.rip = self.state.wrap(self.state.rip.wrapping_sub(1));
                match mode {
                    Mode::Kernel => self.view_trap(host),
                    Mode::User => {
                        self.back_to_long_int3(host)?;
                        self.interpret(host, Counter::InterpretedPrivileged)
                    }
                }
            }
            Vector::PF => self.page_fault(host, mode, ctx),
            // Whatever the instruction is (privileged, a segment load that needs help, INT n, a fault of the guest's own),
            // the interpreter knows; what it does not know faults for the guest as it did on the CPU.
            Vector::GP | Vector::NP | Vector::SS | Vector::TS | Vector::UD => {
                let cause = match vector {
                    Vector::NP | Vector::SS | Vector::TS => Counter::InterpretedSegmentLoad,
                    _ => Counter::InterpretedPrivileged,
                };
                let fault = Exception { vector, error: error_code(vector, ctx), payload: 0 };
                if mode == Mode::Kernel && vector == Vector::GP {
                    self.patch_privileged(host)?;
                }
                // The error code of INT n without a gate that the program may use (SDM vol. 3 figure 6-7).
                if mode == Mode::User && vector == Vector::GP && ctx.error & 7 == 2 {
                    self.parts.gates.met((ctx.error >> 3) as u8);
                }
                self.interpret_or_reflect(host, cause, fault)
            }
            Vector::DB => {
                let event = Event { vector, error: None, payload: ctx.dr6 & 0xe00f, source: EventSource::Exception };
                self.deliver(host, event)
            }
            Vector::DE | Vector::OF | Vector::BR | Vector::NM | Vector::MF | Vector::AC | Vector::XM => {
                let fault = Exception { vector, error: error_code(vector, ctx), payload: 0 };
                self.deliver(host, fault.into())
            }
            Vector(other) => {
                host.report(format_args!("unexpected exception {other} from the guest world: {ctx:x?}"));
                Err(ClientExit::InternalError(InternalError::UnexpectedExit(other)))
            }
        }
    }

    /// Interprets a few instructions more, where each of them would probably trap by itself.
    fn interpret_ahead<H: Host>(&mut self, host: &mut H, mode: Mode) -> Flow {
        for _ in 0..AHEAD {
            let goes_on = self.runnable() == Ok(mode);
            if !goes_on || self.must_offer_events() || self.verifier.is_on() {
                break;
            }
            self.interpret(host, Counter::InterpretedForward)?;
        }
        Ok(())
    }

    /// After a #BP, with RIP one byte before where it was: INT 3 in its long form (CD 03), which comes through the same
    /// gate, is two bytes long. True: it was that, and RIP is on it now.
    pub(crate) fn back_to_long_int3<H: Host>(&mut self, host: &mut H) -> Result<bool, ClientExit> {
        let last = Gva(self.state.linear_rip());
        let first = Gva(self.state.wrap(last.0.wrapping_sub(1)));
        let privilege = if self.state.cpl == 3 { Privilege::User } else { Privilege::Supervisor };
        for (at, wanted) in [(last, 3), (first, 0xcd)] {
            let fetch = Access { kind: AccessKind::Fetch, privilege };
            let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, fetch)? else { return Ok(false) };
            let mut byte = 0;
            if !host.read_ram(gpa, core::slice::from_mut(&mut byte))? || byte != wanted {
                return Ok(false);
            }
        }
        self.state.rip = self.state.wrap(self.state.rip.wrapping_sub(1));
        Ok(true)
    }

    /// Whose the page fault is that ended a stay; traced.
    pub(crate) fn fault_outcome<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        ctx: &GuestContext,
    ) -> Result<FaultOutcome, ClientExit> {
        let code = PageFaultCode::from_bits_truncate(ctx.error);
        let address = fault_address(ctx);
        let (space, env) = (self.space(mode), self.env());
        let outcome = self.parts.mmu.fault(host, &mut self.parts.stats, &self.state, space, env, address, code)?;
        trace!(host, PageFault { address, code, outcome: outcome.name(), gpa: outcome.gpa() });
        Ok(outcome)
    }

    fn page_fault<H: Host>(&mut self, host: &mut H, mode: Mode, ctx: &GuestContext) -> Flow {
        let address = fault_address(ctx);
        match self.fault_outcome(host, mode, ctx)? {
            FaultOutcome::Fixed => {
                self.parts.hot.note(self.state.linear_rip(), Counter::PageFaultHidden);
                Ok(())
            }
            FaultOutcome::Guest(exception) => self.deliver(host, exception.into()),
            FaultOutcome::Mmio { .. } => self.interpret(host, Counter::InterpretedMmio),
            FaultOutcome::TrackedWrite { reasons, .. } => {
                let cause = if reasons.contains(Reasons::VIEW) {
                    Counter::InterpretedCodeAccess
                } else if reasons.contains(Reasons::DESCRIPTOR) {
                    Counter::InterpretedDescriptorWrite
                } else {
                    Counter::InterpretedTableWrite
                };
                self.interpret(host, cause)?;
                // Descriptors come in several stores: the rest of them, without a round trip each.
                if cause == Counter::InterpretedDescriptorWrite {
                    return self.interpret_ahead(host, mode);
                }
                Ok(())
            }
            FaultOutcome::NeedView { gpa, .. } => self.fetch_fault(host, gpa, address),
            FaultOutcome::ViewAccess { gpa, write } => self.view_access(host, gpa, address, write),
            FaultOutcome::Overlay | FaultOutcome::Slot { .. } | FaultOutcome::NonCanonical => {
                self.interpret(host, Counter::InterpretedCodeAccess)
            }
        }
    }
}

/// CR2: a 32-bit guest's linear address.
pub(crate) fn fault_address(ctx: &GuestContext) -> Gva {
    Gva(if ctx.long != 0 { ctx.cr2 } else { ctx.cr2 & 0xffff_ffff })
}

#[inline]
fn trace_entry<H: Host>(host: &mut H, mode: Mode, ctx: &GuestContext, cr3: u64) {
    let mode = match mode {
        Mode::Kernel => "kernel",
        Mode::User => "user",
    };
    let (rip, step) = (ctx.rip, ctx.rflags & Rflags::TF.bits() != 0);
    trace!(host, Entry { mode, rip, cr3, step });
}

#[inline]
fn trace_exit<H: Host>(host: &mut H, exit: WorldExit, ctx: &GuestContext) {
    let cr2 = if exit == WorldExit::Exception(Vector::PF.0) { ctx.cr2 } else { 0 };
    trace!(host, Exit { exit, ring: ring(ctx) as u8, rip: ctx.rip, error: ctx.error, cr2 });
}

/// The error code that goes with a vector, where it has one.
fn error_code(vector: Vector, ctx: &GuestContext) -> Option<u32> {
    matches!(vector, Vector::TS | Vector::NP | Vector::SS | Vector::GP | Vector::PF | Vector::AC).then_some(ctx.error)
}
