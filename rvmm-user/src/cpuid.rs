//! The CPU that the guest sees: one of few profiles, given to every engine alike (docs/machine.md has the reasons).
//!
//! - [`Model::Bits32`] is modelled on the Pentium M (family 6, model 9), the last widespread CPU without physical address extension:
//!   32-bit, SSE2, SYSENTER. Leaf 80000008 is left out as on that CPU: its address sizes would be 32 bits, which KVM refuses.
//! - [`Model::Pae`] is its successor (model 13) with PAE and NX.
//! - [`Model::Bits64`] is modelled on the Core 2 (family 6, model 15) or, with [`Vendor::Amd`], on the Athlon 64 X2 (family 15, model 107):
//!   long mode, and besides what 64-bit kernels gain most by, FSGSBASE and ERMS, and what programs do, XSAVE and AVX, AVX2, FMA, F16C.
//!
//! A local APIC is the machine's matter. None has MTRRs or a hypervisor leaf: the guest is to behave as on bare hardware, on both engines the same. Nothing
//! is announced that the host's CPU or the engine cannot do.
//!
//! Two leaves are newer than those CPUs: 15 and 16 tell the TSC's and the CPU's frequency. Every port access leaves the guest, so a
//! guest that had to calibrate its TSC against the timer could not do it on a slow host (Linux wants 100,000 reads of port 61 per
//! second). Linux believes them of an Intel CPU only, which is one reason for the usual vendor; AMD's profile does not have them.

use kvm_bindings::{kvm_cpuid_entry2, CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX};

use crate::devices::lapic;
use crate::error::Error;
use crate::vulnerabilities::ArchCapabilities;

/// How wide a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Without PAE and long mode.
    Bits32,
    /// With PAE and NX, without long mode.
    Pae,
    /// With all of them.
    Bits64,
}

/// Whose CPU, which decides between two behaviours where the vendors differ (SYSCALL and SYSENTER in compatibility mode, for instance).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// `GenuineIntel`.
    Intel,
    /// `AuthenticAMD`, 64-bit only.
    Amd,
}

/// The CPU asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub model: Model,
    pub vendor: Vendor,
}

/// Leaf 1 EDX of all profiles: FPU, PSE, TSC, MSR, CX8, SEP, PGE, CMOV, MMX, FXSR, SSE, SSE2.
const FEATURES: u32 =
    1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 11 | 1 << 13 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
/// What no guest of this machine can do without: FPU, TSC, MSR, CX8, CMOV.
const REQUIRED: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 15;
/// Leaf 1 EDX bit 9: the machine's, so engines are not asked.
const APIC: u32 = 1 << 9;
/// Leaf 1 EDX bit 6.
const PAE: u32 = 1 << 6;
/// Leaf 1 EDX bit 19: CLFLUSH, whose line size stands in EBX bits 15–8, in units of 8 bytes.
const CLFLUSH: u32 = 1 << 19;
const CLFLUSH_LINE: u32 = 8 << 8;
/// Leaf 1 ECX: SSE3 and CX16.
const FEATURES_C_64: u32 = 1 << 0 | 1 << 13;
/// … XSAVE, and what needs AVX's state: FMA, AVX, F16C.
const XSAVE: u32 = 1 << 26;
const FEATURES_C_AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
/// Leaf 7 EBX: FSGSBASE and ERMS.
const STRUCTURED_B_64: u32 = 1 << 0 | 1 << 9;
/// … AVX2.
const STRUCTURED_B_AVX: u32 = 1 << 5;
/// The leaf of the extended state (Intel SDM volume 1, chapter 13).
const XSTATE: u32 = 0xD;
/// Components: x87 and SSE, without which there is no XSAVE, and AVX. Not PKRU and AVX-512, which rvmm does not switch.
const XSTATE_LEGACY: u32 = 3;
const XSTATE_AVX: u32 = 1 << 2;
/// Subleaf 1 EAX: XSAVEC and XGETBV with ECX=1. Not XSAVES, which reaches supervisor state, nor XSAVEOPT, which rvmm does not have.
const XSTATE_EAX: u32 = 1 << 1 | 1 << 2;
/// The legacy area and the header of an image.
const XSTATE_MIN_SIZE: u32 = 576;
/// Leaf 7 EDX bit 29: IA32_ARCH_CAPABILITIES is there.
const ARCH_CAPABILITIES: u32 = 1 << 29;
/// Leaf 80000001 EDX: NX.
const NX: u32 = 1 << 20;
/// … SYSCALL, NX and LM, which a 64-bit CPU has,
const EXTENDED_D_REQUIRED: u32 = 1 << 11 | NX | 1 << 29;
/// … and pages of 1 GiB.
const EXTENDED_D_64: u32 = EXTENDED_D_REQUIRED | 1 << 26;
/// Leaf 80000001 ECX: LAHF and SAHF in 64-bit mode.
const EXTENDED_C_64: u32 = 1 << 0;
/// Leaf 80000008 EAX: 48 bits of linear addresses, 40 of physical ones or as many as the host has.
const LINEAR_BITS: u32 = 48;
const PHYSICAL_BITS: u32 = 40;
/// Leaf 2: 32 KiB caches for code (30) and data (2C), 1 MiB level 2 (7C).
const CACHES: [u32; 4] = [1, 0, 0, 0x002C_307C];
/// Leaf 80000007 EDX bit 8: the TSC runs at a constant rate in all states.
const INVARIANT_TSC: u32 = 1 << 8;

