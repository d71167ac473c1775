//! Patch blocks against the instructions that they stand for, instruction by instruction of the block: wherever a block is
//! stopped, recovery gives a state that the guest's own code passes through, and never an earlier one than before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use rvmm_patcher::{PageOffset, Place, TacticSet, INT3};
use support::patch::{compare, patch, Start, START};

/// Instructions that a region may hold, all known to the test CPU.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => proptest::sample::select(vec![
            vec![0xFAu8], vec![0xFB], vec![0x9C], vec![0x9D], vec![0x8C, 0xC8], vec![0x66, 0x8C, 0xD3], vec![0x0E], vec![0x16],
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
        any::<(bool, bool)>(),
        prop_oneof![3 => Just(0u32), 1 => Just(0x3000), 1 => Just(0x4_0000)],
        proptest::collection::vec(prop_oneof![any::<u32>().prop_map(|v| v & 0x20_0ED5), any::<u32>()], 8),
        prop_oneof![4 => Just(64u32), 1 => Just(0)],
        prop_oneof![4 => Just(64u32), 1 => Just(0)],
    )
        .prop_map(|(regs, flags, (vif, pending), vflags, stack, below, above)| Start {
            regs,
            eflags: flags & 0xCD5,
            vif,
            pending,
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
