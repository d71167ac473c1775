// SPDX-License-Identifier: GPL-2.0
//! KVM_GET_SUPPORTED_CPUID: what of the host's CPU a guest may be offered (SDM vol. 2 "CPUID", APM vol. 3 appendix E).

use crate::kvm_abi::{CpuidEntry, CPUID_INDEXED};
use crate::switch::cpu::cpuid;
use kernel::prelude::*;

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
/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND: user-mode instructions on the FXSAVE state.
const LEAF1_ECX: u32 = 1 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
/// Leaf 7 EBX: FSGSBASE, BMI1, BMI2, ERMS, RDSEED, ADX. No SMEP, SMAP; no AVX2 and later.
const LEAF7_EBX: u32 = 1 | 1 << 3 | 1 << 8 | 1 << 9 | 1 << 18 | 1 << 19;
/// Leaf 7 EDX: IA32_ARCH_CAPABILITIES, which holds what the client says, whatever the host's CPU.
const LEAF7_EDX: u32 = 1 << 29;
/// Leaf 80000001 ECX: LAHF and SAHF in 64-bit mode, LZCNT, PREFETCHW.
const LEAF80000001_ECX: u32 = 1 | 1 << 5 | 1 << 8;
/// Leaf 80000001 EDX: SYSCALL, NX, long mode. No RDTSCP, whose TSC_AUX would be the host's in guest user mode.
const LEAF80000001_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 29;
/// … bits that AMD repeats there from leaf 1: 0 to 9, 12 to 17, 23 and 24.
const REPEATED_EDX: u32 = LEAF1_EDX & 0x0183_f3ff;
/// … 1 GiB pages: of the guest's tables only, so the host's CPU need not have them.
const GIB_PAGES: u32 = 1 << 26;
/// The widest guest-physical addresses there can be.
const PHYSICAL_BITS: u32 = 40;
/// Linear addresses have four levels of tables.
const LINEAR_BITS: u32 = 48;

/// The table.
pub(crate) fn supported() -> Result<KVec<CpuidEntry>> {
    let mut table = KVec::new();
    let mut put = |function: u32, flags: u32, [eax, ebx, ecx, edx]: [u32; 4]| -> Result {
        table.push(CpuidEntry { function, index: 0, flags, eax, ebx, ecx, edx, padding: [0; 3] }, GFP_KERNEL)?;
        Ok(())
    };
    let [highest, vendor_b, vendor_c, vendor_d] = cpuid(0, 0);
    put(0, 0, [highest.min(7), vendor_b, vendor_c, vendor_d])?;
    let [signature, _, c, d] = cpuid(1, 0);
    // EBX: CLFLUSH line size and the initial APIC ID are the machine's matter.
    put(1, 0, [signature, 0, c & LEAF1_ECX, d & LEAF1_EDX])?;
    if highest >= 7 {
        let [_, b, _, _] = cpuid(7, 0);
        put(7, CPUID_INDEXED, [0, b & LEAF7_EBX, 0, LEAF7_EDX])?;
    }
    let highest_extended = cpuid(0x8000_0000, 0)[0].min(0x8000_0008);
    put(0x8000_0000, 0, [highest_extended, 0, 0, 0])?;
    for leaf in 0x8000_0001..=highest_extended {
        let [a, b, c, d] = cpuid(leaf, 0);
        let regs = match leaf {
            0x8000_0001 => [a, 0, c & LEAF80000001_ECX, d & (LEAF80000001_EDX | REPEATED_EDX) | GIB_PAGES],
            0x8000_0002..=0x8000_0006 => [a, b, c, d],
            // Only what says that the TSC is invariant.
            0x8000_0007 => [0, 0, 0, d & 1 << 8],
            _ => [(a & 0xff).min(PHYSICAL_BITS) | LINEAR_BITS << 8, 0, 0, 0],
        };
        put(leaf, 0, regs)?;
    }
    Ok(table)
}
