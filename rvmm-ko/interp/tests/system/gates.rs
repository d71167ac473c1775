//! Call gates and the inner stacks of the TSS: SDM vol. 2 "CALL", vol. 3 §5.8.

use crate::world::*;
use rvmm_arch::machine::{AccessKind, Privilege};
use rvmm_arch::segment::SegReg;

/// CALL through [`sel::FREE`], whose offset does not count.
fn call() -> Vec<u8> {
    let mut code = vec![0x9a, 0xff, 0xff, 0xff, 0xff];
    code.extend((sel::FREE | 3).to_le_bytes());
    code
}

fn jmp() -> Vec<u8> {
    let mut code = call();
    code[0] = 0xea;
    code
}

/// Ring 3 with a 32-bit call gate of DPL 3.
fn world(selector: u16, offset: u32, parameters: u8) -> World {
    let mut w = World::at_ring(3);
    w.set_desc(sel::FREE, gate(selector, offset, 0xec, parameters));
    w
}

#[test]
fn to_ring_0_with_parameters() {
    let mut w = world(sel::CODE0, 0x9000, 2);
    w.push(4, &[0x1111_1111, 0x2222_2222]);
    let outer = w.esp();
    w.ok(&call());
    assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs)), (0, 0x9000, sel::CODE0));
    assert_eq!((w.selector(SegReg::Ss), w.esp()), (sel::DATA0, STACK0 - 24));
    let frame: Vec<_> = (0..6).map(|i| w.peek(STACK0 - 24 + i * 4)).collect();
    assert_eq!(frame, [CODE + 7, sel::CODE3.into(), 0x2222_2222, 0x1111_1111, outer, sel::DATA3.into()]);
    // The new stack is written with the rights of the new ring.
    let stack =
        w.m.accesses.iter().filter(|(la, a)| la >> 12 == u64::from(STACK0 - 1) >> 12 && a.kind == AccessKind::Write);
    assert!(stack.clone().count() > 0);
    assert!(stack.clone().all(|(_, a)| a.privilege == Privilege::Supervisor));
    // And back, releasing them on both stacks.
    w.ok(&[0xca, 8, 0]);
    assert_eq!((w.cpu.cpl, w.eip(), w.esp()), (3, CODE + 7, outer + 8));
}

#[test]
fn sixteen_bit_gate() {
    let mut w = World::at_ring(3);
    w.set_desc(sel::FREE, gate(sel::CODE0, 0xffff_9000, 0xe4, 1));
    w.push(2, &[0x3333]);
    let outer = w.esp();
    w.ok(&call());
    assert_eq!((w.eip(), w.esp()), (0x9000, STACK0 - 10));
    let frame: Vec<_> = (0..5).map(|i| w.peek16(STACK0 - 10 + i * 2)).collect();
    assert_eq!(frame, [CODE as u16 + 7, sel::CODE3, 0x3333, outer as u16, sel::DATA3]);
}

#[test]
fn same_ring() {
    // Conforming code: no change of ring, the plain return address.
    let mut w = world(sel::CONF0, 0x9000, 5);
    w.ok(&call());
    assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs)), (3, 0x9000, sel::CONF0 | 3));
    assert_eq!((w.esp(), w.peek(STACK3 - 8)), (STACK3 - 8, CODE + 7));
    // JMP works where the ring stays, and only there.
    let mut w = world(sel::CODE3, 0x9000, 0);
    w.ok(&jmp());
    assert_eq!((w.eip(), w.esp()), (0x9000, STACK3));
    world(sel::CODE0, 0x9000, 0).faults(&jmp(), gp(code(sel::CODE0)));
}

