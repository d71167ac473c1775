//! `rvmm`: runs a guest on /dev/rvmm, or on any device with KVM's ABI, and serves its devices.
//!
//! - [`run`]: the way of a run, from its arguments to its end;
//! - [`boot`], [`firmware`], [`memory`], [`cpuid`], [`vulnerabilities`]: what the guest starts with;
//! - [`engine`], [`vcpu`]: the device's side;
//! - [`machine`], [`devices`]: the guest's hardware, free of threads and of real time;
//! - [`display`], [`monitor`], [`controls`]: people and scripts;
//! - [`host`], [`shared`]: threads, terminal, clock.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test fails by panicking

mod boot;
mod check;
mod cli;
mod commas;
mod controls;
mod counters;
mod cpuid;
mod devices;
mod disk;
mod display;
mod engine;
mod error;
mod firmware;
mod host;
mod machine;
mod media;
mod memory;
mod monitor;
mod outcome;
mod run;
mod shared;
mod stats;
mod vcpu;
mod vulnerabilities;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rvmm_abi::StatsScope;
use tracing::level_filters::LevelFilter;

use cli::{Cli, Command, MonitorArgs, ScreenshotArgs, StatsArgs};
use engine::Engine;
use error::Error;
use monitor::client;
use outcome::{RunEnd, Status};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap prints either to the stream where it belongs.
            let status = if error.use_stderr() { Status::Usage as u8 } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    start_log(cli.verbose);
    let result = match &cli.command {
        Command::Run(args) => run::run(args).map(|end: RunEnd| end.status()),
        Command::Check(args) => Ok(check::check(&args.engine)),
        Command::Stats(args) => show_stats(args).map(|()| 0),
        Command::Screenshot(args) => screenshot(args).map(|()| 0),
        Command::Monitor(args) => talk(args).map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("rvmm: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("rvmm: {hint}");
            }
            ExitCode::from(error.status() as u8)
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
}

fn screenshot(args: &ScreenshotArgs) -> Result<(), Error> {
    let path = &args.monitor.0;
    client::screenshot(path, &args.output).map_err(|source| Error::Monitor { path: path.clone(), source })
}

fn talk(args: &MonitorArgs) -> Result<(), Error> {
    let path = &args.monitor.0;
    client::monitor(path, &args.command, &mut std::io::stdin().lock(), &mut std::io::stdout())
        .map_err(|source| Error::Monitor { path: path.clone(), source })
}

fn show_stats(args: &StatsArgs) -> Result<(), Error> {
    let engine = Engine::open("/dev/rvmm".as_ref())?;
    let rvmm = engine.rvmm().ok_or_else(|| Error::Capability {
        engine: engine.name(),
        what: "rvmm's own ioctls (another version of the module?)",
    })?;
    let scope = if args.last { StatsScope::Last } else { StatsScope::This };
    let mut counters = stats::read(&rvmm, scope)?;
    if args.nonzero {
        counters.retain(|(_, value)| *value != 0);
    }
    let text = stats::format(&counters, args.format);
    std::io::stdout().write_all(text.as_bytes()).map_err(|source| Error::Host { what: "writing the counters", source })
}