/// Leaf 15's crystal clock: 1 MHz, so that the ratio is the TSC's frequency in kHz over 1,000.
const CRYSTAL_HZ: u32 = 1_000_000;

impl Wanted {
    /// Leaf 1 EAX (Intel SDM volume 2, CPUID; AMD's CPUID specification 25481): family 6, models 9, 13 and 15, steppings 5, 8 and 1;
    /// family 15, model 107, stepping 1.
    const fn signature(self) -> u32 {
        match (self.model, self.vendor) {
            (Model::Bits32, _) => 0x0695,
            (Model::Pae, _) => 0x06D8,
            (Model::Bits64, Vendor::Intel) => 0x06F1,
            (Model::Bits64, Vendor::Amd) => 0x0006_0FB1,
        }
    }

    const fn brand(self) -> &'static [u8] {
        match self.model {
            Model::Bits32 | Model::Pae => b"rvmm virtual 32-bit CPU",
            Model::Bits64 => b"rvmm virtual 64-bit CPU",
        }
    }
}

impl Vendor {
    const fn name(self) -> &'static [u8; 12] {
        match self {
            Vendor::Intel => b"GenuineIntel",
            Vendor::Amd => b"AuthenticAMD",
        }
    }
}

/// What the profile depends on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The answer to KVM_GET_SUPPORTED_CPUID.
    pub supported: CpuId,
    /// The host's TSC is invariant.
    pub invariant_tsc: bool,
    /// The machine has a local APIC.
    pub apic: bool,
    /// The frequency of the guest's TSC, if the engine knows it.
    pub tsc_khz: Option<u32>,
    /// What the guest need not protect itself against.
    pub capabilities: ArchCapabilities,
}

/// A profile as far as others depend on it.
#[derive(Debug)]
pub struct Profile {
    /// The table for KVM_SET_CPUID2.
    pub table: CpuId,
    pub model: Model,
    /// There is a local APIC.
    pub apic: bool,
    /// IA32_ARCH_CAPABILITIES, if it is announced.
    pub capabilities: Option<ArchCapabilities>,
}

/// A register of a leaf that an engine supports: 0 EAX, 1 EBX, 2 ECX, 3 EDX.
fn offers(supported: &CpuId, function: u32, register: usize) -> u32 {
    offers_at(supported, function, 0, register)
}

/// The same of a subleaf.
fn offers_at(supported: &CpuId, function: u32, index: u32, register: usize) -> u32 {
    let leaf = supported.as_slice().iter().find(|entry| entry.function == function && entry.index == index);
    leaf.and_then(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx].get(register).copied()).unwrap_or(0)
}

