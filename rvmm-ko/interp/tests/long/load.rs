//! Segment registers loaded, stored and used: SDM vol. 2 "MOV", "POP", "LFS", vol. 3 §5.4.1.

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::vcpu::InterruptShadow;

/// MOV Sreg, AX.
fn mov(reg: SegReg) -> [u8; 2] {
    [0x8e, 0xc0 | (reg as u8) << 3]
}

#[test]
fn null_selectors() {
    for at in [At::Kernel, At::User, At::Kernel32, At::User32] {
        for reg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            let mut w = World::at(at);
            w.cpu.segment_mut(reg).base = 0x1234;
            w.cpu.gpr[RAX] = 3;
            w.ok(&mov(reg));
            assert_eq!(*w.cpu.segment(reg), Segment::null(Selector(3)));
        }
    }
    // SS: 64-bit code of rings 0 to 2, with its own RPL.
    for (at, selector, fine) in [
        (At::Kernel, 0, true),
        (At::Kernel, 1, false),
        (At::Kernel, 3, false),
        (At::User, 3, false),
        (At::Kernel32, 0, false),
        (At::User32, 3, false),
    ] {
        let mut w = World::at(at);
        w.cpu.gpr[RAX] = selector;
        if fine {
            w.ok(&mov(SegReg::Ss));
            assert_eq!(*w.cpu.segment(SegReg::Ss), Segment::null(Selector(0)));
            assert_eq!(w.cpu.shadow, InterruptShadow::MovSs);
        } else {
            w.faults(&mov(SegReg::Ss), gp(0));
        }
    }
}

