//! What 64-bit mode lacks, so that no host CPU can be asked: decimal adjustment, PUSHA, BOUND, the 16- and 32-bit stack
//! and branch forms, 16-bit addressing. Each table states the manual's answer.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{esp, registers, run16, run32, status, CODE, STACK};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::SegReg;
use rvmm_arch::{Exception, Vector};
use rvmm_interp::Step;

/// The manual's own algorithm for the four adjustments of AL, as (AX, CF, AF).
fn manual_adjust(opcode: u8, ax: u16, cf: bool, af: bool) -> (u16, bool, bool) {
    let al = ax as u8;
    match opcode {
        0x37 if al & 15 > 9 || af => (ax.wrapping_add(0x106) & 0xff0f, true, true),
        0x3f if al & 15 > 9 || af => {
            let [low, high] = ax.wrapping_sub(6).to_le_bytes();
            (u16::from_le_bytes([low & 15, high.wrapping_sub(1)]), true, true)
        }
        0x37 | 0x3f => (ax & 0xff0f, false, false),
        0x27 | 0x2f => {
            let add = opcode == 0x27;
            let change = |v: u8, by: u8| if add { v.overflowing_add(by) } else { v.overflowing_sub(by) };
            let (mut v, mut carry, mut aux) = (al, false, false);
            if al & 15 > 9 || af {
                let (next, over) = change(v, 6);
                (v, carry, aux) = (next, cf || over, true);
            }
            if al > 0x99 || cf {
                (v, carry) = (change(v, 0x60).0, true);
            } else if add {
                carry = false;
            }
            (ax & 0xff00 | u16::from(v), carry, aux)
        }
        _ => unreachable!(),
    }
}

#[test]
fn decimal_adjustment_of_every_al_and_flag() {
    let mut cells = 0;
    for opcode in [0x27u8, 0x2f, 0x37, 0x3f] {
        for al in 0..=0xffu16 {
            for (cf, af) in [(false, false), (false, true), (true, false), (true, true)] {
                for ah in [0u16, 0x12, 0xff] {
                    let ax = ah << 8 | al;
                    let (outcome, cpu, _) = run32(&[opcode], |cpu, _| {
                        cpu.gpr[gpr::RAX] = 0xabcd_0000 | u64::from(ax);
                        cpu.rflags.set(Rflags::CF, cf);
                        cpu.rflags.set(Rflags::AF, af);
                    });
                    assert_eq!(outcome, Step::Retired);
                    let got =
                        (cpu.gpr[gpr::RAX] as u16, cpu.rflags.contains(Rflags::CF), cpu.rflags.contains(Rflags::AF));
                    assert_eq!(got, manual_adjust(opcode, ax, cf, af), "opcode {opcode:x} AX {ax:x} CF {cf} AF {af}");
                    assert_eq!(cpu.gpr[gpr::RAX] >> 16, 0xabcd);
                    if opcode < 0x30 {
                        let result = got.0 as u8;
                        assert_eq!(cpu.rflags.contains(Rflags::ZF), result == 0);
                        assert_eq!(cpu.rflags.contains(Rflags::SF), result >= 0x80);
                        assert_eq!(cpu.rflags.contains(Rflags::PF), result.count_ones() % 2 == 0);
                    }
                    cells += 1;
                }
            }
        }
    }
    println!("decimal adjustment: {cells} states");
}

#[test]
fn aam_and_aad() {
    for (ax, base, want) in [(0x0063u64, 10, 0x0909u64), (0x00ff, 16, 0x0f0f), (0x1205, 7, 0x0005)] {
        let (outcome, cpu, _) = run32(&[0xd4, base], |cpu, _| cpu.gpr[gpr::RAX] = ax);
        assert_eq!((outcome, cpu.gpr[gpr::RAX]), (Step::Retired, want));
    }
    for (ax, base, want) in [(0x0909u64, 10, 99u64), (0xff02, 16, 0xf2), (0x0203, 0, 3)] {
        let (outcome, cpu, _) = run32(&[0xd5, base], |cpu, _| cpu.gpr[gpr::RAX] = ax);
        assert_eq!((outcome, cpu.gpr[gpr::RAX]), (Step::Retired, want));
    }
    let (outcome, cpu, _) = run32(&[0xd4, 0], |_, _| {});
    assert_eq!(outcome, Step::Exception(Exception::new(Vector::DE)));
    assert_eq!(cpu.rip, CODE);
}

