//! Every user-visible integer instruction, interpreted and executed by the CPU this test runs on, from the same random state: registers,
//! selectors, defined flags, memory, and of faults vector, error code and CR2 must agree.
//!
//! In 64-bit code and in 32-bit and 16-bit code of compatibility mode, with segments of every kind that Linux gives a program. The test
//! runs itself anew, as a process whose handlers and local descriptor table are nobody else's. What is compared is `docs/interpreter-cells.md`,
//! which is this program's output: `RVMM_CELLS=write cargo test -p rvmm-interp --test host_cpu` writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod cells;
mod document;
mod make;
mod mirror;
mod native;
mod prepare;
mod tables;
mod vendor;

use cells::{Cell, Operand};
use iced_x86::{Code, Mnemonic};
use make::{Made, Rng};
use mirror::Mirror;
use native::{Ending, Mode, Native, State};
use rvmm_arch::regs::Rflags;
use rvmm_interp::undefined;
use std::collections::{BTreeMap, BTreeSet};

/// Random states per cell.
const ROUNDS: u32 = 16;
/// Set in the process that compares; a number of rounds.
const CHILD: &str = "RVMM_CELLS_ROUNDS";

#[derive(Default)]
struct Tally {
    cells: BTreeSet<Cell>,
    /// Instructions this CPU does not have.
    absent: BTreeSet<Mnemonic>,
    states: usize,
    /// By vector.
    faults: BTreeMap<u8, usize>,
    /// Is this a CPU whose undefined results are those that the interpreter gives (Intel's)?
    undefined_results_are_ours: bool,
    /// States left out because they are not.
    undefined_results: usize,
    /// Undefined flags in which the CPU and the interpreter differed, by mnemonic.
    undefined: BTreeMap<Mnemonic, (Rflags, usize)>,
    /// States in which CPUs differ from one another, by what they differ in.
    vendor: BTreeMap<&'static str, usize>,
    failures: BTreeMap<Cell, Vec<String>>,
}

#[test]
fn integer_instructions_agree_with_the_cpu() {
    if let Ok(rounds) = std::env::var(CHILD) {
        return compare_all(rounds.parse().expect("a number of rounds"));
    }
    let rounds = std::env::var("RVMM_CELLS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let me = std::env::current_exe().unwrap();
    let name = "integer_instructions_agree_with_the_cpu";
    let status = std::process::Command::new(me)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, rounds.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "the process that compares ended with {status}");
}

#[test]
fn the_list_of_cells_is_what_is_compared() {
    document::check();
}

fn compare_all(rounds: u32) {
    let Some(mut native) = Native::new() else {
        println!("host CPU comparison: SKIPPED, this kernel gives programs no local descriptor table (modify_ldt)");
        return;
    };
    // "GenuineIntel", by its first four letters.
    let intel = std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Genu");
    let mut tally = Tally { undefined_results_are_ours: intel, ..Tally::default() };
    for mode in Mode::ALL {
        for cell in cells::all(mode) {
            if !document::has(cell.code) {
                tally.absent.insert(cell.code.mnemonic());
                continue;
            }
            let seed = (cell.code as u64) << 8
                ^ (cell.operand as u64) << 4
                ^ cell.prefix as u64
                ^ u64::from(mode.bits()) << 40;
            let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ seed);
            let mut made_any = false;
            for _ in 0..rounds {
                let flat =
                    mode == Mode::Bits64 || mode == Mode::Bits32 && cell.operand != Operand::Other && rng.chance(3);
                if let Some(made) = make::random(&mut rng, &cell, make::ip(flat)) {
                    made_any = true;
                    compare(&mut rng, &mut native, &made, &cell, flat, &mut tally);
                }
            }
            assert!(made_any, "no instruction of {cell:?} can be made");
        }
    }
    report(&tally);
}

fn report(tally: &Tally) {
    let of = |mode| tally.cells.iter().filter(|c| c.mode == mode).count();
    println!(
        "host CPU comparison: {} cells (16-bit code {}, 32-bit code {}, 64-bit code {}), {} states, faults by vector {:?}",
        tally.cells.len(),
        of(Mode::Bits16),
        of(Mode::Bits32),
        of(Mode::Bits64),
        tally.states,
        tally.faults
    );
    for (mnemonic, (flags, n)) in &tally.undefined {
        println!("  undefined flags of {mnemonic:?} differ from this CPU's: {flags:?} ({n} states)");
    }
    if tally.undefined_results != 0 {
        println!("  undefined results, not compared on this vendor's CPU: {} states", tally.undefined_results);
    }
    for (why, n) in &tally.vendor {
        println!("  not compared, CPUs differ: {why} ({n} states)");
    }
    if !tally.absent.is_empty() {
        println!("  this CPU has no {:?}", tally.absent);
    }
    for (cell, failures) in tally.failures.iter().take(60) {
        println!("{cell:?}: {} differ; {}", failures.len(), failures[0]);
    }
    assert!(tally.failures.is_empty(), "{} cells differ", tally.failures.len());
    assert!(tally.cells.len() > 6000, "too little was compared");
    assert!([0, 5, 6, 11, 12, 13, 14].iter().all(|v| tally.faults.contains_key(v)), "not every fault was compared");
}

