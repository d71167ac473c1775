// SPDX-License-Identifier: GPL-2.0
//! The guest's extended state: x87, SSE and, where the host has XSAVE, AVX.
//!
//! While the guest runs, CR4.OSXSAVE and XCR0 are the guest's (see `enter.rs`). Here, outside the guest world, they are the host's, so
//! the state is saved and loaded whole whatever the guest has enabled: SSE works without XCR0, and what XCR0 leaves out is only
//! hidden. Components that no guest is offered (PKRU, AVX-512, AMX, supervisor state) are the host's throughout: the guest cannot
//! reach them, and what a task of the host has in them is saved by `kernel_fpu_begin_mask` like the rest.

use super::cpu::{self, cpuid};
use crate::sys::page::OwnedPage;
use core::arch::asm;
use core::ops::Range;
use kernel::prelude::*;
use rvmm_arch::xstate::{self, component, Component};

extern "C" {
    fn kernel_fpu_begin_mask(mask: u32);
    fn kernel_fpu_end();
}

/// The leaf of the extended state (SDM vol. 2 "CPUID").
const XSTATE_LEAF: u32 = 0xd;

/// Where AVX lies in an image in the standard format, if it fits into ours (it does on every CPU there is: SDM vol. 1 §13.5.3).
fn avx() -> Option<Range<usize>> {
    let Component { size, offset, .. } = Component::from_cpuid(cpuid(XSTATE_LEAF, component::AVX.trailing_zeros()));
    let end = offset.checked_add(size)? as usize;
    (size != 0 && offset >= xstate::MIN_SIZE && end <= xstate::IMAGE_SIZE).then_some(offset as usize..end)
}

/// The components that guests may have on this host: those of [`xstate::OFFERED`] that the host itself uses. 0: it does not use XSAVE
/// (CPUID leaf 1, ECX bit 27, shows CR4.OSXSAVE), and the state is FXSAVE's.
pub(crate) fn offered() -> u64 {
    if cpuid(1, 0)[2] >> 27 & 1 == 0 {
        return 0;
    }
    // SAFETY: CR4.OSXSAVE is on, on every CPU of the host alike.
    let host = unsafe { cpu::xgetbv() };
    let common = host & xstate::OFFERED & if avx().is_some() { u64::MAX } else { !component::AVX };
    let least = component::X87 | component::SSE;
    if common & least == least {
        common
    } else {
        0
    }
}

/// An image as XSAVE64 and XRSTOR64 use it in the standard format, or FXSAVE64, whose area is its beginning (SDM vol. 1 §10.5.1 and
/// §13.4). In a page of its own: the kernel's stacks are aligned to 8 only.
///
/// # Invariants
/// The image is loadable ([`xstate::is_loadable`]), so neither FXRSTOR64 nor XRSTOR64 faults. `components` are enabled in the host's XCR0,
/// and their state fits into a page.
pub(crate) struct FpuState {
    page: OwnedPage,
    /// What [`offered`] has said.
    components: u64,
}

impl FpuState {
    /// The state after RESET followed by FNINIT, as KVM's vCPUs start.
    pub(crate) fn new() -> Result<Self> {
        let mut page = OwnedPage::new()?;
        xstate::reset(page.bytes());
        Ok(Self { page, components: offered() })
    }

    /// The components that there are beyond FXSAVE's, with those: 0 without XSAVE.
    pub(crate) fn components(&self) -> u64 {
        self.components
    }

    /// The image. What is in its initial state has its initial bytes.
    pub(crate) fn image(&mut self) -> &xstate::Image {
        let avx = avx().filter(|_| self.components & component::AVX != 0);
        // INVARIANT: bytes of the registers and bits of `components` in XSTATE_BV only.
        xstate::normalize(self.page.bytes(), avx);
        self.page.bytes()
    }

    /// Replaces the image; EINVAL for one that cannot be loaded.
    pub(crate) fn set_image(&mut self, image: &xstate::Image) -> Result {
        let legacy = component::X87 | component::SSE;
        if !xstate::is_loadable(image, self.components | legacy) {
            return Err(EINVAL);
        }
        // INVARIANT: checked above.
        self.page.bytes().copy_from_slice(image);
        // Without XSAVE nobody looks at XSTATE_BV any more.
        self.image();
        Ok(())
    }

    /// A copy of the legacy area.
    pub(crate) fn get(&mut self) -> [u8; 512] {
        let mut bytes = [0; 512];
        for (to, from) in bytes.iter_mut().zip(self.image()) {
            *to = *from;
        }
        bytes
    }

    /// Replaces the legacy area; EINVAL if MXCSR has reserved bits set.
    pub(crate) fn set(&mut self, bytes: &[u8; 512]) -> Result {
        // INVARIANT: MXCSR is checked, and only the legacy bits of XSTATE_BV are set.
        if xstate::set_legacy(self.page.bytes(), bytes) {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Saves the current task's FPU state if need be and loads this one. Interrupts are off.
    ///
    /// # Safety
    /// [`Self::leave`] follows before interrupts come on or the task sleeps.
    pub(crate) unsafe fn enter(&self) {
        let (low, high) = (self.components as u32, (self.components >> 32) as u32);
        // SAFETY: interrupts are off, so the kernel's own use of the FPU cannot nest; the image lies in a page, aligned, and is loadable
        // by the type's invariant; CR4.OSXSAVE and XCR0 are the host's.
        unsafe {
            kernel_fpu_begin_mask(0);
            if self.components == 0 {
                asm!("fxrstor64 [{}]", in(reg) self.page.as_ptr(), options(nostack, readonly, preserves_flags));
            } else {
                asm!("xrstor64 [{}]", in(reg) self.page.as_ptr(), in("eax") low, in("edx") high,
                    options(nostack, readonly, preserves_flags));
            }
        }
    }

    /// Saves the guest's state and gives the FPU back. XSAVE, which writes all of it: nothing of the image is ever out of date, as it could be
    /// with XSAVEOPT if somebody else restored from the same address.
    ///
    /// # Safety
    /// Follows [`Self::enter`], with the host's XCR0.
    pub(crate) unsafe fn leave(&mut self) {
        let (low, high) = (self.components as u32, (self.components >> 32) as u32);
        // SAFETY: the image lies in a page, aligned, which has room for the components. INVARIANT: the CPU never stores reserved MXCSR bits,
        // nor bits of XSTATE_BV beyond the components asked for, and leaves the rest of the header alone.
        unsafe {
            if self.components == 0 {
                asm!("fxsave64 [{}]", in(reg) self.page.as_ptr(), options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) self.page.as_ptr(), in("eax") low, in("edx") high,
                    options(nostack, preserves_flags));
            }
            kernel_fpu_end();
        }
    }
}