#[test]
fn short_inc_dec_and_salc() {
    for reg in 0..8u8 {
        let (_, cpu, _) = run32(&[0x40 + reg], |cpu, _| {
            cpu.gpr[usize::from(reg)] = 0xffff_ffff;
            cpu.rflags.insert(Rflags::CF);
        });
        assert_eq!(cpu.gpr[usize::from(reg)], 0);
        assert_eq!(status(&cpu), Rflags::CF | Rflags::ZF | Rflags::PF | Rflags::AF);
        let (_, cpu, _) = run32(&[0x48 + reg], |cpu, _| cpu.gpr[usize::from(reg)] = 0x8000_0000);
        assert_eq!(cpu.gpr[usize::from(reg)], 0x7fff_ffff);
        assert_eq!(status(&cpu), Rflags::OF | Rflags::PF | Rflags::AF);
        let (_, cpu, _) = run32(&[0x66, 0x40 + reg], |cpu, _| cpu.gpr[usize::from(reg)] = 0x1234_ffff);
        assert_eq!(cpu.gpr[usize::from(reg)], 0x1234_0000);
    }
    for (carry, al) in [(true, 0xff), (false, 0)] {
        let (_, cpu, _) = run32(&[0xd6], |cpu, _| {
            cpu.gpr[gpr::RAX] = 0x55aa;
            cpu.rflags.set(Rflags::CF, carry);
        });
        assert_eq!(cpu.gpr[gpr::RAX], 0x5500 | al);
    }
}

fn fill(cpu: &mut rvmm_arch::VcpuState) {
    for (i, r) in cpu.gpr.iter_mut().enumerate().take(8) {
        if i != gpr::RSP {
            *r = 0x1111_1111 * (i as u64 + 1);
        }
    }
}

#[test]
fn pusha_and_popa() {
    let (outcome, cpu, m) = run32(&[0x60], |cpu, _| fill(cpu));
    assert_eq!((outcome, esp(&cpu)), (Step::Retired, STACK - 32));
    let pushed: Vec<u32> = (0..8).map(|i| m.peek32(u64::from(STACK) - 32 + i * 4)).collect();
    let r = registers(&cpu);
    assert_eq!(pushed, [r[7], r[6], r[5], STACK, r[3], r[2], r[1], r[0]]);

    let (outcome, cpu, m) = run32(&[0x66, 0x60], |cpu, _| fill(cpu));
    assert_eq!((outcome, esp(&cpu)), (Step::Retired, STACK - 16));
    assert_eq!(m.peek(u64::from(STACK) - 16, 4), [0x88, 0x88, 0x77, 0x77]);

    let (outcome, cpu, _) = run32(&[0x61], |_, m| {
        for i in 0..8 {
            m.poke32(u64::from(STACK) + i * 4, 100 + i as u32);
        }
    });
    assert_eq!((outcome, registers(&cpu)), (Step::Retired, [107, 106, 105, 104, STACK + 32, 102, 101, 100]));
    let (_, cpu, _) = run32(&[0x66, 0x61], |cpu, m| {
        fill(cpu);
        m.poke(u64::from(STACK), &[7, 0, 6, 0, 5, 0, 0xee, 0xee, 3, 0, 2, 0, 1, 0, 0, 0]);
    });
    assert_eq!(registers(&cpu)[7], 0x8888_0007);
    assert_eq!((registers(&cpu)[0], esp(&cpu)), (0x1111_0000, STACK + 16));
}

#[test]
fn bound() {
    for (index, low, high, inside) in [
        (5, 5, 10, true),
        (10, 5, 10, true),
        (4, 5, 10, false),
        (11, 5, 10, false),
        (-3, -4, -2, true),
        (0, 1, -1, false),
    ] {
        let (outcome, cpu, _) = run32(&[0x62, 0x05, 0, 0x20, 0, 0], |cpu, m| {
            cpu.gpr[gpr::RAX] = u64::from(index as u32);
            m.poke32(0x2000, low as u32);
            m.poke32(0x2004, high as u32);
        });
        let want = if inside { Step::Retired } else { Step::Exception(Exception::new(Vector::BR)) };
        assert_eq!(outcome, want, "{index} in {low}..={high}");
        assert_eq!(cpu.rip, if inside { CODE + 6 } else { CODE });
    }
    let (outcome, ..) = run32(&[0x66, 0x62, 0x05, 0, 0x20, 0, 0], |cpu, m| {
        cpu.gpr[gpr::RAX] = 0x7fff_fffe;
        m.poke(0x2000, &[0xfe, 0xff, 0xff, 0xff]);
    });
    assert_eq!(outcome, Step::Retired);
    let (outcome, ..) = run32(&[0x62, 0xc0], |_, _| {});
    assert_eq!(outcome, Step::Exception(Exception::ud()));
}

