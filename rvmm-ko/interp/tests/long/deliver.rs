//! Events: SDM vol. 3 §6.14, vol. 2 "INT n".

use crate::world::*;
use rvmm_arch::fault::Event;
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::gpr;
use rvmm_arch::segment::SegReg;
use rvmm_arch::{Exception, PageFaultCode, Vector};
use rvmm_interp::Delivered;

/// In ring 0: the stack is aligned, SS:RSP is pushed, SS stays.
#[test]
fn same_ring() {
    for rsp in [STACK0, STACK0 - 8, STACK0 - 1] {
        let mut w = World::new();
        w.cpu.gpr[gpr::RSP] = rsp;
        w.set_flags(0x5_4702);
        w.deliver(external(0x30));
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER + 0x30, sel::DATA0, (rsp & !15) - 40));
        assert_eq!(w.top(5), [CODE, sel::CODE0.into(), 0x5_4702, rsp, sel::DATA0.into()]);
        // IF, TF, NT and RF go.
        assert_eq!(w.flags(), 0x4_0402);
    }
}

#[test]
fn trap_gates_keep_if() {
    let mut w = World::new();
    w.set_gate(0x30, gate(sel::CODE0, HANDLER, 0x8f, 0));
    w.set_flags(0x202);
    w.deliver(external(0x30));
    assert_eq!(w.flags(), 0x202);
}

/// From ring 3 of both submodes: to RSP0 of the TSS, SS null.
#[test]
fn to_the_inner_ring() {
    for (at, cs, rip, rsp) in
        [(At::User, sel::CODE3, USER, USER_STACK - 8), (At::User32, sel::COMPAT3, USER32, USER32_STACK - 4)]
    {
        let mut w = World::at(at);
        w.cpu.gpr[gpr::RSP] = rsp;
        w.poke(TSS + 4, STACK0 - 3);
        w.m.accesses.clear();
        w.deliver(Event::from(Exception::page_fault(PageFaultCode::U, 0x1234)));
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER + 14, 0, STACK0 - 16 - 48));
        assert_eq!(w.top(6), [4, rip, cs.into(), 0x1_0002, rsp, sel::DATA3.into()]);
        assert_eq!(w.cpu.cr2, 0x1234);
        assert!(!w.cpu.segment(SegReg::Ss).usable());
        // Everything was looked for with 64-bit addresses, and with the rights of ring 0.
        for la in [IDT + 14 * 16, IDT + 14 * 16 + 8, GDT + 8, TSS + 4, STACK0 - 64] {
            assert!(w.touched(la), "{la:#x} from {at:?}");
        }
        let write = Access { kind: AccessKind::Write, privilege: Privilege::Supervisor };
        assert!(w.m.accesses.contains(&(STACK0 - 64, write)));
        assert!(w.m.accesses.iter().all(|(la, _)| *la >= HIGH));
    }
}

/// A frame may cross 4 GiB, though the code interrupted has 32-bit addresses.
#[test]
fn a_stack_across_four_gigabytes() {
    let mut w = World::at(At::User32);
    w.poke(TSS + 4, 0x1_0000_0010);
    w.deliver(external(0x30));
    assert_eq!(w.rsp(), 0x1_0000_0010 - 40);
    assert!(w.touched(0xffff_ffe8) && w.touched(0x1_0000_0000) && !w.touched(0));
}

#[test]
fn interrupt_stacks() {
    for (at, ss) in [(At::User, 0), (At::Kernel, sel::DATA0), (At::Kernel32, sel::DATA0)] {
        let mut w = World::at(at);
        let (cpl, cs, rip, old_ss, rsp) = w.place();
        w.set_gate(2, gate(sel::CODE0, HANDLER, 0x8e, 1));
        w.deliver(external(2));
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER, ss, (IST1 & !15) - 40), "from ring {cpl}");
        assert_eq!(w.top(5), [rip, cs.into(), 2, rsp, old_ss.into()]);
    }
    for n in 1..8u8 {
        let mut w = World::new();
        w.poke(TSS + 0x1c + u64::from(n) * 8, DATA + u64::from(n) * 0x100);
        w.set_gate(2, gate(sel::CODE0, HANDLER, 0x8e, n));
        w.deliver(external(2));
        assert_eq!(w.rsp(), DATA + u64::from(n) * 0x100 - 40);
    }
}

