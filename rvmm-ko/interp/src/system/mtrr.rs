//! The memory type range registers (SDM vol. 3 §11.11). Stored and checked, not applied: guest memory is write-back.

use super::features::{has, physical_bits, Feature};
use super::msr::only;
use rvmm_arch::machine::Machine;
use rvmm_arch::VcpuState;

/// Variable ranges.
const RANGES: u32 = 8;
/// IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.
const CAP: u64 = RANGES as u64 | 1 << 8 | 1 << 10;
/// IA32_MTRR_DEF_TYPE: type, fixed-range enable, enable.
const DEF_TYPE_BITS: u64 = 0xff | 1 << 10 | 1 << 11;

/// A register of this family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Cap,
    DefType,
    /// Index into [`rvmm_arch::vcpu::Msrs::mtrr_fixed`].
    Fixed(usize),
    /// Index into [`rvmm_arch::vcpu::Msrs::mtrr_var`]: bases at even, masks at odd places.
    Variable(usize),
}

const fn which(index: u32) -> Option<Which> {
    match index {
        0xfe => Some(Which::Cap),
        0x2ff => Some(Which::DefType),
        0x250 => Some(Which::Fixed(0)),
        0x258 | 0x259 => Some(Which::Fixed((index - 0x257) as usize)),
        0x268..=0x26f => Some(Which::Fixed((index - 0x265) as usize)),
        0x200..=0x20f => Some(Which::Variable((index - 0x200) as usize)),
        _ => None,
    }
}

/// Uncacheable, write-combining, write-through, write-protected, write-back.
const fn valid_type(t: u8) -> bool {
    matches!(t, 0 | 1 | 4 | 5 | 6)
}

/// The value of a register of this family; `None` for any other, or if CPUID does not announce MTRRs.
pub(super) fn read<M: Machine>(cpu: &VcpuState, m: &mut M, index: u32) -> Option<u64> {
    let which = which(index)?;
    if !has(cpu, m, Feature::MTRR) {
        return None;
    }
    match which {
        Which::Cap => Some(CAP),
        Which::DefType => Some(cpu.msrs.mtrr_def_type),
        Which::Fixed(i) => cpu.msrs.mtrr_fixed.get(i).copied(),
        Which::Variable(i) => cpu.msrs.mtrr_var.get(i).copied(),
    }
}

/// Writes a register of this family: `None` if `index` is not one, `Some(None)` if the write is refused.
pub(super) fn write<M: Machine>(cpu: &mut VcpuState, m: &mut M, index: u32, value: u64) -> Option<Option<()>> {
    let which = which(index)?;
    Some(if has(cpu, m, Feature::MTRR) { write_checked(cpu, m, which, value) } else { None })
}

fn write_checked<M: Machine>(cpu: &mut VcpuState, m: &mut M, which: Which, value: u64) -> Option<()> {
    match which {
        Which::Cap => return None,
        Which::DefType => {
            only(value, DEF_TYPE_BITS)?;
            cpu.msrs.mtrr_def_type = valid_type(value as u8).then_some(value)?;
        }
        Which::Fixed(i) => {
            *cpu.msrs.mtrr_fixed.get_mut(i)? = value.to_le_bytes().iter().all(|&t| valid_type(t)).then_some(value)?;
        }
        Which::Variable(i) => {
            let address = ((1u64 << physical_bits(cpu, m)) - 1) & !0xfff;
            if i % 2 == 0 {
                only(value, address | 0xff)?;
                valid_type(value as u8).then_some(())?;
            } else {
                only(value, address | 1 << 11)?;
            }
            *cpu.msrs.mtrr_var.get_mut(i)? = value;
        }
    }
    Some(())
}
