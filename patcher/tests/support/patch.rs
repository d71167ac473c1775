//! Patching of small pieces of code, and the comparison of a block with the code that it stands for.

use super::{Cpu, Stop, CONTROL, IF};
use rvmm_patcher::block::{BlockState, Undo, VcpuPageLayout, NO_RETURN, NO_SHADOW, SCRATCH_WORDS};
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints};
use rvmm_patcher::tactic::{install, JumpRefusal, JumpRequest, BLOCK_BYTES};
use rvmm_patcher::{
    scan, CodeSize, PageBytes, PageMap, PageOffset, Reach, ScanCounts, ScanInput, TacticSet, INT3, PAGE_SIZE,
};

pub const PAGE: u32 = 0xC012_3000;
pub const START: u16 = 0x200;
const PATCH: u32 = 0xF000_0000;
const VCPU: u32 = 0xF010_0000;
const STACK: u32 = 0xC800_0000;
pub const CS: u32 = 0x60;
const SS: u32 = 0x68;

const LAYOUT: VcpuPageLayout = VcpuPageLayout {
    linear: VCPU,
    vif: 0x10,
    pending: 0x14,
    shadow: 0x18,
    vflags: 0x1C,
    cs: 0x20,
    ss: 0x24,
    return_cs: 0x28,
    control: 0x30,
    scratch: 0x40,
};

fn field(cpu: &Cpu, offset: u16) -> u32 {
    cpu.read(VCPU + u32::from(offset)).unwrap()
}

pub struct Patched {
    pub page: Box<PageBytes>,
    pub view: Box<PageBytes>,
    pub map: Box<PageMap>,
    pub block: Block,
    pub code: Vec<u8>,
}

/// Scan and patch `code` at the site `site` bytes behind its start.
pub fn patch(code: &[u8], site: u16, tactics: TacticSet) -> Result<Patched, JumpRefusal> {
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let start = usize::from(START);
    page[start..start + code.len()].copy_from_slice(code);
    patch_page(page, &[START, START + site], START + site, tactics)
}

/// Scan a page from `entries` and patch the site at `site`.
pub fn patch_page(
    page: Box<PageBytes>,
    entries: &[u16],
    site: u16,
    tactics: TacticSet,
) -> Result<Patched, JumpRefusal> {
    let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
    let mut counts = ScanCounts::ZERO;
    let linear = u64::from(PAGE);
    for entry in entries {
        let input = ScanInput {
            page: &page,
            linear,
            entry: PageOffset::of(u64::from(*entry)),
            code_size: CodeSize::Bits32,
            reach: Reach::default(),
        };
        let outcome = scan(&input, &mut map, &mut counts).unwrap();
        map.write_view(&page, linear, &mut view, outcome.changed);
    }
    let mut granules = vec![0; 0x1_0000];
    let mut blocks = vec![Block::FREE; 8];
    let mut hints = SearchHints::default();
    let mut memory = PatchMemory::new(u64::from(PATCH), &mut granules, &mut blocks, &mut hints);
    let mut buffer = [0; BLOCK_BYTES];
    let request = JumpRequest {
        page: &page,
        linear,
        code_size: CodeSize::Bits32,
        site: PageOffset::of(u64::from(site)),
        tactics,
        layout: &LAYOUT,
        owner: 7,
    };
    let installed = install(&request, &mut map, &mut memory, &mut buffer, &mut counts)?;
    map.write_view(&page, linear, &mut view, installed.changed);
    let block = *memory.block(installed.block).unwrap();
    assert_eq!(memory.find_block(installed.address).map(|(id, _)| id), Some(installed.block));
    assert_eq!(block.address, installed.address);
    assert_eq!(block.owner, 7);
    Ok(Patched { page, view, map, block, code: buffer[..usize::from(installed.len)].to_vec() })
}

/// The guest as it sees itself: real flags with the virtual ones in their places.
fn guest_state(regs: &[u32; 8], eip: u32, eflags: u32, vif: u32, vflags: u32) -> ([u32; 8], u32, u32) {
    (*regs, eip, eflags & !(IF | 0x3000 | 0x4_0000) | vif | vflags | 2)
}

#[derive(Debug)]
pub struct Start {
    pub regs: [u32; 8],
    pub eflags: u32,
    pub vif: bool,
    pub pending: bool,
    /// IRETs to the guest's own CS are left to blocks.
    pub returns: bool,
    pub vflags: u32,
    pub stack: Vec<u32>,
    /// Bytes of the stack that exist below and above ESP.
    pub below: u32,
    pub above: u32,
}

/// How a run through a block ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// No block could be made.
    Unpatched,
    /// Control left the region.
    Left,
    /// The guest's own instruction faulted.
    Fault,
    /// The block asked for an exit.
    Asked,
}

