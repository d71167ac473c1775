//! Debug registers: SDM vol. 2 "MOV - Move to/from Debug Registers", vol. 3 §17.2.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::Cr4;
use rvmm_arch::Exception;

const fn to_dr(n: u8) -> [u8; 3] {
    [0x0f, 0x23, 0xc0 | n << 3]
}
const fn from_dr(n: u8) -> [u8; 3] {
    [0x0f, 0x21, 0xc0 | n << 3]
}

#[test]
fn addresses() {
    let mut w = World::new();
    for n in 0..4u8 {
        w.set(RAX, 0x1000 + u32::from(n));
        w.ok(&to_dr(n));
    }
    assert_eq!(w.cpu.dr, [0x1000, 0x1001, 0x1002, 0x1003]);
    assert_eq!(w.m.changes, [Change::DebugRegisters; 4]);
    w.ok(&from_dr(2));
    assert_eq!(w.get(RAX), 0x1002);
}

#[test]
fn reserved_bits() {
    for (n, value, stored) in [
        (6, 0, 0xffff_0ff0u64),
        (6, 0xffff_ffff, 0xffff_efff),
        (6, 0x0000_400f, 0xffff_4fff),
        (7, 0, 0x400),
        (7, 0xffff_dfff, 0xffff_07ff),
        (7, 0x0000_2000, 0x2400),
    ] {
        let mut w = World::new();
        w.set(RAX, value);
        w.ok(&to_dr(n));
        assert_eq!(if n == 6 { w.cpu.dr6 } else { w.cpu.dr7 }, stored, "DR{n} {value:#x}");
    }
}

#[test]
fn dr4_and_dr5() {
    let mut w = World::new();
    w.ok(&from_dr(4));
    assert_eq!(w.get(RAX), 0xffff_0ff0);
    w.ok(&from_dr(5));
    assert_eq!(w.get(RAX), 0x400);
    w.set(RAX, 0x155);
    w.ok(&to_dr(5));
    assert_eq!(w.cpu.dr7, 0x555);
    w.cpu.dr7 = 0x400;
    w.cpu.cr4 |= Cr4::DE;
    for n in [4, 5] {
        w.faults(&from_dr(n), ud());
        w.faults(&to_dr(n), ud());
    }
}

/// General detect: #DB with BD before the access; delivering it clears GD.
#[test]
fn general_detect() {
    let mut w = World::new();
    w.set_gate(1, gate(sel::CODE0, 0x9000, 0x8e, 0));
    w.cpu.dr7 = 0x2400;
    w.faults(&from_dr(0), Exception::debug(1 << 13));
    w.deliver(exception(Exception::debug(1 << 13)));
    assert_eq!((w.cpu.dr6, w.cpu.dr7, w.peek(w.esp())), (0xffff_2ff0, 0x400, CODE));
    w.ok(&from_dr(0));
    // The privilege check comes first.
    let mut w = World::at_ring(3);
    w.cpu.dr7 = 0x2400;
    w.faults(&from_dr(0), gp(0));
}
