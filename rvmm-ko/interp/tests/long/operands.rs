//! Addressing, stack, counts and branches of 64-bit mode that the comparison with a real CPU does not reach.

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::Exception;

#[test]
fn relative_to_rip() {
    let mut w = World::new();
    w.poke(CODE + 7 - 0x100, 0x1122_3344_5566_7788);
    // MOV RAX, [RIP - 100h].
    w.ok(&[0x48, 0x8b, 0x05, 0x00, 0xff, 0xff, 0xff]);
    assert_eq!(w.cpu.gpr[RAX], 0x1122_3344_5566_7788);
    // With an immediate behind the displacement.
    let next = w.cpu.rip + 8;
    w.ok(&[0x48, 0x83, 0x3d, 0x10, 0, 0, 0, 5]);
    assert!(w.touched(next + 0x10));
    // LEA RAX, [RIP]; LEA EAX, [EIP]; LEA RAX, [EIP].
    w.ok(&[0x48, 0x8d, 0x05, 0, 0, 0, 0]);
    assert_eq!(w.cpu.gpr[RAX], w.cpu.rip);
    w.ok(&[0x67, 0x48, 0x8d, 0x05, 0, 0, 0, 0]);
    assert_eq!(w.cpu.gpr[RAX], w.cpu.rip & 0xffff_ffff);
}

#[test]
fn absolute_addresses() {
    let mut w = World::new();
    w.poke(DATA, 0x1122_3344_5566_7788);
    // MOV RAX, [moffs64] and back.
    let mut code = vec![0x48, 0xa1];
    code.extend(DATA.to_le_bytes());
    w.ok(&code);
    assert_eq!(w.cpu.gpr[RAX], 0x1122_3344_5566_7788);
    code[1] = 0xa3;
    w.cpu.gpr[RAX] = 5;
    w.ok(&code);
    assert_eq!(w.peek(DATA), 5);
    // moffs32 under 67h, zero-extended; [disp32], sign-extended.
    w.m.accesses.clear();
    w.ok(&[0x67, 0xa0, 0, 0, 0, 0xf0]);
    assert!(w.touched(0xf000_0000));
    w.ok(&[0x8a, 0x04, 0x25, 0, 0, 0, 0xf0]);
    assert!(w.touched(0xffff_ffff_f000_0000));
}

#[test]
fn address_size_prefix() {
    let mut w = World::new();
    w.cpu.gpr[RBX] = 0xffff_ffff_0001_8000;
    w.cpu.gpr[RCX] = 0xffff_ffff_ffff_fff0;
    // MOV AL, [EBX + ECX].
    w.ok(&[0x67, 0x8a, 0x04, 0x0b]);
    assert!(w.touched(0x1_7ff0));
    // LEA RAX, [EBX + ECX].
    w.ok(&[0x67, 0x48, 0x8d, 0x04, 0x0b]);
    assert_eq!(w.cpu.gpr[RAX], 0x1_7ff0);
}

#[test]
fn strings() {
    // REP MOVSQ with RCX, one iteration a step.
    let mut w = World::new();
    (w.cpu.gpr[RSI], w.cpu.gpr[RDI], w.cpu.gpr[RCX]) = (DATA, DATA + 0x100, 1 << 32 | 1);
    w.poke(DATA, 77);
    w.ok(&[0xf3, 0x48, 0xa5]);
    assert_eq!((w.cpu.rip, w.cpu.gpr[RCX], w.cpu.gpr[RSI], w.peek(DATA + 0x100)), (CODE, 1 << 32, DATA + 8, 77));
    // With 67h: ECX, ESI, EDI, and what is left is zero-extended.
    let mut w = World::new();
    (w.cpu.gpr[RSI], w.cpu.gpr[RDI], w.cpu.gpr[RCX]) = (HIGH + 0x1_8000, HIGH + 0x1_8100, 1 << 32 | 1);
    w.ok(&[0x67, 0xf3, 0x48, 0xa5]);
    assert_eq!((w.cpu.gpr[RSI], w.cpu.gpr[RDI], w.cpu.gpr[RCX]), (0x1_8008, 0x1_8108, 0));
    assert_eq!(w.cpu.rip, CODE + 4);
    assert!(w.touched(0x1_8000) && w.touched(0x1_8100));
    // FS and GS override the source.
    let mut w = World::new();
    w.cpu.segment_mut(rvmm_arch::segment::SegReg::Gs).base = DATA;
    w.poke(DATA + 8, 99);
    w.cpu.gpr[RSI] = 8;
    w.ok(&[0x65, 0x48, 0xad]);
    assert_eq!(w.cpu.gpr[RAX], 99);
}

#[test]
fn counted_branches() {
    for (code, rcx, left, taken) in [
        (&[0xe2, 0x10][..], 0, u64::MAX, true),
        (&[0xe2, 0x10], 1, 0, false),
        (&[0xe2, 0x10], 1 << 32, (1 << 32) - 1, true),
        (&[0x67, 0xe2, 0x10], 1 << 32 | 1, 0, false),
        (&[0xe3, 0x10], 1 << 32, 1 << 32, false),
        (&[0x67, 0xe3, 0x10], 1 << 32, 1 << 32, true),
        (&[0xe3, 0x10], 0, 0, true),
    ] {
        let mut w = World::new();
        w.cpu.gpr[RCX] = rcx;
        w.ok(code);
        assert_eq!(w.cpu.gpr[RCX], left, "{code:02x?}");
        assert_eq!(w.cpu.rip, CODE + code.len() as u64 + if taken { 0x10 } else { 0 }, "{code:02x?}");
    }
}

