//! Faults leave everything as it was, name the right address, and come in the right order; traps come behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{esp, machine32, run32, CODE, STACK};
use rvmm_arch::machine::MachineStop;
use rvmm_arch::regs::{gpr, Cr0, Cr4, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, PageFaultCode, VcpuState, Vector};
use rvmm_interp::testing::{flat64, TestMachine};
use rvmm_interp::{step, Step, Unsupported};

const GP: Step = Step::Exception(Exception::gp(0));
const SS: Step = Step::Exception(Exception::with_code(Vector::SS, 0));
const UD: Step = Step::Exception(Exception::ud());

/// Turns paging on: identity for 128 KiB, with `pte` flags 7 except where `holes` says.
fn page(cpu: &mut VcpuState, m: &mut TestMachine, holes: &[(u64, u32)]) {
    const DIRECTORY: u64 = 0x1_e000;
    const TABLE: u64 = 0x1_f000;
    m.poke32(DIRECTORY, TABLE as u32 | 7);
    for i in 0..32 {
        let at = i << 12;
        let flags = holes.iter().find(|h| h.0 == at).map_or(7, |h| h.1);
        m.poke32(TABLE + i * 4, at as u32 | flags);
    }
    cpu.cr3 = DIRECTORY;
    cpu.cr0 |= Cr0::PG | Cr0::WP;
}

fn fault(bits: u32, at: u64) -> Step {
    Step::Exception(Exception::page_fault(PageFaultCode::from_bits_truncate(bits), at))
}

/// Runs one step that must not retire, and checks that nothing changed.
fn refused(cpu: &VcpuState, m: &mut TestMachine) -> Step {
    let (mut after, ram) = (cpu.clone(), m.ram.clone());
    let outcome = step(&mut after, m);
    assert!(!matches!(outcome, Step::Retired), "retired");
    assert_eq!(&after, cpu, "{outcome:?} changed the CPU");
    // Accessed and dirty bits may be set: compare all but the page tables.
    assert!(m.ram[..0x1_e000] == ram[..0x1_e000], "{outcome:?} changed memory");
    outcome
}

#[test]
fn a_write_across_a_missing_page_writes_nothing() {
    let codes: [&[u8]; 6] = [
        &[0x89, 0x05, 0xfe, 0x2f, 0, 0],
        &[0xff, 0x05, 0xfe, 0x2f, 0, 0],
        &[0x87, 0x05, 0xfe, 0x2f, 0, 0],
        &[0x0f, 0xc7, 0x0d, 0xfa, 0x2f, 0, 0],
        &[0x0f, 0xba, 0x2d, 0xfe, 0x2f, 0, 0, 3],
        &[0xc1, 0x25, 0xfe, 0x2f, 0, 0, 0],
    ];
    for code in codes {
        let (mut cpu, mut m) = machine32(code);
        page(&mut cpu, &mut m, &[(0x3000, 0)]);
        cpu.gpr[gpr::RAX] = 0xffff_ffff;
        assert_eq!(refused(&cpu, &mut m), fault(2, 0x3000), "{code:x?}");
        // Present but read-only: a protection fault, also for what only might write.
        let (mut cpu, mut m) = machine32(code);
        page(&mut cpu, &mut m, &[(0x3000, 5)]);
        assert_eq!(refused(&cpu, &mut m), fault(3, 0x3000), "{code:x?}");
    }
}

#[test]
fn stack_faults_do_not_move_esp() {
    let codes: [&[u8]; 5] = [&[0x50], &[0x60], &[0xe8, 0, 0, 0, 0], &[0xc8, 4, 0, 0], &[0xff, 0x35, 0, 0x20, 0, 0]];
    for code in codes {
        let (mut cpu, mut m) = machine32(code);
        cpu.gpr[gpr::RSP] = 0x4002;
        page(&mut cpu, &mut m, &[(0x3000, 0)]);
        assert_eq!(refused(&cpu, &mut m), fault(2, 0x3ffe));
    }
    let (mut cpu, mut m) = machine32(&[0x61]);
    cpu.gpr[gpr::RSP] = 0x2ff8;
    page(&mut cpu, &mut m, &[(0x3000, 0)]);
    assert_eq!(refused(&cpu, &mut m), fault(0, 0x3000));
    // POP to memory that is missing: ESP stays.
    let (mut cpu, mut m) = machine32(&[0x8f, 0x05, 0, 0x30, 0, 0]);
    page(&mut cpu, &mut m, &[(0x3000, 0)]);
    assert_eq!(refused(&cpu, &mut m), fault(2, 0x3000));
}