/// Whether an engine's CPU can be one like that.
fn can_be(supported: &CpuId, model: Model) -> bool {
    let extended = match model {
        Model::Bits32 => return true,
        Model::Pae => NX,
        Model::Bits64 => EXTENDED_D_REQUIRED,
    };
    offers(supported, 1, EDX) & PAE != 0 && offers(supported, 0x8000_0001, EDX) & extended == extended
}

/// Whether an engine with this answer to KVM_GET_SUPPORTED_CPUID takes 64-bit guests.
pub fn has_long_mode(supported: &CpuId) -> bool {
    can_be(supported, Model::Bits64)
}

impl Host {
    fn offers(&self, function: u32, register: usize) -> u32 {
        offers(&self.supported, function, register)
    }

    /// The feature bit of the local APIC.
    fn local_apic(&self) -> u32 {
        if self.apic {
            APIC
        } else {
            0
        }
    }

    fn can_be(&self, model: Model) -> bool {
        can_be(&self.supported, model)
    }

    /// The components of the extended state that the 64-bit profile has: 0 if the engine has no XSAVE.
    fn components(&self) -> u32 {
        let offered = self.offers(XSTATE, EAX) & (XSTATE_LEGACY | XSTATE_AVX);
        let xsave = self.offers(1, ECX) & XSAVE != 0 && offered & XSTATE_LEGACY == XSTATE_LEGACY;
        match (xsave, self.offers(1, ECX) >> 28 & 1 != 0) {
            (false, _) => 0,
            (true, true) => offered,
            (true, false) => offered & !XSTATE_AVX,
        }
    }
}

impl Profile {
    /// Leaf 1 EAX: family, model, stepping.
    pub fn signature(&self) -> u32 {
        self.table.as_slice().iter().find(|entry| entry.function == 1).map_or(0, |entry| entry.eax)
    }

    /// Leaf 1 EDX.
    pub fn features(&self) -> u32 {
        self.table.as_slice().iter().find(|entry| entry.function == 1).map_or(0, |entry| entry.edx)
    }

    /// Takes the announcement of IA32_ARCH_CAPABILITIES back.
    pub fn withdraw_capabilities(&mut self) {
        self.capabilities = None;
        for entry in self.table.as_mut_slice().iter_mut().filter(|entry| entry.function == 7) {
            entry.edx &= !ARCH_CAPABILITIES;
        }
    }
}

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

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

/// The profile of the CPU asked for; if none was, that of the 64-bit one where the engine can be that, else of the 32-bit one.
pub fn profile(host: &Host, wanted: Option<Wanted>) -> Result<Profile, Error> {
    let engine = |what| Error::Capability { engine: "the engine's CPU".into(), what };
    if host.offers(1, EDX) & REQUIRED != REQUIRED {
        return Err(engine("one of the basic features FPU, TSC, MSR, CMPXCHG8B, CMOV"));
    }
    let cpu = wanted.unwrap_or(Wanted {
        model: if host.can_be(Model::Bits64) { Model::Bits64 } else { Model::Bits32 },
        vendor: Vendor::Intel,
    });
    if !host.can_be(cpu.model) {
        return Err(engine(match cpu.model {
            Model::Bits32 | Model::Pae => "PAE and NX (--cpu pae)",
            Model::Bits64 => "long mode with PAE, NX and SYSCALL (--cpu 64)",
        }));
    }
    let mut entries = common(host, cpu);
    let features = FEATURES & host.offers(1, EDX) | host.local_apic();
    let mut capabilities = None;
    match cpu.model {
        Model::Bits32 => {
            entries.push(leaf(1, [cpu.signature(), 0, 0, features]));
            entries.push(leaf(0x8000_0001, [0; 4]));
        }
        Model::Pae => {
            entries.push(leaf(1, [cpu.signature(), 0, 0, features | PAE]));
            entries.push(leaf(0x8000_0001, [0, 0, 0, NX]));
        }
        Model::Bits64 => {
            if cpu.vendor == Vendor::Intel && host.offers(7, EDX) & ARCH_CAPABILITIES != 0 {
                capabilities = Some(host.capabilities);
            }
            entries.extend(wide(host, cpu, capabilities.is_some()));
            entries.extend(extended_state(host));
        }
    }
    let table = CpuId::from_entries(&entries).map_err(|_| engine("room for the CPUID table"))?;
    Ok(Profile { table, model: cpu.model, apic: host.apic, capabilities })
}

