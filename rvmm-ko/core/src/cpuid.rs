//! The guest's CPUID, as the client set it with KVM_SET_CPUID2.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::regs::Cr4;
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

/// The table.
#[derive(Debug, Default)]
pub struct CpuidTable {
    entries: Vec<CpuidEntry>,
}

impl CpuidTable {
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
        Ok(())
    }

    /// The entries set.
    #[must_use]
    pub fn entries(&self) -> &[CpuidEntry] {
        &self.entries
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

    fn find(&self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        self.entries().iter().find(|e| e.function == leaf && (!e.indexed || e.index == subleaf)).map(|e| e.regs)
    }

    /// What CPUID returns. A leaf beyond the highest basic one gives the highest basic leaf's values on an Intel CPU and
    /// zeros on others (SDM vol. 2 "CPUID", APM vol. 3).
    #[must_use]
    pub fn lookup(&self, cpu: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        let mut regs = self.find(leaf, subleaf).unwrap_or_else(|| self.out_of_range(leaf, subleaf));
        if leaf == 1 {
            // OSXSAVE mirrors CR4.
            let osxsave = 1 << 27;
            if cpu.cr4.contains(Cr4::OSXSAVE) {
                regs[2] |= osxsave;
            } else {
                regs[2] &= !osxsave;
            }
        }
        regs
    }

    fn out_of_range(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let intel = self.find(0, 0).is_some_and(|r| r[1] == u32::from_le_bytes(*b"Genu"));
        let highest = |base| self.find(base, 0).map_or(0, |r| r[0]);
        let class = leaf & 0x8000_0000;
        if intel && leaf > highest(class) {
            self.find(highest(0), subleaf).unwrap_or_default()
        } else {
            [0; 4]
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
