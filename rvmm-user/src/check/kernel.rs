//! What the host's kernel allows.

use std::fs;

use super::{Finding, Verdict};

/// The findings of this host.
pub fn findings() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    vec![
        release(&read("/proc/sys/kernel/osrelease")),
        lockdown(&read("/sys/kernel/security/lockdown")),
        signatures(&read("/sys/module/module/parameters/sig_enforce")),
    ]
}

fn release(release: &str) -> Finding {
    Finding::new("kernel", Verdict::Note, format!("{release}; the module must have been built for just this one"))
}

/// The active mode stands in brackets: `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Finding {
    let what = "lockdown";
    let mode = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("none");
    match mode {
        "none" => Finding::new(what, Verdict::Good, "off"),
        mode => Finding::new(
            what,
            Verdict::Imperfect,
            format!("{mode}: the kernel loads signed modules only (secure boot?); sign rvmm.ko or switch it off"),
        ),
    }
}

fn signatures(text: &str) -> Finding {
    let what = "module signatures";
    match text {
        "Y" => {
            Finding::new(what, Verdict::Imperfect, "enforced: rvmm.ko must be signed with a key that the kernel trusts")
        }
        _ => Finding::new(what, Verdict::Good, "not enforced"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_read_from_the_brackets() {
        assert_eq!(lockdown("[none] integrity confidentiality").verdict, Verdict::Good);
        assert_eq!(lockdown("").verdict, Verdict::Good);
        let locked = lockdown("none [integrity] confidentiality");
        assert_eq!(locked.verdict, Verdict::Imperfect);
        assert!(locked.detail.starts_with("integrity"));
    }

    #[test]
    fn enforced_signatures_are_said() {
        assert_eq!(signatures("Y").verdict, Verdict::Imperfect);
        assert_eq!(signatures("N").verdict, Verdict::Good);
    }
}
