//! Patching of small pieces of code, and the comparison of a block with the code that it stands for.

use super::{canonical, control, Cpu, Stop, IF, WRITABLE};
use rvmm_patcher::block::{BlockState, Undo, VcpuPageLayout, NO_RETURN, NO_SHADOW, SCRATCH_WORDS};
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints};
use rvmm_patcher::tactic::{install, JumpRefusal, JumpRequest, BLOCK_BYTES};
use rvmm_patcher::{
    scan, CodeSize, PageBytes, PageMap, PageOffset, Reach, ScanCounts, ScanInput, TacticSet, INT3, PAGE_SIZE,
};

pub const START: u16 = 0x200;
/// Where there is data, relative to the page.
pub const DATA: u64 = 0x0100_0000;

/// A guest: its code size, and where everything is.
#[derive(Debug)]
pub struct Guest {
    pub size: CodeSize,
    pub page: u64,
    pub patch: u64,
    pub vcpu: u64,
    pub stack: u64,
    pub cs: u64,
    pub ss: u64,
}

/// A 32-bit kernel.
pub const NARROW: Guest = Guest {
    size: CodeSize::Bits32,
    page: 0xC012_3000,
    patch: 0xF000_0000,
    vcpu: 0xF010_0000,
    stack: 0xC800_0000,
    cs: 0x60,
    ss: 0x68,
};

/// A 64-bit kernel in the last 2 GiB, as most are.
pub const HIGH: Guest = Guest {
    size: CodeSize::Bits64,
    page: 0xFFFF_FFFF_8112_3000,
    patch: 0xFFFF_FFFF_7B00_0000,
    vcpu: 0xFFFF_FFFF_7F00_0000,
    stack: 0xFFFF_C900_0800_0000,
    cs: 0x10,
    ss: 0x18,
};

/// 64-bit code at addresses that no sign extension gives, without a stack segment.
pub const MIDDLE: Guest = Guest {
    size: CodeSize::Bits64,
    page: 0x7F12_8112_3000,
    patch: 0x7F12_9000_0000,
    vcpu: 0x7F12_5000_0000,
    stack: 0x7F11_0800_0000,
    cs: 0x33,
    ss: 0,
};

pub const GUESTS: [&Guest; 3] = [&NARROW, &HIGH, &MIDDLE];

impl Guest {
    /// Bytes of a register.
    pub fn word(&self) -> u64 {
        u64::from(self.size.bits() / 8)
    }

    /// What a register holds of a number.
    pub fn cut(&self, value: u64) -> u64 {
        value & u64::MAX >> (64 - self.size.bits())
    }

    fn layout(&self) -> VcpuPageLayout {
        VcpuPageLayout {
            linear: self.vcpu,
            vif: 0x10,
            pending: 0x14,
            shadow: 0x18,
            vflags: 0x20,
            cs: 0x24,
            ss: 0x28,
            return_cs: 0x2C,
            control: 0x30,
            kernel_gs: 0x50,
            program: 0xC0,
            scratch: 0x60,
            event: 0xb8,
            writable: 0xf0,
        }
    }

    fn field(&self, cpu: &Cpu, offset: u16, bytes: u64) -> u64 {
        cpu.read(self.vcpu + u64::from(offset), bytes).unwrap()
    }
}

pub struct Patched {
    pub page: Box<PageBytes>,
    pub view: Box<PageBytes>,
    pub map: Box<PageMap>,
    pub block: Block,
    pub code: Vec<u8>,
}

/// Scan and patch `code` at the site `site` bytes behind its start.
pub fn patch(guest: &Guest, code: &[u8], site: u16, tactics: TacticSet) -> Result<Patched, JumpRefusal> {
    patch_in_turn(guest, code, &[site], tactics)
}

/// The same for several sites, one after the other, whether or not those before the last get a jump.
pub fn patch_in_turn(guest: &Guest, code: &[u8], sites: &[u16], tactics: TacticSet) -> Result<Patched, JumpRefusal> {
    let mut page = Box::new([0x90; PAGE_SIZE]);
    let start = usize::from(START);
    page[start..start + code.len()].copy_from_slice(code);
    let sites: Vec<u16> = sites.iter().map(|site| START + site).collect();
    let entries = [&[START], &sites[..]].concat();
    patch_page(guest, page, &entries, &sites, tactics)
}