#[test]
fn fetches_fault_on_the_page_that_is_missing_and_only_if_needed() {
    let at = 0x2ffe;
    for (code, len, wanted) in [(&[0x90u8, 0x90][..], 1, true), (&[0xb8, 1, 2, 3, 4], 5, false), (&[0x04, 7], 2, true)]
    {
        let (mut cpu, mut m) = machine32(&[]);
        m.poke(at, code);
        cpu.rip = at;
        page(&mut cpu, &mut m, &[(0x3000, 0)]);
        if wanted {
            assert_eq!(step(&mut cpu, &mut m), Step::Retired);
            assert_eq!(cpu.rip, at + len);
        } else {
            assert_eq!(refused(&cpu, &mut m), fault(0, 0x3000));
            page(&mut cpu, &mut m, &[]);
            assert_eq!(step(&mut cpu, &mut m), Step::Retired);
            assert_eq!(cpu.gpr[gpr::RAX], 0x0403_0201);
        }
    }
    // SMEP makes fetches say so.
    let (mut cpu, mut m) = machine32(&[0x90]);
    cpu.cr4 |= Cr4::SMEP;
    page(&mut cpu, &mut m, &[(CODE, 0)]);
    assert_eq!(refused(&cpu, &mut m), fault(0x10, CODE));
}

#[test]
fn instructions_beyond_the_limit_or_too_long() {
    let (mut cpu, mut m) = machine32(&[0xb8, 1, 2, 3, 4]);
    cpu.segment_mut(SegReg::Cs).limit = CODE as u32 + 3;
    assert_eq!(refused(&cpu, &mut m), GP);
    cpu.segment_mut(SegReg::Cs).limit = CODE as u32 + 4;
    assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    assert_eq!(refused(&cpu, &mut m), GP, "the next one starts beyond");
    let mut fifteen = vec![0x66; 14];
    fifteen.push(0x90);
    let (outcome, cpu, _) = run32(&fifteen, |_, _| {});
    assert_eq!((outcome, cpu.rip), (Step::Retired, CODE + 15));
    let (cpu, mut m) = machine32(&[0x2e; 16]);
    assert_eq!(refused(&cpu, &mut m), GP);
    // A jump beyond the limit faults at the jump.
    let (mut cpu, mut m) = machine32(&[0xe9, 0, 0x10, 0, 0]);
    cpu.segment_mut(SegReg::Cs).limit = 0x1fff;
    assert_eq!(refused(&cpu, &mut m), GP);
}

