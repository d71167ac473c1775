//! IRET: SDM vol. 2 "IRET/IRETD/IRETQ".

use crate::world::*;
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};

const IRETQ: [u8; 2] = [0x48, 0xcf];
const IRETD: [u8; 1] = [0xcf];
const IRET: [u8; 2] = [0x66, 0xcf];

/// From 64-bit mode SS:RSP is popped even where the ring stays.
#[test]
fn same_ring() {
    let mut w = World::new();
    w.cpu.nmi_blocked = true;
    w.push(8, &[sel::DATA0.into(), STACK0 + 0x123, 0x20_0246, sel::CODE0.into(), HANDLER]);
    w.ok(&IRETQ);
    assert_eq!(w.place(), (0, sel::CODE0, HANDLER, sel::DATA0, STACK0 + 0x123));
    assert_eq!(w.flags(), 0x20_0246);
    assert!(!w.cpu.nmi_blocked);
    // With 32-bit and 16-bit items.
    for (code, size) in [(&IRETD[..], 4), (&IRET[..], 2)] {
        let mut w = World::new();
        w.push(size, &[sel::DATA0.into(), 0x9870, 0x2, sel::CODE0.into(), 0x7654]);
        w.ok(code);
        assert_eq!(w.place(), (0, sel::CODE0, 0x7654, sel::DATA0, 0x9870));
    }
}

/// Null SS: for 64-bit code of rings 0 to 2 only.
#[test]
fn null_stacks() {
    let mut w = World::new();
    w.push(8, &[0, STACK0, 2, sel::CODE0.into(), HANDLER]);
    w.ok(&IRETQ);
    assert_eq!(*w.cpu.segment(SegReg::Ss), Segment::null(Selector(0)));
    for cs in [sel::CODE3, sel::COMPAT3, sel::COMPAT0] {
        let mut w = World::new();
        w.push(8, &[(cs & 3).into(), STACK0, 2, cs.into(), 0x1000]);
        w.faults(&IRETQ, gp(0));
    }
}

#[test]
fn to_ring_3() {
    let mut w = World::new();
    w.cpu.segment_mut(SegReg::Fs).base = 0x1111;
    w.force(SegReg::Es, sel::DATA3);
    *w.cpu.segment_mut(SegReg::Gs) = Segment { base: HIGH + 0x77, ..Segment::null(Selector(3)) };
    w.push(8, &[sel::DATA3.into(), USER_STACK - 8, 0x3202, sel::CODE3.into(), USER]);
    w.ok(&IRETQ);
    assert_eq!(w.place(), (3, sel::CODE3, USER, sel::DATA3, USER_STACK - 8));
    assert_eq!(w.flags(), 0x3202);
    assert_eq!((w.selector(SegReg::Es), w.selector(SegReg::Ds)), (sel::DATA3, 0));
    // The bases of FS and GS survive.
    assert_eq!((w.selector(SegReg::Fs), w.cpu.segment(SegReg::Fs).base), (0, 0x1111));
    assert_eq!((w.selector(SegReg::Gs), w.cpu.segment(SegReg::Gs).base), (0, HIGH + 0x77));
}

#[test]
fn to_compatibility_mode() {
    let mut w = World::new();
    // Of RIP and RSP the lower halves count.
    w.push(8, &[sel::DATA3.into(), 0x5_1234_5678, 2, sel::COMPAT3.into(), 0x7_8765_4321]);
    w.ok(&IRETQ);
    assert_eq!(w.place(), (3, sel::COMPAT3, 0x8765_4321, sel::DATA3, 0x1234_5678));
    // A 16-bit stack takes SP alone.
    let mut w = World::new();
    w.push(8, &[sel::STACK16.into(), 0x1_4444, 2, sel::COMPAT3.into(), 0x1000]);
    let rsp = w.rsp();
    w.ok(&IRETQ);
    assert_eq!(w.rsp(), (rsp & !0xffff) | 0x4444);
    // So it does not for 64-bit code.
    let mut w = World::new();
    w.push(8, &[sel::STACK16.into(), USER_STACK, 2, sel::CODE3.into(), USER]);
    w.ok(&IRETQ);
    assert_eq!(w.rsp(), USER_STACK);
}

