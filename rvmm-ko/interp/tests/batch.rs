//! Many iterations of a string instruction in one step are what as many steps of one iteration are: in any mode, direction and
//! overlap, at the ends of pages, segments and address spaces, over the instruction itself, with faults and devices in between.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use proptest::prelude::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::{gpr, Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::SegReg;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, Step};

/// Guest-physical: eight frames that linear pages lead to, then the tables that say so.
const FRAMES: u64 = 8;
const DIRECTORY: u64 = 0x1_0000;
const LOW_TABLE: u64 = 0x1_1000;
const HIGH_TABLE: u64 = 0x1_2000;
const PDPT: u64 = 0x1_3000;
const PML4: u64 = 0x1_4000;
const RAM: usize = 0x1_5000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Real,
    Code16,
    Code32,
    Paged32,
    Long,
    PagedLong,
}

#[derive(Clone)]
struct Case {
    mode: Mode,
    cpu: VcpuState,
    code_at: u64,
    code: Vec<u8>,
    address_size: u32,
    ram: Vec<u8>,
    pending: Option<u64>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mode, cpu, code_at, code, address_size, ram: _, pending } = self;
        write!(f, "{mode:?} {code:02x?} at {code_at:#x}, addresses of {address_size}, pending {pending:?}, {cpu:x?}")
    }
}

impl Case {
    fn machine(&self, plain: bool) -> TestMachine {
        let mut m = TestMachine::new(RAM);
        m.ram.copy_from_slice(&self.ram);
        (m.plain, m.pending_page) = (plain, self.pending);
        m
    }
}

/// Offsets where something may happen.
fn offset() -> impl Strategy<Value = u64> {
    let page = (0..FRAMES + 1).prop_map(|page| page << 12);
    let near = (page, -24i64..24).prop_map(|(at, by)| at.wrapping_add_signed(by));
    let end = (prop_oneof![Just(1u64 << 16), Just(1 << 32), Just(0)], -24i64..24);
    prop_oneof![
        6 => 0x3000..FRAMES << 12,
        6 => near,
        2 => 0x1fc0..0x2040u64,
        2 => end.prop_map(|(at, by)| at.wrapping_add_signed(by)),
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..40u64, 2 => 0..5000u64, 1 => any::<u64>()]
}

/// Base, limit and attributes of a data segment: mostly flat and writable.
fn segment() -> impl Strategy<Value = (u64, u32, u16)> {
    let base = prop_oneof![6 => Just(0u64), 1 => 0..0x100u64, 1 => 0xffff_f000..=0xffff_ffffu64];
    let limit = prop_oneof![6 => Just(u32::MAX), 2 => 0x3000..0x6000u32, 1 => Just(0xffff)];
    // Read and write; read only; expand down, with B and without; code, readable and not; a null selector's.
    let attrs = prop_oneof![
        8 => Just(0xc093u16), 1 => Just(0xc091), 1 => Just(0xc097), 1 => Just(0x0097), 1 => Just(0xc09b), 1 => Just(0xc099), 1 => Just(0)
    ];
    (base, limit, attrs)
}

fn table_entry() -> impl Strategy<Value = (u64, u8)> {
    (0..FRAMES, prop_oneof![8 => Just(7u8), 1 => Just(0x67), 1 => Just(5), 1 => Just(3), 1 => Just(0)])
}

fn bytes() -> impl Strategy<Value = (u8, Vec<(u16, u8)>)> {
    (any::<u8>(), prop::collection::vec((0..(FRAMES as u16) << 12, any::<u8>()), 0..12))
}

prop_compose! {
    fn instruction()(
        opcode in prop::sample::select(vec![0xa4u8, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]),
        rep in prop_oneof![8 => Just(Some(0xf3u8)), 4 => Just(Some(0xf2)), 1 => Just(None)],
        segment in prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![0x26u8, 0x2e, 0x36, 0x3e, 0x64, 0x65]).prop_map(Some)],
        operand in any::<bool>(),
        address in prop::bool::weighted(0.3),
        wide in any::<bool>(),
    ) -> (Vec<u8>, bool, bool) {
        let mut code = Vec::new();
        code.extend(segment);
        code.extend(operand.then_some(0x66));
        code.extend(address.then_some(0x67));
        code.extend(rep);
        code.push(opcode);
        (code, address, wide)
    }
}

