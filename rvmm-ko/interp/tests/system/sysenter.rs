//! SYSENTER, SYSEXIT, SYSCALL, SYSRET: SDM vol. 2; APM vol. 3 for the legacy-mode SYSCALL of AMD CPUs.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Efer, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};

const SYSENTER: [u8; 2] = [0x0f, 0x34];
const SYSEXIT: [u8; 2] = [0x0f, 0x35];
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSRET: [u8; 2] = [0x0f, 0x07];

fn world(ring: u8) -> World {
    let mut w = World::at_ring(ring);
    w.cpu.msrs.sysenter_cs = u64::from(sel::CODE0) | 0xabc0_0003;
    w.cpu.msrs.sysenter_eip = 0x9876;
    w.cpu.msrs.sysenter_esp = 0x5432;
    w
}

fn flat(selector: u16, attrs: u16) -> Segment {
    Segment { selector: Selector(selector), base: 0, limit: u32::MAX, attrs }
}

#[test]
fn sysenter() {
    for ring in [0, 1, 3] {
        let mut w = world(ring);
        // The descriptors are not looked at.
        w.set_desc(sel::CODE0, 0);
        w.cpu.rflags = Rflags::from_bits_retain(0x3_4fd7 & !0x2_0100 | 0x200);
        let before = w.flags();
        w.ok(&SYSENTER);
        assert_eq!((w.cpu.cpl, w.eip(), w.esp()), (0, 0x9876, 0x5432));
        assert_eq!(*w.cpu.segment(SegReg::Cs), flat(sel::CODE0, 0xc09b));
        assert_eq!(*w.cpu.segment(SegReg::Ss), flat(sel::CODE0 + 8, 0xc093));
        assert_eq!(w.flags(), before - (Rflags::IF | Rflags::RF | Rflags::VM));
        assert_eq!(w.m.changes, [Change::Sysenter]);
    }
    let mut w = world(3);
    w.cpu.msrs.sysenter_cs = 0xffff_0003;
    w.faults(&SYSENTER, gp(0));
    let mut w = world(3);
    w.m.cpuid.insert(1, [0; 4]);
    w.faults(&SYSENTER, ud());
}

#[test]
fn sysexit() {
    let mut w = world(0);
    w.set(RCX, 0x1111);
    w.set(RDX, 0x2222);
    w.cpu.rflags |= Rflags::IF;
    let ds = *w.cpu.segment(SegReg::Ds);
    w.ok(&SYSEXIT);
    assert_eq!((w.cpu.cpl, w.eip(), w.esp()), (3, 0x2222, 0x1111));
    assert_eq!(*w.cpu.segment(SegReg::Cs), flat((sel::CODE0 + 16) | 3, 0xc0fb));
    assert_eq!(*w.cpu.segment(SegReg::Ss), flat((sel::CODE0 + 24) | 3, 0xc0f3));
    // Data segments stay, unlike after IRET.
    assert_eq!(*w.cpu.segment(SegReg::Ds), ds);
    assert!(w.flags().contains(Rflags::IF));
    for ring in [1, 3] {
        world(ring).faults(&SYSEXIT, gp(0));
    }
    let mut w = world(0);
    w.cpu.msrs.sysenter_cs = 0;
    w.faults(&SYSEXIT, gp(0));
}

#[test]
fn syscall_is_undefined() {
    for ring in [0, 3] {
        world(ring).faults(&SYSCALL, ud());
        world(ring).faults(&SYSRET, ud());
        // On an Intel CPU outside long mode EFER.SCE does not matter.
        let mut w = world(ring);
        w.cpu.efer = Efer::SCE;
        w.faults(&SYSCALL, ud());
    }
}

#[test]
fn syscall_on_amd() {
    let mut w = world(3);
    w.m.cpuid.insert(0, [1, u32::from_le_bytes(*b"Auth"), 0, 0]);
    w.faults(&SYSCALL, ud());
    w.cpu.efer = Efer::SCE;
    w.cpu.msrs.star = 0x001b_0008_0000_9000;
    w.cpu.rflags |= Rflags::IF;
    w.ok(&SYSCALL);
    assert_eq!((w.cpu.cpl, w.eip(), w.get(RCX), w.esp()), (0, 0x9000, CODE + 2, STACK3));
    assert_eq!((w.selector(SegReg::Cs), w.selector(SegReg::Ss)), (0x8, 0x10));
    assert!(!w.flags().contains(Rflags::IF));
    w.ok(&SYSRET);
    assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs), w.selector(SegReg::Ss)), (3, CODE + 2, 0x1b, 0x23));
    assert!(w.flags().contains(Rflags::IF));
    w.faults(&SYSRET, gp(0));
    w.cpu.cr0.remove(Cr0::PE);
    w.ring(0);
    w.faults(&SYSCALL, ud());
}
