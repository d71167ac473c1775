//! `rvmm check`: can this host run guests, and what stays imperfect on it.

mod cpu;
mod kernel;

use std::fmt;
use std::path::Path;

use kvm_bindings::CpuId;

use crate::cpuid;
use crate::engine::Engine;
use crate::error::Error;
use crate::outcome::Status;

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Runs, but something is imperfect or slower.
    Imperfect,
    /// Cannot run.
    Bad,
    /// For information.
    Note,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Good => "ok",
            Verdict::Imperfect => "imperfect",
            Verdict::Bad => "NO",
            Verdict::Note => "note",
        })
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    pub verdict: Verdict,
    pub detail: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Finding { what, verdict, detail: detail.into() }
    }
}

/// Checks the host and prints the findings; returns the exit status: 0 if guests can run.
pub fn check(engine: &Path) -> u8 {
    let mut findings = engine_findings(engine);
    findings.extend(cpu::findings(&cpu::Flags::of_host(), cpu::leaf7_of_host(), cpu::null_clears_base_on_host()));
    findings.extend(kernel::findings());
    for finding in &findings {
        println!("{:<10} {:<22} {}", finding.verdict, finding.what, finding.detail);
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if bad == 0 {
        println!("\nGuests can run on {}.", engine.display());
        0
    } else {
        println!("\nGuests cannot run on {}: see the lines that begin with NO.", engine.display());
        Status::Host as u8
    }
}

fn engine_findings(path: &Path) -> Vec<Finding> {
    let what = "engine";
    match Engine::open(path) {
        Ok(engine) => {
            let own = if engine.rvmm().is_some() { "rvmm's own ioctls" } else { "no rvmm ioctls" };
            let opened = Finding::new(what, Verdict::Good, format!("{} opened, KVM API 12, {own}", engine.name()));
            vec![opened, long_mode(engine.supported_cpuid())]
        }
        Err(error) => vec![Finding::new(what, Verdict::Bad, with_hint(&error))],
    }
}

/// Whether the engine takes 64-bit guests.
fn long_mode(supported: Result<CpuId, Error>) -> Finding {
    let what = "64-bit guests";
    match supported {
        Ok(supported) if cpuid::has_long_mode(&supported) => {
            Finding::new(what, Verdict::Good, "the engine has long mode")
        }
        Ok(_) => Finding::new(what, Verdict::Imperfect, "the engine has no long mode: 32-bit guests only"),
        Err(error) => Finding::new(what, Verdict::Bad, with_hint(&error)),
    }
}

fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    }
}
