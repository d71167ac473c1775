//! Any code in any state of any mode, a few instructions of it with their exceptions delivered: no panic, no hang, and what does not
//! retire changes nothing.
#![no_main]

mod input;

use input::Input;
use libfuzzer_sys::fuzz_target;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{VcpuState, Vector};
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, step_and_deliver, Step};

/// Here the code, below it the tables and stacks.
const CODE: u64 = 0x3ff0;
const RAM: usize = 0x8000;

fn state(from: &mut Input) -> VcpuState {
    let mode = from.u8() % 7;
    let mut cpu = match mode {
        0 | 4 | 5 => flat16(CODE as u16, 0),
        3 => flat64(CODE, 0),
        _ => flat32(CODE as u32, 0),
    };
    for r in &mut cpu.gpr {
        *r = from.value() & if mode == 3 { u64::MAX } else { 0xffff_ffff };
    }
    cpu.rflags = Rflags::from_bits_truncate(from.u64()) - Rflags::VM | Rflags::ONE;
    cpu.cpl = from.u8() & 3;
    cpu.cr4 = Cr4::from_bits_truncate(from.u64()) - Cr4::LA57 - Cr4::PKE;
    for seg in SegReg::ALL {
        if from.u8() & 1 != 0 && seg != SegReg::Cs {
            *cpu.segment_mut(seg) = Segment::from_descriptor(Selector(from.value() as u16), Descriptor(from.u64()));
        }
    }
    match mode {
        4 => {
            cpu.cr0.remove(Cr0::PE);
            cpu.cpl = 0;
        }
        5 => {
            cpu.rflags |= Rflags::VM;
            cpu.cpl = 3;
            for seg in SegReg::ALL {
                *cpu.segment_mut(seg) = Segment { attrs: 0xf3, ..Segment::real_mode(from.value() as u16 & 0xff) };
            }
            cpu.segment_mut(SegReg::Cs).base = 0;
        }
        // Compatibility mode.
        6 => cpu.efer = Efer::LME | Efer::LMA,
        _ => {}
    }
    (cpu.gdtr.base, cpu.gdtr.limit) = (from.value() & 0x7fff, from.value() as u16);
    (cpu.idtr.base, cpu.idtr.limit) = (from.value() & 0x7fff, from.value() as u16);
    for s in [&mut cpu.tr, &mut cpu.ldtr] {
        (s.selector, s.base, s.limit) = (Selector(from.value() as u16), from.value() & 0x7fff, from.value() as u32);
        s.attrs = from.u64() as u16;
    }
    for d in &mut cpu.dr {
        *d = from.value();
    }
    cpu.dr7 = 0x400 | from.value() & 0xffff_ffff;
    // Paging, with tables that are whatever memory is.
    if from.u8() & 7 == 0 && mode != 4 {
        cpu.cr0 |= Cr0::PG;
        cpu.cr3 = from.value() & 0x7000;
    }
    cpu.cr0.set(Cr0::AM, from.u8() & 1 != 0);
    cpu
}

fuzz_target!(|data: &[u8]| {
    let mut from = Input(data);
    let mut m = TestMachine::new(RAM);
    let before = state(&mut from);
    m.plain = from.u8() & 1 != 0;
    let code = from.0;
    for (i, b) in m.ram.iter_mut().enumerate() {
        *b = code.get(i.wrapping_sub(CODE as usize) % code.len().max(1)).copied().unwrap_or(0);
    }
    let mut cpu = before.clone();
    match step(&mut cpu, &mut m) {
        Step::Retired | Step::Halted | Step::Shutdown => {}
        Step::Exception(e) if e.vector == Vector::DB && e.payload & 0x400f != 0 => {}
        // Met in another task.
        Step::Exception(_) if cpu.cr0.contains(Cr0::TS) && !before.cr0.contains(Cr0::TS) => {}
        // IRET opens NMIs.
        Step::Exception(_) => assert_eq!(VcpuState { nmi_blocked: before.nmi_blocked, ..cpu.clone() }, before),
        _ => assert_eq!(cpu, before),
    }
    for _ in 0..8 {
        assert!(cpu.rflags.contains(Rflags::ONE) && cpu.cpl < 4);
        if step_and_deliver(&mut cpu, &mut m) == Step::Shutdown {
            break;
        }
    }
});
