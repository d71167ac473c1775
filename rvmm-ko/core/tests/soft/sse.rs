//! A few moves of SSE2, for what the engine does around instructions that only the CPU has: loads and stores of 16 bytes and a store under a
//! mask.

use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use rvmm_arch::fault::{Exception, Vector};
use rvmm_arch::machine::{Access, AccessKind, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::{Gpa, Gva, VcpuState};
use rvmm_interp::memory_operand;

/// DR6.BS.
const SINGLE_STEP: u64 = 1 << 14;

/// Where 16 bytes are, each byte translated before any is touched.
fn span<M: Machine>(m: &mut M, cpu: &VcpuState, at: Gva, kind: AccessKind) -> Result<Vec<Gpa>, Exception> {
    let privilege = if cpu.cpl == 3 { Privilege::User } else { Privilege::Supervisor };
    let byte = |i: u64| match m.translate(cpu, Gva(cpu.wrap(at.0.wrapping_add(i))), Access { kind, privilege }) {
        Ok(hpa) => Ok(hpa),
        Err(MachineStop::Fault(fault)) => Err(fault),
        Err(other) => panic!("{other:?}"),
    };
    (0..16).map(byte).collect()
}

fn number(register: Register) -> usize {
    register.number()
}

/// Executes the instruction if it is one of them; a fault leaves everything as it was.
pub fn execute<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    xmm: &mut [[u8; 16]; 16],
    code: &[u8],
) -> Option<Result<(), Exception>> {
    let long = cpu.mode() == CpuMode::Long;
    let x = Decoder::with_ip(if long { 64 } else { 32 }, code, cpu.rip, DecoderOptions::NONE).decode();
    let aligned = matches!(x.mnemonic(), Mnemonic::Movaps | Mnemonic::Movdqa | Mnemonic::Movntps | Mnemonic::Movntdq);
    let moves = aligned || matches!(x.mnemonic(), Mnemonic::Movups | Mnemonic::Movdqu);
    if !moves && x.mnemonic() != Mnemonic::Maskmovdqu {
        return None;
    }
    if cpu.cr0.contains(Cr0::EM) || !cpu.cr4.contains(Cr4::OSFXSR) {
        return Some(Err(Exception::ud()));
    }
    if cpu.cr0.contains(Cr0::TS) {
        return Some(Err(Exception::new(Vector::NM)));
    }
    let mut act = || -> Result<(), Exception> {
        if !moves {
            let (data, mask) = (xmm[number(x.op1_register())], xmm[number(x.op2_register())]);
            let base = if long { 0 } else { cpu.segment(SegReg::Ds).base };
            let to = span(m, cpu, Gva(cpu.wrap(base.wrapping_add(cpu.gpr[7]))), AccessKind::Write)?;
            for (i, hpa) in to.into_iter().enumerate().filter(|(i, _)| mask[*i] & 0x80 != 0) {
                m.write(hpa, &data[i..=i]).unwrap();
            }
            return Ok(());
        }
        match (x.op0_kind(), x.op1_kind()) {
            (OpKind::Register, OpKind::Register) => xmm[number(x.op0_register())] = xmm[number(x.op1_register())],
            (to, _) => {
                let (at, len) = memory_operand(cpu, &x).unwrap();
                assert_eq!(len, 16);
                if aligned && at.0 & 15 != 0 {
                    return Err(Exception::with_code(Vector::GP, 0));
                }
                let store = to == OpKind::Memory;
                let kind = if store { AccessKind::Write } else { AccessKind::Read };
                let bytes = span(m, cpu, at, kind)?;
                let register = if store { x.op1_register() } else { x.op0_register() };
                let value = &mut xmm[number(register)];
                for (hpa, byte) in bytes.into_iter().zip(value) {
                    if store {
                        m.write(hpa, &[*byte]).unwrap();
                    } else {
                        m.read(hpa, core::slice::from_mut(byte)).unwrap();
                    }
                }
            }
        }
        Ok(())
    };
    let done = act();
    Some(done.and_then(|()| {
        cpu.rip = cpu.wrap(x.next_ip());
        cpu.rflags.remove(Rflags::RF);
        if cpu.rflags.contains(Rflags::TF) {
            return Err(Exception::debug(SINGLE_STEP));
        }
        Ok(())
    }))
}
