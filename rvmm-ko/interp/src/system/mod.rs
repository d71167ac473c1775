//! Everything privileged, and event delivery.

use crate::exec::{Exec, Res};
use crate::step::Stop;
use rvmm_arch::fault::Event;
use rvmm_arch::machine::Machine;
use rvmm_arch::VcpuState;

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// The guest's handler is next.
    Done,
    /// A triple fault.
    Shutdown,
}

/// Executes `x.ins` if it is a system instruction; `false` if it is not.
pub(crate) fn execute<M: Machine>(_x: &mut Exec<'_, M>) -> Res<bool> {
    Ok(false)
}

/// Delivers an event through the guest's IDT.
///
/// # Errors
/// Never [`Stop::Fault`]: faults in the delivery are delivered themselves, as double fault if need be.
pub fn deliver<M: Machine>(cpu: &mut VcpuState, _m: &mut M, _event: Event) -> Result<Delivered, Stop> {
    cpu.activity = rvmm_arch::vcpu::Activity::Shutdown;
    Ok(Delivered::Shutdown)
}
