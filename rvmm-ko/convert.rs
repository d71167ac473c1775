// SPDX-License-Identifier: GPL-2.0
//! Between KVM's structures and [`VcpuState`]. Pure.

use crate::kvm_abi::{msr, DebugRegs, Fpu, Regs, Segment as KvmSegment, Sregs, Table, Xcr, Xcrs};
use kernel::prelude::*;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{xstate, VcpuState};
use rvmm_core::cpuid::CpuidEntry;

/// KVM_GET_REGS.
pub(crate) fn regs(s: &VcpuState) -> Regs {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = s.gpr;
    Regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: s.rip,
        rflags: s.rflags.bits(),
    }
}

/// KVM_SET_REGS.
pub(crate) fn set_regs(s: &mut VcpuState, r: &Regs) {
    s.gpr =
        [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15];
    s.rip = r.rip;
    s.rflags = Rflags::from_bits_truncate(r.rflags) | Rflags::ONE;
    s.shadow = Default::default();
}

fn segment(s: &Segment) -> KvmSegment {
    let bit = |n: u16| u8::from(s.attrs >> n & 1 != 0);
    KvmSegment {
        base: s.base,
        limit: s.limit,
        selector: s.selector.0,
        kind: s.kind(),
        present: bit(7),
        dpl: s.dpl(),
        db: bit(14),
        s: bit(4),
        l: bit(13),
        g: bit(15),
        avl: bit(12),
        unusable: u8::from(!s.usable()),
        padding: 0,
    }
}

fn set_segment(k: &KvmSegment) -> Segment {
    let selector = Selector(k.selector);
    if k.unusable != 0 {
        return Segment { selector, base: k.base, limit: k.limit, attrs: 0 };
    }
    let bit = |value: u8, n: u16| u16::from(value & 1) << n;
    let attrs = u16::from(k.kind & 0xf)
        | bit(k.s, 4)
        | u16::from(k.dpl & 3) << 5
        | bit(k.present, 7)
        | bit(k.avl, 12)
        | bit(k.l, 13)
        | bit(k.db, 14)
        | bit(k.g, 15);
    Segment { selector, base: k.base, limit: k.limit, attrs }
}

fn table(t: TableRegister) -> Table {
    Table { base: t.base, limit: t.limit, padding0: 0, padding1: 0 }
}

fn set_table(t: &Table) -> TableRegister {
    TableRegister { base: t.base, limit: t.limit }
}

/// KVM_GET_SREGS; `pending`: the interrupt that waits.
pub(crate) fn sregs(s: &VcpuState, pending: Option<u8>) -> Sregs {
    let seg = |r: SegReg| segment(s.segment(r));
    let mut out = Sregs {
        cs: seg(SegReg::Cs),
        ds: seg(SegReg::Ds),
        es: seg(SegReg::Es),
        fs: seg(SegReg::Fs),
        gs: seg(SegReg::Gs),
        ss: seg(SegReg::Ss),
        tr: segment(&s.tr),
        ldt: segment(&s.ldtr),
        gdt: table(s.gdtr),
        idt: table(s.idtr),
        cr0: s.cr0.bits(),
        cr2: s.cr2,
        cr3: s.cr3,
        cr4: s.cr4.bits(),
        cr8: s.cr8,
        efer: s.efer.bits(),
        apic_base: s.msrs.apic_base,
        interrupt_bitmap: [0; 4],
    };
    if let Some(v) = pending {
        if let Some(word) = out.interrupt_bitmap.get_mut(usize::from(v / 64)) {
            *word |= 1 << (v % 64);
        }
    }
    out
}

/// What the guest's CPUID says about the special registers.
pub(crate) struct Announced {
    cr4: Cr4,
    physical_bits: u32,
}

