//! The CPU that the guest sees: one profile, given to every engine alike.
//!
//! It is modelled on the Pentium M (family 6, model 9), the last widespread CPU without physical address extension: 32-bit, SSE2,
//! SYSENTER, no local APIC here, no MTRRs. Nothing is announced that the host's CPU or the engine cannot do, and there is no hypervisor
//! leaf: the guest is to behave as on bare hardware, on both engines the same. Leaf 80000008 is left out as on that CPU: its address
//! sizes would be 32 bits, which KVM refuses.
//!
//! Two leaves are newer than that CPU: 15 and 16 tell the TSC's and the CPU's frequency. Every port access leaves the guest, so a guest that had to
//! calibrate its TSC against the timer could not do it on a slow host (Linux wants 100,000 reads of port 61 per second).

use kvm_bindings::{kvm_cpuid_entry2, CpuId};

use crate::error::Error;

/// Family 6, model 9, stepping 5 (leaf 1 EAX, Intel SDM volume 2, CPUID).
const SIGNATURE: u32 = 0x0000_0695;
/// Leaf 1 EDX of the profile: FPU, PSE, TSC, MSR, CX8, SEP, PGE, CMOV, MMX, FXSR, SSE, SSE2.
const FEATURES: u32 =
    1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 11 | 1 << 13 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
/// What no guest of this machine can do without: FPU, TSC, MSR, CX8, CMOV.
const REQUIRED: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 15;
/// Leaf 2: 32 KiB caches for code (30) and data (2C), 1 MiB level 2 (7C).
const CACHES: [u32; 4] = [1, 0, 0, 0x002C_307C];
/// Leaf 80000007 EDX bit 8: the TSC runs at a constant rate in all states.
const INVARIANT_TSC: u32 = 1 << 8;

const VENDOR: &[u8; 12] = b"GenuineIntel";
const BRAND: &[u8; 48] = b"rvmm virtual 32-bit CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Leaf 15's crystal clock: 1 MHz, so that the ratio is the TSC's frequency in kHz over 1,000.
const CRYSTAL_HZ: u32 = 1_000_000;

/// What the profile depends on.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Leaf 1 EDX of what the engine supports.
    pub features: u32,
    /// The host's TSC is invariant.
    pub invariant_tsc: bool,
    /// The frequency of the guest's TSC, if the engine knows it.
    pub tsc_khz: Option<u32>,
}

impl Host {
    /// From the answer to KVM_GET_SUPPORTED_CPUID and from the CPU itself.
    pub fn new(supported: &CpuId, tsc_khz: Option<u32>) -> Self {
        let features = supported.as_slice().iter().find(|entry| entry.function == 1).map_or(0, |entry| entry.edx);
        Host { features, invariant_tsc: invariant_tsc(), tsc_khz }
    }
}

/// Whether the CPU that this process runs on says that its TSC is invariant. The engine's table may leave the bit out because it
/// would hinder migration, which is no concern here.
pub fn invariant_tsc() -> bool {
    // Newer compilers call it safe; older ones, which this crate supports too, want the block.
    #[allow(unused_unsafe)]
    let cpuid = |leaf| {
        // SAFETY: every CPU of this target has CPUID.
        unsafe { std::arch::x86_64::__cpuid(leaf) }
    };
    cpuid(0x8000_0000).eax >= 0x8000_0007 && cpuid(0x8000_0007).edx & INVARIANT_TSC != 0
}

/// The table for KVM_SET_CPUID2.
pub fn profile(host: Host) -> Result<CpuId, Error> {
    let engine = |what| Error::Capability { engine: "the engine's CPU".into(), what };
    if host.features & REQUIRED != REQUIRED {
        return Err(engine("one of the basic features FPU, TSC, MSR, CMPXCHG8B, CMOV"));
    }
    let [vendor_b, vendor_d, vendor_c] = words::<3>(VENDOR);
    // The leaves between 2 and 15 are all zeroes: no such feature.
    let highest = if host.tsc_khz.is_some() { 0x16 } else { 2 };
    let mut entries = vec![
        leaf(0, [highest, vendor_b, vendor_c, vendor_d]),
        leaf(1, [SIGNATURE, 0, 0, FEATURES & host.features]),
        leaf(2, CACHES),
        leaf(0x8000_0000, [0x8000_0007, 0, 0, 0]),
        leaf(0x8000_0001, [0; 4]),
    ];
    if let Some(khz) = host.tsc_khz {
        entries.push(leaf(0x15, [1000, khz, CRYSTAL_HZ, 0]));
        // Base and maximum frequency and the bus's, in MHz.
        entries.push(leaf(0x16, [khz / 1000, khz / 1000, 100, 0]));
    }
    let brand = words::<12>(BRAND);
    for (index, part) in (0u32..).zip(brand.chunks_exact(4)) {
        entries.push(leaf(0x8000_0002 + index, [part[0], part[1], part[2], part[3]]));
    }
    entries.push(leaf(0x8000_0005, [0; 4]));
    entries.push(leaf(0x8000_0006, [0; 4]));
    let invariant = if host.invariant_tsc { INVARIANT_TSC } else { 0 };
    entries.push(leaf(0x8000_0007, [0, 0, 0, invariant]));
    CpuId::from_entries(&entries).map_err(|_| engine("room for the CPUID table"))
}

fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

fn words<const N: usize>(text: &[u8]) -> [u32; N] {
    std::array::from_fn(|index| {
        text.iter().skip(index * 4).take(4).rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Host = Host { features: u32::MAX, invariant_tsc: true, tsc_khz: Some(2_600_000) };

    fn find(table: &CpuId, function: u32) -> kvm_cpuid_entry2 {
        *table.as_slice().iter().find(|entry| entry.function == function).unwrap()
    }

    #[test]
    fn the_profile_is_a_32_bit_cpu_without_apic_pae_and_hypervisor() {
        let table = profile(ALL).unwrap();
        let first = find(&table, 1);
        assert_eq!(first.edx, 0x0780_A939);
        assert_eq!(first.ecx, 0);
        assert_eq!(find(&table, 0x8000_0001).edx, 0, "no NX, no long mode, no SYSCALL");
        assert!(table.as_slice().iter().all(|entry| entry.function >> 24 != 0x40));
        let vendor = find(&table, 0);
        let text: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(text, VENDOR);
    }

    #[test]
    fn the_tsc_frequency_is_told_as_a_ratio() {
        let told = find(&profile(ALL).unwrap(), 0x15);
        assert_eq!(u64::from(told.ecx) * u64::from(told.ebx) / u64::from(told.eax), 2_600_000_000);
        assert_eq!(find(&profile(ALL).unwrap(), 0).eax, 0x16);
        assert_eq!(find(&profile(ALL).unwrap(), 0x16).eax, 2600);
    }

    #[test]
    fn what_the_host_lacks_is_not_announced() {
        let host = Host { features: !(1 << 26), invariant_tsc: false, tsc_khz: None };
        let table = profile(host).unwrap();
        assert_eq!(find(&table, 1).edx & (1 << 26), 0);
        assert_eq!(find(&table, 0x8000_0007).edx, 0);
        assert_eq!(find(&table, 0).eax, 2);
        assert!(profile(Host { features: 0, invariant_tsc: false, tsc_khz: None }).is_err());
    }
}
