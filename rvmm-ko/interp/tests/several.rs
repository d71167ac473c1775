//! Several instructions in one call are what as many single steps are, and none but the last changes what the caller relies on: modes, segments,
//! privilege, which events may be delivered.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use proptest::prelude::*;
use rvmm_arch::regs::Rflags;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, steps_cached, Decoded, Step};

const RAM: usize = 0x1_0000;
const CODE: usize = 0x1000;

fn machine(code: &[u8], goes_on: bool) -> TestMachine {
    let mut m = TestMachine::new(RAM);
    m.ram[CODE..CODE + code.len()].copy_from_slice(code);
    m.goes_on = goes_on;
    m
}

fn cpu(bits: u32) -> VcpuState {
    match bits {
        16 => flat16(CODE as u16, 0x8000),
        32 => flat32(CODE as u32, 0x8000),
        _ => flat64(CODE as u64, 0x8000),
    }
}

/// What the plain half leaves alone.
fn same_but_for_the_plain(a: &VcpuState, b: &VcpuState) -> bool {
    let plain = Rflags::STATUS | Rflags::DF | Rflags::RF;
    let mut a = a.clone();
    (a.gpr, a.rip, a.shadow) = (b.gpr, b.rip, b.shadow);
    a.rflags = a.rflags.difference(plain) | b.rflags.intersection(plain);
    a == *b
}

fn compare(code: &[u8], start: &VcpuState, limit: u32) {
    let (mut at_once, mut m) = (start.clone(), machine(code, true));
    let (begun, last) = steps_cached(&mut at_once, &mut m, &mut [Decoded::default(); 6], limit);
    assert!((1..=limit).contains(&begun));
    let (mut single, mut other) = (start.clone(), machine(code, false));
    for i in 1..=begun {
        let step = step(&mut single, &mut other);
        if i < begun {
            assert_eq!(step, Step::Retired, "{code:02x?}: instruction {i} of {begun}");
            assert!(
                same_but_for_the_plain(&single, start),
                "{code:02x?}: {start:x?}, behind {i} of {begun} {single:x?}"
            );
            assert!(i == 1 || single.shadow == InterruptShadow::None);
        } else {
            assert_eq!(step, last, "{code:02x?}");
        }
    }
    assert_eq!(at_once, single, "{code:02x?}");
    assert!(m.ram == other.ram, "{code:02x?}");
    assert_eq!(m.changes, other.changes, "{code:02x?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn several_are_as_many_single_steps(
        code in proptest::collection::vec(any::<u8>(), 48),
        gpr in proptest::array::uniform16(prop_oneof![0..RAM as u64, any::<u64>()]),
        bits in prop_oneof![Just(16), Just(32), Just(64)],
        flags in any::<u64>(),
        shadow in prop_oneof![4 => Just(InterruptShadow::None), 1 => Just(InterruptShadow::Sti), 1 => Just(InterruptShadow::MovSs)],
        limit in 1..12_u32,
    ) {
        let mut cpu = cpu(bits);
        let stack = cpu.gpr[4];
        cpu.gpr = gpr;
        cpu.gpr[4] = stack;
        cpu.shadow = shadow;
        let free = Rflags::STATUS | Rflags::DF | Rflags::IF;
        cpu.rflags = cpu.rflags.difference(free) | Rflags::from_bits_truncate(flags).intersection(free);
        compare(&code, &cpu, limit);
    }
}

/// How many instructions of `code` are begun at once.
fn begun(code: &[u8], shadow: InterruptShadow, goes_on: bool) -> u32 {
    let mut cpu = cpu(32);
    cpu.shadow = shadow;
    steps_cached(&mut cpu, &mut machine(code, goes_on), &mut [], 100).0
}

#[test]
fn it_ends_where_somebody_has_to_look() {
    // INC EAX three times, then HLT, an instruction of the system half.
    let plain = [0x40, 0x40, 0x40, 0xf4];
    assert_eq!(begun(&plain, InterruptShadow::None, true), 4);
    assert_eq!(begun(&plain, InterruptShadow::Sti, true), 1);
    assert_eq!(begun(&plain, InterruptShadow::None, false), 1);
    // STI, CLI, POPF, MOV DS, OUT; UD2.
    for last in [&[0xfb][..], &[0xfa], &[0x9d], &[0x8e, 0xd8], &[0xe6, 0x80], &[0x0f, 0x0b]] {
        assert_eq!(begun(&[&[0x40], last, &[0x40, 0xf4]].concat(), InterruptShadow::None, true), 2, "{last:02x?}");
    }
}