/// Conforming code keeps the ring, and with it the stack.
#[test]
fn conforming_handlers() {
    let mut w = World::at(At::User);
    w.set_gate(0x30, gate(sel::CONF0, 0x1234, 0xee, 0));
    w.ok(&[0xcd, 0x30]);
    assert_eq!(w.place(), (3, sel::CONF0 | 3, 0x1234, sel::DATA3, USER_STACK - 40));
    assert_eq!(w.top(2), [USER + 2, sel::CODE3.into()]);
}

/// INT n, INT3, INT1 and INTO. From compatibility mode they enter 64-bit mode.
#[test]
fn software_interrupts() {
    for (at, bytes, vector) in [
        (At::User, &[0xcd, 0x80][..], 0x80u8),
        (At::User32, &[0xcd, 0x80], 0x80),
        (At::User32, &[0xcc], 3),
        (At::User, &[0xcc], 3),
        (At::User, &[0xf1], 1),
        (At::User32, &[0xce], 4),
    ] {
        let mut w = World::at(at);
        w.set_flags(0x8_0802);
        w.set_gate(vector, gate(sel::CODE0, HANDLER, 0xee, 0));
        let rip = w.cpu.rip;
        w.ok(bytes);
        assert_eq!(w.place(), (0, sel::CODE0, HANDLER, 0, STACK0 - 40));
        assert_eq!(w.peek(w.rsp()), rip + bytes.len() as u64);
    }
    // INT1 needs no rights, the others do.
    let mut w = World::at(At::User);
    w.ok(&[0xf1]);
    World::at(At::User).faults(&[0xcc], gp(3 * 8 + 2));
    World::at(At::User32).faults(&[0xcd, 0x80], gp(0x80 * 8 + 2));
    World::at(At::User).faults(&[0xce], ud());
}

#[test]
fn gates_that_fault() {
    const IDT_CODE: u32 = 0x30 * 8 + 2;
    for (gate, expected) in [
        // Types that long mode does not have, and a descriptor of a segment.
        (gate(sel::CODE0, HANDLER, 0x85, 0), gp(IDT_CODE)),
        (gate(sel::CODE0, HANDLER, 0x86, 0), gp(IDT_CODE)),
        (gate(sel::CODE0, HANDLER, 0x87, 0), gp(IDT_CODE)),
        (gate(sel::CODE0, HANDLER, 0x8c, 0), gp(IDT_CODE)),
        (gate(sel::CODE0, HANDLER, 0x9e, 0), gp(IDT_CODE)),
        (gate(sel::CODE0, HANDLER, 0x0e, 0), np(IDT_CODE)),
        // Code segments.
        (gate(0, HANDLER, 0x8e, 0), gp(0)),
        (gate(3, HANDLER, 0x8e, 0), gp(0)),
        (gate(sel::OUTSIDE, HANDLER, 0x8e, 0), gp(code(sel::OUTSIDE))),
        (gate(sel::DATA0, HANDLER, 0x8e, 0), gp(code(sel::DATA0))),
        (gate(sel::CODE3, HANDLER, 0x8e, 0), gp(code(sel::CODE3))),
        (gate(sel::COMPAT0, HANDLER, 0x8e, 0), gp(code(sel::COMPAT0))),
        (gate(sel::BOTH0, HANDLER, 0x8e, 0), gp(code(sel::BOTH0))),
        (gate(sel::CODE0_NP, HANDLER, 0x8e, 0), np(code(sel::CODE0_NP))),
        // Entry point; IST2, which is null, and so wraps.
        (gate(sel::CODE0, NOWHERE, 0x8e, 0), gp(0)),
    ] {
        let mut w = World::new();
        w.set_gate(0x30, gate);
        w.faults(&[0xcd, 0x30], expected);
    }
    let mut w = World::new();
    w.cpu.idtr.limit = 0x30 * 16 + 14;
    w.faults(&[0xcd, 0x30], gp(IDT_CODE));
    w.cpu.idtr.limit += 1;
    w.ok(&[0xcd, 0x30]);
    // The stack.
    let mut w = World::new();
    w.cpu.gpr[gpr::RSP] = NOWHERE + 0x20;
    w.faults(&[0xcd, 0x30], ss(0));
    w.set_gate(0x30, gate(sel::CODE0, HANDLER, 0x8e, 1));
    w.poke(TSS + 0x24, NOWHERE + 0x1000);
    w.faults(&[0xcd, 0x30], ss(0));
    w.cpu.tr.limit = 0x2a;
    w.faults(&[0xcd, 0x30], ts(code(sel::TSS)));
    let mut w = World::new();
    w.m.absent.insert((STACK0 - 8) >> 12);
    w.faults(&[0xcd, 0x30], Exception::page_fault(PageFaultCode::W, STACK0 - 8));
}

