//! Virtual 8086 mode: SDM vol. 3 chapter 21, vol. 2 "IRET", "INT n", "PUSHF", "POPF", "CLI", "STI".

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::Exception;
use rvmm_interp::Step;

/// Segments of 8086 code: code at linear 0x8000, stack with its top at linear 0x14000.
const CS: u16 = 0x0800;
const SS: u16 = 0x1000;
const SP: u32 = 0x4000;
/// What ring 3 in [`World`] has as the TSS's stack of ring 0.
const RING0: (u16, u32) = (sel::DATA0, STACK0);

/// Ring 0, and the frame of a return to virtual 8086 mode at `ip`, with `flags` besides VM.
fn returning(ip: u32, flags: u32) -> World {
    let mut w = World::new();
    w.cpu.nmi_blocked = true;
    w.push(4, &[0x4444, 0x3333, 0x2222, 0x1111, SS.into(), SP, flags | 0x2_0000, CS.into(), ip]);
    w
}

/// 8086 code, IOPL as given.
fn world(iopl: u32) -> World {
    let mut w = returning(0, iopl << 12 | 0x202);
    w.ok(&[0xcf]);
    w
}

fn vme(iopl: u32, flags: Rflags) -> World {
    let mut w = world(iopl);
    w.cpu.cr4 |= Cr4::VME;
    w.cpu.rflags |= flags;
    // The bitmaps: redirection at 0x68, all ones but vector 0x21; that of ports behind it, all open.
    w.cpu.tr.limit = 0x200;
    w.poke(TSS + 0x64, 0x88 << 16);
    w.poke_bytes(TSS + 0x68, &[0xff; 32]);
    w.poke_bytes(TSS + 0x68 + 4, &[0xfd]);
    w.poke(0x21 * 4, 0x0900_0077);
    w
}

fn sp(w: &World) -> u32 {
    w.esp() & 0xffff
}

/// The word `n` above the top of the 8086 stack.
fn word(w: &World, n: u32) -> u16 {
    w.peek16(u32::from(SS) * 16 + sp(w) + n * 2)
}

#[test]
fn entry_by_iret() {
    let w = world(3);
    assert_eq!((w.cpu.mode(), w.cpu.cpl, w.eip(), w.esp()), (CpuMode::Virtual8086, 3, 0, SP));
    let selectors: Vec<_> = SegReg::ALL.iter().map(|&r| w.selector(r)).collect();
    assert_eq!(selectors, [0x1111, CS, SS, 0x2222, 0x3333, 0x4444]);
    for reg in SegReg::ALL {
        let s = w.cpu.segment(reg);
        assert_eq!((s.base, s.limit, s.attrs), (u64::from(s.selector.0) * 16, 0xffff, 0xf3));
    }
    assert_eq!((w.flags().bits(), w.cpu.nmi_blocked), (0x2_3202, false));
    // All flags are loaded.
    let mut w = returning(0x1234, 0x3f_7fd7 & !0x4100);
    w.ok(&[0xcf]);
    assert_eq!((w.flags().bits(), w.eip()), (0x3f_7fd7 & !0x4100, 0x1234));
    // An instruction pointer beyond the limit; a frame that is not there; VM means nothing to a 16-bit IRET nor outside ring 0.
    let mut w = returning(0x1_0000, 0);
    assert_eq!(w.run(&[0xcf]), Step::Exception(gp(0)));
    let mut w = returning(0, 0);
    w.m.pages.insert(u64::from(STACK0 - 1) >> 12, Page::NotPresent);
    assert!(matches!(w.run(&[0xcf]), Step::Exception(e) if e.vector.0 == 14));
    let mut w = World::at_ring(3);
    w.push(4, &[0x2_0202, sel::CODE3.into(), 0x9000]);
    w.ok(&[0xcf]);
    assert_eq!(w.cpu.mode(), CpuMode::Protected);
}

