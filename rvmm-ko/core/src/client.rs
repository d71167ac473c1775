//! Why the run loop returns to the client, in the terms of the KVM ABI (Documentation/virt/kvm/api.rst, "kvm_run").

use crate::io::IoAccess;

/// What the client asks for with KVM_RUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunRequest {
    /// `request_interrupt_window`: return as soon as an interrupt could be injected.
    pub interrupt_window: bool,
    /// `immediate_exit`: finish pending device accesses and return.
    pub immediate_exit: bool,
}

/// Why the run loop returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientExit {
    /// KVM_EXIT_IO or KVM_EXIT_MMIO: answer with [`crate::Vcpu::complete_io`], then run again.
    Io(IoAccess),
    /// KVM_EXIT_HLT.
    Hlt,
    /// KVM_EXIT_IRQ_WINDOW_OPEN.
    IrqWindowOpen,
    /// KVM_EXIT_SET_TPR: the guest has lowered CR8 below what the client last knew, so that it may now take what was held back.
    TaskPriority,
    /// KVM_EXIT_INTR, and EINTR from the ioctl.
    Interrupted,
    /// KVM_EXIT_SHUTDOWN: triple fault.
    Shutdown,
    /// KVM_EXIT_INTERNAL_ERROR: the guest cannot go on.
    InternalError(InternalError),
}

/// Why a guest cannot go on although it did nothing that stops a real machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InternalError {
    /// An instruction is neither run directly nor interpreted (KVM_INTERNAL_ERROR_EMULATION).
    Emulation,
    /// `--verify` found a difference; the report holds it.
    VerifyDifference,
    /// Shadow paging cannot go on.
    Mmu(rvmm_mmu::MmuError),
    /// The host could not provide memory, or the client's memory is gone.
    Host(rvmm_arch::host::HostError),
    /// The switcher refused the state, or faulted on it: the code is the switcher's.
    SwitchRefused(u32),
    /// An instruction's device accesses differed when it was executed again.
    IoReplay,
    /// A bug of rvmm: an exit that must not happen.
    UnexpectedExit(u8),
}
