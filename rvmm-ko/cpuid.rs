// SPDX-License-Identifier: GPL-2.0
//! KVM_GET_SUPPORTED_CPUID: what of the host's CPU a guest may be offered (SDM vol. 2 "CPUID", APM vol. 3 appendix E).

use crate::kvm_abi::{CpuidEntry, CPUID_INDEXED};
use crate::switch::cpu::cpuid;
use crate::switch::fpu;
use kernel::prelude::*;
use rvmm_arch::xstate::{self, component, Component};

/// Leaf 1 EDX: FPU, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, MMX, FXSR, SSE, SSE2. No APIC, MTRR, PAT, PSE36, MCE, VME.
const LEAF1_EDX: u32 = 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26;
/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND: user-mode instructions on the FXSAVE state. OSXSAVE,
/// bit 27, is the engine's to fill in.
const LEAF1_ECX: u32 = 1 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
/// … XSAVE, where the host uses it,
const LEAF1_ECX_XSAVE: u32 = 1 << 26;
/// … and FMA, AVX, F16C, where it has that state.
const LEAF1_ECX_AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
/// Leaf 7 EBX: FSGSBASE, BMI1, BMI2, ERMS, RDSEED, ADX. No SMEP, SMAP.
const LEAF7_EBX: u32 = 1 | 1 << 3 | 1 << 8 | 1 << 9 | 1 << 18 | 1 << 19;
/// … AVX2, with AVX's state.
const LEAF7_EBX_AVX: u32 = 1 << 5;
/// Leaf 7 ECX: RDPID, which reads the guest's IA32_TSC_AUX. No PKU, UMIP, LA57.
const LEAF7_ECX: u32 = 1 << 22;
/// Leaf DH, subleaf 1, EAX: XSAVEC and XGETBV with ECX=1. No XSAVES. No XSAVEOPT, which leaves out of an image what has not changed since an
/// XRSTOR from there at the same CPL: the guest's kernel and its programs have the same one here.
const XSTATE_EAX: u32 = 1 << 1 | 1 << 2;
/// Leaf 7 EDX: IA32_ARCH_CAPABILITIES, which holds what the client says, whatever the host's CPU.
const LEAF7_EDX: u32 = 1 << 29;
/// Leaf 80000001 ECX: LAHF and SAHF in 64-bit mode, LZCNT, PREFETCHW.
const LEAF80000001_ECX: u32 = 1 | 1 << 5 | 1 << 8;
/// Leaf 80000001 EDX: SYSCALL, NX, RDTSCP, long mode.
const LEAF80000001_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29;
/// … bits that AMD repeats there from leaf 1: 0 to 9, 12 to 17, 23 and 24.
const REPEATED_EDX: u32 = LEAF1_EDX & 0x0183_f3ff;
/// … 1 GiB pages: of the guest's tables only, so the host's CPU need not have them.
const GIB_PAGES: u32 = 1 << 26;
/// The leaf of the extended state.
const XSTATE_LEAF: u32 = 0xd;
/// The widest guest-physical addresses there can be.
const PHYSICAL_BITS: u32 = 40;
/// Linear addresses have four levels of tables.
const LINEAR_BITS: u32 = 48;

/// The table.
pub(crate) fn supported() -> Result<KVec<CpuidEntry>> {
    let mut table = KVec::new();
    let mut put = |function: u32, index: u32, flags: u32, [eax, ebx, ecx, edx]: [u32; 4]| -> Result {
        table.push(CpuidEntry { function, index, flags, eax, ebx, ecx, edx, padding: [0; 3] }, GFP_KERNEL)?;
        Ok(())
    };
    let xcr0 = fpu::offered();
    let avx = xcr0 & component::AVX != 0;
    let where_there = |there: bool, bits: u32| if there { bits } else { 0 };
    let [highest, vendor_b, vendor_c, vendor_d] = cpuid(0, 0);
    put(0, 0, 0, [highest.min(if xcr0 == 0 { 7 } else { XSTATE_LEAF }), vendor_b, vendor_c, vendor_d])?;
    let [signature, _, c, d] = cpuid(1, 0);
    // EBX: CLFLUSH line size and the initial APIC ID are the machine's matter.
    let leaf1_ecx = LEAF1_ECX | where_there(xcr0 != 0, LEAF1_ECX_XSAVE) | where_there(avx, LEAF1_ECX_AVX);
    put(1, 0, 0, [signature, 0, c & leaf1_ecx, d & LEAF1_EDX])?;
    if highest >= 7 {
        let [_, b, c, _] = cpuid(7, 0);
        let ebx = LEAF7_EBX | where_there(avx, LEAF7_EBX_AVX);
        put(7, 0, CPUID_INDEXED, [0, b & ebx, c & LEAF7_ECX, LEAF7_EDX])?;
    }
    if xcr0 != 0 {
        extended_state(xcr0, &mut put)?;
    }
    let highest_extended = cpuid(0x8000_0000, 0)[0].min(0x8000_0008);
    put(0x8000_0000, 0, 0, [highest_extended, 0, 0, 0])?;
    for leaf in 0x8000_0001..=highest_extended {
        let [a, b, c, d] = cpuid(leaf, 0);
        let regs = match leaf {
            0x8000_0001 => [a, 0, c & LEAF80000001_ECX, d & (LEAF80000001_EDX | REPEATED_EDX) | GIB_PAGES],
            0x8000_0002..=0x8000_0006 => [a, b, c, d],
            // Only what says that the TSC is invariant.
            0x8000_0007 => [0, 0, 0, d & 1 << 8],
            _ => [(a & 0xff).min(PHYSICAL_BITS) | LINEAR_BITS << 8, 0, 0, 0],
        };
        put(leaf, 0, 0, regs)?;
    }
    Ok(table)
}

/// Leaf DH for the components `xcr0`. Sizes that depend on the guest's XCR0 are the engine's to fill in.
fn extended_state(xcr0: u64, put: &mut impl FnMut(u32, u32, u32, [u32; 4]) -> Result) -> Result {
    let leaf = |n| cpuid(XSTATE_LEAF, n);
    let size = xstate::standard_size(xcr0, |n| Component::from_cpuid(leaf(n)));
    put(XSTATE_LEAF, 0, CPUID_INDEXED, [xcr0 as u32, xstate::MIN_SIZE, size, (xcr0 >> 32) as u32])?;
    put(XSTATE_LEAF, 1, CPUID_INDEXED, [leaf(1)[0] & XSTATE_EAX, 0, 0, 0])?;
    for n in (2..63).filter(|n: &u32| xcr0.wrapping_shr(*n) & 1 != 0) {
        put(XSTATE_LEAF, n, CPUID_INDEXED, leaf(n))?;
    }
    Ok(())
}