/// Scan a page from `entries` and patch the sites at `sites`; what became of the last one.
pub fn patch_page(
    guest: &Guest,
    page: Box<PageBytes>,
    entries: &[u16],
    sites: &[u16],
    tactics: TacticSet,
) -> Result<Patched, JumpRefusal> {
    let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
    let mut counts = ScanCounts::ZERO;
    let (linear, code_size, layout) = (guest.page, guest.size, guest.layout());
    for entry in entries {
        let input = ScanInput {
            page: &page,
            linear,
            entry: PageOffset::of(u64::from(*entry)),
            code_size,
            reach: Reach::default(),
        };
        let outcome = scan(&input, &mut map, &mut counts).unwrap();
        map.write_view(&page, linear, &mut view, outcome.changed);
    }
    let mut granules = vec![0; 0x1_0000];
    let mut blocks = vec![Block::FREE; 8];
    let mut hints = SearchHints::default();
    let mut memory = PatchMemory::new(guest.patch, &mut granules, &mut blocks, &mut hints);
    let mut buffer = [0; BLOCK_BYTES];
    let mut last = Err(JumpRefusal::Covered);
    for &site in sites {
        let site = PageOffset::of(u64::from(site));
        let request = JumpRequest { page: &page, linear, code_size, site, tactics, layout: &layout, owner: 7 };
        last = install(&request, &mut map, &mut memory, &mut buffer, &mut counts);
        if let Ok(installed) = last {
            map.write_view(&page, linear, &mut view, installed.changed);
            for block in installed.absorbed.into_iter().flatten() {
                let id = memory.find_block(block).unwrap().0;
                memory.free(id);
            }
        }
    }
    let installed = last?;
    let block = *memory.block(installed.block).unwrap();
    assert_eq!(memory.find_block(installed.address).map(|(id, _)| id), Some(installed.block));
    assert_eq!(block.address, installed.address);
    assert_eq!((block.owner, block.code_size), (7, code_size));
    Ok(Patched { page, view, map, block, code: buffer[..usize::from(installed.len)].to_vec() })
}

/// The guest as it sees itself: real flags with the virtual ones in their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    regs: [u64; 16],
    rip: u64,
    rflags: u64,
    gs: (u64, u64),
}

impl Seen {
    fn new(regs: [u64; 16], rip: u64, rflags: u64, (vif, vflags): (u64, u64), gs: (u64, u64)) -> Self {
        Seen { regs, rip, rflags: rflags & !(IF | 0x3000 | 0x4_0000) | vif | vflags | 2, gs }
    }
}

#[derive(Clone, Debug)]
pub struct Start {
    pub regs: [u64; 16],
    pub eflags: u64,
    pub vif: bool,
    pub pending: bool,
    /// IRETs to the guest's own CS are left to blocks.
    pub returns: bool,
    pub vflags: u64,
    pub stack: Vec<u64>,
    /// Bytes of the stack that exist below and above RSP.
    pub below: u64,
    pub above: u64,
    /// CR4.FSGSBASE.
    pub fsgsbase: bool,
    /// The first word of the data is the guest's stack segment, as the VMM knows.
    pub known: bool,
}

