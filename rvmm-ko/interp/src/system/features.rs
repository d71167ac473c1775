//! What the guest's CPUID announces: an instruction, a control bit or an MSR exists for it only then.

use rvmm_arch::machine::Machine;
use rvmm_arch::VcpuState;

/// A feature bit of CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Feature {
    leaf: u32,
    register: usize,
    bit: u32,
}

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

macro_rules! features {
    ($($name:ident = $leaf:literal $register:ident $bit:literal;)+) => {
        #[allow(missing_docs)]
        impl Feature {
            $(pub const $name: Self = Self { leaf: $leaf, register: $register, bit: $bit };)+
        }
    };
}

features! {
    VME = 1 EDX 1;
    DE = 1 EDX 2;
    PSE = 1 EDX 3;
    TSC = 1 EDX 4;
    MSR = 1 EDX 5;
    PAE = 1 EDX 6;
    MCE = 1 EDX 7;
    APIC = 1 EDX 9;
    SEP = 1 EDX 11;
    MTRR = 1 EDX 12;
    PGE = 1 EDX 13;
    MCA = 1 EDX 14;
    PAT = 1 EDX 16;
    PSE36 = 1 EDX 17;
    FXSR = 1 EDX 24;
    SSE = 1 EDX 25;
    MONITOR = 1 ECX 3;
    PCID = 1 ECX 17;
    XSAVE = 1 ECX 26;
    RDRAND = 1 ECX 30;
    FSGSBASE = 7 EBX 0;
    SMEP = 7 EBX 7;
    INVPCID = 7 EBX 10;
    RDSEED = 7 EBX 18;
    SMAP = 7 EBX 20;
    UMIP = 7 ECX 2;
    PKU = 7 ECX 3;
    WAITPKG = 7 ECX 5;
    LA57 = 7 ECX 16;
    RDPID = 7 ECX 22;
    SERIALIZE = 7 EDX 14;
    ARCH_CAPABILITIES = 7 EDX 29;
    SYSCALL = 0x8000_0001 EDX 11;
    NX = 0x8000_0001 EDX 20;
    RDTSCP = 0x8000_0001 EDX 27;
    LM = 0x8000_0001 EDX 29;
    MONITORX = 0x8000_0001 ECX 29;
}

/// Whose CPU the guest believes to be on, as far as it matters to MSRs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vendor {
    /// "AuthenticAMD" and "HygonGenuine".
    Amd,
    /// Anyone else.
    Intel,
}

/// A CPUID leaf, or zeros beyond the highest one of its range.
fn leaf<M: Machine>(cpu: &VcpuState, m: &mut M, leaf: u32) -> [u32; 4] {
    let [highest, ..] = m.cpuid(cpu, leaf & 0x8000_0000, 0);
    if highest & 0x8000_0000 == leaf & 0x8000_0000 && leaf <= highest {
        m.cpuid(cpu, leaf, 0)
    } else {
        [0; 4]
    }
}

/// Is the feature announced?
pub(super) fn has<M: Machine>(cpu: &VcpuState, m: &mut M, feature: Feature) -> bool {
    let registers = leaf(cpu, m, feature.leaf);
    registers.get(feature.register).is_some_and(|r| r.wrapping_shr(feature.bit) & 1 != 0)
}

/// The vendor.
pub(super) fn vendor<M: Machine>(cpu: &VcpuState, m: &mut M) -> Vendor {
    let [_, ebx, _, _] = m.cpuid(cpu, 0, 0);
    if ebx == u32::from_le_bytes(*b"Auth") || ebx == u32::from_le_bytes(*b"Hygo") {
        Vendor::Amd
    } else {
        Vendor::Intel
    }
}

/// Width of physical addresses in bits (SDM vol. 3 §4.1.4).
pub(super) fn physical_bits<M: Machine>(cpu: &VcpuState, m: &mut M) -> u32 {
    match leaf(cpu, m, 0x8000_0008)[EAX] & 0xff {
        0 if has(cpu, m, Feature::PAE) || has(cpu, m, Feature::PSE36) => 36,
        0 => 32,
        bits => bits.min(52),
    }
}

/// The user state components that XCR0 may hold.
pub(super) fn xcr0_supported<M: Machine>(cpu: &VcpuState, m: &mut M) -> u64 {
    let [low, _, _, high] = leaf(cpu, m, 0xd);
    u64::from(high) << 32 | u64::from(low)
}

/// Are XSAVES and XRSTORS announced (leaf 0DH, subleaf 1, EAX bit 3)?
pub(super) fn has_xsaves<M: Machine>(cpu: &VcpuState, m: &mut M) -> bool {
    let [highest, ..] = m.cpuid(cpu, 0, 0);
    highest >= 0xd && m.cpuid(cpu, 0xd, 1)[EAX] >> 3 & 1 != 0
}
