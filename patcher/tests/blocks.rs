//! Patch blocks against the instructions that they stand for, instruction by instruction of the block: wherever a block is
//! stopped, recovery gives a state that the guest's own code passes through, and never an earlier one than before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use rvmm_patcher::block::Undo;
use rvmm_patcher::tactic::traps;
use rvmm_patcher::{CodeSize, PageOffset, Place, TacticSet, INT3};
use support::patch::{
    compare, compare_in_turn, native_return, patch, patch_in_turn, patch_page, End, Guest, Start, DATA, GUESTS, HIGH,
    MIDDLE, NARROW, START,
};
use support::{Cpu, IF};

/// Instructions that a region may hold, all known to the test CPU: those with a block, those without, and branches.
fn instruction(size: CodeSize) -> BoxedStrategy<Vec<u8>> {
    let bytes = |list: &[&[u8]]| proptest::sample::select(list.iter().map(|code| code.to_vec()).collect::<Vec<_>>());
    let common = bytes(&[
        &[0xFA],
        &[0xFB],
        &[0x9C],
        &[0x9D],
        &[0x8C, 0xC8],
        &[0x66, 0x8C, 0xD3],
        &[0x0F, 0x20, 0xC0],
        &[0x0F, 0x20, 0xD7],
        &[0x0F, 0x20, 0xDC],
        &[0x0F, 0x20, 0xE1],
    ]);
    let harmless = bytes(&[
        &[0x50],
        &[0x5B],
        &[0x5A],
        &[0x90],
        &[0x31, 0xC0],
        &[0x85, 0xC0],
        &[0xF9],
        &[0x8D, 0x54, 0x0A, 0x11],
        &[0x8B, 0x44, 0x24, 0x04],
        &[0x89, 0x4C, 0x24, 0x04],
        &[0x91],
    ]);
    let immediate = any::<u32>().prop_map(|value| [&[0xBB][..], &value.to_le_bytes()].concat());
    let branches = bytes(&[
        &[0x74, 0x40],
        &[0x75, 0x40],
        &[0x72, 0xC0],
        &[0xEB, 0x50],
        &[0xE3, 0x30],
        &[0xE2, 0x30],
        &[0xE8, 0x10, 0x10, 0, 0],
        &[0xFF, 0xD2],
        &[0xC3],
        &[0x0F, 0x88, 0, 1, 0, 0],
    ]);
    if size == CodeSize::Bits32 {
        let own = bytes(&[&[0x0E], &[0x16], &[0xCF], &verw(&NARROW)]);
        return prop_oneof![3 => common, 1 => own, 3 => harmless, 1 => immediate, 1 => branches].boxed();
    }
    let own = bytes(&[
        &[0x48, 0xCF],
        &[0x0F, 0x01, 0xF8],
        &[0x41, 0x0F, 0x20, 0xC0],
        &[0x41, 0x0F, 0x20, 0xD7],
        &[0x49, 0x8C, 0xC9],
        &[0x66, 0x41, 0x8C, 0xD2],
        &[0x44, 0x8C, 0xD0],
        &[0x0F, 0x00, 0x2C, 0x25, 0x00, 0x30, 0x12, 0x82], // verw [HIGH's DATA]
        &[0x48, 0x9C],
        &[0x48, 0x9D],
    ]);
    let wide = bytes(&[
        &[0x41, 0x57],                                     // push r15
        &[0x41, 0x58],                                     // pop r8
        &[0x48, 0x8B, 0x05, 0xE0, 0xFF, 0xFF, 0x00],       // mov rax, [rip+DATA]
        &[0x4C, 0x8D, 0x0D, 0x11, 0x22, 0x33, 0x04],       // lea r9, [rip+0x4332211]
        &[0x81, 0x3D, 0xD0, 0xFF, 0xFF, 0x00, 1, 2, 3, 4], // cmp dword [rip+DATA], imm32
        &[0x48, 0x39, 0x05, 0xE8, 0xFF, 0xFF, 0x00],       // cmp [rip+DATA], rax
        &[0x89, 0x0D, 0xC8, 0xFF, 0xFF, 0x00],             // mov [rip+DATA], ecx
        &[0xC7, 0x05, 0xD8, 0xFF, 0xFF, 0x00, 9, 8, 7, 6], // mov dword [rip+DATA], imm32
        &[0x41, 0xFF, 0xD3],                               // call r11
        &[0xFF, 0x25, 0xC0, 0xFF, 0xFF, 0x00],             // jmp [rip+DATA]
        &[0x49, 0x89, 0xC4],                               // mov r12, rax
    ]);
    prop_oneof![3 => common, 2 => own, 3 => harmless, 3 => wide, 1 => immediate, 1 => branches].boxed()
}

