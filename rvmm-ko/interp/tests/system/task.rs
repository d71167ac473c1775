//! Task switches: SDM vol. 3 §7.2 and §7.3, table 7-1 for the faults of the new task, table 7-2 for busy, NT and link.

use crate::world::*;
use rvmm_arch::machine::Change;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg};
use rvmm_arch::{Exception, PageFaultCode, Vector};
use rvmm_interp::{Delivered, Step};

/// The other task's TSS is at [`DATA`].
const NEW: u32 = DATA;
const NEW_EIP: u32 = 0x9000;
const NEW_ESP: u32 = 0x1_6000;

fn far(op: u8, selector: u16) -> Vec<u8> {
    let mut code = vec![op, 0xff, 0xff, 0xff, 0xff];
    code.extend(selector.to_le_bytes());
    code
}

fn busy(w: &World, selector: u16) -> bool {
    w.desc(selector) & Descriptor::BUSY != 0
}

/// A world with another task that would run in ring 3.
fn world() -> World {
    let mut w = World::new();
    for i in 0..8 {
        w.set(i, 0x1000_0000 + i as u32);
        w.poke(NEW + 0x28 + 4 * i as u32, 0x2000_0000 + i as u32);
    }
    w.set_esp(STACK0);
    w.poke(NEW + 0x1c, 0x77_7000);
    w.poke(NEW + 0x20, NEW_EIP);
    w.poke(NEW + 0x24, 0x246);
    w.poke(NEW + 0x38, NEW_ESP);
    for (i, selector) in
        [sel::DATA3, sel::CODE3, sel::DATA3, sel::DATA3, 0, sel::CONF0, sel::LDT].into_iter().enumerate()
    {
        w.poke(NEW + 0x48 + 4 * i as u32, selector.into());
    }
    w.poke(NEW + 0x64, 0x68 << 16);
    w.cpu.rflags |= Rflags::IF | Rflags::CF;
    w.cpu.dr7 = 0x5ff;
    w
}

fn in_the_new_task(w: &World, flags: u64) {
    assert_eq!((w.cpu.cpl, w.eip(), w.esp()), (3, NEW_EIP, NEW_ESP));
    assert_eq!((w.get(RAX), w.get(RDI)), (0x2000_0000, 0x2000_0007));
    let selectors: Vec<_> = SegReg::ALL.iter().map(|&r| w.selector(r)).collect();
    assert_eq!(selectors, [sel::DATA3, sel::CODE3, sel::DATA3, sel::DATA3, 0, sel::CONF0]);
    assert_eq!(w.cpu.segment(SegReg::Cs).limit, u32::MAX);
    assert!(!w.cpu.segment(SegReg::Fs).usable());
    assert_eq!((w.cpu.tr.selector.0, w.cpu.tr.base, w.cpu.tr.attrs), (sel::TSS2, NEW.into(), 0x8b));
    assert_eq!(w.cpu.ldtr.selector.0, sel::LDT);
    assert_eq!(w.flags().bits(), flags);
    assert!(w.cpu.cr0.contains(Cr0::TS));
    assert_eq!(w.cpu.dr7, 0x4aa);
}

fn saved(w: &World, eip: u32, flags: u32) {
    assert_eq!((w.peek(TSS + 0x20), w.peek(TSS + 0x24)), (eip, flags));
    for i in [0u32, 1, 2, 3, 5, 6, 7] {
        assert_eq!(w.peek(TSS + 0x28 + 4 * i), 0x1000_0000 + i);
    }
    assert_eq!(w.peek(TSS + 0x38), STACK0);
    for (i, selector) in [sel::DATA0, sel::CODE0, sel::DATA0, sel::DATA0, sel::DATA0, sel::DATA0].iter().enumerate() {
        assert_eq!(w.peek(TSS + 0x48 + 4 * i as u32), u32::from(*selector));
    }
}

#[test]
fn jump() {
    let mut w = world();
    w.ok(&far(0xea, sel::TSS2));
    in_the_new_task(&w, 0x246);
    saved(&w, CODE + 7, 0x203);
    assert_eq!((busy(&w, sel::TSS), busy(&w, sel::TSS2), w.peek16(NEW)), (false, true, 0));
    // Paging is off: CR3 stays.
    assert_eq!(w.cpu.cr3, 0);
    assert!(w.m.changes.contains(&Change::Tr) && w.m.changes.contains(&Change::Ldtr));
    assert!(!w.m.changes.contains(&Change::Cr3));
}

