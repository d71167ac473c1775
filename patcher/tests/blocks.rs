//! Patch blocks against the instructions that they stand for, instruction by instruction of the block: wherever a block is
//! stopped, recovery gives a state that the guest's own code passes through, and never an earlier one than before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use rvmm_patcher::{PageOffset, Place, TacticSet, INT3};
use support::patch::{compare, native_return, patch, End, Start, CS, PAGE, START};
use support::{Cpu, IF};

/// Instructions that a region may hold, all known to the test CPU.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => proptest::sample::select(vec![
            vec![0xFAu8], vec![0xFB], vec![0x9C], vec![0x9D], vec![0x8C, 0xC8], vec![0x66, 0x8C, 0xD3], vec![0x0E], vec![0x16],
            vec![0xCF], vec![0x0F, 0x20, 0xC0], vec![0x0F, 0x20, 0xD7], vec![0x0F, 0x20, 0xDC], vec![0x0F, 0x20, 0xE1],
        ]),
        3 => proptest::sample::select(vec![
            vec![0x50u8], vec![0x5B], vec![0x5A], vec![0x90], vec![0x31, 0xC0], vec![0x85, 0xC0], vec![0xF9],
            vec![0x8D, 0x54, 0x0A, 0x11], vec![0x8B, 0x44, 0x24, 0x04], vec![0x89, 0x4C, 0x24, 0x04], vec![0x91],
        ]),
        1 => any::<u32>().prop_map(|value| [&[0xBBu8][..], &value.to_le_bytes()].concat()),
        1 => proptest::sample::select(vec![
            vec![0x74u8, 0x40], vec![0x75, 0x40], vec![0x72, 0xC0], vec![0xEB, 0x50], vec![0xE3, 0x30], vec![0xE2, 0x30],
            vec![0xE8, 0x10, 0x10, 0, 0], vec![0xFF, 0xD2], vec![0xC3], vec![0x0F, 0x88, 0, 1, 0, 0],
        ]),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    (
        any::<[u32; 8]>(),
        any::<u32>(),
        (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.8)),
        prop_oneof![3 => Just(0u32), 1 => Just(0x3000), 1 => Just(0x4_0000)],
        proptest::collection::vec(prop_oneof![any::<u32>().prop_map(|v| v & 0x20_0ED5), any::<u32>(), Just(CS)], 8),
        prop_oneof![4 => Just(64u32), 1 => Just(0)],
        prop_oneof![4 => Just(64u32), 1 => Just(0)],
    )
        .prop_map(|(regs, flags, (vif, pending, returns), vflags, stack, below, above)| Start {
            regs,
            eflags: flags & 0xCD5,
            vif,
            pending,
            returns,
            vflags,
            stack,
            below,
            above,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_block_is_at_every_instruction_somewhere_in_the_guests_own_run(
        instructions in proptest::collection::vec(instruction(), 1..6),
        pick in any::<proptest::sample::Index>(),
        start in start(),
    ) {
        let index = pick.index(instructions.len());
        let site: usize = instructions[..index].iter().map(Vec::len).sum();
        compare(&instructions.concat(), site as u16, &start);
    }
}

#[test]
fn each_block_kind_is_really_exercised() {
    let kinds: [&[u8]; 8] = [&[0xFA], &[0xFB], &[0x9C], &[0x9D], &[0x8C, 0xC8], &[0x66, 0x8C, 0xD3], &[0x0E], &[0x16]];
    for kind in kinds {
        let code = [kind, &[0x8D, 0x54, 0x0A, 0x11]].concat();
        let patched = patch(&code, 0, TacticSet::JUMP).unwrap_or_else(|refusal| panic!("{kind:x?}: {refusal:?}"));
        assert_eq!(patched.view[usize::from(START)], 0xE9);
        assert!(patched.code.len() > 8);
        assert_eq!(patched.map.at(PageOffset::of(u64::from(START))), Place::JumpHead);
    }
}

/// Neighbours in front of an IRET, each with what it takes off the stack.
fn neighbour() -> impl Strategy<Value = (Vec<u8>, u32)> {
    proptest::sample::select(vec![
        (vec![0x5Bu8], 4),                 // pop ebx
        (vec![0x58], 4),                   // pop eax
        (vec![0x8D, 0x64, 0x24, 0x08], 8), // lea esp, [esp+8]
        (vec![0x8D, 0x54, 0x0A, 0x11], 0), // lea edx, [edx+ecx+17]
        (vec![0x8B, 0x44, 0x24, 0x04], 0), // mov eax, [esp+4]
        (vec![0xBB, 1, 2, 3, 4], 0),       // mov ebx, 0x4030201
        (vec![0x85, 0xC0], 0),             // test eax, eax
        (vec![0xF9], 0),                   // stc
        (vec![0xFA], 0),                   // cli
    ])
}

/// EFLAGS in a frame: mostly what a block takes.
fn image() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => any::<u32>().prop_map(|v| v & 0x20_0ED5),
        1 => (0u32..22).prop_map(|bit| 1 << bit | 2),
        1 => any::<u32>(),
    ]
}