#[test]
fn descriptors_are_loaded_and_checked() {
    let mut w = World::new();
    w.set_system(sel::FREE, [desc(0x8765_4321, 0xfffff, 0xf2, 0xc), 0]);
    w.cpu.gpr[RAX] = sel::FREE.into();
    w.ok(&mov(SegReg::Fs));
    assert_eq!(w.cpu.segment(SegReg::Fs).base, 0x8765_4321);
    // The accessed bit is set in memory.
    assert_eq!(w.peek(GDT + u64::from(sel::FREE)) >> 40 & 0xff, 0xf3);
    for (at, reg, selector, expected) in [
        (At::Kernel, SegReg::Ds, sel::TSS, gp(code(sel::TSS))),
        (At::Kernel, SegReg::Ds, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (At::User, SegReg::Es, sel::DATA0, gp(code(sel::DATA0))),
        (At::User, SegReg::Gs, sel::DATA3_NP, np(code(sel::DATA3_NP))),
        (At::User, SegReg::Ss, sel::DATA0, gp(code(sel::DATA0))),
        (At::User, SegReg::Ss, sel::DATA3_NP, ss(code(sel::DATA3_NP))),
        (At::Kernel, SegReg::Ss, sel::CODE0, gp(code(sel::CODE0))),
        (At::Kernel, SegReg::Cs, sel::CODE0, ud()),
    ] {
        let mut w = World::at(at);
        w.cpu.gpr[RAX] = selector.into();
        w.faults(&mov(reg), expected);
    }
}

/// Neither rights nor limits nor bases of DS, ES, SS and CS act in 64-bit mode; the bases of FS and GS do.
#[test]
fn segments_in_use() {
    let mut w = World::new();
    for reg in SegReg::ALL {
        if reg != SegReg::Cs {
            *w.cpu.segment_mut(reg) = Segment { base: DATA, ..Segment::null(Selector(0)) };
        }
    }
    w.poke(DATA + 0x20, 0x1111);
    w.poke(DATA + 0x120, 0x2222);
    w.cpu.gpr[RBX] = DATA + 0x20;
    for prefix in [0x26, 0x2e, 0x36, 0x3e] {
        w.ok(&[prefix, 0x48, 0x8b, 0x03]);
        assert_eq!(w.cpu.gpr[RAX], 0x1111);
    }
    w.cpu.gpr[RBX] = 0x120;
    for prefix in [0x64, 0x65] {
        w.cpu.gpr[RAX] = 0;
        w.ok(&[prefix, 0x48, 0x8b, 0x03]);
        assert_eq!(w.cpu.gpr[RAX], 0x2222);
    }
    // Address-size prefix: the offset is cut before the base is added.
    w.cpu.gpr[RBX] = 0xffff_ffff_0000_0120;
    w.cpu.gpr[RAX] = 0;
    w.ok(&[0x65, 0x67, 0x48, 0x8b, 0x03]);
    assert_eq!(w.cpu.gpr[RAX], 0x2222);
    w.ok(&[0x50]);
    // In compatibility mode they do.
    let mut w = World::at(At::User32);
    *w.cpu.segment_mut(SegReg::Ds) = Segment::null(Selector(0));
    w.faults(&[0x8b, 0x03], gp(0));
    w.force(SegReg::Ds, sel::SHORT3);
    w.cpu.gpr[RBX] = 0xffd;
    w.faults(&[0x8b, 0x03], gp(0));
}

/// #SS where the stack's registers are the base, whatever the prefix; #GP elsewhere.
#[test]
fn addresses_that_are_not_canonical() {
    for (bytes, expected) in [
        (&[0x48, 0x8b, 0x03][..], gp(0)),
        (&[0x36, 0x48, 0x8b, 0x03], gp(0)),
        (&[0x64, 0x48, 0x8b, 0x03], gp(0)),
        (&[0x48, 0x8b, 0x45, 0x00], ss(0)),
        (&[0x3e, 0x48, 0x8b, 0x45, 0x00], ss(0)),
        (&[0x64, 0x48, 0x8b, 0x45, 0x00], gp(0)),
        (&[0x48, 0x8b, 0x04, 0x24], ss(0)),
        (&[0x50], ss(0)),
        (&[0x58], ss(0)),
        (&[0xc9], ss(0)),
        (&[0xc3], ss(0)),
        (&[0xe8, 0, 0, 0, 0], ss(0)),
        (&[0xa4], gp(0)),
        (&[0x48, 0xa1, 0, 0, 0, 0, 0, 0, 1, 0], gp(0)),
    ] {
        let mut w = World::new();
        for reg in [RBX, RBP, RSP, RSI] {
            w.cpu.gpr[reg] = NOWHERE + 0x1000;
        }
        w.faults(bytes, expected);
    }
    // The last byte counts.
    let mut w = World::new();
    w.cpu.gpr[RBX] = NOWHERE - 7;
    w.faults(&[0x48, 0x8b, 0x03], gp(0));
    w.cpu.gpr[RBX] = NOWHERE - 8;
    w.ok(&[0x48, 0x8b, 0x03]);
}

#[test]
fn far_pointers() {
    let mut w = World::new();
    w.cpu.gpr[RBX] = DATA;
    w.poke(DATA, 0x1122_3344_5566_7788);
    w.poke(DATA + 8, sel::DATA3.into());
    // LGS RAX, m16:64.
    w.ok(&[0x48, 0x0f, 0xb5, 0x03]);
    assert_eq!((w.cpu.gpr[RAX], w.selector(SegReg::Gs)), (0x1122_3344_5566_7788, sel::DATA3));
    // LFS EAX, m16:32.
    w.poke(DATA + 4, sel::DATA3.into());
    w.ok(&[0x0f, 0xb4, 0x03]);
    assert_eq!((w.cpu.gpr[RAX], w.selector(SegReg::Fs)), (0x5566_7788, sel::DATA3));
    // LSS RSP, m16:64.
    w.poke(DATA, STACK0 - 0x100);
    w.poke(DATA + 8, sel::DATA0.into());
    w.ok(&[0x48, 0x0f, 0xb2, 0x23]);
    assert_eq!(w.place(), (0, sel::CODE0, w.cpu.rip, sel::DATA0, STACK0 - 0x100));
}

#[test]
fn pushed_and_popped() {
    let mut w = World::at(At::User);
    w.ok(&[0x0f, 0xa0]);
    assert_eq!((w.rsp(), w.peek(w.rsp())), (USER_STACK - 8, sel::DATA3.into()));
    w.poke(w.rsp(), 0xffff_ffff_ffff_0003);
    w.ok(&[0x0f, 0xa9]);
    assert_eq!((w.rsp(), w.selector(SegReg::Gs)), (USER_STACK, 3));
    // MOV r64, Sreg and MOV m16, Sreg.
    w.cpu.gpr[RAX] = u64::MAX;
    w.ok(&[0x48, 0x8c, 0xd0]);
    assert_eq!(w.cpu.gpr[RAX], sel::DATA3.into());
    w.cpu.gpr[RBX] = DATA;
    w.poke(DATA, u64::MAX);
    w.ok(&[0x48, 0x8c, 0x13]);
    assert_eq!(w.peek(DATA), 0xffff_ffff_ffff_0000 | u64::from(sel::DATA3));
    // The others are gone.
    for opcode in [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f] {
        w.faults(&[opcode], ud());
    }
}
