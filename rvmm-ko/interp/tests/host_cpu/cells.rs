//! The table of cells: instruction form × mode × operand and address size × prefix.

use crate::native::Mode;
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic, OpCodeOperandKind};

/// What an operand that can be either is, and how memory is addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Operand {
    /// A register, an immediate, or whatever the opcode implies.
    Register,
    /// Memory, by the mode's own address size.
    Memory,
    /// Memory relative to RIP.
    Relative,
    /// Memory under the address-size prefix: 32-bit addresses in 16-bit and in 64-bit mode, 16-bit ones in 32-bit mode.
    Other,
}

/// The prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Prefix {
    None,
    /// Any segment: memory of another one, or without meaning.
    Segment,
    /// Allowed or #UD.
    Lock,
    Rep,
    Repne,
}

/// One cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Cell {
    pub mode: Mode,
    pub code: Code,
    pub operand: Operand,
    pub prefix: Prefix,
}

/// Integer instructions of programs.
const USER: &str = " mov movzx movsx movsxd movbe xchg xadd cmpxchg cmpxchg8b cmpxchg16b bswap lea xlatb cbw cwde \
    cdqe cwd cdq cqo lahf sahf nop reservednop pause lfence mfence sfence movnti add adc sub sbb cmp inc dec neg and \
    or xor not test mul imul div idiv adcx adox shl shr sar sal rol ror rcl rcr shld shrd bt bts btr btc bsf bsr \
    popcnt tzcnt lzcnt crc32 movsb movsw movsd movsq cmpsb cmpsw cmpsd cmpsq stosb stosw stosd stosq lodsb lodsw \
    lodsd lodsq scasb scasw scasd scasq jmp call ret loop loope loopne jcxz jecxz jrcxz enter leave push pop clc stc \
    cmc cld std ud2 clflush clflushopt clwb aaa aas aam aad daa das pusha pushad popa popad bound salc into \
    pushf pushfd pushfq popf popfd popfq retf iret iretd iretq lds les lss lfs lgs lar lsl verr verw arpl \
    andn bextr blsi blsmsk blsr bzhi mulx pdep pext rorx sarx shlx shrx ud0 ud1 ";

/// Instructions that programs may not execute, with IOPL 0 and no I/O bitmap: what is checked is the fault.
const PRIVILEGED: &str =
    " cli sti hlt in out insb insw insd outsb outsw outsd lgdt lidt lldt ltr lmsw clts invd wbinvd invlpg \
    rdmsr wrmsr swapgs ";

/// What is not in the table, and what checks it.
pub const NOT_COVERED: &[(&str, &str)] = &[
    ("INT n, INT3, INT1, INTO with OF=1", "they go through the IDT, which is Linux's: `tests/system/deliver.rs`, micro-guests int-n, int3, into, int1"),
    ("SYSCALL, SYSRET, SYSENTER, SYSEXIT", "Linux is behind them: `tests/long/syscall.rs`, micro-guests sysenter, syscalls"),
    ("MOV to and from CR and DR", "`tests/system/control.rs`, `debug.rs`, micro-guests mov-cr0, mov-cr234, mov-dr, user-privileged"),
    ("SGDT, SIDT, SLDT, STR, SMSW", "Linux emulates them where the CPU has UMIP: `tests/system/tables.rs`, micro-guests sgdt, sidt, sldt-str, smsw"),
    ("CPUID, RDTSC, RDTSCP, RDPMC, RDPID, XGETBV, XSETBV, RDFSBASE and the like", "the answer is the machine's: `tests/system/cpu.rs`, micro-guests cpuid, rdtsc"),
    ("INVPCID, MONITOR, MWAIT, virtualisation", "not for programs: `tests/system/cpu.rs`"),
    ("near branches under the operand-size prefix in 64-bit mode", "Intel and AMD differ: `tests/long/far.rs`, micro-guests of 64-bit code"),
    ("far pointers of 64 bits (REX.W)", "Intel and AMD differ: `tests/long/far.rs`"),
    ("far CALL from 16- or 32-bit code to 64-bit code", "AMD's CPUs push with all of RSP, of which Linux has left something above 16 bits: `tests/long/far.rs`"),
    ("PREFETCHW with a register", "Intel and AMD differ; the engine runs it on the CPU"),
    ("real mode and virtual 8086 mode", "no program of Linux in long mode gets there: `tests/system/real.rs`, `virtual8086.rs`, micro-guests real-mode, real-unreal, v86, v86-vme"),
    ("segments that conform, call gates, task gates", "Linux gives them to no program: `tests/system/far.rs`, `gates.rs`, `task.rs`, micro-guests call-gate, task-switch"),
    ("fetches across a page or past the segment's limit", "`tests/faults.rs`, micro-guests page-end, too-long, limits"),
    ("locked accesses across a cache line", "hosts may slow them down or refuse them (split lock detection): `tests/faults.rs` and micro-guest page-crossing have them across pages"),
    ("alignment checks", "AC would act in the handler of the test too: micro-guest ac"),
    ("x87, MMX, SSE, AVX", "the interpreter leaves them to the CPU"),
];

/// Every cell of the mode.
pub fn all(mode: Mode) -> Vec<Cell> {
    let mut cells = Vec::new();
    for code in Code::values().filter(|&code| in_table(code, mode)) {
        let kinds: Vec<_> = operands(code).collect();
        let register = kinds.iter().any(|&k| either(k)) || !kinds.iter().any(|&k| addressed(k));
        // 0F 0D with a register does not do the same on every CPU, so the interpreter does not do it.
        if register && !format!("{code:?}").ends_with("_0F0D") {
            add(&mut cells, mode, code, Operand::Register);
        }
        if kinds.iter().any(|&k| addressed(k)) {
            add(&mut cells, mode, code, Operand::Memory);
            add(&mut cells, mode, code, Operand::Other);
        }
        if mode == Mode::Bits64 && kinds.iter().any(|&k| either(k) || k == OpCodeOperandKind::mem) {
            add(&mut cells, mode, code, Operand::Relative);
        }
    }
    cells
}