#[test]
fn pushes_and_pops_of_both_sizes() {
    // Code, bytes pushed.
    let table: [(&[u8], &[u8]); 10] = [
        (&[0x50], &[0x11, 0x11, 0x11, 0x11]),
        (&[0x66, 0x50], &[0x11, 0x11]),
        (&[0x54], &[0x00, 0x80, 0, 0]),
        (&[0x6a, 0xfe], &[0xfe, 0xff, 0xff, 0xff]),
        (&[0x66, 0x6a, 0xfe], &[0xfe, 0xff]),
        (&[0x68, 1, 2, 3, 4], &[1, 2, 3, 4]),
        (&[0x66, 0x68, 1, 2], &[1, 2]),
        (&[0x0e], &[8, 0, 0, 0]),
        (&[0x66, 0x0f, 0xa0], &[0x10, 0]),
        (&[0xff, 0x74, 0x24, 0x04], &[9, 8, 7, 6]),
    ];
    for (code, want) in table {
        let (outcome, cpu, m) = run32(code, |cpu, m| {
            fill(cpu);
            m.poke(u64::from(STACK) + 4, &[9, 8, 7, 6]);
        });
        assert_eq!((outcome, esp(&cpu)), (Step::Retired, STACK - want.len() as u32), "{code:x?}");
        assert_eq!(m.peek(u64::from(esp(&cpu)), want.len()), want, "{code:x?}");
    }
    let stack = |m: &mut rvmm_interp::testing::TestMachine| m.poke(u64::from(STACK), &[1, 2, 3, 4]);
    let (_, cpu, _) = run32(&[0x58], |_, m| stack(m));
    assert_eq!((registers(&cpu)[0], esp(&cpu)), (0x0403_0201, STACK + 4));
    let (_, cpu, _) = run32(&[0x66, 0x58], |cpu, m| {
        fill(cpu);
        stack(m);
    });
    assert_eq!((registers(&cpu)[0], esp(&cpu)), (0x1111_0201, STACK + 2));
    // POP ESP: the value popped; POP [ESP+4]: the address after the pop.
    let (_, cpu, _) = run32(&[0x5c], |_, m| stack(m));
    assert_eq!(esp(&cpu), 0x0403_0201);
    let (_, cpu, m) = run32(&[0x8f, 0x44, 0x24, 4], |_, m| stack(m));
    assert_eq!((m.peek32(u64::from(STACK) + 8), esp(&cpu)), (0x0403_0201, STACK + 4));
    // A 16-bit stack moves SP alone, and wraps.
    let (_, cpu, m) = run16(&[0x66, 0x50], |cpu, _| {
        cpu.gpr[gpr::RAX] = 0x0102_0304;
        cpu.gpr[gpr::RSP] = 0xdead_0000;
    });
    assert_eq!((esp(&cpu), m.peek32(0xfffc)), (0xdead_fffc, 0x0102_0304));
}

#[test]
fn near_branches_of_both_sizes() {
    // Code, next EIP.
    let table: [(&[u8], u64); 9] = [
        (&[0xeb, 0x10], CODE + 0x12),
        (&[0xeb, 0xfe], CODE),
        (&[0xe9, 0, 1, 0, 0], CODE + 0x105),
        (&[0x66, 0xe9, 0, 1], CODE + 0x104),
        (&[0x66, 0xe9, 0, 0xf0], 0x0004),
        (&[0xff, 0xe0], 0x1111_1111),
        (&[0x66, 0xff, 0xe0], 0x1111),
        (&[0xff, 0x25, 0, 0x20, 0, 0], 0x0403_0201),
        (&[0x66, 0xff, 0x25, 0, 0x20, 0, 0], 0x0201),
    ];
    for (code, want) in table {
        let (outcome, cpu, _) = run32(code, |cpu, m| {
            fill(cpu);
            m.poke(0x2000, &[1, 2, 3, 4]);
        });
        assert_eq!((outcome, cpu.rip), (Step::Retired, want), "{code:x?}");
    }
    let (_, cpu, m) = run32(&[0xe8, 0, 1, 0, 0], |_, _| {});
    assert_eq!((cpu.rip, m.peek32(u64::from(STACK) - 4), esp(&cpu)), (CODE + 0x105, CODE as u32 + 5, STACK - 4));
    let (_, cpu, m) = run32(&[0x66, 0xe8, 0, 1], |_, _| {});
    assert_eq!((cpu.rip, m.peek(u64::from(STACK) - 2, 2), esp(&cpu)), (CODE + 0x104, &[4, 0x10][..], STACK - 2));
    let (_, cpu, _) = run32(&[0xff, 0x54, 0x24, 4], |_, m| m.poke32(u64::from(STACK) + 4, 0x4000));
    assert_eq!((cpu.rip, esp(&cpu)), (0x4000, STACK - 4));
    for (code, moved, to) in [
        (&[0xc3][..], 4, 0x0003_4000),
        (&[0x66, 0xc3], 2, 0x4000),
        (&[0xc2, 8, 0], 12, 0x0003_4000),
        (&[0x66, 0xc2, 8, 0], 10, 0x4000),
    ] {
        let (_, cpu, _) = run32(code, |_, m| m.poke32(u64::from(STACK), 0x0003_4000));
        assert_eq!((cpu.rip, esp(&cpu)), (to, STACK + moved), "{code:x?}");
    }
}