prop_compose! {
    fn case()(
        mode in prop::sample::select(vec![Mode::Real, Mode::Code16, Mode::Code32, Mode::Paged32, Mode::Long, Mode::PagedLong]),
        (code, address, wide) in instruction(),
        code_at in prop_oneof![4 => Just(0x1100u64), 1 => 0x1ff0..0x2000u64],
        offsets in (offset(), prop_oneof![2 => offset().prop_map(Ok), 2 => (-40i64..40).prop_map(Err)]),
        rcx in count(),
        rax in any::<u64>(),
        accumulator in any::<bool>(),
        segments in prop::array::uniform6(segment()),
        odd_segments in any::<bool>(),
        fs_base in prop_oneof![Just(0u64), Just(0x123), Just(0xffff_ffff_ffff_f000)],
        backward in any::<bool>(),
        cpl in prop::sample::select(vec![0u8, 3]),
        flags in prop::sample::select(vec![Rflags::empty(), Rflags::empty(), Rflags::AC, Rflags::CF.union(Rflags::ZF), Rflags::TF]),
        machine in (0..12u8, prop_oneof![3 => Just(None), 1 => (0..FRAMES).prop_map(|page| Some(page << 12))]),
        low in prop::collection::vec(table_entry(), 16),
        high in prop::collection::vec(table_entry(), 4),
        (filler, holes) in bytes(),
    ) -> Case {
        let mut cpu = match mode {
            Mode::Real | Mode::Code16 => flat16(code_at as u16, 0),
            Mode::Code32 | Mode::Paged32 => flat32(code_at as u32, 0),
            Mode::Long | Mode::PagedLong => flat64(code_at, 0),
        };
        let long = matches!(mode, Mode::Long | Mode::PagedLong);
        let mut code = code;
        if long && wide {
            code.insert(code.len() - 1, 0x48);
        }
        let address_size = match (mode, address) {
            (Mode::Real | Mode::Code16, false) | (Mode::Code32 | Mode::Paged32, true) => 2,
            (Mode::Long | Mode::PagedLong, false) => 8,
            _ => 4,
        };
        let second = match offsets.1 {
            Ok(at) => at,
            Err(by) => offsets.0.wrapping_add_signed(by),
        };
        cpu.gpr[gpr::RSI] = offsets.0;
        cpu.gpr[gpr::RDI] = second;
        cpu.gpr[gpr::RCX] = rcx;
        cpu.gpr[gpr::RAX] = if accumulator { u64::from_le_bytes([filler; 8]) } else { rax };
        if !long {
            cpu.gpr = cpu.gpr.map(|r| r & 0xffff_ffff);
        }
        if odd_segments {
            for (seg, (base, limit, attrs)) in SegReg::ALL.into_iter().zip(segments) {
                if seg != SegReg::Cs {
                    let s = cpu.segment_mut(seg);
                    (s.base, s.limit, s.attrs) = (base, limit, attrs);
                }
            }
        }
        if long {
            cpu.segment_mut(SegReg::Fs).base = fs_base;
        }
        cpu.rflags |= flags;
        cpu.rflags.set(Rflags::DF, backward);
        cpu.cpl = if mode == Mode::Real { 0 } else { cpl };
        cpu.cr0 |= Cr0::AM;
        match machine.0 {
            0 => (cpu.dr7, cpu.dr[0]) = (0x3_0401, second.wrapping_add(2)),
            1 => cpu.shadow = InterruptShadow::Sti,
            2 => cpu.cr0 |= Cr0::WP,
            _ => {}
        }
        let mut ram = vec![0; RAM];
        ram[..(FRAMES as usize) << 12].fill(filler);
        for (at, byte) in holes {
            ram[usize::from(at)] = byte;
        }
        ram[code_at as usize..][..code.len()].copy_from_slice(&code);
        if mode == Mode::Real {
            cpu.cr0 -= Cr0::PE;
        }
        let size = if long { 8 } else { 4 };
        let mut put = |at: u64, value: u64| {
            ram[at as usize..][..size as usize].copy_from_slice(&value.to_le_bytes()[..size as usize]);
        };
        for (i, (frame, rights)) in (0u64..).zip(low) {
            // The code is where it is.
            let entry = if matches!(i, 1 | 2) { i << 12 | 7 } else { frame << 12 | u64::from(rights) };
            put(LOW_TABLE + i * size, entry);
        }
        for (i, (frame, rights)) in (0u64..).zip(high) {
            let last = 4096 / size - 4 + i;
            put(HIGH_TABLE + last * size, frame << 12 | u64::from(rights));
        }
        match mode {
            Mode::Paged32 => {
                put(DIRECTORY, LOW_TABLE | 7);
                put(DIRECTORY + 4092, HIGH_TABLE | 7);
                cpu.cr3 = DIRECTORY;
                cpu.cr0 |= Cr0::PG;
            }
            Mode::PagedLong => {
                put(PML4, PDPT | 7);
                put(PML4 + 4088, PDPT | 7);
                put(PDPT, DIRECTORY | 7);
                put(PDPT + 3 * 8, DIRECTORY | 7);
                put(PDPT + 4088, DIRECTORY | 7);
                put(DIRECTORY, LOW_TABLE | 7);
                put(DIRECTORY + 4088, HIGH_TABLE | 7);
                cpu.cr3 = PML4;
                cpu.cr4 |= Cr4::PAE;
                cpu.efer |= Efer::LME | Efer::LMA;
                cpu.cr0 |= Cr0::PG;
            }
            _ => {}
        }
        Case { mode, cpu, code_at, code, address_size, ram, pending: machine.1 }
    }
}

