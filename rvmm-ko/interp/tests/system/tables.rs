//! Table registers and questions about descriptors: SDM vol. 2 "LGDT/LIDT", "SGDT", "LLDT", "LTR", "LAR", "LSL",
//! "VERR/VERW", "ARPL".

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::segment::{Descriptor, TableRegister};
use rvmm_arch::{Exception, Vector};

#[test]
fn lgdt_lidt() {
    for (code, base, change, gdt) in [
        (&[0x0f, 0x01, 0x13][..], 0x8765_4321, Change::Gdtr, true),
        (&[0x0f, 0x01, 0x1b][..], 0x8765_4321, Change::Idtr, false),
        // 16-bit operand: 24 bits of base.
        (&[0x66, 0x0f, 0x01, 0x13][..], 0x65_4321, Change::Gdtr, true),
        (&[0x66, 0x0f, 0x01, 0x1b][..], 0x65_4321, Change::Idtr, false),
    ] {
        let mut w = World::new();
        w.set(RBX, DATA);
        w.poke(DATA, 0x4321_01ff);
        w.poke(DATA + 4, 0x8765);
        w.ok(code);
        let table = if gdt { w.cpu.gdtr } else { w.cpu.idtr };
        assert_eq!(table, TableRegister { base, limit: 0x1ff });
        assert_eq!(w.m.changes, [change]);
    }
    // The base on a page that is not there: nothing is loaded.
    let mut w = World::new();
    w.m.pages.insert(u64::from(DATA + 0x1000) >> 12, Page::NotPresent);
    w.set(RBX, DATA + 0xffc);
    let at = u64::from(DATA) + 0x1000;
    w.faults(&[0x0f, 0x01, 0x13], Exception { vector: Vector::PF, error: Some(0), payload: at });
}

#[test]
fn sgdt_sidt() {
    for ring in [0, 3] {
        for prefix in [&[][..], &[0x66][..]] {
            let mut w = World::at_ring(ring);
            w.cpu.gdtr = TableRegister { base: 0xfedc_1000, limit: 0x7f };
            w.cpu.gdtr.base = u64::from(GDT) | 0x8000_0000;
            w.set(RBX, DATA);
            w.poke(DATA + 4, 0xffff_ffff);
            w.ok(&[prefix, &[0x0f, 0x01, 0x03][..]].concat());
            // All 32 bits of the base, and six bytes.
            assert_eq!((w.peek(DATA), w.peek(DATA + 4)), (0x1000_007f, 0xffff_8000));
            w.ok(&[prefix, &[0x0f, 0x01, 0x0b][..]].concat());
            assert_eq!((w.peek(DATA), w.peek(DATA + 4)), (IDT << 16 | 0x7ff, 0xffff_0000));
        }
    }
    // Across a page that cannot be written: nothing is.
    let mut w = World::new();
    w.m.pages.insert(u64::from(DATA + 0x1000) >> 12, Page::ReadOnly);
    w.set(RBX, DATA + 0xffc);
    let at = u64::from(DATA) + 0x1000;
    w.faults(&[0x0f, 0x01, 0x03], Exception { vector: Vector::PF, error: Some(3), payload: at });
    assert_eq!(w.peek(DATA + 0xffc), 0);
}

/// With CR4.UMIP they are #GP(0) outside CPL 0.
#[test]
fn umip() {
    for code in
        [&[0x0f, 0x01, 0x03][..], &[0x0f, 0x01, 0x0b], &[0x0f, 0x00, 0xc0], &[0x0f, 0x00, 0xc8], &[0x0f, 0x01, 0xe0]]
    {
        for ring in [0, 1, 3] {
            let mut w = World::at_ring(ring);
            w.set(RBX, DATA);
            w.ok(code);
            w.ring(ring);
            w.set(RBX, DATA);
            w.cpu.cr4 |= Cr4::UMIP;
            if ring == 0 {
                w.ok(code);
            } else {
                w.faults(code, gp(0));
            }
        }
    }
}

