//! RDMSR and WRMSR: what exists, what may be written. SDM vol. 4; what Linux 6.1 touches without a fault handler.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Efer};
use rvmm_interp::Step;

const RDMSR: [u8; 2] = [0x0f, 0x32];
const WRMSR: [u8; 2] = [0x0f, 0x30];

fn rdmsr(w: &mut World, index: u32) -> Option<u64> {
    w.cpu.rip = CODE.into();
    w.set(RCX, index);
    match w.run(&RDMSR) {
        Step::Retired => Some(u64::from(w.get(RDX)) << 32 | u64::from(w.get(RAX))),
        Step::Exception(e) => {
            assert_eq!(e, gp(0));
            None
        }
        other => panic!("{other:?}"),
    }
}

fn wrmsr(w: &mut World, index: u32, value: u64) -> bool {
    w.cpu.rip = CODE.into();
    w.set(RCX, index);
    w.set(RAX, value as u32);
    w.set(RDX, (value >> 32) as u32);
    match w.run(&WRMSR) {
        Step::Retired => true,
        Step::Exception(e) => {
            assert_eq!(e, gp(0));
            false
        }
        other => panic!("{other:?}"),
    }
}

/// A value written reads back.
fn keeps(w: &mut World, index: u32, value: u64) {
    assert!(wrmsr(w, index, value), "{index:#x} refused {value:#x}");
    assert_eq!(rdmsr(w, index), Some(value), "{index:#x}");
}

fn refuses(w: &mut World, index: u32, value: u64) {
    let before = rdmsr(w, index);
    assert!(!wrmsr(w, index, value), "{index:#x} took {value:#x}");
    assert_eq!(rdmsr(w, index), before);
}

#[test]
fn unknown_ones_fault() {
    let mut w = World::new();
    for index in [0x2, 0x34, 0x48, 0x10a, 0x33f, 0x4000_0000, 0xc000_0102, 0xc001_0015, 0xc001_0055, 0xffff_ffff] {
        assert_eq!(rdmsr(&mut w, index), None, "{index:#x}");
        assert!(!wrmsr(&mut w, index, 0));
    }
    // No MSRs at all on a CPU that announces none.
    w.m.cpuid.insert(1, [0; 4]);
    w.cpu.rip = CODE.into();
    w.faults(&RDMSR, ud());
}

#[test]
fn sysenter() {
    let mut w = World::new();
    keeps(&mut w, 0x174, 0x60);
    keeps(&mut w, 0x175, 0xc100_0000);
    keeps(&mut w, 0x176, 0xc000_1000);
    // A 32-bit CPU has no upper halves.
    assert!(wrmsr(&mut w, 0x175, 0x1234_5678_9abc_def0));
    assert_eq!(rdmsr(&mut w, 0x175), Some(0x9abc_def0));
    // A 64-bit one wants canonical addresses.
    w.announce(0x8000_0001, 3, 29);
    refuses(&mut w, 0x175, 0x1234_5678_9abc_def0);
    keeps(&mut w, 0x176, 0xffff_8000_0000_0000);
}

#[test]
fn tsc() {
    let mut w = World::new();
    assert_eq!(rdmsr(&mut w, 0x10), Some(1_000_000));
    keeps(&mut w, 0x10, 5);
    assert_eq!(w.cpu.tsc_offset, 5u64.wrapping_sub(1_000_000));
    keeps(&mut w, 0x10, 0xffff_ffff_0000_0000);
}

#[test]
fn pat() {
    let mut w = World::new();
    assert_eq!(rdmsr(&mut w, 0x277), Some(0x0007_0406_0007_0406));
    keeps(&mut w, 0x277, 0x0001_0406_0007_0506);
    for bad in [2, 3, 8, 0xff] {
        refuses(&mut w, 0x277, bad << 24);
    }
}

#[test]
fn mtrrs_only_where_announced() {
    let mut w = World::new();
    assert_eq!(rdmsr(&mut w, 0xfe), None);
    assert!(!wrmsr(&mut w, 0x2ff, 0));
    w.announce(1, 3, 12);
    assert_eq!(rdmsr(&mut w, 0xfe), Some(0x508));
    refuses(&mut w, 0xfe, 0x508);
    keeps(&mut w, 0x2ff, 0xc06);
    refuses(&mut w, 0x2ff, 0xc02);
    refuses(&mut w, 0x2ff, 0x1000);
    for (i, index) in (0x250u32..=0x26f).filter(|i| matches!(i, 0x250 | 0x258 | 0x259 | 0x268..=0x26f)).enumerate() {
        keeps(&mut w, index, 0x0606_0606_0606_0600 | [0, 1, 4, 5, 6][i % 5]);
        refuses(&mut w, index, 0x0200);
    }
    // Eleven registers, none on top of another.
    assert_eq!(w.cpu.msrs.mtrr_fixed.iter().filter(|&&v| v >> 8 == 0x06_0606_0606_0606).count(), 11);
    for index in 0x200..0x210 {
        keeps(&mut w, index, 0x2345_6000 | if index % 2 == 0 { 6 } else { 0x800 });
        refuses(&mut w, index, 0x100);
        refuses(&mut w, index, 1 << 32);
    }
    assert_eq!(rdmsr(&mut w, 0x210), None);
    // The width of physical addresses is CPUID's.
    w.m.cpuid.insert(0x8000_0000, [0x8000_0008, 0, 0, 0]);
    w.m.cpuid.insert(0x8000_0008, [41, 0, 0, 0]);
    keeps(&mut w, 0x201, 1 << 40 | 0x800);
}

