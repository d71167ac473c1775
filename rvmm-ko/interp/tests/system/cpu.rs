//! CPUID, time, HLT, INVLPG and the features that exist only where CPUID announces them.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::vcpu::Activity;
use rvmm_arch::{Exception, Gva, Vector};
use rvmm_interp::{Step, Unsupported};

#[test]
fn cpuid() {
    let mut w = World::at_ring(3);
    w.m.cpuid.insert(7, [1, 2, 3, 4]);
    w.set(RAX, 7);
    w.ok(&[0x0f, 0xa2]);
    assert_eq!([w.get(RAX), w.get(RBX), w.get(RCX), w.get(RDX)], [1, 2, 3, 4]);
}

#[test]
fn time() {
    for (ring, tsd, fine) in [(0, false, true), (3, false, true), (0, true, true), (3, true, false), (1, true, false)] {
        let mut w = World::at_ring(ring);
        w.announce(0x8000_0001, 3, 27);
        w.m.tsc = 0x1234_5678_9abc;
        w.cpu.tsc_offset = 4;
        w.cpu.msrs.tsc_aux = 0x77;
        w.cpu.cr4.set(Cr4::TSD, tsd);
        for code in [&[0x0f, 0x31][..], &[0x0f, 0x01, 0xf9]] {
            if fine {
                w.ok(code);
                assert_eq!((w.get(RDX), w.get(RAX)), (0x1234, 0x5678_9ac0));
            } else {
                w.faults(code, gp(0));
            }
        }
        if fine {
            assert_eq!(w.get(RCX), 0x77);
        }
    }
    World::new().faults(&[0x0f, 0x01, 0xf9], ud());
    // RDPMC: no counters.
    for ring in [0, 3] {
        World::at_ring(ring).faults(&[0x0f, 0x33], gp(0));
    }
}

#[test]
fn hlt() {
    let mut w = World::new();
    assert_eq!(w.run(&[0xf4]), Step::Halted);
    assert_eq!((w.cpu.activity, w.eip()), (Activity::Halted, CODE + 1));
}

#[test]
fn translations_and_caches() {
    let mut w = World::new();
    // INVLPG [EBX], beyond every limit of its segment.
    w.force(rvmm_arch::segment::SegReg::Ds, sel::SHORT_DATA0);
    w.set(RBX, 0xc123_4567);
    w.ok(&[0x0f, 0x01, 0x3b]);
    assert_eq!(w.m.changes, [Change::Invlpg(Gva(0xc123_4567))]);
    w.m.changes.clear();
    for code in [&[0x0f, 0x08][..], &[0x0f, 0x09], &[0xf3, 0x0f, 0x09]] {
        w.ok(code);
    }
    assert_eq!(w.m.changes, [Change::CacheFlush; 3]);
}

#[test]
fn access_control_flag() {
    World::new().faults(&[0x0f, 0x01, 0xcb], ud());
    let mut w = World::new();
    w.announce(7, 1, 20);
    w.ok(&[0x0f, 0x01, 0xcb]);
    assert!(w.flags().contains(Rflags::AC));
    w.ok(&[0x0f, 0x01, 0xca]);
    assert!(!w.flags().contains(Rflags::AC));
    w.ring(3);
    w.faults(&[0x0f, 0x01, 0xcb], ud());
}

