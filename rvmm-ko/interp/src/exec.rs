//! What instruction handlers work with: the decoded instruction, its operands, effective addresses, segment-checked
//! memory and the stack.
//!
//! While an instruction executes, RIP already is that of the next one (so what is pushed or jumped from is right);
//! [`crate::step()`] puts everything back if the handler returns an error.

use crate::mem::{self, Span};
use crate::reg::{self, mask};
use crate::step::Stop;
use iced_x86::{Instruction, OpKind, Register};
use rvmm_arch::machine::{Access, AccessKind, Machine, Privilege};
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// What a handler returns.
pub(crate) type Res<T = ()> = Result<T, Stop>;

/// An instruction being executed.
pub(crate) struct Exec<'a, M> {
    /// The virtual CPU. `rip` is that of the next instruction.
    pub cpu: &'a mut VcpuState,
    /// The world.
    pub m: &'a mut M,
    /// The instruction, decoded with its own RIP as IP.
    pub ins: Instruction,
    /// RIP of the instruction itself.
    pub start_rip: u64,
    /// The mode it executes in.
    pub mode: CpuMode,
    /// Interrupt shadow to be in force after it retires: set by STI, MOV SS, POP SS.
    pub shadow: InterruptShadow,
    /// RF is what the instruction loaded (IRET) or must stay set (between the iterations of a string instruction).
    pub keep_rf: bool,
    /// No single-step trap after it: the instruction delivered an event (INT n), which has cleared TF.
    pub no_step_trap: bool,
    /// The single-step trap after it is decided by the TF that it has loaded: SYSCALL and SYSRET (APM vol. 3 "SYSCALL").
    pub step_by_new_tf: bool,
    /// DR6 bits to report after it: data and I/O breakpoints hit.
    pub debug_hits: u64,
    /// A fault that comes after it, in the task it has switched to.
    pub fault_after: Option<Exception>,
    /// It was one of the system half, which may change anything.
    pub system: bool,
}

/// The destination of a read-modify-write: translated for writing already.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dest {
    /// A general-purpose register.
    Reg(Register),
    /// Memory.
    Mem(Span),
}

impl<'a, M: Machine> Exec<'a, M> {
    /// The instruction `ins` at `start_rip`, of which nothing has been executed.
    pub fn new(cpu: &'a mut VcpuState, m: &'a mut M, ins: Instruction, start_rip: u64, mode: CpuMode) -> Self {
        Self {
            cpu,
            m,
            ins,
            start_rip,
            mode,
            shadow: InterruptShadow::None,
            keep_rf: false,
            no_step_trap: false,
            step_by_new_tf: false,
            debug_hits: 0,
            fault_after: None,
            system: false,
        }
    }

    // ---- privilege and modes ----

    /// #GP(0) unless at CPL 0.
    pub fn require_cpl0(&self) -> Res {
        if self.cpu.cpl == 0 {
            Ok(())
        } else {
            Err(Exception::gp(0).into())
        }
    }

    /// Size of instruction pointers in this mode: 2, 4 or 8, from CS alone.
    pub fn code_size(&self) -> u32 {
        match self.mode {
            CpuMode::Long => 8,
            _ if self.cpu.segment(SegReg::Cs).db() => 4,
            _ => 2,
        }
    }

    /// Size of the stack pointer: 2, 4 or 8, from SS.B and the mode.
    pub fn stack_size(&self) -> u32 {
        match self.mode {
            CpuMode::Long => 8,
            _ if self.cpu.segment(SegReg::Ss).db() => 4,
            _ => 2,
        }
    }

    // ---- flags ----

    /// Is this flag set?
    pub fn flag(&self, flag: Rflags) -> bool {
        self.cpu.rflags.contains(flag)
    }

    /// Replaces the flags of `which` by those of `new`.
    pub fn set_flags(&mut self, which: Rflags, new: Rflags) {
        self.cpu.rflags = self.cpu.rflags.difference(which).union(new.intersection(which));
    }

    // ---- registers ----

