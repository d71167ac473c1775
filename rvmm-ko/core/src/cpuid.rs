//! The guest's CPUID, as the client set it with KVM_SET_CPUID2.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::regs::Cr4;
use rvmm_arch::xstate::{self, Component};
use rvmm_arch::VcpuState;

/// One leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuidEntry {
    /// EAX in.
    pub function: u32,
    /// ECX in, where `indexed`.
    pub index: u32,
    /// The leaf depends on ECX (KVM_CPUID_FLAG_SIGNIFCANT_INDEX).
    pub indexed: bool,
    /// EAX, EBX, ECX, EDX out.
    pub regs: [u32; 4],
}

/// KVM's own limit is 256; more than any client sends.
pub const MAX_ENTRIES: usize = 256;

/// The leaf of the extended state.
const XSTATE: u32 = 0xd;

/// The table.
#[derive(Debug, Default)]
pub struct CpuidTable {
    entries: Vec<CpuidEntry>,
    /// Components of the extended state that the host can give, whatever the client announces.
    xcr0: u64,
    /// RDTSCP or RDPID is announced.
    tsc_aux: bool,
}

impl CpuidTable {
    /// An empty table, on a host where guests may have the components `xcr0`.
    #[must_use]
    pub fn new(xcr0: u64) -> Self {
        Self { xcr0, ..Self::default() }
    }

    /// Replaces the table; takes the first [`MAX_ENTRIES`] at most.
    ///
    /// # Errors
    /// [`HostError::NoMemory`]: nothing was changed.
    pub fn set(&mut self, entries: impl ExactSizeIterator<Item = CpuidEntry>) -> Result<(), HostError> {
        let mut new = Vec::new();
        let len = entries.len().min(MAX_ENTRIES);
        new.try_reserve_exact(len).map_err(|_| HostError::NoMemory)?;
        new.extend(entries.take(len));
        self.entries = new;
        let bit = |leaf, register: usize, bit: u32| {
            self.find(leaf, 0)
                .and_then(|regs| regs.get(register).copied())
                .is_some_and(|r| r.wrapping_shr(bit) & 1 != 0)
        };
        self.tsc_aux = bit(0x8000_0001, 3, 27) || bit(7, 2, 22);
        Ok(())
    }

    /// The entries set.
    #[must_use]
    pub fn entries(&self) -> &[CpuidEntry] {
        &self.entries
    }

    /// Is there IA32_TSC_AUX for guest programs to read, by RDTSCP or RDPID (SDM vol. 2)?
    #[must_use]
    pub fn announces_tsc_aux(&self) -> bool {
        self.tsc_aux
    }

    /// The components that the guest may set in XCR0: announced, and there.
    #[must_use]
    pub fn xcr0_supported(&self) -> u64 {
        let [low, _, _, high] = self.find(XSTATE, 0).unwrap_or_default();
        (u64::from(high) << 32 | u64::from(low)) & self.xcr0
    }

    /// The width of physical addresses, bits: leaf 8000_0008H, or without it 36 where PAE or PSE-36 is offered and 32 where not
    /// (SDM vol. 3 §4.1.4).
    #[must_use]
    pub fn physical_bits(&self) -> u8 {
        let told = self.find(0x8000_0008, 0).map_or(0, |regs| regs[0] as u8);
        let wide = self.find(1, 0).is_some_and(|regs| regs[3] & (1 << 6 | 1 << 17) != 0);
        match told {
            32..=52 => told,
            _ if wide => 36,
            _ => 32,
        }
    }

    /// Is it an AMD CPU that the guest sees?
    #[must_use]
    pub fn is_amd(&self) -> bool {
        let maker = self.find(0, 0).map_or(0, |regs| regs[1]);
        [*b"Auth", *b"Hygo"].map(u32::from_le_bytes).contains(&maker)
    }

    /// Is SYSENTER announced (SEP)? Leaf 1, EDX bit 11.
    #[must_use]
    pub fn announces_sysenter(&self) -> bool {
        self.find(1, 0).is_some_and(|[_, _, _, edx]| edx >> 11 & 1 != 0)
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        self.entries().iter().find(|e| e.function == leaf && (!e.indexed || e.index == subleaf)).map(|e| e.regs)
    }

    /// What CPUID returns. A leaf beyond the highest basic one gives the highest basic leaf's values on an Intel CPU and
    /// zeros on others (SDM vol. 2 "CPUID", APM vol. 3).
    #[must_use]
    pub fn lookup(&self, cpu: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        let leaf = if self.find(leaf, subleaf).is_some() { leaf } else { self.out_of_range(leaf) };
        let Some(mut regs) = self.find(leaf, subleaf) else { return [0; 4] };
        // By the layout that the guest is told of.
        let layout = |n| Component::from_cpuid(self.find(XSTATE, n).unwrap_or_default());
        match (leaf, subleaf) {
            (1, _) => {
                // OSXSAVE mirrors CR4.
                let osxsave = 1 << 27;
                if cpu.cr4.contains(Cr4::OSXSAVE) {
                    regs[2] |= osxsave;
                } else {
                    regs[2] &= !osxsave;
                }
            }
            (XSTATE, 0) => {
                let supported = self.xcr0_supported();
                regs[0] = supported as u32;
                regs[1] = xstate::standard_size(cpu.xcr0, layout);
                regs[2] = xstate::standard_size(supported, layout);
                regs[3] = (supported >> 32) as u32;
            }
            // IA32_XSS, which would count too, is 0. Without XSAVEC and XSAVES nothing has the compacted format.
            (XSTATE, 1) => {
                let compacts = regs[0] & (1 << 1 | 1 << 3) != 0;
                regs[1] = if compacts { xstate::compacted_size(cpu.xcr0, layout) } else { 0 };
            }
            _ => {}
        }
        regs
    }