impl Announced {
    /// From the table of KVM_SET_CPUID2. As KVM does it: most bits of CR4 are there for everyone, and without leaf 80000008 addresses
    /// have 36 bits.
    pub(crate) fn new(table: &[CpuidEntry]) -> Self {
        /// CR4 bits that need a feature: leaf, register, bit.
        const NEEDS: [(Cr4, u32, usize, u32); 8] = [
            (Cr4::PCIDE, 1, 2, 17),
            (Cr4::OSXSAVE, 1, 2, 26),
            (Cr4::FSGSBASE, 7, 1, 0),
            (Cr4::SMEP, 7, 1, 7),
            (Cr4::SMAP, 7, 1, 20),
            (Cr4::UMIP, 7, 2, 2),
            (Cr4::PKE, 7, 2, 3),
            (Cr4::LA57, 7, 2, 16),
        ];
        let register = |leaf: u32, register: usize| {
            let entry = table.iter().find(|e| e.function == leaf && (!e.indexed || e.index == 0));
            entry.and_then(|e| e.regs.get(register)).copied()
        };
        let mut cr4 = Cr4::all();
        for (bits, leaf, at, bit) in NEEDS {
            if register(leaf, at).unwrap_or(0).wrapping_shr(bit) & 1 == 0 {
                cr4 -= bits;
            }
        }
        let physical_bits = match register(0x8000_0008, 0).unwrap_or(0) & 0xff {
            0 => 36,
            bits => bits.min(52),
        };
        Self { cr4, physical_bits }
    }
}

/// Are bits 63 to 47 equal (SDM vol. 1 §3.3.7.1)?
const fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// Can a CPU be in this state? The rules of long mode are KVM's: with EFER.LME and paging it is in it, which needs PAE and shows in
/// EFER.LMA; otherwise EFER.LMA is clear and no code segment is a 64-bit one. Besides these there is what the CPU checks when such
/// registers are loaded (SDM vol. 3 §26.3.1, which has it all in one place).
fn possible(k: &Sregs, cr0: Cr0, cr4: Cr4, efer: Efer, announced: &Announced) -> bool {
    let paging_alone = cr0.contains(Cr0::PG) && !cr0.contains(Cr0::PE);
    let no_write_through_alone = cr0.contains(Cr0::NW) && !cr0.contains(Cr0::CD);
    if paging_alone || no_write_through_alone || k.cr8 > 15 || !announced.cr4.contains(cr4) {
        return false;
    }
    if !(efer.contains(Efer::LME) && cr0.contains(Cr0::PG)) {
        return !efer.contains(Efer::LMA) && k.cs.l & 1 == 0 && !cr4.contains(Cr4::PCIDE);
    }
    let widths = k.cs.l & k.cs.db & 1 == 0;
    let bases = [k.fs.base, k.gs.base, k.tr.base, k.ldt.base, k.gdt.base, k.idt.base];
    let root = k.cr3 >> announced.physical_bits == 0;
    efer.contains(Efer::LMA) && cr4.contains(Cr4::PAE) && widths && root && bases.into_iter().all(canonical)
}

/// KVM_SET_SREGS: the interrupt of its bitmap. EINVAL for what no CPU can be in.
pub(crate) fn set_sregs(s: &mut VcpuState, k: &Sregs, announced: &Announced) -> Result<Option<u8>> {
    let (Some(cr0), Some(cr4), Some(efer)) = (Cr0::from_bits(k.cr0), Cr4::from_bits(k.cr4), Efer::from_bits(k.efer))
    else {
        return Err(EINVAL);
    };
    if !possible(k, cr0, cr4, efer, announced) {
        return Err(EINVAL);
    }
    for (reg, from) in [
        (SegReg::Cs, &k.cs),
        (SegReg::Ds, &k.ds),
        (SegReg::Es, &k.es),
        (SegReg::Fs, &k.fs),
        (SegReg::Gs, &k.gs),
        (SegReg::Ss, &k.ss),
    ] {
        *s.segment_mut(reg) = set_segment(from);
    }
    s.tr = set_segment(&k.tr);
    s.ldtr = set_segment(&k.ldt);
    s.gdtr = set_table(&k.gdt);
    s.idtr = set_table(&k.idt);
    s.cr0 = cr0 | Cr0::ET;
    s.cr2 = k.cr2;
    s.cr3 = k.cr3;
    s.cr4 = cr4;
    s.cr8 = k.cr8;
    s.efer = efer;
    s.msrs.apic_base = k.apic_base;
    s.cpl = if !cr0.contains(Cr0::PE) {
        0
    } else if s.rflags.contains(Rflags::VM) {
        3
    } else {
        k.ss.dpl & 3
    };
    let mut vectors =
        (0_u8..=255).filter(|v| k.interrupt_bitmap.get(usize::from(v / 64)).is_some_and(|w| w >> (v % 64) & 1 != 0));
    Ok(vectors.next_back())
}

