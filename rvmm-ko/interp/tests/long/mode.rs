//! Entering and leaving long mode, control and debug registers, XCR0: SDM vol. 3 §2.5, §10.8.5; vol. 2 "MOV".

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::segment::{CpuMode, SegReg};

const MOV_CR0_RAX: [u8; 3] = [0x0f, 0x22, 0xc0];
const MOV_CR3_RAX: [u8; 3] = [0x0f, 0x22, 0xd8];
const MOV_CR4_RAX: [u8; 3] = [0x0f, 0x22, 0xe0];

/// Protected mode without paging, all set for long mode.
fn before_activation() -> World {
    let mut w = World::at(At::Kernel32);
    w.cpu.cr0.remove(Cr0::PG);
    w.cpu.efer = Efer::LME;
    w.cpu.rip = 0x9000;
    w.cpu.gdtr.base &= 0xffff_ffff;
    w.cpu.gpr[RAX] = (w.cpu.cr0 | Cr0::PG).bits();
    w
}

#[test]
fn activation() {
    let mut w = before_activation();
    let old = w.cpu.cr0.bits();
    w.ok(&MOV_CR0_RAX);
    assert_eq!(w.cpu.efer, Efer::LME | Efer::LMA);
    assert_eq!(w.m.changes, [Change::Efer(Efer::LME.bits()), Change::Cr0(old)]);
    assert_eq!(w.cpu.mode(), CpuMode::Protected);
    // A far jump enters 64-bit mode.
    w.ok(&[0xea, 0, 0x80, 0, 0, sel::CODE0 as u8, 0]);
    assert_eq!((w.cpu.mode(), w.cpu.rip), (CpuMode::Long, 0x8000));
    // From there paging cannot be switched off, from compatibility mode it can.
    w.cpu.gpr[RAX] = old;
    w.faults(&MOV_CR0_RAX, gp(0));
    w.go(At::Kernel32);
    w.m.changes.clear();
    let on = w.cpu.cr0.bits();
    w.ok(&MOV_CR0_RAX);
    assert_eq!(w.cpu.efer, Efer::LME);
    assert_eq!(w.m.changes, [Change::Efer((Efer::LME | Efer::LMA).bits()), Change::Cr0(on)]);
}

#[test]
fn activation_that_faults() {
    let mut w = before_activation();
    w.cpu.cr4.remove(Cr4::PAE);
    w.faults(&MOV_CR0_RAX, gp(0));
    // L and D set: 32-bit code as long as long mode is not active.
    let mut w = before_activation();
    w.cpu.segment_mut(SegReg::Cs).attrs |= 1 << 13;
    w.faults(&MOV_CR0_RAX, gp(0));
    for kind in [0x81, 0x83] {
        let mut w = before_activation();
        w.cpu.tr.attrs = kind;
        w.faults(&MOV_CR0_RAX, gp(0));
    }
    // Without LME it is paging with PAE, and none of this matters.
    let mut w = before_activation();
    w.cpu.efer = Efer::empty();
    w.cpu.tr.attrs = 0x83;
    w.ok(&MOV_CR0_RAX);
    assert_eq!((w.cpu.efer, w.m.changes.len()), (Efer::empty(), 1));
}

#[test]
fn cr0_and_cr4() {
    let mut w = World::new();
    for bit in [32, 63] {
        w.cpu.gpr[RAX] = w.cpu.cr0.bits() | 1 << bit;
        w.faults(&MOV_CR0_RAX, gp(0));
        w.cpu.gpr[RAX] = w.cpu.cr4.bits() | 1 << bit;
        w.faults(&MOV_CR4_RAX, gp(0));
    }
    w.cpu.gpr[RAX] = 0;
    w.faults(&MOV_CR4_RAX, gp(0));
    for (bit, register, leaf, place) in
        [(16, 1, 7, 0), (20, 1, 7, 7), (21, 1, 7, 20), (11, 2, 7, 2), (22, 2, 7, 3), (18, 2, 1, 26)]
    {
        let mut w = World::new();
        w.m.cpuid.get_mut(&leaf).unwrap()[register] &= !(1 << place);
        w.cpu.gpr[RAX] = w.cpu.cr4.bits() | 1 << bit;
        w.faults(&MOV_CR4_RAX, gp(0));
        w.m.cpuid.get_mut(&leaf).unwrap()[register] |= 1 << place;
        w.ok(&MOV_CR4_RAX);
        assert_eq!(w.cpu.cr4.bits(), w.cpu.gpr[RAX]);
    }
    // PAE stays.
    let mut w = World::new();
    w.m.cpuid.get_mut(&7).unwrap()[2] |= 1 << 16;
    w.cpu.gpr[RAX] = (w.cpu.cr4 | Cr4::LA57).bits();
    w.faults(&MOV_CR4_RAX, gp(0));
}

