//! `rvmm check`: can this host run guests, and what stays imperfect on it.

mod cpu;
mod kernel;

use std::fmt;
use std::path::Path;

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
    let mut findings = vec![engine_finding(engine)];
    findings.extend(cpu::findings(&cpu::Flags::of_host(), cpu::leaf7_of_host()));
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

fn engine_finding(path: &Path) -> Finding {
    let what = "engine";
    match Engine::open(path) {
        Ok(engine) => {
            let own = if engine.rvmm().is_some() { "rvmm's own ioctls" } else { "no rvmm ioctls" };
            Finding::new(what, Verdict::Good, format!("{} opened, KVM API 12, {own}", engine.name()))
        }
        Err(error) => Finding::new(what, Verdict::Bad, with_hint(&error)),
    }
}

fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    }
}
