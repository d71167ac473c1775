// SPDX-License-Identifier: GPL-2.0
//! A host that is a virtual machine of KVM's, with asynchronous page faults switched on (Documentation/virt/kvm/x86/msr.rst,
//! MSR_KVM_ASYNC_PF_EN): when a page of the host's memory is not there, KVM does not make the CPU wait but raises #PF with a token in
//! CR2 and a mark in memory, if the CPU is not at CPL 0. The guest world is not.
//!
//! Such a #PF is neither the guest's nor the shadow tables'. Left alone the mark would turn the host's own next page fault into an
//! event that never ends. What the host's kernel does with it, putting the task to sleep, is for KVM's own modules only; taking the mark
//! and entering the guest again is as good, since KVM then makes the CPU wait for the page.

use super::cpu;
use crate::sys::page::phys_to_direct_map;
use core::sync::atomic::{AtomicU32, Ordering};

/// MSR_KVM_ASYNC_PF_EN: the address of this CPU's mark, and in its lower six bits flags, of which the first says "on".
const MSR_ASYNC_PF_EN: u32 = 0x4b56_4d02;
/// KVM_FEATURE_ASYNC_PF: the MSR exists.
const FEATURE: u32 = 1 << 4;
/// KVM_PV_REASON_PAGE_NOT_PRESENT.
const NOT_PRESENT: u32 = 1;

/// Does this CPU have the MSR? It is asked once, as each CPUID may cost an exit to KVM.
pub(super) fn possible() -> bool {
    if cpu::cpuid(1, 0)[2] >> 31 == 0 {
        return false;
    }
    let signature = [b"KVMK", b"VMKV", b"M\0\0\0"].map(|part| u32::from_le_bytes(*part));
    let bases = (0x4000_0000_u32..0x4001_0000).step_by(0x100);
    bases
        .map(|base| (base, cpu::cpuid(base, 0)))
        .find(|(_, [_, b, c, d])| [*b, *c, *d] == signature)
        .is_some_and(|(base, _)| cpu::cpuid(base | 1, 0)[0] & FEATURE != 0)
}

/// Was the page fault that has just ended a stay in the guest world such an event? If so it is taken. Interrupts are off.
///
/// # Safety
/// [`possible`] has said so.
pub(super) unsafe fn take() -> bool {
    // SAFETY: by the contract the CPU has the MSR.
    let place = unsafe { cpu::rdmsr(MSR_ASYNC_PF_EN) };
    if place & 1 == 0 {
        return false;
    }
    let mark = phys_to_direct_map(place & !0x3f) as *const AtomicU32;
    // SAFETY: the host's kernel has given KVM the address of a per-CPU variable that lives as long as the host, in the direct map and
    // aligned to 64 bytes. It is this CPU's, and interrupts are off; KVM writes it only when it raises the fault.
    unsafe { (*mark).swap(0, Ordering::Relaxed) & NOT_PRESENT != 0 }
}