impl Start {
    /// With these registers and nothing special.
    pub fn plain(regs: [u64; 16], eflags: u64) -> Start {
        let (vif, pending, returns, vflags, fsgsbase, known) = (true, false, true, 0, true, false);
        let stack = vec![1, 2, 3];
        Start { regs, eflags, vif, pending, returns, vflags, stack, below: 64, above: 64, fsgsbase, known }
    }
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
pub fn compare(place: &Guest, code: &[u8], site: u16, start: &Start) -> End {
    compare_in_turn(place, code, &[site], start)
}

/// The same with several sites patched in turn: the block is that of the last one.
pub fn compare_in_turn(place: &Guest, code: &[u8], sites: &[u16], start: &Start) -> End {
    let Ok(patched) = patch_in_turn(place, code, sites, TacticSet::JUMP) else { return End::Unpatched };
    let region = patched.block.region;
    let (layout, stack) = (place.layout(), place.stack);
    let mut regs = start.regs.map(|value| place.cut(value));
    if place.size == CodeSize::Bits32 {
        regs[8..].fill(0);
    }
    regs[4] = stack;

    let mut real = Cpu {
        regs,
        rip: place.page + u64::from(region.start),
        rflags: start.eflags & !0x4_3300 | IF | 2,
        gs: (0xFFFF_8880_1234_0000, 0),
        fsgsbase: start.fsgsbase,
        ..Cpu::new(place.size)
    };
    for at in stack - start.below..stack + start.above {
        real.memory.insert(at, (at as u8).wrapping_mul(31));
    }
    for (at, &value) in (stack..).step_by(place.word() as usize).zip(&start.stack) {
        let _ = real.write(at, value, place.word());
    }
    let data = place.page + DATA;
    real.map(data, &std::array::from_fn::<u8, 0x400, _>(|i| (i * 37) as u8));
    // In the middle no displacement leads to where the data are, and what does is not there.
    let known = start.known && place.page != MIDDLE.page;
    if known {
        real.write(data, place.ss, 2).unwrap();
    }
    let mut guest = real.clone();
    let vif = if start.vif { IF } else { 0 };

    // Only the code's neighbourhood: nothing else of the page runs.
    let near = usize::from(START) - 128..usize::from(START) + 64;
    let at = place.page + u64::from(START) - 128;
    guest.map(at, &patched.page[near.clone()]);
    guest.rflags = real.rflags & !IF | vif | start.vflags;
    guest.ring0 = Some((place.cs, place.ss));
    guest.gs.1 = 0x7F00_0000_1000;

    real.map(at, &patched.view[near]);
    real.map(patched.block.address, &patched.code);
    real.map(place.vcpu, &[0xA5; 0x100]);
    let return_cs = if start.returns { place.cs } else { u64::from(NO_RETURN) };
    for (offset, value) in [
        (layout.vif, vif),
        (layout.pending, u64::from(start.pending)),
        (layout.vflags, start.vflags),
        (layout.cs, place.cs),
        (layout.ss, place.ss),
        (layout.return_cs, return_cs),
    ] {
        real.write(place.vcpu + u64::from(offset), value, 4).unwrap();
    }
    real.write(place.vcpu + u64::from(layout.shadow), NO_SHADOW, 8).unwrap();
    real.write(place.vcpu + u64::from(layout.kernel_gs), guest.gs.1, 8).unwrap();
    for (at, value) in (place.vcpu + u64::from(layout.control)..).step_by(8).zip(control(place.size)) {
        real.write(at, value, 8).unwrap();
    }

    real.write(place.vcpu + u64::from(layout.writable), if known { data } else { 0 }, 8).unwrap();
    real.write(place.vcpu + u64::from(layout.writable) + 8, WRITABLE, 4).unwrap();

    // The jump itself.
    real.step().unwrap();
    assert_eq!(real.rip, patched.block.address);

    let outside =
        |rip: u64| !(place.page + u64::from(region.start) + 1..place.page + u64::from(region.end)).contains(&rip);
    // After an IRET no STI is the instruction before.
    let mut returned = false;
    for _ in 0..200 {
        let fields = |cpu: &Cpu| (place.field(cpu, layout.vif, 4), place.field(cpu, layout.vflags, 4));
        let shadow = place.field(&real, layout.shadow, 8);
        let kernel_gs = place.field(&real, layout.kernel_gs, 8);
        if real.rip.wrapping_sub(patched.block.address) >= u64::from(patched.block.len) {
            // Left the block: exactly where and as the guest's own code left the region.
            let now = Seen::new(real.regs, real.rip, real.rflags, fields(&real), (real.gs.0, kernel_gs));
            catch_up(&mut guest, &now);
            assert!(outside(real.rip));
            assert!(!returned || place.cut(shadow) == place.cut(NO_SHADOW));
            let bytes = |cpu: &Cpu| {
                let (stack, data) = (cpu.memory.range(stack - 64..stack + 64), cpu.memory.range(data..data + 0x400));
                stack.chain(data).map(|(_, &v)| v).collect::<Vec<u8>>()
            };
            assert_eq!(bytes(&real), bytes(&guest), "guest memory that the original does not write");
            return End::Left;
        }
        let offset = (real.rip - patched.block.address) as u16;
        let entry = patched.block.map.at(offset).expect("every instruction of a block has an entry");
        let scratch: [u64; SCRATCH_WORDS] =
            std::array::from_fn(|i| place.field(&real, layout.scratch + 8 * i as u16, 8));
        let (vif, vflags) = fields(&real);
        let mut state = BlockState {
            rax: real.regs[0],
            rcx: real.regs[1],
            rsp: real.regs[4],
            r11: real.regs[11],
            rip: real.rip,
            rflags: real.rflags,
            vif: vif as u32,
            vflags: vflags as u32,
            shadow,
            kernel_gs,
        };
        entry.recover(place.size, patched.block.page, &scratch, &mut state);
        returned = entry.undo.contains(Undo::TARGET);
        assert!(!returned || state.shadow == NO_SHADOW);
        let mut regs = real.regs;
        (regs[0], regs[1], regs[4], regs[11]) = (state.rax, state.rcx, state.rsp, state.r11);
        let virtuals = (u64::from(state.vif), u64::from(state.vflags));
        let now = Seen::new(regs, state.rip, state.rflags, virtuals, (real.gs.0, state.kernel_gs));
        catch_up(&mut guest, &now);
        // What no guest kernel may run with for real: TF, IOPL, NT, AC.
        assert_eq!(real.rflags & 0x4_7100, 0);
        // A place to enter the block needs nothing restored.
        if let Some(at) = patched.block.map.enter_at(state.rip.wrapping_sub(place.page) as i32) {
            assert!(patched.block.map.at(at).is_some());
        }
        match real.step() {
            Ok(()) => {}
            Err(Stop::Fault) => {
                assert_eq!(guest.step(), Err(Stop::Fault), "a fault that the original would not have");
                return End::Fault;
            }
            Err(Stop::Int3) => {
                let iret: &[u8] = if place.size == CodeSize::Bits64 { &[0x48, 0xCF] } else { &[0xCF] };
                let here = (guest.rip..).zip(iret).all(|(at, byte)| guest.memory.get(&at) == Some(byte));
                let unusual = if here {
                    !native_return(place, &guest, start)
                } else {
                    guest.read(guest.regs[4], place.word()).is_ok_and(|image| image & 0x6_7100 != 0)
                };
                let event = start.pending && guest.rflags & IF != 0;
                let verw = (guest.rip..guest.rip + 3).any(|at| guest.read(at, 2) == Ok(0x000F));
                assert!(unusual || event || verw && !known, "left the block for nothing");
                return End::Asked;
            }
            // The VMM, which comes to the SWAPGS by this, does it without the instruction.
            Err(Stop::Ud) => {
                let bytes: Vec<Option<&u8>> = (guest.rip..guest.rip + 3).map(|at| guest.memory.get(&at)).collect();
                assert_eq!(bytes, [Some(&0x0F), Some(&0x01), Some(&0xF8)]);
                assert!(!start.fsgsbase);
                return End::Asked;
            }
            Err(Stop::Gp) => panic!("privileged instruction in a block"),
        }
    }
    panic!("the block does not end");
}

/// Is the IRET that the guest stands at its block's?
pub fn native_return(place: &Guest, guest: &Cpu, start: &Start) -> bool {
    let frame = |n: u64| guest.read(guest.regs[4].wrapping_add(n * place.word()), place.word());
    let (Ok(target), Ok(selector), Ok(image)) = (frame(0), frame(1), frame(2)) else { return false };
    let own = match place.size {
        CodeSize::Bits64 => canonical(target) && frame(4).is_ok_and(|ss| ss & 0xFFFF == place.ss),
        _ => true,
    };
    let usual = own && selector & 0xFFFF == place.cs && image & 0x1F_7100 == 0;
    start.returns && usual && !(start.pending && image & IF != 0)
}

/// Advance the guest until it is in this state, by at most one instruction; memory that both have is equal then.
fn catch_up(guest: &mut Cpu, now: &Seen) {
    let state = |guest: &Cpu| Seen { regs: guest.regs, rip: guest.rip, rflags: guest.rflags | 2, gs: guest.gs };
    if state(guest) != *now {
        let before = state(guest);
        guest.step().unwrap_or_else(|stop| panic!("{stop:?} at {before:x?}, wanted {now:x?}"));
        assert_eq!(state(guest), *now, "came from {before:x?}");
    }
}