    /// A general-purpose register's value, zero-extended.
    pub fn reg(&self, reg: Register) -> u64 {
        reg::get(self.cpu, reg)
    }

    /// Sets a general-purpose register (32-bit writes clear the upper half).
    pub fn set_reg(&mut self, reg: Register, value: u64) {
        reg::set(self.cpu, reg, value);
    }

    /// The low `size` bytes of a register by number ([`rvmm_arch::regs::gpr`]).
    pub fn gpr(&self, index: usize, size: u32) -> u64 {
        reg::get_gpr(self.cpu, index, size)
    }

    /// Sets the low `size` bytes of a register by number.
    pub fn set_gpr(&mut self, index: usize, size: u32, value: u64) {
        reg::set_gpr(self.cpu, index, size, value);
    }

    // ---- operands ----

    /// The kind of operand `i` (0 to 3).
    pub fn kind(&self, i: u32) -> OpKind {
        match i {
            0 => self.ins.op0_kind(),
            1 => self.ins.op1_kind(),
            2 => self.ins.op2_kind(),
            _ => self.ins.op3_kind(),
        }
    }

    /// The register of operand `i`.
    pub fn op_reg(&self, i: u32) -> Register {
        match i {
            0 => self.ins.op0_register(),
            1 => self.ins.op1_register(),
            2 => self.ins.op2_register(),
            _ => self.ins.op3_register(),
        }
    }

    /// Size of operand `i` in bytes; an immediate has the size of operand 0.
    pub fn size(&self, i: u32) -> u32 {
        match self.kind(i) {
            OpKind::Register => reg::place(self.op_reg(i)).size,
            OpKind::Memory => self.mem_size(),
            _ if i > 0 => self.size(0),
            _ => self.code_size(),
        }
    }

    /// Size of the memory operand in bytes.
    pub fn mem_size(&self) -> u32 {
        self.ins.memory_size().size() as u32
    }

    /// The value of operand `i` (register, memory of up to 8 bytes, immediate), zero-extended to 64 bits; immediates
    /// are cut to the size of operand 0.
    pub fn get(&mut self, i: u32) -> Res<u64> {
        match self.kind(i) {
            OpKind::Register => Ok(self.reg(self.op_reg(i))),
            OpKind::Memory => {
                let (seg, offset) = self.ea();
                self.load(seg, offset, self.mem_size())
            }
            _ => Ok(self.immediate(i)),
        }
    }

    /// The value of immediate operand `i`, sign-extended as the encoding says and cut to the size of operand 0.
    pub fn immediate(&self, i: u32) -> u64 {
        self.ins.try_immediate(i).unwrap_or(0) & mask(self.size(0))
    }

    /// Sets operand `i`, a register or memory of up to 8 bytes.
    pub fn put(&mut self, i: u32, value: u64) -> Res {
        match self.kind(i) {
            OpKind::Register => {
                self.set_reg(self.op_reg(i), value);
                Ok(())
            }
            _ => {
                let (seg, offset) = self.ea();
                self.store(seg, offset, self.mem_size(), value)
            }
        }
    }

    /// Operand `i` as the destination of a read-modify-write: memory is checked and translated for writing.
    pub fn dest(&mut self, i: u32) -> Res<Dest> {
        match self.kind(i) {
            OpKind::Register => Ok(Dest::Reg(self.op_reg(i))),
            _ => {
                let (seg, offset) = self.ea();
                Ok(Dest::Mem(self.span(seg, offset, self.mem_size(), AccessKind::Write)?))
            }
        }
    }

    /// The old value of a destination.
    pub fn dest_get(&mut self, dest: Dest) -> Res<u64> {
        match dest {
            Dest::Reg(r) => Ok(self.reg(r)),
            Dest::Mem(span) => Ok(span.read_uint(self.m)?),
        }
    }

    /// Writes a destination.
    pub fn dest_put(&mut self, dest: Dest, value: u64) -> Res {
        match dest {
            Dest::Reg(r) => {
                self.set_reg(r, value);
                Ok(())
            }
            Dest::Mem(span) => Ok(span.write_uint(self.m, value)?),
        }
    }

