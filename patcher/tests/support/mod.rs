//! A very small 32-bit CPU for tests: just what patch blocks and their neighbours use.
#![allow(
    dead_code,
    clippy::panic,
    reason = "each test uses its part; what the test CPU lacks is a mistake in the test"
)]

pub mod patch;

use iced_x86::{ConditionCode, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeMap;

pub const CF: u32 = 1;
pub const PF: u32 = 4;
pub const ZF: u32 = 0x40;
pub const AF: u32 = 0x10;
pub const SF: u32 = 0x80;
pub const IF: u32 = 0x200;
pub const OF: u32 = 0x800;
pub const ARITHMETIC: u32 = 0x8D5;

/// The guest's CR0, CR2, CR3 and CR4.
pub const CONTROL: [u32; 4] = [0x8005_0033, 0xB7F0_0123, 0x0123_4018, 0x0000_0690];

/// What ended a step otherwise than by going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Int3,
    /// A privileged instruction: #GP.
    Gp,
    /// An access to memory that is not there.
    Fault,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cpu {
    pub regs: [u32; 8],
    pub eip: u32,
    pub eflags: u32,
    pub memory: BTreeMap<u32, u8>,
    /// The guest's: POPF and CLI act on the flags as at CPL 0, CS and SS read as these.
    pub ring0: Option<(u32, u32)>,
}

impl Cpu {
    pub fn map(&mut self, start: u32, bytes: &[u8]) {
        for (at, &value) in (start..).zip(bytes) {
            self.memory.insert(at, value);
        }
    }

    pub fn read(&self, at: u32) -> Result<u32, Stop> {
        let mut value = 0;
        for i in 0..4 {
            value |= u32::from(*self.memory.get(&at.wrapping_add(i)).ok_or(Stop::Fault)?) << (8 * i);
        }
        Ok(value)
    }

    pub fn write(&mut self, at: u32, value: u32, bytes: usize) -> Result<(), Stop> {
        let all = (0..bytes as u32).all(|i| self.memory.contains_key(&at.wrapping_add(i)));
        if !all {
            return Err(Stop::Fault);
        }
        self.map(at, &value.to_le_bytes()[..bytes]);
        Ok(())
    }

    fn number(register: Register) -> usize {
        register.full_register32().number()
    }

    fn register(&self, register: Register) -> u32 {
        let full = self.regs[Self::number(register)];
        match register.size() {
            1 if register.is_gpr8()
                && matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) =>
            {
                full >> 8 & 0xFF
            }
            1 => full & 0xFF,
            2 => full & 0xFFFF,
            _ => full,
        }
    }

    fn set_register(&mut self, register: Register, value: u32) {
        let slot = &mut self.regs[Self::number(register)];
        *slot = match register.size() {
            1 if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) => {
                *slot & !0xFF00 | (value & 0xFF) << 8
            }
            1 => *slot & !0xFF | value & 0xFF,
            2 => *slot & !0xFFFF | value & 0xFFFF,
            _ => value,
        };
    }

    fn address(&self, i: &Instruction) -> u32 {
        let base = if i.memory_base() == Register::None { 0 } else { self.register(i.memory_base()) };
        let index = if i.memory_index() == Register::None { 0 } else { self.register(i.memory_index()) };
        base.wrapping_add(index.wrapping_mul(i.memory_index_scale())).wrapping_add(i.memory_displacement32())
    }

    fn operand(&self, i: &Instruction, n: u32) -> Result<u32, Stop> {
        match i.op_kind(n) {
            OpKind::Register if i.op_register(n).is_cr() => {
                self.ring0.ok_or(Stop::Gp)?;
                let place = [0, 2, 3, 4].iter().position(|&cr| cr == i.op_register(n).number());
                Ok(CONTROL[place.expect("CR0, CR2, CR3 or CR4")])
            }
            OpKind::Register if i.op_register(n) == Register::CS => Ok(self.ring0.ok_or(Stop::Gp)?.0),
            OpKind::Register if i.op_register(n) == Register::SS => Ok(self.ring0.ok_or(Stop::Gp)?.1),
            OpKind::Register => Ok(self.register(i.op_register(n))),
            OpKind::Memory => self.read(self.address(i)),
            _ => Ok(i.immediate(n) as u32),
        }
    }

    fn set_operand0(&mut self, i: &Instruction, value: u32) -> Result<(), Stop> {
        match i.op0_kind() {
            OpKind::Register => {
                self.set_register(i.op0_register(), value);
                Ok(())
            }
            _ => self.write(self.address(i), value, i.memory_size().size().min(4)),
        }
    }

    fn push(&mut self, value: u32) -> Result<(), Stop> {
        let esp = self.regs[4].wrapping_sub(4);
        self.write(esp, value, 4)?;
        self.regs[4] = esp;
        Ok(())
    }

    fn pop(&mut self) -> Result<u32, Stop> {
        let value = self.read(self.regs[4])?;
        self.regs[4] = self.regs[4].wrapping_add(4);
        Ok(value)
    }

    fn compare_flags(&mut self, a: u32, b: u32) {
        let value = a.wrapping_sub(b);
        self.logic_flags(value);
        self.eflags |= if a < b { CF } else { 0 }
            | if (a ^ b ^ value) & 0x10 != 0 { AF } else { 0 }
            | if (a ^ b) & (a ^ value) >> 31 != 0 { OF } else { 0 };
    }

    fn logic_flags(&mut self, value: u32) {
        let parity = if (value as u8).count_ones() % 2 == 0 { PF } else { 0 };
        let zero = if value == 0 { ZF } else { 0 };
        let sign = if value >> 31 != 0 { SF } else { 0 };
        self.eflags = self.eflags & !ARITHMETIC | parity | zero | sign;
    }

    fn condition(&self, code: ConditionCode) -> bool {
        let f = |mask| self.eflags & mask != 0;
        match code {
            ConditionCode::e => f(ZF),
            ConditionCode::ne => !f(ZF),
            ConditionCode::b => f(CF),
            ConditionCode::ae => !f(CF),
            ConditionCode::o => f(OF),
            ConditionCode::no => !f(OF),
            ConditionCode::s => f(SF),
            ConditionCode::ns => !f(SF),
            other => panic!("condition {other:?} is not part of the test CPU"),
        }
    }

    /// The bits that POPF changes at CPL 1 with IOPL 0, and at CPL 0.
    const POPF_CPL1: u32 = 0x24_4DD5;
    const POPF_CPL0: u32 = 0x24_7FD5;
    /// The bits with which IRET does what is not part of the test CPU: TF, RF, VM, VIF, VIP.
    const IRET_FOREIGN: u32 = 0x1B_0100;

    /// IRETD to the same ring, at ring 0: what else a frame may ask for, a block must not do.
    fn iret(&mut self) -> Result<(), Stop> {
        let (cs, _) = self.ring0.ok_or(Stop::Gp)?;
        let esp = self.regs[4];
        let target = self.read(esp)?;
        let selector = self.read(esp.wrapping_add(4))? & 0xFFFF;
        let image = self.read(esp.wrapping_add(8))?;
        assert_eq!((selector, image & Self::IRET_FOREIGN), (cs, 0), "a return that is not the block's");
        self.eflags = self.eflags & !Self::POPF_CPL0 | image & Self::POPF_CPL0;
        self.regs[4] = esp.wrapping_add(12);
        self.eip = target;
        Ok(())
    }

    /// Run one instruction; on `Err` nothing has changed.
    pub fn step(&mut self) -> Result<(), Stop> {
        let bytes: Vec<u8> = (0..15).map_while(|i| self.memory.get(&self.eip.wrapping_add(i)).copied()).collect();
        if bytes.is_empty() {
            return Err(Stop::Fault);
        }
        let i = Decoder::with_ip(32, &bytes, u64::from(self.eip), DecoderOptions::NONE).decode();
        // What writes memory does so last, so that registers are all there is to take back.
        let before = (self.regs, self.eip, self.eflags);
        let result = self.execute(&i);
        if result.is_err() {
            (self.regs, self.eip, self.eflags) = before;
        }
        result
    }

    fn execute(&mut self, i: &Instruction) -> Result<(), Stop> {
        let next = self.eip.wrapping_add(i.len() as u32);
        self.eip = next;
        match i.mnemonic() {
            Mnemonic::Nop => {}
            Mnemonic::Int3 => return Err(Stop::Int3),
            Mnemonic::Cli | Mnemonic::Sti if self.ring0.is_none() => return Err(Stop::Gp),
            Mnemonic::Cli => self.eflags &= !IF,
            Mnemonic::Sti => self.eflags |= IF,
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
            Mnemonic::Pushfd => self.push(self.eflags & !0x3_0000 | 2)?,
            Mnemonic::Popfd => {
                let image = self.pop()?;
                let mask = if self.ring0.is_some() { Self::POPF_CPL0 } else { Self::POPF_CPL1 };
                self.eflags = self.eflags & !mask | image & mask;
            }
            Mnemonic::Lahf => self.set_register(Register::AH, self.eflags & 0xD5 | 2),
            Mnemonic::Seto => self.set_register(i.op0_register(), u32::from(self.eflags & OF != 0)),
            Mnemonic::And | Mnemonic::Test | Mnemonic::Xor => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                let value = if i.mnemonic() == Mnemonic::Xor { a ^ b } else { a & b };
                if i.mnemonic() != Mnemonic::Test {
                    self.set_operand0(i, value)?;
                }
                self.logic_flags(value);
            }
            Mnemonic::Cmp => {
                let (a, b) = (self.operand(i, 0)?, self.operand(i, 1)?);
                self.compare_flags(a, b);
            }
            Mnemonic::Iretd => self.iret()?,
            Mnemonic::Stc => self.eflags |= CF,
            Mnemonic::Jmp if i.op0_kind() == OpKind::NearBranch32 => self.eip = i.near_branch32(),
            Mnemonic::Jmp => self.eip = self.operand(i, 0)?,
            Mnemonic::Call => {
                let target = match i.op0_kind() {
                    OpKind::NearBranch32 => i.near_branch32(),
                    _ => self.operand(i, 0)?,
                };
                self.push(next)?;
                self.eip = target;
            }
            Mnemonic::Ret => self.eip = self.pop()?,
            Mnemonic::Jecxz => {
                if self.regs[1] == 0 {
                    self.eip = i.near_branch32();
                }
            }
            Mnemonic::Loop => {
                self.regs[1] = self.regs[1].wrapping_sub(1);
                if self.regs[1] != 0 {
                    self.eip = i.near_branch32();
                }
            }
            _ if i.is_jcc_short_or_near() => {
                if self.condition(i.condition_code()) {
                    self.eip = i.near_branch32();
                }
            }
            other => panic!("{other:?} is not part of the test CPU: {:?}", i.code()),
        }
        Ok(())
    }
}
