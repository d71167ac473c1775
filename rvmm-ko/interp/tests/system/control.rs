//! Control registers: SDM vol. 2 "MOV - Move to/from Control Registers", "LMSW", "SMSW", "CLTS", vol. 3 §2.5.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Cr4};

/// MOV CRn, EAX and MOV EAX, CRn.
const fn to_cr(n: u8) -> [u8; 3] {
    [0x0f, 0x22, 0xc0 | n << 3]
}
const fn from_cr(n: u8) -> [u8; 3] {
    [0x0f, 0x20, 0xc0 | n << 3]
}

#[test]
fn registers_that_do_not_exist() {
    for n in [1, 5, 6, 7] {
        for ring in [0, 3] {
            World::at_ring(ring).faults(&to_cr(n), ud());
            World::at_ring(ring).faults(&from_cr(n), ud());
        }
    }
}

#[test]
fn cr0() {
    const BASE: u32 = 0x11;
    for (value, expected) in [
        (BASE, Some(BASE)),
        // ET stays 1, bits that do not exist are ignored.
        (1, Some(BASE)),
        (BASE | 0x1ffa_ffc0, Some(BASE)),
        (BASE | 0x8005_002e, Some(0x8005_003f)),
        // PG without PE; NW without CD.
        (0x8000_0010, None),
        (BASE | 0x2000_0000, None),
        (BASE | 0x6000_0000, Some(BASE | 0x6000_0000)),
        (0x10, Some(0x10)),
    ] {
        let mut w = World::new();
        w.set(RAX, value);
        let old = w.cpu.cr0.bits();
        match expected {
            Some(new) => {
                w.ok(&to_cr(0));
                assert_eq!(w.cpu.cr0.bits(), new.into(), "{value:#x}");
                assert_eq!(w.m.changes, [Change::Cr0(old)]);
            }
            None => {
                w.faults(&to_cr(0), gp(0));
                assert_eq!(w.m.changes, []);
            }
        }
    }
    let mut w = World::new();
    w.ok(&from_cr(0));
    assert_eq!(w.get(RAX), 0x31);
}

#[test]
fn cr2_and_cr3() {
    let mut w = World::new();
    w.set(RAX, 0xfedc_ba98);
    w.ok(&to_cr(2));
    w.ok(&to_cr(3));
    assert_eq!((w.cpu.cr2, w.cpu.cr3), (0xfedc_ba98, 0xfedc_ba98));
    assert_eq!(w.m.changes, [Change::Cr3]);
    w.cpu.cr2 = 0x1234_5678;
    w.ok(&from_cr(2));
    assert_eq!(w.get(RAX), 0x1234_5678);
    w.ok(&from_cr(3));
    assert_eq!(w.get(RAX), 0xfedc_ba98);
}

/// Each bit of CR4 can be set where CPUID announces its feature and is #GP(0) where not; the rest is reserved.
#[test]
fn cr4_follows_cpuid() {
    // Bit of CR4; leaf, register and bit of CPUID. (0, 0, 0): always; none: never.
    let features: [Option<(u32, usize, u32)>; 32] = {
        let mut f = [None; 32];
        for (bit, at) in [
            (0, (1, 3, 1)),
            (1, (1, 3, 1)),
            (2, (1, 3, 4)),
            (3, (1, 3, 2)),
            (4, (1, 3, 3)),
            (5, (1, 3, 6)),
            (6, (1, 3, 7)),
            (7, (1, 3, 13)),
            (9, (1, 3, 24)),
            (10, (1, 3, 25)),
            (11, (7, 2, 2)),
            (12, (7, 2, 16)),
            (16, (7, 1, 0)),
            (18, (1, 2, 26)),
            (20, (7, 1, 7)),
            (21, (7, 1, 20)),
            (22, (7, 2, 3)),
        ] {
            f[bit] = Some(at);
        }
        f
    };
    for (bit, feature) in features.iter().enumerate() {
        let value = 1u32 << bit;
        let mut w = World::new();
        w.m.cpuid.insert(1, [0; 4]);
        w.set(RAX, value);
        if bit == 8 {
            w.ok(&to_cr(4));
            assert_eq!(w.cpu.cr4, Cr4::PCE);
            continue;
        }
        w.faults(&to_cr(4), gp(0));
        let Some((leaf, register, at)) = *feature else {
            continue;
        };
        w.announce(leaf, register, at);
        w.ok(&to_cr(4));
        assert_eq!(w.cpu.cr4.bits(), value.into());
        assert_eq!(w.m.changes, [Change::Cr4(0)]);
        // Clearing needs no announcement.
        w.m.cpuid.insert(1, [0; 4]);
        w.m.cpuid.remove(&7);
        w.set(RAX, 0);
        w.ok(&to_cr(4));
    }
    // PCIDE outside long mode is #GP(0) even where announced.
    let mut w = World::new();
    w.announce(1, 2, 17);
    w.set(RAX, 1 << 17);
    w.faults(&to_cr(4), gp(0));
}

#[test]
fn lmsw_smsw_clts() {
    // LMSW sets PE, MP, EM, TS and clears all but PE.
    let mut w = World::new();
    w.cpu.cr0 |= Cr0::TS | Cr0::WP;
    w.set(RAX, 0xfff2);
    w.ok(&[0x0f, 0x01, 0xf0]);
    assert_eq!(w.cpu.cr0, Cr0::PE | Cr0::MP | Cr0::ET | Cr0::NE | Cr0::WP);
    let mut w = World::new();
    w.poke(DATA, 0xe);
    w.set(RBX, DATA);
    w.ok(&[0x0f, 0x01, 0x33]);
    assert_eq!(w.cpu.cr0.bits() & 0xf, 0xf);

    // SMSW: 32-bit register, 16-bit register, memory; at any CPL.
    let mut w = World::at_ring(3);
    w.cpu.cr0 |= Cr0::PG | Cr0::TS;
    w.ok(&[0x0f, 0x01, 0xe0]);
    assert_eq!(w.get(RAX), 0x8000_0039);
    w.set(RAX, 0xffff_ffff);
    w.ok(&[0x66, 0x0f, 0x01, 0xe0]);
    assert_eq!(w.get(RAX), 0xffff_0039);
    w.set(RBX, DATA);
    w.poke(DATA, 0xffff_ffff);
    w.ok(&[0x0f, 0x01, 0x23]);
    assert_eq!(w.peek(DATA), 0xffff_0039);
    w.cpu.cr4 |= Cr4::UMIP;
    w.faults(&[0x0f, 0x01, 0xe0], gp(0));

    let mut w = World::new();
    w.cpu.cr0 |= Cr0::TS;
    let old = w.cpu.cr0.bits();
    w.ok(&[0x0f, 0x06]);
    assert!(!w.cpu.cr0.contains(Cr0::TS));
    assert_eq!(w.m.changes, [Change::Cr0(old)]);
}
