//! Far JMP, CALL and RET without gates: SDM vol. 2 "JMP", "CALL", "RET".

use crate::world::*;
use rvmm_arch::regs::{gpr::*, Cr0, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, Vector};
use rvmm_interp::Step;

/// JMP or CALL ptr16:32.
fn direct(op: u8, selector: u16, offset: u32) -> Vec<u8> {
    let mut code = vec![op];
    code.extend(offset.to_le_bytes());
    code.extend(selector.to_le_bytes());
    code
}
const JMP: u8 = 0xea;
const CALL: u8 = 0x9a;
const RETF: [u8; 1] = [0xcb];

#[test]
fn transfers_that_fault() {
    for (ring, selector, expected) in [
        (0, 0, gp(0)),
        (0, 3, gp(0)),
        (0, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (0, sel::DATA0, gp(code(sel::DATA0))),
        (0, sel::LDT, gp(code(sel::LDT))),
        // A busy TSS.
        (0, sel::TSS, gp(code(sel::TSS))),
        // Nonconforming: CPL must be the DPL, RPL at most the CPL.
        (0, sel::CODE3, gp(code(sel::CODE3))),
        (3, sel::CODE0, gp(code(sel::CODE0))),
        (3, sel::CODE0 | 3, gp(code(sel::CODE0))),
        (0, sel::CODE0 | 3, gp(code(sel::CODE0))),
        // Conforming: the DPL must not be beyond the CPL.
        (0, sel::CONF3, gp(code(sel::CONF3))),
        (1, sel::CONF3, gp(code(sel::CONF3))),
        (0, sel::CODE0_NP, np(code(sel::CODE0_NP))),
        (3, sel::CODE3_NP, np(code(sel::CODE3_NP))),
    ] {
        for op in [JMP, CALL] {
            World::at_ring(ring).faults(&direct(op, selector, 0x9000), expected);
        }
    }
    // The entry point must lie within the new segment.
    for op in [JMP, CALL] {
        World::new().faults(&direct(op, sel::SHORT_CODE0, 0x1000), gp(0));
    }
}

#[test]
fn transfers_that_succeed() {
    for (ring, selector, rpl) in [
        (0, sel::CODE0, 0),
        (3, sel::CODE3, 3),
        // RPL below CPL: CS.RPL becomes the CPL.
        (3, sel::CODE3 & !3, 3),
        (3, sel::CONF0 | 3, 3),
        (3, sel::CONF0, 3),
        (1, sel::CONF0, 1),
        (3, sel::CONF3, 3),
        (0, sel::XCODE0, 0),
        (0, sel::SHORT_CODE0, 0),
    ] {
        let mut w = World::at_ring(ring);
        let top = w.esp();
        w.ok(&direct(JMP, selector, 0xfff));
        assert_eq!((w.eip(), w.selector(SegReg::Cs)), (0xfff, (selector & !3) | rpl));
        assert_eq!((w.cpu.cpl, w.esp()), (ring, top));

        let mut w = World::at_ring(ring);
        let old_cs = w.selector(SegReg::Cs);
        w.ok(&direct(CALL, selector, 0x123));
        assert_eq!((w.eip(), w.selector(SegReg::Cs), w.cpu.cpl), (0x123, (selector & !3) | rpl, ring));
        assert_eq!(w.esp(), top - 8);
        assert_eq!((w.peek(top - 4), w.peek(top - 8)), (old_cs.into(), CODE + 7));
    }
}

#[test]
fn sixteen_bits() {
    // CALL ptr16:16 into 16-bit code: two words pushed.
    let mut w = World::new();
    let mut call = vec![0x66, CALL];
    call.extend([0x34, 0x12]);
    call.extend(sel::CODE16.to_le_bytes());
    w.ok(&call);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp()), (0x1234, sel::CODE16, STACK0 - 4));
    assert_eq!((w.peek16(STACK0 - 2), w.peek16(STACK0 - 4)), (sel::CODE0, CODE as u16 + 6));
    // RETF with a 32-bit operand from there.
    w.push(4, &[sel::CODE0.into(), 0x8765]);
    w.poke_bytes(0x1234, &[0x66, 0xcb]);
    w.ok(&[0x66, 0xcb]);
    assert_eq!((w.eip(), w.selector(SegReg::Cs)), (0x8765, sel::CODE0));
}

