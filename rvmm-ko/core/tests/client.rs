//! What a client may do to the engine by way of ioctls: any range, any state. It may harm its guest, never the engine.
#![allow(clippy::unwrap_used)]

mod soft;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};

use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{Gpa, Model};
use rvmm_core::{ClientExit, Options, RunRequest, Verify};
use rvmm_patcher::TacticSet;
use soft::guest::{multiboot_state, profile64, Guest};
use soft::SoftHost;

fn options() -> Options {
    Options {
        model: Model::Ring1,
        tactics: TacticSet::all(),
        verify: Verify::Off,
        interpret_all: false,
        coherent_client: true,
    }
}

#[test]
fn announcing_all_there_could_be_takes_no_longer_than_what_there_is() {
    let mut guest = Guest::new(16 << 20, options());
    let begin = Instant::now();
    for (gpa, len) in [(0, u64::MAX), (1 << 40, u64::MAX), (u64::MAX, u64::MAX), (0xffff_f001, 1 << 50)] {
        guest.vcpu.memory_written(&mut guest.host, Gpa(gpa), len).unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_client_resets_a_vcpu_that_a_triple_fault_has_stopped() {
    let mut guest = Guest::new(2 << 20, options());
    guest.host.ram[0x1000..0x1002].copy_from_slice(&[0x0f, 0x0b]);
    guest.host.ram[0x2000] = 0xf4;
    let mut s = multiboot_state(0x1000);
    s.idtr = TableRegister { base: 0, limit: 0 };
    guest.vcpu.set_state(&mut guest.host, s).unwrap();
    let request = RunRequest { interrupt_window: false, immediate_exit: false };
    assert_eq!(guest.vcpu.run(&mut guest.host, request), ClientExit::Shutdown);
    assert_eq!(guest.vcpu.run(&mut guest.host, request), ClientExit::Shutdown);
    // As KVM_SET_REGS does: a copy, changed.
    let mut s = guest.vcpu.state().clone();
    s.rip = 0x2000;
    guest.vcpu.set_state(&mut guest.host, s).unwrap();
    assert_eq!(guest.vcpu.run(&mut guest.host, request), ClientExit::Hlt);
}

/// As KVM_EXIT_SET_TPR: for a client with a local APIC that holds interrupts back.
#[test]
fn a_client_is_told_when_the_guest_lowers_its_task_priority() {
    let options = Options { tactics: TacticSet::all() - TacticSet::JUMP, ..options() };
    let mut guest = Guest::with_cpu(SoftHost::new(4 << 20), options, profile64(b"GenuineIntel"));
    // Four levels that map the first 2 MiB to themselves.
    for (at, entry) in [(0x3000, 0x4003_u64), (0x4000, 0x5003), (0x5000, 0x83)] {
        guest.host.ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    }
    // MOV CR8, RAX; MOV EAX, 3; MOV CR8, RAX; HLT
    let code = [0x44, 0x0f, 0x22, 0xc0, 0xb8, 3, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0, 0xf4];
    guest.host.ram[0x1000..0x1000 + code.len()].copy_from_slice(&code);
    let mut s = multiboot_state(0x1000);
    (s.cr0, s.cr3, s.cr4) = (s.cr0 | Cr0::PG, 0x3000, Cr4::PAE);
    s.efer = Efer::LME | Efer::LMA;
    s.segment_mut(SegReg::Cs).attrs = 0xa09b;
    let request = RunRequest { interrupt_window: false, immediate_exit: false };
    // Raised and lowered while the client knows nothing of it; then lowered below what it knows.
    for (known, raised, expected) in
        [(0, 5, ClientExit::Hlt), (5, 5, ClientExit::TaskPriority), (4, 9, ClientExit::TaskPriority)]
    {
        s.gpr[0] = raised;
        guest.vcpu.set_state(&mut guest.host, s.clone()).unwrap();
        guest.vcpu.set_cr8(known);
        assert_eq!(guest.vcpu.run(&mut guest.host, request), expected, "{known}");
        assert_eq!((guest.vcpu.state().cr8, guest.vcpu.state().rip >= 0x100d), (3, true));
        if expected != ClientExit::Hlt {
            assert_eq!(guest.vcpu.run(&mut guest.host, request), ClientExit::Hlt);
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next() % n == 0
    }

    /// Numbers that overflow something.
    fn wild(&mut self) -> u64 {
        let edges =
            [0, 1, 0xfff, 0x1000, 0x7fff_ffff, 0xffff_f000, 0xffff_ffff, 1 << 32, 1 << 47, u64::MAX - 1, u64::MAX];
        match self.next() % 4 {
            0 => self.next(),
            1 => self.next() & 0xffff_ffff,
            2 => self.next() & 0xff_ffff,
            _ => edges[(self.next() % edges.len() as u64) as usize],
        }
    }

    fn segment(&mut self) -> Segment {
        // Present or unusable: the switcher refuses CS and SS that are neither.
        let attrs = if self.one_in(4) { 0 } else { self.next() as u16 & 0xf0ff | 0x80 };
        Segment { selector: Selector(self.next() as u16), base: self.wild(), limit: self.wild() as u32, attrs }
    }
}

/// What KVM_SET_REGS, SREGS, MSRS, DEBUGREGS and VCPU_EVENTS let through (rvmm-ko/convert.rs), in any combination.
#[test]
fn no_state_that_a_client_can_set_makes_the_engine_panic() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rounds = std::env::var("RVMM_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000_u64);
    let mut failed = Vec::new();
    for seed in 1..=rounds {
        let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut guest = Guest::new(
            2 << 20,
            Options {
                model: if seed % 2 == 0 { Model::Ring3 } else { Model::Ring1 },
                verify: if seed % 3 == 0 { Verify::Always } else { Verify::Off },
                ..options()
            },
        );
        for byte in &mut guest.host.ram[..0x10000] {
            *byte = r.next() as u8;
        }
        let mut s = multiboot_state(0x1000);
        for g in &mut s.gpr {
            *g = r.wild();
        }
        if r.one_in(2) {
            s.rip = r.wild();
        }
        s.rflags = Rflags::from_bits_truncate(r.next()) | Rflags::ONE;
        if r.one_in(2) {
            s.cr0 = Cr0::from_bits_truncate(r.next()) | Cr0::ET;
            s.cr4 = Cr4::from_bits_truncate(r.next());
            s.efer = Efer::from_bits_truncate(r.next()) - (Efer::LME | Efer::LMA);
        }
        (s.cr2, s.cr3, s.cr8) = (r.wild(), r.wild(), r.next() % 16);
        for reg in SegReg::ALL {
            if r.one_in(3) {
                *s.segment_mut(reg) = r.segment();
            }
        }
        (s.tr, s.ldtr) = (r.segment(), r.segment());
        s.gdtr = TableRegister { base: r.wild(), limit: r.next() as u16 };
        s.idtr = TableRegister { base: r.wild(), limit: r.next() as u16 };
        s.cpl = [0, 0, 3, 1][(r.next() % 4) as usize];
        s.dr = [r.wild(), r.wild(), r.wild(), r.wild()];
        (s.dr6, s.dr7) = (r.next() & 0xffff_ffff, r.next() & 0xffff_2fff | 0x400);
        s.tsc_offset = r.wild();
        (s.msrs.sysenter_cs, s.msrs.sysenter_esp, s.msrs.sysenter_eip) = (r.wild(), r.wild(), r.wild());
        guest.host.slice = 3;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if guest.vcpu.set_state(&mut guest.host, s).is_err() {
                return;
            }
            for _ in 0..4 {
                guest.vcpu.interrupt(r.next() as u8);
                if r.one_in(2) {
                    guest.vcpu.nmi();
                }
                guest.vcpu.run(&mut guest.host, RunRequest { interrupt_window: r.one_in(2), immediate_exit: false });
                guest.vcpu.complete_io(r.next());
            }
        }));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            failed.push((seed, text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))));
        }
    }
    std::panic::set_hook(quiet);
    assert!(failed.is_empty(), "{} of {rounds}: {failed:#?}", failed.len());
}