fn guest() -> impl Strategy<Value = &'static Guest> {
    proptest::sample::select(GUESTS.to_vec())
}

fn start() -> impl Strategy<Value = Start> {
    (
        any::<[u64; 16]>(),
        any::<u64>(),
        (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.8), proptest::bool::weighted(0.9), any::<bool>()),
        prop_oneof![3 => Just(0u64), 1 => Just(0x3000), 1 => Just(0x4_0000)],
        proptest::collection::vec(
            prop_oneof![any::<u64>().prop_map(|v| v & 0x20_0ED5), any::<u64>(), Just(NARROW.cs)],
            8,
        ),
        prop_oneof![4 => Just(64u64), 1 => Just(0)],
        prop_oneof![4 => Just(64u64), 1 => Just(0)],
    )
        .prop_map(|(regs, flags, (vif, pending, returns, fsgsbase, known), vflags, stack, below, above)| Start {
            regs,
            eflags: flags & 0xCD5,
            vif,
            pending,
            returns,
            vflags,
            stack,
            below,
            above,
            fsgsbase,
            known,
        })
}

/// A guest and code for it.
fn code() -> impl Strategy<Value = (&'static Guest, Vec<Vec<u8>>)> {
    guest().prop_flat_map(|guest| (Just(guest), proptest::collection::vec(instruction(guest.size), 1..6)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_block_is_at_every_instruction_somewhere_in_the_guests_own_run(
        (guest, instructions) in code(),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
        start in start(),
    ) {
        // Neighbours that were patched before make part of the block, if the last one cannot do without them.
        let site = |pick: &proptest::sample::Index| {
            instructions[..pick.index(instructions.len())].iter().map(|code| code.len() as u16).sum()
        };
        let sites: Vec<u16> = picks.iter().map(site).collect();
        compare_in_turn(guest, &instructions.concat(), &sites, &start);
    }
}

#[test]
fn each_block_kind_is_really_exercised() {
    let both: [&[u8]; 8] = [
        &[0xFA],
        &[0xFB],
        &[0x9C],
        &[0x9D],
        &[0x8C, 0xC8],
        &[0x66, 0x8C, 0xD3],
        &[0x0F, 0x20, 0xC0],
        &[0x0F, 0x20, 0xD7],
    ];
    let narrow: [&[u8]; 3] = [&[0x0E], &[0x16], &[0xCF]];
    let wide: [&[u8]; 3] = [&[0x48, 0xCF], &[0x0F, 0x01, 0xF8], &[0x49, 0x8C, 0xD1]];
    for guest in GUESTS {
        let own = if guest.size == CodeSize::Bits32 { narrow } else { wide };
        for kind in both.into_iter().chain(own) {
            // An IRET is last, and wants five bytes in front of it.
            let (before, behind): (&[u8], &[u8]) =
                if kind.ends_with(&[0xCF]) { (&[0xBB, 1, 2, 3, 4], &[]) } else { (&[], &[0x8D, 0x54, 0x0A, 0x11]) };
            let (code, site) = ([before, kind, behind].concat(), before.len() as u16);
            let patched = patch(guest, &code, site, TacticSet::JUMP);
            let patched = patched.unwrap_or_else(|refusal| panic!("{kind:x?}: {refusal:?}"));
            let start = patched.block.region.start;
            assert_eq!(patched.view[usize::from(start)], 0xE9);
            assert!(patched.code.len() > 8);
            assert_eq!(patched.map.at(PageOffset::of(u64::from(start))), Place::JumpHead);
            let end = compare(guest, &code, site, &Start::plain([3; 16], 0));
            assert!(end == End::Left || kind.ends_with(&[0xCF]), "{kind:x?}: {end:?}");
        }
    }
}

/// Neighbours in front of an IRET, each with what it takes off the stack, in words.
fn neighbour() -> impl Strategy<Value = (Vec<u8>, u64)> {
    proptest::sample::select(vec![
        (vec![0x5Bu8], 1),                 // pop ebx
        (vec![0x58], 1),                   // pop eax
        (vec![0x8D, 0x54, 0x0A, 0x11], 0), // lea edx, [edx+ecx+17]
        (vec![0x8B, 0x44, 0x24, 0x04], 0), // mov eax, [esp+4]
        (vec![0xBB, 1, 2, 3, 4], 0),       // mov ebx, 0x4030201
        (vec![0x85, 0xC0], 0),             // test eax, eax
        (vec![0xF9], 0),                   // stc
        (vec![0xFA], 0),                   // cli
    ])
}

/// Flags in a frame: mostly what a block takes.
fn image() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => any::<u64>().prop_map(|v| v & 0x20_0ED5),
        1 => (0u32..22).prop_map(|bit| 1 << bit | 2),
        1 => any::<u64>(),
    ]
}

