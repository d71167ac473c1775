//! GDTR, IDTR, LDTR, TR; LAR, LSL, VERR, VERW; MOVSXD where ARPL was. SDM vol. 2, vol. 3 §3.5.2 and §7.2.3.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::Segment;
use rvmm_arch::segment::Selector;

#[test]
fn lgdt_and_sgdt() {
    let mut w = World::new();
    w.cpu.gpr[RBX] = DATA;
    w.poke(DATA, 0x8000_1234_5678_1fff);
    w.poke(DATA + 8, 0xffff);
    w.ok(&[0x0f, 0x01, 0x1b]);
    assert_eq!((w.cpu.idtr.base, w.cpu.idtr.limit), (0xffff_8000_1234_5678, 0x1fff));
    assert_eq!(w.m.changes, [Change::Idtr]);
    // The operand size does not matter.
    w.ok(&[0x66, 0x0f, 0x01, 0x13]);
    assert_eq!(w.cpu.gdtr.base, 0xffff_8000_1234_5678);
    w.poke(DATA + 8, 0xfffe);
    w.faults(&[0x0f, 0x01, 0x13], gp(0));
    let mut w = World::new();
    w.cpu.gpr[RBX] = DATA;
    w.poke(DATA + 8, u64::MAX);
    w.ok(&[0x0f, 0x01, 0x03]);
    assert_eq!((w.peek(DATA), w.peek(DATA + 8)), (GDT << 16 | u64::from(sel::OUTSIDE - 1), 0xffff_ffff_ffff_ffff));
    // In compatibility mode there are 32 bits.
    let mut w = World::at(At::Kernel32);
    w.cpu.gpr[RBX] = 0xf001_8000;
    w.poke(DATA, 0);
    w.ok(&[0x0f, 0x01, 0x03]);
    assert_eq!(w.peek(DATA), (GDT & 0xffff_ffff) << 16 | u64::from(sel::OUTSIDE - 1));
    w.ok(&[0x0f, 0x01, 0x13]);
    assert_eq!(w.cpu.gdtr.base, GDT & 0xffff_ffff);
}

#[test]
fn ltr_and_lldt() {
    for at in [At::Kernel, At::Kernel32] {
        let mut w = World::at(at);
        w.cpu.gpr[RAX] = sel::TSS2.into();
        w.ok(&[0x0f, 0x00, 0xd8]);
        assert_eq!(w.cpu.tr, Segment { selector: Selector(sel::TSS2), base: DATA, limit: 0x67, attrs: 0x8b });
        assert_eq!(w.peek(GDT + u64::from(sel::TSS2)) >> 40 & 0xff, 0x8b);
        w.cpu.gpr[RAX] = sel::LDT.into();
        w.ok(&[0x0f, 0x00, 0xd0]);
        assert_eq!(w.cpu.ldtr, Segment { selector: Selector(sel::LDT), base: LDT, limit: 0xff, attrs: 0x82 });
        w.cpu.gpr[RAX] = 0;
        w.ok(&[0x0f, 0x00, 0xd0]);
        assert!(!w.cpu.ldtr.usable());
    }
    let this = code(sel::FREE);
    for (ltr, [low, high], expected) in [
        (true, system(DATA, 0x67, 0x8b), gp(this)),
        (true, system(DATA, 0x67, 0x81), gp(this)),
        (true, system(DATA, 0x67, 0x09), np(this)),
        (true, system(NOWHERE, 0x67, 0x89), gp(this)),
        (false, system(DATA, 0x67, 0x89), gp(this)),
        (false, system(DATA, 0x67, 0x02), np(this)),
        (false, system(NOWHERE, 0x67, 0x82), gp(this)),
    ] {
        let mut w = World::new();
        w.set_system(sel::FREE, [low, high]);
        w.cpu.gpr[RAX] = sel::FREE.into();
        w.faults(&[0x0f, 0x00, if ltr { 0xd8 } else { 0xd0 }], expected);
        assert_eq!(w.peek(GDT + u64::from(sel::FREE)), low);
    }
    for (opcode, kind) in [(0xd8, 0x89), (0xd0, 0x82)] {
        let mut w = World::new();
        let [low, high] = system(DATA, 0x67, kind);
        w.set_system(sel::FREE, [low, high | 1 << 40]);
        w.cpu.gpr[RAX] = sel::FREE.into();
        w.faults(&[0x0f, 0x00, opcode], gp(this));
        w.set_system(sel::FREE, [low, high]);
        w.cpu.gdtr.limit -= 1;
        w.faults(&[0x0f, 0x00, opcode], gp(this));
    }
}

#[test]
fn stores() {
    let mut w = World::new();
    w.cpu.gpr[RAX] = u64::MAX;
    w.ok(&[0x48, 0x0f, 0x00, 0xc8]);
    assert_eq!(w.cpu.gpr[RAX], sel::TSS.into());
    w.cpu.gpr[RAX] = u64::MAX;
    w.ok(&[0x0f, 0x00, 0xc0]);
    assert_eq!(w.cpu.gpr[RAX], sel::LDT.into());
    w.ok(&[0x48, 0x0f, 0x01, 0xe0]);
    assert_eq!(w.cpu.gpr[RAX], w.cpu.cr0.bits());
}

/// Which types LAR and LSL know (SDM vol. 2 tables 3-53 and 3-58).
#[test]
fn lar_and_lsl() {
    for at in [At::Kernel, At::Kernel32] {
        for kind in 0..16u8 {
            let mut w = World::at(at);
            w.set_system(sel::FREE, system(DATA, 0x1234, 0x80 | kind));
            w.cpu.gpr[RAX] = sel::FREE.into();
            for (opcode, known) in [(0x02, matches!(kind, 2 | 9 | 11 | 12)), (0x03, matches!(kind, 2 | 9 | 11))] {
                w.cpu.gpr[RCX] = 0x5555;
                w.ok(&[0x0f, opcode, 0xc8]);
                assert_eq!(w.cpu.rflags.contains(Rflags::ZF), known, "type {kind} {opcode}");
                let value = if opcode == 2 { 0x8000 | u64::from(kind) << 8 } else { 0x1234 };
                assert_eq!(w.cpu.gpr[RCX], if known { value } else { 0x5555 });
            }
        }
    }
    // REX.W; the L bit shows.
    let mut w = World::new();
    w.cpu.gpr[RAX] = sel::CODE0.into();
    w.cpu.gpr[RCX] = u64::MAX;
    w.ok(&[0x48, 0x0f, 0x02, 0xc8]);
    assert_eq!(w.cpu.gpr[RCX], 0xa0_9b00);
    w.ok(&[0x0f, 0x00, 0xe0]);
    assert!(w.cpu.rflags.contains(Rflags::ZF));
    w.ok(&[0x0f, 0x00, 0xe8]);
    assert!(!w.cpu.rflags.contains(Rflags::ZF));
}

#[test]
fn movsxd() {
    let mut w = World::new();
    w.cpu.gpr[RCX] = 0x1_8000_0000;
    w.ok(&[0x48, 0x63, 0xc1]);
    assert_eq!(w.cpu.gpr[RAX], 0xffff_ffff_8000_0000);
    w.ok(&[0x63, 0xc1]);
    assert_eq!(w.cpu.gpr[RAX], 0x8000_0000);
}