#[test]
fn gates_that_fault() {
    // DPL below CPL, DPL below RPL, not present.
    let mut w = World::at_ring(3);
    w.set_desc(sel::FREE, gate(sel::CODE0, 0, 0x8c, 0));
    w.faults(&call(), gp(code(sel::FREE)));
    w.ring(0);
    w.faults(&call(), gp(code(sel::FREE)));
    let mut w = World::at_ring(3);
    w.set_desc(sel::FREE, gate(sel::CODE0, 0, 0x6c, 0));
    w.faults(&call(), np(code(sel::FREE)));
    // The code segment.
    for (selector, expected) in [
        (0, gp(0)),
        (sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (sel::DATA0, gp(code(sel::DATA0))),
        (sel::TSS, gp(code(sel::TSS))),
        (sel::CODE0_NP, np(code(sel::CODE0_NP))),
    ] {
        world(selector, 0x100, 0).faults(&call(), expected);
    }
    // The entry point.
    world(sel::SHORT_CODE0, 0x1000, 0).faults(&call(), gp(0));
    // From ring 0 outwards.
    let mut w = world(sel::CODE3, 0x9000, 0);
    w.ring(0);
    w.faults(&call(), gp(code(sel::CODE3)));
}

/// What may be wrong with the stack in the TSS.
#[test]
fn inner_stack_that_faults() {
    for (selector, expected) in [
        (0, ts(0)),
        (3, ts(0)),
        (sel::OUTSIDE, ts(code(sel::OUTSIDE))),
        (sel::DATA0 | 1, ts(code(sel::DATA0))),
        (sel::DATA3 & !3, ts(code(sel::DATA3))),
        (sel::RODATA0, ts(code(sel::RODATA0))),
        (sel::CODE0, ts(code(sel::CODE0))),
        (sel::DATA0_NP, ss(code(sel::DATA0_NP))),
    ] {
        let mut w = world(sel::CODE0, 0x9000, 0);
        w.poke(TSS + 8, selector.into());
        w.faults(&call(), expected);
    }
    // The TSS ends before it: the last byte needed for ring 0 is 9.
    for (limit, fine) in [(8, false), (9, true)] {
        let mut w = world(sel::CODE0, 0x9000, 0);
        w.cpu.tr.limit = limit;
        if fine {
            w.ok(&call());
        } else {
            w.faults(&call(), ts(code(sel::TSS)));
        }
    }
    // No room for the frame: 16 bytes and the parameters.
    for (esp, fine) in [(23, false), (24, true)] {
        let mut w = world(sel::CODE0, 0x9000, 2);
        w.poke(TSS + 4, esp);
        w.poke(TSS + 8, sel::SHORT_DATA0.into());
        if fine {
            w.ok(&call());
            assert_eq!(w.esp(), 0);
        } else {
            w.faults(&call(), ss(code(sel::SHORT_DATA0)));
        }
    }
}

/// Ring 1 has its own stack; a 16-bit TSS has 16-bit fields.
#[test]
fn other_stacks() {
    let mut w = world(sel::CODE1, 0x9000, 0);
    w.ok(&call());
    assert_eq!((w.cpu.cpl, w.selector(SegReg::Ss), w.esp()), (1, sel::DATA1, STACK1 - 16));

    let mut w = world(sel::CODE0, 0x9000, 0);
    w.cpu.tr.attrs = 0x83;
    w.poke(TSS, 0x8000 << 16);
    w.poke(TSS + 4, sel::DATA0.into());
    w.cpu.tr.limit = 5;
    w.ok(&call());
    assert_eq!((w.selector(SegReg::Ss), w.esp()), (sel::DATA0, 0x8000 - 16));
    w.ring(3);
    w.cpu.tr.limit = 4;
    w.faults(&call(), ts(code(sel::TSS)));
}

/// Parameters beyond the limit of the outer stack.
#[test]
fn parameters_that_are_not_there() {
    let mut w = world(sel::CODE0, 0x9000, 2);
    w.set_desc(sel::FREE2, desc(0, 0xff, 0xf3, 4));
    w.force(SegReg::Ss, sel::FREE2 | 3);
    w.set_esp(0xfc);
    w.faults(&call(), ss(0));
}
