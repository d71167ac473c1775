//! Any page: scanned from anywhere, written to, patched and taken back, in any order.
#![no_main]

mod input;

use input::Input;
use libfuzzer_sys::fuzz_target;
use rvmm_patcher::block::VcpuPageLayout;
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints, GRANULE};
use rvmm_patcher::tactic::{install, remove, JumpRequest, BLOCK_BYTES};
use rvmm_patcher::{forget, scan, CodeSize, PageMap, PageOffset, Reach, ScanCounts, ScanInput, Span, TacticSet, PAGE_SIZE};

const LAYOUT: VcpuPageLayout = VcpuPageLayout {
    linear: 0xF010_0000, vif: 0x10, pending: 0x14, vflags: 0x18, cs: 0x1C, ss: 0x20, return_cs: 0x24, shadow: 0x28, control: 0x30,
    kernel_gs: 0x50, program: 0xC0, scratch: 0x58, event: 0xb0, writable: 0xf0,
};

fuzz_target!(|data: &[u8]| {
    let mut from = Input(data);
    let (code_size, linear, memory_at, layout) = match from.u8() & 7 {
        0 => (CodeSize::Bits16, 0xC012_3000, 0xC100_0000, LAYOUT),
        1..=3 => (CodeSize::Bits32, 0xC012_3000, 0xC100_0000, LAYOUT),
        _ => (CodeSize::Bits64, 0xFFFF_FFFF_8012_3000, 0xFFFF_FFFF_8100_0000, VcpuPageLayout { linear: 0xFFFF_FFFF_7010_0000, ..LAYOUT }),
    };
    let steps: Vec<[u8; 4]> = (0..from.u8() % 24).map(|_| [from.u8(), from.u8(), from.u8(), from.u8()]).collect();
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let code = from.0;
    let at = if code.len() > PAGE_SIZE / 2 { 0 } else { 1000 };
    page.iter_mut().skip(at).zip(code).for_each(|(to, from)| *to = *from);
    let mut map = Box::new(PageMap::EMPTY);
    let mut view = Box::new([0xcc; PAGE_SIZE]);
    let mut counts = ScanCounts::ZERO;
    let mut granules = vec![0u16; 0x4_0000 / GRANULE];
    let mut blocks = vec![Block::FREE; 40];
    let mut hints = SearchHints::default();
    for [what, high, low, value] in steps {
        let at = (u16::from(high) << 8 | u16::from(low)) & 0xfff;
        let offset = PageOffset::of(at.into());
        let mut memory = PatchMemory::new(memory_at, &mut granules, &mut blocks, &mut hints);
        match what & 3 {
            0 => {
                let input = ScanInput { page: &page, linear, entry: offset, code_size, reach: Reach::default() };
                let _ = scan(&input, &mut map, &mut counts).map(|o| map.write_view(&page, linear, &mut view, o.changed));
            }
            1 => {
                let span = Span::new(at, (at + 1 + u16::from(value % 16)).min(PAGE_SIZE as u16));
                let touched: Vec<_> = map.jumps().filter(|j| Span::new(j.start, j.end).overlaps(span)).copied().collect();
                for jump in touched {
                    free(&mut memory, jump.block);
                }
                page[usize::from(span.start)..usize::from(span.end)].fill(value);
                let changed = forget(&page, &mut map, span, &mut counts);
                map.write_view(&page, linear, &mut view, changed);
            }
            2 => {
                let mut code = [0; BLOCK_BYTES];
                let tactics = TacticSet::JUMP;
                let request = JumpRequest { page: &page, linear, site: offset, code_size, tactics, layout: &layout, owner: 1 };
                if let Ok(installed) = install(&request, &mut map, &mut memory, &mut code, &mut counts) {
                    map.write_view(&page, linear, &mut view, installed.changed);
                    installed.absorbed.into_iter().flatten().for_each(|block| free(&mut memory, block));
                }
            }
            _ => {
                let _ = map.note_hit(&page, offset, &mut counts);
            }
        }
        // What a scan has shown to be entered in the middle goes.
        let mut memory = PatchMemory::new(memory_at, &mut granules, &mut blocks, &mut hints);
        while let Some(jump) = map.pierced() {
            let Some((jump, span)) = remove(&mut map, jump) else { panic!("a jump that is pierced cannot be removed") };
            free(&mut memory, jump.block);
            map.write_view(&page, linear, &mut view, span);
        }
    }
});

fn free(memory: &mut PatchMemory<'_>, block: u64) {
    let Some((id, _)) = memory.find_block(block) else { panic!("a jump without a block") };
    memory.free(id);
}
