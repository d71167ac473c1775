//! Event delivery: SDM vol. 2 "INT n/INTO/INT3/INT1", vol. 3 §6.12 to §6.15.

use crate::world::*;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{AccessKind, Change, Privilege};
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg};
use rvmm_arch::vcpu::{Activity, InterruptShadow};
use rvmm_arch::{Exception, PageFaultCode, VcpuState, Vector};
use rvmm_interp::{Delivered, Step, Stop};

/// Interrupt and trap gates, 32 and 16 bits, DPL 0.
const INT32: u8 = 0x8e;
const TRAP32: u8 = 0x8f;
const INT16: u8 = 0x86;
const TRAP16: u8 = 0x87;
const HANDLER: u32 = 0x9000;

/// A world at `ring` whose vector `vector` leads to ring 0 through a gate.
fn world(ring: u8, vector: u8, access: u8) -> World {
    let mut w = World::at_ring(ring);
    w.set_gate(vector, gate(sel::CODE0, HANDLER, access, 0));
    w.cpu.rflags = Rflags::from_bits_retain(0x0003_5a02 & !0x2_0000 | 0x1_0000 | 0x100 | 0x4_0000);
    w
}

fn frame(w: &World, size: u32, items: u32) -> Vec<u32> {
    let esp = w.esp();
    (0..items).map(|i| if size == 4 { w.peek(esp + i * 4) } else { w.peek16(esp + i * 2).into() }).collect()
}

/// Every shape of a frame: ring, gate, error code.
#[test]
fn frames() {
    for ring in [0u8, 1, 3] {
        for (access, size, disables) in [(INT32, 4, true), (TRAP32, 4, false), (INT16, 2, true), (TRAP16, 2, false)] {
            for error in [None, Some(0xabcd)] {
                let mut w = world(ring, 13, access);
                let (old_esp, old_cs, old_ss) = (w.esp(), w.selector(SegReg::Cs), w.selector(SegReg::Ss));
                let old_flags = w.flags();
                let event = Event { vector: Vector::GP, error, payload: 0, source: EventSource::Exception };
                assert_eq!(w.deliver(event), Delivered::Done);

                assert_eq!((w.cpu.cpl, w.eip(), w.selector(SegReg::Cs)), (0, HANDLER, sel::CODE0));
                let mut expected = vec![];
                expected.extend(error);
                // RF is set in the image of a fault.
                expected.extend([CODE, old_cs.into(), (old_flags | Rflags::RF).bits() as u32]);
                if ring != 0 {
                    expected.extend([old_esp, old_ss.into()]);
                }
                if size == 2 {
                    for value in &mut expected {
                        *value &= 0xffff;
                    }
                }
                let items = expected.len() as u32;
                assert_eq!(frame(&w, size, items), expected, "ring {ring} gate {access:#x} error {error:?}");
                let top = if ring == 0 { old_esp } else { STACK0 };
                assert_eq!(w.esp(), top - items * size);
                assert_eq!(w.selector(SegReg::Ss), sel::DATA0);

                let mut flags = old_flags - (Rflags::TF | Rflags::NT | Rflags::RF | Rflags::VM);
                if disables {
                    flags -= Rflags::IF;
                }
                assert_eq!(w.flags(), flags);
            }
        }
    }
}