/// The leaves that all profiles have, except for their features.
fn common(host: &Host, cpu: Wanted) -> Vec<kvm_cpuid_entry2> {
    let [vendor_b, vendor_d, vendor_c] = words::<3>(cpu.vendor.name());
    let tsc_khz = host.tsc_khz.filter(|_| cpu.vendor == Vendor::Intel);
    // The leaves between the highest one of the profile and 15 are all zeroes: no such feature.
    let highest = match (tsc_khz, cpu.model) {
        (Some(_), _) => 0x16,
        (None, Model::Bits64) if host.components() != 0 => XSTATE,
        (None, Model::Bits64) => 7,
        (None, Model::Bits32 | Model::Pae) => 2,
    };
    let highest_extended = match cpu.model {
        Model::Bits32 | Model::Pae => 0x8000_0007,
        Model::Bits64 => 0x8000_0008,
    };
    let mut entries = vec![
        leaf(0, [highest, vendor_b, vendor_c, vendor_d]),
        leaf(2, if cpu.vendor == Vendor::Intel { CACHES } else { [0; 4] }),
        leaf(0x8000_0000, [highest_extended, 0, 0, 0]),
        leaf(0x8000_0005, [0; 4]),
        leaf(0x8000_0006, [0; 4]),
        leaf(0x8000_0007, [0, 0, 0, if host.invariant_tsc { INVARIANT_TSC } else { 0 }]),
    ];
    if let Some(khz) = tsc_khz {
        entries.push(leaf(0x15, if host.apic { ratio_to_bus(khz) } else { [1000, khz, CRYSTAL_HZ, 0] }));
        // Base and maximum frequency and the bus's, in MHz.
        entries.push(leaf(0x16, [khz / 1000, khz / 1000, 100, 0]));
    }
    let brand = words::<12>(cpu.brand());
    for (index, part) in (0u32..).zip(brand.chunks_exact(4)) {
        entries.push(leaf(0x8000_0002 + index, [part[0], part[1], part[2], part[3]]));
    }
    entries
}

/// Leaf 15 with a local APIC: its timer counts at the crystal clock, says the manual, so that is the timer's. The ratio is the nearest one with
/// which the product of kHz that Linux forms stays in 32 bits: off by some millionths.
fn ratio_to_bus(khz: u32) -> [u32; 4] {
    let bus_khz = lapic::FREQUENCY_HZ / 1000;
    let khz = u64::from(khz);
    let largest = u64::from(u32::MAX) / bus_khz;
    let ratios = (1..=largest).map(|denominator| {
        let numerator = (khz * denominator + bus_khz / 2) / bus_khz;
        (numerator, denominator)
    });
    let usable = ratios.filter(|(numerator, _)| (1..=largest).contains(numerator));
    // In billionths of the frequency.
    let error = |(numerator, denominator): (u64, u64)| {
        (bus_khz * numerator * 1_000_000_000 / denominator).abs_diff(khz * 1_000_000_000) / khz.max(1)
    };
    match usable.min_by_key(|ratio| error(*ratio)) {
        Some((numerator, denominator)) => [denominator as u32, numerator as u32, lapic::FREQUENCY_HZ as u32, 0],
        // Slower than a tick of the bus can tell: not enumerated.
        None => [0; 4],
    }
}

