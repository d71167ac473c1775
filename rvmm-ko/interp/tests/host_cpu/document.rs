//! `docs/interpreter-cells.md`: the cells that are compared, and those that are not.

use crate::cells::{self, Cell, Operand, Prefix, NOT_COVERED};
use crate::native::Mode;
use iced_x86::{Code, CpuidFeature, Mnemonic};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interpreter-cells.md");

/// Has this CPU the instruction?
pub fn has(code: Code) -> bool {
    code.cpuid_features().iter().all(|f| match f {
        CpuidFeature::BMI1 => std::is_x86_feature_detected!("bmi1"),
        CpuidFeature::BMI2 => std::is_x86_feature_detected!("bmi2"),
        CpuidFeature::LZCNT => std::is_x86_feature_detected!("lzcnt"),
        CpuidFeature::POPCNT => std::is_x86_feature_detected!("popcnt"),
        CpuidFeature::MOVBE => std::is_x86_feature_detected!("movbe"),
        CpuidFeature::ADX => std::is_x86_feature_detected!("adx"),
        CpuidFeature::SSE4_2 => std::is_x86_feature_detected!("sse4.2"),
        CpuidFeature::CMPXCHG16B => std::is_x86_feature_detected!("cmpxchg16b"),
        CpuidFeature::CLFLUSHOPT => leaf7() >> 23 & 1 != 0,
        CpuidFeature::CLWB => leaf7() >> 24 & 1 != 0,
        _ => true,
    })
}

fn leaf7() -> u32 {
    std::arch::x86_64::__cpuid_count(7, 0).ebx
}

/// The file must say what the tables here say; with RVMM_CELLS=write it is made to.
pub fn check() {
    let want = text();
    if std::env::var("RVMM_CELLS").as_deref() == Ok("write") {
        std::fs::write(PATH, &want).unwrap();
    }
    let have = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(have == want, "{PATH} is not what is compared: RVMM_CELLS=write cargo test -p rvmm-interp --test host_cpu");
}

fn text() -> String {
    let by_mode: Vec<(Mode, Vec<Cell>)> = Mode::ALL.into_iter().map(|m| (m, cells::all(m))).collect();
    let total: usize = by_mode.iter().map(|(_, c)| c.len()).sum();
    let mut out = String::from(
        "# Cells of the interpreter\n\nWhat `rvmm-ko/interp/tests/host_cpu` compares with the CPU it runs on, and what it does not. Written by that test \
         (`RVMM_CELLS=write cargo test -p rvmm-interp --test host_cpu`), which fails where this file is not what it compares.\n\n\
         A cell is an instruction form (opcode and operand size, by iced's name) in 16-, 32- or 64-bit code, with one kind of operand and one kind \
         of prefix. Of each the test makes some random instructions and states (16; `RVMM_CELLS=N`: N), executes them natively in a process of their own, \
         and compares general registers, RIP, selectors, defined flags, memory, and of a fault vector, error code and CR2. 16- and 32-bit code runs \
         in compatibility mode, in segments of a local descriptor table: of 16 and of 32 bits, expand-down, read-only, execute-only, \
         absent, with limits in the middle of the data, next to flat ones. A CPU without an instruction leaves its cells out and says so.\n\n",
    );
    let _ = writeln!(out, "**{total} cells.**\n\n| code | cells | register | memory | relative to RIP | memory, 67 | segment | LOCK | REP, REPNE |");
    out.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for (mode, cells) in &by_mode {
        let operand = |o| cells.iter().filter(|c| c.operand == o).count();
        let prefix = |p: &[Prefix]| cells.iter().filter(|c| p.contains(&c.prefix)).count();
        let _ = writeln!(
            out,
            "| {}-bit | {} | {} | {} | {} | {} | {} | {} | {} |",
            mode.bits(),
            cells.len(),
            operand(Operand::Register),
            operand(Operand::Memory),
            operand(Operand::Relative),
            operand(Operand::Other),
            prefix(&[Prefix::Segment]),
            prefix(&[Prefix::Lock]),
            prefix(&[Prefix::Rep, Prefix::Repne])
        );
    }
    out.push_str(
        "\nRegister, memory, relative and 67 (the address-size prefix) are kinds of operand, and add up to the cells; segment, LOCK and REP are \
         those of them that have the prefix. LOCK where it is not allowed is a cell too: #UD. Privileged instructions are in the table with their fault.\n\n\
         ## Not covered\n\n| what | why, and what checks it |\n|---|---|\n",
    );
    for (what, why) in NOT_COVERED {
        let _ = writeln!(out, "| {what} | {why} |");
    }
    out.push_str(
        "\nStates of covered cells are left out, and counted, where CPUs differ from one another (`vendor.rs`, each with its reason), where the result is \
         undefined and the CPU is not Intel's, and undefined flags (`src/undefined.rs`).\n",
    );
    out.push_str("\n## The cells\n\nInstruction: number of cells in 16-, 32- and 64-bit code. Those with an asterisk fault in programs.\n\n");
    let mut rows: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut starred = BTreeSet::new();
    for (i, (_, cells)) in by_mode.iter().enumerate() {
        for cell in cells {
            let name = name(cell.code.mnemonic());
            if cells::privileged(cell.code) {
                starred.insert(name.clone());
            }
            rows.entry(name).or_default()[i] += 1;
        }
    }
    let row = |(name, n): (&String, &[usize; 3])| {
        format!("{name}{} {}/{}/{}", if starred.contains(name) { "*" } else { "" }, n[0], n[1], n[2])
    };
    let list: Vec<String> = rows.iter().map(row).collect();
    for line in list.chunks(8) {
        let _ = writeln!(out, "{},", line.join(", "));
    }
    out.truncate(out.trim_end_matches([',', '\n']).len());
    out.push_str(".\n");
    out
}

fn name(m: Mnemonic) -> String {
    format!("{m:?}").to_uppercase()
}
