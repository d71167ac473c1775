//! Every opcode of every map with every ModRM byte, under the prefixes that change what it is, in every mode and ring:
//! no panic, and a definite answer that changes nothing unless the instruction is done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment};
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, Step, Unsupported};
use std::collections::BTreeMap;

const CODE: u64 = 0x4000;

/// Bits of the code, its ring, and which mode: real and virtual 8086 mode have rings of their own.
const STATES: [(u32, u8, CpuMode); 8] = [
    (16, 0, CpuMode::Protected),
    (16, 3, CpuMode::Protected),
    (32, 0, CpuMode::Protected),
    (32, 3, CpuMode::Protected),
    (64, 0, CpuMode::Long),
    (64, 3, CpuMode::Long),
    (16, 0, CpuMode::Real),
    (16, 3, CpuMode::Virtual8086),
];

fn state(bits: u32, cpl: u8, mode: CpuMode) -> VcpuState {
    let mut cpu = match bits {
        16 => flat16(CODE as u16, 0x3000),
        32 => flat32(CODE as u32, 0x3000),
        _ => flat64(CODE, 0x3000),
    };
    cpu.cpl = cpl;
    if mode == CpuMode::Real {
        cpu.cr0.remove(Cr0::PE);
    }
    if mode == CpuMode::Virtual8086 {
        cpu.rflags |= Rflags::VM;
    }
    if mode.segments_are_shifted() {
        for seg in SegReg::ALL {
            *cpu.segment_mut(seg) = Segment::real_mode(0);
        }
    }
    assert_eq!(cpu.mode(), mode);
    for (i, r) in cpu.gpr.iter_mut().enumerate() {
        if i != 4 {
            *r = 0x1000 + 0x111 * i as u64;
        }
    }
    (cpu.gdtr.base, cpu.gdtr.limit) = (0x5000, 0xff);
    (cpu.idtr.base, cpu.idtr.limit) = (0x5800, 0x7ff);
    cpu
}

#[test]
fn every_opcode_has_an_answer() {
    let prefixes: [&[u8]; 8] = [&[], &[0x66], &[0x67], &[0xf2], &[0xf3], &[0xf0], &[0x66, 0xf2], &[0x2e]];
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    let mut m = TestMachine::new(0x8000);
    let (mut cells, mut retired, mut faults) = (0u64, 0u64, 0u64);
    let mut unsupported: BTreeMap<String, u64> = BTreeMap::new();
    for (bits, cpl, mode) in STATES {
        let before = state(bits, cpl, mode);
        for prefix in prefixes {
            for map in maps {
                for opcode in 0..=0xffu8 {
                    m.ram.fill(0x11);
                    for modrm in 0..=0xffu8 {
                        let mut code = [0x01u8; 15];
                        let head = prefix.iter().chain(map).chain([&opcode, &modrm]);
                        code.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
                        m.poke(CODE, &code);
                        m.changes.clear();
                        m.port_log.clear();
                        let mut cpu = before.clone();
                        cells += 1;
                        match step(&mut cpu, &mut m) {
                            Step::Retired | Step::Halted => retired += 1,
                            Step::Exception(_) => {
                                faults += 1;
                                assert_eq!(cpu, before, "{code:02x?} in mode {mode:?}");
                            }
                            Step::Unsupported(what) => {
                                assert_eq!(cpu, before, "{code:02x?} in mode {mode:?}");
                                let known =
                                    what.runs_natively() || matches!(what, Unsupported::Mode | Unsupported::Privileged);
                                assert!(known || cpl == 0, "{code:02x?} in mode {mode:?}: {what:?}");
                                *unsupported.entry(format!("{what:?}")).or_default() += 1;
                            }
                            other => panic!("{code:02x?} in mode {mode:?}: {other:?}"),
                        }
                    }
                }
            }
        }
    }
    println!("{cells} encodings: {retired} done, {faults} faults, not implemented: {unsupported:?}");
    assert!(retired > cells / 10);
}