fn compare(rng: &mut Rng, native: &mut Native, made: &Made, cell: &Cell, flat: bool, tally: &mut Tally) {
    let seg = prepare::segments(rng, cell.mode, flat);
    let mut input = prepare::state(rng, made, cell, seg, native.data());
    let before = native.data().to_vec();
    // Privileged string instructions fault, and must not be looked for behind themselves.
    let free = cells::is_string(cell.code);
    let (output, ending) = native.run(&made.bytes, cell.mode, &input, free);

    if make::sees_tf(cell.code) || !free && rng.chance(3) {
        input.flags |= Rflags::TF.bits();
    }
    let mut cpu = mirror::cpu(cell.mode, &input);
    let loose = undefined(&made.instruction, &cpu);
    let mut mirror = Mirror::new(&made.bytes, free, &before);
    let got = mirror::interpret(&mut cpu, &mut mirror, free);
    tally.states += 1;
    if loose.result && !tally.undefined_results_are_ours {
        tally.undefined_results += 1;
        return;
    }
    tally.cells.insert(*cell);
    if let Ending::Fault { vector, .. } = ending {
        *tally.faults.entry(vector).or_default() += 1;
    }
    if let Some(why) = vendor::differs(&made.instruction, &got, ending) {
        *tally.vendor.entry(why).or_default() += 1;
        return;
    }
    let mut wrong = Vec::new();
    if got != Ok(ending) {
        wrong.push(format!("ended as {got:x?}, the CPU as {ending:x?}"));
    }
    let ours = mirror::state(&cpu);
    let kept = !Rflags::from_bits_truncate(input.flags ^ output.flags).intersects(Rflags::STATUS);
    let open = vendor::open_flags(&made.instruction, &ending, kept);
    let differing = Rflags::from_bits_truncate(ours.flags ^ output.flags).intersection(flags_seen(cell.code)) - open;
    if !(differing - loose.flags).is_empty() {
        wrong.push(format!("flags differ: {:?}", differing - loose.flags));
    } else if !differing.is_empty() && wrong.is_empty() {
        let entry = tally.undefined.entry(made.instruction.mnemonic()).or_insert((Rflags::empty(), 0));
        entry.0 |= differing;
        entry.1 += 1;
    }
    vendor::forgive(&made.instruction, &mut cpu, &output);
    let ours = mirror::state(&cpu);
    differences(&ours, &output, cell.mode, &mut wrong);
    let after = native.data();
    let below = matches!(ending, Ending::Fault { .. }).then(|| prepare::stack_top(&input, cell.mode)).flatten();
    let matters = |i: usize| below.is_none_or(|top| !(top.saturating_sub(vendor::BELOW)..top).contains(&i));
    let left = |i: usize| after[i] == before[i] && vendor::may_be_left(&made.instruction, mirror.data[i]);
    let differs = |(i, (a, b)): (usize, (&u8, &u8))| a != b && matters(i) && !left(i);
    if let Some(i) = mirror.data.iter().zip(after.iter()).enumerate().position(differs) {
        wrong.push(format!("memory +{i:#x}: {:#x}, the CPU {:#x}", mirror.data[i], after[i]));
    }
    if !wrong.is_empty() {
        let text = format!("{:02x?}: {}; from {input:x?}", made.bytes, wrong.join("; "));
        tally.failures.entry(*cell).or_default().push(text);
    }
}

fn flags_seen(code: Code) -> Rflags {
    let all = Rflags::STATUS | Rflags::DF | Rflags::IF | Rflags::IOPL | Rflags::ID;
    if make::sees_tf(code) {
        all | Rflags::TF | Rflags::NT
    } else {
        all
    }
}

fn differences(ours: &State, theirs: &State, mode: Mode, wrong: &mut Vec<String>) {
    let (registers, width) = if mode == Mode::Bits64 { (16, u64::MAX) } else { (8, 0xffff_ffff) };
    for (i, (a, b)) in ours.gpr.iter().zip(&theirs.gpr).enumerate().take(registers) {
        if (a ^ b) & width != 0 {
            wrong.push(format!("register {i}: {a:#x}, the CPU {b:#x}"));
        }
    }
    if ours.rip != theirs.rip {
        wrong.push(format!("RIP: {:#x}, the CPU {:#x}", ours.rip, theirs.rip));
    }
    let nulls = theirs.seg.map(|s| if s < 4 { 0 } else { s });
    if ours.seg != nulls {
        wrong.push(format!("selectors: {:x?}, the CPU {:x?}", ours.seg, theirs.seg));
    }
}