/// Segment loads and far transfers are those of real mode, with limits of 64 KiB.
#[test]
fn segments_are_shifted() {
    let mut w = world(0);
    w.set(RAX, 0x1_2345);
    w.ok(&[0x8e, 0xd8]);
    let ds = *w.cpu.segment(SegReg::Ds);
    assert_eq!((ds.selector.0, ds.base, ds.limit, ds.attrs), (0x2345, 0x2_3450, 0xffff, 0xf3));
    // CALL 0900:0010 and RETF.
    w.ok(&[0x9a, 0x10, 0, 0, 9]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), sp(&w)), (0x900, 0x10, SP - 4));
    assert_eq!((word(&w, 0), word(&w, 1)), (2 + 5, CS));
    w.ok(&[0xcb]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), sp(&w), w.cpu.cpl), (CS, 7, SP, 3));
    w.ok(&[0xea, 0, 0, 0, 8]);
    assert_eq!(w.cpu.segment(SegReg::Cs).attrs, 0xf3);
    // Words that do not fit into 64 KiB: #GP, or #SS on the stack.
    w.faults(&[0xa1, 0xff, 0xff], gp(0));
    w.set(RBP, 0xffff);
    w.faults(&[0x8b, 0x46, 0], ss(0));
    // 32-bit offsets beyond it.
    w.set(RBX, 0x1_0000);
    w.faults(&[0x67, 0x8a, 0x03], gp(0));
    // Instructions of protected mode do not exist; those of ring 0 fault.
    for code in [&[0x0f, 0x00, 0xc0][..], &[0x0f, 0x02, 0xc0], &[0x63, 0xc0]] {
        w.faults(code, ud());
    }
    for code in [&[0xf4][..], &[0x0f, 0x01, 0xf0], &[0x0f, 0x20, 0xc0], &[0x0f, 0x06]] {
        w.faults(code, gp(0));
    }
}

/// The instructions that depend on IOPL, without CR4.VME.
#[test]
fn iopl() {
    for code in
        [&[0xfa][..], &[0xfb], &[0x9c], &[0x9d], &[0xcf], &[0x66, 0x9c], &[0x66, 0x9d], &[0x66, 0xcf], &[0xcd, 0x21]]
    {
        for iopl in 0..3 {
            world(iopl).faults(code, gp(0));
        }
    }
    let mut w = world(3);
    w.ok(&[0xfa]);
    assert!(!w.flags().contains(Rflags::IF));
    w.ok(&[0x9c]);
    assert_eq!(word(&w, 0), 0x3002);
    w.ok(&[0x66, 0x9c]);
    assert_eq!((word(&w, 0), word(&w, 1)), (0x3002, 0));
    // POPF loads IF, but neither IOPL nor VM, VIF and VIP.
    w.push_words(&[0x0ed7 & !0x100]);
    w.ok(&[0x9d]);
    assert_eq!(w.flags().bits(), 0x2_3ed7 & !0x100);
    w.push_words(&[0x003c, 0]);
    w.ok(&[0x66, 0x9d]);
    assert_eq!(w.flags().bits(), 0x26_3002);
}

#[test]
fn iret_inside() {
    let mut w = world(3);
    w.cpu.nmi_blocked = true;
    // NT means nothing here.
    w.cpu.rflags |= Rflags::NT;
    w.push_words(&[0x0046, 0x0900, 0x0055]);
    w.ok(&[0xcf]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), sp(&w), w.cpu.nmi_blocked), (0x900, 0x55, SP, false));
    assert_eq!(w.flags().bits(), 0x2_3046);
    // 32 bits: what lies above IP and CS.
    let mut w = world(3);
    w.push_words(&[0x003f, 0x0202, 0xdead, 0x0900, 0, 0x0055]);
    w.ok(&[0x66, 0xcf]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), w.flags().bits()), (0x900, 0x55, 0x27_3202));
    let mut w = world(3);
    w.push_words(&[0, 0x0202, 0, 0x0900, 1, 0x0055]);
    w.faults(&[0x66, 0xcf], gp(0));
}

/// With CR4.VME and IOPL below 3, VIF stands for IF.
#[test]
fn vme_flags() {
    let mut w = vme(0, Rflags::empty());
    w.ok(&[0xfb]);
    assert_eq!(w.flags().bits(), 0xa_0202);
    w.ok(&[0x9c]);
    assert_eq!(word(&w, 0), 0x3202);
    w.ok(&[0xfa]);
    w.ok(&[0x9c]);
    assert_eq!((word(&w, 0), w.flags().bits()), (0x3002, 0x2_0202));
    w.push_words(&[0x0246]);
    w.ok(&[0x9d]);
    assert_eq!(w.flags().bits(), 0xa_0246);
    w.push_words(&[0x7046, 0x0900, 0x0055]);
    w.ok(&[0xcf]);
    assert_eq!((w.flags().bits(), w.eip(), w.selector(SegReg::Cs)), (0x2_4246, 0x55, 0x900));
    // The 32-bit forms do not have it; TF may not be set, nor VIF while VIP is.
    for code in [&[0x66, 0x9c][..], &[0x66, 0x9d], &[0x66, 0xcf]] {
        vme(2, Rflags::empty()).faults(code, gp(0));
    }
    for code in [0x9d, 0xcf] {
        for (vip, image, faults) in [
            (Rflags::empty(), 0x0102, true),
            (Rflags::VIP, 0x0202, true),
            (Rflags::VIP, 0x0002, false),
            (Rflags::empty(), 0x0202, false),
        ] {
            let mut w = vme(0, vip);
            w.push_words(&if code == 0x9d { [0, 0, image] } else { [image, CS, 0] });
            if faults {
                w.faults(&[code], gp(0));
            } else {
                w.ok(&[code]);
            }
        }
    }
    vme(0, Rflags::VIP).faults(&[0xfb], gp(0));
    // With IOPL 3 it is IF, as without.
    let mut w = vme(3, Rflags::empty());
    w.ok(&[0xfa]);
    assert_eq!(w.flags().bits(), 0x2_3002);
}

