//! Relocation hazards, each by its name: what goes wrong when guest code runs somewhere else, and does not here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rvmm_patcher::block::BlockRefusal;
use rvmm_patcher::tactic::{remove, JumpRefusal};
use rvmm_patcher::{scan, CodeSize, PageOffset, Place, Reach, ScanCounts, ScanInput, TacticSet, PAGE_SIZE};
use support::patch::{compare, patch, patch_page, End, Guest, Patched, Start, GUESTS, HIGH, MIDDLE, NARROW, START};
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
    patch(&NARROW, code, 0, TacticSet::JUMP).unwrap_or_else(|refusal| panic!("{code:02x?}: {}", refusal.name()))
}

fn refusal(code: &[u8]) -> JumpRefusal {
    patch(&NARROW, code, 0, TacticSet::JUMP).err().expect("must not be patched")
}

/// Run the block and the code with these registers and flags, from ESP with room on both sides.
fn same(code: &[u8], eax: u64, ecx: u64, eflags: u64) {
    moved(code);
    let mut regs = [0; 16];
    regs[..8].copy_from_slice(&[eax, ecx, 0xC012_3300, 0xC012_3310, 0, 5, 6, 7]);
    compare(&NARROW, code, 0, &Start::plain(regs, eflags));
}

/// The same in both places of 64-bit code; RDX, RBX and R11 are places of code.
fn same_64(code: &[u8], rax: u64, rcx: u64, flags: u64) -> End {
    let mut ends = [&HIGH, &MIDDLE].into_iter().map(|guest| {
        moved_64(guest, code);
        let mut regs = [0x1111_2222_3333_4444; 16];
        (regs[0], regs[1], regs[2], regs[3], regs[11]) =
            (rax, rcx, guest.page + 0x300, guest.page + 0x310, guest.page + 0x320);
        compare(guest, code, 0, &Start::plain(regs, flags))
    });
    let end = ends.next().unwrap();
    assert!(ends.all(|other| other == end));
    end
}

fn moved_64(guest: &Guest, code: &[u8]) -> Patched {
    patch(guest, code, 0, TacticSet::JUMP).unwrap_or_else(|refusal| panic!("{code:02x?}: {}", refusal.name()))
}

fn refusal_64(code: &[u8]) -> JumpRefusal {
    patch(&HIGH, code, 0, TacticSet::JUMP).err().expect("must not be patched")
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
    let back = NARROW.page as u32 + u32::from(START) + 6;
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
    let block = patch(&NARROW, &code, 5, TacticSet::JUMP).ok().unwrap().block;
    assert_eq!(block.region.start, START + 5);
}

