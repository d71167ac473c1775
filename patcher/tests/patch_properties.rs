//! Properties of jumps, of the address map and of patch memory that hold for any code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rvmm_patcher::block::{Undo, VcpuPageLayout};
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints, GRANULE};
use rvmm_patcher::table::{ROWS, ROW_COUNT};
use rvmm_patcher::tactic::{install, install_trap, remove, traps, JumpRequest, BLOCK_BYTES};
use rvmm_patcher::{
    forget, scan, CodeSize, JumpSite, PageBytes, PageMap, PageOffset, Place, Reach, ScanCounts, ScanInput, SiteReason,
    Span, Tactic, TacticSet, TrapSite, INT3, PAGE_SIZE,
};

const MEMORY: usize = 0x10_0000;

/// Where the page, patch memory and the vCPU page are in code of a size.
const fn places(size: CodeSize) -> (u64, u64, u64) {
    match size {
        CodeSize::Bits64 => (0xFFFF_FFFF_8012_3000, 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_7010_0000),
        _ => (0xC012_3000, 0xC100_0000, 0xF010_0000),
    }
}

const fn layout(size: CodeSize) -> VcpuPageLayout {
    VcpuPageLayout {
        linear: places(size).2,
        vif: 0x10,
        pending: 0x14,
        vflags: 0x18,
        cs: 0x1C,
        ss: 0x20,
        return_cs: 0x24,
        shadow: 0x28,
        control: 0x30,
        kernel_gs: 0x50,
        program: 0xC0,
        scratch: 0x58,
        event: 0xb0,
        writable: 0xf0,
    }
}

/// A guest page with its view and the patch memory behind it, used as the engine uses them.
struct World {
    size: CodeSize,
    page: Box<PageBytes>,
    map: Box<PageMap>,
    view: Box<PageBytes>,
    counts: ScanCounts,
    granules: Vec<u16>,
    blocks: Vec<Block>,
    hints: SearchHints,
    /// Where scans arrived, and nothing was forgotten since.
    arrivals: BTreeSet<u16>,
}

fn offset(at: u16) -> PageOffset {
    PageOffset::of(u64::from(at))
}

impl World {
    fn new(size: CodeSize, code: &[u8]) -> Self {
        let mut page = Box::new([0x90; PAGE_SIZE]);
        page[1000..1000 + code.len()].copy_from_slice(code);
        World {
            size,
            page,
            map: Box::new(PageMap::EMPTY),
            view: Box::new([INT3; PAGE_SIZE]),
            counts: ScanCounts::ZERO,
            granules: vec![0; MEMORY / GRANULE],
            blocks: vec![Block::FREE; 100],
            hints: SearchHints::default(),
            arrivals: BTreeSet::new(),
        }
    }

