//! IRET: SDM vol. 2 "IRET/IRETD/IRETQ".

use crate::world::*;
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_interp::Step;

const IRETD: [u8; 1] = [0xcf];
const IRET: [u8; 2] = [0x66, 0xcf];

#[test]
fn same_ring() {
    let mut w = World::new();
    w.cpu.nmi_blocked = true;
    w.push(4, &[0x0000_0246, sel::CODE0.into(), 0x9000]);
    w.ok(&IRETD);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp()), (0x9000, sel::CODE0, STACK0));
    assert_eq!(w.flags().bits(), 0x246);
    assert!(!w.cpu.nmi_blocked);
}

#[test]
fn sixteen_bits() {
    let mut w = World::new();
    w.cpu.rflags |= Rflags::AC | Rflags::ID;
    w.push(2, &[0x3ed7 & !0x100, sel::CODE0.into(), 0x9000]);
    w.ok(&IRET);
    assert_eq!((w.eip(), w.esp()), (0x9000, STACK0));
    // AC and ID are out of reach of a 16-bit image.
    assert_eq!(w.flags().bits(), 0x24_3ed7 & !0x100);
}

/// The flags by CPL and IOPL, with all set in the image and none before, and the reverse.
#[test]
fn flags_rules() {
    for ring in [0u8, 1, 3] {
        for iopl in 0..4u8 {
            for wide in [false, true] {
                for set in [false, true] {
                    let mut w = World::at_ring(ring);
                    // NT would make it a task return, TF a trap.
                    w.cpu.rflags = Rflags::from_bits_retain(if set { 2 } else { 0x003d_0ed7 & !0x100 });
                    w.iopl(iopl);
                    let before = w.flags().bits();
                    // VM is set in the image where that means nothing: CPL > 0.
                    let image: u32 = if set { 0x003f_7fd7 & !(if ring == 0 { 0x2_0000 } else { 0 }) } else { 0 };
                    let cs = w.selector(SegReg::Cs);
                    w.push(if wide { 4 } else { 2 }, &[image, cs.into(), 0x9000]);
                    w.ok(if wide { &IRETD } else { &IRET });
                    let mut writable = 0x4dd5;
                    if wide {
                        writable |= 1 << 16 | 1 << 18 | 1 << 21;
                    }
                    if ring <= iopl {
                        writable |= 1 << 9;
                    }
                    if ring == 0 {
                        writable |= 3 << 12;
                        if wide {
                            writable |= 1 << 19 | 1 << 20;
                        }
                    }
                    let mut expected = (before & !writable) | (u64::from(image) & writable);
                    if !wide {
                        // RF is not in the image; it ends with the instruction.
                        expected &= !(1 << 16);
                    }
                    assert_eq!(w.flags().bits(), expected, "ring {ring} iopl {iopl} wide {wide} set {set}");
                }
            }
        }
    }
}

#[test]
fn to_ring_3() {
    let mut w = World::new();
    w.force(SegReg::Ds, sel::DATA3);
    w.force(SegReg::Es, sel::CODE0);
    *w.cpu.segment_mut(SegReg::Fs) = Segment::null(Selector(3));
    // IOPL changes, as the CPL before the return is 0.
    w.push(4, &[sel::DATA3.into(), STACK3 - 4, 0x3202, sel::CODE3.into(), 0x9000]);
    w.ok(&IRETD);
    assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs)), (3, 0x9000, sel::CODE3));
    assert_eq!((w.selector(SegReg::Ss), w.esp()), (sel::DATA3, STACK3 - 4));
    assert_eq!(w.flags().bits(), 0x3202);
    assert_eq!(w.selector(SegReg::Ds), sel::DATA3);
    assert_eq!(w.selector(SegReg::Es), 0);
    assert_eq!(w.selector(SegReg::Fs), 0);
    assert_eq!(w.selector(SegReg::Gs), 0);
}

/// IRET to a 16-bit stack loads SP alone: the upper half of the inner ESP shows.
#[test]
fn to_a_small_stack() {
    let mut w = World::new();
    w.push(4, &[sel::STACK16_3.into(), 0x7777_4000, 2, sel::CODE3.into(), 0x9000]);
    let inner = w.esp() & 0xffff_0000;
    w.ok(&IRETD);
    assert_eq!(w.esp(), inner | 0x4000);
}

#[test]
fn returns_that_fault() {
    // CS.
    for (ring, selector, expected) in [
        (0, 0, gp(0)),
        (0, 3, gp(0)),
        (0, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (0, sel::DATA0, gp(code(sel::DATA0))),
        (3, sel::CODE0, gp(code(sel::CODE0))),
        (0, sel::CODE0 | 3, gp(code(sel::CODE0))),
        (0, sel::CODE3 & !3, gp(code(sel::CODE3))),
        (0, sel::CONF3 & !3, gp(code(sel::CONF3))),
        (0, sel::CODE0_NP, np(code(sel::CODE0_NP))),
        (0, sel::CODE3_NP, np(code(sel::CODE3_NP))),
    ] {
        let mut w = World::at_ring(ring);
        w.push(4, &[2, selector.into(), 0x9000]);
        w.faults(&IRETD, expected);
    }
    // SS.
    for (selector, expected) in [
        (0, gp(0)),
        (sel::OUTSIDE | 3, gp(code(sel::OUTSIDE))),
        (sel::DATA3 & !3, gp(code(sel::DATA3))),
        (sel::DATA0 | 3, gp(code(sel::DATA0))),
        (sel::CODE3, gp(code(sel::CODE3))),
        // The list of exceptions says so; the pseudo-code has #SS.
        (sel::DATA3_NP, np(code(sel::DATA3_NP))),
    ] {
        let mut w = World::new();
        w.push(4, &[selector.into(), STACK3, 2, sel::CODE3.into(), 0x9000]);
        w.faults(&IRETD, expected);
    }
    // EIP.
    let mut w = World::new();
    w.push(4, &[2, sel::SHORT_CODE0.into(), 0x1000]);
    w.faults(&IRETD, gp(0));
    // The stack ends within the frame.
    for esp in [0xf8, 0xfc] {
        let mut w = World::new();
        w.force(SegReg::Ss, sel::SHORT_DATA0);
        w.set_esp(esp);
        w.faults(&IRETD, ss(0));
    }
}

/// An IRET opens NMIs again even if it faults (SDM vol. 3 §6.7.1); one that is not done yet does not.
#[test]
fn a_faulting_return_opens_nmis() {
    let mut w = World::new();
    w.cpu.nmi_blocked = true;
    w.push(4, &[2, sel::CODE0_NP.into(), 0x9000]);
    assert_eq!(w.run(&IRETD), Step::Exception(np(code(sel::CODE0_NP))));
    assert!(!w.cpu.nmi_blocked);

    w.cpu.nmi_blocked = true;
    w.m.pending_page = Some(u64::from(w.esp()) >> 12);
    assert_eq!(w.run(&IRETD), Step::IoPending);
    assert!(w.cpu.nmi_blocked);
}

/// TF loaded by IRET traps after the next instruction, not after IRET itself (SDM vol. 3 §17.3.1.4).
#[test]
fn tf_takes_effect_after_the_next_instruction() {
    let mut w = World::new();
    w.push(4, &[0x102, sel::CODE0.into(), 0x9000]);
    w.ok(&IRETD);
    assert!(matches!(w.run(&[0x90]), Step::Exception(e) if e.payload == 1 << 14));
}