/// A selector in a frame, to be combined with the guest's own: mostly that, with anything above it.
fn selector() -> impl Strategy<Value = (bool, u64)> {
    (proptest::bool::weighted(0.85), any::<u64>())
}

/// An address in a frame: mostly one that may be returned to.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>().prop_map(|value| (value as i64 >> 17) as u64),
        1 => proptest::sample::select(vec![0, (1 << 47) - 1, 1 << 47, (1 << 47) + 1, u64::MAX << 47, (u64::MAX << 47) - 1, u64::MAX]),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_iret_to_the_same_ring_is_done_by_its_block_and_every_other_by_the_vmm(
        guest in guest(),
        neighbours in proptest::collection::vec(neighbour(), 1..5),
        (target, cs, image, rsp, ss) in (address(), selector(), image(), any::<u64>(), selector()),
        missing in prop_oneof![6 => Just(0u64), 1 => 1u64..=40],
        mut start in start(),
    ) {
        let mut code: Vec<u8> = neighbours.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let site = code.len() as u16;
        code.extend(if guest.size == CodeSize::Bits64 { &[0x48, 0xCF][..] } else { &[0xCF] });
        let Ok(patched) = patch(guest, &code, site, TacticSet::JUMP) else { return Ok(()) };
        let word = guest.word();
        // Those that the region takes along.
        let (mut at, mut before) = (START, 0);
        for (bytes, taken) in neighbours {
            before += if at >= patched.block.region.start { taken * word } else { 0 };
            at += bytes.len() as u16;
        }
        let own = |(own, any): (bool, u64), selector| if own { any & !0xFFFF | selector } else { any };
        let (cs, ss) = (own(cs, guest.cs), own(ss, guest.ss));
        let frame = if word == 8 { vec![target, cs, image, rsp, ss] } else { vec![target, cs, image] };
        let frame: Vec<u64> = frame.into_iter().map(|value| guest.cut(value)).collect();
        let missing = missing.min(frame.len() as u64 * word);
        start.stack = [vec![7; (before / word) as usize], frame.clone()].concat();
        start.above = before + frame.len() as u64 * word - missing;
        let end = compare(guest, &code, site, &start);
        let mut looks = Cpu::new(guest.size);
        looks.map(0, &frame.iter().flat_map(|value| value.to_le_bytes()[..word as usize].to_vec()).collect::<Vec<u8>>());
        // What has been read of the frame when the block looks at it.
        let there = (frame.len() as u64 * word - missing) / word;
        let refused_early = !support::canonical(guest.cut(target)) && word == 8 && there >= 1
            || (cs & 0xFFFF != guest.cs || !start.returns) && there >= 2
            || (image & 0x1F_7100 != 0 || start.pending && image & IF != 0) && there >= 3;
        let wanted = match (missing, native_return(guest, &looks, &start)) {
            (1.., _) if refused_early => End::Asked,
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
    for guest in GUESTS {
        let (rsp, wide) = (0x1234, guest.size == CodeSize::Bits64);
        let iret: &[u8] = if wide { &[0x48, 0xCF] } else { &[0xCF] };
        let code = [&[0xBB, 1, 2, 3, 4], iret].concat();
        for vif in [false, true] {
            for vflags in [0, 0x3000, 0x4_0000, 0x4_3000] {
                for image in [2, IF | 2, 0x20_0CD7, 0x8D5 | IF] {
                    let stack = vec![guest.page + 0x40, guest.cs, image, rsp, guest.ss];
                    let above = if wide { 40 } else { 12 };
                    let start = Start { vif, vflags, stack, below: 0, above, ..Start::plain([9; 16], 0x8D5) };
                    assert_eq!(compare(guest, &code, 5, &start), End::Left);
                }
            }
        }
    }
}

#[test]
fn an_iret_with_a_frame_of_another_size_keeps_its_int3() {
    assert!(patch(&NARROW, &[0xBB, 1, 2, 3, 4, 0x66, 0xCF], 5, TacticSet::JUMP).is_err());
    assert!(patch(&HIGH, &[0xBB, 1, 2, 3, 4, 0x66, 0xCF], 5, TacticSet::JUMP).is_err());
    assert!(patch(&HIGH, &[0xBB, 1, 2, 3, 4, 0xCF], 5, TacticSet::JUMP).is_err());
}

#[test]
fn a_site_takes_in_the_jump_that_has_its_neighbours() {
    // As Linux synchronises a CPU: pushfq; mov eax, cs; push rax; push here; iretq.
    let code = [0x9C, 0x8C, 0xC8, 0x50, 0x68, 0x40, 0x30, 0x12, 0x81, 0x48, 0xCF, 0x41, 0xF7, 0xC5, 0, 2, 0, 0];
    let first = patch(&HIGH, &code, 0, TacticSet::JUMP).ok().unwrap().block.region;
    assert_eq!((first.start, first.end), (START, START + 9), "the iretq has nobody left");
    for tactics in [TacticSet::JUMP, TacticSet::all()] {
        let both = patch_in_turn(&HIGH, &code, &[0, 9], tactics).ok().unwrap();
        assert_eq!((both.block.region.start, both.block.region.end), (START, START + 11));
        assert_eq!(both.map.jumps().count(), 1);
        assert_eq!(both.view[usize::from(START) + 5..usize::from(START) + 11], [INT3; 6]);
    }
    for vif in [false, true] {
        // The frame's first three words are pushed by the code itself.
        let start = Start { vif, stack: vec![0x1234, HIGH.ss], ..Start::plain([9; 16], 0x8D5) };
        assert_eq!(compare_in_turn(&HIGH, &code, &[0, 9], &start), End::Left);
    }
}

#[test]
fn a_region_that_is_entered_in_its_middle_takes_in_no_jump() {
    // 0: cli; 1: mov ebx, imm32; 6: sti; 7: ret; and at 8 what jumps to the sti.
    let code = [0xFA, 0xBB, 1, 2, 3, 4, 0xFB, 0xC3, 0xEB, 0xFC];
    for guest in GUESTS {
        let mut page = Box::new([0x90; rvmm_patcher::PAGE_SIZE]);
        let start = usize::from(START);
        page[start..start + code.len()].copy_from_slice(&code);
        let merged = patch_page(guest, page.clone(), &[START], &[START, START + 6], TacticSet::JUMP);
        assert_eq!(merged.ok().unwrap().map.jumps().count(), 1, "nobody is known to jump there");
        let refused = patch_page(guest, page, &[START, START + 8], &[START, START + 6], TacticSet::JUMP);
        assert!(refused.is_err());
    }
}

#[test]
fn a_boundary_in_the_middle_of_a_moved_instruction_traps_in_the_jump_that_takes_its_jump_in() {
    // 0: mov eax, cr0, into which something jumps; 3: lea edx, [edx+ecx+17]; 7: sti; 8: ret.
    for guest in GUESTS {
        let code = [0x0F, 0x20, 0xC0, 0x8D, 0x54, 0x0A, 0x11, 0xFB, 0xC3, 0x58];
        let mut page = Box::new([0x90; rvmm_patcher::PAGE_SIZE]);
        let start = usize::from(START);
        page[start..start + code.len()].copy_from_slice(&code);
        let entries = [START, START + 1];
        let patched = patch_page(guest, page.clone(), &entries, &[START], TacticSet::JUMP).ok().unwrap();
        assert!(traps(patched.view[usize::from(START) + 1], guest.size));
        let before = patch_page(guest, page.clone(), &entries, &[START, START + 7], TacticSet::JUMP).ok().unwrap();
        assert_eq!(before.map.jumps().count(), 1);
        assert_eq!((before.block.region.start, before.block.region.end), (START, START + 8));
        for at in [1, 3] {
            assert!(traps(before.view[usize::from(START) + at], guest.size), "{at}");
        }
    }
}

#[test]
fn int3_behind_a_return_is_filler_and_traps() {
    // pushf; pop eax; ret, and what Linux leaves of a longer jump behind it.
    let code = [0x9C, 0x58, 0xC3, INT3, INT3, INT3, INT3, 0x90];
    // Patch memory at a distance whose highest byte traps.
    for (guest, distance) in GUESTS.into_iter().zip([0x6CED_D000, 0x1DED_D000, 0x1DED_D000]) {
        let guest = &Guest { patch: guest.cut(guest.page + distance), ..*guest };
        let patched = patch(guest, &code, 0, TacticSet::JUMP).ok().unwrap();
        let region = patched.block.region;
        assert_eq!((region.start, region.end), (START, START + 5));
        for at in 1..5 {
            assert!(traps(patched.view[usize::from(START + at)], guest.size));
        }
        assert_eq!(patched.map.at(PageOffset::of(u64::from(START) + 3)), Place::Covered);
        assert_eq!(compare(guest, &code, 0, &Start::plain([9; 16], 0x8D5)), End::Left);
    }
}

/// As the handler of its own fault is behind Linux' 32-bit one.
#[test]
fn the_jump_of_an_iret_covers_what_has_never_run_if_all_of_it_traps() {
    // Where the two highest bytes of displacements may trap.
    let narrow = Guest { patch: 0xB4C0_0000, ..NARROW };
    let high = Guest { patch: 0xFFFF_FFFF_75C0_0000, ..HIGH };
    let iret: [(&Guest, &[u8]); 2] = [(&narrow, &[0xCF]), (&high, &[0x48, 0xCF])];
    for (guest, iret) in iret {
        let mut page = Box::new([0x90; 4096]);
        let start = usize::from(START);
        // A call, which is no filler and nothing that a jump may cover once it is known.
        let code = [iret, &[0xE8, 0x10, 0x10, 0, 0]].concat();
        page[start..start + code.len()].copy_from_slice(&code);
        let patched = patch_page(guest, page.clone(), &[START], &[START], TacticSet::IRET).unwrap();
        assert_eq!((patched.block.region.start, patched.view[start]), (START, 0xE9));
        for at in start + iret.len()..start + 5 {
            assert!(traps(patched.view[at], guest.size), "{:x?}", &patched.view[start..start + 5]);
            assert_eq!(patched.map.at(PageOffset::of(at as u64)), Place::Covered);
        }
        let known = START + iret.len() as u16;
        assert!(patch_page(guest, page, &[START, known], &[START], TacticSet::IRET).is_err());
    }
}

/// As Linux enters by SYSENTER on a CPU without Meltdown: what changes CR3 is jumped over, and has never run.
#[test]
fn the_jump_of_a_pushf_covers_what_a_jump_leads_past() {
    let narrow = Guest { patch: 0xB4C0_0000, ..NARROW };
    // pushf; push eax; jmp +3; mov eax, cr3; pop eax; popf.
    let code = [0x9C, 0x50, 0xEB, 0x03, 0x0F, 0x20, 0xD8, 0x58, 0x9D, 0x90];
    let patched = patch(&narrow, &code, 0, TacticSet::JUMP).ok().unwrap();
    assert_eq!((patched.block.region.start, patched.block.region.end), (START, START + 5));
    assert_eq!(patched.map.at(PageOffset::of(u64::from(START) + 4)), Place::Covered);
    for at in [1, 2, 4] {
        assert!(traps(patched.view[usize::from(START) + at], narrow.size), "{at}");
    }
    assert_eq!(compare(&narrow, &code, 0, &Start::plain([9; 16], 0x8D5)), End::Left);
    // Once it is known it is no filler.
    assert!(patch_page(&narrow, patched.page, &[START, START + 4], &[START], TacticSet::JUMP).is_err());
}

/// Linux' way out of a SYSENTER: POPF; POP EAX; STI; SYSEXIT are five bytes, which one jump takes whichever is hot first.
#[test]
fn the_way_out_of_a_sysenter_is_one_block() {
    let guest = Guest { patch: NARROW.cut(NARROW.page + 0x1060_0000), ..NARROW };
    let code = [0x9D, 0x58, 0xFB, 0x0F, 0x35, 0xE8, 0, 0x10, 0, 0];
    for sites in [&[3][..], &[0], &[2]] {
        let patched = patch_in_turn(&guest, &code, sites, TacticSet::all()).ok().unwrap();
        assert_eq!((patched.block.region.start, patched.block.region.end), (START, START + 5));
        for at in 1..4 {
            assert!(traps(patched.view[usize::from(START + at)], guest.size));
            let boundary = i32::from(START + at);
            assert!(patched.block.map.enter_at(boundary).is_some(), "{at}");
        }
        // The call of ring 0 is the end, with nothing to undo: it is the guest's SYSEXIT that has not happened yet.
        let last = patched.block.map.entries().last().unwrap();
        assert_eq!(patched.code[usize::from(last.at)..], [0xCD, 15]);
        assert_eq!((last.undo, last.guest), (Undo::empty(), i32::from(START) + 3));
    }
    assert!(patch(&guest, &code, 3, TacticSet::JUMP).is_err(), "SYSEXIT is a part of the tactic for system calls");
}

#[test]
fn a_sysexit_to_64_bit_code_keeps_its_trap() {
    let code = [0xBB, 1, 2, 3, 4, 0x0F, 0x35];
    let (to_32, to_64) = (code, [&code[..5], &[0x48, 0x0F, 0x35]].concat());
    for guest in [&HIGH, &MIDDLE] {
        let block = patch(guest, &to_32, 5, TacticSet::all()).ok().unwrap();
        assert_eq!(block.code[block.code.len() - 3..], [0x0F, 0x05, INT3]);
        assert!(patch(guest, &to_64, 5, TacticSet::all()).is_err());
    }
}

#[test]
fn a_swapgs_without_fsgsbase_is_the_vmms() {
    let code = [0x0F, 0x01, 0xF8, 0x48, 0x89, 0xC3];
    for guest in [&HIGH, &MIDDLE] {
        let start = Start::plain([9; 16], 0x8D5);
        assert_eq!(compare(guest, &code, 0, &start), End::Left);
        assert_eq!(compare(guest, &code, 0, &Start { fsgsbase: false, ..start }), End::Asked);
    }
}

/// VERW of the first word of the data.
fn verw(guest: &Guest) -> Vec<u8> {
    let data = guest.page + DATA;
    match guest.size {
        CodeSize::Bits64 => {
            let behind = guest.page + u64::from(START) + 7;
            [&[0x0F, 0x00, 0x2D][..], &(data.wrapping_sub(behind) as u32).to_le_bytes()].concat()
        }
        _ => [&[0x2E, 0x0F, 0x00, 0x2D][..], &(data as u32).to_le_bytes()].concat(),
    }
}

#[test]
fn a_verw_is_answered_where_the_vmm_knows_the_answer() {
    for guest in [&NARROW, &HIGH] {
        let code = [&verw(guest)[..], &[0x31, 0xC0]].concat();
        for eflags in [0, 0x8D5] {
            let start = Start::plain([9; 16], eflags);
            assert_eq!(compare(guest, &code, 0, &Start { known: true, ..start.clone() }), End::Left);
            assert_eq!(compare(guest, &code, 0, &start), End::Asked);
        }
    }
}

#[test]
fn a_verw_whose_address_is_not_known_beforehand_keeps_its_int3() {
    let narrow: [&[u8]; 4] = [
        &[0x0F, 0x00, 0xE8],
        &[0x2E, 0x0F, 0x00, 0x28],
        &[0x0F, 0x00, 0x2D, 0, 0, 0, 1],
        &[0x64, 0x0F, 0x00, 0x2D, 0, 0, 0, 1],
    ];
    let wide: [&[u8]; 3] = [&[0x0F, 0x00, 0xE8], &[0x0F, 0x00, 0x28], &[0x65, 0x0F, 0x00, 0x2C, 0x25, 0, 0, 0, 1]];
    let middle = verw(&MIDDLE);
    let kinds = narrow.map(|kind| (&NARROW, kind)).into_iter().chain(wide.map(|kind| (&HIGH, kind)));
    for (guest, kind) in kinds.chain([(&MIDDLE, &middle[..])]) {
        let code = [kind, &[0x90; 5]].concat();
        assert!(patch(guest, &code, 0, TacticSet::JUMP).is_err(), "{kind:x?}");
    }
}

#[test]
fn where_a_guest_instruction_began_in_a_jump_window_stands_a_trapping_byte() {
    // pushf; pop eax; cli; then a long one: boundaries at window bytes 1 and 2.
    for guest in GUESTS {
        let patched = patch(guest, &[0x9C, 0x58, 0xBB, 1, 2, 3, 4], 0, TacticSet::JUMP).ok().unwrap();
        for at in [1, 2] {
            assert!(traps(patched.view[usize::from(START) + at], guest.size));
            assert!(matches!(patched.map.at(PageOffset::of(u64::from(START) + at as u64)), Place::Moved { .. }));
        }
        assert_eq!(patched.view[usize::from(START) + 5..usize::from(START) + 7], [INT3; 2]);
    }
}

#[test]
fn a_tactic_that_is_off_makes_no_block() {
    let code = [0xFA, 0x8D, 0x54, 0x0A, 0x11];
    for guest in GUESTS {
        assert!(patch(guest, &code, 0, TacticSet::STI).is_err());
        assert!(patch(guest, &code, 0, TacticSet::CLI).is_ok());
    }
}