/// KVM_GET_FPU, from the image of FXSAVE64.
pub(crate) fn fpu(image: &[u8; 512]) -> Fpu {
    let word = |at: usize| u64_at(image, at);
    let mut out = Fpu {
        fcw: word(0) as u16,
        fsw: (word(0) >> 16) as u16,
        ftwx: (word(0) >> 32) as u8,
        last_opcode: (word(0) >> 48) as u16,
        last_ip: word(8),
        last_dp: word(16),
        mxcsr: word(24) as u32,
        ..Fpu::default()
    };
    for (i, to) in out.fpr.iter_mut().enumerate() {
        *to = word(i.wrapping_mul(8).wrapping_add(32));
    }
    for (i, to) in out.xmm.iter_mut().enumerate() {
        *to = word(i.wrapping_mul(8).wrapping_add(160));
    }
    out
}

/// KVM_SET_FPU: the new image.
pub(crate) fn set_fpu(k: &Fpu) -> [u8; 512] {
    let mut image = [0; 512];
    let head = u64::from(k.fcw) | u64::from(k.fsw) << 16 | u64::from(k.ftwx) << 32 | u64::from(k.last_opcode) << 48;
    let words = [head, k.last_ip, k.last_dp, u64::from(k.mxcsr)];
    let mut places = image.chunks_exact_mut(8);
    for part in [&words[..], &k.fpr, &k.xmm] {
        for (from, to) in part.iter().zip(&mut places) {
            to.copy_from_slice(&from.to_le_bytes());
        }
    }
    image
}

