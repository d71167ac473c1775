//! Far JMP, CALL and RET, through memory and through 16-byte call gates: SDM vol. 2 "JMP", "CALL", "RET".

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::segment::{SegReg, Segment, Selector};

/// JMP and CALL through a far pointer at [RBX], with 64, 32 and 16 bits of offset.
const JMPQ: [u8; 3] = [0x48, 0xff, 0x2b];
const JMPD: [u8; 2] = [0xff, 0x2b];
const JMPW: [u8; 3] = [0x66, 0xff, 0x2b];
const CALLQ: [u8; 3] = [0x48, 0xff, 0x1b];
const CALLD: [u8; 2] = [0xff, 0x1b];
const RETFQ: [u8; 2] = [0x48, 0xcb];
const RETFD: [u8; 1] = [0xcb];

/// A world with a far pointer in memory: an offset of `size` bytes and a selector.
fn pointer(at: At, size: usize, selector: u16, offset: u64) -> World {
    let mut w = World::at(at);
    let place = if matches!(at, At::Kernel | At::User) { DATA } else { 0xf001_8000 };
    w.cpu.gpr[RBX] = place;
    let mut bytes = offset.to_le_bytes()[..size].to_vec();
    bytes.extend(selector.to_le_bytes());
    w.poke_bytes(place, &bytes);
    w
}

#[test]
fn jumps() {
    let mut w = pointer(At::Kernel, 8, sel::CODE0, HANDLER);
    w.ok(&JMPQ);
    assert_eq!(w.place(), (0, sel::CODE0, HANDLER, sel::DATA0, STACK0));
    let mut w = pointer(At::Kernel, 2, sel::CODE0, 0x1234);
    w.ok(&JMPW);
    assert_eq!(w.cpu.rip, 0x1234);
    // To compatibility mode and back.
    let mut w = pointer(At::Kernel, 4, sel::COMPAT0, 0x8000_1234);
    w.ok(&JMPD);
    assert_eq!(w.place(), (0, sel::COMPAT0, 0x8000_1234, sel::DATA0, STACK0));
    let mut w = World::at(At::User32);
    w.ok(&[0xea, 0x78, 0x56, 0x34, 0x82, sel::CODE3 as u8, 0]);
    assert_eq!(w.place(), (3, sel::CODE3, 0x8234_5678, sel::DATA3, USER32_STACK));
    // The direct forms do not exist in 64-bit mode.
    World::new().faults(&[0xea, 0, 0, 0, 0, 8, 0], ud());
    World::new().faults(&[0x9a, 0, 0, 0, 0, 8, 0], ud());
}

#[test]
fn calls_and_returns() {
    let mut w = pointer(At::Kernel, 8, sel::CODE0, HANDLER);
    w.ok(&CALLQ);
    assert_eq!((w.cpu.rip, w.rsp(), w.top(2)), (HANDLER, STACK0 - 16, vec![CODE + 3, sel::CODE0.into()]));
    w.ok(&RETFQ);
    assert_eq!(w.place(), (0, sel::CODE0, CODE + 3, sel::DATA0, STACK0));
    // 32-bit items, to compatibility mode and back to 64-bit mode.
    let mut w = pointer(At::User, 4, sel::COMPAT3, 0x1000);
    w.cpu.gpr[RSP] = 0x9000;
    w.cpu.rip = 0x7000_0000;
    w.ok(&CALLD);
    assert_eq!(w.place(), (3, sel::COMPAT3, 0x1000, sel::DATA3, 0x9000 - 8));
    assert_eq!(w.peek(w.rsp()), u64::from(sel::CODE3) << 32 | 0x7000_0002);
    w.ok(&RETFD);
    assert_eq!(w.place(), (3, sel::CODE3, 0x7000_0002, sel::DATA3, 0x9000));
}

#[test]
fn returns_outwards() {
    let mut w = World::new();
    w.cpu.segment_mut(SegReg::Gs).base = HIGH;
    w.push(8, &[sel::DATA3.into(), USER_STACK, 0xaaaa, sel::CODE3.into(), USER]);
    w.ok(&[0x48, 0xca, 8, 0]);
    assert_eq!(w.place(), (3, sel::CODE3, USER, sel::DATA3, USER_STACK + 8));
    assert_eq!((w.selector(SegReg::Gs), w.cpu.segment(SegReg::Gs).base), (0, HIGH));
    let mut w = World::new();
    w.push(8, &[sel::DATA3.into(), 0x1_0000_8000, sel::COMPAT3.into(), 0x1_0000_1000]);
    w.ok(&RETFQ);
    assert_eq!(w.place(), (3, sel::COMPAT3, 0x1000, sel::DATA3, 0x8000));
    for (cs, rip, stack, expected) in [
        (0, USER, sel::DATA3, gp(0)),
        (sel::CODE3, NOWHERE, sel::DATA3, gp(0)),
        (sel::BOTH3, USER, sel::DATA3, gp(code(sel::BOTH3))),
        (sel::CODE3_NP, USER, sel::DATA3, np(code(sel::CODE3_NP))),
        (sel::CODE3, USER, 0, gp(0)),
        (sel::COMPAT3, USER, 3, gp(0)),
        (sel::CODE3, USER, sel::DATA3_NP, ss(code(sel::DATA3_NP))),
    ] {
        let mut w = World::new();
        w.push(8, &[stack.into(), USER_STACK, cs.into(), rip]);
        w.faults(&RETFQ, expected);
    }
}