    fn memory(&mut self) -> PatchMemory<'_> {
        PatchMemory::new(places(self.size).1, &mut self.granules, &mut self.blocks, &mut self.hints)
    }

    fn show(&mut self, span: Span) {
        self.map.write_view(&self.page, places(self.size).0, &mut self.view, span);
    }

    fn scan(&mut self, entry: u16) {
        let input = ScanInput {
            page: &self.page,
            linear: places(self.size).0,
            entry: offset(entry),
            code_size: self.size,
            reach: Reach::default(),
        };
        let changed = scan(&input, &mut self.map, &mut self.counts).unwrap().changed;
        self.show(changed);
        self.arrivals.insert(entry);
        while let Some(jump) = self.map.pierced() {
            self.remove(jump);
        }
    }

    fn remove(&mut self, at: PageOffset) {
        if let Some((jump, span)) = remove(&mut self.map, at) {
            self.free(jump.block);
            self.show(span);
            self.arrivals.retain(|at| !(span.start..span.end).contains(at));
        }
    }

    fn patch(&mut self, site: u16) {
        let request = JumpRequest {
            page: &self.page,
            linear: places(self.size).0,
            site: offset(site),
            code_size: self.size,
            tactics: TacticSet::JUMP,
            layout: &layout(self.size),
            owner: 1,
        };
        let mut memory = PatchMemory::new(places(self.size).1, &mut self.granules, &mut self.blocks, &mut self.hints);
        let mut code = [0; BLOCK_BYTES];
        if let Ok(installed) = install(&request, &mut self.map, &mut memory, &mut code, &mut self.counts) {
            self.show(installed.changed);
            installed.absorbed.into_iter().flatten().for_each(|block| self.free(block));
        } else {
            let before = (0..PAGE_SIZE as u16).map(|at| self.map.at(offset(at))).collect::<Vec<_>>();
            if install_trap(&request, &mut self.map, &mut memory, &mut code).is_ok() {
                // Nothing that is shown depends on it.
                assert!((0..PAGE_SIZE as u16).map(|at| self.map.at(offset(at))).eq(before));
            }
        }
    }

    fn free(&mut self, block: u64) {
        let mut memory = self.memory();
        let id = memory.find_block(block).unwrap().0;
        memory.free(id);
    }

    fn write(&mut self, at: u16, bytes: &[u8]) {
        let span = Span::new(at, at + bytes.len() as u16);
        let touched: Vec<JumpSite> =
            self.map.jumps().filter(|jump| Span::new(jump.start, jump.end).overlaps(span)).copied().collect();
        for jump in &touched {
            self.free(jump.block);
        }
        let traps: Vec<TrapSite> = self.map.traps().filter(|trap| trap.span().overlaps(span)).copied().collect();
        for trap in &traps {
            self.free(trap.block);
        }
        self.page[usize::from(span.start)..usize::from(span.end)].copy_from_slice(bytes);
        let changed = forget(&self.page, &mut self.map, span, &mut self.counts);
        self.show(changed);
        let map = &self.map;
        self.arrivals.retain(|at| !matches!(map.at(offset(*at)), Place::Unscanned | Place::Interior { .. }));
    }

    fn check(&mut self) {
        let jumps: Vec<JumpSite> = self.map.jumps().copied().collect();
        let in_use = self.blocks.iter().filter(|block| block.len != 0).count();
        let trapped: Vec<TrapSite> = self.map.traps().copied().collect();
        assert_eq!(in_use, jumps.len() + trapped.len(), "a block without a jump or a trap, or the other way round");
        for trap in &trapped {
            let place = self.map.at(offset(trap.start));
            assert!(
                matches!(place, Place::Site { reason: SiteReason::Critical, len } if trap.start + u16::from(len) == trap.end),
                "{trap:?} {place:?}"
            );
            assert!(jumps.iter().all(|jump| !trap.span().overlaps(Span::new(jump.start, jump.end))), "{trap:?}");
        }
        for at in 0..PAGE_SIZE as u16 {
            let jump = jumps.iter().find(|jump| (jump.start..jump.end).contains(&at));
            let byte = self.view[usize::from(at)];
            let guest = self.page[usize::from(at)];
            match (self.map.at(offset(at)), jump) {
                (Place::Verbatim { len }, None) => {
                    let bytes = usize::from(at)..usize::from(at) + usize::from(len);
                    assert_eq!(self.view[bytes.clone()], self.page[bytes], "boundary {at:#x} is not exact");
                }
                (Place::Interior { .. }, None) => assert_eq!(byte, guest),
                (Place::Unscanned | Place::Site { .. }, None) => assert_eq!(byte, INT3),
                (Place::JumpHead, Some(jump)) => {
                    assert_eq!((at, byte), (jump.start, 0xE9));
                    let start = usize::from(at);
                    let displacement = i32::from_le_bytes(self.view[start + 1..start + 5].try_into().unwrap());
                    assert_eq!(
                        (places(self.size).0 + u64::from(at) + 5).wrapping_add_signed(i64::from(displacement)),
                        jump.block
                    );
                }
                (Place::Moved { .. }, Some(_)) => assert!(traps(byte, self.size), "{at:#x} does not trap"),
                (Place::Covered, Some(jump)) => assert!(at < jump.start + 5 || byte == INT3),
                (place, jump) => panic!("{place:?} with {jump:?} at {at:#x}"),
            }
        }
        // Where execution has arrived once, it traps or runs what is there in the guest.
        for &at in &self.arrivals {
            let byte = self.view[usize::from(at)];
            let exact = byte == self.page[usize::from(at)] && !matches!(self.map.at(offset(at)), Place::Covered);
            let head = self.map.at(offset(at)) == Place::JumpHead;
            assert!(exact || head || traps(byte, self.size), "{at:#x} is {byte:#x}");
        }
        let page = self.page.clone();
        let memory = PatchMemory::new(places(self.size).1, &mut self.granules, &mut self.blocks, &mut self.hints);
        for jump in &jumps {
            // Every byte of a block is that block's, and no other's.
            let (id, block) = memory.find_block(jump.block).unwrap();
            assert_eq!((block.address, block.region), (jump.block, Span::new(jump.start, jump.end)));
            for at in 0..u64::from(block.len) {
                assert_eq!(memory.find_block(block.address + at).unwrap().0, id);
            }
            // The map leads from every guest boundary into the block and back to the same boundary.
            let mut at = block.region.start;
            while at < block.region.end {
                let place = self.map.at(offset(at));
                if place == Place::Covered {
                    break;
                }
                let inside = block.map.enter_at(i32::from(at)).expect("a boundary that the block does not know");
                let entry = block.map.at(inside).unwrap();
                assert_eq!((entry.guest, entry.undo), (i32::from(at), Undo::HEAD));
                at += iced_x86::Decoder::new(self.size.bits(), &page[usize::from(at)..], 0).decode().len() as u16;
            }
            // And every instruction of the block back to a boundary of the guest's.
            for entry in block.map.entries() {
                assert!(entry.at < block.len);
                let outside = !(i32::from(block.region.start)..i32::from(block.region.end)).contains(&entry.guest);
                let known = u16::try_from(entry.guest).is_ok_and(|at| {
                    matches!(self.map.at(offset(at)), Place::Moved { .. } | Place::JumpHead | Place::Covered)
                });
                assert!(outside || known);
            }
        }
    }
}

