//! Any bytes in any state: never a panic, and what does not retire changes nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use proptest::prelude::*;
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{SegReg, Segment};
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat16, flat32, flat64, TestMachine};
use rvmm_interp::{step, step_and_deliver, Step};

const CODE: u64 = 0x1ff8;

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..0x8000u64, any::<u64>(), any::<u32>().prop_map(u64::from)]
}

prop_compose! {
    fn cpu()(
        mode in 0..6u8,
        gpr in prop::array::uniform16(value()),
        flags in any::<u64>(),
        cpl in 0..4u8,
        attrs in any::<u16>(),
        limits in prop::array::uniform6(prop_oneof![Just(u32::MAX), 0..0x1_0000u32, any::<u32>()]),
        bases in prop::array::uniform6(prop_oneof![3 => Just(0u64), 1 => any::<u32>().prop_map(u64::from)]),
        odd in any::<u8>(),
        system in prop::array::uniform4(value()),
    ) -> VcpuState {
        let mut cpu = match mode {
            0 | 4 | 5 => flat16(CODE as u16, 0),
            3 => flat64(CODE, 0),
            _ => flat32(CODE as u32, 0),
        };
        cpu.gpr = if mode == 3 { gpr } else { gpr.map(|r| r & 0xffff_ffff) };
        cpu.rflags = Rflags::from_bits_truncate(flags) - Rflags::VM | Rflags::ONE;
        cpu.cpl = cpl;
        // Real mode, virtual 8086 mode.
        if mode == 4 {
            cpu.cr0.remove(Cr0::PE);
            cpu.cpl = 0;
        }
        if mode == 5 {
            cpu.rflags |= Rflags::VM;
            cpu.cpl = 3;
            cpu.cr4.set(Cr4::VME, odd & 1 != 0);
            for seg in SegReg::ALL {
                *cpu.segment_mut(seg) = Segment { attrs: 0xf3, ..Segment::real_mode(0) };
            }
        }
        for (i, seg) in SegReg::ALL.into_iter().enumerate() {
            if odd >> i & 1 != 0 && seg != SegReg::Cs && mode != 5 {
                let s = cpu.segment_mut(seg);
                (s.limit, s.base) = (limits[i], bases[i]);
                if odd & 0x80 != 0 {
                    s.attrs = attrs & 0xf0ff;
                }
            }
        }
        cpu.cr0.set(Cr0::AM, odd & 0x40 != 0);
        cpu.gdtr.base = system[0] & 0xffff;
        cpu.idtr.base = system[1] & 0xffff;
        cpu.dr = system;
        cpu.dr7 = 0x400 | if odd & 3 == 3 { system[2] & 0xffff_ffff } else { 0 };
        cpu.tr.base = system[3] & 0xffff;
        cpu
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_failures_change_nothing(
        cpu in cpu(),
        code in prop::collection::vec(any::<u8>(), 16),
        filler in any::<u8>(),
        prefix in prop_oneof![Just(None), Just(Some(0x0fu8)), any::<u8>().prop_map(Some)],
    ) {
        let mut m = TestMachine::new(0x1_0000);
        m.ram.fill(filler);
        m.poke(CODE, &code);
        if let Some(prefix) = prefix {
            m.poke(CODE, &[prefix]);
        }
        let mut after = cpu.clone();
        match step(&mut after, &mut m) {
            Step::Retired | Step::Halted | Step::Shutdown => {}
            Step::Exception(e) if e.vector == rvmm_arch::Vector::DB && e.payload & 0x400f != 0 => {}
            // Met in another task.
            Step::Exception(_) if after.cr0.contains(Cr0::TS) && !cpu.cr0.contains(Cr0::TS) => {}
            other => prop_assert_eq!(&after, &cpu, "{:?}", other),
        }
        prop_assert!(after.rflags.contains(Rflags::ONE));
        prop_assert!(after.cpl < 4);
        let mut delivered = cpu;
        for _ in 0..3 {
            if step_and_deliver(&mut delivered, &mut m) == Step::Shutdown {
                break;
            }
        }
    }
}
