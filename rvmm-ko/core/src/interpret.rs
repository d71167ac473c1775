//! Tour 15/22, next: `rvmm-ko/interp/src/step.rs`.
//! Interpretation of single instructions, and what follows from them.

use rvmm_arch::fault::Exception;
use rvmm_arch::host::Host;
use rvmm_arch::stats::Counter;
use rvmm_arch::trace;
use rvmm_arch::vcpu::Activity;
use rvmm_arch::{Gfn, Gpa};
use rvmm_interp::{Step, Unsupported};
use rvmm_mmu::MmuError;

use crate::client::{ClientExit, InternalError};
use crate::direct::{Cause, Deprivileging};
use crate::vcpu::{Flow, Parts, Vcpu};
use crate::world::World;

impl Parts {
    /// Guest memory was written behind the shadow state's back (`len` bytes within one page): brings it up to date.
    pub(crate) fn wrote<H: Host>(&mut self, host: &mut H, gpa: Gpa, len: u64) -> Result<(), MmuError> {
        if self.mmu.reasons(gpa.frame()).is_empty() {
            return Ok(());
        }
        self.code.claimed |= self.mmu.guest_wrote(host, &mut self.stats, gpa, len)?.conflict;
        self.code.wrote(&mut self.mmu, host, &mut self.stats, gpa, len);
        self.segments.wrote(gpa, len, host, &mut self.stats).map_err(MmuError::Host)?;
        self.gates.wrote(gpa, len);
        self.verw.wrote(gpa, len);
        self.segments.stop_following_hot_tables(&mut self.mmu, host);
        Ok(())
    }
}

impl Vcpu {
    /// Acts on what an interpreted instruction or a delivery has changed.
    #[inline(never)]
    pub(crate) fn settle<H: Host>(&mut self, host: &mut H) -> Flow {
        while let Some((gpa, len)) = self.parts.writes.pop() {
            self.parts.wrote(host, gpa, len)?;
        }
        if self.parts.writes.take_overflow() {
            let parts = &mut self.parts;
            parts.mmu.flush_all(host);
            parts.code.retire_range(&mut parts.mmu, host, &mut parts.stats, Gfn(0), u64::MAX);
            parts.segments.read_again(host, &mut parts.stats)?;
            parts.gates.look_again();
            parts.verw.look_again();
        }
        let changes = core::mem::take(&mut self.parts.changes);
        let parts = &mut self.parts;
        let deprivileging = Deprivileging::of(&self.state, self.options.model);
        let entered_or_left = parts.segments.deprivileging() != deprivileging;
        if entered_or_left {
            parts.segments.deprivilege(deprivileging, host, &mut parts.stats)?;
            // The vCPU page is mapped for the ring of the guest's kernel: to be placed again.
            parts.code.claimed = true;
        }
        if changes.flush || entered_or_left {
            parts.mmu.flush_all(host);
        } else if changes.paging {
            parts.mmu.cr3_loaded(host, &mut parts.stats);
        }
        if let Some(la) = changes.invlpg {
            parts.mmu.invlpg(host, &mut parts.stats, la);
        }
        if changes.paging || entered_or_left || changes.tables || changes.invlpg.is_some() {
            parts.segments.relocate(&self.state, &mut parts.mmu, host, &mut parts.stats)?;
            parts.gates.look_again();
            parts.verw.look_again();
        }
        Ok(())
    }

    /// The reason of a [`Step::HostError`].
    pub(crate) fn host_failure(&mut self) -> ClientExit {
        let error = if core::mem::take(&mut self.parts.replay_error) {
            InternalError::IoReplay
        } else {
            self.parts.host_error.take().map_or(InternalError::Emulation, InternalError::Host)
        };
        ClientExit::InternalError(error)
    }

    /// Interprets one instruction and delivers its exception, if any.
    pub(crate) fn interpret<H: Host>(&mut self, host: &mut H, cause: Cause) -> Flow {
        self.interpret_with(host, cause, None, 1).map(|_| ())
    }

    /// Interprets an instruction, and up to `limit` of them as long as nobody has to look at what one of them did: how many.
    pub(crate) fn interpret_some<H: Host>(
        &mut self,
        host: &mut H,
        cause: Cause,
        limit: u32,
    ) -> Result<u32, ClientExit> {
        self.interpret_with(host, cause, None, limit)
    }

    /// Interprets one instruction that faulted on the CPU; one the interpreter does not have faults for the guest too.
    pub(crate) fn interpret_or_reflect<H: Host>(&mut self, host: &mut H, cause: Cause, fault: Exception) -> Flow {
        self.interpret_with(host, cause, Some(fault), 1).map(|_| ())
    }

    #[inline(never)]
    fn interpret_with<H: Host>(
        &mut self,
        host: &mut H,
        cause: Cause,
        fault: Option<Exception>,
        limit: u32,
    ) -> Result<u32, ClientExit> {
        self.parts.hot.note(self.state.linear_rip(), cause);
        let (rip, cpl) = (self.state.rip, self.state.cpl);
        trace!(host, Interpret { rip, cpl, cause });
        self.parts.io.rewind();
        let mut world = World { cause: Some(cause), ..self.parts.world(host) };
        let (begun, step) = rvmm_interp::steps_cached(&mut self.state, &mut world, &mut self.decoded, limit);
        self.parts.stats.add(Counter::Interpreted, begun.into());
        self.parts.stats.add(cause, begun.into());
        // What the CPU executes next begins with the answers that there are.
        let goes_on = matches!(step, Step::Unsupported(what) if fault.is_none() && what.runs_natively());
        if step != Step::IoPending && !goes_on {
            self.parts.io.clear();
        }
        self.settle(host)?;
        let flow = match step {
            Step::Retired => Ok(()),
            Step::Exception(exception) => self.deliver(host, exception.into()),
            Step::IoPending => {
                self.parts.io.pending().map_or(Err(self.host_failure()), |access| Err(ClientExit::Io(access)))
            }
            Step::HostError => Err(self.host_failure()),
            Step::Halted => {
                // The client waits for the interrupt; what it injects wakes the CPU, or has done so already.
                self.state.activity = Activity::Running;
                if self.event_is_due() {
                    return Ok(begun);
                }
                Err(ClientExit::Hlt)
            }
            Step::Shutdown => Err(ClientExit::Shutdown),
            Step::Unsupported(what) => match fault {
                Some(fault) => self.deliver(host, fault.into()),
                None if what.runs_natively() => self.native_step(host),
                None => self.refuse(host, what),
            },
        };
        flow.map(|()| begun)
    }

    /// The guest wants what rvmm does not have: stop it, and say so.
    pub(crate) fn refuse<H: Host>(&mut self, host: &mut H, what: Unsupported) -> Flow {
        let (cs, rip) = (self.state.seg[1].selector.0, self.state.rip);
        host.report(format_args!("no emulation of {what:?} at {cs:#x}:{rip:#x}"));
        self.report_instruction(host);
        Err(ClientExit::InternalError(InternalError::Emulation))
    }
}
