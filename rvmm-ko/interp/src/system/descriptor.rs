//! Descriptors in the guest's tables: fetching, the accessed and busy bits, and the selector in an error code.
//!
//! Under EFER.LMA the descriptors of LDT, TSS and call gates have 16 bytes (SDM vol. 3 §3.5.2); code and data descriptors
//! keep their 8.

use crate::exec::{canonical, Res};
use crate::mem;
use rvmm_arch::machine::{Machine, MachineStop, Privilege};
use rvmm_arch::regs::Efer;
use rvmm_arch::segment::{Descriptor, Segment, Selector};
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// Types of system descriptors and gates (SDM vol. 3 table 3-2).
pub(super) mod kind {
    /// 16-bit TSS, available.
    pub const TSS16: u8 = 1;
    /// LDT.
    pub const LDT: u8 = 2;
    /// 16-bit TSS, busy.
    pub const TSS16_BUSY: u8 = 3;
    /// 16-bit call gate.
    pub const CALL16: u8 = 4;
    /// Task gate.
    pub const TASK: u8 = 5;
    /// 16-bit interrupt gate.
    pub const INT16: u8 = 6;
    /// 16-bit trap gate.
    pub const TRAP16: u8 = 7;
    /// 32-bit TSS, available.
    pub const TSS32: u8 = 9;
    /// 32-bit TSS, busy.
    pub const TSS32_BUSY: u8 = 11;
    /// 32-bit call gate.
    pub const CALL32: u8 = 12;
    /// 32-bit interrupt gate.
    pub const INT32: u8 = 14;
    /// 32-bit trap gate.
    pub const TRAP32: u8 = 15;
}

/// The type field of the upper half of a 16-byte descriptor.
const UPPER_TYPE: u64 = 0x1f << 40;

/// The EXT bit of an error code: the fault came up while an event from outside the program was delivered.
pub(super) const EXT: u32 = 1;
/// The IDT bit of an error code: it names a vector.
pub(super) const IDT: u32 = 2;

/// A descriptor found in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The selector it was found by.
    pub selector: Selector,
    /// The descriptor.
    pub desc: Descriptor,
    /// Its linear address.
    at: Gva,
}

/// An exception whose error code is a selector, with EXT as `ext` (0 or [`EXT`]).
pub(super) const fn fault(vector: Vector, selector: Selector, ext: u32) -> Exception {
    Exception::with_code(vector, selector.error_code() | ext)
}

/// Where the `len` bytes of the descriptor that `selector` names lie, if they lie within its table.
fn place(cpu: &VcpuState, selector: Selector, len: u32) -> Option<Gva> {
    let (base, limit) = if selector.is_ldt() {
        if !cpu.ldtr.usable() {
            return None;
        }
        (cpu.ldtr.base, cpu.ldtr.limit)
    } else {
        (cpu.gdtr.base, u32::from(cpu.gdtr.limit))
    };
    let offset = u32::from(selector.0 & !7);
    (offset.wrapping_add(len).wrapping_sub(1) <= limit).then(|| mem::wrap_system(cpu, Gva(base).add(u64::from(offset))))
}

/// The descriptor that `selector` names, or `None` outside its table. The null selector is not treated specially here.
pub(super) fn find<M: Machine>(cpu: &VcpuState, m: &mut M, selector: Selector) -> Result<Option<Entry>, MachineStop> {
    let Some(at) = place(cpu, selector, 8) else {
        return Ok(None);
    };
    let raw = mem::read_uint(cpu, m, at, 8, Privilege::Implicit)?;
    Ok(Some(Entry { selector, desc: Descriptor(raw), at }))
}

/// The descriptor that `selector` names; outside its table, `vector` with the selector as its error code.
pub(super) fn fetch<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    selector: Selector,
    vector: Vector,
    ext: u32,
) -> Res<Entry> {
    match find(cpu, m, selector)? {
        Some(entry) => Ok(entry),
        None => Err(fault(vector, selector, ext).into()),
    }
}

impl Entry {
    /// An exception with this entry's selector as its error code.
    pub const fn fault(&self, vector: Vector, ext: u32) -> Exception {
        fault(vector, self.selector, ext)
    }

    /// Sets the accessed bit of a code or data descriptor, in memory too if it was clear (SDM vol. 3 §3.4.5.1).
    pub fn touch<M: Machine>(&mut self, cpu: &VcpuState, m: &mut M) -> Result<(), MachineStop> {
        self.change(cpu, m, Descriptor(self.desc.0 | Descriptor::ACCESSED))
    }

    /// Sets the busy bit of a TSS descriptor.
    pub fn set_busy<M: Machine>(&mut self, cpu: &VcpuState, m: &mut M) -> Result<(), MachineStop> {
        self.change(cpu, m, Descriptor(self.desc.0 | Descriptor::BUSY))
    }

    /// Clears the busy bit of a TSS descriptor.
    pub fn clear_busy<M: Machine>(&mut self, cpu: &VcpuState, m: &mut M) -> Result<(), MachineStop> {
        self.change(cpu, m, Descriptor(self.desc.0 & !Descriptor::BUSY))
    }