#[test]
fn targets_that_fault() {
    for (selector, offset, expected) in [
        (0, HANDLER, gp(0)),
        (sel::OUTSIDE, HANDLER, gp(code(sel::OUTSIDE))),
        (sel::DATA0, HANDLER, gp(code(sel::DATA0))),
        (sel::BOTH0, HANDLER, gp(code(sel::BOTH0))),
        (sel::CODE3, HANDLER, gp(code(sel::CODE3))),
        (sel::CODE0_NP, HANDLER, np(code(sel::CODE0_NP))),
        (sel::CODE0, NOWHERE, gp(0)),
        // Task switches are gone, and so are their descriptors as targets.
        (sel::TSS2, HANDLER, gp(code(sel::TSS2))),
        (sel::LDT, HANDLER, gp(code(sel::LDT))),
    ] {
        pointer(At::Kernel, 8, selector, offset).faults(&JMPQ, expected);
        pointer(At::Kernel, 8, selector, offset).faults(&CALLQ, expected);
    }
    let mut w = pointer(At::Kernel, 8, sel::CODE0, HANDLER);
    w.cpu.gpr[RSP] = NOWHERE + 8;
    w.faults(&CALLQ, ss(0));
}

/// A world whose free descriptor is a call gate of DPL 3.
fn gated(at: At, low_high: [u64; 2]) -> World {
    let size = if matches!(at, At::Kernel | At::User) { 8 } else { 4 };
    let mut w = pointer(at, size, sel::FREE | 3, 0x1111_1111);
    w.set_system(sel::FREE, low_high);
    w
}

#[test]
fn call_gates() {
    let inner = gate(sel::CODE0, HANDLER, 0xec, 0);
    for (at, bytes, cs, rip, rsp) in [
        (At::User, &CALLQ[..], sel::CODE3, USER + 3, USER_STACK),
        (At::User32, &CALLD, sel::COMPAT3, USER32 + 2, USER32_STACK),
    ] {
        let mut w = gated(at, inner);
        w.ok(bytes);
        // No alignment, no parameters.
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER, 0, STACK0 - 32));
        assert_eq!(w.top(4), [rip, cs.into(), rsp, sel::DATA3.into()]);
        gated(at, inner).faults(if bytes.len() == 3 { &JMPQ } else { &JMPD }, gp(code(sel::CODE0)));
    }
    // Without a change of ring.
    let mut w = gated(At::Kernel32, inner);
    w.ok(&CALLD);
    assert_eq!(w.place(), (0, sel::CODE0, HANDLER, sel::DATA0, USER32_STACK - 16));
    assert_eq!(w.top(2), [USER32 + 2, sel::COMPAT0.into()]);
    let mut w = gated(At::Kernel, inner);
    w.ok(&JMPQ);
    assert_eq!(w.place(), (0, sel::CODE0, HANDLER, sel::DATA0, STACK0));
    let mut w = gated(At::User, gate(sel::CONF0, HANDLER, 0xec, 0));
    w.ok(&CALLQ);
    assert_eq!(w.place(), (3, sel::CONF0 | 3, HANDLER, sel::DATA3, USER_STACK - 16));
}

#[test]
fn call_gates_that_fault() {
    let this = code(sel::FREE);
    let good = gate(sel::CODE0, HANDLER, 0xec, 0);
    for (gate, expected) in [
        (gate(sel::CODE0, HANDLER, 0x8c, 0), gp(this)),
        (gate(sel::CODE0, HANDLER, 0x6c, 0), np(this)),
        (gate(sel::CODE0, HANDLER, 0xe4, 0), gp(this)),
        (gate(sel::CODE0, HANDLER, 0xe5, 0), gp(this)),
        ([good[0], good[1] | 1 << 40], gp(this)),
        ([good[0], good[1] | 1 << 44], gp(this)),
        (gate(0, HANDLER, 0xec, 0), gp(0)),
        (gate(sel::COMPAT0, HANDLER, 0xec, 0), gp(code(sel::COMPAT0))),
        (gate(sel::BOTH0, HANDLER, 0xec, 0), gp(code(sel::BOTH0))),
        (gate(sel::DATA0, HANDLER, 0xec, 0), gp(code(sel::DATA0))),
        (gate(sel::CODE0_NP, HANDLER, 0xec, 0), np(code(sel::CODE0_NP))),
        (gate(sel::CODE0, NOWHERE, 0xec, 0), gp(0)),
    ] {
        gated(At::User, gate).faults(&CALLQ, expected);
    }
    // The upper half outside the table; the stack outside the TSS, or nowhere.
    let mut w = gated(At::User, good);
    w.cpu.gdtr.limit -= 1;
    w.faults(&CALLQ, gp(this));
    let mut w = gated(At::User, good);
    w.cpu.tr.limit = 10;
    w.faults(&CALLQ, ts(code(sel::TSS)));
    let mut w = gated(At::User, good);
    w.poke(TSS + 4, NOWHERE + 0x100);
    w.faults(&CALLQ, ss(0));
}

/// A return from the inner ring with its null SS, and to a ring that has one.
#[test]
fn null_stacks_return() {
    let mut w = World::new();
    *w.cpu.segment_mut(SegReg::Ss) = Segment::null(Selector(0));
    w.push(8, &[sel::CODE0.into(), HANDLER]);
    w.ok(&RETFQ);
    assert_eq!(w.place(), (0, sel::CODE0, HANDLER, 0, STACK0));
}