#[test]
fn xcr0() {
    const XGETBV: [u8; 3] = [0x0f, 0x01, 0xd0];
    const XSETBV: [u8; 3] = [0x0f, 0x01, 0xd1];
    for code in [XGETBV, XSETBV, [0x0f, 0xae, 0x23], [0x0f, 0xae, 0x2b]] {
        World::new().faults(&code, ud());
    }
    let world = |ring| {
        let mut w = World::at_ring(ring);
        w.cpu.cr4 |= Cr4::OSXSAVE;
        w.m.cpuid.insert(0xd, [7, 0, 0, 0]);
        w
    };
    let mut w = world(3);
    w.ok(&XGETBV);
    assert_eq!((w.get(RDX), w.get(RAX)), (0, 1));
    w.set(RCX, 2);
    w.faults(&XGETBV, gp(0));
    w.set(RCX, 0);
    w.faults(&XSETBV, gp(0));
    for (ecx, low, high, fine) in [
        (0, 1, 0, true),
        (0, 3, 0, true),
        (0, 7, 0, true),
        // Without x87; AVX without SSE; not supported; another register.
        (0, 2, 0, false),
        (0, 5, 0, false),
        (0, 0x17, 0, false),
        (0, 1, 1, false),
        (1, 1, 0, false),
    ] {
        let mut w = world(0);
        w.set(RCX, ecx);
        w.set(RAX, low);
        w.set(RDX, high);
        if fine {
            w.ok(&XSETBV);
            assert_eq!(w.cpu.xcr0, low.into());
        } else {
            w.faults(&XSETBV, gp(0));
        }
    }
    // XSAVES and XRSTORS are not announced.
    for ring in [0, 3] {
        world(ring).faults(&[0x0f, 0xc7, 0x2b], ud());
        world(ring).faults(&[0x0f, 0xc7, 0x1b], ud());
    }
    // XSAVE: lazy FPU first, then the CPU.
    let mut w = world(0);
    w.cpu.cr0 |= Cr0::TS;
    w.faults(&[0x0f, 0xae, 0x23], Exception::new(Vector::NM));
    w.cpu.cr0.remove(Cr0::TS);
    assert_eq!(w.run(&[0x0f, 0xae, 0x23]), Step::Unsupported(Unsupported::StateSave));
}

/// #UD at every ring: extensions that no control register or CPUID bit enables here.
#[test]
fn never_there() {
    for code in [
        &[0x0f, 0xaa][..],               // RSM
        &[0x0f, 0x01, 0xc1],             // VMCALL
        &[0x0f, 0x01, 0xc2],             // VMLAUNCH
        &[0x0f, 0x01, 0xc4],             // VMXOFF
        &[0x0f, 0x78, 0xc0],             // VMREAD
        &[0x0f, 0x01, 0xd8],             // VMRUN
        &[0x0f, 0x01, 0xd9],             // VMMCALL
        &[0x0f, 0x01, 0xdd],             // CLGI
        &[0x0f, 0x37],                   // GETSEC
        &[0x0f, 0x01, 0xc8],             // MONITOR
        &[0x0f, 0x01, 0xc9],             // MWAIT
        &[0x0f, 0x01, 0xee],             // RDPKRU
        &[0x0f, 0x01, 0xef],             // WRPKRU
        &[0x66, 0x0f, 0x38, 0x82, 0x03], // INVPCID
        &[0x0f, 0xc7, 0xf0],             // RDRAND
        &[0x0f, 0xc7, 0xf8],             // RDSEED
        &[0xf3, 0x0f, 0xc7, 0xf8],       // RDPID
        &[0x0f, 0x0b],                   // UD2
        &[0x0f, 0x24, 0xc0],             // MOV EAX, TR0
        &[0x0f, 0x01, 0xcf],             // ENCLS
    ] {
        for ring in [0, 3] {
            World::at_ring(ring).faults(code, ud());
        }
    }
}

/// Announced ones that any program may run are left to the CPU; privileged ones are refused.
#[test]
fn announced() {
    let mut w = World::at_ring(3);
    w.announce(1, 2, 30);
    assert_eq!(w.run(&[0x0f, 0xc7, 0xf0]), Step::Unsupported(Unsupported::Extension));
    w.announce(7, 2, 22);
    w.cpu.msrs.tsc_aux = 5;
    w.ok(&[0xf3, 0x0f, 0xc7, 0xf8]);
    assert_eq!(w.get(RAX), 5);
    let mut w = World::new();
    w.announce(1, 2, 3);
    assert_eq!(w.run(&[0x0f, 0x01, 0xc8]), Step::Unsupported(Unsupported::Privileged));
    w.ring(3);
    w.faults(&[0x0f, 0x01, 0xc8], ud());
}