/// Physical addresses have 40 bits here.
#[test]
fn cr3() {
    let mut w = World::new();
    w.cpu.gpr[RAX] = 0xff_ffff_f018;
    w.ok(&MOV_CR3_RAX);
    assert_eq!(w.cpu.cr3, 0xff_ffff_f018);
    for bit in [40, 61, 62, 63] {
        w.cpu.gpr[RAX] = 1 << bit;
        w.faults(&MOV_CR3_RAX, gp(0));
    }
    w.cpu.cr4 |= Cr4::PCIDE;
    w.ok(&MOV_CR3_RAX);
    assert_eq!((w.cpu.cr3, w.m.changes.last()), (0, Some(&Change::Cr3)));
}

#[test]
fn cr2_and_cr8() {
    let mut w = World::new();
    w.cpu.gpr[RAX] = 0x1234_5678_9abc_def0;
    w.ok(&[0x0f, 0x22, 0xd0]);
    w.ok(&[0x0f, 0x20, 0xd3]);
    assert_eq!(w.cpu.gpr[RBX], 0x1234_5678_9abc_def0);
    w.faults(&[0x44, 0x0f, 0x22, 0xc0], gp(0));
    w.cpu.gpr[RAX] = 15;
    w.ok(&[0x44, 0x0f, 0x22, 0xc0]);
    w.ok(&[0x44, 0x0f, 0x20, 0xc3]);
    assert_eq!((w.cpu.cr8, w.cpu.gpr[RBX]), (15, 15));
}

#[test]
fn debug_registers() {
    let mut w = World::new();
    w.cpu.gpr[RAX] = HIGH + 0x1234;
    w.ok(&[0x0f, 0x23, 0xc0]);
    assert_eq!(w.cpu.dr[0], HIGH + 0x1234);
    w.faults(&[0x0f, 0x23, 0xf0], gp(0));
    w.faults(&[0x0f, 0x23, 0xf8], gp(0));
    w.cpu.gpr[RAX] = 0x401;
    w.ok(&[0x0f, 0x23, 0xf8]);
    // The breakpoint is met with all 64 bits of RIP.
    w.cpu.rip = HIGH + 0x1234;
    assert!(matches!(w.run(&[0x90]), rvmm_interp::Step::Exception(e) if e.payload == 1));
    w.cpu.rip = 0x1234;
    w.ok(&[0x90]);
}

#[test]
fn xcr0() {
    let mut w = World::new();
    w.cpu.cr4 |= Cr4::OSXSAVE;
    w.cpu.gpr[RCX] = 0;
    for (value, taken) in [
        (1, true),
        (3, true),
        (7, true),
        (0xe7, true),
        (0, false),
        (5, false),
        (0x67, false),
        (0xe3, false),
        (0x0f, false),
    ] {
        w.cpu.gpr[RAX] = value;
        if taken {
            w.ok(&[0x0f, 0x01, 0xd1]);
            assert_eq!(w.cpu.xcr0, value);
        } else {
            w.faults(&[0x0f, 0x01, 0xd1], gp(0));
        }
    }
}

/// VEX and EVEX need their state enabled.
#[test]
fn vector_state() {
    use rvmm_interp::{Step, Unsupported};
    let vaddps = [0xc5, 0xfc, 0x58, 0xc1];
    let vaddps_evex = [0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1];
    let andn = [0xc4, 0xe2, 0x78, 0xf2, 0xc1];
    let native = Step::Unsupported(Unsupported::Avx);
    let mut w = World::new();
    w.faults(&vaddps, ud());
    w.cpu.cr4 |= Cr4::OSXSAVE;
    w.faults(&vaddps, ud());
    w.cpu.xcr0 = 7;
    assert_eq!(w.run(&vaddps), native);
    w.faults(&vaddps_evex, ud());
    w.cpu.xcr0 = 0xe7;
    assert_eq!(w.run(&vaddps_evex), native);
    w.cpu.cr0 |= Cr0::TS;
    w.faults(&vaddps, rvmm_arch::Exception::new(rvmm_arch::Vector::NM));
    // ANDN EAX, EAX, ECX needs nothing of all this.
    w.cpu.cr4.remove(Cr4::OSXSAVE);
    (w.cpu.gpr[RAX], w.cpu.gpr[RCX]) = (0xffff_ffff_0000_00f0, 0x3c);
    w.ok(&andn);
    assert_eq!(w.cpu.gpr[RAX], 0x0c);
}

#[test]
fn invlpg() {
    let mut w = World::new();
    w.cpu.gpr[RBX] = HIGH + 0x5000;
    w.ok(&[0x0f, 0x01, 0x3b]);
    assert_eq!(w.m.changes, [Change::Invlpg(rvmm_arch::Gva(HIGH + 0x5000))]);
    w.cpu.gpr[RBX] = NOWHERE;
    w.ok(&[0x0f, 0x01, 0x3b]);
    assert_eq!(w.m.changes.len(), 1);
}