/// Steps that the batching machine makes of a case.
const STEPS: u32 = 6;

fn check(case: &Case) -> Result<u64, TestCaseError> {
    let mask = u64::MAX >> (64 - 8 * case.address_size);
    let (mut many, mut one) = (case.cpu.clone(), case.cpu.clone());
    let (mut with, mut without) = (case.machine(true), case.machine(false));
    let mut batched = 0;
    for _ in 0..STEPS {
        // An instruction that has overwritten itself is another one, of which this knows nothing.
        if many.rip != case.cpu.rip || with.peek(case.code_at, case.code.len()) != case.code {
            break;
        }
        let before = many.gpr[gpr::RCX];
        with.changes.clear();
        let outcome = step(&mut many, &mut with);
        let done = before.wrapping_sub(many.gpr[gpr::RCX]) & mask;
        let told = with.changes.iter().fold(0, |n, change| match change {
            Change::Iterations(n) => *n,
            _ => n,
        });
        prop_assert!(told == 0 || told == done && done != 0, "told {}, done {}", told, done);
        prop_assert!(done <= 4096);
        batched += told;
        for left in (0..done.max(1)).rev() {
            let single = step(&mut one, &mut without);
            if left == 0 {
                prop_assert_eq!(single, outcome);
            } else {
                prop_assert_eq!(single, Step::Retired);
            }
        }
        prop_assert_eq!(&many, &one);
        let difference = with.ram.iter().zip(&without.ram).position(|(a, b)| a != b);
        prop_assert_eq!(difference, None, "RAM differs");
        if outcome != Step::Retired {
            break;
        }
    }
    Ok(batched)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_as_many_single_iterations(case in case()) {
        check(&case)?;
    }
}

/// The property would hold where nothing is ever batched.
#[test]
fn batches_are_made_in_every_mode() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut batched = std::collections::HashMap::new();
    for _ in 0..3000 {
        let case = case().new_tree(&mut runner).unwrap().current();
        let backward = case.cpu.rflags.contains(Rflags::DF);
        let opcode = *case.code.last().unwrap();
        let done = check(&case).unwrap();
        *batched.entry(format!("{:?} backward {backward}", case.mode)).or_insert(0) += done;
        *batched.entry(format!("{opcode:#x} backward {backward}")).or_insert(0) += done;
    }
    assert_eq!(batched.len(), 12 + 20);
    for (what, done) in batched {
        assert!(done > 500, "{what}: {done}");
    }
}