#[test]
fn call_and_return() {
    let mut w = world();
    w.cpu.cr0 |= Cr0::PG;
    w.ok(&far(0x9a, sel::TSS2));
    in_the_new_task(&w, 0x4246);
    saved(&w, CODE + 7, 0x203);
    assert_eq!((busy(&w, sel::TSS), busy(&w, sel::TSS2), w.peek16(NEW)), (true, true, sel::TSS));
    assert_eq!(w.cpu.cr3, 0x77_7000);

    w.ok(&[0xcf]);
    assert_eq!((w.cpu.cpl, w.eip(), w.esp(), w.selector(SegReg::Cs)), (0, CODE + 7, STACK0, sel::CODE0));
    assert_eq!(w.flags().bits(), 0x203);
    assert_eq!(w.cpu.tr.selector.0, sel::TSS);
    assert_eq!((busy(&w, sel::TSS), busy(&w, sel::TSS2)), (true, false));
    // NT is clear in what was saved of the task left.
    assert_eq!((w.peek(NEW + 0x20), w.peek(NEW + 0x24)), (NEW_EIP + 1, 0x246));
}

/// The old task is saved before the new one is loaded (SDM vol. 3 §7.3, steps 6 and 11): seen by a task that returns to itself.
#[test]
fn return_to_itself() {
    let mut w = world();
    w.poke(TSS, sel::TSS.into());
    w.poke(TSS + 0x60, sel::LDT.into());
    w.cpu.rflags |= Rflags::NT;
    w.ok(&[0xcf]);
    assert_eq!((w.cpu.cpl, w.eip(), w.esp(), w.get(RDI)), (0, CODE + 1, STACK0, 0x1000_0007));
    assert_eq!((w.selector(SegReg::Cs), w.selector(SegReg::Ss), w.flags().bits()), (sel::CODE0, sel::DATA0, 0x203));
}

#[test]
fn through_a_task_gate() {
    let mut w = world();
    w.set_desc(sel::FREE, gate(sel::TSS2, 0, 0x85, 0));
    w.ok(&far(0xea, sel::FREE));
    in_the_new_task(&w, 0x246);

    for (gate_raw, expected) in [
        (gate(sel::TSS, 0, 0x85, 0), gp(code(sel::TSS))),
        (gate(sel::DATA0, 0, 0x85, 0), gp(code(sel::DATA0))),
        (gate(sel::OUTSIDE, 0, 0x85, 0), gp(code(sel::OUTSIDE))),
        (gate(0, 0, 0x85, 0), gp(0)),
        (gate(0xc, 0, 0x85, 0), gp(0xc)),
        (gate(sel::FREE2, 0, 0x85, 0), np(code(sel::FREE2))),
        (gate(sel::TSS2, 0, 0x05, 0), np(code(sel::FREE))),
    ] {
        let mut w = world();
        w.set_desc(sel::FREE, gate_raw);
        w.set_desc(sel::FREE2, desc(NEW, 0x67, 0x09, 0));
        w.faults(&far(0xea, sel::FREE), expected);
    }
    // The gate's DPL counts, not that of the TSS.
    let mut w = world();
    w.ring(3);
    w.set_desc(sel::FREE, gate(sel::TSS2, 0, 0x85, 0));
    w.faults(&far(0xea, sel::FREE), gp(code(sel::FREE)));
    w.faults(&far(0xea, sel::TSS2), gp(code(sel::TSS2)));
    w.set_desc(sel::FREE, gate(sel::TSS2, 0, 0xe5, 0));
    w.ok(&far(0xea, sel::FREE));
}

