// SPDX-License-Identifier: GPL-2.0
//! The signal mask of KVM_SET_SIGNAL_MASK: in force while KVM_RUN runs.

extern "C" {
    fn rvmm_sigmask_enter(mask: u64);
    fn rvmm_sigmask_leave();
}

/// The mask in force; the task's own comes back on drop.
pub(crate) struct MaskGuard(());

/// Puts a mask in force for the current task, if there is one.
pub(crate) fn apply(mask: Option<u64>) -> Option<MaskGuard> {
    mask.map(|m| {
        // SAFETY: called in the task's own context; `drop` undoes it before the return to user space.
        unsafe { rvmm_sigmask_enter(m) };
        MaskGuard(())
    })
}

impl Drop for MaskGuard {
    fn drop(&mut self) {
        // SAFETY: follows `apply`.
        unsafe { rvmm_sigmask_leave() };
    }
}