/// RF in the image: set for faults, left alone for traps, aborts and interrupts (SDM vol. 3 §17.3.1.1).
#[test]
fn rf_in_the_image() {
    let soft = |v| Event { vector: v, error: None, payload: 0, source: EventSource::Software };
    for (event, set) in [
        (exception(Exception::ud()), true),
        (exception(Exception::page_fault(PageFaultCode::empty(), 0)), true),
        (exception(Exception::new(Vector::BP)), false),
        (exception(Exception::new(Vector::OF)), false),
        (exception(Exception::debug(1)), false),
        (exception(Exception::with_code(Vector::DF, 0)), false),
        (exception(Exception::new(Vector::MC)), false),
        (external(0x30), false),
        (soft(Vector(0x30)), false),
    ] {
        let mut w = World::new();
        w.set_gate(event.vector.0, gate(sel::CODE0, HANDLER, INT32, 0));
        w.deliver(event);
        let flags = if event.error.is_some() { w.peek(w.esp() + 12) } else { w.peek(w.esp() + 8) };
        assert_eq!(flags & 0x1_0000 != 0, set, "{event:?}");
    }
    // INT n, INT3, INTO and INT1 clear it before their event is delivered, through a task gate too; a fault of theirs has it.
    for (code, vector) in [(&[0xcd, 0x30][..], 0x30), (&[0xcc], 3), (&[0xce], 4), (&[0xf1], 1)] {
        let mut w = World::new();
        w.set_gate(vector, gate(sel::CODE0, HANDLER, INT32, 0));
        w.cpu.rflags |= Rflags::RF | Rflags::OF;
        w.ok(code);
        assert_eq!(w.peek(w.esp() + 8) & 0x1_0000, 0, "{code:02x?}");
    }
    let mut w = World::new();
    w.cpu.rflags |= Rflags::RF;
    w.faults(&[0xcd, 0x30], gp(0x30 * 8 + 2));
    // An interrupt between two iterations of a string instruction saves the RF that is there.
    let mut w = world(0, 0x30, INT32);
    w.deliver(external(0x30));
    assert_ne!(w.peek(w.esp() + 8) & 0x1_0000, 0);
}

#[test]
fn to_the_same_outer_ring() {
    // A handler in ring 3 for ring 3, and a conforming one: no stack switch, pushes with user rights.
    for selector in [sel::CODE3, sel::CONF0] {
        let mut w = World::at_ring(3);
        w.set_gate(0x30, gate(selector, HANDLER, 0xee, 0));
        w.deliver(external(0x30));
        assert_eq!((w.cpu.cpl, w.esp(), w.selector(SegReg::Cs)), (3, STACK3 - 12, selector | 3));
        let pushes = w.m.accesses.iter().filter(|(_, a)| a.kind == AccessKind::Write);
        assert!(pushes.clone().count() > 0 && pushes.clone().all(|(_, a)| a.privilege == Privilege::User));
    }
    // Ring 1.
    let mut w = World::at_ring(3);
    w.set_gate(0x30, gate(sel::CODE1, HANDLER, INT32, 0));
    w.deliver(external(0x30));
    assert_eq!((w.cpu.cpl, w.selector(SegReg::Ss), w.esp()), (1, sel::DATA1, STACK1 - 20));
}

#[test]
fn sixteen_bit_tss_and_stack() {
    let mut w = world(3, 0x30, INT32);
    w.cpu.tr.attrs = 0x83;
    w.poke(TSS, 0x4000 << 16);
    w.poke(TSS + 4, sel::STACK16.into());
    w.set_esp(0x1234_0000 + 0x100);
    w.cpu.segment_mut(SegReg::Ss).limit = u32::MAX;
    w.deliver(external(0x30));
    // The upper half of ESP stays on a 16-bit stack.
    assert_eq!((w.esp(), w.selector(SegReg::Ss)), (0x1234_0000 + 0x4000 - 20, sel::STACK16));
    assert_eq!(w.peek(0x4000 - 20), CODE);
}

/// A 16-bit stack wraps within 64 KiB; no item straddles the wrap.
#[test]
fn wrapping_stack() {
    let mut w = World::new();
    w.set_gate(0x30, gate(sel::CODE0, HANDLER, INT32, 0));
    w.set_desc(sel::FREE, desc(DATA, 0xffff, 0x93, 0));
    w.force(SegReg::Ss, sel::FREE);
    w.set_esp(4);
    w.deliver(external(0x30));
    assert_eq!(w.esp(), 0xfff8);
    assert_eq!((w.peek(DATA), w.peek(DATA + 0xfffc), w.peek(DATA + 0xfff8)), (2, sel::CODE0.into(), CODE));
    // With 2 bytes to go a doubleword would straddle: #SS, whose own frame cannot be pushed either: #DF, triple fault.
    let mut w = World::new();
    w.set_gate(0x30, gate(sel::CODE0, HANDLER, INT32, 0));
    w.force(SegReg::Ss, sel::STACK16);
    w.set_esp(2);
    assert_eq!(w.deliver(external(0x30)), Delivered::Shutdown);
}