/// Run `code` natively at ring 0 and through its block, and compare at every instruction of the block.
pub fn compare(code: &[u8], site: u16, start: &Start) -> End {
    let Ok(patched) = patch(code, site, TacticSet::JUMP) else { return End::Unpatched };
    let region = patched.block.region;
    let mut regs = start.regs;
    regs[4] = STACK;

    let mut real =
        Cpu { regs, eip: PAGE + u32::from(region.start), eflags: start.eflags & !0x4_3300 | IF | 2, ..Cpu::default() };
    for at in STACK - start.below..STACK + start.above {
        real.memory.insert(at, (at as u8).wrapping_mul(31));
    }
    for (at, &value) in (STACK..).step_by(4).zip(&start.stack) {
        let _ = real.write(at, value, 4);
    }
    let mut guest = real.clone();
    let vif = if start.vif { IF } else { 0 };

    // Only the code's neighbourhood: nothing else of the page runs.
    let near = usize::from(START) - 128..usize::from(START) + 64;
    let at = PAGE + u32::from(START) - 128;
    guest.map(at, &patched.page[near.clone()]);
    guest.eflags = real.eflags & !IF | vif | start.vflags;
    guest.ring0 = Some((CS, SS));

    real.map(at, &patched.view[near]);
    real.map(patched.block.address as u32, &patched.code);
    real.map(VCPU, &[0; 0x100]);
    for (offset, value) in [
        (LAYOUT.vif, vif),
        (LAYOUT.pending, u32::from(start.pending)),
        (LAYOUT.vflags, start.vflags),
        (LAYOUT.cs, CS),
        (LAYOUT.ss, SS),
        (LAYOUT.control, CONTROL[0]),
        (LAYOUT.control + 4, CONTROL[1]),
        (LAYOUT.control + 8, CONTROL[2]),
        (LAYOUT.control + 12, CONTROL[3]),
        (LAYOUT.return_cs, if start.returns { CS } else { NO_RETURN }),
    ] {
        real.write(VCPU + u32::from(offset), value, 4).unwrap();
    }

    // The jump itself.
    real.step().unwrap();
    assert_eq!(real.eip, patched.block.address as u32);

    let outside = |eip: u32| !(PAGE + u32::from(region.start) + 1..PAGE + u32::from(region.end)).contains(&eip);
    // After an IRET no STI is the instruction before.
    let mut returned = false;
    for _ in 0..200 {
        if u64::from(real.eip).wrapping_sub(patched.block.address) >= u64::from(patched.block.len) {
            // Left the block: exactly where and as the guest's own code left the region.
            let now =
                guest_state(&real.regs, real.eip, real.eflags, field(&real, LAYOUT.vif), field(&real, LAYOUT.vflags));
            catch_up(&mut guest, &now);
            assert!(outside(real.eip));
            assert!(!returned || field(&real, LAYOUT.shadow) == NO_SHADOW);
            let stack = |cpu: &Cpu| cpu.memory.range(STACK - 64..STACK + 64).map(|(_, &v)| v).collect::<Vec<u8>>();
            assert_eq!(stack(&real), stack(&guest), "guest memory that the original does not write");
            return End::Left;
        }
        let offset = (real.eip - patched.block.address as u32) as u16;
        let entry = patched.block.map.at(offset).expect("every instruction of a block has an entry");
        let scratch: [u32; SCRATCH_WORDS] = std::array::from_fn(|i| field(&real, LAYOUT.scratch + 4 * i as u16));
        let mut state = BlockState {
            eax: real.regs[0],
            ecx: real.regs[1],
            esp: real.regs[4],
            eip: real.eip,
            eflags: real.eflags,
            vif: field(&real, LAYOUT.vif),
            vflags: field(&real, LAYOUT.vflags),
            shadow: field(&real, LAYOUT.shadow),
        };
        entry.recover(patched.block.page, &scratch, &mut state);
        returned = entry.undo.contains(Undo::TARGET);
        assert!(!returned || state.shadow == NO_SHADOW);
        let mut regs = real.regs;
        (regs[0], regs[1], regs[4]) = (state.eax, state.ecx, state.esp);
        let now = guest_state(&regs, state.eip, state.eflags, state.vif, state.vflags);
        catch_up(&mut guest, &now);
        // What no guest kernel may run with for real: TF, IOPL, NT, AC.
        assert_eq!(real.eflags & 0x4_7100, 0);
        // A place to enter the block needs nothing restored.
        if let Some(at) = patched.block.map.enter_at(state.eip.wrapping_sub(PAGE) as i32) {
            assert!(patched.block.map.at(at).is_some());
        }
        match real.step() {
            Ok(()) => {}
            Err(Stop::Fault) => {
                assert_eq!(guest.step(), Err(Stop::Fault), "a fault that the original would not have");
                return End::Fault;
            }
            Err(Stop::Int3) => {
                let unusual = if guest.memory.get(&guest.eip) == Some(&0xCF) {
                    !native_return(&guest, start)
                } else {
                    guest.read(guest.regs[4]).is_ok_and(|image| image & 0x6_7100 != 0)
                };
                let event = start.pending && guest.eflags & IF != 0;
                assert!(unusual || event, "left the block for nothing");
                return End::Asked;
            }
            Err(Stop::Gp) => panic!("privileged instruction in a block"),
        }
    }
    panic!("the block does not end");
}

/// Is the IRET that the guest stands at its block's?
pub fn native_return(guest: &Cpu, start: &Start) -> bool {
    let frame = |at| guest.read(guest.regs[4].wrapping_add(at));
    let (Ok(selector), Ok(image)) = (frame(4), frame(8)) else { return false };
    let usual = selector & 0xFFFF == CS && image & 0x1F_7100 == 0;
    start.returns && usual && !(start.pending && image & IF != 0)
}

/// Advance the guest until it is in this state, by at most one instruction; memory that both have is equal then.
fn catch_up(guest: &mut Cpu, now: &([u32; 8], u32, u32)) {
    let state = |guest: &Cpu| (guest.regs, guest.eip, guest.eflags | 2);
    if state(guest) != *now {
        let before = state(guest);
        guest.step().unwrap_or_else(|stop| panic!("{stop:?} at {before:x?}, wanted {now:x?}"));
        assert_eq!(state(guest), *now, "came from {before:x?}");
    }
}