/// INT n by IOPL, CR4.VME and the redirection bitmap: the six methods of SDM vol. 3 table 21-2.
#[test]
fn software_interrupts() {
    let gate32 = gate(sel::CODE0, 0x9000, 0xee, 0);
    // 1: to ring 0.
    let mut w = world(3);
    w.set_gate(0x21, gate32);
    w.ok(&[0xcd, 0x21]);
    assert_eq!((w.cpu.cpl, w.eip(), w.cpu.mode()), (0, 0x9000, CpuMode::Protected));
    // … by a gate that ring 3 may use.
    let mut w = world(3);
    w.set_gate(0x21, gate(sel::CODE0, 0x9000, 0x8e, 0));
    w.faults(&[0xcd, 0x21], gp(0x21 * 8 + 2));
    // 3 and 4: the bit is set.
    let mut w = vme(0, Rflags::empty());
    w.faults(&[0xcd, 0x22], gp(0));
    let mut w = vme(3, Rflags::empty());
    w.set_gate(0x22, gate32);
    w.ok(&[0xcd, 0x22]);
    assert_eq!((w.cpu.cpl, w.eip()), (0, 0x9000));
    // 5: to the program's own handler.
    let mut w = vme(3, Rflags::CF);
    w.ok(&[0xcd, 0x21]);
    assert_eq!((w.cpu.mode(), w.selector(SegReg::Cs), w.eip(), sp(&w)), (CpuMode::Virtual8086, 0x900, 0x77, SP - 6));
    assert_eq!((word(&w, 0), word(&w, 1), word(&w, 2), w.flags().bits()), (2, CS, 0x3203, 0x2_3003));
    // 6: the same with VIF.
    let mut w = vme(0, Rflags::VIF | Rflags::NT);
    w.cpu.rflags.remove(Rflags::IF);
    w.ok(&[0xcd, 0x21]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), word(&w, 2)), (0x900, 0x77, 0x7202));
    assert_eq!(w.flags().bits(), 0x2_4002);
    // A TSS without a bitmap.
    let mut w = vme(3, Rflags::empty());
    w.cpu.tr.limit = 0x6b;
    w.faults(&[0xcd, 0x21], gp(0));
    let mut w = vme(3, Rflags::empty());
    w.cpu.tr.attrs = 0x83;
    w.faults(&[0xcd, 0x21], gp(0));
    // The stack is full: nothing has changed.
    let mut w = vme(3, Rflags::empty());
    w.set_esp(5);
    w.faults(&[0xcd, 0x21], ss(0));
}

/// INT3, INTO and INT1 look neither at IOPL nor at the bitmap.
#[test]
fn int3_into_int1() {
    for (vector, code) in [(3u8, &[0xcc][..]), (4, &[0xce]), (1, &[0xf1])] {
        for iopl in [0, 3] {
            let mut w = vme(iopl, Rflags::OF);
            w.poke_bytes(TSS + 0x68, &[0]);
            w.set_gate(vector, gate(sel::CODE0, 0x9000, 0xee, 0));
            w.ok(code);
            assert_eq!((w.cpu.cpl, w.eip(), w.peek(w.esp())), (0, 0x9000, 1));
        }
    }
    let mut w = world(0);
    w.set_gate(3, gate(sel::CODE0, 0x9000, 0x8e, 0));
    w.faults(&[0xcc], gp(3 * 8 + 2));
}