/// INT n: the instruction's own faults, with RIP at the instruction and EXT clear.
#[test]
fn software_interrupts() {
    let mut w = World::at_ring(3);
    w.set_gate(0x80, gate(sel::CODE0, HANDLER, 0xef, 0));
    w.cpu.rflags |= Rflags::IF | Rflags::TF;
    w.ok(&[0xcd, 0x80]);
    assert_eq!(frame(&w, 4, 5), [CODE + 2, sel::CODE3.into(), 0x302, STACK3, sel::DATA3.into()]);
    assert!(w.flags().contains(Rflags::IF) && !w.flags().contains(Rflags::TF));
    assert_eq!(w.m.changes, [Change::SoftwareInterrupt(Vector(0x80))]);

    for (gate_raw, expected) in [
        // DPL below CPL.
        (gate(sel::CODE0, HANDLER, 0x8e, 0), gp(0x80 * 8 + 2)),
        (gate(sel::CODE0, HANDLER, 0x6e, 0), np(0x80 * 8 + 2)),
        // Not a gate of the IDT.
        (gate(sel::CODE0, HANDLER, 0xec, 0), gp(0x80 * 8 + 2)),
        (desc(0, 0xffff, 0xfb, 0), gp(0x80 * 8 + 2)),
        (0, gp(0x80 * 8 + 2)),
        (gate(0, HANDLER, 0xee, 0), gp(0)),
        (gate(sel::OUTSIDE, HANDLER, 0xee, 0), gp(code(sel::OUTSIDE))),
        (gate(sel::DATA0, HANDLER, 0xee, 0), gp(code(sel::DATA0))),
        (gate(sel::CODE0_NP, HANDLER, 0xee, 0), np(code(sel::CODE0_NP))),
        (gate(sel::SHORT_CODE0, 0x1000, 0xee, 0), gp(0)),
    ] {
        let mut w = World::at_ring(3);
        w.set_gate(0x80, gate_raw);
        w.faults(&[0xcd, 0x80], expected);
        assert!(w.m.changes.is_empty());
    }
    // Code of a ring further out than the CPL.
    let mut w = World::new();
    w.set_gate(0x80, gate(sel::CODE3, HANDLER, 0xee, 0));
    w.faults(&[0xcd, 0x80], gp(code(sel::CODE3)));
    // Beyond the IDT.
    let mut w = World::new();
    w.cpu.idtr.limit = 0x80 * 8 + 6;
    w.faults(&[0xcd, 0x80], gp(0x80 * 8 + 2));
    // The inner stack, with EXT clear.
    let mut w = World::at_ring(3);
    w.set_gate(0x80, gate(sel::CODE0, HANDLER, 0xee, 0));
    w.poke(TSS + 8, sel::DATA3.into());
    w.faults(&[0xcd, 0x80], ts(code(sel::DATA3)));
    w.poke(TSS + 8, sel::DATA0_NP.into());
    w.faults(&[0xcd, 0x80], ss(code(sel::DATA0_NP)));
}

