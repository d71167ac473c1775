//! A very small CPU for tests, of 32-bit or 64-bit code: just what patch blocks and their neighbours use.
#![allow(
    dead_code,
    clippy::panic,
    reason = "each test uses its part; what the test CPU lacks is a mistake in the test"
)]

pub mod patch;

use rvmm_patcher::CodeSize;

use iced_x86::{ConditionCode, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeMap;

pub const CF: u64 = 1;
pub const PF: u64 = 4;
pub const ZF: u64 = 0x40;
pub const AF: u64 = 0x10;
pub const SF: u64 = 0x80;
pub const IF: u64 = 0x200;
pub const OF: u64 = 0x800;
pub const ARITHMETIC: u64 = 0x8D5;

/// The guest's CR0, CR2, CR3 and CR4.
pub const fn control(size: CodeSize) -> [u64; 4] {
    match size {
        CodeSize::Bits64 => [0x8005_0033, 0xFFFF_C900_1234_5678, 0x7_0123_4018, 0x0031_0690],
        _ => [0x8005_0033, 0xB7F0_0123, 0x0123_4018, 0x0000_0690],
    }
}

/// The selector of a segment that is writable for real.
pub const WRITABLE: u64 = 0xFF7B;

/// An address that RIP and the segment bases may hold on a CPU with 48 bits.
pub fn canonical(address: u64) -> bool {
    address.wrapping_add(1 << 47) < 1 << 48
}

/// What ended a step otherwise than by going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Int3,
    /// A privileged instruction: #GP.
    Gp,
    /// An instruction that CR4 has switched off: #UD.
    Ud,
    /// An access to memory that is not there.
    Fault,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    pub size: CodeSize,
    pub regs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub memory: BTreeMap<u64, u8>,
    /// The guest's: POPF and CLI act on the flags as at CPL 0, CS and SS read as these.
    pub ring0: Option<(u64, u64)>,
    /// The active base of GS, and the other.
    pub gs: (u64, u64),
    /// CR4.FSGSBASE.
    pub fsgsbase: bool,
}

impl Cpu {
    pub fn new(size: CodeSize) -> Self {
        let memory = BTreeMap::new();
        Cpu { size, regs: [0; 16], rip: 0, rflags: 0, memory, ring0: None, gs: (0, 0), fsgsbase: true }
    }

