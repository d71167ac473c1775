//! Stacks that are pushed on as a whole: frames of events, far calls and call gates.
//!
//! A frame is built first, then placed (limit or canonical check and translation of every byte of it), then written; so
//! that a frame that does not fit changes nothing.

use crate::exec::{canonical, Res};
use crate::mem::{self, Span};
use rvmm_arch::machine::{Access, AccessKind, Machine, MachineStop, Privilege};
use rvmm_arch::regs::gpr;
use rvmm_arch::segment::{CpuMode, SegReg, Segment};
use rvmm_arch::{Exception, Gva, VcpuState};

/// The largest frame: a call gate with 31 doublewords of parameters, and SS, ESP, CS, EIP.
const CAPACITY: usize = (31 + 4) * 4;

/// What is to be pushed, first item at the highest address.
pub(super) struct Frame {
    bytes: [u8; CAPACITY],
    used: usize,
    item: usize,
}

impl Frame {
    /// An empty frame of items of `item` bytes: 2, 4 or 8.
    pub const fn new(item: u32) -> Self {
        Self { bytes: [0; CAPACITY], used: 0, item: item as usize }
    }

    /// Adds an item below those there. More than the capacity cannot be asked for by any caller and is dropped.
    pub fn push(&mut self, value: u64) {
        let used = self.used.wrapping_add(self.item);
        if let Some(start) = CAPACITY.checked_sub(used) {
            for (to, from) in self.bytes.iter_mut().skip(start).take(self.item).zip(value.to_le_bytes()) {
                *to = from;
            }
            self.used = used;
        }
    }

    /// The bytes in ascending addresses.
    fn bytes(&self) -> &[u8] {
        self.bytes.get(CAPACITY.wrapping_sub(self.used)..).unwrap_or(&[])
    }
}

/// A stack that is, or is to become, SS:RSP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    /// SS. Of a long stack it is only what is installed: base and limit do not act.
    pub segment: Segment,
    /// RSP.
    pub pointer: u64,
    /// A stack of 64-bit mode: all of RSP, from linear address 0.
    pub long: bool,
    /// With whose rights it is written.
    pub privilege: Privilege,
}

/// A frame's place, checked.
pub(super) struct Placed {
    /// The part that ends at the old top, or all of it.
    upper: Span,
    /// The part that wrapped below offset 0, and its length.
    lower: Option<(Span, usize)>,
    /// The stack pointer after the push.
    pub pointer: u64,
}

impl Stack {
    /// The current stack.
    pub const fn current(cpu: &VcpuState) -> Self {
        Self {
            segment: *cpu.segment(SegReg::Ss),
            pointer: cpu.gpr[gpr::RSP],
            long: matches!(cpu.mode(), CpuMode::Long),
            privilege: mem::privilege(cpu),
        }
    }

    /// A stack of 64-bit mode for code of ring `cpl`, with SS as `segment`.
    pub const fn long(segment: Segment, pointer: u64, cpl: u8) -> Self {
        let privilege = if cpl == 3 { Privilege::User } else { Privilege::Supervisor };
        Self { segment, pointer, long: true, privilege }
    }

    /// The bits of the stack pointer in use.
    const fn mask(&self) -> u64 {
        if self.long {
            u64::MAX
        } else if self.segment.db() {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// Checks that `frame` fits below the stack pointer, and translates its place for writing.
    ///
    /// `full` where the segment has no room or an address is not canonical; or the page fault of its place.
    pub fn place<M: Machine>(&self, cpu: &VcpuState, m: &mut M, frame: &Frame, full: Exception) -> Res<Placed> {
        let len = frame.used as u64;
        let top = self.pointer & self.mask();
        let low = top.wrapping_sub(len) & self.mask();
        if self.long {
            if !(canonical(low) && canonical(top.wrapping_sub(1))) {
                return Err(full.into());
            }
            let access = Access { kind: AccessKind::Write, privilege: self.privilege };
            let upper = match Span::translate_wide(cpu, m, Gva(low), frame.used, access) {
                Ok(span) => span,
                Err(stop) => return Err(self.first_fault(cpu, m, frame, stop).into()),
            };
            return Ok(Placed { upper, lower: None, pointer: low });
        }
        if top == 0 || low < top {
            let upper = self.span(cpu, m, frame, low, len, full)?;
            return Ok(Placed { upper, lower: None, pointer: low });
        }
        // The stack pointer wraps; no item may straddle the wrap.
        if top as usize % frame.item.max(1) != 0 {
            return Err(full.into());
        }
        let below = len.wrapping_sub(top);
        let upper = self.span(cpu, m, frame, 0, top, full)?;
        let lower = self.span(cpu, m, frame, low, below, full)?;
        Ok(Placed { upper, lower: Some((lower, below as usize)), pointer: low })
    }

    /// A part of a stack that has a segment. Offset and length have 32 bits.
    fn span<M: Machine>(
        &self,
        cpu: &VcpuState,
        m: &mut M,
        frame: &Frame,
        offset: u64,
        len: u64,
        full: Exception,
    ) -> Res<Span> {
        if !(self.segment.writable() && self.segment.in_limit(offset as u32, (len as u32).max(1))) {
            return Err(full.into());
        }
        let la = mem::wrap(cpu, Gva(self.segment.base).add(offset));
        let access = Access { kind: AccessKind::Write, privilege: self.privilege };
        Span::translate(cpu, m, la, len as usize, access).map_err(|stop| self.first_fault(cpu, m, frame, stop).into())
    }

    /// The fault of a frame that has no place, given that of the place as a whole. Items are pushed one by one from the top, so that it is the
    /// fault of the highest one.
    fn first_fault<M: Machine>(&self, cpu: &VcpuState, m: &mut M, frame: &Frame, whole: MachineStop) -> MachineStop {
        if !matches!(whole, MachineStop::Fault(_)) {
            return whole;
        }
        let access = Access { kind: AccessKind::Write, privilege: self.privilege };
        let mut at = self.pointer;
        for _ in 0..frame.used.checked_div(frame.item).unwrap_or(0) {
            at = at.wrapping_sub(frame.item as u64) & self.mask();
            let place = if self.long {
                Span::translate_wide(cpu, m, Gva(at), frame.item, access)
            } else {
                Span::translate(cpu, m, mem::wrap(cpu, Gva(self.segment.base).add(at)), frame.item, access)
            };
            if let Err(stop) = place {
                return stop;
            }
        }
        whole
    }

    /// Makes this stack SS:RSP, with `pointer` as its pointer. On a 16-bit stack the upper half of ESP stays, as CPUs
    /// do it.
    pub fn install(&self, cpu: &mut VcpuState, pointer: u64) {
        *cpu.segment_mut(SegReg::Ss) = self.segment;
        self.set_pointer(cpu, pointer);
    }

    /// Sets the part of RSP that this stack uses.
    pub fn set_pointer(&self, cpu: &mut VcpuState, pointer: u64) {
        let mask = self.mask();
        let old = if self.long { 0 } else { cpu.gpr[gpr::RSP] & 0xffff_ffff };
        cpu.gpr[gpr::RSP] = (old & !mask) | (pointer & mask);
    }
}

impl Placed {
    /// Writes the frame there.
    pub fn write<M: Machine>(&self, m: &mut M, frame: &Frame) -> Result<(), MachineStop> {
        match &self.lower {
            None => self.upper.write(m, frame.bytes()),
            Some((lower, below)) => {
                let bytes = frame.bytes();
                let (low, high) = bytes.split_at((*below).min(bytes.len()));
                lower.write(m, low)?;
                self.upper.write(m, high)
            }
        }
    }
}