/// The features of the 64-bit profile.
fn wide(host: &Host, cpu: Wanted, capabilities: bool) -> [kvm_cpuid_entry2; 4] {
    let features = (FEATURES | PAE | CLFLUSH) & host.offers(1, EDX) | host.local_apic();
    let line = if features & CLFLUSH != 0 { CLFLUSH_LINE } else { 0 };
    let physical = match host.offers(0x8000_0008, EAX) & 0xFF {
        0 => 36,
        bits => bits.min(PHYSICAL_BITS),
    };
    let (xsave, avx) = (host.components() != 0, host.components() & XSTATE_AVX != 0);
    let features_c = FEATURES_C_64 | if xsave { XSAVE } else { 0 } | if avx { FEATURES_C_AVX } else { 0 };
    let structured_b = STRUCTURED_B_64 | if avx { STRUCTURED_B_AVX } else { 0 };
    let structured = [0, structured_b & host.offers(7, EBX), 0, if capabilities { ARCH_CAPABILITIES } else { 0 }];
    let extended = [0, 0, EXTENDED_C_64 & host.offers(0x8000_0001, ECX), EXTENDED_D_64 & host.offers(0x8000_0001, EDX)];
    [
        leaf(1, [cpu.signature(), line, features_c & host.offers(1, ECX), features]),
        kvm_cpuid_entry2 { flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, ..leaf(7, structured) },
        leaf(0x8000_0001, extended),
        leaf(0x8000_0008, [LINEAR_BITS << 8 | physical, 0, 0, 0]),
    ]
}

/// Leaf D of the 64-bit profile, empty without XSAVE. Sizes that follow the guest's XCR0 are the engine's to fill in.
fn extended_state(host: &Host) -> Vec<kvm_cpuid_entry2> {
    let components = host.components();
    if components == 0 {
        return Vec::new();
    }
    let subleaf = |index, registers| kvm_cpuid_entry2 {
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..leaf(XSTATE, registers)
    };
    let offered = |register| offers_at(&host.supported, XSTATE, 2, register);
    let (size, offset) = (offered(EAX), offered(EBX));
    let avx = components & XSTATE_AVX != 0;
    let all = if avx { size.saturating_add(offset) } else { XSTATE_MIN_SIZE };
    let optional = offers_at(&host.supported, XSTATE, 1, EAX) & XSTATE_EAX;
    let mut entries = vec![subleaf(0, [components, XSTATE_MIN_SIZE, all, 0]), subleaf(1, [optional, 0, 0, 0])];
    if avx {
        entries.push(subleaf(2, [size, offset, offered(ECX), 0]));
    }
    entries
}

fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

