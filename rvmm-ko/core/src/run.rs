//! Tour 5/22, next: `rvmm-ko/core/src/direct.rs`.
//! The run loop: the table of contents of rvmm.

use core::convert::Infallible;

use rvmm_arch::host::Host;
use rvmm_arch::stats::Counter;
use rvmm_arch::vcpu::Activity;

use crate::client::{ClientExit, RunRequest};
use crate::direct::Cause;
use crate::vcpu::{Flow, Vcpu};

/// Interpreted instructions between two looks at the host's wishes. Each may move or compare a page of memory.
const INTERPRETED_SLICE: u32 = 256;

impl Vcpu {
    /// KVM_RUN: runs the guest until the client is needed.
    pub fn run<H: Host>(&mut self, host: &mut H, request: RunRequest) -> ClientExit {
        let exit = match self.run_until_exit(host, request) {
            Ok(never) => match never {},
            Err(exit) => exit,
        };
        self.parts.stats.set(Counter::PatchBytes, self.parts.code.patch.bytes());
        exit
    }

    fn run_until_exit<H: Host>(&mut self, host: &mut H, request: RunRequest) -> Result<Infallible, ClientExit> {
        self.window_wanted = request.interrupt_window;
        self.client_cr8 = self.state.cr8;
        let accessed = self.parts.io.unfinished().then(|| self.state.linear_rip());
        self.finish_device_access(host)?;
        if request.immediate_exit {
            return Err(ClientExit::Interrupted);
        }
        self.revalidate_views(host)?;
        if let Some(at) = accessed {
            self.look_for_another_access(host, request, at)?;
        }
        loop {
            if host.should_return() {
                return Err(ClientExit::Interrupted);
            }
            self.offer_events(host, request)?;
            if self.state.cpl == 3 && self.parts.segments.lags() {
                let parts = &mut self.parts;
                parts.segments.follow_again(&self.state, &mut parts.mmu, host, &mut parts.stats)?;
            }
            match self.runnable() {
                Ok(mode) if self.verifier.wants(&self.state, mode) => self.verify_step(host, mode)?,
                Ok(mode) => self.run_directly(host, mode)?,
                Err(cause) => {
                    if cause == Counter::InterpretedUnhidden {
                        self.say_unhidden(host);
                        self.hide_windows(host)?;
                    }
                    self.interpret_while(host, request, cause)?;
                }
            }
        }
    }

    /// Says once, before the first instruction that is interpreted for it, that this host cannot hide views.
    fn say_unhidden<H: Host>(&mut self, host: &mut H) {
        if self.parts.stats.get(Counter::InterpretedUnhidden) == 0 {
            let ring = self.parts.segments.deprivileging().kernel_ring;
            host.report(format_args!(
                "this CPU cannot hide patches from a guest kernel in ring {ring}: it is interpreted"
            ));
        }
    }

    /// A kernel that could read patch memory, in single steps of its instructions, finds none: it may have been placed when the kernel was in
    /// another ring.
    fn hide_windows<H: Host>(&mut self, host: &mut H) -> Flow {
        let parts = &mut self.parts;
        if parts.code.patch.placed() {
            parts.code.withdraw(&mut parts.mmu, host, &mut parts.stats)?;
        }
        Ok(())
    }

    /// An instruction whose device access the client has answered is executed to its end before anything else happens:
    /// the device has already acted.
    fn finish_device_access<H: Host>(&mut self, host: &mut H) -> Flow {
        if self.parts.io.pending().is_some() {
            // The client came back without an answer (a signal before the exit reached it): ask again.
            return Err(ClientExit::Io(self.parts.io.pending().ok_or(ClientExit::Interrupted)?));
        }
        while self.parts.io.unfinished() {
            let port = self.parts.io.is_port();
            self.interpret(host, if port { Cause::InterpretedPio } else { Cause::InterpretedMmio })?;
        }
        Ok(())
    }

    /// Interprets for as long as the same reason holds, and no event and no wish of the host's comes in between.
    fn interpret_while<H: Host>(&mut self, host: &mut H, request: RunRequest, cause: Cause) -> Flow {
        let mut left = INTERPRETED_SLICE;
        while left > 0 {
            left = left.saturating_sub(self.interpret_some(host, cause, left)?);
            if self.state.activity != Activity::Running {
                break;
            }
            self.offer_events(host, request)?;
            if self.runnable() != Err(cause) {
                break;
            }
        }
        Ok(())
    }
}
