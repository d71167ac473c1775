//! What the guest need not protect itself against: the value of IA32_ARCH_CAPABILITIES (Intel SDM volume 4, table 2-2).
//!
//! The host's kernel says in sysfs what its CPU is affected by; what it is not affected by, no guest on it is. On rvmm's engine the guest's
//! programs run on page tables that do not hold its kernel's pages at all, and no shadow entry that is not present holds an address: there
//! Meltdown and L1TF have nothing to read, whatever the CPU. TAA_NO is not needed: the profile has no TSX.

use std::path::Path;

/// The host's answers, one file each.
const SYSFS: &str = "/sys/devices/system/cpu/vulnerabilities";

/// RDCL_NO: neither Meltdown nor L1TF.
const RDCL_NO: u64 = 1 << 0;
/// RSBA: RET may take its prediction from the branch target buffer, which retpolines do not stand.
const RSBA: u64 = 1 << 2;

/// Bits that each of these files decides by "Not affected".
const NOT_AFFECTED: [(&str, u64); 5] = [
    ("spec_store_bypass", 1 << 4),
    ("mds", 1 << 5),
    // A machine check by changing a page's size.
    ("itlb_multihit", 1 << 6),
    // SBDR_SSDP_NO, FBSDP_NO, PSDP_NO.
    ("mmio_stale_data", 1 << 13 | 1 << 14 | 1 << 15),
    ("gather_data_sampling", 1 << 26),
];

/// IA32_ARCH_CAPABILITIES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchCapabilities(pub u64);

impl ArchCapabilities {
    /// The register's number.
    pub const MSR: u32 = 0x10A;

    /// That of a guest on this host; `deprivileged`: on rvmm's engine.
    pub fn of_host(deprivileged: bool) -> Self {
        Self::from(deprivileged, |file| std::fs::read_to_string(Path::new(SYSFS).join(file)).ok())
    }

    fn from(deprivileged: bool, read: impl Fn(&str) -> Option<String>) -> Self {
        // A file that is not there is no answer: an older kernel that does not know the weakness.
        let says = |file: &str, text: &str| read(file).is_some_and(|answer| answer.trim_start().starts_with(text));
        let safe = |file: &str| says(file, "Not affected");
        let mut value = NOT_AFFECTED.into_iter().filter(|(file, _)| safe(file)).fold(0, |value, (_, bit)| value | bit);
        if deprivileged || safe("meltdown") && safe("l1tf") {
            value |= RDCL_NO;
        }
        if says("retbleed", "Vulnerable") || says("retbleed", "Mitigation") {
            value |= RSBA;
        }
        ArchCapabilities(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_says_nothing_leaves_everything_to_the_guest() {
        assert_eq!(ArchCapabilities::from(false, |_| None), ArchCapabilities(0));
        assert_eq!(ArchCapabilities::from(true, |_| None), ArchCapabilities(RDCL_NO));
    }

    #[test]
    fn what_the_host_is_not_affected_by_the_guest_is_not() {
        let sound = |_: &str| Some("Not affected\n".to_string());
        assert_eq!(ArchCapabilities::from(false, sound), ArchCapabilities(0x0400_E071));
        let affected = |file: &str| {
            Some(if file == "l1tf" { "Mitigation: PTE Inversion\n" } else { "Not affected\n" }.to_string())
        };
        assert_eq!(ArchCapabilities::from(false, affected), ArchCapabilities(0x0400_E070));
        assert_eq!(ArchCapabilities::from(true, affected), ArchCapabilities(0x0400_E071));
        let retbleed =
            |file: &str| Some(if file == "retbleed" { "Mitigation: untrained return thunk" } else { "" }.into());
        assert_eq!(ArchCapabilities::from(false, retbleed), ArchCapabilities(RSBA));
    }
}