/// A 32-bit machine with `code`, count, source and destination.
fn machine(code: &[u8], [rcx, rsi, rdi]: [u64; 3]) -> (VcpuState, TestMachine) {
    let mut m = TestMachine::new(RAM);
    m.plain = true;
    m.poke(0x1100, code);
    let mut cpu = flat32(0x1100, 0);
    (cpu.gpr[gpr::RCX], cpu.gpr[gpr::RSI], cpu.gpr[gpr::RDI]) = (rcx, rsi, rdi);
    (cpu, m)
}

fn steps_until(cpu: &mut VcpuState, m: &mut TestMachine, rip: u64) -> u32 {
    let mut steps = 0;
    while cpu.rip != rip {
        assert_eq!(step(cpu, m), Step::Retired);
        steps += 1;
        assert!(steps < 100_000);
    }
    steps
}

#[test]
fn a_page_is_one_step_and_was_thousands() {
    for (plain, steps) in [(true, 1), (false, 4096)] {
        let (mut cpu, mut m) = machine(&[0xf3, 0xa4], [4096, 0x3000, 0x5000]);
        m.plain = plain;
        m.ram[0x3000..0x4000].fill(7);
        assert_eq!(steps_until(&mut cpu, &mut m, 0x1102), steps);
        assert!(m.peek(0x5000, 4096).iter().all(|b| *b == 7));
        assert_eq!((cpu.gpr[gpr::RSI], cpu.gpr[gpr::RDI], cpu.gpr[gpr::RCX]), (0x4000, 0x6000, 0));
    }
}

#[test]
fn between_batches_the_instruction_is_as_an_interrupt_finds_it() {
    let (mut cpu, mut m) = machine(&[0xf3, 0xab], [1500, 0, 0x3ffc]);
    cpu.gpr[gpr::RAX] = 0x0102_0304;
    // One element to the end of the page, a page, the rest.
    let mut left = [1499, 475, 0].into_iter();
    for last in [false, false, true] {
        assert_eq!(step(&mut cpu, &mut m), Step::Retired);
        assert_eq!(cpu.gpr[gpr::RCX], left.next().unwrap());
        assert_eq!(cpu.rip == 0x1100, !last);
        assert_eq!(cpu.rflags.contains(Rflags::RF), !last);
    }
    assert!(m.peek(0x3ffc, 6000).chunks(4).all(|b| b == [4, 3, 2, 1]));
}

#[test]
fn a_move_to_the_next_bytes_replicates() {
    for apart in 1..12 {
        let (mut cpu, mut m) = machine(&[0xf3, 0xa4], [1000, 0x3000, 0x3000 + apart as u64]);
        m.poke(0x3000, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(steps_until(&mut cpu, &mut m, 0x1102), 1);
        for i in 0..1000 + apart {
            assert_eq!(m.ram[0x3000 + i], (i % apart) as u8 + 1);
        }
    }
}

#[test]
fn an_instruction_that_overwrites_itself_goes_by_one() {
    // STOSB of 90h down to the instruction: the iteration that meets its second byte makes a PAUSE of it.
    let (mut cpu, mut m) = machine(&[0xf3, 0xaa], [600, 0, 0x1200]);
    cpu.gpr[gpr::RAX] = 0x90;
    cpu.rflags |= Rflags::DF;
    steps_until(&mut cpu, &mut m, 0x1102);
    assert_eq!(cpu.gpr[gpr::RCX], 600 - 0x100);
    assert!(m.changes.is_empty());
}

/// What one step costs is bounded, however near the operands are to each other.
#[test]
fn a_step_makes_few_accesses() {
    for (prefix, size) in [(None, 1_u64), (Some(0x66), 2), (None, 4)] {
        let opcode = if size == 1 { 0xa4 } else { 0xa5 };
        let code: Vec<u8> = prefix.into_iter().chain([0xf3, opcode]).collect();
        for apart in (1..600).chain([1000, 2000]) {
            for backward in [false, true] {
                let [from, to] =
                    if backward { [0x4000 - size, 0x4000 - size - apart] } else { [0x3000, 0x3000 + apart] };
                let (mut cpu, mut m) = machine(&code, [4096, from, to]);
                cpu.rflags.set(Rflags::DF, backward);
                assert_eq!(step(&mut cpu, &mut m), Step::Retired);
                assert!(m.accesses < 80, "{size} {apart} {backward}: {} accesses", m.accesses);
            }
        }
    }
}