fn words<const N: usize>(text: &[u8]) -> [u32; N] {
    std::array::from_fn(|index| {
        let bytes: [u8; 4] = std::array::from_fn(|byte| text.get(index * 4 + byte).copied().unwrap_or(0));
        u32::from_le_bytes(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine with these bits in leaf 1 EDX, and with everything elsewhere.
    fn host(features: u32) -> Host {
        let all = |function| leaf(function, [0x3030, u32::MAX, u32::MAX, u32::MAX]);
        let first = kvm_cpuid_entry2 { edx: features, ..all(1) };
        let part = |index, registers| kvm_cpuid_entry2 { index, ..leaf(XSTATE, registers) };
        let state = [
            part(0, [0x2E7, 9, 9, 0]),
            part(1, [0xF, 9, 0x100, 0]),
            part(2, [256, 576, 0, 0]),
            part(9, [8, 2688, 0, 0]),
        ];
        let entries = [&[first, all(7), all(0x8000_0001), all(0x8000_0008)][..], &state].concat();
        let supported = CpuId::from_entries(&entries).unwrap();
        let capabilities = ArchCapabilities(0x21);
        Host { supported, invariant_tsc: true, apic: false, tsc_khz: Some(2_600_000), capabilities }
    }

    const fn intel(model: Model) -> Option<Wanted> {
        Some(Wanted { model, vendor: Vendor::Intel })
    }

    fn find(profile: &Profile, function: u32) -> kvm_cpuid_entry2 {
        *profile.table.as_slice().iter().find(|entry| entry.function == function).unwrap()
    }

    #[test]
    fn the_32_bit_profile_is_without_apic_pae_and_hypervisor() {
        let profile = profile(&host(u32::MAX), intel(Model::Bits32)).unwrap();
        let first = find(&profile, 1);
        assert_eq!((first.eax, first.ebx, first.ecx, first.edx), (0x695, 0, 0, 0x0780_A939));
        assert_eq!(find(&profile, 0x8000_0001).edx, 0, "no NX, no long mode, no SYSCALL");
        assert_eq!(find(&profile, 0x8000_0000).eax, 0x8000_0007, "no address sizes");
        assert!(profile.table.as_slice().iter().all(|entry| entry.function != 7));
        assert!(profile.capabilities.is_none());
    }

    #[test]
    fn the_64_bit_profile_has_long_mode_and_what_belongs_to_it() {
        let mut profile = profile(&host(u32::MAX), intel(Model::Bits64)).unwrap();
        let first = find(&profile, 1);
        assert_eq!((first.eax, first.ebx, first.ecx, first.edx), (0x6F1, 0x800, 0x3400_3001, 0x0788_A979));
        let seventh = find(&profile, 7);
        assert_eq!((seventh.ebx, seventh.ecx, seventh.edx), (0x221, 0, 1 << 29));
        let extended = find(&profile, 0x8000_0001);
        assert_eq!((extended.ecx, extended.edx), (1, 0x2410_0800));
        assert_eq!(find(&profile, 0x8000_0008).eax, 0x3028);
        assert_eq!(profile.capabilities, Some(ArchCapabilities(0x21)));
        profile.withdraw_capabilities();
        assert_eq!((find(&profile, 7).edx, profile.capabilities), (0, None));
    }

    #[test]
    fn no_profile_has_apic_pku_or_a_hypervisor() {
        for model in [Model::Bits32, Model::Pae, Model::Bits64] {
            let profile = profile(&host(u32::MAX), intel(model)).unwrap();
            let first = find(&profile, 1);
            assert_eq!(first.edx & (1 << 9 | 1 << 12 | 1 << 14), 0, "APIC, MTRR, MCA");
            assert_eq!(first.ecx & (1 << 21 | 1 << 27 | 1 << 31), 0, "x2APIC, OSXSAVE, hypervisor");
            assert_eq!(first.ecx & XSAVE != 0, model == Model::Bits64);
            assert!(profile.table.as_slice().iter().all(|entry| entry.function >> 24 != 0x40));
            assert!(profile.table.as_slice().iter().all(|entry| entry.function != 7 || entry.ecx == 0), "PKU, RDPID");
            let state: Vec<_> = profile.table.as_slice().iter().filter(|entry| entry.function == XSTATE).collect();
            assert_eq!(state.is_empty(), model != Model::Bits64);
            let vendor = find(&profile, 0);
            let text: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
            assert_eq!(text, b"GenuineIntel");
        }
    }

    #[test]
    fn the_pae_profile_has_pae_and_nx_and_no_long_mode() {
        let profile = profile(&host(u32::MAX), intel(Model::Pae)).unwrap();
        assert_eq!((find(&profile, 1).eax, find(&profile, 1).edx), (0x6D8, 0x0780_A979));
        assert_eq!((find(&profile, 0x8000_0001).ecx, find(&profile, 0x8000_0001).edx), (0, 1 << 20));
        assert!(profile_fails(!PAE, Model::Pae));
    }

    #[test]
    fn the_extended_state_is_what_the_engine_switches() {
        let host = host(u32::MAX);
        let told = |host: &Host| {
            let profile = profile(host, intel(Model::Bits64)).unwrap();
            let state = profile.table.as_slice().iter().filter(|entry| entry.function == XSTATE);
            let state = state.map(|e| (e.index, e.flags, [e.eax, e.ebx, e.ecx, e.edx])).collect::<Vec<_>>();
            (state, find(&profile, 1).ecx, find(&profile, 7).ebx)
        };
        let (all, ecx, ebx) = told(&host);
        assert_eq!(all, [(0, 1, [7, 576, 832, 0]), (1, 1, [6, 0, 0, 0]), (2, 1, [256, 576, 0, 0])]);
        assert_eq!(
            (ecx & (XSAVE | FEATURES_C_AVX), ebx & STRUCTURED_B_AVX),
            (XSAVE | FEATURES_C_AVX, STRUCTURED_B_AVX)
        );

        let without = |change: fn(&mut kvm_cpuid_entry2)| {
            let mut host = host.clone();
            host.supported.as_mut_slice().iter_mut().for_each(change);
            host.tsc_khz = None;
            let highest = find(&profile(&host, intel(Model::Bits64)).unwrap(), 0).eax;
            (told(&host), highest)
        };
        let no_avx = |e: &mut kvm_cpuid_entry2| {
            if (e.function, e.index) == (XSTATE, 0) {
                e.eax = 3
            }
        };
        let ((state, ecx, ebx), highest) = without(no_avx);
        assert_eq!((state, highest), (vec![(0, 1, [3, 576, 576, 0]), (1, 1, [6, 0, 0, 0])], XSTATE));
        assert_eq!((ecx & (XSAVE | FEATURES_C_AVX), ebx & STRUCTURED_B_AVX), (XSAVE, 0));
        let no_xsave = |e: &mut kvm_cpuid_entry2| {
            if e.function == 1 {
                e.ecx &= !XSAVE
            }
        };
        let ((state, ecx, ebx), highest) = without(no_xsave);
        assert_eq!((state, highest), (Vec::new(), 7));
        assert_eq!((ecx & (XSAVE | FEATURES_C_AVX), ebx & STRUCTURED_B_AVX), (0, 0));
    }

    #[test]
    fn amd_s_profile_has_nothing_of_intel_s() {
        let wanted = Wanted { model: Model::Bits64, vendor: Vendor::Amd };
        let profile = profile(&host(u32::MAX), Some(wanted)).unwrap();
        let zero = find(&profile, 0);
        assert_eq!((zero.eax, zero.ebx), (XSTATE, u32::from_le_bytes(*b"Auth")), "no frequencies");
        assert_eq!((find(&profile, 1).eax, find(&profile, 7).edx, profile.capabilities), (0x60FB1, 0, None));
        assert_eq!(find(&profile, 2).edx, 0);
    }

    fn profile_fails(features: u32, model: Model) -> bool {
        profile(&host(features), intel(model)).is_err()
    }

    #[test]
    fn the_64_bit_profile_is_the_default_where_the_engine_can() {
        assert_eq!(profile(&host(u32::MAX), None).unwrap().model, Model::Bits64);
        assert_eq!(profile(&host(!PAE), None).unwrap().model, Model::Bits32);
        assert!(profile_fails(!PAE, Model::Bits64));
    }

    #[test]
    fn the_tsc_frequency_is_told_as_a_ratio() {
        let profile = profile(&host(u32::MAX), None).unwrap();
        let told = find(&profile, 0x15);
        assert_eq!(u64::from(told.ecx) * u64::from(told.ebx) / u64::from(told.eax), 2_600_000_000);
        assert_eq!(find(&profile, 0).eax, 0x16);
        assert_eq!(find(&profile, 0x16).eax, 2600);
    }

    #[test]
    fn with_a_local_apic_the_tsc_s_ratio_is_to_its_clock() {
        let host = Host { apic: true, ..host(u32::MAX) };
        let told = profile(&host, None).unwrap();
        assert!(told.apic);
        assert_eq!(find(&told, 1).edx, 0x0788_AB79);
        let leaf = find(&told, 0x15);
        assert_eq!((leaf.eax, leaf.ebx, leaf.ecx), (5, 13, 1_000_000_000));
        for khz in [500_000, 999_999, 1_000_000, 1_896_543, 2_599_997, 3_400_001, 4_294_000, 5_000_011] {
            let [denominator, numerator, hz, _] = ratio_to_bus(khz).map(u64::from);
            let linux = (hz / 1000 * numerator) & 0xFFFF_FFFF;
            assert!(
                (linux / denominator).abs_diff(khz.into()) <= u64::from(khz) / 100_000,
                "{khz}: {}",
                linux / denominator
            );
        }
    }

    #[test]
    fn what_the_host_lacks_is_not_announced() {
        let lacking = Host { invariant_tsc: false, tsc_khz: None, ..host(!(1 << 26)) };
        let narrow = profile(&lacking, intel(Model::Bits32)).unwrap();
        assert_eq!(find(&narrow, 1).edx & (1 << 26), 0);
        assert_eq!(find(&narrow, 0x8000_0007).edx, 0);
        assert_eq!(find(&narrow, 0).eax, 2);
        let no_line = profile(&host(!CLFLUSH), intel(Model::Bits64)).unwrap();
        assert_eq!(find(&no_line, 1).ebx, 0);
        assert!(profile(&host(0), None).is_err());
    }
}
