//! What the host's CPU offers.
//!
//! The flags are those of /proc/cpuinfo and not CPUID's: they tell what the kernel has switched on, which is what counts for paging
//! levels and FRED. What the guest world switches on for itself, whether the kernel uses it or not, is read from CPUID, by the same
//! code as in the module.

use std::collections::BTreeSet;

use rvmm_arch::cpuid::Leaf7;

use super::{Finding, Verdict};

/// The CPU flags of /proc/cpuinfo.
#[derive(Clone, Debug, Default)]
pub struct Flags(BTreeSet<String>);

impl Flags {
    /// Those of this host; none if they cannot be read, which [`findings`] then says.
    pub fn of_host() -> Flags {
        Flags::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }

    fn parse(cpuinfo: &str) -> Flags {
        let flags = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .and_then(|rest| rest.trim_start().strip_prefix(':'))
            .unwrap_or_default();
        Flags(flags.split_whitespace().map(str::to_string).collect())
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(flag)
    }
}

/// CPUID's leaf 7 on this host.
pub fn leaf7_of_host() -> Leaf7 {
    Leaf7::read(cpuid)
}

/// Whether this host's CPU clears the base when FS or GS is loaded with a null selector.
pub fn null_clears_base_on_host() -> bool {
    null_clears_base(cpuid)
}

fn null_clears_base(cpuid: impl Fn(u32) -> [u32; 4]) -> bool {
    let [_, vendor, ..] = cpuid(0);
    let keeps = [*b"Auth", *b"Hygo"].map(u32::from_le_bytes).contains(&vendor);
    // NullSelClrsBase (APM volume 3, appendix E). One generation cleared it before there was the bit; it is not told apart here.
    let says = || cpuid(0x8000_0000)[0] >= 0x8000_0021 && cpuid(0x8000_0021)[0] & 1 << 6 != 0;
    !keeps || says()
}

fn cpuid(leaf: u32) -> [u32; 4] {
    // SAFETY: every x86-64 CPU has CPUID. (Newer compilers know that by themselves.)
    #[allow(unused_unsafe)]
    let regs = unsafe { std::arch::x86_64::__cpuid_count(leaf, 0) };
    [regs.eax, regs.ebx, regs.ecx, regs.edx]
}

/// What this means for rvmm.
pub fn findings(flags: &Flags, leaf7: Leaf7, null_clears_base: bool) -> Vec<Finding> {
    use Verdict::{Bad, Good, Imperfect, Note};
    if flags.0.is_empty() {
        return vec![Finding::new("CPU", Bad, "/proc/cpuinfo does not tell its features")];
    }
    let choose = |what, flag: &str, with: (Verdict, &str), without: (Verdict, &str)| {
        let (verdict, detail) = if flags.has(flag) { with } else { without };
        Finding::new(what, verdict, detail)
    };
    vec![
        choose("long mode", "lm", (Good, "64-bit host"), (Bad, "rvmm needs a 64-bit CPU and kernel")),
        choose("no-execute", "nx", (Good, "unscanned code cannot run"), (Bad, "without NX unscanned code could run")),
        choose(
            "FRED",
            "fred",
            (Bad, "on: rings 1 and 2 do not exist then; boot the host with fred=off"),
            (Good, "off"),
        ),
        choose(
            "paging levels",
            "la57",
            (Good, "five (LA57): one trivial level is added on top of the shadow tables"),
            (Good, "four"),
        ),
        execute_only(leaf7),
        execute_only_in_ring_3(leaf7),
        fsgsbase(leaf7),
        null_selectors(null_clears_base),
        umip(leaf7),
        choose(
            "CPUID faulting",
            "cpuid_fault",
            (Imperfect, "present, but not used yet: cpuid in guest user programs shows the host's CPU"),
            (Imperfect, "absent: cpuid in guest user programs shows the host's CPU"),
        ),
        choose(
            "constant TSC",
            "constant_tsc",
            (Good, "announced to the guest if it also runs in all sleep states"),
            (Imperfect, "absent: not announced to the guest, which watches its TSC against the timer"),
        ),
        choose("page table isolation", "pti", (Note, "on: world switches cost more"), (Note, "off")),
        choose("shadow stacks", "user_shstk", (Note, "present; off in the guest world"), (Note, "absent")),
        hardware_virtualization(flags),
    ]
}

/// What such a host does instead: docs/patching.md, "Hosts that cannot hide views".
const READABLE: &str = "kernels are interpreted, since they could read the patches in their code: right, but slow";

/// How reads of the executable mapping are kept from seeing patches in ring 1.
fn execute_only(leaf7: Leaf7) -> Finding {
    let what = "execute-only code";
    if leaf7.pku {
        Finding::new(what, Verdict::Good, "by protection keys (PKU)")
    } else if leaf7.smap {
        Finding::new(what, Verdict::Good, "by SMAP in ring 1 (no PKU)")
    } else {
        Finding::new(what, Verdict::Imperfect, format!("neither PKU nor SMAP: {READABLE}"))
    }
}

/// … of kernels in ring 3: 64-bit ones, and all with --model 0/3/3. SMAP acts on rings 0 to 2 only.
fn execute_only_in_ring_3(leaf7: Leaf7) -> Finding {
    let what = "the same in ring 3";
    if leaf7.pku {
        Finding::new(what, Verdict::Good, "64-bit guests and --model 0/3/3: by protection keys (PKU)")
    } else {
        Finding::new(what, Verdict::Imperfect, format!("64-bit guests and --model 0/3/3: no PKU: {READABLE}"))
    }
}

