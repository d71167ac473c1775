//! Bases of FS and GS: SWAPGS, RDFSBASE and its kin, MSRs; and the other MSRs of long mode.

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::Cr4;
use rvmm_arch::segment::SegReg;
use rvmm_interp::msr;

const SWAPGS: [u8; 3] = [0x0f, 0x01, 0xf8];

#[test]
fn swapgs() {
    let mut w = World::new();
    w.cpu.segment_mut(SegReg::Gs).base = 0x1234;
    w.cpu.msrs.kernel_gs_base = DATA;
    let selector = w.selector(SegReg::Gs);
    w.ok(&SWAPGS);
    assert_eq!((w.cpu.segment(SegReg::Gs).base, w.cpu.msrs.kernel_gs_base), (DATA, 0x1234));
    assert_eq!(w.selector(SegReg::Gs), selector);
    World::at(At::User).faults(&SWAPGS, gp(0));
    World::at(At::Kernel32).faults(&SWAPGS, ud());
    World::at(At::User32).faults(&SWAPGS, ud());
}

/// RDFSBASE /0, RDGSBASE /1, WRFSBASE /2, WRGSBASE /3, with EAX or RAX.
#[test]
fn base_instructions() {
    for at in [At::Kernel, At::User] {
        for (n, reg) in [(0, SegReg::Fs), (1, SegReg::Gs)] {
            let mut w = World::at(at);
            let read = [0xf3, 0x48, 0x0f, 0xae, 0xc0 | n << 3];
            let read32 = [0xf3, 0x0f, 0xae, 0xc0 | n << 3];
            let write = [0xf3, 0x48, 0x0f, 0xae, 0xd0 | n << 3];
            let write32 = [0xf3, 0x0f, 0xae, 0xd0 | n << 3];
            w.faults(&read, ud());
            w.faults(&write, ud());
            w.cpu.cr4 |= Cr4::FSGSBASE;
            w.cpu.segment_mut(reg).base = HIGH + 0x1_2345_6789;
            w.ok(&read);
            assert_eq!(w.cpu.gpr[RAX], HIGH + 0x1_2345_6789);
            w.ok(&read32);
            assert_eq!(w.cpu.gpr[RAX], 0x2345_6789);
            w.cpu.gpr[RAX] = DATA;
            w.ok(&write);
            assert_eq!(w.cpu.segment(reg).base, DATA);
            w.ok(&write32);
            assert_eq!(w.cpu.segment(reg).base, DATA & 0xffff_ffff);
            w.cpu.gpr[RAX] = NOWHERE;
            w.faults(&write, gp(0));
        }
    }
    let mut w = World::at(At::User32);
    w.cpu.cr4 |= Cr4::FSGSBASE;
    w.faults(&[0xf3, 0x0f, 0xae, 0xc0], ud());
}

#[test]
fn msrs() {
    let mut w = World::new();
    for index in [0xc000_0082u32, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x175, 0x176] {
        for value in [0, HIGH + 0x1234, NOWHERE - 1] {
            assert_eq!(msr::write(&mut w.cpu, &mut w.m, index, value), Some(()), "{index:#x}");
            assert_eq!(msr::read(&w.cpu, &mut w.m, index), Some(value));
        }
        for value in [NOWHERE, HIGH - 1, 1 << 63] {
            assert_eq!(msr::write(&mut w.cpu, &mut w.m, index, value), None, "{index:#x}");
        }
        assert_eq!(msr::read(&w.cpu, &mut w.m, index), Some(NOWHERE - 1));
    }
    assert_eq!(w.cpu.segment(SegReg::Fs).base, NOWHERE - 1);
    for (index, value) in [(0xc000_0081u32, 0x0023_0010_1234_5678u64), (0xc000_0084, 0x4_7700), (0xc000_0103, 7)] {
        assert_eq!(msr::write(&mut w.cpu, &mut w.m, index, value), Some(()));
        assert_eq!(msr::read(&w.cpu, &mut w.m, index), Some(value));
    }
    // EFER: LME cannot change under paging, LMA not at all, what is not announced does not exist.
    for (value, taken) in
        [(0xd01, true), (0x101, true), (0xc01, false), (0xd01 | 1 << 12, false), (0xd01 | 1 << 1, false)]
    {
        assert_eq!(msr::write(&mut w.cpu, &mut w.m, 0xc000_0080, value).is_some(), taken, "{value:#x}");
    }
    assert_eq!(msr::read(&w.cpu, &mut w.m, 0xc000_0080), Some(0x501));
}

/// The upper halves of RAX and RDX do not count in WRMSR, and are cleared by RDMSR.
#[test]
fn halves() {
    let mut w = World::new();
    w.cpu.gpr[RCX] = 0xffff_ffff_c000_0102;
    w.cpu.gpr[RAX] = 0xdead_0000_0000_5678;
    w.cpu.gpr[RDX] = 0xdead_0000_ffff_8000;
    w.ok(&[0x0f, 0x30]);
    assert_eq!(w.cpu.msrs.kernel_gs_base, 0xffff_8000_0000_5678);
    w.ok(&[0x0f, 0x32]);
    assert_eq!((w.cpu.gpr[RAX], w.cpu.gpr[RDX]), (0x5678, 0xffff_8000));
}
