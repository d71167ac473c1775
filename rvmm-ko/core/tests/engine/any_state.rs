//! No state of a client's and no memory of a guest's makes the engine panic or run for ever.

use crate::options;
use crate::soft::guest::{multiboot_state, profile, profile64, Guest};
use crate::soft::SoftHost;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{Model, VcpuState};
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::{ClientExit, Options, RunRequest};
use rvmm_patcher::TacticSet;

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A small number, one near a boundary, or any.
    fn odd(&mut self) -> u64 {
        let n = self.throw();
        match n >> 60 {
            0..=5 => n & 0xffff,
            6 | 7 => 0xffff_f000 | n & 0xfff,
            8 | 9 => 0x7fff_ffff_f000 | n & 0xfff,
            10 | 11 => 0xffff_8000_0000_0000 | n & 0xffff,
            12 | 13 => u64::MAX - (n & 0xff),
            _ => n,
        }
    }

    fn segment(&mut self) -> Segment {
        let (selector, attrs) = (self.throw() as u16 & 0x3f, self.throw() as u16 & 0xf0ff);
        Segment { selector: Selector(selector), base: self.odd(), limit: self.odd() as u32, attrs }
    }
}

/// A state that KVM_SET_SREGS lets through (`possible` in the module's convert.rs), with everything else as a hostile client likes.
fn any_state(dice: &mut Dice, ordinary: VcpuState) -> VcpuState {
    let mut s = ordinary;
    s.gpr = std::array::from_fn(|_| dice.odd());
    s.rip = if dice.throw() & 1 == 0 { s.rip } else { dice.odd() };
    s.rflags = Rflags::from_bits_truncate(dice.throw()) | Rflags::ONE;
    for reg in SegReg::ALL {
        if dice.throw() & 3 == 0 {
            *s.segment_mut(reg) = dice.segment();
        }
    }
    (s.ldtr, s.tr) = (dice.segment(), dice.segment());
    s.gdtr = TableRegister { base: dice.odd(), limit: dice.throw() as u16 };
    s.idtr = TableRegister { base: dice.odd(), limit: dice.throw() as u16 };
    s.cr0 = Cr0::from_bits_truncate(dice.throw()) | Cr0::ET;
    s.cr0.set(Cr0::PE, s.cr0.contains(Cr0::PG) || dice.throw() & 3 != 0);
    s.cr0.set(Cr0::NW, s.cr0.contains(Cr0::NW | Cr0::CD));
    s.cr4 = Cr4::from_bits_truncate(dice.throw());
    (s.cr2, s.cr3, s.cr8) = (dice.odd(), dice.odd(), dice.throw() & 15);
    s.efer = Efer::from_bits_truncate(dice.throw()) - Efer::LMA;
    let mut code = *s.segment(SegReg::Cs);
    if s.efer.contains(Efer::LME) && s.cr0.contains(Cr0::PG) {
        (s.efer, s.cr4) = (s.efer | Efer::LMA, s.cr4 | Cr4::PAE);
        code.attrs &= if dice.throw() & 1 == 0 { !0x2000 } else { !0x4000 };
        code.attrs |= if code.attrs & 0x4000 == 0 { 0x2000 } else { 0 };
        let canonical = |a: u64| ((a << 16) as i64 >> 16) as u64;
        for reg in [SegReg::Fs, SegReg::Gs] {
            s.segment_mut(reg).base = canonical(s.segment(reg).base);
        }
        (s.tr.base, s.ldtr.base) = (canonical(s.tr.base), canonical(s.ldtr.base));
        (s.gdtr.base, s.idtr.base) = (canonical(s.gdtr.base), canonical(s.idtr.base));
        s.cr3 &= 0xff_ffff_ffff;
    } else {
        code.attrs &= !0x2000;
        s.cr4 -= Cr4::PCIDE;
    }
    *s.segment_mut(SegReg::Cs) = code;
    s.cpl = match s.mode() {
        CpuMode::Real => 0,
        CpuMode::Virtual8086 => 3,
        _ => s.segment(SegReg::Ss).dpl(),
    };
    s.dr = std::array::from_fn(|_| dice.odd());
    s.dr7 = dice.throw() & 0xffff_2fff | 0x400;
    s
}

/// No state of a client's and no memory of a guest's makes the engine panic, and none runs for ever without a return.
#[test]
fn any_state_of_a_client_ends_in_an_exit() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_u64);
    for seed in 1..=seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let model = if seed & 1 == 0 { Model::Ring1 } else { Model::Ring3 };
        let tactics = if seed & 2 == 0 { TacticSet::all() } else { TacticSet::empty() };
        let cpuid = match seed % 3 {
            0 => profile(),
            1 => profile64(b"GenuineIntel"),
            // A CPU that has everything.
            _ => [0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_0008]
                .map(|function| CpuidEntry { function, regs: [!0; 4], ..CpuidEntry::default() })
                .to_vec(),
        };
        let mut host = SoftHost::new(1 << 20);
        host.features.pku = seed & 4 == 0;
        host.slice = 16;
        let mut guest = Guest::with_cpu(host, Options { model, tactics, ..options() }, cpuid);
        for chunk in guest.host.ram.chunks_exact_mut(8).take(0x4000 / 8) {
            chunk.copy_from_slice(&dice.odd().to_le_bytes());
        }
        for _ in 0..4 {
            let state = any_state(&mut dice, multiboot_state(0x3000));
            // EINVAL for the client, at worst.
            let _set = guest.vcpu.set_state(&mut guest.host, state);
            for _ in 0..32 {
                match guest.vcpu.run(&mut guest.host, RunRequest::default()) {
                    ClientExit::Io(_) => guest.vcpu.complete_io(dice.odd()),
                    ClientExit::Hlt | ClientExit::Shutdown | ClientExit::InternalError(_) => break,
                    _ => {}
                }
            }
        }
    }
}