    // ---- effective addresses ----

    /// Size of addresses of the memory operand: 2, 4 or 8 bytes.
    pub fn address_size(&self) -> u32 {
        let (base, index) = (self.ins.memory_base(), self.ins.memory_index());
        match (base, index) {
            (Register::RIP, _) => 8,
            (Register::EIP, _) => 4,
            (Register::None, Register::None) => match self.ins.memory_displ_size() {
                size @ (2 | 4 | 8) => size,
                _ => self.code_size(),
            },
            (Register::None, index) => reg::place(index).size,
            (base, _) => reg::place(base).size,
        }
    }

    /// Segment and offset of the memory operand, the offset cut to the address size.
    pub fn ea(&self) -> (SegReg, u64) {
        (self.memory_segment(), self.ea_sum() & mask(self.address_size()))
    }

    /// The segment of the memory operand. In 64-bit mode only overrides by FS and GS count (SDM vol. 2 §2.1.1); the others
    /// do not even decide between #GP and #SS.
    pub fn memory_segment(&self) -> SegReg {
        let named = reg::segment(self.ins.memory_segment()).unwrap_or(SegReg::Ds);
        if self.mode != CpuMode::Long || matches!(named, SegReg::Fs | SegReg::Gs) {
            return named;
        }
        match self.ins.memory_base() {
            Register::RSP | Register::RBP | Register::ESP | Register::EBP => SegReg::Ss,
            _ => SegReg::Ds,
        }
    }

    /// Base, index and displacement added, not yet cut to the address size.
    pub fn ea_sum(&self) -> u64 {
        let mut sum = self.ins.memory_displacement64();
        match self.ins.memory_base() {
            // iced's displacement of RIP-relative operands is the target itself.
            Register::None | Register::RIP | Register::EIP => {}
            base => sum = sum.wrapping_add(self.reg(base)),
        }
        match self.ins.memory_index() {
            Register::None => {}
            index => {
                let scale = u64::from(self.ins.memory_index_scale());
                sum = sum.wrapping_add(self.reg(index).wrapping_mul(scale));
            }
        }
        sum
    }

    // ---- segment-checked memory ----

    /// The linear address of `len` bytes at `seg:offset`, after the checks of the segment and of alignment; `align` is
    /// the alignment that #AC asks for (1: none). Data breakpoints are noted.
    ///
    /// #GP(0), or #SS(0) for SS; SDM vol. 3 §5.3 to §5.5.
    pub fn linear(&mut self, seg: SegReg, offset: u64, len: u32, align: u32, kind: AccessKind) -> Res<Gva> {
        let s = self.cpu.segment(seg);
        let la = if self.mode == CpuMode::Long {
            let base = if matches!(seg, SegReg::Fs | SegReg::Gs) { s.base } else { 0 };
            let la = base.wrapping_add(offset);
            let end = la.wrapping_add(u64::from(len.saturating_sub(1)));
            if !canonical(la) || !canonical(end) {
                return Err(segment_fault(seg).into());
            }
            la
        } else {
            // Real mode keeps the rights that protected mode has loaded (SDM vol. 3 §9.9.2, step 3), but CS is open to all.
            let open = seg == SegReg::Cs && self.mode == CpuMode::Real;
            let permitted = match kind {
                AccessKind::Write => open || s.writable(),
                AccessKind::Read => open || s.readable(),
                AccessKind::Fetch => true,
            };
            if !(permitted && s.in_limit(offset as u32, len.max(1))) {
                return Err(segment_fault(seg).into());
            }
            s.base.wrapping_add(offset) & 0xffff_ffff
        };
        if la & u64::from(align.wrapping_sub(1)) != 0 && self.alignment_checked() {
            return Err(Exception::with_code(Vector::AC, 0).into());
        }
        if self.cpu.dr7 & 0xff != 0 {
            self.debug_hits |= crate::step::data_breakpoints(self.cpu, la, len, kind);
        }
        Ok(Gva(la))
    }

