//! Port I/O: SDM vol. 1 §19.5, vol. 2 "IN", "OUT", "INS", "OUTS".

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, Vector};
use rvmm_interp::Step;

#[test]
fn sizes() {
    for (code, input, expected) in [
        (&[0xe4, 0x60][..], 0x12, 0xffff_ff12),
        (&[0x66, 0xe5, 0x60][..], 0x1234, 0xffff_1234),
        (&[0xe5, 0x60][..], 0x1234_5678, 0x1234_5678),
        (&[0xec][..], 0x12, 0xffff_ff12),
        (&[0x66, 0xed][..], 0x1234, 0xffff_1234),
        (&[0xed][..], 0x1234_5678, 0x1234_5678),
    ] {
        let mut w = World::new();
        w.set(RAX, 0xffff_ffff);
        w.m.inputs = vec![input];
        w.ok(code);
        assert_eq!(w.get(RAX), expected);
    }
    for (code, expected) in [
        (&[0xe6, 0x60][..], (0x60, 1, 0x78)),
        (&[0x66, 0xe7, 0x60][..], (0x60, 2, 0x5678)),
        (&[0xe7, 0x60][..], (0x60, 4, 0x1234_5678)),
        (&[0xee][..], (0xcf8, 1, 0x78)),
        (&[0x66, 0xef][..], (0xcf8, 2, 0x5678)),
        (&[0xef][..], (0xcf8, 4, 0x1234_5678)),
    ] {
        let mut w = World::new();
        w.set(RAX, 0x1234_5678);
        w.set(RDX, 0xffff_0cf8);
        w.ok(code);
        assert_eq!(w.m.outputs, Some(vec![expected]));
    }
}

/// Nothing has happened until the client has answered.
#[test]
fn waits_for_the_client() {
    let rep_insb = [0xf3, 0x6c];
    for code in [&[0xe4, 0x60][..], &[0xee], &rep_insb, &[0x6e]] {
        let mut w = World::new();
        w.m.outputs = None;
        w.set(RCX, 2);
        w.set(RDI, DATA);
        w.set(RSI, DATA);
        let before = w.cpu.clone();
        assert_eq!(w.run(code), Step::IoPending, "{code:02x?}");
        assert_eq!(w.cpu, before);
        assert_eq!(w.peek(DATA), 0);
        w.m.outputs = Some(vec![]);
        w.m.inputs = vec![0x55];
        assert_eq!(w.run(code), Step::Retired);
    }
}

/// A world at ring 3 with a 32-bit TSS of `limit` whose I/O map starts at 0x68 and allows everything but port 0x61.
fn with_map(limit: u32) -> World {
    let mut w = World::at_ring(3);
    w.cpu.tr.limit = limit;
    w.poke_bytes(TSS + 0x66, &0x68u16.to_le_bytes());
    w.poke_bytes(TSS + 0x68 + 0x61 / 8, &[1 << (0x61 % 8)]);
    w.m.inputs = vec![0; 4];
    w
}

/// REP with a count of 0 moves nothing, but asks whether it might.
#[test]
fn rep_of_nothing_needs_permission() {
    for code in [[0xf3, 0x6c], [0xf2, 0x6e]] {
        for (port, outcome) in [(0x60, Step::Retired), (0x61, Step::Exception(Exception::gp(0)))] {
            let mut w = with_map(0x68 + 0x2000);
            w.set(RCX, 0);
            w.set(RDX, port);
            assert_eq!(w.run(&code), outcome, "{code:02x?} at {port:#x}");
        }
    }
}

