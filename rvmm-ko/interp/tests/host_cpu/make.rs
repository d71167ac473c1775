//! Random instructions of a cell.

use crate::cells::{self, Cell, Operand, Prefix};
use crate::native::{Mode, DATA, INSTRUCTION, SEGMENT, USER_CS};
use crate::tables::{CODE16, SELECTORS};
use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind, Register,
};

/// A small random number generator (xorshift64*), so that a failure can be repeated from its seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
    /// A value of the kind that finds mistakes: often a boundary.
    pub fn value(&mut self) -> u64 {
        let random = self.next();
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1 << self.below(64)) - 1,
            4 => !(1 << self.below(64)),
            5 => self.below(256),
            _ => random,
        }
    }
}

/// An instruction to be executed.
pub struct Made {
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
    /// Where the code segment of base 0 has it: RIP, or what is to be added to the IP of a segment that begins at the code page.
    pub ip: u64,
}

/// Registers an address or operand may use: all but the stack pointer.
const GPRS: [usize; 15] = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn register(first: Register, number: usize) -> Register {
    Register::values().nth(first as usize + number).expect("a register")
}

/// Width of the addresses, in bits.
pub fn address_bits(cell: &Cell) -> u32 {
    match (cell.mode, cell.operand) {
        (Mode::Bits16, Operand::Other) | (Mode::Bits64, Operand::Other) => 32,
        (Mode::Bits32, Operand::Other) => 16,
        (mode, _) => mode.bits(),
    }
}

/// A random instruction of the cell, at `ip`. None: the encoder has none.
pub fn random(rng: &mut Rng, cell: &Cell, ip: u64) -> Option<Made> {
    let mut ins = Instruction::default();
    ins.set_code(cell.code);
    let info = cell.code.op_code();
    for i in 0..info.op_count() {
        set_operand(rng, &mut ins, cell, i, ip)?;
    }
    let mut encoder = Encoder::new(cell.mode.bits());
    let len = encoder.encode(&ins, ip).ok()?;
    let mut bytes = encoder.take_buffer();
    aim(rng, &ins, &mut bytes, len, cell.mode);
    let prefix = match cell.prefix {
        Prefix::None => None,
        Prefix::Segment if cell.mode == Mode::Bits64 => Some(rng.pick(&[0x26u8, 0x2e, 0x36, 0x3e, 0x65])),
        Prefix::Segment => Some(rng.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65])),
        Prefix::Lock => Some(0xf0),
        Prefix::Rep => Some(0xf3),
        Prefix::Repne => Some(0xf2),
    };
    if let Some(prefix) = prefix {
        bytes.insert(0, prefix);
    }
    // The address-size prefix where the encoder saw no memory that needs it.
    if cell.operand == Operand::Other && ins.is_string_instruction() && !bytes.contains(&0x67) {
        bytes.insert(0, 0x67);
    }
    let mut instruction = Decoder::with_ip(cell.mode.bits(), &bytes, ip, DecoderOptions::NO_INVALID_CHECK).decode();
    if instruction.len() > bytes.len() || bytes.len() > 15 {
        return None;
    }
    if instruction.len() != bytes.len() {
        instruction = ins;
    }
    Some(Made { bytes, instruction, ip })
}

/// Gives branches that name their target a random one, near enough to be an address of every kind of segment there is.
fn aim(rng: &mut Rng, ins: &Instruction, bytes: &mut [u8], len: usize, mode: Mode) {
    use OpCodeOperandKind as K;
    let Some(kind) = (ins.op_count() > 0).then(|| ins.op_code().op_kind(0)) else { return };
    let mut put = |back: usize, value: &[u8]| bytes[len - back..len - back + value.len()].copy_from_slice(value);
    match kind {
        K::br16_1 | K::br32_1 | K::br64_1 => put(1, &[rng.next() as u8]),
        K::br16_2 => put(2, &(rng.next() as u16).to_le_bytes()),
        // In 64-bit and flat code anywhere in the lower half; in a segment of 36 KiB mostly outside.
        K::br32_4 | K::br64_4 => {
            let far = if mode == Mode::Bits64 || rng.chance(3) { 0x0fff_ffff } else { 0x7fff };
            put(4, &((rng.next() & far) as i32 - (far / 8) as i32).to_le_bytes());
        }
        K::farbr2_2 | K::farbr4_2 => {
            let at = if rng.chance(3) { rng.next() as u32 } else { rng.below(0x9200) as u32 };
            match kind {
                K::farbr2_2 => put(4, &(at as u16).to_le_bytes()),
                _ => put(6, &at.to_le_bytes()),
            }
            let call = matches!(ins.mnemonic(), Mnemonic::Call);
            put(2, &far_selector(rng.pick(&SELECTORS), call, mode).to_le_bytes());
        }
        _ => {}
    }
}