#[test]
fn efer() {
    let mut w = World::new();
    assert_eq!(rdmsr(&mut w, 0xc000_0080), None);
    w.announce(0x8000_0001, 3, 20);
    keeps(&mut w, 0xc000_0080, 0x800);
    assert_eq!(w.m.changes, [Change::Efer(0)]);
    refuses(&mut w, 0xc000_0080, 1);
    refuses(&mut w, 0xc000_0080, 0x100);
    w.announce(0x8000_0001, 3, 11);
    keeps(&mut w, 0xc000_0080, 0x801);
    // LMA cannot be written, LME not while paging is on.
    w.announce(0x8000_0001, 3, 29);
    assert!(wrmsr(&mut w, 0xc000_0080, 0xd01));
    assert_eq!(w.cpu.efer, Efer::SCE | Efer::LME | Efer::NXE);
    w.cpu.cr0 |= Cr0::PG;
    refuses(&mut w, 0xc000_0080, 1);
}

#[test]
fn as_linux_finds_an_intel_cpu() {
    let mut w = World::new();
    // Platform, microcode revision (written with 0 first), updates without effect.
    assert_eq!(rdmsr(&mut w, 0x17), Some(0));
    assert!(wrmsr(&mut w, 0x8b, 0));
    assert_eq!(rdmsr(&mut w, 0x8b), Some(1 << 32));
    assert!(wrmsr(&mut w, 0x79, 0xc123_4567));
    assert_eq!(rdmsr(&mut w, 0x8b), Some(1 << 32));
    // MISC_ENABLE: fast strings, no BTS, no PEBS.
    assert_eq!(rdmsr(&mut w, 0x1a0), Some(0x1801));
    assert!(wrmsr(&mut w, 0x1a0, 0x40_1800));
    assert_eq!(rdmsr(&mut w, 0x1a0), Some(0x40_1800));
    refuses(&mut w, 0x1a0, 2);
    keeps(&mut w, 0x1d9, 3);
    refuses(&mut w, 0x1d9, 0x40);
    // Only where announced.
    for (index, leaf, bit) in [(0x1b, 1, 9), (0x17a, 1, 14), (0xc000_0103, 0x8000_0001, 27)] {
        assert_eq!(rdmsr(&mut w, index), None, "{index:#x}");
        w.announce(leaf, 3, bit);
        assert!(rdmsr(&mut w, index).is_some(), "{index:#x}");
    }
    keeps(&mut w, 0x1b, 0xfee0_0900);
    refuses(&mut w, 0x1b, 1);
    keeps(&mut w, 0xc000_0103, 0x1234);
    refuses(&mut w, 0xc000_0103, 1 << 32);
    refuses(&mut w, 0x17a, 4);
}

#[test]
fn what_the_guest_need_not_fear_is_the_client_s_to_say() {
    let mut w = World::new();
    w.cpu.msrs.arch_capabilities = 0x21;
    assert_eq!(rdmsr(&mut w, 0x10a), None, "not announced");
    w.announce(7, 3, 29);
    assert_eq!(rdmsr(&mut w, 0x10a), Some(0x21));
    refuses(&mut w, 0x10a, 0x21);
}

#[test]
fn as_linux_finds_an_amd_cpu() {
    let mut w = World::new();
    w.m.cpuid.insert(0, [1, u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"cAMD"), u32::from_le_bytes(*b"enti")]);
    assert_eq!(rdmsr(&mut w, 0x8b), Some(0));
    assert_eq!(rdmsr(&mut w, 0xc001_0010), Some(0));
    assert_eq!(rdmsr(&mut w, 0xc001_0055), Some(0));
    assert_eq!(rdmsr(&mut w, 0xc001_0015), Some(1 << 24));
    assert!(wrmsr(&mut w, 0xc001_0015, 1 << 24 | 1 << 6));
    refuses(&mut w, 0xc001_0015, 1 << 5);
    assert!(wrmsr(&mut w, 0xc001_0020, 0xc123_4567));
    assert_eq!(rdmsr(&mut w, 0x17), None);
    assert_eq!(rdmsr(&mut w, 0x1a0), None);
}