#[test]
fn permission_bitmap() {
    // IN AL / AX / EAX at a port near the forbidden one.
    for (size, port, allowed) in [
        (1, 0x60, true),
        (1, 0x61, false),
        (1, 0x62, true),
        (2, 0x60, false),
        (2, 0x61, false),
        (2, 0x62, true),
        (4, 0x5d, true),
        (4, 0x5e, false),
        (4, 0x61, false),
        (4, 0x62, true),
    ] {
        let code = match size {
            1 => vec![0xe4, port],
            2 => vec![0x66, 0xe5, port],
            _ => vec![0xe5, port],
        };
        let mut w = with_map(0x68 + 0x20);
        if allowed {
            w.ok(&code);
        } else {
            w.faults(&code, gp(0));
        }
    }
    // Both bytes of the map must lie within the limit: port 0x60 is in byte 0x68 + 12.
    with_map(0x68 + 13).ok(&[0xe4, 0x60]);
    with_map(0x68 + 12).faults(&[0xe4, 0x60], gp(0));
    // A TSS too short to have a map base, and a 16-bit one.
    with_map(0x66).faults(&[0xe4, 0x60], gp(0));
    let mut w = with_map(0x100);
    w.cpu.tr.attrs = 0x83;
    w.faults(&[0xe4, 0x60], gp(0));
    // IOPL, and ring 0, do without.
    let mut w = with_map(0x67);
    w.iopl(3);
    w.ok(&[0xe4, 0x61]);
    let mut w = with_map(0x67);
    w.iopl(1);
    w.ring(1);
    w.ok(&[0xe4, 0x61]);
    let mut w = with_map(0x67);
    w.iopl(0);
    w.ring(1);
    w.faults(&[0xe4, 0x61], gp(0));
}

#[test]
fn strings() {
    // REP INSW: one iteration a step, RIP and ECX in step.
    let mut w = World::new();
    w.set(RCX, 2);
    w.set(RDX, 0x1f0);
    w.set(RDI, DATA);
    w.m.inputs = vec![0x2222, 0x1111];
    let rep_insw = [0xf3, 0x66, 0x6d];
    w.ok(&rep_insw);
    assert_eq!((w.get(RCX), w.get(RDI), w.eip(), w.peek16(DATA)), (1, DATA + 2, CODE, 0x1111));
    w.ok(&rep_insw);
    assert_eq!((w.get(RCX), w.get(RDI), w.eip()), (0, DATA + 4, CODE + 3));
    assert_eq!(w.peek(DATA), 0x2222_1111);
    // Count 0: nothing, not even the port.
    let mut w = World::new();
    w.set(RDI, DATA);
    w.ok(&rep_insw);
    assert_eq!((w.eip(), w.get(RDI)), (CODE + 3, DATA));

    // OUTSD backwards from ES.
    let mut w = World::new();
    w.cpu.rflags |= Rflags::DF;
    w.set(RSI, DATA);
    w.set(RDX, 0x1f0);
    w.poke(DATA, 0xcafe_f00d);
    w.ok(&[0x26, 0x6f]);
    assert_eq!(w.m.outputs, Some(vec![(0x1f0, 4, 0xcafe_f00d)]));
    assert_eq!(w.get(RSI), DATA - 4);
    // 16-bit addresses: only DI moves.
    let mut w = World::new();
    w.set(RDI, 0x1234_ffff);
    w.m.inputs = vec![0x77];
    w.ok(&[0x67, 0x6c]);
    assert_eq!((w.get(RDI), w.m.ram[0xffff]), (0x1234_0000, 0x77));
}

/// The destination of INS is checked before the port is read, the port's permission before that.
#[test]
fn ins_faults_before_the_port_is_read() {
    let mut w = World::new();
    w.set(RDI, DATA);
    w.m.inputs = vec![0x77];
    w.m.pages.insert(u64::from(DATA) >> 12, Page::ReadOnly);
    w.faults(&[0x6c], Exception { vector: Vector::PF, error: Some(3), payload: DATA.into() });
    assert_eq!(w.m.inputs.len(), 1);
    *w.cpu.segment_mut(SegReg::Es) = Segment::null(Selector(0));
    w.faults(&[0x6c], gp(0));
    // ES cannot be overridden.
    w.faults(&[0x3e, 0x6c], gp(0));
    let mut w = World::at_ring(3);
    w.set(RDI, DATA);
    w.m.pages.insert(u64::from(DATA) >> 12, Page::ReadOnly);
    w.faults(&[0x6c], gp(0));
}

/// I/O breakpoints, with CR4.DE only (SDM vol. 3 §17.2.4).
#[test]
fn breakpoints() {
    for (de, hit) in [(true, true), (false, false)] {
        let mut w = World::new();
        w.cpu.dr = [0x60, 0, 0, 0];
        w.cpu.dr7 = 0x400 | 1 | 2 << 16;
        if de {
            w.cpu.cr4 |= Cr4::DE;
        }
        let got = w.run(&[0xe6, 0x60]);
        assert_eq!(got, if hit { Step::Exception(Exception::debug(1)) } else { Step::Retired });
        assert_eq!((w.eip(), w.m.outputs.as_ref().map(Vec::len)), (CODE + 2, Some(1)));
    }
}