    /// Writes the type byte of `new` if it differs: the one byte of a descriptor that the CPU itself ever changes.
    fn change<M: Machine>(&mut self, cpu: &VcpuState, m: &mut M, new: Descriptor) -> Result<(), MachineStop> {
        if new != self.desc {
            mem::write_uint(cpu, m, self.at.add(5), 1, new.0 >> 40, Privilege::Implicit)?;
            self.desc = new;
        }
        Ok(())
    }

    /// The upper 8 bytes of a 16-byte descriptor. #GP(selector) where they lie outside the table or their type field, which
    /// would make a descriptor of its own of them, is not 0 (SDM vol. 3 §5.8.3.1 and figure 7-4).
    pub fn upper_half<M: Machine>(&self, cpu: &VcpuState, m: &mut M) -> Res<u64> {
        if place(cpu, self.selector, 16).is_none() {
            return Err(self.fault(Vector::GP, 0).into());
        }
        let raw = mem::read_uint(cpu, m, self.at.add(8), 8, Privilege::Implicit)?;
        if raw & UPPER_TYPE != 0 {
            return Err(self.fault(Vector::GP, 0).into());
        }
        Ok(raw)
    }

    /// The segment register that loading this entry, an LDT or a TSS, into LDTR or TR gives: with a base of 64 bits under
    /// EFER.LMA, which must be canonical.
    pub fn system_segment<M: Machine>(&self, cpu: &VcpuState, m: &mut M) -> Res<Segment> {
        let segment = self.segment();
        if !cpu.efer.contains(Efer::LMA) {
            return Ok(segment);
        }
        let base = segment.base | self.upper_half(cpu, m)? << 32;
        if !canonical(base) {
            return Err(self.fault(Vector::GP, 0).into());
        }
        Ok(Segment { base, ..segment })
    }

    /// The segment register that loading this entry gives.
    pub const fn segment(&self) -> Segment {
        Segment::from_descriptor(self.selector, self.desc)
    }
}

/// 64-bit code: executed in 64-bit mode under EFER.LMA, with the default operand size of 32 bits that L demands.
pub(super) const fn is_long_code(desc: Descriptor) -> bool {
    desc.is_code() && desc.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG
}

/// Code with L and D both set, which long mode reserves: #GP(selector).
pub(super) const fn is_reserved_code(cpu: &VcpuState, desc: Descriptor) -> bool {
    const BOTH: u64 = Descriptor::LONG | Descriptor::DB;
    cpu.efer.contains(Efer::LMA) && desc.0 & BOTH == BOTH
}

/// A gate of the IDT, or a call or task gate (SDM vol. 3 §5.8.3 and §6.11).
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// The code segment, or the TSS of a task gate.
    pub selector: Selector,
    /// The entry point, cut to 16 bits for a 16-bit gate.
    pub offset: u32,
    /// Parameters to copy: words or doublewords, 0 to 31. Call gates only.
    pub parameters: u32,
    /// Size of what is pushed: 2 or 4 bytes.
    pub size: u32,
}

impl Gate {
    /// Reads the fields of a gate descriptor.
    pub const fn of(desc: Descriptor) -> Self {
        let wide = desc.kind() & 8 != 0;
        let low = (desc.0 & 0xffff) as u32;
        let high = ((desc.0 >> 48) as u32) << 16;
        Self {
            selector: Selector((desc.0 >> 16) as u16),
            offset: if wide { high | low } else { low },
            parameters: ((desc.0 >> 32) & 31) as u32,
            size: if wide { 4 } else { 2 },
        }
    }
}

/// A 16-byte gate of the IDT, or a 16-byte call gate (SDM vol. 3 figures 5-9 and 6-8).
#[derive(Clone, Copy, Debug)]
pub(super) struct LongGate {
    /// The code segment.
    pub selector: Selector,
    /// The entry point.
    pub offset: u64,
    /// The interrupt stack, 1 to 7, or 0. Gates of the IDT only.
    pub ist: u8,
}

impl LongGate {
    /// Reads the fields of both halves.
    pub const fn of(low: Descriptor, high: u64) -> Self {
        let gate = Gate::of(low);
        Self { selector: gate.selector, offset: gate.offset as u64 | high << 32, ist: ((low.0 >> 32) & 7) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gate_fields() {
        let gate = LongGate::of(Descriptor(0x8123_ee05_0060_5678), 0xffff_ffff);
        assert_eq!((gate.selector.0, gate.offset, gate.ist), (0x60, 0xffff_ffff_8123_5678, 5));
    }

    #[test]
    fn code_sizes() {
        let code = |flags: u64| Descriptor(0x0000_9b00_0000_0000 | flags << 52);
        assert!(is_long_code(code(0xa)) && !is_long_code(code(0xc)) && !is_long_code(code(0xe)));
        let mut cpu = VcpuState::reset();
        assert!(!is_reserved_code(&cpu, code(0xe)));
        cpu.efer = Efer::LMA;
        assert!(is_reserved_code(&cpu, code(0xe)) && !is_reserved_code(&cpu, code(0xa)));
    }

    #[test]
    fn gate_fields() {
        let raw = Descriptor(0x1234_ee05_0060_5678);
        let gate = Gate::of(raw);
        assert_eq!((gate.selector.0, gate.offset, gate.parameters, gate.size), (0x60, 0x1234_5678, 5, 4));
        let narrow = Gate::of(Descriptor(0x1234_e605_0060_5678));
        assert_eq!((narrow.offset, narrow.size), (0x5678, 2));
    }
}