fn add(cells: &mut Vec<Cell>, mode: Mode, code: Code, operand: Operand) {
    let mut add = |prefix| cells.push(Cell { mode, code, operand, prefix });
    let vex = code.op_code().encoding() == EncodingKind::VEX;
    add(Prefix::None);
    if operand != Operand::Register {
        add(Prefix::Segment);
    }
    // LOCK before VEX, XCHG that locks anyway, and what is no instruction: the same #UD or nothing new.
    if !matches!(code.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2) {
        add(Prefix::Lock);
    }
    if is_string(code) && !vex {
        add(Prefix::Rep);
        add(Prefix::Repne);
    }
}

pub fn is_string(code: Code) -> bool {
    operands(code).any(|k| matches!(k, OpCodeOperandKind::seg_rSI | OpCodeOperandKind::es_rDI))
}

fn operands(code: Code) -> impl Iterator<Item = OpCodeOperandKind> {
    let info = code.op_code();
    (0..info.op_count()).map(move |i| info.op_kind(i))
}

fn in_table(code: Code, mode: Mode) -> bool {
    let info = code.op_code();
    // iced says of the forms with REX.W too that they are for every mode.
    let exists = match mode {
        Mode::Bits64 => info.mode64(),
        Mode::Bits32 => info.mode32() && !operands(code).any(needs_rex),
        Mode::Bits16 => info.mode16() && !operands(code).any(needs_rex),
    };
    let legacy = info.encoding() == EncodingKind::Legacy;
    let bmi = info.encoding() == EncodingKind::VEX
        && code.cpuid_features().iter().all(|f| matches!(f, CpuidFeature::BMI1 | CpuidFeature::BMI2));
    // CYRIX, KNC and the like have opcodes of the same names.
    info.is_instruction()
        && exists
        && (legacy || bmi)
        && wanted(code.mnemonic())
        && !left_out(code, mode)
        && {
            let all = operands(code).all(supported);
            all && !code.cpuid_features().iter().any(|f| {
            matches!(f, CpuidFeature::SSE2 if code.mnemonic() != Mnemonic::Movnti && !is_fence(code) && code != Code::Clflush_m8)
                || matches!(f, CpuidFeature::PADLOCK_RNG | CpuidFeature::IA64 | CpuidFeature::KNC | CpuidFeature::INTEL8086_ONLY)
        })
        }
}

fn is_fence(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence | Mnemonic::Pause)
}

fn wanted(m: Mnemonic) -> bool {
    let name = format!("{m:?}").to_lowercase();
    let conditional = ["cmov", "set", "j"].iter().find_map(|p| name.strip_prefix(p));
    USER.contains(&format!(" {name} "))
        || PRIVILEGED.contains(&format!(" {name} "))
        || conditional.is_some_and(|c| " o no b ae e ne be a s ns p np l ge le g ".contains(&format!(" {c} ")))
}

/// Is this cell's instruction one that programs may not execute?
pub fn privileged(code: Code) -> bool {
    PRIVILEGED.contains(&format!(" {} ", format!("{:?}", code.mnemonic()).to_lowercase()))
}

/// What [`NOT_COVERED`] gives reasons for.
fn left_out(code: Code, mode: Mode) -> bool {
    let name = format!("{code:?}");
    let has = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    let far64 = has(&["m1664"]);
    let narrow = mode == Mode::Bits64
        && has(&[
            "rel16",
            "Call_rm16",
            "Jmp_rm16",
            "Retnw",
            "rel8_16",
            "Call_rm32",
            "Jmp_rm32",
            "rel32_32",
            "rel8_32",
            "Retnd",
        ]);
    let control = (0..code.op_code().op_count()).any(|i| {
        matches!(
            code.op_code().op_kind(i),
            OpCodeOperandKind::cr_reg | OpCodeOperandKind::dr_reg | OpCodeOperandKind::tr_reg
        )
    });
    far64 || narrow || control
}

fn needs_rex(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(kind, K::r64_or_mem | K::r64_reg | K::r64_vvvv | K::r64_opcode | K::rax | K::r64_reg_mem)
}

pub fn either(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(kind, K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem)
}

/// Memory that the address size and a segment prefix matter to.
pub fn addressed(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    either(kind) || matches!(kind, K::mem | K::mem_offs | K::seg_rBX_al | K::seg_rSI | K::es_rDI)
}

fn supported(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    addressed(kind)
        || matches!(
            kind,
            K::r8_reg | K::r8_opcode | K::r16_reg | K::r16_opcode | K::r32_reg | K::r32_opcode | K::r32_vvvv
        )
        || matches!(kind, K::r64_vvvv | K::r64_reg | K::r64_opcode | K::al | K::cl | K::ax | K::dx | K::eax | K::rax)
        || matches!(kind, K::imm8 | K::imm8_const_1 | K::imm8sex16 | K::imm8sex32 | K::imm8sex64 | K::imm16 | K::imm32)
        || matches!(
            kind,
            K::imm32sex64 | K::imm64 | K::br16_1 | K::br16_2 | K::br32_1 | K::br32_4 | K::br64_1 | K::br64_4
        )
        || matches!(kind, K::seg_reg | K::es | K::cs | K::ss | K::ds | K::fs | K::gs | K::farbr2_2 | K::farbr4_2)
}