/// From compatibility mode nothing more is popped where the ring stays, and 64-bit mode can be entered.
#[test]
fn from_compatibility_mode() {
    let mut w = World::at(At::Kernel32);
    w.push(4, &[0x202, sel::CODE0.into(), 0x8765_4321]);
    w.ok(&IRETD);
    assert_eq!(w.place(), (0, sel::CODE0, 0x8765_4321, sel::DATA0, USER32_STACK));
    let mut w = World::at(At::Kernel32);
    w.push(4, &[sel::DATA3.into(), 0x9000, 0x202, sel::CODE3.into(), 0x1000]);
    w.ok(&IRETD);
    assert_eq!(w.place(), (3, sel::CODE3, 0x1000, sel::DATA3, 0x9000));
    let mut w = World::at(At::User32);
    w.push(4, &[0x202, sel::COMPAT3.into(), 0x1000]);
    w.ok(&IRETD);
    assert_eq!(w.place(), (3, sel::COMPAT3, 0x1000, sel::DATA3, USER32_STACK));
}

#[test]
fn flags_rules() {
    for (at, iopl, writable) in [(At::Kernel, 0u64, 0x3d_7fd5u64), (At::User, 0, 0x25_4dd5), (At::User, 3, 0x25_4fd5)] {
        for set in [false, true] {
            let mut w = World::at(at);
            let (_, cs, rip, stack, _) = w.place();
            // NT would be #GP, TF a trap; the old VM cannot be.
            w.set_flags(if set { 2 } else { 0x3d_0ed7 } & !0x3000 | iopl << 12);
            let before = w.flags();
            let image = if set { 0x3f_7fd7 } else { 0 };
            w.push(8, &[stack.into(), 0x1000, image, cs.into(), rip]);
            w.ok(&IRETQ);
            assert_eq!(w.flags(), before & !writable | image & writable, "{at:?} iopl {iopl} set {set}");
        }
    }
}

#[test]
fn nested_tasks_do_not_exist() {
    for (at, code) in [(At::Kernel, &IRETQ[..]), (At::Kernel32, &IRETD), (At::User, &IRETQ)] {
        let mut w = World::at(at);
        w.cpu.rflags |= Rflags::NT;
        w.faults(code, gp(0));
    }
}

#[test]
fn returns_that_fault() {
    for (cs, rip, stack, expected) in [
        (0, USER, sel::DATA3, gp(0)),
        (3, USER, sel::DATA3, gp(0)),
        (sel::OUTSIDE | 3, USER, sel::DATA3, gp(code(sel::OUTSIDE))),
        (sel::DATA3, USER, sel::DATA3, gp(code(sel::DATA3))),
        (sel::BOTH3, USER, sel::DATA3, gp(code(sel::BOTH3))),
        (sel::CODE3_NP, USER, sel::DATA3, np(code(sel::CODE3_NP))),
        (sel::CODE3, NOWHERE, sel::DATA3, gp(0)),
        (sel::SHORT3, 0x1000, sel::DATA3, gp(0)),
        (sel::CODE3, USER, sel::DATA0, gp(code(sel::DATA0))),
        (sel::CODE3, USER, sel::DATA3 & !3, gp(code(sel::DATA3))),
        (sel::CODE3, USER, sel::COMPAT3, gp(code(sel::COMPAT3))),
        (sel::CODE3, USER, sel::DATA3_NP, np(code(sel::DATA3_NP))),
        // The ring stays, so SS must be of it.
        (sel::CODE0, CODE, sel::DATA3, gp(code(sel::DATA3))),
    ] {
        let mut w = World::new();
        w.push(8, &[stack.into(), USER_STACK, 2, cs.into(), rip]);
        w.faults(&IRETQ, expected);
    }
    // Not inwards.
    let mut w = World::at(At::User);
    w.push(8, &[sel::DATA0.into(), STACK0, 2, sel::CODE0.into(), CODE]);
    w.faults(&IRETQ, gp(code(sel::CODE0)));
    // The frame itself.
    let mut w = World::new();
    w.cpu.gpr[gpr::RSP] = NOWHERE - 8;
    w.faults(&IRETQ, ss(0));
}

/// The stack loaded may be anywhere: only its use faults.
#[test]
fn any_stack_pointer_is_loaded() {
    let mut w = World::new();
    w.push(8, &[sel::DATA3.into(), NOWHERE + 0x100, 2, sel::CODE3.into(), USER]);
    w.ok(&IRETQ);
    assert_eq!(w.rsp(), NOWHERE + 0x100);
    w.faults(&[0x50], ss(0));
}
