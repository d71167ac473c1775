//! Which instructions are compared, and how random ones of a form are made.

use crate::native::Mode;
use iced_x86::{
    Code, CpuidFeature, Encoder, EncodingKind, Instruction, MemoryOperand, Mnemonic, OpCodeOperandKind, OpKind,
    Register,
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

/// What an operand that can be either is, and how memory is addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Shape {
    /// A register; memory where nothing else is possible.
    Register,
    /// Memory, by registers of the mode's width.
    Memory,
    /// Memory relative to RIP.
    Relative,
    /// Memory in 64-bit mode by 32-bit registers: the address-size prefix.
    Narrow,
}

/// Mnemonics of the integer families that a program may execute anywhere.
fn wanted(m: Mnemonic) -> bool {
    let name = format!("{m:?}").to_lowercase();
    const NAMES: &str = " mov movzx movsx movsxd movbe xchg xadd cmpxchg cmpxchg8b cmpxchg16b bswap lea xlatb cbw cwde \
        cdqe cwd cdq cqo lahf sahf nop reservednop pause lfence mfence sfence movnti add adc sub sbb cmp inc dec neg and \
        or xor not test mul imul div idiv adcx adox shl shr sar sal rol ror rcl rcr shld shrd bt bts btr btc bsf bsr \
        popcnt tzcnt lzcnt crc32 movsb movsw movsd movsq cmpsb cmpsw cmpsd cmpsq stosb stosw stosd stosq lodsb lodsw \
        lodsd lodsq scasb scasw scasd scasq jmp call ret loop loope loopne jcxz jecxz jrcxz enter leave push pop clc stc \
        cmc cld std ud2 clflush aaa aas aam aad daa das pusha pushad popa popad bound salc ";
    NAMES.contains(&format!(" {name} "))
        || ((name.starts_with('j') || name.starts_with("set") || name.starts_with("cmov")) && {
            let condition = name.trim_start_matches("cmov").trim_start_matches("set").trim_start_matches('j');
            " o no b ae e ne be a s ns p np l ge le g ".contains(&format!(" {condition} "))
        })
}

/// BMI1 and BMI2, as far as the CPU has them.
fn is_bmi(code: Code) -> bool {
    let (one, two) = (std::is_x86_feature_detected!("bmi1"), std::is_x86_feature_detected!("bmi2"));
    code.op_code().encoding() == EncodingKind::VEX
        && code.cpuid_features().iter().all(|f| match f {
            CpuidFeature::BMI1 => one,
            CpuidFeature::BMI2 => two,
            _ => false,
        })
}

/// Every form to be compared: legacy-encoded or BMI, executable in the mode, of a wanted mnemonic.
pub fn all(mode: Mode) -> Vec<(Code, Shape)> {
    let mut forms = Vec::new();
    for code in Code::values() {
        let info = code.op_code();
        let exists = match mode {
            Mode::Bits64 => info.mode64(),
            // iced says so of the forms with REX.W too.
            Mode::Bits32 => info.mode32() && !(0..info.op_count()).any(|i| needs_rex(info.op_kind(i))),
        };
        let integer = info.encoding() == EncodingKind::Legacy && wanted(code.mnemonic()) || is_bmi(code);
        if !info.is_instruction() || !exists || !integer {
            continue;
        }
        let kinds = || (0..info.op_count()).map(|i| info.op_kind(i));
        if !kinds().all(supported) || left_out(code, mode) {
            continue;
        }
        // 0F 0D with a register does not do the same on every CPU, so the interpreter does not do it.
        if !format!("{code:?}").ends_with("_0F0D") {
            forms.push((code, Shape::Register));
        }
        if kinds().any(either) {
            forms.push((code, Shape::Memory));
        }
        let addressed = |k| either(k) || k == OpCodeOperandKind::mem;
        if mode == Mode::Bits64 && kinds().any(addressed) {
            forms.push((code, Shape::Relative));
        }
        if mode == Mode::Bits64 && kinds().any(|k| addressed(k) || implied(k)) {
            forms.push((code, Shape::Narrow));
        }
    }
    forms
}

/// Forms that depend on the selectors of this process, 16-bit branches (which lead where nothing can be mapped; Intel and
/// AMD treat them differently in 64-bit mode), and counted branches whose counter is not of the address size.
fn left_out(code: Code, mode: Mode) -> bool {
    let name = format!("{code:?}");
    let has = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    let selector = name.contains("Sreg")
        || (name.starts_with("Push") || name.starts_with("Pop"))
            && ["CS", "SS", "DS", "ES", "FS", "GS"].iter().any(|s| name.ends_with(s));
    let far = has(&["Call_m16", "Jmp_m16"]);
    let narrow_branch = has(&["rel16", "Call_rm16", "Jmp_rm16", "Retnw", "rel8_16"]);
    let other_mode = mode == Mode::Bits64 && has(&["Call_rm32", "Jmp_rm32", "rel32_32", "rel8_32"]);
    selector || far || narrow_branch || other_mode
}

