//! What the host's CPU offers, as the host's kernel uses it.
//!
//! The flags are those of /proc/cpuinfo and not CPUID's: they tell what the kernel has switched on, which is what counts for paging
//! levels, FRED and protection keys.

use std::collections::BTreeSet;

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

/// What these flags mean for rvmm.
pub fn findings(flags: &Flags) -> Vec<Finding> {
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
        execute_only(flags),
        choose(
            "UMIP",
            "umip",
            (Good, "the guest's user programs cannot read the host's descriptor tables"),
            (Imperfect, "absent: sgdt, sidt, sldt, str and smsw in guest user programs show the VMM's values"),
        ),
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

/// How reads of the executable mapping are kept from seeing patches.
fn execute_only(flags: &Flags) -> Finding {
    let what = "execute-only code";
    if flags.has("ospke") {
        Finding::new(what, Verdict::Good, "by protection keys (PKU)")
    } else if flags.has("smap") {
        Finding::new(what, Verdict::Good, "by SMAP in ring 1 (no PKU)")
    } else {
        Finding::new(what, Verdict::Bad, "neither PKU nor SMAP: a guest kernel could read the patches in its code")
    }
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

    fn verdict(cpuinfo: &str, what: &str) -> Verdict {
        findings(&Flags::parse(cpuinfo)).into_iter().find(|finding| finding.what == what).unwrap().verdict
    }

    const FULL: &str = "processor\t: 0\nflags\t\t: fpu lm nx ospke umip cpuid_fault constant_tsc smap\nbugs\t\t:\n";

    #[test]
    fn a_full_host_lacks_only_cpuid_faulting() {
        for finding in findings(&Flags::parse(FULL)) {
            match finding.what {
                "CPUID faulting" => assert_eq!(finding.verdict, Verdict::Imperfect),
                _ => assert!(matches!(finding.verdict, Verdict::Good | Verdict::Note), "{finding:?}"),
            }
        }
    }

    #[test]
    fn fred_and_missing_features_exclude() {
        assert_eq!(verdict("flags : lm nx", "execute-only code"), Verdict::Bad);
        assert_eq!(verdict("flags : lm nx fred", "FRED"), Verdict::Bad);
        assert_eq!(verdict("flags : lm", "no-execute"), Verdict::Bad);
        assert_eq!(verdict("flags : nx", "long mode"), Verdict::Bad);
    }

    #[test]
    fn what_is_missing_stays_imperfect() {
        for what in ["UMIP", "CPUID faulting", "constant TSC"] {
            assert_eq!(verdict("flags : lm nx", what), Verdict::Imperfect, "{what}");
        }
        assert_eq!(verdict("flags : lm nx smap", "execute-only code"), Verdict::Good);
    }

    #[test]
    fn an_unreadable_cpuinfo_is_said() {
        assert_eq!(verdict("", "CPU"), Verdict::Bad);
    }
}
