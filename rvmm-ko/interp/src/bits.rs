//! Bit tests, scans and counts, and CRC32.

use crate::exec::{Dest, Exec, Res};
use crate::flags::{self, when};
use crate::reg::{self, mask, sign_extend};
use iced_x86::{Mnemonic, OpKind};
use rvmm_arch::machine::{AccessKind, Machine};
use rvmm_arch::regs::Rflags;

/// BT, BTS, BTR, BTC. With a register as bit number and memory as operand, the bit may lie anywhere around it.
pub(crate) fn bit_test<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let bits = u64::from(reg::bits(size));
    let writes = x.ins.mnemonic() != Mnemonic::Bt;
    let number = match x.kind(1) {
        OpKind::Register => x.get(1)?,
        _ => x.ins.immediate8().into(),
    };
    let kind = if writes { AccessKind::Write } else { AccessKind::Read };
    let dest = match (x.kind(0), x.kind(1)) {
        (OpKind::Register, _) => Dest::Reg(x.op_reg(0)),
        (_, OpKind::Register) => {
            let word = (sign_extend(number, size) as i64).div_euclid(bits as i64);
            let away = (word as u64).wrapping_mul(u64::from(size));
            let (seg, _) = x.ea();
            let offset = x.ea_sum().wrapping_add(away) & mask(x.address_size());
            Dest::Mem(x.span(seg, offset, size, kind)?)
        }
        _ => {
            let (seg, offset) = x.ea();
            Dest::Mem(x.span(seg, offset, size, kind)?)
        }
    };
    let old = x.dest_get(dest)?;
    let bit = 1 << (number % bits);
    match x.ins.mnemonic() {
        Mnemonic::Bts => x.dest_put(dest, old | bit)?,
        Mnemonic::Btr => x.dest_put(dest, old & !bit)?,
        Mnemonic::Btc => x.dest_put(dest, old ^ bit)?,
        _ => {}
    }
    x.set_flags(Rflags::CF, when(Rflags::CF, old & bit != 0));
    Ok(())
}

/// BSF, BSR. A source of 0 sets ZF and leaves the destination alone (undefined by the manual; all of Intel's CPUs do).
pub(crate) fn bit_scan<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.get(1)?;
    let f = when(Rflags::ZF, v == 0);
    x.set_flags(Rflags::STATUS, f);
    if v == 0 {
        return Ok(());
    }
    let at = if x.ins.mnemonic() == Mnemonic::Bsf { v.trailing_zeros() } else { 63u32.wrapping_sub(v.leading_zeros()) };
    x.put(0, at.into())
}

/// TZCNT, LZCNT.
pub(crate) fn count_zeros<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let bits = reg::bits(size);
    let v = x.get(1)?;
    let n = if x.ins.mnemonic() == Mnemonic::Tzcnt {
        v.trailing_zeros().min(bits)
    } else {
        v.leading_zeros().wrapping_sub(64 - bits)
    };
    x.put(0, n.into())?;
    x.set_flags(Rflags::STATUS, when(Rflags::ZF, n == 0).union(when(Rflags::CF, n == bits)));
    Ok(())
}

/// POPCNT.
pub(crate) fn popcnt<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let v = x.get(1)?;
    x.put(0, v.count_ones().into())?;
    x.set_flags(Rflags::STATUS, when(Rflags::ZF, v == 0));
    Ok(())
}

/// CRC32 (SSE4.2, but on general-purpose registers): Castagnoli's polynomial, reflected.
pub(crate) fn crc32<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let size = x.size(1);
    let data = x.get(1)?;
    let mut crc = x.get(0)? as u32;
    for byte in data.to_le_bytes().iter().take(size as usize) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
        }
    }
    x.put(0, crc.into())
}

/// BOUND: #BR where operand 0, signed, lies outside the two bounds in memory.
pub(crate) fn bound<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let size = x.size(0);
    let (seg, offset) = x.ea();
    let index = sign_extend(x.get(0)?, size) as i64;
    let low = x.load(seg, offset, size)?;
    let second = offset.wrapping_add(u64::from(size)) & mask(x.address_size());
    let high = x.load(seg, second, size)?;
    let signed = |v| sign_extend(v, size) as i64;
    if index < signed(low) || index > signed(high) {
        return Err(rvmm_arch::Exception::new(rvmm_arch::Vector::BR).into());
    }
    Ok(())
}

/// CMP of two values, for the string instructions too.
pub(crate) fn set_compare_flags<M: Machine>(x: &mut Exec<'_, M>, a: u64, b: u64, size: u32) {
    let (_, f) = flags::sub(a, b, false, size);
    x.set_flags(Rflags::STATUS, f);
}