/// EXT is set in what an interrupt meets on its way.
#[test]
fn error_codes_tell_of_external_events() {
    for (gate, vector, error) in [
        (gate(sel::CODE0, HANDLER, 0x0e, 0), 11, 0x30 * 8 + 3),
        (gate(sel::COMPAT0, HANDLER, 0x8e, 0), 13, code(sel::COMPAT0) | 1),
        (gate(0, HANDLER, 0x8e, 0), 13, 1),
        (gate(sel::CODE0, NOWHERE, 0x8e, 0), 13, 1),
    ] {
        let mut w = World::at(At::User);
        w.set_gate(0x30, gate);
        w.deliver(external(0x30));
        assert_eq!((w.cpu.rip, w.top(2)), (HANDLER + vector, vec![error.into(), USER]));
    }
}

#[test]
fn double_and_triple_faults() {
    let mut w = World::at(At::User);
    w.set_gate(13, gate(sel::COMPAT0, HANDLER, 0x8e, 0));
    w.set_gate(8, gate(sel::CODE0, HANDLER + 8, 0x8e, 1));
    assert_eq!(w.deliver(Event::from(gp(0x18))), Delivered::Done);
    assert_eq!((w.cpu.rip, w.rsp()), (HANDLER + 8, (IST1 & !15) - 48));
    assert_eq!(w.top(2), [0, USER]);
    // A page fault whose stack is not there, with the double fault on the same stack.
    let mut w = World::at(At::User);
    w.m.absent.insert((STACK0 - 8) >> 12);
    let fault = Exception::page_fault(PageFaultCode::U, 0x5000);
    assert_eq!(w.deliver(Event::from(fault)), Delivered::Shutdown);
    // With one of its own it is delivered; CR2 is that of the stack.
    let mut w = World::at(At::User);
    w.m.absent.insert((STACK0 - 8) >> 12);
    w.set_gate(8, gate(sel::CODE0, HANDLER + 8, 0x8e, 1));
    assert_eq!(w.deliver(Event::from(fault)), Delivered::Done);
    assert_eq!((w.cpu.rip, w.cpu.cr2), (HANDLER + 8, STACK0 - 8));
}

/// A fault at an address that is not canonical is #GP, with RIP where it is.
#[test]
fn faults_are_delivered_with_rip_in_full() {
    let mut w = World::at(At::User);
    w.cpu.rip = 0x7fff_ffff_ffff;
    w.poke_bytes(0x7fff_ffff_ffff, &[0x90]);
    assert_eq!(rvmm_interp::step(&mut w.cpu, &mut w.m), rvmm_interp::Step::Retired);
    assert_eq!(w.cpu.rip, NOWHERE);
    let mut m = std::mem::replace(&mut w.m, World::new().m);
    assert_eq!(rvmm_interp::step_and_deliver(&mut w.cpu, &mut m), rvmm_interp::Step::Exception(gp(0)));
    w.m = m;
    assert_eq!((w.cpu.rip, w.top(2)), (HANDLER + 13, vec![0, NOWHERE]));
    assert_eq!(Vector::GP.0, 13);
}