#[test]
fn counted_branches() {
    // Code, ECX before, ZF before, ECX after, taken.
    let table: [(&[u8], u64, bool, u64, bool); 12] = [
        (&[0xe2, 0x10], 2, false, 1, true),
        (&[0xe2, 0x10], 1, false, 0, false),
        (&[0xe2, 0x10], 0, false, 0xffff_ffff, true),
        (&[0x67, 0xe2, 0x0f], 0x5_0001, false, 0x5_0000, false),
        (&[0x67, 0xe2, 0x0f], 0x5_0000, false, 0x5_ffff, true),
        (&[0xe1, 0x10], 2, true, 1, true),
        (&[0xe1, 0x10], 2, false, 1, false),
        (&[0xe0, 0x10], 2, false, 1, true),
        (&[0xe0, 0x10], 2, true, 1, false),
        (&[0xe3, 0x10], 0, false, 0, true),
        (&[0xe3, 0x10], 0x1_0000, false, 0x1_0000, false),
        (&[0x67, 0xe3, 0x0f], 0x1_0000, false, 0x1_0000, true),
    ];
    for (code, before, zf, after, taken) in table {
        let (outcome, cpu, _) = run32(code, |cpu, _| {
            cpu.gpr[gpr::RCX] = before;
            cpu.rflags.set(Rflags::ZF, zf);
        });
        let next = CODE + code.len() as u64;
        let want = if taken { CODE + 0x12 } else { next };
        assert_eq!((outcome, cpu.gpr[gpr::RCX], cpu.rip), (Step::Retired, after, want), "{code:x?} {before:x}");
    }
}

#[test]
fn enter_and_leave() {
    // ENTER 10h, 0 and its LEAVE.
    let (_, cpu, m) = run32(&[0xc8, 0x10, 0, 0], |cpu, _| cpu.gpr[gpr::RBP] = 0x7777);
    let r = registers(&cpu);
    assert_eq!((m.peek32(u64::from(STACK) - 4), r[5], r[4]), (0x7777, STACK - 4, STACK - 4 - 0x10));
    let (_, cpu, _) = run32(&[0xc9], |cpu, m| {
        cpu.gpr[gpr::RBP] = u64::from(STACK) + 0x20;
        m.poke32(u64::from(STACK) + 0x20, 0x7777);
    });
    assert_eq!((registers(&cpu)[5], esp(&cpu)), (0x7777, STACK + 0x24));
    // ENTER 8, 3: two frame pointers are copied, then the new one.
    let (_, cpu, m) = run32(&[0xc8, 8, 0, 3], |cpu, m| {
        cpu.gpr[gpr::RBP] = 0x9000;
        m.poke32(0x8ffc, 0xaaaa);
        m.poke32(0x8ff8, 0xbbbb);
    });
    let at = |below: u64| m.peek32(u64::from(STACK) - below);
    assert_eq!([at(4), at(8), at(12), at(16)], [0x9000, 0xaaaa, 0xbbbb, STACK - 4]);
    assert_eq!((registers(&cpu)[5], esp(&cpu)), (STACK - 4, STACK - 16 - 8));
    // 16-bit operands on a 32-bit stack: BP alone is pushed and set.
    let (_, cpu, m) = run32(&[0x66, 0xc8, 4, 0, 0], |cpu, _| cpu.gpr[gpr::RBP] = 0x1234_5678);
    assert_eq!((m.peek(u64::from(STACK) - 2, 2), registers(&cpu)[5]), (&[0x78, 0x56][..], 0x1234_7ffe));
    assert_eq!(esp(&cpu), STACK - 2 - 4);
    // 32-bit operands on a 16-bit stack: SP alone moves, but all of ESP is the frame.
    let (_, cpu, m) = run32(&[0xc8, 4, 0, 1], |cpu, _| {
        cpu.segment_mut(SegReg::Ss).attrs &= !0x4000;
        cpu.gpr[gpr::RSP] = 0x1234_0000 | u64::from(STACK);
        cpu.gpr[gpr::RBP] = 0x5678_9abc;
    });
    let frame = 0x1234_0000 | (STACK - 4);
    assert_eq!((m.peek32(u64::from(STACK) - 4), m.peek32(u64::from(STACK) - 8)), (0x5678_9abc, frame));
    assert_eq!((registers(&cpu)[5], esp(&cpu)), (frame, frame - 4 - 4));
}