#[test]
fn segments_are_checked() {
    let load = [0x8b, 0x05, 0, 0x20, 0, 0];
    let store = [0x89, 0x05, 0, 0x20, 0, 0];
    type Change = fn(&mut Segment);
    // DS changed so; does a load of 4 bytes at 2000h work, does a store?
    let table: [(&str, Change, bool, bool); 9] = [
        ("flat", |_| {}, true, true),
        ("null", |s| *s = Segment::null(Selector(0)), false, false),
        ("limit on the last byte", |s| s.limit = 0x2003, true, true),
        ("limit short by one", |s| s.limit = 0x2002, false, false),
        ("read-only", |s| s.attrs = s.attrs & !0xf | 1, true, false),
        ("execute-only", |s| s.attrs = s.attrs & !0xf | 9, false, false),
        ("readable code", |s| s.attrs = s.attrs & !0xf | 11, true, false),
        ("expand-down below", |s| (s.attrs, s.limit) = (s.attrs & !0xf | 7, 0x1fff), true, true),
        ("expand-down inside", |s| (s.attrs, s.limit) = (s.attrs & !0xf | 7, 0x2000), false, false),
    ];
    for (name, change, loads, stores) in table {
        for (code, works) in [(load, loads), (store, stores)] {
            let (mut cpu, mut m) = machine32(&code);
            change(cpu.segment_mut(SegReg::Ds));
            if works {
                assert_eq!(step(&mut cpu, &mut m), Step::Retired, "{name}");
            } else {
                assert_eq!(refused(&cpu, &mut m), GP, "{name}");
            }
        }
    }
    // Through SS it is #SS: by EBP, by ESP, by prefix; a push below an expand-up limit wraps beyond it.
    for code in [&[0x8b, 0x45, 0][..], &[0x8b, 0x04, 0x24], &[0x36, 0x8b, 0x00], &[0x50], &[0x58], &[0xc3]] {
        let (mut cpu, mut m) = machine32(code);
        cpu.segment_mut(SegReg::Ss).limit = 0x0fff;
        cpu.gpr[gpr::RAX] = 0x2000;
        cpu.gpr[gpr::RBP] = 0x2000;
        assert_eq!(refused(&cpu, &mut m), SS, "{code:x?}");
    }
    // The base counts, and linear addresses wrap at 4 GiB.
    let (outcome, cpu, _) = run32(&load, |cpu, m| {
        cpu.segment_mut(SegReg::Ds).base = 0xffff_e800;
        m.poke32(0x0800, 0x1234_5678);
    });
    assert_eq!((outcome, cpu.gpr[gpr::RAX]), (Step::Retired, 0x1234_5678));
}

#[test]
fn alignment_is_checked_in_ring_3_with_am_and_ac() {
    for (cpl, am, ac, address, faults) in [
        (3, true, true, 0x2001u32, true),
        (3, true, true, 0x2002, true),
        (3, true, true, 0x2004, false),
        (0, true, true, 0x2001, false),
        (3, false, true, 0x2001, false),
        (3, true, false, 0x2001, false),
    ] {
        let mut code = vec![0x8b, 0x05];
        code.extend(address.to_le_bytes());
        let (mut cpu, mut m) = machine32(&code);
        cpu.cpl = cpl;
        cpu.cr0.set(Cr0::AM, am);
        cpu.rflags.set(Rflags::AC, ac);
        let want = if faults { Step::Exception(Exception::with_code(Vector::AC, 0)) } else { Step::Retired };
        assert_eq!(step(&mut cpu, &mut m), want, "{cpl} {am} {ac} {address:x}");
    }
}

#[test]
fn lock_is_for_writes_to_memory_only() {
    let table: [(&[u8], bool); 8] = [
        (&[0xf0, 0x01, 0x05, 0, 0x20, 0, 0], true),
        (&[0xf0, 0x0f, 0xc1, 0x05, 0, 0x20, 0, 0], true),
        (&[0xf0, 0x87, 0x05, 0, 0x20, 0, 0], true),
        (&[0xf0, 0x01, 0xc0], false),
        (&[0xf0, 0x39, 0x05, 0, 0x20, 0, 0], false),
        (&[0xf0, 0x03, 0x05, 0, 0x20, 0, 0], false),
        (&[0xf0, 0x90], false),
        (&[0xf0, 0x0f, 0xa3, 0x05, 0, 0x20, 0, 0], false),
    ];
    for (code, valid) in table {
        let (outcome, ..) = run32(code, |_, _| {});
        assert_eq!(outcome, if valid { Step::Retired } else { UD }, "{code:x?}");
    }
    for code in
        [&[0x0f, 0x0b][..], &[0x0f, 0xb9, 0xc0], &[0x0f, 0xff, 0xc0], &[0x8d, 0xc0], &[0x0f, 0xc7, 0xc8], &[0x0f, 0x04]]
    {
        assert_eq!(run32(code, |_, _| {}).0, UD, "{code:x?}");
    }
}