fn fsgsbase(leaf7: Leaf7) -> Finding {
    let (verdict, detail) = if leaf7.fsgsbase {
        (Verdict::Good, "64-bit guests load their FS and GS bases without leaving")
    } else {
        (Verdict::Imperfect, "absent: 64-bit guests do without it, and each load of an FS or GS base is an exit")
    };
    Finding::new("FSGSBASE", verdict, detail)
}

/// What loading a null selector into FS or GS does to the base: cleared by Intel's CPUs and AMD's newer ones, kept by AMD's older ones
/// (APM volume 2, section 4.8.1). The guest's CPU is Intel's and its programs load selectors natively.
fn null_selectors(clears_base: bool) -> Finding {
    let what = "null selectors";
    if clears_base {
        Finding::new(what, Verdict::Good, "clear the base of FS and GS")
    } else {
        Finding::new(
            what,
            Verdict::Imperfect,
            "may keep the base of FS and GS: seen by 64-bit guest programs that load them so and ask for the base",
        )
    }
}

fn umip(leaf7: Leaf7) -> Finding {
    let (verdict, detail) = if leaf7.umip {
        (Verdict::Good, "the guest's user programs cannot read the VMM's descriptor tables")
    } else {
        (Verdict::Imperfect, "absent: sgdt, sidt, sldt, str and smsw in guest user programs show the VMM's values")
    };
    Finding::new("UMIP", verdict, detail)
}

fn hardware_virtualization(flags: &Flags) -> Finding {
    let what = "for comparison";
    match (flags.has("svm"), flags.has("vmx")) {
        (true, _) => Finding::new(what, Verdict::Note, "AMD-V: --engine kvm can run here too"),
        (_, true) => Finding::new(what, Verdict::Note, "VT-x: --engine kvm can run here too"),
        _ => Finding::new(what, Verdict::Note, "no VT-x or AMD-V, which rvmm does not need"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Leaf7 = Leaf7 { fsgsbase: true, smap: true, umip: true, pku: true };
    const NONE: Leaf7 = Leaf7 { fsgsbase: false, smap: false, umip: false, pku: false };

    fn verdict(cpuinfo: &str, leaf7: Leaf7, what: &str) -> Verdict {
        findings(&Flags::parse(cpuinfo), leaf7, leaf7.pku)
            .into_iter()
            .find(|finding| finding.what == what)
            .unwrap()
            .verdict
    }

    const FULL: &str = "processor\t: 0\nflags\t\t: fpu lm nx ospke umip cpuid_fault constant_tsc smap\nbugs\t\t:\n";

    #[test]
    fn a_full_host_lacks_only_cpuid_faulting() {
        for finding in findings(&Flags::parse(FULL), ALL, true) {
            match finding.what {
                "CPUID faulting" => assert_eq!(finding.verdict, Verdict::Imperfect),
                _ => assert!(matches!(finding.verdict, Verdict::Good | Verdict::Note), "{finding:?}"),
            }
        }
    }

    #[test]
    fn fred_and_missing_features_exclude() {
        assert_eq!(verdict("flags : lm nx fred", ALL, "FRED"), Verdict::Bad);
        assert_eq!(verdict("flags : lm", ALL, "no-execute"), Verdict::Bad);
        assert_eq!(verdict("flags : nx", ALL, "long mode"), Verdict::Bad);
    }

    #[test]
    fn what_is_missing_stays_imperfect() {
        let lacking = ["UMIP", "CPUID faulting", "constant TSC", "FSGSBASE", "null selectors"];
        for what in lacking.into_iter().chain(["execute-only code", "the same in ring 3"]) {
            assert_eq!(verdict("flags : lm nx", NONE, what), Verdict::Imperfect, "{what}");
        }
    }

    #[test]
    fn what_the_host_s_kernel_leaves_unused_still_serves_the_guest_world() {
        // Booted with clearcpuid=smap,umip on a CPU without protection keys.
        let leaf7 = Leaf7 { smap: true, umip: true, ..NONE };
        assert_eq!(verdict("flags : lm nx", leaf7, "execute-only code"), Verdict::Good);
        assert_eq!(
            verdict("flags : lm nx", leaf7, "the same in ring 3"),
            Verdict::Imperfect,
            "SMAP is for rings 0 to 2"
        );
        assert_eq!(verdict("flags : lm nx", leaf7, "UMIP"), Verdict::Good);
    }

    #[test]
    fn null_selectors_follow_the_vendor_and_its_bit() {
        let cpu = |vendor: &[u8; 4], bit: u32| {
            let vendor = u32::from_le_bytes(*vendor);
            null_clears_base(move |leaf| match leaf {
                0 => [13, vendor, 0, 0],
                0x8000_0000 => [0x8000_0021, 0, 0, 0],
                _ => [bit << 6, 0, 0, 0],
            })
        };
        assert!(cpu(b"Genu", 0));
        assert!(!cpu(b"Auth", 0));
        assert!(cpu(b"Auth", 1) && cpu(b"Hygo", 1));
    }

    #[test]
    fn an_unreadable_cpuinfo_is_said() {
        assert_eq!(verdict("", ALL, "CPU"), Verdict::Bad);
    }
}