    /// Are unaligned accesses faults now (CR0.AM, AC, CPL 3)?
    fn alignment_checked(&self) -> bool {
        self.cpu.cpl == 3 && self.flag(Rflags::AC) && self.cpu.cr0.contains(Cr0::AM)
    }

    /// Checks and translates `len` bytes at `seg:offset`.
    pub fn span(&mut self, seg: SegReg, offset: u64, len: u32, kind: AccessKind) -> Res<Span> {
        let align = if len.is_power_of_two() { len } else { 1 };
        self.span_aligned(seg, offset, len, align, kind)
    }

    /// [`Exec::span`] with an alignment of its own for #AC.
    pub fn span_aligned(&mut self, seg: SegReg, offset: u64, len: u32, align: u32, kind: AccessKind) -> Res<Span> {
        let la = self.linear(seg, offset, len, align, kind)?;
        let access = Access { kind, privilege: self.privilege() };
        Ok(Span::translate(self.cpu, self.m, la, len as usize, access)?)
    }

    /// The rights of this instruction's explicit accesses.
    pub fn privilege(&self) -> Privilege {
        mem::privilege(self.cpu)
    }

    /// Reads `size` (1 to 8) bytes at `seg:offset`.
    pub fn load(&mut self, seg: SegReg, offset: u64, size: u32) -> Res<u64> {
        Ok(self.span(seg, offset, size, AccessKind::Read)?.read_uint(self.m)?)
    }

    /// Writes the low `size` (1 to 8) bytes of `value` at `seg:offset`.
    pub fn store(&mut self, seg: SegReg, offset: u64, size: u32, value: u64) -> Res {
        Ok(self.span(seg, offset, size, AccessKind::Write)?.write_uint(self.m, value)?)
    }

    // ---- stack ----

    /// The stack pointer, cut to the stack's size.
    pub fn sp(&self) -> u64 {
        self.gpr(rvmm_arch::regs::gpr::RSP, self.stack_size())
    }

    /// Sets the stack pointer: SP alone on a 16-bit stack.
    pub fn set_sp(&mut self, value: u64) {
        self.set_gpr(rvmm_arch::regs::gpr::RSP, self.stack_size(), value);
    }

    /// Pushes the low `size` bytes of `value`. RSP moves only if the write succeeds.
    pub fn push(&mut self, value: u64, size: u32) -> Res {
        let sp = self.sp().wrapping_sub(u64::from(size)) & mask(self.stack_size());
        self.store(SegReg::Ss, sp, size, value)?;
        self.set_sp(sp);
        Ok(())
    }

    /// Pops `size` bytes.
    pub fn pop(&mut self, size: u32) -> Res<u64> {
        let value = self.peek(0, size)?;
        self.set_sp(self.sp().wrapping_add(u64::from(size)));
        Ok(value)
    }

    /// Reads `size` bytes of the stack, `offset` bytes above its top, without popping.
    pub fn peek(&mut self, offset: u64, size: u32) -> Res<u64> {
        let at = self.sp().wrapping_add(offset) & mask(self.stack_size());
        self.load(SegReg::Ss, at, size)
    }

    // ---- near control transfer ----

    /// Makes `target` (cut to `size` bytes) the next RIP; #GP(0) outside the limit of CS.
    pub fn jump(&mut self, target: u64, size: u32) -> Res {
        let target = target & mask(size);
        let refused = if self.mode == CpuMode::Long {
            !canonical(target)
        } else {
            target > u64::from(self.cpu.segment(SegReg::Cs).limit)
        };
        if refused {
            return Err(Exception::gp(0).into());
        }
        self.cpu.rip = target;
        Ok(())
    }
}

/// Is it a 48-bit canonical address?
pub(crate) const fn canonical(la: u64) -> bool {
    let top = (la as i64) >> 47;
    top == 0 || top == -1
}

/// The fault of an access that the segment forbids.
pub(crate) const fn segment_fault(seg: SegReg) -> Exception {
    match seg {
        SegReg::Ss => Exception::with_code(Vector::SS, 0),
        _ => Exception::gp(0),
    }
}
