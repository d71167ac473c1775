//! Shared by the tables: one instruction (or a few) in a flat machine.
#![allow(dead_code)]

use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, TestMachine};
use rvmm_interp::{step, Step};

/// Where code is put.
pub const CODE: u64 = 0x1000;
/// The stack pointer at the start.
pub const STACK: u32 = 0x8000;

/// A 32-bit machine with `code` at [`CODE`].
pub fn machine32(code: &[u8]) -> (VcpuState, TestMachine) {
    let mut m = TestMachine::new(0x20000);
    m.poke(CODE, code);
    (flat32(CODE as u32, STACK), m)
}

/// The same in 16-bit protected mode.
pub fn machine16(code: &[u8]) -> (VcpuState, TestMachine) {
    let mut m = TestMachine::new(0x20000);
    m.poke(CODE, code);
    (flat16(CODE as u16, STACK as u16), m)
}

/// One step of `code` after `setup`; the state and machine after it.
pub fn run32(code: &[u8], setup: impl FnOnce(&mut VcpuState, &mut TestMachine)) -> (Step, VcpuState, TestMachine) {
    let (mut cpu, mut m) = machine32(code);
    setup(&mut cpu, &mut m);
    let outcome = step(&mut cpu, &mut m);
    (outcome, cpu, m)
}

/// As [`run32`] in 16-bit protected mode.
pub fn run16(code: &[u8], setup: impl FnOnce(&mut VcpuState, &mut TestMachine)) -> (Step, VcpuState, TestMachine) {
    let (mut cpu, mut m) = machine16(code);
    setup(&mut cpu, &mut m);
    let outcome = step(&mut cpu, &mut m);
    (outcome, cpu, m)
}

/// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
pub fn registers(cpu: &VcpuState) -> [u32; 8] {
    let mut r = [0; 8];
    for (to, from) in r.iter_mut().zip(cpu.gpr) {
        *to = from as u32;
    }
    r
}

/// The status flags.
pub fn status(cpu: &VcpuState) -> Rflags {
    cpu.rflags.intersection(Rflags::STATUS)
}

/// ESP.
pub fn esp(cpu: &VcpuState) -> u32 {
    cpu.gpr[gpr::RSP] as u32
}
