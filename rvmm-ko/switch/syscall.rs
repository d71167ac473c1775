// SPDX-License-Identifier: GPL-2.0
//! The MSRs of SYSCALL: the host's, and what they are while a guest's program may execute it (docs/safety.md, "SYSCALL in the guest
//! world").

use super::cpu;
use super::layout::HOST_CS;
use rvmm_arch::host::SyscallSupport;
use rvmm_arch::regs::Rflags;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SFMASK: u32 = 0xc000_0084;

/// All of them.
pub(super) const MSRS: [u32; 4] = [MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK];

/// Flags that must be clear at the first instruction behind SYSCALL.
const MASKED: u64 = Rflags::TF
    .union(Rflags::IF)
    .union(Rflags::DF)
    .union(Rflags::IOPL)
    .union(Rflags::NT)
    .union(Rflags::RF)
    .union(Rflags::AC)
    .bits();

/// The host's MSRs. Not only its own kernel sets them: KVM's modules leave their guest's values there until the task returns to
/// user mode. So they are read each time.
pub(super) struct SyscallMsrs {
    star: u64,
    lstar: u64,
    cstar: u64,
    sfmask: u64,
}

impl SyscallMsrs {
    /// SYSCALL leads to the image: from 64-bit code to `long`, from compatibility code to `compat`.
    ///
    /// # Safety
    /// [`support`] is not `None`, both addresses are canonical, interrupts are off and stay so until `restore`.
    pub(super) unsafe fn replace(long: u64, compat: u64) -> Self {
        // SAFETY: by the contract the CPU has the MSRs, and the values are valid for them.
        unsafe {
            let host = Self {
                star: cpu::rdmsr(MSR_STAR),
                lstar: cpu::rdmsr(MSR_LSTAR),
                cstar: cpu::rdmsr(MSR_CSTAR),
                sfmask: cpu::rdmsr(MSR_SFMASK),
            };
            if host.star != host.wanted_star() {
                cpu::wrmsr(MSR_STAR, host.wanted_star());
            }
            if host.sfmask & MASKED != MASKED {
                cpu::wrmsr(MSR_SFMASK, MASKED);
            }
            cpu::wrmsr(MSR_LSTAR, long);
            // Also where compatibility code has no SYSCALL: QEMU without KVM gives it to all in long mode.
            cpu::wrmsr(MSR_CSTAR, compat);
            host
        }
    }

    /// With CS 0x10, which is the host's anyway.
    fn wanted_star(&self) -> u64 {
        (self.star & !(0xffff << 32)) | u64::from(HOST_CS) << 32
    }

    /// Puts the host's back.
    ///
    /// # Safety
    /// On the same CPU as `replace`, interrupts still off.
    pub(super) unsafe fn restore(self) {
        // SAFETY: the values were read from the same MSRs.
        unsafe {
            cpu::wrmsr(MSR_CSTAR, self.cstar);
            cpu::wrmsr(MSR_LSTAR, self.lstar);
            if self.sfmask & MASKED != MASKED {
                cpu::wrmsr(MSR_SFMASK, self.sfmask);
            }
            if self.star != self.wanted_star() {
                cpu::wrmsr(MSR_STAR, self.star);
            }
        }
    }
}

/// What this CPU has. In a TDX guest a write to CSTAR raises #VE, and nothing tells in advance (Linux, arch/x86/kernel/cpu/common.c).
pub(crate) fn support() -> SyscallSupport {
    let vendor = |leaf: u32| {
        let [highest, b, c, d] = cpu::cpuid(leaf, 0);
        (highest, [b, d, c])
    };
    let is =
        |words: [u32; 3], name: &[u8; 12]| words.iter().flat_map(|w| w.to_le_bytes()).zip(name).all(|(a, b)| a == *b);
    let (highest, maker) = vendor(0);
    if highest >= 0x21 && is(vendor(0x21).1, b"IntelTDX    ") {
        return SyscallSupport::None;
    }
    if is(maker, b"AuthenticAMD") || is(maker, b"HygonGenuine") {
        SyscallSupport::Compatibility
    } else {
        SyscallSupport::Long
    }
}