/// #DF through a task gate, as Linux has it: the error code goes to the new task's stack.
#[test]
fn event_with_error_code() {
    let mut w = world();
    w.set_gate(8, gate(sel::TSS2, 0, 0x85, 0));
    assert_eq!(w.deliver(exception(Exception::with_code(Vector::DF, 0))), Delivered::Done);
    assert_eq!((w.eip(), w.esp(), w.peek(NEW_ESP - 4)), (NEW_EIP, NEW_ESP - 4, 0));
    // IF is the new task's.
    assert_eq!(w.flags().bits(), 0x4246);
    saved(&w, CODE, 0x203);
    // RF is in what is saved for a fault; an interrupt pushes nothing.
    let mut w = world();
    w.set_gate(14, gate(sel::TSS2, 0, 0x85, 0));
    w.deliver(exception(Exception::page_fault(PageFaultCode::W, 0x1234)));
    assert_eq!((w.peek(NEW_ESP - 4), w.peek(TSS + 0x24), w.cpu.cr2), (2, 0x1_0203, 0x1234));
    let mut w = world();
    w.set_gate(0x30, gate(sel::TSS2, 0, 0x85, 0));
    w.deliver(external(0x30));
    in_the_new_task(&w, 0x4246);
    // INT n.
    let mut w = world();
    w.set_gate(0x30, gate(sel::TSS2, 0, 0x85, 0));
    w.ok(&[0xcd, 0x30]);
    in_the_new_task(&w, 0x4246);
    saved(&w, CODE + 2, 0x203);
}

/// Faults of the old task: nothing has happened.
#[test]
fn faults_before_the_switch() {
    let mut w = world();
    w.set_desc(sel::TSS2, desc(NEW, 0x66, 0x89, 0));
    w.faults(&far(0xea, sel::TSS2), ts(code(sel::TSS2)));
    assert!(busy(&w, sel::TSS) && !busy(&w, sel::TSS2));
    let mut w = world();
    w.cpu.tr.limit = 0x5e;
    w.faults(&far(0xea, sel::TSS2), ts(code(sel::TSS)));
    let mut w = world();
    w.m.pages.insert(u64::from(TSS) >> 12, Page::ReadOnly);
    let at = u64::from(TSS) + 0x20;
    w.faults(&far(0xea, sel::TSS2), Exception { vector: Vector::PF, error: Some(3), payload: at });
    // The link of a nested task.
    for (link, expected) in [
        (0, ts(0)),
        (0xc, ts(0xc)),
        (sel::OUTSIDE, ts(code(sel::OUTSIDE))),
        (sel::DATA0, ts(code(sel::DATA0))),
        // Not busy.
        (sel::TSS2, ts(code(sel::TSS2))),
        (sel::FREE, np(code(sel::FREE))),
    ] {
        let mut w = world();
        w.set_desc(sel::FREE, desc(NEW, 0x67, 0x0b, 0));
        w.cpu.rflags |= Rflags::NT;
        w.poke(TSS, link.into());
        w.faults(&[0xcf], expected);
    }
}

/// Faults of the new task: the switch is done, and RIP is the new task's.
#[test]
fn faults_after_the_switch() {
    for (offset, selector, expected) in [
        (0x60, sel::DATA0, ts(code(sel::DATA0))),
        (0x60, 0xc, ts(0xc)),
        (0x4c, 0, ts(0)),
        (0x4c, sel::OUTSIDE | 3, ts(code(sel::OUTSIDE))),
        (0x4c, sel::CODE0 | 3, ts(code(sel::CODE0))),
        (0x4c, sel::DATA3, ts(code(sel::DATA3))),
        (0x4c, sel::CODE3_NP, np(code(sel::CODE3_NP))),
        (0x50, 0, ts(0)),
        (0x50, sel::DATA0, ts(code(sel::DATA0))),
        (0x50, sel::DATA3_NP, ss(code(sel::DATA3_NP))),
        (0x54, sel::DATA0, ts(code(sel::DATA0))),
        (0x54, sel::XCODE0, ts(code(sel::XCODE0))),
        (0x5c, sel::DATA3_NP, np(code(sel::DATA3_NP))),
    ] {
        let mut w = world();
        w.poke(NEW + offset, selector.into());
        assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(expected), "{offset:#x}: {selector:#x}");
        assert_eq!((w.eip(), w.cpu.tr.selector.0), (NEW_EIP, sel::TSS2));
        // As part of an event EXT is set, and the fault is delivered in the new task.
        let mut w = world();
        w.poke(NEW + offset, selector.into());
        w.set_gate(0x30, gate(sel::TSS2, 0, 0x85, 0));
        for v in 10..14 {
            w.set_gate(v, gate(sel::CODE0, 0x9100 + u32::from(v), 0x8e, 0));
        }
        w.poke(NEW + 4, STACK0);
        w.poke(NEW + 8, sel::DATA0.into());
        if offset == 0x4c && selector == 0 {
            // A null CS makes it ring 0, whose handler has no stack to use.
            assert_eq!(w.deliver(external(0x30)), Delivered::Shutdown);
            continue;
        }
        assert_eq!(w.deliver(external(0x30)), Delivered::Done);
        let error = expected.error.map(|e| e | 1);
        assert_eq!((w.eip(), Some(w.peek(w.esp()))), (0x9100 + u32::from(expected.vector.0), error));
        assert_eq!(w.peek(w.esp() + 4), NEW_EIP);
    }
    // EIP beyond the limit.
    let mut w = world();
    w.set_desc(sel::FREE, desc(0, 0xfff, 0xfb, 4));
    w.poke(NEW + 0x4c, u32::from(sel::FREE) | 3);
    assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(gp(0)));
}

