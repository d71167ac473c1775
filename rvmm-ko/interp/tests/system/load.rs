//! MOV Sreg, POP Sreg, LDS and its kin: SDM vol. 2 "MOV", "POP", "LDS/LES/LFS/LGS/LSS".

use crate::world::*;
use rvmm_arch::machine::Privilege;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::segment::SegReg;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, Vector};

const MOV_SS_AX: [u8; 2] = [0x8e, 0xd0];
const MOV_DS_AX: [u8; 2] = [0x8e, 0xd8];
const MOV_FS_AX: [u8; 2] = [0x8e, 0xe0];

#[test]
fn ss_rules() {
    // Ring, selector, fault.
    for (ring, selector, expected) in [
        (0, 0, gp(0)),
        (0, 3, gp(0)),
        (0, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (0, sel::DATA0 | 1, gp(code(sel::DATA0))),
        (0, sel::DATA3, gp(code(sel::DATA3))),
        (0, sel::DATA3 & !3, gp(code(sel::DATA3))),
        (3, sel::DATA0 | 3, gp(code(sel::DATA0))),
        (0, sel::CODE0, gp(code(sel::CODE0))),
        (0, sel::RODATA0, gp(code(sel::RODATA0))),
        (0, sel::TSS, gp(code(sel::TSS))),
        (0, sel::DATA0_NP, ss(code(sel::DATA0_NP))),
        (3, sel::DATA3_NP, ss(code(sel::DATA3_NP))),
    ] {
        let mut w = World::at_ring(ring);
        w.set(RAX, selector.into());
        w.faults(&MOV_SS_AX, expected);
    }
    let mut w = World::new();
    w.set(RAX, sel::STACK16.into());
    w.ok(&MOV_SS_AX);
    assert_eq!(w.selector(SegReg::Ss), sel::STACK16);
    assert!(!w.cpu.segment(SegReg::Ss).db());
    assert_eq!(w.cpu.segment(SegReg::Ss).limit, 0xffff);
}

#[test]
fn data_rules() {
    for (ring, selector, expected) in [
        (0, sel::OUTSIDE, gp(code(sel::OUTSIDE))),
        (0, sel::TSS, gp(code(sel::TSS))),
        (0, sel::XCODE0, gp(code(sel::XCODE0))),
        (3, sel::DATA0, gp(code(sel::DATA0))),
        (0, sel::DATA0 | 3, gp(code(sel::DATA0))),
        (3, sel::CODE0, gp(code(sel::CODE0))),
        (0, sel::DATA0_NP, np(code(sel::DATA0_NP))),
        (0, sel::CODE0_NP, np(code(sel::CODE0_NP))),
        // The LDT has two entries.
        (0, 0x14, gp(0x14)),
    ] {
        for op in [MOV_DS_AX, MOV_FS_AX] {
            let mut w = World::at_ring(ring);
            w.set(RAX, selector.into());
            w.faults(&op, expected);
        }
    }
    // Allowed: null of any RPL, lesser privileged data, readable code, conforming code at any privilege.
    for (ring, selector) in [
        (0, 0),
        (3, 3),
        (0, sel::DATA3),
        (0, sel::DATA3 & !3),
        (3, sel::DATA3 & !3),
        (0, sel::CODE0),
        (3, sel::CONF0 | 3),
        (0, sel::RODATA0),
        (1, sel::DATA1 & !3),
    ] {
        let mut w = World::at_ring(ring);
        w.set(RAX, selector.into());
        w.ok(&MOV_DS_AX);
        assert_eq!(w.selector(SegReg::Ds), selector);
        assert_eq!(w.cpu.segment(SegReg::Ds).usable(), selector > 3);
        assert_eq!(w.cpu.shadow, InterruptShadow::None);
    }
}

#[test]
fn through_the_ldt() {
    let mut w = World::new();
    w.set_desc(0xc, desc(0x1_2345, 0x10, 0x92, 0));
    w.set(RAX, 0xc);
    w.ok(&MOV_DS_AX);
    let ds = w.cpu.segment(SegReg::Ds);
    assert_eq!((ds.selector.0, ds.base, ds.limit), (0xc, 0x1_2345, 0x10));
    // Accessed bit set in the hidden part and in memory.
    assert_eq!(ds.attrs & 1, 1);
    assert_eq!(w.desc(0xc), desc(0x1_2345, 0x10, 0x93, 0));
    // No LDT: outside the limit.
    w.cpu.ldtr = rvmm_arch::segment::Segment::null(rvmm_arch::segment::Selector(0));
    w.faults(&MOV_DS_AX, gp(0xc));
}

#[test]
fn tables_are_read_with_implicit_rights() {
    let mut w = World::at_ring(3);
    w.m.pages.insert(u64::from(GDT) >> 12, Page::SupervisorOnly);
    w.set_desc(sel::FREE, desc(0, 0xffff, 0xf2, 0));
    w.set(RAX, u32::from(sel::FREE) | 3);
    w.ok(&MOV_DS_AX);
    let table: Vec<_> = w.m.accesses.iter().filter(|(la, _)| la >> 12 == u64::from(GDT) >> 12).collect();
    assert!(!table.is_empty());
    assert!(table.iter().all(|(_, a)| a.privilege == Privilege::Implicit));
}

#[test]
fn a_read_only_table_faults_where_the_accessed_bit_is_clear() {
    let mut w = World::new();
    w.m.pages.insert(u64::from(GDT) >> 12, Page::ReadOnly);
    w.set(RAX, sel::DATA3.into());
    w.ok(&MOV_DS_AX);
    w.set_desc(sel::FREE, desc(0, 0xffff, 0x92, 0));
    w.set(RAX, sel::FREE.into());
    let at = u64::from(GDT) + u64::from(sel::FREE) + 5;
    w.faults(&MOV_DS_AX, Exception { vector: Vector::PF, error: Some(3), payload: at });
}

#[test]
fn cs_cannot_be_moved_to() {
    let mut w = World::new();
    w.faults(&[0x8e, 0xc8], ud());
}

/// SDM vol. 2 "MOV": interrupts wait after MOV SS and POP SS, but not after a second one in a row.
#[test]
fn shadow() {
    let mut w = World::new();
    w.set(RAX, sel::DATA0.into());
    w.ok(&MOV_SS_AX);
    assert_eq!(w.cpu.shadow, InterruptShadow::MovSs);
    w.ok(&MOV_SS_AX);
    assert_eq!(w.cpu.shadow, InterruptShadow::None);
    w.push(4, &[sel::DATA0.into()]);
    w.ok(&[0x17]);
    assert_eq!(w.cpu.shadow, InterruptShadow::MovSs);
    w.ok(&[0x90]);
    assert_eq!(w.cpu.shadow, InterruptShadow::None);
}

#[test]
fn pop_sizes() {
    // POP ES, 32 bits: four bytes, the upper two are not looked at.
    let mut w = World::new();
    w.push(4, &[0xdead_0000 | u32::from(sel::DATA3)]);
    w.ok(&[0x07]);
    assert_eq!((w.selector(SegReg::Es), w.esp()), (sel::DATA3, STACK0));
    // POP GS with an operand-size prefix: two.
    let mut w = World::new();
    w.push(2, &[0]);
    w.ok(&[0x66, 0x0f, 0xa9]);
    assert_eq!((w.selector(SegReg::Gs), w.esp()), (0, STACK0));
    // A load that faults leaves ESP.
    let mut w = World::new();
    w.push(4, &[sel::OUTSIDE.into()]);
    w.faults(&[0x1f], gp(code(sel::OUTSIDE)));
    // The stack itself ends.
    let mut w = World::new();
    w.force(SegReg::Ss, sel::SHORT_DATA0);
    w.set_esp(0xfe);
    w.faults(&[0x1f], ss(0));
}

/// POP SS to a 16-bit stack moves all of ESP, as the stack was 32 bits wide when it was popped.
#[test]
fn pop_ss_uses_the_old_stack_size() {
    let mut w = World::new();
    w.set_esp(0x1_fffc);
    w.poke(0x1_fffc, sel::STACK16.into());
    w.ok(&[0x17]);
    assert_eq!((w.selector(SegReg::Ss), w.esp()), (sel::STACK16, 0x2_0000));
}

#[test]
fn far_pointers() {
    // LES EBX, [DATA]
    let mut w = World::new();
    w.poke(DATA, 0x1234_5678);
    w.poke(DATA + 4, sel::DATA3.into());
    let mut lea = vec![0xc4, 0x1d];
    lea.extend(DATA.to_le_bytes());
    w.ok(&lea);
    assert_eq!((w.selector(SegReg::Es), w.get(RBX)), (sel::DATA3, 0x1234_5678));
    // 16 bits: offset and selector next to each other; the upper half of EBX stays.
    let mut w = World::new();
    w.set(RBX, 0xffff_ffff);
    w.poke(DATA, u32::from(sel::DATA3) << 16 | 0x1111);
    let mut lfs = vec![0x66, 0x0f, 0xb4, 0x1d];
    lfs.extend(DATA.to_le_bytes());
    w.ok(&lfs);
    assert_eq!((w.selector(SegReg::Fs), w.get(RBX)), (sel::DATA3, 0xffff_1111));
    // LSS: no interrupt shadow; and a bad selector leaves the register.
    let mut w = World::new();
    w.poke(DATA, 0x9000);
    w.poke(DATA + 4, sel::DATA0.into());
    let mut lss = vec![0x0f, 0xb2, 0x25];
    lss.extend(DATA.to_le_bytes());
    w.ok(&lss);
    assert_eq!((w.esp(), w.cpu.shadow), (0x9000, InterruptShadow::None));
    w.poke(DATA + 4, 0);
    w.faults(&lss, gp(0));
    // The selector on a page that is not there.
    let mut w = World::new();
    w.m.pages.insert(u64::from(DATA + 0x1000) >> 12, Page::NotPresent);
    let at = DATA + 0xffc;
    let mut lds = vec![0xc5, 0x05];
    lds.extend(at.to_le_bytes());
    w.faults(&lds, Exception { vector: Vector::PF, error: Some(0), payload: u64::from(at + 4) });
}