#[test]
fn int3_into_int1() {
    let mut w = World::at_ring(3);
    w.set_gate(3, gate(sel::CODE0, HANDLER, 0xef, 0));
    w.ok(&[0xcc]);
    assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER, CODE + 1));
    World::at_ring(3).faults(&[0xcc], gp(3 * 8 + 2));

    let mut w = World::at_ring(3);
    w.set_gate(4, gate(sel::CODE0, HANDLER, 0xef, 0));
    w.ok(&[0xce]);
    assert_eq!(w.eip(), CODE + 1);
    w.cpu.rip = CODE.into();
    w.cpu.rflags |= Rflags::OF;
    w.ok(&[0xce]);
    assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER, CODE + 1));

    // INT1 does not look at the gate's DPL; a fault on its way has EXT set. DR6 stays.
    let mut w = World::at_ring(3);
    w.set_gate(1, gate(sel::CODE0, HANDLER, 0x8e, 0));
    let dr6 = w.cpu.dr6;
    w.ok(&[0xf1]);
    assert_eq!((w.eip(), w.peek(w.esp()), w.cpu.dr6), (HANDLER, CODE + 1, dr6));
    World::at_ring(3).faults(&[0xf1], gp(8 + 3));
}

/// A fault met while an interrupt or an exception is delivered has EXT set, and is delivered in its place.
#[test]
fn nested_faults_have_ext() {
    // The gate of the interrupt, the vector that follows, its error code.
    for (gate_raw, vector, error) in [
        (0, 13, 0x30 * 8 + 3),
        (gate(sel::CODE0, HANDLER, 0x0e, 0), 11, 0x30 * 8 + 3),
        (gate(0, HANDLER, 0x8e, 0), 13, 1),
        (gate(sel::OUTSIDE, HANDLER, 0x8e, 0), 13, code(sel::OUTSIDE) + 1),
        (gate(sel::CODE0_NP, HANDLER, 0x8e, 0), 11, code(sel::CODE0_NP) + 1),
        (gate(sel::SHORT_CODE0, 0x1000, 0x8e, 0), 13, 1),
    ] {
        let mut w = World::new();
        for v in [10u8, 11, 12, 13] {
            w.set_gate(v, gate(sel::CODE0, HANDLER + u32::from(v), INT32, 0));
        }
        w.set_gate(0x30, gate_raw);
        assert_eq!(w.deliver(external(0x30)), Delivered::Done);
        assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER + vector, error));
        assert_eq!(w.peek(w.esp() + 4), CODE);
    }
    // #TS for the inner stack, EXT set; ring 3's handler for #TS runs on ring 1's stack.
    let mut w = world(3, 0x30, INT32);
    w.set_gate(10, gate(sel::CODE1, HANDLER + 10, INT32, 0));
    w.poke(TSS + 8, sel::DATA3.into());
    w.deliver(external(0x30));
    assert_eq!((w.cpu.cpl, w.eip(), w.peek(w.esp())), (1, HANDLER + 10, code(sel::DATA3) + 1));
    // #SS(selector) with EXT where the inner stack has no room: 20 bytes, 24 with an error code.
    for (event, need) in [(external(0x30), 20), (exception(gp(0)), 24)] {
        for (esp, fits) in [(need, true), (need - 1, false)] {
            let mut w = world(3, 0x30, INT32);
            w.set_gate(13, gate(sel::CODE0, HANDLER, INT32, 0));
            w.set_gate(12, gate(sel::CODE1, HANDLER + 12, INT32, 0));
            w.set_gate(8, gate(sel::CODE1, HANDLER + 8, INT32, 0));
            w.poke(TSS + 4, esp);
            w.poke(TSS + 8, sel::SHORT_DATA0.into());
            w.deliver(event);
            if fits {
                assert_eq!((w.eip(), w.esp()), (HANDLER, 0));
            } else if event.source == EventSource::External {
                assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER + 12, code(sel::SHORT_DATA0) + 1));
            } else {
                // #SS on the way to #GP: both contributory.
                assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER + 8, 0));
            }
        }
    }
}

/// Only exceptions push their error code, and INT n of such a vector does not.
#[test]
fn int_13_pushes_no_error_code() {
    let mut w = World::new();
    w.set_gate(13, gate(sel::CODE0, HANDLER, 0xee, 0));
    w.ok(&[0xcd, 13]);
    assert_eq!(w.esp(), STACK0 - 12);
}