/// The T bit of the new task's TSS: a trap before its first instruction, by whatever way it was entered.
#[test]
fn debug_trap_bit() {
    let trap = Exception::debug(1 << 15);
    let mut w = world();
    w.poke(NEW + 0x64, 0x68_0001);
    assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(trap));
    in_the_new_task(&w, 0x246);
    // A fault of the new task comes in its place.
    let mut w = world();
    w.poke(NEW + 0x64, 0x68_0001);
    w.poke(NEW + 0x48, u32::from(sel::OUTSIDE));
    assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(ts(code(sel::OUTSIDE))));

    // Through a gate, with an error code: that is on the stack when the trap's handler comes.
    let mut w = world();
    w.poke(NEW + 0x64, 0x68_0001);
    w.poke(NEW + 4, STACK0);
    w.poke(NEW + 8, sel::DATA0.into());
    w.set_gate(13, gate(sel::TSS2, 0, 0x85, 0));
    w.set_gate(1, gate(sel::CODE0, 0x9101, 0x8e, 0));
    assert_eq!(w.deliver(exception(gp(0x1234))), Delivered::Done);
    assert_eq!((w.eip(), w.cpu.dr6 & 0xe00f, w.peek(NEW_ESP - 4)), (0x9101, 1 << 15, 0x1234));
    assert_eq!((w.peek(w.esp()), w.peek(w.esp() + 12)), (NEW_EIP, NEW_ESP - 4));
}

/// The other task's TSS as a 16-bit one, for ring 3.
fn world16() -> World {
    let mut w = world();
    w.set_desc(sel::TSS2, desc(NEW, 0x2b, 0x81, 0));
    w.poke_bytes(NEW, &[0xee; 0x2c]);
    let words = [NEW_EIP as u16, 0x0246, 0x2000, 0x2001, 0x2002, 0x2003, 0x6000, 0x2005, 0x2006, 0x2007];
    let selectors = [sel::DATA3, sel::CODE3, sel::DATA3, 0, sel::LDT];
    for (i, word) in words.into_iter().chain(selectors).enumerate() {
        w.poke_bytes(NEW + 0x0e + 2 * i as u32, &word.to_le_bytes());
    }
    w
}

