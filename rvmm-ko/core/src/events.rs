//! Events into the guest: exceptions reflected, interrupts as soon as the guest allows them.

use rvmm_arch::fault::{Event, EventSource, Vector};
use rvmm_arch::host::Host;
use rvmm_arch::regs::Rflags;
use rvmm_arch::stats::Counter;
use rvmm_arch::trace;
use rvmm_arch::vcpu::{Activity, InterruptShadow};
use rvmm_interp::{Delivered, Stop};

use crate::client::{ClientExit, InternalError, RunRequest};
use crate::vcpu::{Flow, Vcpu};

impl Vcpu {
    /// Would [`Vcpu::offer_events`] deliver something now?
    pub(crate) fn event_is_due(&self) -> bool {
        let nmi = self.pending.nmi && !self.state.nmi_blocked && self.state.shadow == InterruptShadow::None;
        nmi || self.pending.interrupt.is_some() && self.state.interruptible()
    }

    /// Would it do that, or tell the client that it could inject? Whoever interprets several instructions stops then.
    pub(crate) fn must_offer_events(&self) -> bool {
        self.event_is_due() || self.window_wanted && self.state.interruptible() || self.priority_fell()
    }

    /// Has the guest lowered CR8 below what the client knows?
    fn priority_fell(&self) -> bool {
        self.state.cr8 < self.client_cr8
    }

    /// Delivers what waits and may be delivered; tells the client when it could inject and asked to hear of it.
    pub(crate) fn offer_events<H: Host>(&mut self, host: &mut H, request: RunRequest) -> Flow {
        if self.state.activity == Activity::Shutdown {
            return Err(ClientExit::Shutdown);
        }
        if self.priority_fell() {
            return Err(ClientExit::TaskPriority);
        }
        // The instruction in an interrupt shadow is executed alone, so that the event, or the client that waits for the window,
        // comes right behind it.
        let nmi = self.pending.nmi && !self.state.nmi_blocked;
        let window = self.pending.interrupt.is_some() || request.interrupt_window;
        let open = self.state.rflags.contains(Rflags::IF);
        if self.state.shadow != InterruptShadow::None && (nmi || window && open) {
            self.interpret(host, Counter::InterpretedForward)?;
        }
        if self.pending.nmi && !self.state.nmi_blocked && self.state.shadow == InterruptShadow::None {
            self.pending.nmi = false;
            let nmi = Event { vector: Vector::NMI, error: None, payload: 0, source: EventSource::Nmi };
            self.deliver(host, nmi)?;
            self.state.nmi_blocked = true;
        }
        if self.state.interruptible() {
            if let Some(vector) = self.pending.interrupt.take() {
                let event = Event { vector: Vector(vector), error: None, payload: 0, source: EventSource::External };
                self.deliver(host, event)?;
            } else if request.interrupt_window {
                return Err(ClientExit::IrqWindowOpen);
            }
        }
        Ok(())
    }

    /// Delivers an event through the guest's IDT, with all that may go wrong on the way.
    #[inline(never)]
    pub(crate) fn deliver<H: Host>(&mut self, host: &mut H, event: Event) -> Flow {
        self.parts.stats.count(match event.source {
            EventSource::Exception => Counter::InjectedExceptions,
            EventSource::External | EventSource::Nmi => Counter::InjectedInterrupts,
            EventSource::Software | EventSource::PrivilegedSoftware => Counter::InjectedSoftware,
        });
        trace!(host, Inject(event));
        self.parts.io.rewind();
        let outcome = rvmm_interp::deliver(&mut self.state, &mut self.parts.world(host), event);
        self.settle(host)?;
        match outcome {
            Ok(Delivered::Done) => Ok(()),
            Ok(Delivered::Shutdown) => Err(ClientExit::Shutdown),
            Err(Stop::HostError) => Err(self.host_failure()),
            Err(stop) => {
                host.report(format_args!("event {event:?} cannot be delivered: {stop:?}"));
                Err(ClientExit::InternalError(InternalError::Emulation))
            }
        }
    }
}
