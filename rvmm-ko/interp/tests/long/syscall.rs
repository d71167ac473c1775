//! SYSCALL, SYSRET, SYSENTER, SYSEXIT: SDM vol. 2; APM vol. 3 for AMD's CPUs.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::Efer;
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_interp::Step;

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSRET: [u8; 2] = [0x0f, 0x07];
const SYSRETQ: [u8; 3] = [0x48, 0x0f, 0x07];
const SYSENTER: [u8; 2] = [0x0f, 0x34];
const SYSEXIT: [u8; 2] = [0x0f, 0x35];
const SYSEXITQ: [u8; 3] = [0x48, 0x0f, 0x35];
const R11: usize = 11;

/// Linux's STAR: kernel code 8, user code 1Bh, with its 64-bit code two behind.
fn world(at: At) -> World {
    let mut w = World::at(at);
    w.cpu.msrs.star = 0x001b_0008_0000_0000;
    w.cpu.msrs.lstar = HANDLER;
    w.cpu.msrs.cstar = HANDLER + 0x100;
    w.cpu.msrs.sfmask = 0x4_7700;
    w.cpu.msrs.sysenter_cs = sel::CODE0.into();
    w.cpu.msrs.sysenter_eip = HANDLER + 0x200;
    w.cpu.msrs.sysenter_esp = STACK0;
    w
}

fn flat(selector: u16, attrs: u16) -> Segment {
    Segment { selector: Selector(selector), base: 0, limit: u32::MAX, attrs }
}

#[test]
fn syscall() {
    for (at, amd) in
        [(At::User, false), (At::User, true), (At::User32, true), (At::Kernel, false), (At::Kernel32, true)]
    {
        let mut w = world(at);
        if amd {
            w.amd();
        }
        let (_, _, rip, _, rsp) = w.place();
        w.set_flags(0x25_0ad7);
        w.ok(&SYSCALL);
        let entry = if matches!(at, At::User | At::Kernel) { HANDLER } else { HANDLER + 0x100 };
        assert_eq!(w.place(), (0, 8, entry, 0x10, rsp), "{at:?}");
        // RF does not show.
        assert_eq!((w.cpu.gpr[RCX], w.cpu.gpr[R11], w.flags()), (rip + 2, 0x24_0ad7, 0x20_08d7));
        assert_eq!(*w.cpu.segment(SegReg::Cs), flat(8, 0xa09b));
        assert_eq!(*w.cpu.segment(SegReg::Ss), flat(0x10, 0xc093));
    }
}

/// No SYSCALL from compatibility mode on Intel's CPUs, and none without EFER.SCE.
#[test]
fn where_it_does_not_exist() {
    for at in [At::User32, At::Kernel32] {
        world(at).faults(&SYSCALL, ud());
        world(at).faults(&SYSRET, ud());
    }
    for at in [At::User, At::Kernel] {
        let mut w = world(at);
        w.cpu.efer.remove(Efer::SCE);
        for code in [&SYSCALL[..], &SYSRET, &SYSRETQ] {
            w.faults(code, ud());
        }
    }
    world(At::User).faults(&SYSRETQ, gp(0));
}

#[test]
fn sysret() {
    for (code, rip, cs, attrs) in [(&SYSRETQ[..], USER, 0x2b, 0xa0fb), (&SYSRET, USER & 0xffff_ffff, 0x1b, 0xc0fb)] {
        let mut w = world(At::Kernel);
        w.cpu.gpr[RCX] = USER;
        w.cpu.gpr[R11] = !0x100;
        w.ok(code);
        assert_eq!(w.place(), (3, cs, rip, 0x23, STACK0));
        assert_eq!(w.flags(), 0x3c_7ed7);
        assert_eq!(*w.cpu.segment(SegReg::Cs), flat(cs, attrs));
        assert_eq!(*w.cpu.segment(SegReg::Ss), flat(0x23, 0xc0f3));
    }
    // Where RCX is not canonical Intel's CPUs stay in ring 0, AMD's fault in ring 3.
    let mut w = world(At::Kernel);
    w.cpu.gpr[RCX] = NOWHERE;
    w.faults(&SYSRETQ, gp(0));
    w.amd();
    w.ok(&SYSRETQ);
    assert_eq!((w.cpu.cpl, w.cpu.rip), (3, NOWHERE));
    w.faults(&[0x90], gp(0));
    // AMD's compatibility mode: IF is set, R11 is not looked at.
    let mut w = world(At::Kernel32);
    w.amd();
    w.cpu.gpr[RCX] = 0x1234;
    w.ok(&SYSRET);
    assert_eq!((w.place(), w.flags()), ((3, 0x1b, 0x1234, 0x23, USER32_STACK), 0x202));
}

/// A single step is judged by the TF that they load.
#[test]
fn single_steps() {
    let mut w = world(At::User);
    w.set_flags(0x102);
    w.ok(&SYSCALL);
    w.cpu.msrs.sfmask = 0;
    w.go(At::User);
    w.set_flags(0x102);
    assert!(matches!(w.run(&SYSCALL), Step::Exception(e) if e.payload == 1 << 14));
    assert_eq!(w.cpu.rip, HANDLER);
    let mut w = world(At::Kernel);
    (w.cpu.gpr[RCX], w.cpu.gpr[R11]) = (USER, 0x302);
    assert!(matches!(w.run(&SYSRETQ), Step::Exception(e) if e.payload == 1 << 14));
    assert_eq!(w.cpu.rip, USER);
}

#[test]
fn sysenter() {
    for at in [At::User, At::User32, At::Kernel] {
        let mut w = world(at);
        w.set_flags(0x4_0202);
        w.ok(&SYSENTER);
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER + 0x200, sel::CODE0 + 8, STACK0));
        assert_eq!(w.flags(), 0x4_0002);
        assert_eq!(*w.cpu.segment(SegReg::Cs), flat(sel::CODE0, 0xa09b));
        assert_eq!(w.m.changes, [Change::Sysenter]);
        let mut w = world(at);
        w.cpu.msrs.sysenter_cs = 3;
        w.faults(&SYSENTER, gp(0));
        let mut w = world(at);
        w.amd();
        w.faults(&SYSENTER, ud());
    }
}

#[test]
fn sysexit() {
    for (code, rip, rsp, cs, attrs) in [
        (&SYSEXITQ[..], USER, USER_STACK, (sel::CODE0 + 32) | 3, 0xa0fb),
        (&SYSEXIT, USER & 0xffff_ffff, USER_STACK & 0xffff_ffff, (sel::CODE0 + 16) | 3, 0xc0fb),
    ] {
        let mut w = world(At::Kernel);
        (w.cpu.gpr[RDX], w.cpu.gpr[RCX]) = (USER, USER_STACK);
        w.ok(code);
        assert_eq!(w.place(), (3, cs, rip, cs + 8, rsp));
        assert_eq!(*w.cpu.segment(SegReg::Cs), flat(cs, attrs));
        assert_eq!(*w.cpu.segment(SegReg::Ss), flat(cs + 8, 0xc0f3));
    }
    for register in [RCX, RDX] {
        let mut w = world(At::Kernel);
        w.cpu.gpr[register] = NOWHERE;
        w.faults(&SYSEXITQ, gp(0));
        w.ok(&SYSEXIT);
    }
    world(At::User).faults(&SYSEXITQ, gp(0));
    let mut w = world(At::Kernel);
    w.amd();
    w.faults(&SYSEXITQ, ud());
}