#[test]
fn through_memory() {
    let mut w = World::new();
    w.poke(DATA, 0x9876);
    w.poke(DATA + 4, sel::CONF0.into());
    w.set(RBX, DATA);
    w.ok(&[0xff, 0x2b]);
    assert_eq!((w.eip(), w.selector(SegReg::Cs)), (0x9876, sel::CONF0));
    let mut w = World::new();
    w.poke(DATA, 0x9876);
    w.poke(DATA + 4, sel::CODE0.into());
    w.set(RBX, DATA);
    w.ok(&[0xff, 0x1b]);
    assert_eq!((w.eip(), w.esp(), w.peek(STACK0 - 8)), (0x9876, STACK0 - 8, CODE + 2));
}

/// A CALL whose return address does not fit is #SS(0), before the limit of the target is looked at.
#[test]
fn call_without_room() {
    let mut w = World::new();
    w.force(SegReg::Ss, sel::SHORT_DATA0);
    w.set_esp(4);
    w.faults(&direct(CALL, sel::SHORT_CODE0, 0x1000), ss(0));
    // And one that page-faults pushes nothing.
    let mut w = World::new();
    w.set_esp(STACK0 - 0xffc);
    w.m.pages.insert(u64::from(STACK0 - 0x1001) >> 12, Page::NotPresent);
    let at = u64::from(STACK0 - 0x1004);
    w.faults(&direct(CALL, sel::CODE0, 0), Exception { vector: Vector::PF, error: Some(2), payload: at });
    assert_eq!(w.peek(STACK0 - 0x1000), 0);
}

#[test]
fn the_accessed_bit_of_cs() {
    let mut w = World::new();
    w.set_desc(sel::FREE, desc(0, 0xf_ffff, 0x9a, 0xc));
    w.ok(&direct(JMP, sel::FREE, 0x9000));
    assert_eq!(w.desc(sel::FREE), desc(0, 0xf_ffff, 0x9b, 0xc));
    assert_eq!(w.cpu.segment(SegReg::Cs).attrs, 0xc09b);
}

#[test]
fn ret_to_the_same_ring() {
    let mut w = World::new();
    w.push(4, &[7, 8, sel::CODE0.into(), 0x9999]);
    w.ok(&RETF);
    assert_eq!((w.eip(), w.esp()), (0x9999, STACK0 - 8));
    // RETF imm16 releases parameters.
    let mut w = World::new();
    w.push(4, &[7, 8, sel::CODE0.into(), 0x9999]);
    w.ok(&[0xca, 8, 0]);
    assert_eq!((w.eip(), w.esp()), (0x9999, STACK0));
}

