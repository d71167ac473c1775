//! Every opcode of every map with every ModRM byte, under the prefixes that change what it is, in every mode and ring:
//! no panic, and a definite answer that changes nothing unless the instruction is done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, Step, Unsupported};
use std::collections::BTreeMap;

const CODE: u64 = 0x4000;

fn state(mode: u32, cpl: u8) -> VcpuState {
    let mut cpu = match mode {
        16 => flat16(CODE as u16, 0x3000),
        32 => flat32(CODE as u32, 0x3000),
        _ => flat64(CODE, 0x3000),
    };
    cpu.cpl = cpl;
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
    for mode in [16, 32, 64] {
        for cpl in [0, 3] {
            let before = state(mode, cpl);
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
                                    assert_eq!(cpu, before, "{code:02x?} in mode {mode}");
                                }
                                Step::Unsupported(what) => {
                                    assert_eq!(cpu, before, "{code:02x?} in mode {mode}");
                                    let known = what.runs_natively()
                                        || matches!(
                                            what,
                                            Unsupported::Mode | Unsupported::Privileged | Unsupported::TaskSwitch
                                        );
                                    assert!(known || cpl == 0, "{code:02x?} in mode {mode}: {what:?}");
                                    *unsupported.entry(format!("{what:?}")).or_default() += 1;
                                }
                                other => panic!("{code:02x?} in mode {mode}: {other:?}"),
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{cells} encodings: {retired} done, {faults} faults, not implemented: {unsupported:?}");
    assert!(retired > cells / 10);
}