#[test]
fn stack_instructions() {
    let mut w = World::new();
    // PUSH imm8 and imm32 are sign-extended; PUSH and POP of 16 bits exist, of 32 do not.
    w.ok(&[0x6a, 0x80]);
    assert_eq!((w.rsp(), w.peek(w.rsp())), (STACK0 - 8, 0xffff_ffff_ffff_ff80));
    w.ok(&[0x68, 0, 0, 0, 0x80]);
    assert_eq!(w.peek(w.rsp()), 0xffff_ffff_8000_0000);
    w.ok(&[0x66, 0x50]);
    assert_eq!(w.rsp(), STACK0 - 18);
    w.ok(&[0x66, 0x58]);
    // POP [RSP]: the address is that after the pop.
    w.poke(w.rsp(), 0x1234);
    w.ok(&[0x8f, 0x04, 0x24]);
    assert_eq!((w.rsp(), w.peek(w.rsp())), (STACK0 - 8, 0x1234));
    // PUSH RSP pushes the old one; POP RSP is what was popped.
    w.ok(&[0x54]);
    assert_eq!(w.peek(w.rsp()), STACK0 - 8);
    w.ok(&[0x5c]);
    assert_eq!(w.rsp(), STACK0 - 8);
    // ENTER and LEAVE.
    w.cpu.gpr[RBP] = DATA;
    w.ok(&[0xc8, 0x20, 0, 0]);
    assert_eq!((w.cpu.gpr[RBP], w.rsp(), w.peek(STACK0 - 16)), (STACK0 - 16, STACK0 - 0x30, DATA));
    w.ok(&[0xc9]);
    assert_eq!((w.cpu.gpr[RBP], w.rsp()), (DATA, STACK0 - 8));
    // PUSHFQ and POPFQ.
    w.set_flags(0x21_0246);
    w.ok(&[0x9c]);
    assert_eq!(w.peek(w.rsp()), 0x20_0246);
    w.poke(w.rsp(), 0xffff_ffff_003f_0ed7);
    w.ok(&[0x9d]);
    assert_eq!(w.flags(), 0x24_0ed7);
}

/// The target is checked before anything changes, so RIP is that of the branch.
#[test]
fn branches_to_nowhere() {
    for code in [&[0xff, 0xe0][..], &[0xff, 0xd0], &[0xc3], &[0xc2, 8, 0], &[0xff, 0x23], &[0xff, 0x13]] {
        let mut w = World::new();
        w.cpu.gpr[RAX] = NOWHERE;
        w.cpu.gpr[RBX] = DATA;
        w.poke(DATA, NOWHERE);
        w.push(8, &[NOWHERE]);
        let before = w.peek(w.rsp() - 8);
        w.faults(code, gp(0));
        assert_eq!(w.peek(w.rsp() - 8), before);
    }
    // A relative one.
    let mut w = World::at(At::User);
    w.cpu.rip = NOWHERE - 0x100;
    w.faults(&[0xe9, 0, 0x10, 0, 0], gp(0));
    // An instruction that reaches beyond the last canonical byte.
    let mut w = World::at(At::User);
    w.cpu.rip = NOWHERE - 2;
    w.poke_bytes(w.cpu.rip, &[0x48, 0x05]);
    assert_eq!(rvmm_interp::step(&mut w.cpu, &mut w.m), rvmm_interp::Step::Exception(gp(0)));
}

#[test]
fn cmpxchg16b() {
    let mut w = World::new();
    w.cpu.gpr[RDI] = DATA;
    (w.cpu.gpr[RAX], w.cpu.gpr[RDX]) = (1, 2);
    (w.cpu.gpr[RBX], w.cpu.gpr[RCX]) = (3, 4);
    w.poke(DATA, 1);
    w.poke(DATA + 8, 2);
    let code = [0xf0, 0x48, 0x0f, 0xc7, 0x0f];
    w.ok(&code);
    assert_eq!((w.peek(DATA), w.peek(DATA + 8)), (3, 4));
    w.ok(&code);
    assert_eq!((w.cpu.gpr[RAX], w.cpu.gpr[RDX]), (3, 4));
    w.cpu.gpr[RDI] = DATA + 8;
    w.faults(&code, gp(0));
}

#[test]
fn gone_in_64_bit_mode() {
    for code in [
        &[0x27][..],
        &[0x2f],
        &[0x37],
        &[0x3f],
        &[0x60],
        &[0x61],
        &[0x62, 0x03],
        &[0x82, 0xc0, 1],
        &[0xd4, 10],
        &[0xd5, 10],
        &[0xd6],
        &[0xce],
        &[0xf0, 0x90],
        &[0xf0, 0x48, 0x01, 0xc0],
    ] {
        World::new().faults(code, Exception::ud());
    }
}
