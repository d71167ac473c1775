// SPDX-License-Identifier: GPL-2.0
//! The current task: signals, scheduling, interrupts, its address space.

use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

mod shim {
    use kernel::bindings;
    extern "C" {
        pub(super) fn rvmm_irq_disable();
        pub(super) fn rvmm_irq_enable();
        pub(super) fn rvmm_must_return() -> i32;
        pub(super) fn rvmm_cond_resched();
        pub(super) fn rvmm_current_mm() -> *mut bindings::mm_struct;
        pub(super) fn rvmm_mm_top(mm: *mut bindings::mm_struct) -> *mut u64;
        pub(super) fn rvmm_host_unsuitable() -> i32;
        pub(super) fn rvmm_flush_all_cpus();
        pub(super) fn rvmm_can_read_nothing() -> bool;
    }
}

/// Switches interrupts off on this CPU.
pub(crate) fn irq_disable() {
    // SAFETY: no precondition.
    unsafe { shim::rvmm_irq_disable() }
}

/// Switches interrupts on again.
pub(crate) fn irq_enable() {
    // SAFETY: no precondition.
    unsafe { shim::rvmm_irq_enable() }
}

/// Must the task go back to user space (signal, or work done on the way back)?
pub(crate) fn must_return() -> bool {
    // SAFETY: no precondition.
    unsafe { shim::rvmm_must_return() != 0 }
}

/// Lets others run where the scheduler wants it.
pub(crate) fn cond_resched() {
    // SAFETY: called in process context with interrupts on, outside any spinlock: all callers are ioctls.
    unsafe { shim::rvmm_cond_resched() }
}

/// Drops all cached translations on all CPUs, and waits for it.
pub(crate) fn flush_all_cpus() {
    // SAFETY: called from process context with interrupts on.
    unsafe { shim::rvmm_flush_all_cpus() }
}

/// The address space of the current task, for comparison only; found by this CPU's own data.
pub(crate) fn current_space() -> usize {
    // SAFETY: no precondition.
    unsafe { shim::rvmm_current_mm() }.addr()
}

/// Reads where nothing is. The host's page fault handler sees to it that the answer is no.
pub(crate) fn can_read_nothing() -> bool {
    // SAFETY: no precondition.
    unsafe { shim::rvmm_can_read_nothing() }
}

/// The TSC's rate, kHz.
pub(crate) fn tsc_khz() -> u32 {
    extern "C" {
        static tsc_khz: u32;
    }
    // SAFETY: the kernel sets the variable at boot.
    unsafe { (&raw const tsc_khz).read_volatile() }
}

/// Why this host cannot run rvmm at all, if so.
pub(crate) fn host_unsuitable() -> Option<&'static str> {
    // SAFETY: no precondition.
    match unsafe { shim::rvmm_host_unsuitable() } {
        0 => None,
        1 => Some("it is a Xen PV guest, whose CPU state belongs to Xen"),
        2 => Some("FRED is on: rings 1 and 2 do not exist; boot with fred=off"),
        4 => Some("without no-execute pages (NX) unscanned code could run"),
        _ => Some("memory encryption is active"),
    }
}

/// An address space, kept from being freed (not from being emptied at its owner's exit).
///
/// # Invariants
/// The pointer is valid and carries one `mm_count` reference.
pub(crate) struct AddressSpace(NonNull<bindings::mm_struct>);

// SAFETY: an mm_struct belongs to no thread.
unsafe impl Send for AddressSpace {}
// SAFETY: all access goes through the kernel's own synchronised functions.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// That of the current task. ESRCH for kernel threads.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: no precondition.
        let mm = NonNull::new(unsafe { shim::rvmm_current_mm() }).ok_or(ESRCH)?;
        // SAFETY: current's mm lives at least as long as this call. INVARIANT: the reference is the one taken here.
        unsafe { bindings::mmgrab(mm.as_ptr()) };
        Ok(Self(mm))
    }

    /// Another reference to the same.
    pub(crate) fn share(&self) -> Self {
        // SAFETY: by the invariant the mm is valid. INVARIANT: the reference is the one taken here.
        unsafe { bindings::mmgrab(self.0.as_ptr()) };
        Self(self.0)
    }

    /// Is it the current task's?
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: no precondition.
        unsafe { shim::rvmm_current_mm() == self.0.as_ptr() }
    }

    /// An identity, for comparison only.
    pub(crate) fn id(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// The kernel's top-level table: 512 entries in the direct map, valid as long as `self`.
    pub(crate) fn top_table(&self) -> *mut u64 {
        // SAFETY: by the invariant the mm is valid; its pgd lives until the last mm_count reference goes.
        unsafe { shim::rvmm_mm_top(self.0.as_ptr()) }
    }

    /// The raw pointer, valid as long as `self`.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mm_struct {
        self.0.as_ptr()
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // SAFETY: by the invariant the reference is ours; it is given up once.
        unsafe { bindings::mmdrop(self.0.as_ptr()) }
    }
}