#[test]
fn page_faults() {
    // CR2 and the error code.
    let mut w = World::at_ring(3);
    w.set_gate(14, gate(sel::CODE0, HANDLER, INT32, 0));
    w.deliver(exception(Exception::page_fault(PageFaultCode::U | PageFaultCode::W, 0xdead_b000)));
    assert_eq!((w.cpu.cr2, w.peek(w.esp()), w.peek(w.esp() + 4)), (0xdead_b000, 6, CODE));

    // The stack of ring 0 is not there: #PF in the delivery of an interrupt is a #PF (benign first), whose own delivery
    // faults the same way: #DF, which goes to ring 1 here.
    let mut w = world(3, 0x30, INT32);
    w.set_gate(14, gate(sel::CODE0, HANDLER, INT32, 0));
    w.set_gate(8, gate(sel::CODE1, HANDLER + 8, INT32, 0));
    w.m.pages.insert(u64::from(STACK0 - 1) >> 12, Page::NotPresent);
    w.deliver(external(0x30));
    assert_eq!((w.cpu.cpl, w.eip(), w.peek(w.esp())), (1, HANDLER + 8, 0));
    // CR2 is that of the first item pushed.
    assert_eq!(w.cpu.cr2, u64::from(STACK0) - 4);

    // The page below is missing: CR2 is that of the first item in it, SS and ESP have their place.
    let mut w = World::at_ring(3);
    w.set_gate(0x30, gate(sel::CODE0, HANDLER, INT32, 0));
    w.set_gate(14, gate(sel::CODE1, HANDLER, INT32, 0));
    let top = (STACK0 & !0xfff) + 8;
    w.poke(TSS + 4, top);
    w.m.pages.insert(u64::from(top - 12) >> 12, Page::NotPresent);
    w.deliver(external(0x30));
    assert_eq!(w.cpu.cr2, u64::from(top) - 12);

    // The IDT itself.
    let mut w = World::new();
    w.m.pages.insert(u64::from(IDT) >> 12, Page::NotPresent);
    assert_eq!(w.deliver(external(0x30)), Delivered::Shutdown);
    assert_eq!(w.cpu.cr2, u64::from(IDT) + 8 * 8);

    // Contributory, then #PF: one after the other.
    let mut w = World::at_ring(3);
    w.set_gate(13, gate(sel::CODE0, HANDLER, INT32, 0));
    w.set_gate(14, gate(sel::CODE1, HANDLER + 14, INT32, 0));
    w.m.pages.insert(u64::from(STACK0 - 1) >> 12, Page::ReadOnly);
    w.deliver(exception(gp(0)));
    // Supervisor write, protection.
    assert_eq!((w.cpu.cpl, w.eip(), w.peek(w.esp())), (1, HANDLER + 14, 3));
    assert_eq!(w.cpu.cr2, u64::from(STACK0) - 4);
}

#[test]
fn double_and_triple_faults() {
    // #GP without a gate: #GP on the way, so #DF with error code 0.
    let mut w = World::new();
    w.set_gate(8, gate(sel::CODE0, HANDLER, INT32, 0));
    w.deliver(exception(gp(0x10)));
    assert_eq!((w.eip(), w.peek(w.esp()), w.peek(w.esp() + 4)), (HANDLER, 0, CODE));
    // No gate for #DF either.
    let mut w = World::new();
    assert_eq!(w.deliver(exception(gp(0x10))), Delivered::Shutdown);
    assert_eq!(w.cpu.activity, Activity::Shutdown);
    // From an interrupt: #GP, then #DF, then nothing.
    let mut w = World::new();
    assert_eq!(w.deliver(external(0x30)), Delivered::Shutdown);
    // #UD is benign: the #GP for its missing gate is delivered as such.
    let mut w = World::new();
    w.set_gate(13, gate(sel::CODE0, HANDLER, INT32, 0));
    w.deliver(exception(Exception::ud()));
    assert_eq!((w.eip(), w.peek(w.esp())), (HANDLER, 6 * 8 + 3));
}

