//! The task-state segment: the stacks of inner rings, in long mode those of interrupts too, and the I/O permission bitmap
//! (SDM vol. 3 §7.2 and §7.7, vol. 1 §19.5.2).

use super::descriptor::{self, fault, kind, Entry};
use crate::exec::Res;
use crate::mem;
use rvmm_arch::machine::{Machine, MachineStop, Privilege};
use rvmm_arch::segment::Selector;
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// Offset of the I/O map base in a 32-bit TSS.
const IO_MAP_BASE: u32 = 0x66;
/// The last byte of a 32-bit TSS without an I/O map.
const TSS32_LAST: u32 = 0x67;

/// Reads `size` bytes at `offset` of the current TSS; the caller has checked the limit.
pub(super) fn read<M: Machine>(cpu: &VcpuState, m: &mut M, offset: u32, size: usize) -> Result<u64, MachineStop> {
    let la = mem::wrap_system(cpu, Gva(cpu.tr.base).add(u64::from(offset)));
    mem::read_uint(cpu, m, la, size, Privilege::Implicit)
}

/// Is the current TSS a 32-bit one?
pub(super) const fn is_wide(cpu: &VcpuState) -> bool {
    cpu.tr.kind() & 8 != 0
}

/// The stack for ring `dpl` (0 to 2) from the current TSS: the checked entry of its segment, and its pointer.
///
/// #TS for whatever is wrong with it but not present, which is #SS (SDM vol. 2, INT n and CALL, "inter-privilege").
pub(super) fn inner_stack<M: Machine>(cpu: &VcpuState, m: &mut M, dpl: u8, ext: u32) -> Res<(Entry, u32)> {
    let (at, last, size) = if is_wide(cpu) {
        let at = u32::from(dpl) * 8 + 4;
        (at, at + 5, 4)
    } else {
        let at = u32::from(dpl) * 4 + 2;
        (at, at + 3, 2)
    };
    if !cpu.tr.usable() || last > cpu.tr.limit {
        return Err(fault(Vector::TS, cpu.tr.selector, ext).into());
    }
    let pointer = read(cpu, m, at, size)? as u32;
    let selector = Selector(read(cpu, m, at + size as u32, 2)? as u16);
    if selector.is_null() {
        return Err(Exception::with_code(Vector::TS, ext).into());
    }
    if selector.rpl() != dpl {
        return Err(fault(Vector::TS, selector, ext).into());
    }
    let entry = descriptor::fetch(cpu, m, selector, Vector::TS, ext)?;
    if entry.desc.dpl() != dpl || !entry.desc.is_writable_data() {
        return Err(entry.fault(Vector::TS, ext).into());
    }
    if !entry.desc.present() {
        return Err(entry.fault(Vector::SS, ext).into());
    }
    Ok((entry, pointer))
}

/// A stack pointer of a 64-bit TSS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LongStack {
    /// RSP0 to RSP2.
    Ring(u8),
    /// IST1 to IST7.
    Interrupt(u8),
}

/// Reads a stack pointer of the 64-bit TSS (SDM vol. 3 figure 7-11). #TS(TR) beyond its limit.
pub(super) fn long_stack<M: Machine>(cpu: &VcpuState, m: &mut M, which: LongStack, ext: u32) -> Res<u64> {
    let at = match which {
        LongStack::Ring(n) => 4 + u32::from(n & 3) * 8,
        LongStack::Interrupt(n) => 0x1c + u32::from(n & 7) * 8,
    };
    if !cpu.tr.usable() || at + 7 > cpu.tr.limit {
        return Err(fault(Vector::TS, cpu.tr.selector, ext).into());
    }
    Ok(read(cpu, m, at, 8)?)
}

/// Where the I/O permission bitmap of the current TSS begins. `None`: it is not a TSS that has one.
pub(super) fn io_map_base<M: Machine>(cpu: &VcpuState, m: &mut M) -> Result<Option<u32>, MachineStop> {
    let wide = matches!(cpu.tr.kind(), kind::TSS32 | kind::TSS32_BUSY);
    if !(cpu.tr.usable() && wide && cpu.tr.limit >= TSS32_LAST) {
        return Ok(None);
    }
    Ok(Some(read(cpu, m, IO_MAP_BASE, 2)? as u32))
}

/// Does the I/O permission bitmap of the current TSS allow `size` (1, 2 or 4) ports from `port`?
pub(super) fn io_allowed<M: Machine>(cpu: &VcpuState, m: &mut M, port: u16, size: u8) -> Result<bool, MachineStop> {
    let Some(base) = io_map_base(cpu, m)? else { return Ok(false) };
    let at = base.wrapping_add(u32::from(port >> 3));
    // Two bytes are always read, so that no access needs a third; both must lie within the TSS.
    if at.wrapping_add(1) > cpu.tr.limit {
        return Ok(false);
    }
    let bits = read(cpu, m, at, 2)? as u32;
    let wanted = ((1u32 << (size & 7)) - 1) << (port & 7);
    Ok(bits & wanted == 0)
}