const LLDT_AX: [u8; 3] = [0x0f, 0x00, 0xd0];
const LTR_AX: [u8; 3] = [0x0f, 0x00, 0xd8];

#[test]
fn lldt() {
    for (selector, expected) in [
        (0xc, gp(0xc)),
        (sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (sel::DATA0, gp(code(sel::DATA0))),
        (sel::TSS2, gp(code(sel::TSS2))),
        (sel::FREE, np(code(sel::FREE))),
    ] {
        let mut w = World::new();
        w.set_desc(sel::FREE, desc(LDT, 0xf, 0x02, 0));
        w.set(RAX, selector.into());
        w.faults(&LLDT_AX, expected);
    }
    let mut w = World::new();
    w.set_desc(sel::FREE, desc(DATA, 0x17, 0x82, 0));
    w.set(RAX, (sel::FREE | 3).into());
    w.ok(&LLDT_AX);
    assert_eq!((w.cpu.ldtr.selector.0, w.cpu.ldtr.base, w.cpu.ldtr.limit), (sel::FREE | 3, DATA.into(), 0x17));
    w.set(RAX, 0);
    w.ok(&LLDT_AX);
    assert!(!w.cpu.ldtr.usable());
    assert_eq!(w.m.changes, [Change::Ldtr, Change::Ldtr]);
}

#[test]
fn ltr() {
    for (selector, expected) in [
        (0, gp(0)),
        (0xc, gp(0xc)),
        (sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (sel::DATA0, gp(code(sel::DATA0))),
        (sel::LDT, gp(code(sel::LDT))),
        // Busy.
        (sel::TSS, gp(code(sel::TSS))),
        (sel::FREE, np(code(sel::FREE))),
    ] {
        let mut w = World::new();
        w.set_desc(sel::FREE, desc(DATA, 0x67, 0x09, 0));
        w.set(RAX, selector.into());
        w.faults(&LTR_AX, expected);
    }
    let mut w = World::new();
    w.set(RAX, sel::TSS2.into());
    w.ok(&LTR_AX);
    assert_eq!(
        (w.cpu.tr.selector.0, w.cpu.tr.base, w.cpu.tr.limit, w.cpu.tr.attrs),
        (sel::TSS2, DATA.into(), 0x67, 0x8b)
    );
    assert_ne!(w.desc(sel::TSS2) & Descriptor::BUSY, 0);
    assert_eq!(w.m.changes, [Change::Tr]);
}

#[test]
fn sldt_str() {
    let mut w = World::at_ring(3);
    w.set(RAX, 0xffff_ffff);
    w.ok(&[0x0f, 0x00, 0xc0]);
    assert_eq!(w.get(RAX), sel::LDT.into());
    w.set(RAX, 0xffff_ffff);
    w.ok(&[0x66, 0x0f, 0x00, 0xc8]);
    assert_eq!(w.get(RAX), 0xffff_0000 | u32::from(sel::TSS));
    w.set(RBX, DATA);
    w.poke(DATA, 0xffff_ffff);
    w.ok(&[0x0f, 0x00, 0x0b]);
    assert_eq!(w.peek(DATA), 0xffff_0000 | u32::from(sel::TSS));
}

/// LAR and LSL of each system type: SDM vol. 2 tables 3-53 and 3-59.
#[test]
fn lar_lsl_types() {
    for kind in 0..16u8 {
        let mut w = World::new();
        w.set_desc(sel::FREE, desc(0x1234_5678, 0xa_bcde, 0x80 | kind, 0xd));
        w.set(RCX, sel::FREE.into());
        w.set(RAX, 0x5555_5555);
        let lar = matches!(kind, 1..=5 | 9 | 11 | 12);
        w.ok(&[0x0f, 0x02, 0xc1]);
        assert_eq!(w.flags().contains(Rflags::ZF), lar, "LAR of type {kind}");
        assert_eq!(w.get(RAX), if lar { 0x00d0_8000 | u32::from(kind) << 8 } else { 0x5555_5555 });
        w.set(RAX, 0x5555_5555);
        let lsl = matches!(kind, 1..=3 | 9 | 11);
        w.ok(&[0x0f, 0x03, 0xc1]);
        assert_eq!(w.flags().contains(Rflags::ZF), lsl, "LSL of type {kind}");
        assert_eq!(w.get(RAX), if lsl { 0xabcd_efff } else { 0x5555_5555 });
    }
}

/// What LAR, LSL, VERR and VERW say of segments: ring, selector, visible, readable, writable.
#[test]
fn rights() {
    for (ring, selector, visible, readable, writable) in [
        (0, 0, false, false, false),
        (0, 3, false, false, false),
        (0, sel::OUTSIDE, false, false, false),
        (0, 0x14, false, false, false),
        (0, sel::DATA0, true, true, true),
        (0, sel::DATA0 | 3, false, false, false),
        (3, sel::DATA0, false, false, false),
        (3, sel::DATA3 & !3, true, true, true),
        (0, sel::DATA3, true, true, true),
        (0, sel::RODATA0, true, true, false),
        (0, sel::CODE0, true, true, false),
        (0, sel::XCODE0, true, false, false),
        (3, sel::CONF0 | 3, true, true, false),
        // Not present does not matter.
        (0, sel::DATA0_NP, true, true, true),
        (0, sel::TSS, true, false, false),
        (3, sel::TSS, false, false, false),
    ] {
        let mut w = World::at_ring(ring);
        w.set(RCX, 0xffff_0000 | u32::from(selector));
        for (code, expected) in [
            (&[0x0f, 0x02, 0xc1][..], visible),
            (&[0x0f, 0x03, 0xc1][..], visible),
            (&[0x0f, 0x00, 0xe1][..], readable),
            (&[0x0f, 0x00, 0xe9][..], writable),
        ] {
            for zf in [false, true] {
                w.cpu.rflags.set(Rflags::ZF, zf);
                w.ok(code);
                assert_eq!(w.flags().contains(Rflags::ZF), expected, "{selector:#x} at ring {ring}: {code:02x?}");
            }
        }
    }
}

#[test]
fn lar_sizes() {
    let mut w = World::new();
    w.set(RCX, sel::CODE3.into());
    w.set(RAX, 0xffff_ffff);
    w.ok(&[0x66, 0x0f, 0x02, 0xc1]);
    assert_eq!(w.get(RAX), 0xffff_fb00);
    w.ok(&[0x0f, 0x02, 0xc1]);
    assert_eq!(w.get(RAX), 0x00c0_fb00);
    // From memory: 16 bits.
    w.poke(DATA, 0xffff_0000 | u32::from(sel::SHORT_DATA0));
    w.set(RBX, DATA);
    w.ok(&[0x0f, 0x03, 0x03]);
    assert_eq!(w.get(RAX), 0xff);
}

#[test]
fn arpl() {
    for (dest, source, result, zf) in
        [(0x10u16, 0x3u16, 0x13u16, true), (0x13, 0x3, 0x13, false), (0x13, 0, 0x13, false), (0x11, 0xfffe, 0x12, true)]
    {
        let mut w = World::at_ring(3);
        w.set(RAX, 0xabcd_0000 | u32::from(dest));
        w.set(RCX, source.into());
        w.ok(&[0x63, 0xc8]);
        assert_eq!((w.get(RAX), w.flags().contains(Rflags::ZF)), (0xabcd_0000 | u32::from(result), zf));
    }
    let mut w = World::at_ring(3);
    w.set(RBX, DATA);
    w.poke(DATA, 0x5555_0020);
    w.set(RCX, 2);
    w.ok(&[0x63, 0x0b]);
    assert_eq!(w.peek(DATA), 0x5555_0022);
}