#[test]
fn to_a_16_bit_tss_and_back() {
    let mut w = world16();
    w.cpu.cr0 |= Cr0::PG;
    w.cpu.cr3 = 0x5000;
    w.ok(&far(0x9a, sel::TSS2));
    saved(&w, CODE + 7, 0x203);
    assert_eq!((w.cpu.cpl, w.eip(), w.get(RAX), w.esp()), (3, NEW_EIP, 0xffff_2000, 0xffff_6000));
    assert_eq!((w.get(RDI), w.flags().bits(), w.cpu.cr3), (0xffff_2007, 0x4246, 0x5000));
    let selectors: Vec<_> = SegReg::ALL.iter().map(|&r| w.selector(r)).collect();
    assert_eq!(selectors, [sel::DATA3, sel::CODE3, sel::DATA3, 0, 0, 0]);
    assert_eq!((w.cpu.tr.selector.0, w.cpu.tr.attrs, w.cpu.ldtr.selector.0), (sel::TSS2, 0x83, sel::LDT));
    assert_eq!((w.peek16(NEW), busy(&w, sel::TSS), busy(&w, sel::TSS2)), (sel::TSS, true, true));

    // Back: into words, NT clear, nothing beyond them touched.
    w.set(RCX, 0x1234_5678);
    w.poke(TSS + 0x60, sel::LDT.into());
    w.ok(&[0xcf]);
    assert_eq!((w.cpu.cpl, w.eip(), w.esp(), w.selector(SegReg::Cs)), (0, CODE + 7, STACK0, sel::CODE0));
    assert_eq!((w.peek16(NEW + 0x0e), w.peek16(NEW + 0x10), w.peek16(NEW + 0x14)), (NEW_EIP as u16 + 1, 0x246, 0x5678));
    assert_eq!((w.peek16(NEW + 0x22), w.peek16(NEW + 0x28), w.peek16(NEW + 0x2a)), (sel::DATA3, 0, sel::LDT));
    assert_eq!((w.peek16(NEW + 2), busy(&w, sel::TSS2)), (0xeeee, false));
}

#[test]
fn limits_of_16_bit_tsses() {
    let mut w = world16();
    w.set_desc(sel::TSS2, desc(NEW, 0x2a, 0x81, 0));
    w.faults(&far(0xea, sel::TSS2), ts(code(sel::TSS2)));
    // The one left needs what is saved there.
    let mut w = world16();
    (w.cpu.tr.attrs, w.cpu.tr.limit) = (0x83, 0x28);
    w.faults(&far(0xea, sel::TSS2), ts(code(sel::TSS)));
    w.cpu.tr.limit = 0x29;
    w.ok(&far(0xea, sel::TSS2));
    // None at all.
    let mut w = world();
    w.cpu.tr.attrs = 0;
    w.faults(&far(0xea, sel::TSS2), ts(code(sel::TSS)));
}

/// The error code has the size of the new TSS.
#[test]
fn error_code_on_a_16_bit_task() {
    let mut w = world16();
    w.set_gate(13, gate(sel::TSS2, 0, 0x85, 0));
    w.poke_bytes(NEW + 0x1a, &0xff00u16.to_le_bytes());
    w.set_desc(sel::FREE, desc(0, 0xffff, 0xf3, 0));
    w.poke_bytes(NEW + 0x26, &(sel::FREE | 3).to_le_bytes());
    assert_eq!(w.deliver(exception(gp(0x1234))), Delivered::Done);
    assert_eq!((w.eip(), w.esp(), w.peek16(0xfefe)), (NEW_EIP, 0xffff_fefe, 0x1234));
}

/// A task of virtual 8086 mode.
#[test]
fn to_virtual_8086_mode() {
    let mut w = world();
    w.poke(NEW + 0x24, 0x2_3202);
    for (i, selector) in [0x1111u32, 0x900, 0x1000, 0x2222, 0x3333, 0x4444].into_iter().enumerate() {
        w.poke(NEW + 0x48 + 4 * i as u32, selector);
    }
    w.poke(NEW + 0x20, 0x10);
    w.ok(&far(0xea, sel::TSS2));
    assert_eq!((w.cpu.cpl, w.eip(), w.flags().bits()), (3, 0x10, 0x2_3202));
    assert_eq!(
        (w.cpu.linear_rip(), w.cpu.segment(SegReg::Gs).base, w.cpu.segment(SegReg::Ss).limit),
        (0x9010, 0x4_4440, 0xffff)
    );
    // The LDT is loaded all the same, and its fault is the new task's; so is an EIP beyond 64 KiB.
    let mut w = world();
    w.poke(NEW + 0x24, 0x2_3202);
    w.poke(NEW + 0x60, u32::from(sel::DATA0));
    assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(ts(code(sel::DATA0))));
    let mut w = world();
    w.poke(NEW + 0x24, 0x2_3202);
    w.poke(NEW + 0x20, 0x1_0000);
    assert_eq!(w.run(&far(0xea, sel::TSS2)), Step::Exception(gp(0)));
    assert!(w.flags().contains(Rflags::VM));
}