#[test]
fn ret_that_faults() {
    for (ring, selector, expected) in [
        (0, 0, gp(0)),
        (0, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (0, sel::DATA0, gp(code(sel::DATA0))),
        (3, sel::CODE0, gp(code(sel::CODE0))),
        // RPL is not the DPL.
        (0, sel::CODE0 | 3, gp(code(sel::CODE0))),
        (0, sel::CODE3 & !3, gp(code(sel::CODE3))),
        (0, sel::CONF3 & !3, gp(code(sel::CONF3))),
        (0, sel::CODE0_NP, np(code(sel::CODE0_NP))),
    ] {
        let mut w = World::at_ring(ring);
        w.push(4, &[selector.into(), 0x9000]);
        w.faults(&RETF, expected);
    }
    let mut w = World::new();
    w.push(4, &[sel::SHORT_CODE0.into(), 0x1000]);
    w.faults(&RETF, gp(0));
    let mut w = World::new();
    w.force(SegReg::Ss, sel::SHORT_DATA0);
    w.set_esp(0xfc);
    w.faults(&RETF, ss(0));
}

#[test]
fn ret_to_an_outer_ring() {
    let mut w = World::new();
    w.force(SegReg::Ds, sel::DATA0);
    w.force(SegReg::Es, sel::DATA3);
    w.force(SegReg::Fs, sel::CONF0);
    *w.cpu.segment_mut(SegReg::Gs) = Segment::null(Selector(2));
    // Outer SS:ESP, two parameters, CS:EIP.
    w.push(4, &[sel::DATA3.into(), STACK3 - 0x20, 1, 2, sel::CODE3.into(), 0x9000]);
    w.ok(&[0xca, 8, 0]);
    assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs)), (3, 0x9000, sel::CODE3));
    // The parameters are released on the outer stack as well.
    assert_eq!((w.selector(SegReg::Ss), w.esp()), (sel::DATA3, STACK3 - 0x18));
    // DS of ring 0 goes, ES of ring 3 and conforming FS stay, a null selector becomes 0.
    assert_eq!(*w.cpu.segment(SegReg::Ds), Segment::null(Selector(0)));
    assert_eq!(w.selector(SegReg::Es), sel::DATA3);
    assert_eq!(w.selector(SegReg::Fs), sel::CONF0);
    assert_eq!(w.selector(SegReg::Gs), 0);
}

#[test]
fn ret_to_an_outer_ring_that_faults() {
    for (selector, expected) in [
        (0, gp(0)),
        (sel::OUTSIDE | 3, gp(code(sel::OUTSIDE))),
        (sel::DATA3 & !3, gp(code(sel::DATA3))),
        (sel::DATA0 | 3, gp(code(sel::DATA0))),
        (sel::CODE3, gp(code(sel::CODE3))),
        (sel::DATA3_NP, ss(code(sel::DATA3_NP))),
    ] {
        let mut w = World::new();
        w.push(4, &[selector.into(), STACK3, sel::CODE3.into(), 0x9000]);
        w.faults(&RETF, expected);
    }
    // Conforming code may be returned to in a ring further out.
    let mut w = World::new();
    w.push(4, &[sel::DATA3.into(), STACK3, (sel::CONF0 | 3).into(), 0x9000]);
    w.ok(&RETF);
    assert_eq!((w.cpu.cpl, w.selector(SegReg::Cs)), (3, sel::CONF0 | 3));
}

/// On a 16-bit outer stack only SP is loaded.
#[test]
fn ret_to_a_small_stack() {
    let mut w = World::new();
    w.push(4, &[sel::STACK16_3.into(), 0xdead_4000, sel::CODE3.into(), 0x9000]);
    let inner = w.esp() & 0xffff_0000;
    w.ok(&RETF);
    assert_eq!(w.esp(), inner | 0x4000);
}

/// What a far CALL pushes is an access like any other: #AC in ring 3, data breakpoints in any.
#[test]
fn a_call_writes_its_stack() {
    let call = direct(CALL, sel::CODE3, 0x9000);
    let mut w = World::at_ring(3);
    w.cpu.cr0 |= Cr0::AM;
    w.cpu.rflags |= Rflags::AC;
    w.set_esp(STACK3 - 2);
    w.faults(&call, Exception::with_code(Vector::AC, 0));
    w.set_esp(STACK3 - 4);
    w.ok(&call);
    assert_eq!(w.esp(), STACK3 - 12);

    for ring in [0, 3] {
        let mut w = World::at_ring(ring);
        w.cpu.dr[1] = u64::from(w.esp()) - 8;
        w.cpu.dr7 = 0x400 | 1 << 2 | 0b1101 << 20;
        let call = direct(CALL, w.selector(SegReg::Cs), 0x9000);
        assert_eq!(w.run(&call), Step::Exception(Exception::debug(2)), "ring {ring}");
        assert_eq!(w.eip(), 0x9000);
    }
}