fn needs_rex(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(kind, K::r64_or_mem | K::r64_reg | K::r64_vvvv | K::r64_opcode | K::rax)
}

fn either(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(kind, K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem)
}

/// Memory by a register that the opcode implies.
fn implied(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(kind, K::seg_rBX_al | K::seg_rSI | K::es_rDI)
}

fn supported(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    either(kind)
        || matches!(
            kind,
            K::r8_reg
                | K::r8_opcode
                | K::r16_reg
                | K::r16_opcode
                | K::r32_reg
                | K::r32_opcode
                | K::r32_vvvv
                | K::r64_vvvv
                | K::r64_reg
                | K::r64_opcode
                | K::al
                | K::cl
                | K::ax
                | K::eax
                | K::rax
                | K::imm8
                | K::imm8_const_1
                | K::imm8sex16
                | K::imm8sex32
                | K::imm8sex64
                | K::imm16
                | K::imm32
                | K::imm32sex64
                | K::imm64
                | K::mem
                | K::seg_rBX_al
                | K::seg_rSI
                | K::es_rDI
                | K::br64_1
                | K::br64_4
                | K::br32_1
                | K::br32_4
                | K::mem_offs
        )
}

/// What [`random`] made.
pub struct Made {
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
}

/// Registers an address or operand may use: all but the stack pointer.
const GPRS: [usize; 15] = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn register(first: Register, number: usize) -> Register {
    Register::values().nth(first as usize + number).expect("a register")
}

/// A random instruction of the form, encoded for `ip`. Absolute addresses, and those relative to RIP, are `offset`.
pub fn random(rng: &mut Rng, code: Code, shape: Shape, mode: Mode, ip: u64, offset: u64) -> Option<Made> {
    use OpCodeOperandKind as K;
    let info = code.op_code();
    let mut ins = Instruction::default();
    ins.set_code(code);
    let low = mode == Mode::Bits32;
    let narrow = low || shape == Shape::Narrow;
    let number = |rng: &mut Rng| {
        let n = if low { 7 } else { GPRS.len() };
        GPRS[rng.below(n as u64) as usize]
    };
    for i in 0..info.op_count() {
        let kind = info.op_kind(i);
        let set_register = |ins: &mut Instruction, reg| {
            ins.set_op_kind(i, OpKind::Register);
            ins.set_op_register(i, reg);
        };
        match kind {
            K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem if shape != Shape::Register => {
                set_memory(rng, &mut ins, i, shape, low, offset);
            }
            K::mem => set_memory(rng, &mut ins, i, shape, low, offset),
            K::r8_or_mem | K::r8_reg | K::r8_opcode => {
                let n = if low { 8 } else { 20 };
                // AL to BH, then SPL to R15L, SPL itself left out.
                let n = rng.below(n) as usize;
                set_register(&mut ins, register(Register::AL, if n == 8 { 9 } else { n }));
            }
            K::r16_or_mem | K::r16_reg | K::r16_opcode => set_register(&mut ins, register(Register::AX, number(rng))),
            K::r32_or_mem | K::r32_reg | K::r32_opcode | K::r32_vvvv => {
                set_register(&mut ins, register(Register::EAX, number(rng)))
            }
            K::r64_or_mem | K::r64_reg | K::r64_opcode | K::r64_vvvv => {
                set_register(&mut ins, register(Register::RAX, number(rng)))
            }
            K::al => set_register(&mut ins, Register::AL),
            K::cl => set_register(&mut ins, Register::CL),
            K::ax => set_register(&mut ins, Register::AX),
            K::eax => set_register(&mut ins, Register::EAX),
            K::rax => set_register(&mut ins, Register::RAX),
            K::imm8_const_1 => ins.set_op_kind_immediate(i, OpKind::Immediate8, 1),
            K::imm8 => {
                let v = rng.value();
                let second = i > 0 && matches!(info.op_kind(0), K::imm16);
                // ENTER: a nesting level whose frame pointers fit the stack.
                let (op, v) = if second { (OpKind::Immediate8_2nd, v & 0x23) } else { (OpKind::Immediate8, v) };
                ins.set_op_kind_immediate(i, op, v as u8 as u64);
            }
            K::imm8sex16 => ins.set_op_kind_immediate(i, OpKind::Immediate8to16, rng.value() as i8 as u64),
            K::imm8sex32 => ins.set_op_kind_immediate(i, OpKind::Immediate8to32, rng.value() as i8 as u64),
            K::imm8sex64 => ins.set_op_kind_immediate(i, OpKind::Immediate8to64, rng.value() as i8 as u64),
            K::imm16 => {
                let stack = matches!(code.mnemonic(), Mnemonic::Enter | Mnemonic::Ret);
                let v = rng.value() & if stack { 0xfff } else { 0xffff };
                ins.set_op_kind_immediate(i, OpKind::Immediate16, v);
            }
            K::imm32 => ins.set_op_kind_immediate(i, OpKind::Immediate32, rng.value() as u32 as u64),
            K::imm32sex64 => ins.set_op_kind_immediate(i, OpKind::Immediate32to64, rng.value() as i32 as u64),
            K::imm64 => ins.set_op_kind_immediate(i, OpKind::Immediate64, rng.value()),
            K::seg_rBX_al => {
                ins.set_op_kind(i, OpKind::Memory);
                ins.set_memory_base(if narrow { Register::EBX } else { Register::RBX });
                ins.set_memory_index(Register::AL);
            }
            K::seg_rSI => ins.set_op_kind(i, if narrow { OpKind::MemorySegESI } else { OpKind::MemorySegRSI }),
            K::es_rDI => ins.set_op_kind(i, if narrow { OpKind::MemoryESEDI } else { OpKind::MemoryESRDI }),
            K::mem_offs => {
                ins.set_op_kind(i, OpKind::Memory);
                ins.set_memory_displacement64(offset);
                ins.set_memory_displ_size(if low { 4 } else { 8 });
            }
            K::br32_1 | K::br32_4 => {
                ins.set_op_kind(i, OpKind::NearBranch32);
                ins.set_near_branch32(ip as u32);
            }
            K::br64_1 | K::br64_4 => {
                ins.set_op_kind(i, OpKind::NearBranch64);
                ins.set_near_branch64(ip);
            }
            _ => return None,
        }
    }
    if ins.is_string_instruction() {
        match rng.below(3) {
            0 => ins.set_has_rep_prefix(true),
            1 => ins.set_has_repne_prefix(true),
            _ => {}
        }
    }
    if info.can_use_lock_prefix() && ins.op0_kind() == OpKind::Memory && rng.chance(3) {
        ins.set_has_lock_prefix(true);
    }
    let mut encoder = Encoder::new(mode.bits());
    let len = encoder.encode(&ins, ip).ok()?;
    if matches!(ins.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32) {
        // Branches lead 5 bytes behind themselves.
        let to = ip + len as u64 + 5;
        match mode {
            Mode::Bits64 => ins.set_near_branch64(to),
            Mode::Bits32 => ins.set_near_branch32(to as u32),
        }
        let _ = encoder.take_buffer();
        encoder.encode(&ins, ip).ok()?;
    }
    Some(Made { bytes: encoder.take_buffer(), instruction: ins })
}

