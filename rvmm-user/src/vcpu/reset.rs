//! The machine's reset line, seen from the vCPU's thread.

use std::io;

use kvm_ioctls::VcpuFd;

use super::setup::ResetState;
use crate::engine::ioctl;
use crate::error::Error;
use crate::shared::Shared;

/// Starts the machine again, after an exit that reset it.
pub fn restart(vcpu: &mut VcpuFd, shared: &Shared, state: &ResetState) -> Result<(), Error> {
    finish_access(vcpu)?;
    let mut locked = shared.lock();
    let now = shared.clock.now_ns();
    locked.machine.reset(now);
    drop(locked);
    state.apply(vcpu)
}

/// The instruction that reset the machine, or ended firmware, is still under way in the engine: it would move the instruction pointer at the next entry.
pub(super) fn finish_access(vcpu: &mut VcpuFd) -> Result<(), Error> {
    let exit_reason = vcpu.get_kvm_run().exit_reason;
    if !matches!(exit_reason, kvm_bindings::KVM_EXIT_IO | kvm_bindings::KVM_EXIT_MMIO) {
        return Ok(());
    }
    vcpu.set_kvm_immediate_exit(1);
    let run = vcpu.run().map(|_| ());
    vcpu.set_kvm_immediate_exit(0);
    match run {
        Err(error) if error.errno() != libc::EINTR => Err(ioctl("KVM_RUN", kvm_ioctls::Error::new(error.errno()))),
        Ok(()) => Err(Error::Host {
            what: "completing the access that the machine stopped for",
            source: io::Error::other("the engine ran on"),
        }),
        Err(_) => Ok(()),
    }
}