/// CS in a frame: mostly the guest's own, with anything above it.
fn selector() -> impl Strategy<Value = u32> {
    prop_oneof![6 => any::<u16>().prop_map(|above| u32::from(above) << 16 | CS), 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_iret_to_the_same_ring_is_done_by_its_block_and_every_other_by_the_vmm(
        neighbours in proptest::collection::vec(neighbour(), 1..5),
        frame in (any::<u32>(), selector(), image()),
        missing in prop_oneof![6 => Just(0u32), 1 => 1u32..=12],
        mut start in start(),
    ) {
        let mut code: Vec<u8> = neighbours.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let site = code.len() as u16;
        code.push(0xCF);
        let Ok(patched) = patch(&code, site, TacticSet::JUMP) else { return Ok(()) };
        // Those that the region takes along.
        let (mut at, mut before) = (START, 0);
        for (bytes, taken) in neighbours {
            before += if at >= patched.block.region.start { taken } else { 0 };
            at += bytes.len() as u16;
        }
        start.stack = [vec![7; before as usize / 4], vec![frame.0, frame.1, frame.2]].concat();
        start.above = before + 12 - missing;
        let end = compare(&code, site, &start);
        let mut guest = Cpu { regs: [0; 8], ..Cpu::default() };
        guest.map(0, &[frame.0, frame.1, frame.2].map(u32::to_le_bytes).concat());
        let wanted = match (missing, native_return(&guest, &start)) {
            // Another CS is the VMM's before the flags are looked at.
            (1..=4, _) if frame.1 & 0xFFFF != CS || !start.returns => End::Asked,
            (1.., _) => End::Fault,
            (0, true) => End::Left,
            (0, false) => End::Asked,
        };
        prop_assert_eq!(end, wanted);
    }
}

#[test]
fn an_iret_takes_its_flags_from_the_frame_whatever_they_were() {
    // mov ebx, 0x4030201; iret, from each combination of the virtual IF, AC and IOPL.
    let code = [0xBB, 1, 2, 3, 4, 0xCF];
    for vif in [false, true] {
        for vflags in [0, 0x3000, 0x4_0000, 0x4_3000] {
            for image in [2, IF | 2, 0x20_0CD7, 0x8D5 | IF] {
                let stack = vec![PAGE + 0x40, CS, image];
                let (eflags, pending, returns) = (0x8D5, false, true);
                let start = Start { regs: [9; 8], eflags, vif, pending, returns, vflags, stack, below: 0, above: 12 };
                assert_eq!(compare(&code, 5, &start), End::Left);
            }
        }
    }
}

#[test]
fn an_iret_with_a_16_bit_frame_keeps_its_int3() {
    assert!(patch(&[0xBB, 1, 2, 3, 4, 0x66, 0xCF], 5, TacticSet::JUMP).is_err());
}

#[test]
fn where_a_guest_instruction_began_in_a_jump_window_stands_a_trapping_byte() {
    // pushf; pop eax; cli; then a long one: boundaries at window bytes 1 and 2.
    let patched = patch(&[0x9C, 0x58, 0xBB, 1, 2, 3, 4], 0, TacticSet::JUMP).ok().unwrap();
    let trapping = [0xCC, 0xF4, 0xFA, 0xFB, 0x6C, 0x6D, 0x6E, 0x6F, 0xE4, 0xE5, 0xE6, 0xE7, 0xEC, 0xED, 0xEE, 0xEF];
    for at in [1, 2] {
        assert!(trapping.contains(&patched.view[usize::from(START) + at]));
        assert!(matches!(patched.map.at(PageOffset::of(u64::from(START) + at as u64)), Place::Moved { .. }));
    }
    assert_eq!(patched.view[usize::from(START) + 5..usize::from(START) + 7], [INT3; 2]);
}

#[test]
fn a_tactic_that_is_off_makes_no_block() {
    let code = [0xFA, 0x8D, 0x54, 0x0A, 0x11];
    assert!(patch(&code, 0, TacticSet::STI).is_err());
    assert!(patch(&code, 0, TacticSet::CLI).is_ok());
}
