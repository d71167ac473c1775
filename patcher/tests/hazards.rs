//! Relocation hazards, each by its name: what goes wrong when guest code runs somewhere else, and does not here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rvmm_patcher::block::BlockRefusal;
use rvmm_patcher::tactic::JumpRefusal;
use rvmm_patcher::{PageOffset, Place, TacticSet};
use support::patch::{compare, patch, Patched, Start, PAGE, START};
use support::{CF, ZF};

const CLI: u8 = 0xFA;

/// `cli` and what follows it.
fn cli_and(rest: &[&[u8]]) -> Vec<u8> {
    [&[CLI][..], &rest.concat()].concat()
}

/// Patch the `cli` at the start; there must be a block.
fn moved(code: &[u8]) -> Patched {
    patch(code, 0, TacticSet::JUMP).unwrap_or_else(|refusal| panic!("{code:02x?}: {}", refusal.name()))
}

fn refusal(code: &[u8]) -> JumpRefusal {
    patch(code, 0, TacticSet::JUMP).err().expect("must not be patched")
}

/// Run the block and the code with these registers and flags, from ESP with room on both sides.
fn same(code: &[u8], eax: u32, ecx: u32, eflags: u32) {
    moved(code);
    let regs = [eax, ecx, 0xC012_3300, 0xC012_3310, 0, 5, 6, 7];
    let (vif, pending, returns, vflags) = (true, false, true, 0);
    compare(
        code,
        0,
        &Start { regs, eflags, vif, pending, returns, vflags, stack: vec![1, 2, 3], below: 64, above: 64 },
    );
}

#[test]
fn short_branch_grows() {
    // je +0x40; mov eax, ebx; mov ecx, edx
    let code = cli_and(&[&[0x74, 0x40], &[0x89, 0xD8]]);
    same(&code, 1, 1, 0);
    same(&code, 1, 1, ZF);
    let far: Vec<_> = moved(&code).code.windows(2).filter(|pair| *pair == [0x0F, 0x84]).map(<[u8]>::to_vec).collect();
    assert_eq!(far.len(), 1);
}

#[test]
fn near_branch_keeps_its_target() {
    let code = cli_and(&[&[0x0F, 0x82, 0, 1, 0, 0]]);
    same(&code, 1, 1, 0);
    same(&code, 1, 1, CF);
}

#[test]
fn jecxz_has_no_long_form() {
    let code = cli_and(&[&[0xE3, 0x30], &[0x89, 0xD8]]);
    same(&code, 1, 0, 0);
    same(&code, 1, 7, 0);
}

#[test]
fn loop_has_no_long_form() {
    let code = cli_and(&[&[0xE2, 0x30], &[0x89, 0xD8]]);
    for count in [0, 1, 2] {
        same(&code, 1, count, 0);
    }
}

#[test]
fn jcxz_keeps_its_address_size() {
    // mov eax, cs; jcxz
    let block = moved(&[0x8C, 0xC8, 0x67, 0xE3, 0x30, 0x90]);
    assert!(block.code.windows(4).any(|bytes| bytes == [0x67, 0xE3, 0x02, 0xEB]));
}

#[test]
fn call_pushes_the_guests_return_address() {
    let code = cli_and(&[&[0xE8, 0x10, 0, 0, 0]]);
    same(&code, 1, 1, 0);
    let back = PAGE + u32::from(START) + 6;
    let push = [&[0x68][..], &back.to_le_bytes()].concat();
    assert!(moved(&code).code.windows(5).any(|bytes| bytes == push));
}

#[test]
fn call_through_a_register_pushes_the_guests_return_address() {
    same(&cli_and(&[&[0x89, 0xC3], &[0xFF, 0xD2]]), 1, 1, 0);
}

#[test]
fn call_through_the_stack_pointer_is_not_moved() {
    assert_eq!(refusal(&cli_and(&[&[0x89, 0xC3], &[0xFF, 0xD4]])), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn call_through_memory_is_not_moved() {
    // It would read its target after the push, and a fault would come too late.
    assert_eq!(refusal(&cli_and(&[&[0x89, 0xC3], &[0xFF, 0x52, 4]])), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn a_call_does_not_return_into_a_region() {
    // call; cli: taking the call along would put its return address behind the jump.
    let code = [0xE8, 0x10, 0, 0, 0, CLI, 0xBB, 1, 2, 3, 4];
    let block = patch(&code, 5, TacticSet::JUMP).ok().unwrap().block;
    assert_eq!(block.region.start, START + 5);
}

#[test]
fn branch_into_the_regions_middle_is_not_moved() {
    assert_eq!(refusal(&cli_and(&[&[0x75, 0xFE], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::InnerBranch));
}

#[test]
fn branch_to_the_regions_start_goes_through_the_jump() {
    // 1: cli; mov eax, ebx; jne 1b
    same(&cli_and(&[&[0x89, 0xD8], &[0x75, 0xFB]]), 1, 1, 0);
}

#[test]
fn branch_with_16_bit_operand_size_is_not_moved() {
    assert_eq!(refusal(&cli_and(&[&[0x66, 0x74, 0x40], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn xbegin_is_not_moved() {
    let code = cli_and(&[&[0xC7, 0xF8, 0, 1, 0, 0]]);
    assert_eq!(refusal(&code), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn code_behind_a_return_is_not_moved() {
    // cli; ret; then another function, which is not filler.
    assert_eq!(refusal(&cli_and(&[&[0xC3], &[0x55, 0x89, 0xE5]])), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn filler_behind_a_return_is_covered_but_not_moved() {
    let patched = moved(&cli_and(&[&[0x90], &[0xC3], &[0x8D, 0x74, 0x26, 0x00], &[0x55]]));
    assert_eq!(patched.block.region.end - patched.block.region.start, 7);
    let place = |at: u16| patched.map.at(PageOffset::of(u64::from(START + at)));
    assert_eq!((place(2), place(3)), (Place::Moved { len: 1 }, Place::Covered));
    // The return is the last instruction: no jump back behind it.
    assert_eq!(patched.code.last(), Some(&0xC3));
}

#[test]
fn a_neighbour_that_crosses_the_page_is_not_moved() {
    let mut code = vec![0x90; 4096 - usize::from(START) - 3];
    code.extend([CLI, 0xBB, 1]);
    let site = code.len() as u16 - 3;
    // Only what stands in front of the cli can make its region long enough.
    if let Ok(patched) = patch(&code, site, TacticSet::JUMP) {
        assert!(patched.block.region.end <= START + site + 1);
    }
}

#[test]
fn fault_in_a_moved_neighbour_is_the_guests() {
    // mov eax, [0]: faults in the block as in the guest, at the guest's own boundary (compare checks both).
    same(&cli_and(&[&[0xA1, 0, 0, 0, 0]]), 1, 1, 0);
}

#[test]
fn a_jump_over_another_jump_is_refused() {
    let patched = moved(&cli_and(&[&[0xBB, 1, 2, 3, 4]]));
    let region = patched.block.region;
    assert_eq!(patched.map.jump_at(PageOffset::of(u64::from(region.start + 1))).map(|jump| jump.start), Some(START));
    assert_eq!(patched.map.jump_at(PageOffset::of(u64::from(region.end))), None);
}