    /// Bytes of a register and of a place on the stack.
    pub fn word(&self) -> u64 {
        u64::from(self.size.bits() / 8)
    }

    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.size.bits())
    }

    pub fn map(&mut self, start: u64, bytes: &[u8]) {
        for (at, &value) in (start..).zip(bytes) {
            self.memory.insert(at, value);
        }
    }

    pub fn read(&self, at: u64, bytes: u64) -> Result<u64, Stop> {
        let mut value = 0;
        for i in 0..bytes {
            value |= u64::from(*self.memory.get(&(at.wrapping_add(i) & self.mask())).ok_or(Stop::Fault)?) << (8 * i);
        }
        Ok(value)
    }

    pub fn write(&mut self, at: u64, value: u64, bytes: u64) -> Result<(), Stop> {
        let places: Vec<u64> = (0..bytes).map(|i| at.wrapping_add(i) & self.mask()).collect();
        if !places.iter().all(|at| self.memory.contains_key(at)) {
            return Err(Stop::Fault);
        }
        for (at, value) in places.into_iter().zip(value.to_le_bytes()) {
            self.memory.insert(at, value);
        }
        Ok(())
    }

    fn number(register: Register) -> usize {
        register.full_register().number()
    }

    fn is_high(register: Register) -> bool {
        matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
    }

    fn register(&self, register: Register) -> u64 {
        let full = self.regs[Self::number(register)];
        match register.size() {
            1 if Self::is_high(register) => full >> 8 & 0xFF,
            1 => full & 0xFF,
            2 => full & 0xFFFF,
            4 => full & 0xFFFF_FFFF,
            _ => full,
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let slot = &mut self.regs[Self::number(register)];
        *slot = match register.size() {
            1 if Self::is_high(register) => *slot & !0xFF00 | (value & 0xFF) << 8,
            1 => *slot & !0xFF | value & 0xFF,
            2 => *slot & !0xFFFF | value & 0xFFFF,
            // Zero-extended (SDM 1, 3.4.1.1).
            4 => value & 0xFFFF_FFFF,
            _ => value,
        };
    }

    fn address(&self, i: &Instruction) -> u64 {
        if i.is_ip_rel_memory_operand() {
            return i.ip_rel_memory_address();
        }
        let base = if i.memory_base() == Register::None { 0 } else { self.register(i.memory_base()) };
        let index = if i.memory_index() == Register::None { 0 } else { self.register(i.memory_index()) };
        let scale = u64::from(i.memory_index_scale());
        base.wrapping_add(index.wrapping_mul(scale)).wrapping_add(i.memory_displacement64()) & self.mask()
    }

    fn operand(&self, i: &Instruction, n: u32) -> Result<u64, Stop> {
        match i.op_kind(n) {
            OpKind::Register if i.op_register(n).is_cr() => {
                self.ring0.ok_or(Stop::Gp)?;
                let place = [0, 2, 3, 4].iter().position(|&cr| cr == i.op_register(n).number());
                Ok(control(self.size)[place.expect("CR0, CR2, CR3 or CR4")])
            }
            OpKind::Register if i.op_register(n) == Register::CS => Ok(self.ring0.ok_or(Stop::Gp)?.0),
            OpKind::Register if i.op_register(n) == Register::SS => Ok(self.ring0.ok_or(Stop::Gp)?.1),
            OpKind::Register => Ok(self.register(i.op_register(n))),
            OpKind::Memory => self.read(self.address(i), i.memory_size().size() as u64),
            // Sign-extended where it is shorter than the operand.
            _ => Ok(i.immediate(n)),
        }
    }

    fn set_operand0(&mut self, i: &Instruction, value: u64) -> Result<(), Stop> {
        match i.op0_kind() {
            OpKind::Register => {
                self.set_register(i.op0_register(), value);
                Ok(())
            }
            _ => self.write(self.address(i), value, i.memory_size().size() as u64),
        }
    }

    fn push(&mut self, value: u64) -> Result<(), Stop> {
        let rsp = self.regs[4].wrapping_sub(self.word()) & self.mask();
        self.write(rsp, value, self.word())?;
        self.regs[4] = rsp;
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, Stop> {
        let value = self.read(self.regs[4], self.word())?;
        self.regs[4] = self.regs[4].wrapping_add(self.word()) & self.mask();
        Ok(value)
    }

    /// The bits of an operation on the first operand.
    fn width(i: &Instruction) -> u32 {
        match i.op0_kind() {
            OpKind::Register => 8 * i.op0_register().size() as u32,
            _ => 8 * i.memory_size().size() as u32,
        }
    }

    fn compare_flags(&mut self, a: u64, b: u64, bits: u32) {
        let mask = u64::MAX >> (64 - bits);
        let (a, b) = (a & mask, b & mask);
        let value = a.wrapping_sub(b) & mask;
        self.logic_flags(value, bits);
        self.rflags |= if a < b { CF } else { 0 }
            | if (a ^ b ^ value) & 0x10 != 0 { AF } else { 0 }
            | if (a ^ b) & (a ^ value) >> (bits - 1) & 1 != 0 { OF } else { 0 };
    }

    fn add_flags(&mut self, a: u64, b: u64, bits: u32) -> u64 {
        let mask = u64::MAX >> (64 - bits);
        let (a, b) = (a & mask, b & mask);
        let value = a.wrapping_add(b) & mask;
        self.logic_flags(value, bits);
        self.rflags |= if value < a { CF } else { 0 }
            | if (a ^ b ^ value) & 0x10 != 0 { AF } else { 0 }
            | if (a ^ value) & (b ^ value) >> (bits - 1) & 1 != 0 { OF } else { 0 };
        value
    }

    fn logic_flags(&mut self, value: u64, bits: u32) {
        let value = value & u64::MAX >> (64 - bits);
        let parity = if (value as u8).count_ones() % 2 == 0 { PF } else { 0 };
        let zero = if value == 0 { ZF } else { 0 };
        let sign = if value >> (bits - 1) != 0 { SF } else { 0 };
        self.rflags = self.rflags & !ARITHMETIC | parity | zero | sign;
    }

    fn condition(&self, code: ConditionCode) -> bool {
        let f = |mask| self.rflags & mask != 0;
        match code {
            ConditionCode::e => f(ZF),
            ConditionCode::ne => !f(ZF),
            ConditionCode::b => f(CF),
            ConditionCode::ae => !f(CF),
            ConditionCode::a => !f(CF) && !f(ZF),
            ConditionCode::o => f(OF),
            ConditionCode::no => !f(OF),
            ConditionCode::s => f(SF),
            ConditionCode::ns => !f(SF),
            other => panic!("condition {other:?} is not part of the test CPU"),
        }
    }

    /// The bits that POPF changes at CPL 1 or 3 with IOPL 0, and at CPL 0.
    const POPF_LOWERED: u64 = 0x24_4DD5;
    const POPF_CPL0: u64 = 0x24_7FD5;
    /// The bits with which IRET does what is not part of the test CPU: TF, RF, VM, VIF, VIP.
    const IRET_FOREIGN: u64 = 0x1B_0100;

    /// IRETD or IRETQ to the same ring, at ring 0: what else a frame may ask for, a block must not do.
    fn iret(&mut self) -> Result<(), Stop> {
        let (cs, ss) = self.ring0.ok_or(Stop::Gp)?;
        let (rsp, word) = (self.regs[4], self.word());
        let frame = |n: u64| self.read(rsp.wrapping_add(n * word) & self.mask(), word);
        let target = frame(0)?;
        let selector = frame(1)? & 0xFFFF;
        let image = frame(2)?;
        let rsp = if word == 8 {
            let (rsp, stack) = (frame(3)?, frame(4)? & 0xFFFF);
            assert!(stack == ss && canonical(target), "a return that is not the block's");
            rsp
        } else {
            rsp.wrapping_add(12) & self.mask()
        };
        assert_eq!((selector, image & Self::IRET_FOREIGN), (cs, 0), "a return that is not the block's");
        self.rflags = self.rflags & !Self::POPF_CPL0 | image & Self::POPF_CPL0;
        self.regs[4] = rsp;
        self.rip = target;
        Ok(())
    }

    /// Run one instruction; on `Err` nothing has changed.
    pub fn step(&mut self) -> Result<(), Stop> {
        let bytes: Vec<u8> = (0..15).map_while(|i| self.memory.get(&self.rip.wrapping_add(i)).copied()).collect();
        if bytes.is_empty() {
            return Err(Stop::Fault);
        }
        let i = Decoder::with_ip(self.size.bits(), &bytes, self.rip, DecoderOptions::NONE).decode();
        // What writes memory does so last, so that registers are all there is to take back.
        let before = (self.regs, self.rip, self.rflags);
        let result = self.execute(&i);
        if result.is_err() {
            (self.regs, self.rip, self.rflags) = before;
        }
        result
    }

    fn execute(&mut self, i: &Instruction) -> Result<(), Stop> {
        let next = self.rip.wrapping_add(i.len() as u64);
        self.rip = next;
        match i.mnemonic() {
            Mnemonic::Nop => {}
            Mnemonic::Int3 => return Err(Stop::Int3),
            Mnemonic::Cli | Mnemonic::Sti if self.ring0.is_none() => return Err(Stop::Gp),
            Mnemonic::Cli => self.rflags &= !IF,
            Mnemonic::Sti => self.rflags |= IF,
            Mnemonic::Mov => {
                let value = self.operand(i, 1)?;
                self.set_operand0(i, value)?;
            }
            Mnemonic::Movzx => {
                let value = self.operand(i, 1)?;
                self.set_operand0(i, value)?;
            }
            Mnemonic::Lea => {
                let value = self.address(i);
                self.set_operand0(i, value)?;
            }
            Mnemonic::Xchg => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                self.set_operand0(i, b)?;
                self.set_register(i.op1_register(), a);
            }
            Mnemonic::Push => {
                let value = self.operand(i, 0)?;
                self.push(value)?;
            }
            Mnemonic::Pop => {
                let value = self.pop()?;
                self.set_operand0(i, value)?;
            }
            Mnemonic::Pushfd | Mnemonic::Pushfq => self.push(self.rflags & !0x3_0000 | 2)?,
            Mnemonic::Popfd | Mnemonic::Popfq => {
                let image = self.pop()?;
                let mask = if self.ring0.is_some() { Self::POPF_CPL0 } else { Self::POPF_LOWERED };
                self.rflags = self.rflags & !mask | image & mask;
            }
            Mnemonic::Lahf => self.set_register(Register::AH, self.rflags & 0xD5 | 2),
            Mnemonic::Seto => self.set_register(i.op0_register(), u64::from(self.rflags & OF != 0)),
            Mnemonic::And | Mnemonic::Test | Mnemonic::Xor => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                let value = if i.mnemonic() == Mnemonic::Xor { a ^ b } else { a & b };
                if i.mnemonic() != Mnemonic::Test {
                    self.set_operand0(i, value)?;
                }
                self.logic_flags(value, Self::width(i));
            }
            Mnemonic::Cmp => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                self.compare_flags(a, b, Self::width(i));
            }
            Mnemonic::Iretd | Mnemonic::Iretq => self.iret()?,
            Mnemonic::Add => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                let value = self.add_flags(a, b, Self::width(i));
                self.set_operand0(i, value)?;
            }
            Mnemonic::Sar => {
                assert_eq!((Self::width(i), i.op1_kind()), (64, OpKind::Immediate8));
                let (value, count) = (self.operand(i, 0)? as i64, i.immediate8());
                let carry = value >> (count - 1) & 1;
                self.set_operand0(i, (value >> count) as u64)?;
                self.logic_flags((value >> count) as u64, 64);
                self.rflags |= carry as u64;
            }
            Mnemonic::Swapgs => {
                self.ring0.ok_or(Stop::Gp)?;
                self.gs = (self.gs.1, self.gs.0);
            }
            Mnemonic::Verw => {
                // Ring 0 may write its own stack segment, the ring that blocks run in the one that the VMM names.
                let writable = self.ring0.map_or(WRITABLE, |(_, ss)| ss);
                let selector = self.operand(i, 0)?;
                self.rflags = self.rflags & !ZF | if selector & !3 == writable & !3 { ZF } else { 0 };
            }
            Mnemonic::Rdgsbase | Mnemonic::Wrgsbase if !self.fsgsbase => return Err(Stop::Ud),
            Mnemonic::Rdgsbase => self.set_operand0(i, self.gs.0)?,
            Mnemonic::Wrgsbase => self.gs.0 = self.operand(i, 0)?,
            Mnemonic::Stc => self.rflags |= CF,
            Mnemonic::Jmp if is_near(i) => self.rip = i.near_branch_target(),
            Mnemonic::Jmp => self.rip = self.operand(i, 0)?,
            Mnemonic::Call => {
                let target = match i.op0_kind() {
                    OpKind::NearBranch32 | OpKind::NearBranch64 => i.near_branch_target(),
                    _ => self.operand(i, 0)?,
                };
                self.push(next)?;
                self.rip = target;
            }
            Mnemonic::Ret => self.rip = self.pop()?,
            Mnemonic::Jecxz | Mnemonic::Jrcxz => {
                if self.regs[1] == 0 {
                    self.rip = i.near_branch_target();
                }
            }
            Mnemonic::Loop => {
                self.regs[1] = self.regs[1].wrapping_sub(1) & self.mask();
                if self.regs[1] != 0 {
                    self.rip = i.near_branch_target();
                }
            }
            _ if i.is_jcc_short_or_near() => {
                if self.condition(i.condition_code()) {
                    self.rip = i.near_branch_target();
                }
            }
            other => panic!("{other:?} is not part of the test CPU: {:?}", i.code()),
        }
        Ok(())
    }
}

fn is_near(i: &Instruction) -> bool {
    matches!(i.op0_kind(), OpKind::NearBranch32 | OpKind::NearBranch64)
}