#[test]
fn branch_into_the_regions_middle_is_not_moved() {
    assert_eq!(refusal(&cli_and(&[&[0x75, 0xFE], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::InnerBranch));
}

#[test]
fn branch_forward_in_the_region_leads_to_the_copy() {
    // cli; je 1f; 1: mov eax, ebx
    let code = cli_and(&[&[0x74, 0x00], &[0x89, 0xD8]]);
    same(&code, 1, 1, 0);
    same(&code, 1, 1, ZF);
}

#[test]
fn branch_forward_into_an_instructions_middle_is_not_moved() {
    assert_eq!(refusal(&cli_and(&[&[0x74, 0x01], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::InnerBranch));
}

#[test]
fn a_site_that_a_branch_before_it_leads_to_takes_the_branch_along() {
    // jae 1f; lea eax, [eax+1]; 1: cli; ret; sub esp, eax
    let code = [0x73, 3, 0x8D, 0x40, 1, CLI, 0xC3, 0x29, 0xC4];
    let block = patch(&NARROW, &code, 5, TacticSet::JUMP).ok().unwrap().block;
    assert_eq!((block.region.start, block.region.end), (START, START + 6));
    let regs = [1, 1, 0xC012_3300, 0xC012_3310, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    for flags in [0, CF] {
        compare(&NARROW, &code, 5, &Start::plain(regs, flags));
    }
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
    if let Ok(patched) = patch(&NARROW, &code, site, TacticSet::JUMP) {
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
        let patched = patch_page(&NARROW, page, &[0, site], &[site], TacticSet::JUMP);
        assert_eq!(patched.err(), Some(JumpRefusal::Region(BlockRefusal::NotMovable)));
    }
}

#[test]
fn a_known_boundary_in_a_neighbours_middle_traps_under_the_jump() {
    // cli; lock inc dword [eax+0x10]; ret; and somewhere else the guest jumps behind the LOCK prefix.
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let start = usize::from(START);
    page[start..start + 6].copy_from_slice(&[CLI, 0xF0, 0xFF, 0x40, 0x10, 0xC3]);
    let patched = patch_page(&NARROW, page, &[START, START + 2], &[START], TacticSet::JUMP).ok().unwrap();
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
        let mut patched = patch_page(&NARROW, page.clone(), &[START], &[START], TacticSet::JUMP).ok().unwrap();
        assert_eq!((patched.block.region.start, patched.block.region.end), (START, START + 6));
        assert_eq!(patched.map.pierced(), None);
        let input = ScanInput {
            page: &page,
            linear: NARROW.page,
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
fn an_int_that_looks_like_a_call_is_not_moved() {
    // From a block it is how ring 0 is called.
    assert_eq!(refusal(&cli_and(&[&[0xCD, 15], &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::NotMovable));
    // mov ebx, 0x4030201; iret: it is the last instruction of the block.
    let code = [0xBB, 1, 2, 3, 4, 0xCF];
    let block = patch(&NARROW, &code, 5, TacticSet::JUMP | TacticSet::SYSCALL).unwrap();
    assert_eq!(block.code.windows(2).filter(|bytes| *bytes == [0xCD, 15]).count(), 1);
    assert_eq!(block.code[block.code.len() - 2..], [0xCD, 15]);
    let without = patch(&NARROW, &code, 5, TacticSet::JUMP).unwrap();
    assert!(!without.code.windows(2).any(|bytes| bytes == [0xCD, 15]));
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

#[test]
fn operands_relative_to_rip_keep_their_address() {
    // A load, a store with an immediate behind the displacement, one with REX, VEX and EVEX, and an address.
    let codes: [&[u8]; 4] = [
        &[0x48, 0x8B, 0x05, 0x00, 0xFE, 0xFF, 0x00],       // mov rax, [rip+x]
        &[0x81, 0x0D, 0x00, 0xFE, 0xFF, 0x00, 1, 2, 3, 4], // or dword [rip+x], imm32
        &[0xC5, 0xFA, 0x6F, 0x05, 0x00, 0xFE, 0xFF, 0x00], // vmovdqu xmm0, [rip+x]
        &[0x62, 0xF1, 0x7E, 0x48, 0x6F, 0x05, 0x00, 0xFE, 0xFF, 0x00], // vmovdqu32 zmm0, [rip+x]
    ];
    for guest in [&HIGH, &MIDDLE] {
        for code in codes {
            let patched = moved_64(guest, &cli_and(&[code]));
            let decode = |bytes: &[u8], at| iced_x86::Decoder::with_ip(64, bytes, at, 0).decode();
            let original = decode(code, guest.page + u64::from(START) + 1);
            let found = patched.block.map.entries().iter().any(|entry| {
                let at = usize::from(entry.at);
                let copy = decode(&patched.code[at..], patched.block.address + at as u64);
                copy.code() == original.code()
                    && copy.ip_rel_memory_address() == original.ip_rel_memory_address()
                    && copy.immediate_or_zero() == original.immediate_or_zero()
            });
            assert!(found, "{code:02x?}");
        }
    }
    assert_eq!(same_64(&cli_and(&[codes[0]]), 1, 1, 0), End::Left);
    assert_eq!(same_64(&cli_and(&[&[0x48, 0x8D, 0x3D, 0, 0, 0, 0xA0]]), 1, 1, 0), End::Left);
}

trait Immediate {
    fn immediate_or_zero(&self) -> u64;
}

impl Immediate for iced_x86::Instruction {
    fn immediate_or_zero(&self) -> u64 {
        (0..self.op_count()).find_map(|n| self.try_immediate(n).ok()).unwrap_or(0)
    }
}

#[test]
fn an_operand_out_of_the_blocks_reach_is_refused() {
    // The block is in front of the code by 96 MiB; the address is nearly 2 GiB behind it.
    assert_eq!(refusal_64(&cli_and(&[&[0x48, 0x8B, 0x05, 0, 0, 0, 0x7F]])), JumpRefusal::NoPlace);
}

#[test]
fn an_address_relative_to_eip_is_not_moved() {
    let code = cli_and(&[&[0x67, 0x8B, 0x05, 0, 0, 0, 1]]);
    assert_eq!(refusal_64(&code), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn branches_of_64_bit_code_keep_their_targets() {
    for (code, flags) in [(&[0x74, 0x40][..], ZF), (&[0x0F, 0x82, 0, 1, 0, 0], CF), (&[0xEB, 0x50, 0x90, 0x90], 0)] {
        assert_eq!(same_64(&cli_and(&[code, &[0x48, 0x89, 0xD8]]), 1, 1, 0), End::Left);
        assert_eq!(same_64(&cli_and(&[code, &[0x48, 0x89, 0xD8]]), 1, 1, flags), End::Left);
    }
    for count in [0, 1, 2, 1 << 32] {
        assert_eq!(same_64(&cli_and(&[&[0xE3, 0x30], &[0x89, 0xD8]]), 1, count, 0), End::Left);
        assert_eq!(same_64(&cli_and(&[&[0xE2, 0x30], &[0x89, 0xD8]]), 1, count, 0), End::Left);
    }
}

#[test]
fn jrcxz_keeps_its_address_size() {
    let block = moved_64(&HIGH, &[0x8C, 0xC8, 0x67, 0xE3, 0x30, 0x90]);
    assert!(block.code.windows(4).any(|bytes| bytes == [0x67, 0xE3, 0x02, 0xEB]));
}

#[test]
fn branch_with_16_bit_operand_size_is_not_moved_from_64_bit_code() {
    // One vendor's processors take the prefix, the other's do not.
    for code in [&[0x66, 0x74, 0x40][..], &[0x66, 0xE8, 0, 1, 0, 0], &[0x2E, 0x66, 0xEB, 0x40], &[0x66, 0xFF, 0xD3]] {
        assert_eq!(refusal_64(&cli_and(&[code, &[0x89, 0xD8]])), JumpRefusal::Region(BlockRefusal::NotMovable));
    }
}

#[test]
fn calls_of_64_bit_code_push_the_guests_return_address() {
    assert_eq!(same_64(&cli_and(&[&[0xE8, 0x10, 0, 0, 0]]), 1, 1, 0), End::Left);
    assert_eq!(same_64(&cli_and(&[&[0x89, 0xC0], &[0xFF, 0xD2]]), 1, 1, 0), End::Left);
    assert_eq!(same_64(&cli_and(&[&[0x89, 0xC0], &[0x41, 0xFF, 0xD3]]), 1, 1, 0), End::Left);
    // Through RSP, and through memory.
    for code in [&[0x89, 0xC0, 0xFF, 0xD4][..], &[0xFF, 0x15, 0, 0, 0, 1], &[0x89, 0xC0, 0xFF, 0x52, 4]] {
        assert_eq!(refusal_64(&cli_and(&[code])), JumpRefusal::Region(BlockRefusal::NotMovable));
    }
}

#[test]
fn syscall_is_not_moved() {
    // It puts the address behind it into RCX.
    let code = cli_and(&[&[0x48, 0x89, 0xD8], &[0x0F, 0x05]]);
    assert_eq!(refusal_64(&code), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn a_lea_that_cuts_its_register_is_no_filler() {
    let nop = |lea: &[u8]| cli_and(&[&[0x90], &[0xC3], lea, &[0x55]]);
    let (whole, cut) = (nop(&[0x48, 0x8D, 0x76, 0]), nop(&[0x67, 0x8D, 0x76, 0]));
    assert!(patch(&HIGH, &whole, 0, TacticSet::JUMP).is_ok());
    assert_eq!(refusal_64(&cut), JumpRefusal::Region(BlockRefusal::NotMovable));
    assert_eq!(refusal_64(&nop(&[0x8D, 0x76, 0])), JumpRefusal::Region(BlockRefusal::NotMovable));
}

#[test]
fn a_jump_reaches_2_gib_and_no_further() {
    let code = cli_and(&[&[0xBB, 1, 2, 3, 4]]);
    let next = HIGH.page + u64::from(START) + 5;
    // The last byte of patch memory that is reached, and the first.
    for (patch_at, reached) in [
        (next - (1 << 31), true),
        (next - (1 << 31) - 0x1000, true),
        (next - (1 << 31) - 0x100_0000, false),
        (next.wrapping_add(0x7F00_0000), false),
    ] {
        let guest = Guest { patch: patch_at, vcpu: HIGH.page - 0x4000_0000, ..HIGH };
        let patched = patch(&guest, &code, 0, TacticSet::JUMP);
        assert_eq!(patched.is_ok(), reached && guest.vcpu.abs_diff(patch_at) < 1 << 31, "{patch_at:#x}");
        if let Ok(patched) = patched {
            assert!(patched.block.address >= next - (1 << 31));
            assert_eq!(compare(&guest, &code, 0, &Start::plain([5; 16], 0)), End::Left);
        }
    }
}

#[test]
fn bytes_that_are_prefixes_in_64_bit_code_do_not_trap() {
    for opcode in 0..=0xFF_u8 {
        let both = GUESTS.map(|guest| rvmm_patcher::tactic::traps(opcode, guest.size));
        assert!(both[1] || !both[0], "{opcode:#x}: what traps in 32-bit code does in 64-bit code");
        if both[1] && !both[0] {
            // Invalid whatever follows.
            for next in 0..=0xFF_u8 {
                let code = [opcode, next, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                let instruction = iced_x86::Decoder::new(64, &code, 0).decode();
                assert!(instruction.is_invalid(), "{opcode:#x} {next:#x}");
            }
        }
    }
    for prefix in [0x40, 0x48, 0x4F, 0x62, 0xC4, 0xC5, 0xD5] {
        assert!(!rvmm_patcher::tactic::traps(prefix, CodeSize::Bits64), "{prefix:#x}");
    }
}