/// The selector, unless a far CALL would lead to 64-bit code with it from another mode: see NOT_COVERED.
pub fn far_selector(selector: u16, call: bool, mode: Mode) -> u16 {
    if call && mode != Mode::Bits64 && selector & !3 == USER_CS & !3 {
        CODE16
    } else {
        selector
    }
}

fn set_operand(rng: &mut Rng, ins: &mut Instruction, cell: &Cell, i: u32, ip: u64) -> Option<()> {
    use OpCodeOperandKind as K;
    let info = cell.code.op_code();
    let low = cell.mode != Mode::Bits64;
    let number = |rng: &mut Rng| GPRS[rng.below(if low { 7 } else { 15 }) as usize];
    let bits = address_bits(cell);
    let set_register = |ins: &mut Instruction, reg| {
        ins.set_op_kind(i, OpKind::Register);
        ins.set_op_register(i, reg);
    };
    let kind = info.op_kind(i);
    match kind {
        k if cells::either(k) && cell.operand != Operand::Register => set_memory(rng, ins, cell, i),
        K::mem => set_memory(rng, ins, cell, i),
        K::r8_or_mem | K::r8_reg | K::r8_opcode => {
            // AL to BH, then SPL to R15L, SPL itself left out.
            let n = rng.below(if low { 8 } else { 20 }) as usize;
            set_register(ins, register(Register::AL, if n == 8 { 9 } else { n }));
        }
        K::r16_or_mem | K::r16_reg | K::r16_opcode => set_register(ins, register(Register::AX, number(rng))),
        K::r32_or_mem | K::r32_reg | K::r32_opcode | K::r32_vvvv => {
            set_register(ins, register(Register::EAX, number(rng)))
        }
        K::r64_or_mem | K::r64_reg | K::r64_opcode | K::r64_vvvv => {
            set_register(ins, register(Register::RAX, number(rng)))
        }
        K::seg_reg => {
            // CS cannot be loaded; the encoder does not know.
            let loads = i == 0;
            let n = loop {
                let n = rng.below(6) as usize;
                if !(loads && n == 1) {
                    break n;
                }
            };
            set_register(ins, register(Register::ES, n));
        }
        K::es => set_register(ins, Register::ES),
        K::cs => set_register(ins, Register::CS),
        K::ss => set_register(ins, Register::SS),
        K::ds => set_register(ins, Register::DS),
        K::fs => set_register(ins, Register::FS),
        K::gs => set_register(ins, Register::GS),
        K::al => set_register(ins, Register::AL),
        K::cl => set_register(ins, Register::CL),
        K::ax => set_register(ins, Register::AX),
        K::dx => set_register(ins, Register::DX),
        K::eax => set_register(ins, Register::EAX),
        K::rax => set_register(ins, Register::RAX),
        K::imm8_const_1 => set_immediate(ins, i, OpKind::Immediate8, 1),
        K::imm8 => {
            let second = i > 0 && matches!(info.op_kind(0), K::imm16);
            // ENTER: a nesting level whose frame pointers mostly fit the stack; bits 5 to 7 do not count.
            let (op, v) =
                if second { (OpKind::Immediate8_2nd, rng.value() & 0xe7) } else { (OpKind::Immediate8, rng.value()) };
            set_immediate(ins, i, op, v & 0xff);
        }
        K::imm8sex16 => set_immediate(ins, i, OpKind::Immediate8to16, rng.value() as i8 as u64),
        K::imm8sex32 => set_immediate(ins, i, OpKind::Immediate8to32, rng.value() as i8 as u64),
        K::imm8sex64 => set_immediate(ins, i, OpKind::Immediate8to64, rng.value() as i8 as u64),
        K::imm16 => {
            let stack = matches!(cell.code.mnemonic(), Mnemonic::Enter | Mnemonic::Ret | Mnemonic::Retf);
            let v = rng.value() & if stack && !rng.chance(4) { 0xfff } else { 0xffff };
            set_immediate(ins, i, OpKind::Immediate16, v);
        }
        K::imm32 => set_immediate(ins, i, OpKind::Immediate32, rng.value() as u32 as u64),
        K::imm32sex64 => set_immediate(ins, i, OpKind::Immediate32to64, rng.value() as i32 as u64),
        K::imm64 => set_immediate(ins, i, OpKind::Immediate64, rng.value()),
        K::seg_rBX_al => {
            ins.set_op_kind(i, OpKind::Memory);
            ins.set_memory_base(by(bits, Register::BX, Register::EBX, Register::RBX));
            ins.set_memory_index(Register::AL);
        }
        K::seg_rSI => ins.set_op_kind(i, by(bits, OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI)),
        K::es_rDI => ins.set_op_kind(i, by(bits, OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI)),
        K::mem_offs => {
            ins.set_op_kind(i, OpKind::Memory);
            // Into what can be written, from the segment's base or from 0.
            let flat = cell.mode == Mode::Bits64 || bits == 32 && rng.chance(2);
            ins.set_memory_displacement64(DATA - if flat { 0 } else { SEGMENT } + rng.below(0x4100));
            ins.set_memory_displ_size(bits / 8);
        }
        K::br16_1 | K::br16_2 => {
            ins.set_op_kind(i, OpKind::NearBranch16);
            ins.set_near_branch16(ip as u16);
        }
        K::br32_1 | K::br32_4 => {
            ins.set_op_kind(i, OpKind::NearBranch32);
            ins.set_near_branch32(ip as u32);
        }
        K::br64_1 | K::br64_4 => {
            ins.set_op_kind(i, OpKind::NearBranch64);
            ins.set_near_branch64(ip);
        }
        K::farbr2_2 => ins.set_op_kind(i, OpKind::FarBranch16),
        K::farbr4_2 => ins.set_op_kind(i, OpKind::FarBranch32),
        _ => return None,
    }
    Some(())
}

