//! Relocation hazards, each by its name: what goes wrong when guest code runs somewhere else, and does not here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rvmm_patcher::block::BlockRefusal;
use rvmm_patcher::tactic::{remove, JumpRefusal};
use rvmm_patcher::{scan, CodeSize, PageOffset, Place, Reach, ScanCounts, ScanInput, TacticSet, PAGE_SIZE};
use support::patch::{compare, patch, patch_page, Patched, Start, PAGE, START};
use support::{CF, ZF};

const CLI: u8 = 0xFA;

fn traps(opcode: u8) -> bool {
    rvmm_patcher::tactic::traps(opcode, CodeSize::Bits32)
}

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
fn a_region_ends_with_its_page() {
    // What follows is on the next page, not at the start of this one.
    for (first, last) in [(&[0xB8, 1, 2, 3, 4][..], [CLI, 0x90]), (&[0x0F, 0x1F, 0x40, 0][..], [CLI, 0xC3])] {
        let mut page = Box::new([0x55; PAGE_SIZE]);
        page[..first.len()].copy_from_slice(first);
        page[first.len()] = 0xC3;
        let site = PAGE_SIZE as u16 - 2;
        page[usize::from(site)..].copy_from_slice(&last);
        let patched = patch_page(page, &[0, site], site, TacticSet::JUMP);
        assert_eq!(patched.err(), Some(JumpRefusal::Region(BlockRefusal::NotMovable)));
    }
}

#[test]
fn a_known_boundary_in_a_neighbours_middle_traps_under_the_jump() {
    // cli; lock inc dword [eax+0x10]; ret; and somewhere else the guest jumps behind the LOCK prefix.
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let start = usize::from(START);
    page[start..start + 6].copy_from_slice(&[CLI, 0xF0, 0xFF, 0x40, 0x10, 0xC3]);
    let patched = patch_page(page, &[START, START + 2], START, TacticSet::JUMP).ok().unwrap();
    assert_eq!(patched.block.region.start, START);
    assert!(traps(patched.view[start + 1]), "a neighbour");
    assert!(traps(patched.view[start + 2]), "its middle");
}

#[test]
fn a_boundary_that_is_found_under_a_jump_pierces_it() {
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let start = usize::from(START);
    // cli; mov ebx, 4 bytes; and far behind it, jumps to each of the five.
    page[start..start + 7].copy_from_slice(&[CLI, 0xBB, 1, 2, 3, 4, 0xC3]);
    for to in 0..6_u8 {
        let at = start + 0x20 + 2 * usize::from(to);
        page[at..at + 2].copy_from_slice(&[0xEB, (-0x22_i8 - (to as i8)) as u8]);
    }
    for to in 0..6 {
        let mut patched = patch_page(page.clone(), &[START], START, TacticSet::JUMP).ok().unwrap();
        assert_eq!((patched.block.region.start, patched.block.region.end), (START, START + 6));
        assert_eq!(patched.map.pierced(), None);
        let input = ScanInput {
            page: &page,
            linear: u64::from(PAGE),
            entry: PageOffset::of(u64::from(START + 0x20 + 2 * to)),
            code_size: CodeSize::Bits32,
            reach: Reach::default(),
        };
        let mut counts = ScanCounts::ZERO;
        scan(&input, &mut patched.map, &mut counts).unwrap();
        let to = usize::from(to);
        let lands = patched.view[start + to];
        let pierced = to != 0 && to < 5 && !traps(lands);
        assert_eq!(patched.map.pierced().is_some(), pierced, "{to}: {lands:#x}");
        if let Some(head) = patched.map.pierced() {
            assert!(remove(&mut patched.map, head).is_some());
        }
        assert_eq!(patched.map.pierced(), None);
    }
}

#[test]
fn a_breakpoint_in_its_long_form_is_not_moved() {
    // It traps: EIP is behind it, where nothing could be told from the block's own exits.
    assert_eq!(refusal(&cli_and(&[&[0xCD, 3], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::NotMovable));
    moved(&cli_and(&[&[0xCD, 0x80], &[0x89, 0xD8]]));
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