/// Events: SS:ESP of ring 0, all segments pushed and then null.
#[test]
fn events() {
    for trap in [false, true] {
        let mut w = world(0);
        w.set_esp(0xabcd_4000);
        w.cpu.rflags |= Rflags::NT | Rflags::TF;
        w.set_gate(0x40, gate(sel::CODE0, 0x9000, if trap { 0x8f } else { 0x8e }, 0));
        w.deliver(external(0x40));
        assert_eq!((w.cpu.mode(), w.cpu.cpl, w.eip()), (CpuMode::Protected, 0, 0x9000));
        assert_eq!((w.selector(SegReg::Ss), w.esp()), (RING0.0, RING0.1 - 36));
        let frame: Vec<_> = (0..9).map(|i| w.peek(w.esp() + 4 * i)).collect();
        assert_eq!(frame, [0, CS.into(), 0x2_4302, 0xabcd_4000, SS.into(), 0x1111, 0x2222, 0x3333, 0x4444]);
        for reg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            assert_eq!((w.selector(reg), w.cpu.segment(reg).usable()), (0, false));
        }
        assert_eq!(w.flags().bits(), if trap { 0x202 } else { 2 });
        // And back.
        w.ok(&[0xcf]);
        assert_eq!((w.cpu.mode(), w.selector(SegReg::Gs), w.esp()), (CpuMode::Virtual8086, 0x4444, 0xabcd_4000));
    }
    // With an error code, through a 16-bit gate.
    let mut w = world(0);
    w.set_gate(13, gate(sel::CODE0, 0x9000, 0x86, 0));
    w.deliver(exception(gp(0)));
    let frame: Vec<_> = (0..10).map(|i| w.peek16(w.esp() + 2 * i)).collect();
    assert_eq!(frame, [0, 0, CS, 0x0202, SP as u16, SS, 0x1111, 0x2222, 0x3333, 0x4444]);
    assert_eq!(w.esp(), STACK0 - 20);
}

/// The handler must be code of ring 0 that does not conform.
#[test]
fn handlers_of_other_rings() {
    for selector in [sel::CODE3, sel::CODE1, sel::CONF0, sel::CONF3] {
        let mut w = world(3);
        w.set_gate(0x21, gate(selector, 0x9000, 0xee, 0));
        w.faults(&[0xcd, 0x21], gp(code(selector)));
    }
    let mut w = world(3);
    w.set_gate(0x21, gate(sel::CODE0_NP, 0x9000, 0xee, 0));
    w.faults(&[0xcd, 0x21], np(code(sel::CODE0_NP)));
    // The stack of ring 0.
    let mut w = world(3);
    w.set_gate(0x21, gate(sel::CODE0, 0x9000, 0xee, 0));
    w.poke(TSS + 8, sel::DATA0_NP.into());
    w.faults(&[0xcd, 0x21], ss(code(sel::DATA0_NP)));
}

/// Ports: the bitmap decides whatever IOPL says.
#[test]
fn ports() {
    for iopl in [0, 3] {
        world(iopl).faults(&[0xe6, 0x70], gp(0));
        let mut w = vme(iopl, Rflags::empty());
        w.ok(&[0xe6, 0x70]);
        w.poke_bytes(TSS + 0x88 + 0xe, &[2]);
        w.faults(&[0xe6, 0x71], gp(0));
        w.faults(&[0xe7, 0x70], gp(0));
    }
}

/// SYSENTER leaves the mode.
#[test]
fn sysenter() {
    let mut w = world(0);
    w.cpu.msrs.sysenter_cs = sel::CODE0.into();
    w.cpu.msrs.sysenter_eip = 0x9000;
    w.ok(&[0x0f, 0x34]);
    assert_eq!((w.cpu.mode(), w.cpu.cpl, w.eip()), (CpuMode::Protected, 0, 0x9000));
}

/// A single step, and what a page that is not there says of the access: it is a user's.
#[test]
fn faults_and_traps() {
    let mut w = world(0);
    w.cpu.rflags |= Rflags::TF;
    assert_eq!(w.run(&[0x90]), Step::Exception(Exception::debug(1 << 14)));
    let mut w = world(0);
    w.m.pages.insert(0x22, Page::SupervisorOnly);
    w.faults(&[0xa1, 0, 0], Exception::page_fault(rvmm_arch::PageFaultCode::from_bits_retain(4 | 1), 0x2_2220));
}

/// VIF and VIP at once: no instruction is executed, whatever it is.
#[test]
fn virtual_interrupt_due() {
    let both = Rflags::VIF | Rflags::VIP;
    for (flags, cr4, due) in [(both, Cr4::VME, true), (Rflags::VIP, Cr4::VME, false), (both, Cr4::empty(), false)] {
        for iopl in [0, 3] {
            let mut w = vme(iopl, flags);
            w.cpu.cr4 = w.cpu.cr4 - Cr4::VME | cr4;
            let before = w.cpu.clone();
            let outcome = w.run(&[0x90]);
            assert_eq!(
                outcome,
                if due { Step::Exception(Exception::gp(0)) } else { Step::Retired },
                "{flags:?} {cr4:?}"
            );
            assert_eq!(w.cpu == before, due);
        }
    }
    let mut w = World::at_ring(3);
    w.cpu.rflags |= both;
    assert_eq!(w.run(&[0x90]), Step::Retired);
    w.cpu.cr4 |= Cr4::PVI;
    assert_eq!(w.run(&[0x90]), Step::Exception(Exception::gp(0)));
}
