//! The end of a run: how it ended, and its counters.

use std::io::{self, Write};
use std::path::Path;

use rvmm_abi::StatsScope;

use crate::cli::{RunArgs, StatsFormat};
use crate::engine::Vm;
use crate::error::Error;
use crate::machine::MAX_BACKLOG;
use crate::outcome::RunEnd;
use crate::shared::Shared;
use crate::stats::{self, Named};
use crate::vcpu::VcpuReport;

/// Says how the run ended and prints what was asked for.
pub fn finish(args: &RunArgs, vm: &Vm, shared: &Shared, report: &VcpuReport) -> Result<(), Error> {
    if report.end != RunEnd::GuestExit(0) {
        eprintln!("rvmm: {}", report.end);
    }
    tracing::debug!("{}", shared.describe());
    if let RunEnd::Engine { .. } = report.end {
        if let Some(text) = vm.rvmm().and_then(|rvmm| rvmm.report()) {
            eprintln!("{}", text.trim_end());
        }
    }
    if let Some(format) = args.stats {
        print_stats(format, args.stats_file.as_deref(), &collect(vm, shared, report)?)?;
    }
    Ok(())
}

fn collect(vm: &Vm, shared: &Shared, report: &VcpuReport) -> Result<Vec<Named>, Error> {
    let mut counters = match vm.rvmm() {
        Some(rvmm) => stats::read(rvmm, StatsScope::This)?,
        None => Vec::new(),
    };
    counters.extend(report.counters.named().map(|(name, value)| (name.to_string(), value)));
    let ticks = shared.lock().machine.tick_counters();
    for (name, value) in [
        ("timer.ticks_due", ticks.due),
        ("timer.ticks_delivered", ticks.delivered),
        ("timer.ticks_dropped", ticks.dropped),
    ] {
        counters.push((name.into(), value));
    }
    if ticks.dropped > MAX_BACKLOG {
        tracing::info!("the guest was too slow for {} of its timer ticks", ticks.dropped);
    }
    counters.push(("machine.post_code".into(), shared.lock().machine.post_code().into()));
    Ok(counters)
}

fn print_stats(format: StatsFormat, file: Option<&Path>, counters: &[Named]) -> Result<(), Error> {
    let text = stats::format(counters, format);
    let failed = |source| Error::Host { what: "writing the counters", source };
    match file {
        Some(path) => std::fs::write(path, text).map_err(failed),
        None => io::stderr().write_all(text.as_bytes()).map_err(failed),
    }
}
