//! Every user-visible integer instruction (string instructions by many iterations a step), interpreted and executed by the CPU this test runs on, from the same random
//! state: registers, defined flags and memory must agree.
//!
//! In 64-bit mode and in 32-bit mode (compatibility mode, where this process can enter it). 16-bit addresses and
//! branches, which lead where no process can map memory, have tables of their own (`tests/tables.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod forms;
mod native;

use forms::{Made, Rng, Shape};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use native::{Ending, Mode, Native, Registers};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop};
use rvmm_arch::regs::Rflags;
use rvmm_arch::{Exception, Gpa, Gva, PageFaultCode, VcpuState, Vector};
use rvmm_interp::{step, testing, undefined, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Random states per form.
const ROUNDS: usize = 150;

/// Memory as the interpreter sees it: the instruction and a copy of the data, each at its native address.
struct Mirror {
    code: (u64, Vec<u8>),
    data: (u64, Vec<u8>),
}

impl Machine for Mirror {
    fn translate(&mut self, _: &VcpuState, la: Gva, _: Access) -> Result<Gpa, MachineStop> {
        let inside = |(at, bytes): &(u64, Vec<u8>)| la.0 >= *at && la.0 < at + bytes.len() as u64;
        if inside(&self.code) || inside(&self.data) {
            Ok(Gpa(la.0))
        } else {
            Err(MachineStop::Fault(Exception::page_fault(PageFaultCode::empty(), la.0)))
        }
    }
    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        let (at, bytes) = if gpa.0 >= self.data.0 { &self.data } else { &self.code };
        for (i, b) in buf.iter_mut().enumerate() {
            *b = bytes.get((gpa.0 - at) as usize + i).copied().unwrap_or(0x90);
        }
        Ok(())
    }
    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        let at = (gpa.0 - self.data.0) as usize;
        self.data.1[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn is_plain(&mut self, gpa: Gpa, _: AccessKind) -> Result<bool, MachineStop> {
        Ok(gpa.0 >= self.data.0)
    }
    fn port_in(&mut self, _: u16, _: u8) -> Result<u32, MachineStop> {
        panic!("no ports here")
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32) -> Result<(), MachineStop> {
        panic!("no ports here")
    }
    fn cpuid(&mut self, _: &VcpuState, _: u32, _: u32) -> [u32; 4] {
        panic!("no CPUID here")
    }
    fn rdtsc(&mut self, _: &VcpuState) -> u64 {
        panic!("no time here")
    }
    fn changed(&mut self, _: &VcpuState, _: Change) {}
}

/// Interprets the instruction to its end.
fn interpret(cpu: &mut VcpuState, m: &mut Mirror, len: usize) -> Ending {
    let start = cpu.rip;
    let next = start + len as u64;
    loop {
        match step(cpu, m) {
            Step::Retired if cpu.rip == next => return Ending::Next,
            Step::Retired if cpu.rip == next + 5 => return Ending::Taken,
            Step::Retired if cpu.rip == start => {}
            Step::Exception(e) => {
                return Ending::Signal(match e.vector {
                    Vector::DE => libc::SIGFPE,
                    Vector::UD => libc::SIGILL,
                    Vector::SS => libc::SIGBUS,
                    _ => libc::SIGSEGV,
                })
            }
            other => panic!("{other:?}, rip {:#x}, instruction at {start:#x}", cpu.rip),
        }
    }
}

/// Registers and data for `made`, so that its addresses lie in the data.
fn prepare(rng: &mut Rng, made: &Made, data_at: u64, next: u64, data: &mut [u8]) -> Registers {
    let ins = &made.instruction;
    let mut r = Registers::default();
    for reg in &mut r.gpr {
        *reg = rng.value();
    }
    for chunk in data.chunks_exact_mut(8) {
        let v = if rng.chance(4) { rng.value() } else { rng.next() };
        chunk.copy_from_slice(&v.to_le_bytes());
    }
    r.flags = rng.next() & (Rflags::STATUS | Rflags::DF).bits() | 0x202;
    if matches!(ins.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) && !rng.chance(3) {
        let small = rng.below(256);
        r.gpr[2] = if rng.chance(3) { small.wrapping_neg() >> 1 } else { small };
        r.gpr[0] = if rng.chance(2) { r.gpr[0] & 0xffff } else { r.gpr[0] };
    }
    let middle = data_at + 0x1c00;
    r.gpr[4] = middle & !7;
    if matches!(ins.mnemonic(), Mnemonic::Enter | Mnemonic::Leave) {
        r.gpr[5] = middle + 0x800 + rng.below(16);
    }
    if ins.is_string_instruction() {
        r.gpr[1] = if rng.chance(3) { rng.below(300) } else { rng.below(6) };
        r.gpr[6] = middle + rng.below(64);
        r.gpr[7] = match rng.below(4) {
            0 => r.gpr[6],
            // Overlapping by a part.
            1 => r.gpr[6] + rng.below(64) - 32,
            _ => middle + 0x1000 + rng.below(64),
        };
    }
    if matches!(ins.mnemonic(), Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne) || ins.is_jcx_short() {
        r.gpr[1] = [0, 1, 2, 1 << 32, (1 << 32) + 1][rng.below(5) as usize];
    }
    // The bit string around the operand.
    let bit_string = matches!(ins.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
        && ins.op0_kind() == OpKind::Memory
        && ins.op1_kind() == OpKind::Register;
    if bit_string {
        r.gpr[ins.op1_register().full_register().number()] = rng.below(0x8000).wrapping_sub(0x4000);
    }
    // Address registers of 32 bits: what is above must not count.
    let above = |rng: &mut Rng, narrow: bool| if narrow { rng.next() << 32 } else { 0 };
    let short = |kind| matches!(kind, OpKind::MemorySegESI | OpKind::MemoryESEDI);
    if ins.is_string_instruction() && (short(ins.op0_kind()) || short(ins.op1_kind())) {
        for reg in [1, 6, 7] {
            r.gpr[reg] |= above(rng, true);
        }
    }
    let narrow = ins.memory_base().is_gpr32() || ins.memory_index().is_gpr32();
    let target = middle + 0x1000 + rng.below(0x400);
    let mut operand_at = None;
    let has_memory = (0..ins.op_count()).any(|i| ins.op_kind(i) == OpKind::Memory);
    if ins.mnemonic() == Mnemonic::Xlatb {
        r.gpr[3] = target | above(rng, narrow);
    } else if has_memory && ins.memory_base() == Register::None {
        // MOV with an absolute address, which `forms` chose in the data.
    } else if has_memory && ins.is_ip_rel_memory_operand() {
        operand_at = Some((ins.memory_displacement64() - data_at) as usize);
    } else if has_memory {
        let index = match ins.memory_index() {
            Register::None => 0,
            reg => {
                let v = rng.below(64);
                r.gpr[reg.number()] = v | above(rng, narrow);
                v * u64::from(ins.memory_index_scale())
            }
        };
        let aligned = if rng.chance(2) { target & !15 } else { target };
        let base = aligned.wrapping_sub(index).wrapping_sub(ins.memory_displacement64());
        r.gpr[ins.memory_base().number()] = if narrow { base & 0xffff_ffff | above(rng, true) } else { base };
        operand_at = Some((aligned - data_at) as usize);
    }
    if bit_string && ins.memory_base().full_register() == ins.op1_register().full_register() {
        // Base and bit number in one register: the bit lies anywhere. Not for this arena.
        r.gpr[ins.memory_base().number()] = u64::MAX;
    }
    // Half of the compare-and-exchanges find what they expect.
    if let (Some(at), true) = (operand_at, rng.chance(2)) {
        match ins.mnemonic() {
            Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => {
                let half = match ins.mnemonic() {
                    Mnemonic::Cmpxchg8b => 4,
                    _ => 8,
                };
                data[at..at + half].copy_from_slice(&r.gpr[0].to_le_bytes()[..half]);
                data[at + half..at + 2 * half].copy_from_slice(&r.gpr[2].to_le_bytes()[..half]);
            }
            _ => {}
        }
    }
    // Indirect branches lead where direct ones do.
    match ins.mnemonic() {
        Mnemonic::Jmp | Mnemonic::Call => match (ins.op0_kind(), operand_at) {
            (OpKind::Register, _) => r.gpr[ins.op0_register().full_register().number()] = next + 5,
            (OpKind::Memory, Some(at)) => data[at..at + 8].copy_from_slice(&(next + 5).to_le_bytes()),
            _ => {}
        },
        Mnemonic::Ret => {
            let at = (r.gpr[4] - data_at) as usize;
            data[at..at + 8].copy_from_slice(&(next + 5).to_le_bytes());
        }
        _ => {}
    }
    r
}

#[derive(Default)]
struct Tally {
    cells: BTreeSet<(Mode, Code, Shape)>,
    states: usize,
    faults: usize,
    /// Is this a CPU whose undefined results are those that the interpreter gives (Intel's)?
    undefined_results_are_ours: bool,
    /// States left out because they are not.
    undefined_results: usize,
    /// Undefined flags in which the CPU and the interpreter differed, by mnemonic.
    undefined: BTreeMap<Mnemonic, (Rflags, usize)>,
    failures: Vec<String>,
}

#[test]
fn integer_instructions_agree_with_the_cpu() {
    let mut native = Native::new();
    // "GenuineIntel", by its first four letters.
    let intel = std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Genu");
    let mut tally = Tally { undefined_results_are_ours: intel, ..Tally::default() };
    for mode in [Mode::Bits64, Mode::Bits32] {
        let (at, data_at) = (native.instruction_at(mode), native.data_at());
        for (code, shape) in forms::all(mode) {
            let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ (code as u64) << 8 ^ shape as u64 ^ u64::from(mode.bits()) << 40);
            let mut made_any = false;
            for _ in 0..ROUNDS {
                if let Some(made) = forms::random(&mut rng, code, shape, mode, at, data_at + 0x3000) {
                    made_any = true;
                    compare(&mut rng, &mut native, &made, mode, shape, &mut tally);
                }
            }
            assert!(made_any, "no instruction of the form {code:?} {shape:?} can be made");
        }
    }
    let of = |mode| tally.cells.iter().filter(|c| c.0 == mode).count();
    println!(
        "host CPU comparison: {} cells (form, kind of operand; 64-bit mode {}, 32-bit mode {}), {} states, {} faults",
        tally.cells.len(),
        of(Mode::Bits64),
        of(Mode::Bits32),
        tally.states,
        tally.faults
    );
    for (mnemonic, (flags, n)) in &tally.undefined {
        println!("  undefined flags of {mnemonic:?} differ from this CPU's: {flags:?} ({n} states)");
    }
    if tally.undefined_results != 0 {
        println!("  undefined results, not compared on this vendor's CPU: {} states", tally.undefined_results);
    }
    for failure in tally.failures.iter().take(40) {
        println!("{failure}");
    }
    assert!(tally.failures.is_empty(), "{} differences", tally.failures.len());
    assert!(tally.cells.len() > 1500 && tally.faults > 100, "too little was compared");
}

fn compare(rng: &mut Rng, native: &mut Native, made: &Made, mode: Mode, shape: Shape, tally: &mut Tally) {
    let (at, data_at) = (native.instruction_at(mode), native.data_at());
    let next = at + made.bytes.len() as u64;
    let mut input = prepare(rng, made, data_at, next, native.data());
    let width = match mode {
        Mode::Bits64 => u64::MAX,
        Mode::Bits32 => 0xffff_ffff,
    };
    input.gpr.iter_mut().for_each(|r| *r &= width);
    let before = native.data().to_vec();
    let (output, ending) = native.run(mode, &made.bytes, &input);

    let mut cpu = match mode {
        Mode::Bits64 => testing::flat64(at, 0),
        Mode::Bits32 => testing::flat32(at as u32, 0),
    };
    cpu.cpl = 3;
    cpu.gpr = input.gpr;
    cpu.rflags = Rflags::from_bits_retain(input.flags);
    let loose = undefined(&made.instruction, &cpu);
    let mut mirror = Mirror { code: (at, made.bytes.clone()), data: (data_at, before) };
    mirror.code.1.resize(32, 0x90);
    let got = interpret(&mut cpu, &mut mirror, made.bytes.len());
    tally.states += 1;
    if loose.result && !tally.undefined_results_are_ours {
        tally.undefined_results += 1;
        return;
    }
    tally.cells.insert((mode, made.instruction.code(), shape));

    let flags_seen = Rflags::STATUS | Rflags::DF;
    let differing = Rflags::from_bits_truncate(cpu.rflags.bits() ^ output.flags).intersection(flags_seen);
    let mut wrong = Vec::new();
    if got != ending {
        wrong.push(format!("ended as {got:?}, the CPU as {ending:?}"));
    }
    if matches!(ending, Ending::Signal(_)) {
        tally.faults += 1;
    }
    if !(differing - loose.flags).is_empty() {
        wrong.push(format!("flags differ: {:?}", differing - loose.flags));
    }
    if !differing.is_empty() && wrong.is_empty() {
        let entry = tally.undefined.entry(made.instruction.mnemonic()).or_insert((Rflags::empty(), 0));
        entry.0 |= differing;
        entry.1 += 1;
    }
    let registers = mode.bits() as usize / 4;
    for (i, (a, b)) in cpu.gpr.iter().zip(&output.gpr).enumerate().take(registers) {
        if (a ^ b) & width != 0 {
            wrong.push(format!("register {i}: {a:#x}, the CPU {b:#x}"));
        }
    }
    let after = native.data();
    if mirror.data.1 != after {
        let i = mirror.data.1.iter().zip(after.iter()).position(|(a, b)| a != b).unwrap();
        wrong.push(format!("memory +{i:#x}: {:#x}, the CPU {:#x}", mirror.data.1[i], after[i]));
    }
    if !wrong.is_empty() {
        tally.failures.push(report(&made.instruction, &made.bytes, &input, mode.bits(), &wrong));
    }
}

fn report(ins: &Instruction, bytes: &[u8], input: &Registers, bits: u32, wrong: &[String]) -> String {
    format!("{:?} {bytes:02x?} in {bits}-bit mode: {}; from {input:x?}", ins.code(), wrong.join("; "))
}
