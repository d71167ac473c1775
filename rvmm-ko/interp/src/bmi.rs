//! BMI1 and BMI2: the VEX encodings that work on general-purpose registers (SDM vol. 2, by name; TZCNT is legacy-encoded and in
//! [`crate::bits`]). They depend on none of CR4.OSXSAVE, XCR0 and CR0.TS.

use crate::exec::{Exec, Res};
use crate::flags::{of_result, when};
use crate::reg::{bits, mask, sign_extend};
use iced_x86::{CpuidFeature, Mnemonic};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{gpr, Rflags};

/// Is it one of these?
pub(crate) fn is_one<M: Machine>(x: &Exec<'_, M>) -> bool {
    x.ins.cpuid_features().iter().all(|f| matches!(f, CpuidFeature::BMI1 | CpuidFeature::BMI2))
}

/// Executes it. `false`: it is none, and nothing was done.
pub(crate) fn execute<M: Machine>(x: &mut Exec<'_, M>) -> Res<bool> {
    let size = x.size(0);
    match x.ins.mnemonic() {
        Mnemonic::Andn => {
            let r = !x.get(1)? & x.get(2)?;
            logic(x, r & mask(size), Rflags::empty())?;
        }
        Mnemonic::Bextr => {
            let (v, control) = (x.get(1)?, x.get(2)?);
            let (start, len) = (control as u8, (control >> 8) as u8);
            let r = v.checked_shr(start.into()).unwrap_or(0) & low_bits(len.into());
            logic(x, r, Rflags::empty())?;
        }
        Mnemonic::Bzhi => {
            let (v, n) = (x.get(1)?, u32::from(x.get(2)? as u8));
            logic(x, v & low_bits(n), when(Rflags::CF, n >= bits(size)))?;
        }
        Mnemonic::Blsi => {
            let v = x.get(1)?;
            logic(x, v & v.wrapping_neg(), when(Rflags::CF, v != 0))?;
        }
        Mnemonic::Blsmsk => {
            let v = x.get(1)?;
            logic(x, (v ^ v.wrapping_sub(1)) & mask(size), when(Rflags::CF, v == 0))?;
        }
        Mnemonic::Blsr => {
            let v = x.get(1)?;
            logic(x, v & v.wrapping_sub(1), when(Rflags::CF, v == 0))?;
        }
        Mnemonic::Mulx => {
            let product = u128::from(x.gpr(gpr::RDX, size)).wrapping_mul(x.get(2)?.into());
            // Of one register for both halves the upper one stays.
            x.put(1, product as u64 & mask(size))?;
            x.put(0, (product >> bits(size)) as u64 & mask(size))?;
        }
        Mnemonic::Pdep => {
            let (v, places) = (x.get(1)?, x.get(2)?);
            x.put(0, deposit(v, places))?;
        }
        Mnemonic::Pext => {
            let (v, places) = (x.get(1)?, x.get(2)?);
            x.put(0, extract(v, places))?;
        }
        Mnemonic::Rorx => {
            let v = x.get(1)?;
            let n = u32::from(x.ins.immediate8());
            let r = if size == 8 { v.rotate_right(n & 63) } else { (v as u32).rotate_right(n & 31).into() };
            x.put(0, r)?;
        }
        mnemonic @ (Mnemonic::Sarx | Mnemonic::Shlx | Mnemonic::Shrx) => {
            let v = x.get(1)?;
            let n = x.get(2)? as u32 & bits(size).wrapping_sub(1);
            let r = match mnemonic {
                Mnemonic::Sarx => (sign_extend(v, size) as i64).wrapping_shr(n) as u64,
                Mnemonic::Shlx => v.wrapping_shl(n),
                _ => v.wrapping_shr(n),
            };
            x.put(0, r & mask(size))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The result, its ZF and SF, and `carry` for CF; OF is cleared. AF and PF, undefined, are cleared.
fn logic<M: Machine>(x: &mut Exec<'_, M>, r: u64, carry: Rflags) -> Res {
    let size = x.size(0);
    x.put(0, r)?;
    let f = of_result(r, size).difference(Rflags::PF).union(carry);
    x.set_flags(Rflags::STATUS, f);
    Ok(())
}

/// A number whose low `n` bits are set: all of them from 64 on.
fn low_bits(n: u32) -> u64 {
    1u64.checked_shl(n).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

/// PDEP: the low bits of `v`, one by one, where `places` has ones.
fn deposit(v: u64, mut places: u64) -> u64 {
    let (mut r, mut from) = (0, v);
    while places != 0 {
        let place = places & places.wrapping_neg();
        if from & 1 != 0 {
            r |= place;
        }
        from >>= 1;
        places ^= place;
    }
    r
}

/// PEXT: the bits of `v` where `places` has ones, next to each other.
fn extract(v: u64, mut places: u64) -> u64 {
    let (mut r, mut to) = (0, 1u64);
    while places != 0 {
        let place = places & places.wrapping_neg();
        if v & place != 0 {
            r |= to;
        }
        to = to.wrapping_shl(1);
        places ^= place;
    }
    r
}