#[test]
fn debug_exception() {
    let mut w = World::new();
    w.set_gate(1, gate(sel::CODE0, HANDLER, INT32, 0));
    w.cpu.dr6 = 0xffff_0ff0 | 0x8003;
    w.cpu.dr7 = 0x2402;
    w.deliver(exception(Exception::debug(0x4004)));
    // B0 to B3 are replaced, the others gather; GD is cleared.
    assert_eq!((w.cpu.dr6, w.cpu.dr7), (0xffff_0ff0 | 0xc004, 0x402));
    assert!(w.m.changes.contains(&Change::DebugRegisters));
}

#[test]
fn wakes_and_ends_the_shadow() {
    let mut w = world(0, 0x30, INT32);
    w.cpu.activity = Activity::Halted;
    w.cpu.shadow = InterruptShadow::Sti;
    w.deliver(external(0x30));
    assert_eq!((w.cpu.activity, w.cpu.shadow), (Activity::Running, InterruptShadow::None));
}

#[test]
fn nmis_block_nmis() {
    let mut w = world(0, 2, INT32);
    w.deliver(Event { vector: Vector::NMI, error: None, payload: 0, source: EventSource::Nmi });
    assert!(w.cpu.nmi_blocked);
    w.ok(&[0xcf]);
    assert!(!w.cpu.nmi_blocked);
}

#[test]
fn accessed_bits_are_set() {
    let mut w = World::at_ring(3);
    w.set_desc(sel::FREE, desc(0, 0xf_ffff, 0x9a, 0xc));
    w.set_desc(sel::FREE2, desc(0, 0xf_ffff, 0x92, 0xc));
    w.poke(TSS + 8, sel::FREE2.into());
    w.set_gate(0x30, gate(sel::FREE, HANDLER, INT32, 0));
    w.deliver(external(0x30));
    for (reg, selector) in [(SegReg::Cs, sel::FREE), (SegReg::Ss, sel::FREE2)] {
        assert_ne!(w.desc(selector) & Descriptor::ACCESSED, 0);
        assert_eq!(w.cpu.segment(reg).attrs & 1, 1);
    }
}

/// Nothing changes while a device must answer first.
#[test]
fn waits_for_the_client() {
    let mut w = world(3, 14, INT32);
    w.m.pending_page = Some(u64::from(STACK0 - 1) >> 12);
    w.deliver_stops(exception(Exception::page_fault(PageFaultCode::empty(), 0x1234)), Stop::IoPending);
    w.m.pending_page = None;
    w.deliver(exception(Exception::page_fault(PageFaultCode::empty(), 0x1234)));
    assert_eq!(w.cpu.cr2, 0x1234);
}

#[test]
fn real_mode() {
    let mut cpu = VcpuState::reset();
    cpu.cr0.remove(Cr0::PE);
    let mut w = World { cpu, ..World::new() };
    w.cpu.idtr.limit = 0x3ff;
    for reg in SegReg::ALL {
        *w.cpu.segment_mut(reg) = rvmm_arch::segment::Segment::real_mode(0x800);
    }
    w.cpu.rip = 0x10;
    w.set_esp(0x4000);
    w.cpu.rflags |= Rflags::IF | Rflags::TF | Rflags::CF;
    w.poke(13 * 4, 0x0900_1234);
    w.deliver(exception(gp(0)));
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.cpu.segment(SegReg::Cs).base), (0x1234, 0x900, 0x9000));
    assert_eq!(w.esp(), 0x4000 - 6);
    let at = 0x8000 + 0x4000 - 6;
    assert_eq!((w.peek16(at), w.peek16(at + 2), w.peek16(at + 4)), (0x10, 0x800, 0x303));
    assert_eq!(w.flags(), Rflags::ONE | Rflags::CF);
    // And back.
    w.poke_bytes(0xa234, &[0xcf]);
    assert_eq!(rvmm_interp::step(&mut w.cpu, &mut w.m), Step::Retired);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp()), (0x10, 0x800, 0x4000));
    assert_eq!(w.flags().bits(), 0x303);
}
