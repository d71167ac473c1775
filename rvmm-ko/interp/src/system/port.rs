//! Port I/O: IN, OUT, INS, OUTS, with IOPL and the I/O permission bitmap (SDM vol. 1 chapter 19).
//!
//! Nothing is changed before the machine has answered, so an access that must wait is executed again from its start.

use super::tss;
use crate::batch::{self, Done};
use crate::exec::{Exec, Res};
use crate::reg;
use iced_x86::{Mnemonic, OpKind, Register};
use rvmm_arch::machine::{AccessKind, Machine};
use rvmm_arch::regs::{gpr, Cr4};
use rvmm_arch::segment::CpuMode;
use rvmm_arch::Exception;

/// #GP(0) unless the `size` ports from `port` are open to this code.
fn open<M: Machine>(x: &mut Exec<'_, M>, port: u16, size: u8) -> Res {
    let free = match x.mode {
        CpuMode::Real => true,
        CpuMode::Virtual8086 => false,
        CpuMode::Protected | CpuMode::Long => x.cpu.cpl <= x.cpu.rflags.iopl(),
    };
    if !free && !tss::io_allowed(x.cpu, x.m, port, size)? {
        return Err(Exception::gp(0).into());
    }
    Ok(())
}

/// [`open`], and I/O breakpoints are noted.
fn check<M: Machine>(x: &mut Exec<'_, M>, port: u16, size: u8) -> Res {
    open(x, port, size)?;
    if x.cpu.cr4.contains(Cr4::DE) && x.cpu.dr7 & 0xff != 0 {
        x.debug_hits |= io_breakpoints(x.cpu.dr7, &x.cpu.dr, port, size);
    }
    Ok(())
}

/// DR6 bits of the enabled I/O breakpoints (R/W = 2) that an access meets.
fn io_breakpoints(dr7: u64, dr: &[u64; 4], port: u16, size: u8) -> u64 {
    let first = u64::from(port);
    let end = first.wrapping_add(u64::from(size));
    (0u32..).zip(dr).fold(0, |hits, (i, &at)| {
        let control = (dr7 >> (16 + i * 4)) & 15;
        let enabled = (dr7 >> (i * 2)) & 3 != 0 && control & 3 == 2;
        let len = [1, 2, 1, 4].get((control >> 2) as usize).copied().unwrap_or(1);
        let at = at & !(len - 1);
        if enabled && at < end && first < at.wrapping_add(len) {
            hits | 1 << i
        } else {
            hits
        }
    })
}

/// The port of an operand: an immediate byte, or DX.
fn port<M: Machine>(x: &Exec<'_, M>, i: u32) -> u16 {
    match x.kind(i) {
        OpKind::Register => x.reg(Register::DX) as u16,
        _ => u16::from(x.ins.immediate8()),
    }
}

/// IN: the port is operand 1.
pub(super) fn input<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (port, size) = (port(x, 1), x.size(0) as u8);
    check(x, port, size)?;
    let value = x.m.port_in(port, size)?;
    x.set_reg(x.op_reg(0), u64::from(value));
    Ok(())
}

/// OUT: the port is operand 0.
pub(super) fn output<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let from = x.op_reg(1);
    let (port, size) = (port(x, 0), reg::place(from).size);
    check(x, port, size as u8)?;
    let value = x.reg(from) as u32;
    x.m.port_out(port, size as u8, value)?;
    Ok(())
}

/// Bytes that one iteration of INS or OUTS moves.
const fn width(mnemonic: Mnemonic) -> u32 {
    match mnemonic {
        Mnemonic::Insb | Mnemonic::Outsb => 1,
        Mnemonic::Insw | Mnemonic::Outsw => 2,
        _ => 4,
    }
}

/// INS and OUTS, with or without REP: whether the port is open is asked even where no iteration is left.
pub(super) fn string<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let repeats = x.ins.has_rep_prefix() || x.ins.has_repne_prefix();
    if repeats && x.gpr(gpr::RCX, x.string_address_size()) == 0 {
        let port = x.reg(Register::DX) as u16;
        return open(x, port, width(x.ins.mnemonic()) as u8);
    }
    match x.ins.mnemonic() {
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => {
            x.rep_many(|x, count| many(x, count, AccessKind::Write), ins)
        }
        _ => x.rep_many(|x, count| many(x, count, AccessKind::Read), outs),
    }
}

/// One iteration of INS: the destination, which is ES:(E)DI whatever the prefixes, is checked and translated before
/// the port is read.
fn ins<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = width(x.ins.mnemonic());
    let port = x.reg(Register::DX) as u16;
    check(x, port, size as u8)?;
    let (seg, offset) = x.string_dest();
    let to = x.span(seg, offset, size, AccessKind::Write)?;
    let value = x.m.port_in(port, size as u8)?;
    to.write_uint(x.m, u64::from(value))?;
    x.string_advance(gpr::RDI, size);
    Ok(())
}

/// INS, which writes memory, or OUTS, up to `count` iterations: the port is asked for, or given, as many elements at once as the machine likes.
#[inline(never)]
fn many<M: Machine>(x: &mut Exec<'_, M>, count: u64, kind: AccessKind) -> Done {
    let size = width(x.ins.mnemonic()) as u8;
    let port = x.reg(Register::DX) as u16;
    check(x, port, size)?;
    let transfer = if kind == AccessKind::Write { M::port_in_string } else { M::port_out_string };
    batch::ports(x, count, size.into(), kind, |m, at, n| Ok(transfer(m, port, size, n, at)?))
}

/// One iteration of OUTS.
fn outs<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = width(x.ins.mnemonic());
    let port = x.reg(Register::DX) as u16;
    check(x, port, size as u8)?;
    let (seg, offset) = x.string_source();
    let value = x.load(seg, offset, size)? as u32;
    x.m.port_out(port, size as u8, value)?;
    x.string_advance(gpr::RSI, size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::io_breakpoints;

    /// Breakpoint 1: two bytes at port 0x60, I/O, locally enabled.
    #[test]
    fn io_breakpoint_overlap() {
        let dr7 = (1 << 2) | (0b0110 << 20);
        let dr = [0, 0x60, 0, 0];
        for (port, size, hit) in [(0x5f, 1, 0), (0x5f, 2, 2), (0x60, 1, 2), (0x61, 1, 2), (0x62, 1, 0), (0x5e, 4, 2)] {
            assert_eq!(io_breakpoints(dr7, &dr, port, size), hit, "port {port:#x} size {size}");
        }
        assert_eq!(io_breakpoints(dr7 & !4, &dr, 0x60, 1), 0);
    }
}