    /// The leaf that stands in for one that there is not.
    fn out_of_range(&self, leaf: u32) -> u32 {
        let intel = self.find(0, 0).is_some_and(|r| r[1] == u32::from_le_bytes(*b"Genu"));
        let highest = |base| self.find(base, 0).map_or(0, |r| r[0]);
        let class = leaf & 0x8000_0000;
        if intel && leaf > highest(class) {
            highest(0)
        } else {
            leaf
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_beyond_the_last_follow_the_vendor() {
        let mut t = CpuidTable::default();
        let intel = [2, u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ntel"), u32::from_le_bytes(*b"ineI")];
        let entries = [
            CpuidEntry { function: 0, regs: intel, ..Default::default() },
            CpuidEntry { function: 1, regs: [1, 2, 3 | 1 << 27, 4], ..Default::default() },
            CpuidEntry { function: 2, regs: [9, 9, 9, 9], ..Default::default() },
        ];
        assert_eq!(t.set(entries.into_iter()), Ok(()));
        let cpu = VcpuState::reset();
        assert_eq!(t.lookup(&cpu, 7, 0), [9, 9, 9, 9]);
        assert_eq!(t.lookup(&cpu, 1, 0), [1, 2, 3, 4], "OSXSAVE follows CR4");
        assert_eq!(t.lookup(&cpu, 0, 5), intel);
    }

    /// What Intel's CPUs say of AVX, AVX-512's first component and PKRU.
    fn extended_state(xcr0: u32, optional: u32) -> [CpuidEntry; 7] {
        let intel = [XSTATE, u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ntel"), u32::from_le_bytes(*b"ineI")];
        let sub = |index, regs| CpuidEntry { function: XSTATE, index, indexed: true, regs };
        [
            CpuidEntry { function: 0, regs: intel, ..Default::default() },
            CpuidEntry { function: 1, regs: [1, 2, 3, 4], ..Default::default() },
            sub(0, [xcr0, 77, 77, 1 << 31]),
            sub(1, [optional, 77, 0, 0]),
            sub(2, [256, 576, 0, 0]),
            sub(5, [64, 1088, 0, 0]),
            sub(9, [8, 2688, 0, 0]),
        ]
    }

    #[test]
    fn the_extended_state_has_the_size_that_xcr0_gives_it() {
        let mut t = CpuidTable::new(7);
        assert_eq!(t.set(extended_state(0x2e7, 0).into_iter()), Ok(()));
        let mut cpu = VcpuState::reset();
        assert_eq!(t.xcr0_supported(), 7, "neither PKRU nor what the host lacks");
        assert_eq!(t.lookup(&cpu, XSTATE, 0), [7, 576, 832, 0]);
        assert_eq!(t.lookup(&cpu, XSTATE, 1), [0, 0, 0, 0]);
        cpu.xcr0 = 7;
        assert_eq!(t.lookup(&cpu, XSTATE, 0), [7, 832, 832, 0]);
        assert_eq!(t.lookup(&cpu, XSTATE, 2), [256, 576, 0, 0]);
        assert_eq!(t.lookup(&cpu, XSTATE, 3), [0; 4]);
        assert_eq!(t.lookup(&cpu, 0x20, 0), [7, 832, 832, 0], "the highest leaf stands in");
        assert_eq!(t.set(extended_state(3, 1 << 1).into_iter()), Ok(()));
        assert_eq!(t.xcr0_supported(), 3);
        assert_eq!(t.lookup(&cpu, XSTATE, 1), [1 << 1, 832, 0, 0]);
        let mut none = CpuidTable::new(0);
        assert_eq!(none.set(extended_state(7, 0).into_iter()), Ok(()));
        assert_eq!(none.lookup(&cpu, XSTATE, 0)[0], 0);
        assert_eq!(CpuidTable::new(7).lookup(&cpu, XSTATE, 0), [0; 4]);
    }

    #[test]
    fn tsc_aux_is_there_for_who_is_told_so() {
        let mut t = CpuidTable::default();
        let mut announces = |function, regs| {
            assert_eq!(t.set([CpuidEntry { function, regs, ..Default::default() }].into_iter()), Ok(()));
            t.announces_tsc_aux()
        };
        assert!(announces(0x8000_0001, [0, 0, 0, 1 << 27]) && announces(7, [0, 0, 1 << 22, 0]));
        assert!(!announces(7, [u32::MAX, u32::MAX, 0, u32::MAX]) && !announces(1, [u32::MAX; 4]));
    }

    #[test]
    fn physical_addresses_are_as_wide_as_the_guest_is_told() {
        let mut t = CpuidTable::default();
        assert_eq!(t.physical_bits(), 32);
        let features = |edx| CpuidEntry { function: 1, regs: [0, 0, 0, edx], ..Default::default() };
        let sizes = |eax| CpuidEntry { function: 0x8000_0008, regs: [eax, 0, 0, 0], ..Default::default() };
        assert_eq!(t.set([features(1 << 6)].into_iter()), Ok(()));
        assert_eq!(t.physical_bits(), 36);
        assert_eq!(t.set([features(1 << 6), sizes(0x3028)].into_iter()), Ok(()));
        assert_eq!(t.physical_bits(), 40);
        assert_eq!(t.set([features(0), sizes(0x30ff)].into_iter()), Ok(()));
        assert_eq!(t.physical_bits(), 32, "no such width");
    }
}
