//! CLI, STI, PUSHF, POPF: SDM vol. 2 (tables "Decision table for CLI results", "Effect of POPF/POPFD").

use crate::world::*;
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::vcpu::InterruptShadow;

const CLI: [u8; 1] = [0xfa];
const STI: [u8; 1] = [0xfb];
const POPFD: [u8; 1] = [0x9d];
const POPF: [u8; 2] = [0x66, 0x9d];
const PUSHFD: [u8; 1] = [0x9c];
const PUSHF: [u8; 2] = [0x66, 0x9c];

#[test]
fn cli_and_sti_by_cpl_and_iopl() {
    for ring in [0u8, 1, 3] {
        for iopl in 0..4u8 {
            for pvi in [false, true] {
                let world = || {
                    let mut w = World::at_ring(ring);
                    w.iopl(iopl);
                    if pvi {
                        w.cpu.cr4 |= Cr4::PVI;
                    }
                    w
                };
                let (mut cli, mut sti) = (world(), world());
                cli.cpu.rflags |= Rflags::IF | Rflags::VIF;
                let (before, after) = (cli.flags(), sti.flags());
                if ring <= iopl {
                    cli.ok(&CLI);
                    assert_eq!(cli.flags(), before - Rflags::IF);
                    sti.ok(&STI);
                    assert_eq!(sti.flags(), after | Rflags::IF);
                    assert_eq!(sti.cpu.shadow, InterruptShadow::Sti);
                } else if ring == 3 && pvi {
                    cli.ok(&CLI);
                    assert_eq!(cli.flags(), before - Rflags::VIF);
                    sti.ok(&STI);
                    assert_eq!(sti.flags(), after | Rflags::VIF);
                    assert_eq!(sti.cpu.shadow, InterruptShadow::None);
                    let mut pending = world();
                    pending.cpu.rflags |= Rflags::VIP;
                    pending.faults(&STI, gp(0));
                } else {
                    cli.faults(&CLI, gp(0));
                    sti.faults(&STI, gp(0));
                }
            }
        }
    }
}

/// The shadow is only made by the STI that sets IF (SDM vol. 2 "STI").
#[test]
fn sti_shadow() {
    let mut w = World::new();
    w.ok(&STI);
    assert_eq!(w.cpu.shadow, InterruptShadow::Sti);
    assert!(!w.cpu.interruptible());
    w.ok(&STI);
    assert_eq!(w.cpu.shadow, InterruptShadow::None);
    assert!(w.cpu.interruptible());
}

#[test]
fn pushf_image() {
    let mut w = World::at_ring(3);
    w.iopl(1);
    w.cpu.rflags = Rflags::from_bits_retain(0x0035_1ad7);
    w.ok(&PUSHFD);
    assert_eq!((w.peek(STACK3 - 4), w.esp()), (0x0034_1ad7, STACK3 - 4));
    w.ok(&PUSHF);
    assert_eq!((w.peek16(STACK3 - 6), w.esp()), (0x1ad7, STACK3 - 6));
}

/// Everything that can be asked for, with nothing set before; and the reverse.
#[test]
fn popf_rules() {
    const STATUS: u64 = 0xcd5 | 1 << 14;
    for ring in [0u8, 1, 3] {
        for iopl in 0..4u8 {
            for wide in [false, true] {
                for set in [false, true] {
                    let mut w = World::at_ring(ring);
                    // Without TF before, so that no trap follows; VIP, VIF as they are.
                    let old = if set { 0x2 } else { 0x003d_4ed7 & !0x3_0100 };
                    w.cpu.rflags = Rflags::from_bits_retain(old);
                    w.iopl(iopl);
                    let before = w.flags().bits();
                    let image = if set { 0x003f_7fd7 } else { 0 };
                    w.push(if wide { 4 } else { 2 }, &[image]);
                    w.ok(if wide { &POPFD } else { &POPF });
                    let mut writable = STATUS | 0x100;
                    if wide {
                        writable |= 1 << 18 | 1 << 21;
                    }
                    if ring <= iopl {
                        writable |= 1 << 9;
                    }
                    if ring == 0 {
                        writable |= 3 << 12;
                    }
                    let expected = (before & !writable) | (u64::from(image) & writable);
                    assert_eq!(w.flags().bits(), expected, "ring {ring} iopl {iopl} wide {wide} set {set}");
                    let top = if ring == 0 {
                        STACK0
                    } else if ring == 1 {
                        STACK1
                    } else {
                        STACK3
                    };
                    assert_eq!(w.esp(), top);
                }
            }
        }
    }
}

/// POPF clears RF even where the image has it set.
#[test]
fn popf_clears_rf() {
    let mut w = World::new();
    w.cpu.rflags |= Rflags::RF;
    w.push(4, &[0x1_0002]);
    w.ok(&POPFD);
    assert_eq!(w.flags().bits(), 2);
}