/// What belongs to the address size.
fn by<T>(bits: u32, of16: T, of32: T, of64: T) -> T {
    match bits {
        16 => of16,
        32 => of32,
        _ => of64,
    }
}

fn set_memory(rng: &mut Rng, ins: &mut Instruction, cell: &Cell, operand: u32) {
    use Register as R;
    ins.set_op_kind(operand, OpKind::Memory);
    if cell.operand == Operand::Relative {
        ins.set_memory_base(R::RIP);
        // The low bits decide about alignment; the page behind can only be read.
        let end = if rng.chance(10) { 0x1fe0 } else { 0 };
        ins.set_memory_displacement64(DATA + 0x2000 + end + if rng.chance(2) { 0 } else { rng.below(64) });
        ins.set_memory_displ_size(8);
        return;
    }
    let displ = match rng.below(3) {
        0 => 0,
        1 => rng.below(256) as i64 - 128,
        _ => rng.below(0x2000) as i64 - 0x1000,
    };
    let bits = address_bits(cell);
    let m = if bits == 16 {
        const PAIRS: [(Register, Register); 8] = [
            (R::BX, R::SI),
            (R::BX, R::DI),
            (R::BP, R::SI),
            (R::BP, R::DI),
            (R::SI, R::None),
            (R::DI, R::None),
            (R::BP, R::None),
            (R::BX, R::None),
        ];
        let (base, index) = rng.pick(&PAIRS);
        let size = if (-128..128).contains(&displ) { 1 } else { 2 };
        MemoryOperand::new(base, index, 1, displ, if displ == 0 && base != R::BP { 0 } else { size }, false, R::None)
    } else {
        let pick = |rng: &mut Rng| GPRS[rng.below(if cell.mode == Mode::Bits64 { 15 } else { 7 }) as usize];
        let first = if bits == 32 { R::EAX } else { R::RAX };
        let stack = cell.prefix != Prefix::Segment && rng.chance(12);
        let base = register(first, if stack { 4 } else { pick(rng) });
        let index = if rng.chance(2) { register(first, pick(rng)) } else { R::None };
        let index = if index == base { R::None } else { index };
        MemoryOperand::new(base, index, 1 << rng.below(4), displ, if displ == 0 { 0 } else { bits / 8 }, false, R::None)
    };
    ins.set_memory_base(m.base);
    ins.set_memory_index(m.index);
    ins.set_memory_index_scale(m.scale);
    ins.set_memory_displacement64(m.displacement as u64);
    ins.set_memory_displ_size(m.displ_size);
}

fn set_immediate(ins: &mut Instruction, operand: u32, kind: OpKind, value: u64) {
    ins.set_op_kind(operand, kind);
    match kind {
        OpKind::Immediate8_2nd => ins.set_immediate8_2nd(value as u8),
        _ => ins.set_immediate_u64(operand, value),
    }
}

/// IP of the instruction in a segment of base 0, and in one that begins at the code page.
pub fn ip(flat: bool) -> u64 {
    if flat {
        INSTRUCTION
    } else {
        0x800
    }
}

/// Does it touch the flags of the CPU as a whole, so that the interpreter must be single-stepped too?
pub fn sees_tf(code: Code) -> bool {
    use Mnemonic as M;
    let m = code.mnemonic();
    matches!(m, M::Pushf | M::Pushfd | M::Pushfq | M::Popf | M::Popfd | M::Popfq | M::Iret | M::Iretd | M::Iretq)
}