#[test]
fn unimplemented_instructions_say_of_what_kind_they_are() {
    let table: [(&[u8], Unsupported); 8] = [
        (&[0xd9, 0xee], Unsupported::X87),
        (&[0x9b], Unsupported::X87),
        (&[0x0f, 0xef, 0xc0], Unsupported::Mmx),
        (&[0x0f, 0x57, 0xc0], Unsupported::Sse),
        (&[0xf2, 0x0f, 0x10, 0xc1], Unsupported::Sse),
        (&[0xc5, 0xf8, 0x57, 0xc0], Unsupported::Avx),
        (&[0x0f, 0xae, 0x05, 0, 0x20, 0, 0], Unsupported::StateSave),
        (&[0x0f, 0x38, 0xf9, 0x05, 0, 0x20, 0, 0], Unsupported::Extension),
    ];
    for (code, kind) in table {
        let (mut cpu, mut m) = machine32(code);
        cpu.cr4 |= Cr4::OSXSAVE;
        cpu.xcr0 = 7;
        assert_eq!(refused(&cpu, &mut m), Step::Unsupported(kind), "{code:x?}");
        assert!(kind.runs_natively());
    }
}

#[test]
fn divide_errors_are_faults() {
    let table: [(&[u8], u64, u64, u64); 6] = [
        (&[0xf7, 0xf1], 0, 1, 0),
        (&[0xf7, 0xf1], 5, 0, 5),
        (&[0xf7, 0xf9], 0xffff_ffff, 0x8000_0000, 0xffff_ffff),
        (&[0xf6, 0xf1], 0, 0x0100, 1),
        (&[0xf6, 0xf9], 0, 0x0080, 1),
        (&[0x66, 0xf7, 0xf1], 1, 0, 1),
    ];
    for (code, edx, eax, ecx) in table {
        let (mut cpu, mut m) = machine32(code);
        (cpu.gpr[gpr::RDX], cpu.gpr[gpr::RAX], cpu.gpr[gpr::RCX]) = (edx, eax, ecx);
        assert_eq!(refused(&cpu, &mut m), Step::Exception(Exception::new(Vector::DE)), "{code:x?}");
    }
}

#[test]
fn pending_io_is_restartable() {
    for code in [&[0x8b, 0x05, 0, 0x30, 0, 0][..], &[0x01, 0x05, 0, 0x30, 0, 0], &[0xa5], &[0xff, 0x35, 0, 0x30, 0, 0]]
    {
        let (mut cpu, mut m) = machine32(code);
        (cpu.gpr[gpr::RSI], cpu.gpr[gpr::RDI]) = (0x3000, 0x2000);
        m.pending_page = Some(0x3000);
        assert_eq!(refused(&cpu, &mut m), Step::IoPending);
        m.pending_page = None;
        assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    }
    assert_ne!(MachineStop::IoPending, MachineStop::HostError);
}

#[test]
fn string_instructions_stop_between_iterations() {
    // REP MOVSB from 2FFEh, whose third byte is on a missing page.
    let (mut cpu, mut m) = machine32(&[0xf3, 0xa4]);
    page(&mut cpu, &mut m, &[(0x3000, 0)]);
    m.poke(0x2ffe, &[0xaa, 0xbb]);
    (cpu.gpr[gpr::RSI], cpu.gpr[gpr::RDI], cpu.gpr[gpr::RCX]) = (0x2ffe, 0x5000, 4);
    for left in [3, 2] {
        assert_eq!(step(&mut cpu, &mut m), Step::Retired);
        assert_eq!((cpu.gpr[gpr::RCX], cpu.rip), (left, CODE));
        assert!(cpu.rflags.contains(Rflags::RF), "as an interrupt between iterations finds it");
    }
    assert_eq!(refused(&cpu, &mut m), fault(0, 0x3000));
    assert_eq!(m.peek(0x5000, 3), [0xaa, 0xbb, 0]);
    page(&mut cpu, &mut m, &[]);
    assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    assert_eq!((cpu.gpr[gpr::RCX], cpu.rip), (0, CODE + 2));
    assert!(!cpu.rflags.contains(Rflags::RF));
    // With a count of 0 nothing is touched, not even the flags of a compare.
    let (outcome, cpu, _) = run32(&[0xf3, 0xa6], |cpu, _| cpu.rflags.insert(Rflags::CF));
    assert_eq!((outcome, cpu.rip, cpu.rflags), (Step::Retired, CODE + 2, Rflags::ONE | Rflags::CF));
}

