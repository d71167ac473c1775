//! Where the memory operand of an instruction is that has no handler here: for those who execute it in another way.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind, Register};
use rvmm_arch::machine::{Access, AccessKind, Machine};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::{Gva, VcpuState};

use crate::exec::Exec;
use crate::mem::Span;
use crate::reg;
use crate::step::Stop;

/// The linear address of the `len` bytes (1 to 4096) at the memory operand of `x`, decoded at `cpu`'s RIP, after all that a CPU checks before it
/// touches them: the segment's limit and rights, and translation. Nothing changes but accessed and dirty bits.
///
/// # Errors
/// The fault that the guest gets, or a failure of the machine.
pub fn checked_operand<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    x: &Instruction,
    len: u32,
    kind: AccessKind,
) -> Result<Gva, Stop> {
    let (rip, mode) = (cpu.rip, cpu.mode());
    let mut exec = Exec::new(cpu, m, *x, rip, mode);
    let (seg, offset) = exec.ea();
    let la = exec.linear(seg, offset, len, 1, kind)?;
    let access = Access { kind, privilege: exec.privilege() };
    Span::translate(exec.cpu, exec.m, la, len as usize, access)?;
    Ok(la)
}

/// The linear address and the length in bytes of the only memory operand that `x`, decoded at `cpu`'s RIP, has. `None` where nobody can
/// tell from the instruction alone which bytes it touches, or where it does not touch them just once: a gather's elements, stores and loads
/// under a mask, and the areas of FXSAVE and XSAVE, of which a CPU leaves out what it likes (SDM vol. 1 §10.5.1, §13.4; vol. 2 "VMASKMOV",
/// "MASKMOVDQU", "VGATHERDPD"); what reads its operand and writes it ("CMPccXADD").
#[must_use]
pub fn memory_operand(cpu: &VcpuState, x: &Instruction) -> Option<(Gva, usize)> {
    let len = x.memory_size().size();
    let modifies = x.cpuid_features().contains(&CpuidFeature::CMPCCXADD);
    if len == 0 || x.is_vsib() || modifies || touches_some(x.mnemonic()) {
        return None;
    }
    let mut only = None;
    for operand in 0..x.op_count() {
        match x.op_kind(operand) {
            OpKind::Memory if only.is_none() => only = Some(operand),
            OpKind::Memory
            | OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI => return None,
            _ => {}
        }
    }
    let at = x.virtual_address(only?, 0, |register, _, _| Some(value(cpu, register)))?;
    Some((Gva(cpu.wrap(at)), len))
}

/// Does it touch only some of the bytes that its operand has?
fn touches_some(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Maskmovq
            | Mnemonic::Maskmovdqu
            | Mnemonic::Vmaskmovdqu
            | Mnemonic::Vmaskmovps
            | Mnemonic::Vmaskmovpd
            | Mnemonic::Vpmaskmovd
            | Mnemonic::Vpmaskmovq
            | Mnemonic::Fxsave
            | Mnemonic::Fxsave64
            | Mnemonic::Fxrstor
            | Mnemonic::Fxrstor64
            | Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsaves
            | Mnemonic::Xsaves64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
            | Mnemonic::Xrstors
            | Mnemonic::Xrstors64
    )
}

/// What a register adds to an address: a segment register its base.
fn value(cpu: &VcpuState, register: Register) -> u64 {
    match reg::segment(register) {
        // In 64-bit mode only FS and GS have bases (SDM vol. 1 §3.4.2.1).
        Some(segment) if cpu.mode() == CpuMode::Long && !matches!(segment, SegReg::Fs | SegReg::Gs) => 0,
        Some(segment) => cpu.segment(segment).base,
        None => reg::get(cpu, register),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};
    use rvmm_arch::regs::{Cr0, Efer};
    use rvmm_arch::segment::Segment;

    fn operand(bits: u32, code: &[u8]) -> Option<(u64, usize)> {
        let mut cpu = VcpuState::reset();
        cpu.cr0 |= Cr0::PE;
        *cpu.segment_mut(SegReg::Cs) =
            Segment { attrs: if bits == 64 { 0x209b } else { 0xc09b }, ..Segment::default() };
        if bits == 64 {
            cpu.efer = Efer::LMA;
        }
        for (n, value) in cpu.gpr.iter_mut().enumerate() {
            *value = 0x1_0000_0000 + 0x1000 * n as u64;
        }
        cpu.segment_mut(SegReg::Ds).base = 0x70_0000;
        cpu.segment_mut(SegReg::Gs).base = 0xffff_8000_0000_0000;
        cpu.rip = 0x40_0000;
        let x = Decoder::with_ip(bits, code, cpu.rip, DecoderOptions::NONE).decode();
        memory_operand(&cpu, &x).map(|(at, len)| (at.0, len))
    }

    #[test]
    fn addresses_and_lengths() {
        // movups [rbx+rcx*4+8], xmm1; the same with GS; movss xmm0, [ebx]; fld m80 at a 32-bit address; fnsave; fnstenv of 16 bits
        assert_eq!(operand(64, &[0x0f, 0x11, 0x4c, 0x8b, 8]), Some((0x5_0000_7008, 16)));
        assert_eq!(operand(64, &[0x65, 0x0f, 0x11, 0x4c, 0x8b, 8]), Some((0xffff_8005_0000_7008, 16)));
        assert_eq!(operand(64, &[0x67, 0xf3, 0x0f, 0x10, 0x03]), Some((0x3000, 4)));
        assert_eq!(operand(32, &[0xdb, 0x2b]), Some((0x70_3000, 10)));
        assert_eq!(operand(32, &[0xdd, 0x33]), Some((0x70_3000, 108)));
        assert_eq!(operand(32, &[0x66, 0xd9, 0x33]), Some((0x70_3000, 14)));
        // vmovdqu [rip+0x10], ymm0: relative to the next instruction; fldcw
        assert_eq!(operand(64, &[0xc5, 0xfe, 0x7f, 0x05, 0x10, 0, 0, 0]), Some((0x40_0018, 32)));
        assert_eq!(operand(64, &[0xd9, 0x2b]), Some((0x1_0000_3000, 2)));
    }

    #[test]
    fn what_cannot_be_told() {
        // maskmovdqu xmm0, xmm1; vmaskmovps [rbx], ymm0, ymm1; vpgatherdd xmm0, [rbx+xmm1*4], xmm2; fxsave; xsave; movups between registers;
        // cmpbexadd [rbx], eax, ecx
        for code in [
            &[0x66, 0x0f, 0xf7, 0xc1][..],
            &[0xc4, 0xe2, 0x7d, 0x2e, 0x0b],
            &[0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b],
            &[0x0f, 0xae, 0x03],
            &[0x0f, 0xae, 0x23],
            &[0x0f, 0x10, 0xc1],
            &[0xc4, 0xe2, 0x71, 0xe6, 0x03],
        ] {
            assert_eq!(operand(64, code), None, "{code:x?}");
        }
    }
}