fn u64_at(image: &[u8; 512], at: usize) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(image.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

/// KVM_GET_XCRS: there is one.
pub(crate) fn xcrs(s: &VcpuState) -> Xcrs {
    let mut out = Xcrs { nr_xcrs: 1, ..Xcrs::default() };
    if let Some(first) = out.xcrs.first_mut() {
        *first = Xcr { xcr: 0, reserved: 0, value: s.xcr0 };
    }
    out
}

/// KVM_SET_XCRS; `supported`: what XCR0 may have. As KVM does it, registers that there are not are passed over.
pub(crate) fn set_xcrs(s: &mut VcpuState, k: &Xcrs, supported: u64) -> Result {
    let entries = k.xcrs.get(..k.nr_xcrs as usize).filter(|_| k.flags == 0).ok_or(EINVAL)?;
    if let Some(entry) = entries.iter().find(|entry| entry.xcr == 0) {
        if !xstate::is_valid(entry.value) || entry.value & !supported != 0 {
            return Err(EINVAL);
        }
        s.xcr0 = entry.value;
    }
    Ok(())
}

/// KVM_GET_DEBUGREGS.
pub(crate) fn debug_regs(s: &VcpuState) -> DebugRegs {
    DebugRegs { db: s.dr, dr6: s.dr6, dr7: s.dr7, flags: 0, reserved: [0; 9] }
}

/// KVM_SET_DEBUGREGS.
pub(crate) fn set_debug_regs(s: &mut VcpuState, k: &DebugRegs) -> Result {
    if k.flags != 0 || k.dr6 >> 32 != 0 || k.dr7 >> 32 != 0 {
        return Err(EINVAL);
    }
    s.dr = k.db;
    s.dr6 = k.dr6;
    s.dr7 = k.dr7 & !0xd000 | 0x400;
    Ok(())
}

/// The MSRs of KVM_GET_MSR_INDEX_LIST.
pub(crate) const MSRS: [u32; 19] = [
    msr::TSC,
    msr::APIC_BASE,
    msr::ARCH_CAPABILITIES,
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::MISC_ENABLE,
    msr::DEBUGCTL,
    msr::PAT,
    msr::MTRR_DEF_TYPE,
    msr::EFER,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::SFMASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
    msr::TSC_AUX,
];

const MTRR_FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// The place of an MSR that is plain state.
fn plain_msr(s: &mut VcpuState, index: u32) -> Option<&mut u64> {
    if let msr::FS_BASE | msr::GS_BASE = index {
        let reg = if index == msr::FS_BASE { SegReg::Fs } else { SegReg::Gs };
        return Some(&mut s.segment_mut(reg).base);
    }
    let m = &mut s.msrs;
    Some(match index {
        msr::APIC_BASE => &mut m.apic_base,
        msr::SYSENTER_CS => &mut m.sysenter_cs,
        msr::SYSENTER_ESP => &mut m.sysenter_esp,
        msr::SYSENTER_EIP => &mut m.sysenter_eip,
        msr::ARCH_CAPABILITIES => &mut m.arch_capabilities,
        msr::MISC_ENABLE => &mut m.misc_enable,
        msr::DEBUGCTL => &mut m.debugctl,
        msr::PAT => &mut m.pat,
        msr::MTRR_DEF_TYPE => &mut m.mtrr_def_type,
        msr::STAR => &mut m.star,
        msr::LSTAR => &mut m.lstar,
        msr::CSTAR => &mut m.cstar,
        msr::SFMASK => &mut m.sfmask,
        msr::KERNEL_GS_BASE => &mut m.kernel_gs_base,
        msr::TSC_AUX => &mut m.tsc_aux,
        0x200..=0x20f => m.mtrr_var.get_mut(index.wrapping_sub(0x200) as usize)?,
        _ => m.mtrr_fixed.get_mut(MTRR_FIXED.iter().position(|i| *i == index)?)?,
    })
}

/// One entry of KVM_GET_MSRS; `None`: no such MSR.
pub(crate) fn get_msr(s: &mut VcpuState, index: u32, tsc: u64) -> Option<u64> {
    match index {
        msr::TSC => Some(tsc.wrapping_add(s.tsc_offset)),
        msr::EFER => Some(s.efer.bits()),
        _ => plain_msr(s, index).map(|m| *m),
    }
}

/// One entry of KVM_SET_MSRS; `None`: no such MSR, or a value it cannot have.
pub(crate) fn set_msr(s: &mut VcpuState, index: u32, value: u64, tsc: u64) -> Option<()> {
    match index {
        msr::TSC => s.tsc_offset = value.wrapping_sub(tsc),
        msr::EFER => s.efer = new_efer(s, value)?,
        _ => *plain_msr(s, index)? = writable(index, value)?,
    }
    Some(())
}

/// EFER after a write. LMA is the CPU's: it stays as it is, as KVM has it; and as paging is switched on in one mode, LME stays then.
fn new_efer(s: &VcpuState, value: u64) -> Option<Efer> {
    let new = (Efer::from_bits(value)? - Efer::LMA) | (s.efer & Efer::LMA);
    let switched = (new ^ s.efer).contains(Efer::LME) && s.cr0.contains(Cr0::PG);
    (!switched).then_some(new)
}

/// The value that a register takes, if it can (SDM vol. 4). KVM makes the SYSENTER addresses canonical and refuses the others.
fn writable(index: u32, value: u64) -> Option<u64> {
    match index {
        msr::FS_BASE | msr::GS_BASE | msr::KERNEL_GS_BASE | msr::LSTAR | msr::CSTAR => {
            canonical(value).then_some(value)
        }
        msr::SYSENTER_ESP | msr::SYSENTER_EIP => Some(((value << 16) as i64 >> 16) as u64),
        msr::SFMASK | msr::TSC_AUX => Some(value & 0xffff_ffff),
        // Memory types: uncacheable, write-combining, write-through, write-protected, write-back, uncached.
        msr::PAT => value.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7)).then_some(value),
        _ => Some(value),
    }
}