#[test]
fn single_steps_and_breakpoints() {
    let bs = Step::Exception(Exception::debug(1 << 14));
    let (outcome, cpu, _) = run32(&[0x90], |cpu, _| cpu.rflags.insert(Rflags::TF));
    assert_eq!((outcome, cpu.rip), (bs, CODE + 1));
    // A fault comes instead of the trap.
    let (mut cpu, mut m) = machine32(&[0x0f, 0x0b]);
    cpu.rflags.insert(Rflags::TF);
    assert_eq!(refused(&cpu, &mut m), UD);
    // An instruction breakpoint is a fault, RF passes it once, MOV SS's shadow too.
    let (mut cpu, mut m) = machine32(&[0x90, 0x90]);
    (cpu.dr[2], cpu.dr7) = (CODE, 0x410);
    assert_eq!(refused(&cpu, &mut m), Step::Exception(Exception::debug(4)));
    cpu.rflags.insert(Rflags::RF);
    assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    assert!(!cpu.rflags.contains(Rflags::RF));
    cpu.rip = CODE;
    cpu.shadow = InterruptShadow::MovSs;
    assert_eq!(step(&mut cpu, &mut m), Step::Retired);
    assert_eq!(cpu.shadow, InterruptShadow::None);
    // Data breakpoints trap: DR0 on writes of 4 bytes at 2000h, DR1 on reads and writes of 1 byte at 2003h.
    for (code, bits) in [
        (&[0xa2, 3, 0x20, 0, 0], 3u64),
        (&[0xa0, 3, 0x20, 0, 0], 2),
        (&[0xa2, 0, 0x20, 0, 0], 1),
        (&[0xa2, 4, 0x20, 0, 0], 0),
    ] {
        let (outcome, cpu, _) = run32(code, |cpu, _| {
            (cpu.dr[0], cpu.dr[1]) = (0x2000, 0x2003);
            cpu.dr7 = 0x400 | 0b1010 | 0b1101 << 16 | 0b0011 << 20;
        });
        let want = if bits == 0 { Step::Retired } else { Step::Exception(Exception::debug(bits)) };
        assert_eq!((outcome, cpu.rip), (want, CODE + 5), "{code:x?}");
    }
}

#[test]
fn a_step_ends_the_interrupt_shadow() {
    for shadow in [InterruptShadow::Sti, InterruptShadow::MovSs] {
        let (outcome, cpu, _) = run32(&[0x90], |cpu, _| cpu.shadow = shadow);
        assert_eq!((outcome, cpu.shadow), (Step::Retired, InterruptShadow::None));
        let (mut cpu, mut m) = machine32(&[0x0f, 0x0b]);
        cpu.shadow = shadow;
        assert_eq!(refused(&cpu, &mut m), UD);
    }
}

#[test]
fn long_mode_addresses_must_be_canonical() {
    let mut m = TestMachine::new(0x10000);
    m.poke(CODE, &[0x48, 0x8b, 0x00]);
    let mut cpu = flat64(CODE, STACK.into());
    cpu.gpr[gpr::RAX] = 0x0000_8000_0000_0000;
    let before = cpu.clone();
    assert_eq!(step(&mut cpu, &mut m), GP);
    assert_eq!(cpu, before);
    m.poke(CODE, &[0x50]);
    cpu.gpr[gpr::RSP] = 0x0000_8000_0000_0008;
    assert_eq!(step(&mut cpu, &mut m), SS);
    assert_eq!(esp(&cpu), 8);
}