fn code() -> impl Strategy<Value = Vec<u8>> {
    let instruction = prop_oneof![
        4 => proptest::sample::select(vec![
            vec![0xFAu8], vec![0xFB], vec![0x9C], vec![0x9D], vec![0x8C, 0xC8], vec![0x0E], vec![0x0F, 0xA2], vec![0xCF],
            vec![0x48, 0xCF], vec![0x0F, 0x01, 0xF8],
        ]),
        4 => proptest::sample::select(vec![
            vec![0x50u8], vec![0x5B], vec![0x90], vec![0x31, 0xC0], vec![0x8D, 0x54, 0x0A, 0x11], vec![0x8B, 0x45, 0xFC],
            vec![0x74, 0x05], vec![0xEB, 0x03], vec![0xE2, 0xF0], vec![0xE8, 0, 1, 0, 0], vec![0xC3], vec![0xCC],
            vec![0x48, 0x8B, 0x05, 0, 1, 0, 0], vec![0x41, 0xFF, 0xD3], vec![0x48, 0x89, 0xC3],
        ]),
        1 => proptest::collection::vec(any::<u8>(), 1..8),
    ];
    proptest::collection::vec(instruction, 1..60).prop_map(|list| list.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pages_with_jumps_stay_consistent(
        size in prop_oneof![Just(CodeSize::Bits32), Just(CodeSize::Bits64)],
        code in code(),
        steps in proptest::collection::vec((0u8..8, 980u16..1300, proptest::collection::vec(any::<u8>(), 1..7)), 1..40),
    ) {
        let mut world = World::new(size, &code);
        world.scan(1000);
        for (kind, at, bytes) in steps {
            match kind {
                0 | 1 => world.scan(at),
                2..=5 => world.patch(at),
                6 => world.write(at, &bytes),
                _ => world.remove(offset(at)),
            }
            world.check();
        }
    }
}

#[test]
fn the_property_test_does_install_jumps() {
    for size in [CodeSize::Bits32, CodeSize::Bits64] {
        installs_jumps(size);
    }
}

fn installs_jumps(size: CodeSize) {
    let mut world = World::new(size, &[0xFA, 0x8D, 0x54, 0x0A, 0x11, 0x9C, 0xBB, 1, 2, 3, 4, 0xC3]);
    world.scan(1000);
    world.patch(1000);
    world.patch(1005);
    assert_eq!(world.counts.jumps, 2);
    let by_row: Vec<&str> =
        (0..ROW_COUNT).filter(|&id| world.counts.jump_rows[id] == 1).map(|id| ROWS[id].name).collect();
    assert_eq!(by_row, ["pushf", "cli"]);
    let tactic = |at| world.map.at(offset(at)).tactic();
    assert_eq!(
        (tactic(1000), tactic(1001), tactic(1011)),
        (Some(Tactic::Jump), Some(Tactic::Jump), Some(Tactic::Verbatim))
    );
    world.check();
    world.write(1006, &[0x90]);
    assert_eq!(world.map.jumps().count(), 1);
    world.check();
}

#[test]
fn patch_memory_that_is_full_refuses() {
    let mut world = World::new(CodeSize::Bits32, &[0xFA, 0xBB, 1, 2, 3, 4]);
    world.granules = vec![1; 16];
    world.scan(1000);
    world.patch(1000);
    assert_eq!(world.counts.jumps, 0);
    assert_eq!(world.counts.jump_refusals.iter().sum::<u64>(), 1);
}