#[test]
fn sixteen_bit_addresses() {
    // MOV AX, [mem] with each base; address expected. BX=100 BP=200 SI=30 DI=40.
    let table: [(&[u8], u64); 10] = [
        (&[0x8b, 0x00], 0x130),
        (&[0x8b, 0x01], 0x140),
        (&[0x8b, 0x02], 0x230),
        (&[0x8b, 0x03], 0x240),
        (&[0x8b, 0x04], 0x30),
        (&[0x8b, 0x05], 0x40),
        (&[0x8b, 0x06, 0x34, 0x12], 0x1234),
        (&[0x8b, 0x07], 0x100),
        (&[0x8b, 0x46, 0xfe], 0x1fe),
        (&[0x8b, 0x87, 0x00, 0xff], 0x0000),
    ];
    for (code, at) in table {
        let (outcome, cpu, _) = run16(code, |cpu, m| {
            cpu.gpr[gpr::RBX] = 0xffff_0100;
            cpu.gpr[gpr::RBP] = 0xffff_0200;
            cpu.gpr[gpr::RSI] = 0xffff_0030;
            cpu.gpr[gpr::RDI] = 0xffff_0040;
            m.poke(at, &[0xcd, 0xab]);
        });
        assert_eq!((outcome, cpu.gpr[gpr::RAX]), (Step::Retired, 0xabcd), "{code:x?}");
    }
    // LEA cuts to the address size, then to the operand's: 67 makes it 32 bits wide in 16-bit code.
    let (_, cpu, _) = run16(&[0x67, 0x66, 0x8d, 0x43, 0x10], |cpu, _| cpu.gpr[gpr::RBX] = 0x1_fff0);
    assert_eq!(cpu.gpr[gpr::RAX], 0x2_0000);
    let (_, cpu, _) = run32(&[0x67, 0x8d, 0x47, 0x10], |cpu, _| cpu.gpr[gpr::RBX] = 0x1_fff0);
    assert_eq!(cpu.gpr[gpr::RAX], 0);
    // String instructions with 16-bit addresses move SI and DI alone.
    let (_, cpu, _) = run32(&[0x67, 0xf3, 0xa4], |cpu, _| {
        cpu.gpr[gpr::RSI] = 0xaaaa_ffff;
        cpu.gpr[gpr::RDI] = 0xbbbb_2000;
        cpu.gpr[gpr::RCX] = 0xcccc_0001;
    });
    assert_eq!((cpu.gpr[gpr::RSI], cpu.gpr[gpr::RDI], cpu.gpr[gpr::RCX]), (0xaaaa_0000, 0xbbbb_2001, 0xcccc_0000));
    assert_eq!(cpu.rip, CODE + 3);
}

#[test]
fn selectors_are_stored_zero_extended_to_registers_only() {
    let (_, cpu, _) = run32(&[0x8c, 0xd8], |cpu, _| cpu.gpr[gpr::RAX] = 0xffff_ffff);
    assert_eq!(cpu.gpr[gpr::RAX], 0x10);
    let (_, cpu, _) = run32(&[0x66, 0x8c, 0xc8], |cpu, _| cpu.gpr[gpr::RAX] = 0xffff_ffff);
    assert_eq!(cpu.gpr[gpr::RAX], 0xffff_0008);
    let (_, _, m) = run32(&[0x8c, 0x1d, 0, 0x20, 0, 0], |_, m| m.poke32(0x2000, 0xffff_ffff));
    assert_eq!(m.peek32(0x2000), 0xffff_0010);
}
