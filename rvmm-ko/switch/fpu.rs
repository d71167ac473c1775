// SPDX-License-Identifier: GPL-2.0
//! The guest's FPU and SSE state in the format of FXSAVE64.
//!
//! Guest XCR0 is not supported: CR4.OSXSAVE is never set in the guest world, so nothing beyond this state is reachable there.

use crate::sys::page::OwnedPage;
use core::arch::asm;
use kernel::prelude::*;

extern "C" {
    fn kernel_fpu_begin_mask(mask: u32);
    fn kernel_fpu_end();
}

/// The image of FXSAVE64 (SDM vol. 1 §10.5.1), in a page of its own: the kernel's stacks are aligned to 8 only, and XSAVE will
/// want more room.
///
/// # Invariants
/// MXCSR (bytes 24 to 27) has no bit that the CPU reserves, so FXRSTOR64 does not fault.
pub(crate) struct FpuState(OwnedPage);

impl FpuState {
    /// The state after RESET followed by FNINIT, as KVM's vCPUs start.
    pub(crate) fn new() -> Result<Self> {
        let mut page = OwnedPage::new()?;
        page.bytes()[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        page.bytes()[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Ok(Self(page))
    }

    /// A copy of the state.
    pub(crate) fn get(&mut self) -> [u8; 512] {
        let mut bytes = [0; 512];
        for (to, from) in bytes.iter_mut().zip(self.0.bytes().iter()) {
            *to = *from;
        }
        bytes
    }

    /// Replaces the state; EINVAL if MXCSR has reserved bits set.
    pub(crate) fn set(&mut self, bytes: &[u8; 512]) -> Result {
        // Bits 16 and up are reserved everywhere; bit 6 (DAZ) exists on every 64-bit CPU.
        if u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) & 0xffff_0000 != 0 {
            return Err(EINVAL);
        }
        for (to, from) in self.0.bytes().iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(())
    }

    /// Saves the current task's FPU state if need be and loads this one. Interrupts are off.
    ///
    /// # Safety
    /// [`Self::leave`] follows before interrupts come on or the task sleeps.
    pub(crate) unsafe fn enter(&self) {
        // SAFETY: interrupts are off, so the kernel's own use of the FPU cannot nest; the image lies in a page, aligned, and is loadable
        // by the type's invariant.
        unsafe {
            kernel_fpu_begin_mask(0);
            asm!("fxrstor64 [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly, preserves_flags));
        }
    }

    /// Saves the guest's state and gives the FPU back.
    ///
    /// # Safety
    /// Follows [`Self::enter`].
    pub(crate) unsafe fn leave(&mut self) {
        // SAFETY: the image lies in a page, aligned. INVARIANT: the CPU never stores reserved MXCSR bits.
        unsafe {
            asm!("fxsave64 [{}]", in(reg) self.0.as_ptr(), options(nostack, preserves_flags));
            kernel_fpu_end();
        }
    }
}
