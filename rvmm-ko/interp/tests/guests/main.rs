//! The micro-guests on the interpreter alone, without a lab: each image runs from its first instruction, and must print
//! what it prints on the bare emulator.
//!
//! The images and the emulator's outputs are built by `tests/guests` at the top; without them there is nothing to run,
//! and the test says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod board;
mod devices;

use board::{Board, End, Processor};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Steps that no guest needs that ends by itself, and enough of one that does not.
const BUDGETS: (u64, u64) = (60_000_000, 1_000_000);

/// Guests whose subject is not the interpreter's, each with the reason.
const NOT_HERE: &[(&str, &str)] = &[
    ("paging-global", "shows what a TLB keeps, and this machine has none"),
    ("x64-avx", "needs AVX, of which the interpreter has nothing"),
    ("x64-fpu-tracked", "needs AVX and XSAVE, likewise"),
];

/// Guests that come to an instruction of x87 or SSE, which the interpreter leaves to the CPU; they go no further here.
const NEED_FPU: &[&str] = &[
    "nm",
    "mf",
    "xm",
    "fpu-state",
    "fpu-lazy",
    "x64-state",
    "x64-xsave",
    "x64-sse-tracked",
    "x64-sse-mmio",
    "sse16",
    "fpu16",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A line of the list.
struct Guest {
    name: String,
    /// MiB.
    memory: usize,
    /// It never ends by itself.
    spins: bool,
    /// It has an end that is rvmm's own, and no expected output.
    stops: bool,
    processor: Processor,
}

fn listed(list: &str) -> Vec<Guest> {
    let lines = list.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or("").to_string();
            let memory = words.filter_map(|w| w.strip_prefix("memory=")).find_map(|v| v.parse().ok()).unwrap_or(64);
            let amd = line.contains("vendor=AuthenticAMD");
            let processor = match line.split_whitespace().find_map(|w| w.strip_prefix("bits=")) {
                Some("64") => Processor::Bits64(if amd { b"AuthenticAMD" } else { b"GenuineIntel" }),
                Some("pae") => Processor::Pae,
                _ if line.contains("vme=yes") => Processor::Vme,
                _ => Processor::Bits32,
            };
            Guest { name, memory, spins: line.contains("end=spin"), stops: line.contains("end=stop"), processor }
        })
        .collect()
}

/// What the guest prints, with the line that says how it ended, as the runner for bare emulators writes it.
fn run(image: &[u8], guest: &Guest) -> Result<(String, End, u64), String> {
    let (mut cpu, mut board) = Board::load(image, guest.memory << 20, guest.processor)?;
    let end = board.run(&mut cpu, if guest.spins { BUDGETS.1 } else { BUDGETS.0 });
    let mut text = String::from_utf8_lossy(&board.devices.serial).replace('\r', "");
    let _ = match end {
        End::Exit(status) => writeln!(text, "end: exit {status}"),
        End::Reset => writeln!(text, "end: reset"),
        End::Never => writeln!(text, "end: never"),
        End::Unsupported(what, eip) => writeln!(text, "end: unsupported {what:?} at {eip:x}"),
    };
    Ok((text, end, board.steps))
}

#[test]
fn micro_guests_print_what_they_print_on_a_bare_emulator() {
    let list = fs::read_to_string(top().join("tests/guests/list.cfg")).expect("the list of guests");
    let images = top().join("build/guests");
    // `make` exports it empty where it is not given.
    let only = std::env::var("GUEST").ok().filter(|name| !name.is_empty());
    let guests = listed(&list);
    for name in NOT_HERE.iter().map(|n| n.0).chain(NEED_FPU.iter().copied()).chain(only.as_deref()) {
        assert!(guests.iter().any(|guest| guest.name == name), "{name} is not in tests/guests/list.cfg");
    }
    let (mut equal, mut missing, mut native, mut failed) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut steps_in_all = 0;
    for guest in guests.into_iter().filter(|guest| !guest.stops) {
        let name = guest.name.clone();
        if only.as_ref().is_some_and(|o| *o != name) {
            continue;
        }
        if let Some((_, why)) = NOT_HERE.iter().find(|n| n.0 == name) {
            println!("not here: {name}: {why}");
            continue;
        }
        let expected = fs::read_to_string(top().join(format!("tests/guests/expected/{name}.txt")))
            .or_else(|_| fs::read_to_string(images.join(format!("bare/{name}.txt"))));
        let (Ok(image), Ok(expected)) = (fs::read(images.join(format!("{name}.elf"))), expected) else {
            missing.push(name);
            continue;
        };
        match run(&image, &guest) {
            Ok((text, _, steps)) if text == expected => {
                equal += 1;
                steps_in_all += steps;
            }
            Ok((_, End::Unsupported(what, _), _)) if what.runs_natively() && NEED_FPU.contains(&name.as_str()) => {
                native.push(format!("{name} ({what:?})"));
            }
            Ok((text, _, steps)) => {
                println!("=== {name}: {steps} steps");
                difference(&expected, &text);
                failed.push(name);
            }
            Err(why) => {
                println!("=== {name}: {why}");
                failed.push(name);
            }
        }
    }
    println!("micro-guests on the interpreter: {equal} as on the bare emulator, {} differ, {} need the FPU of a real CPU, {} SKIPPED; {steps_in_all} steps", failed.len(), native.len(), missing.len());
    if !native.is_empty() {
        println!("need the FPU: {}", native.join(" "));
    }
    if !missing.is_empty() {
        println!(
            "SKIPPED, because image or expected output was not built (make -C tests/guests, tests/guests/run-bare): {}",
            missing.join(" ")
        );
    }
    assert!(failed.is_empty(), "differ: {}", failed.join(" "));
    // None at all is a tree without images, unless the script that runs the tests has built them. Some are a tree in which something went wrong.
    assert!(
        missing.is_empty() || equal == 0 && native.is_empty() && std::env::var_os("RVMM_GUESTS").is_none(),
        "not built (make -C tests/guests, tests/guests/run-bare): {}",
        missing.join(" ")
    );
}

fn difference(expected: &str, seen: &str) {
    let (mut a, mut b) = (expected.lines(), seen.lines());
    let mut shown = 0;
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x == y => {}
            (x, y) => {
                println!("  expected {x:?}\n  seen     {y:?}");
                shown += 1;
                if shown == 8 {
                    break;
                }
            }
        }
    }
}