fn set_memory(rng: &mut Rng, ins: &mut Instruction, operand: u32, shape: Shape, low: bool, offset: u64) {
    if shape == Shape::Relative {
        ins.set_op_kind(operand, OpKind::Memory);
        ins.set_memory_base(Register::RIP);
        // The low bits decide about alignment.
        ins.set_memory_displacement64(offset + if rng.chance(2) { 0 } else { rng.below(64) });
        ins.set_memory_displ_size(8);
        return;
    }
    let narrow = low || shape == Shape::Narrow;
    let pick = |rng: &mut Rng| GPRS[rng.below(if low { 7 } else { 15 }) as usize];
    let first = if narrow { Register::EAX } else { Register::RAX };
    let base = register(first, pick(rng));
    let index = if rng.chance(2) { register(first, pick(rng)) } else { Register::None };
    let index = if index == base { Register::None } else { index };
    let displ = match rng.below(3) {
        0 => 0,
        1 => rng.below(256) as i64 - 128,
        _ => rng.below(0x2000) as i64 - 0x1000,
    };
    let scale = 1 << rng.below(4);
    let displ_size = if displ == 0 { 0 } else { mode_displ(narrow) };
    let m = MemoryOperand::new(base, index, scale, displ, displ_size, false, Register::None);
    ins.set_op_kind(operand, OpKind::Memory);
    ins.set_memory_base(m.base);
    ins.set_memory_index(m.index);
    ins.set_memory_index_scale(m.scale);
    ins.set_memory_displacement64(m.displacement as u64);
    ins.set_memory_displ_size(m.displ_size);
}

/// Sets an immediate operand of any kind.
trait SetImmediate {
    fn set_op_kind_immediate(&mut self, operand: u32, kind: OpKind, value: u64);
}

impl SetImmediate for Instruction {
    fn set_op_kind_immediate(&mut self, operand: u32, kind: OpKind, value: u64) {
        self.set_op_kind(operand, kind);
        match kind {
            OpKind::Immediate8_2nd => self.set_immediate8_2nd(value as u8),
            _ => self.set_immediate_u64(operand, value),
        }
    }
}

/// How iced wants the size of a full displacement.
fn mode_displ(low: bool) -> u32 {
    if low {
        4
    } else {
        8
    }
}
