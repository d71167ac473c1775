//! From a decoded instruction to its handler.

use crate::exec::{Exec, Res};
use crate::step::{Stop, SystemBefore, Unsupported};
use crate::{arith, bcd, bits, bmi, control, data, flags, shift, string, system};
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic, OpKind, Register};
use rvmm_arch::machine::Machine;
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::{Exception, Vector};

/// Executes `x.ins`.
pub(crate) fn execute<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.ins.encoding() != EncodingKind::Legacy {
        if bmi::is_one(x) && !x.mode.segments_are_shifted() && bmi::execute(x)? {
            return Ok(());
        }
        return Err(extended_encoding(x));
    }
    match x.ins.mnemonic() {
        Mnemonic::Mov => match (special(x, 0), special(x, 1)) {
            (false, false) => data::mov(x),
            (false, true) if x.op_reg(1).is_segment_register() => data::mov_from_segment(x),
            _ => system(x),
        },
        Mnemonic::Push => control::push(x),
        Mnemonic::Pop if !special(x, 0) => control::pop(x),
        Mnemonic::Call if !is_far(x) => control::call(x),
        Mnemonic::Jmp if !is_far(x) => control::jmp(x),
        Mnemonic::Ret => control::ret(x),
        Mnemonic::Lea => data::lea(x),
        Mnemonic::Movzx => data::movzx(x),
        Mnemonic::Movsx | Mnemonic::Movsxd => data::movsx(x),
        Mnemonic::Xchg => data::xchg(x),

        Mnemonic::Add => arith::binary(x, flags_add, false),
        Mnemonic::Adc => arith::binary(x, flags_add, true),
        Mnemonic::Sub => arith::binary(x, flags_sub, false),
        Mnemonic::Sbb => arith::binary(x, flags_sub, true),
        Mnemonic::And => arith::binary(x, arith::and, false),
        Mnemonic::Or => arith::binary(x, arith::or, false),
        Mnemonic::Xor => arith::binary(x, arith::xor, false),
        Mnemonic::Cmp => arith::compare(x, flags_sub),
        Mnemonic::Test => arith::compare(x, arith::and),
        Mnemonic::Inc => arith::step_by_one(x, flags_add),
        Mnemonic::Dec => arith::step_by_one(x, flags_sub),
        Mnemonic::Neg => arith::neg(x),
        Mnemonic::Not => arith::not(x),
        Mnemonic::Mul => arith::mul(x),
        Mnemonic::Imul => arith::imul(x),
        Mnemonic::Div => arith::div(x),
        Mnemonic::Idiv => arith::idiv(x),
        Mnemonic::Adcx => arith::add_with(x, Rflags::CF),
        Mnemonic::Adox => arith::add_with(x, Rflags::OF),
        Mnemonic::Aaa => bcd::ascii_adjust(x, false),
        Mnemonic::Aas => bcd::ascii_adjust(x, true),
        Mnemonic::Aam => bcd::aam(x),
        Mnemonic::Aad => bcd::aad(x),
        Mnemonic::Daa => bcd::decimal_adjust(x, false),
        Mnemonic::Das => bcd::decimal_adjust(x, true),

        Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr | Mnemonic::Sar => shift::shift(x),
        Mnemonic::Rol | Mnemonic::Ror => shift::rotate(x),
        Mnemonic::Rcl | Mnemonic::Rcr => shift::rotate_carry(x),
        Mnemonic::Shld | Mnemonic::Shrd => shift::double(x),

        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => bits::bit_test(x),
        Mnemonic::Bsf | Mnemonic::Bsr => bits::bit_scan(x),
        Mnemonic::Tzcnt | Mnemonic::Lzcnt => bits::count_zeros(x),
        Mnemonic::Popcnt => bits::popcnt(x),
        Mnemonic::Crc32 => bits::crc32(x),
        Mnemonic::Bound => bits::bound(x),

        Mnemonic::Clc => data::set_flag(x, Rflags::CF, false),
        Mnemonic::Stc => data::set_flag(x, Rflags::CF, true),
        Mnemonic::Cld => data::set_flag(x, Rflags::DF, false),
        Mnemonic::Std => data::set_flag(x, Rflags::DF, true),
        Mnemonic::Cmc => {
            let on = !x.flag(Rflags::CF);
            data::set_flag(x, Rflags::CF, on)
        }
        other => execute_rarer(x, other),
    }
}

/// What VEX, EVEX and XOP encodings give: #UD outside protected mode, and for those on vector registers where the guest has not
/// enabled their state in CR4 and XCR0 (SDM vol. 1 §14.3, vol. 2 §2.4); #NM with CR0.TS; else they are left to the CPU.
fn extended_encoding<M: Machine>(x: &Exec<'_, M>) -> Stop {
    /// XCR0: SSE and AVX; with AVX-512 its three bits too.
    const AVX: u64 = 6;
    const AVX512: u64 = 0xe6;
    let others = |f: &CpuidFeature| matches!(f, CpuidFeature::TBM | CpuidFeature::LWP | CpuidFeature::CMPCCXADD);
    let general = bmi::is_one(x) || x.ins.cpuid_features().iter().all(others);
    let opmask = x.op_reg(0).is_k() || x.op_reg(1).is_k();
    let state = if x.ins.encoding() == EncodingKind::EVEX || opmask { AVX512 } else { AVX };
    let enabled = x.cpu.cr4.contains(Cr4::OSXSAVE) && x.cpu.xcr0 & state == state;
    if x.mode.segments_are_shifted() || !(general || enabled) {
        return Exception::ud().into();
    }
    if !general && x.cpu.cr0.contains(Cr0::TS) {
        return Exception::new(Vector::NM).into();
    }
    Stop::Unsupported(Unsupported::Avx)
}

/// The rest of [`execute`]: instructions told by more than their mnemonic, and the less frequent.
fn execute_rarer<M: Machine>(x: &mut Exec<'_, M>, mnemonic: Mnemonic) -> Res {
    match mnemonic {
        // The string instructions share the names MOVSD and CMPSD with SSE2.
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq if is_string(x) => string::movs(x),
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq if is_string(x) => string::cmps(x),
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => string::stos(x),
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => string::lods(x),
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => string::scas(x),

        Mnemonic::Pusha | Mnemonic::Pushad => control::push_all(x),
        Mnemonic::Popa | Mnemonic::Popad => control::pop_all(x),
        Mnemonic::Enter => control::enter(x),
        Mnemonic::Leave => control::leave(x),
        Mnemonic::Loop => control::loop_count(x, None),
        Mnemonic::Loope => control::loop_count(x, Some(true)),
        Mnemonic::Loopne => control::loop_count(x, Some(false)),
        Mnemonic::Jcxz | Mnemonic::Jecxz | Mnemonic::Jrcxz => control::jump_if_count_zero(x),

        Mnemonic::Cbw => data::extend_a(x, 2),
        Mnemonic::Cwde => data::extend_a(x, 4),
        Mnemonic::Cdqe => data::extend_a(x, 8),
        Mnemonic::Cwd => data::extend_a_into_d(x, 2),
        Mnemonic::Cdq => data::extend_a_into_d(x, 4),
        Mnemonic::Cqo => data::extend_a_into_d(x, 8),
        Mnemonic::Lahf => data::lahf(x),
        Mnemonic::Sahf => data::sahf(x),
        Mnemonic::Salc => data::salc(x),
        Mnemonic::Xlatb => data::xlat(x),
        Mnemonic::Bswap => data::bswap(x),
        Mnemonic::Movbe => data::movbe(x),
        Mnemonic::Movnti => data::mov(x),
        Mnemonic::Xadd => data::xadd(x),
        Mnemonic::Cmpxchg => data::cmpxchg(x),
        Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => data::cmpxchg_pair(x),
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => data::cache_line(x),

        Mnemonic::Reservednop if is_prefetch_of_register(x) => Err(Stop::Unsupported(Unsupported::Extension)),
        Mnemonic::Nop
        | Mnemonic::Reservednop
        | Mnemonic::Pause
        | Mnemonic::Lfence
        | Mnemonic::Mfence
        | Mnemonic::Sfence => Ok(()),
        Mnemonic::Wait => Err(Stop::Unsupported(Unsupported::X87)),
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => Err(Exception::ud().into()),

        _ if x.ins.is_jcc_short_or_near() => control::jcc(x),
        _ if is_setcc(mnemonic) => data::setcc(x),
        _ if is_cmovcc(mnemonic) => data::cmov(x),
        _ => system(x),
    }
}

/// The system half, and what is left. All that may change more than general-purpose registers, RIP, the status flags, DF and memory comes through here.
#[inline(never)]
fn system<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    x.system = true;
    let before = SystemBefore::of(x.cpu);
    let done = match system::execute(x) {
        Ok(true) => return Ok(()),
        Ok(false) => Err(missing(x)),
        Err(stop) => Err(stop),
    };
    before.restore(x.cpu);
    done
}

fn flags_add(a: u64, b: u64, carry: bool, size: u32) -> (u64, Rflags) {
    flags::add(a, b, carry, size)
}

fn flags_sub(a: u64, b: u64, borrow: bool, size: u32) -> (u64, Rflags) {
    flags::sub(a, b, borrow, size)
}

/// Is operand `i` a segment, control, debug or test register?
fn special<M: Machine>(x: &Exec<'_, M>, i: u32) -> bool {
    x.kind(i) == OpKind::Register && is_system_register(x.op_reg(i))
}

fn is_system_register(reg: Register) -> bool {
    reg.is_segment_register() || reg.is_cr() || reg.is_dr() || reg.is_tr()
}

/// 0F 0D (PREFETCHW) with a register: a NOP on Intel's CPUs, #UD on AMD's, so the guest gets what this CPU does.
fn is_prefetch_of_register<M: Machine>(x: &Exec<'_, M>) -> bool {
    let prefetch = matches!(
        x.ins.code(),
        Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D | Code::Reservednop_rm64_r64_0F0D
    );
    prefetch && x.kind(0) == OpKind::Register
}

fn is_far<M: Machine>(x: &Exec<'_, M>) -> bool {
    x.ins.is_call_far() || x.ins.is_call_far_indirect() || x.ins.is_jmp_far() || x.ins.is_jmp_far_indirect()
}

fn is_string<M: Machine>(x: &Exec<'_, M>) -> bool {
    x.ins.is_string_instruction()
}

fn is_setcc(m: Mnemonic) -> bool {
    matches!(
        m,
        Mnemonic::Seta
            | Mnemonic::Setae
            | Mnemonic::Setb
            | Mnemonic::Setbe
            | Mnemonic::Sete
            | Mnemonic::Setg
            | Mnemonic::Setge
            | Mnemonic::Setl
            | Mnemonic::Setle
            | Mnemonic::Setne
            | Mnemonic::Setno
            | Mnemonic::Setnp
            | Mnemonic::Setns
            | Mnemonic::Seto
            | Mnemonic::Setp
            | Mnemonic::Sets
    )
}

fn is_cmovcc(m: Mnemonic) -> bool {
    matches!(
        m,
        Mnemonic::Cmova
            | Mnemonic::Cmovae
            | Mnemonic::Cmovb
            | Mnemonic::Cmovbe
            | Mnemonic::Cmove
            | Mnemonic::Cmovg
            | Mnemonic::Cmovge
            | Mnemonic::Cmovl
            | Mnemonic::Cmovle
            | Mnemonic::Cmovne
            | Mnemonic::Cmovno
            | Mnemonic::Cmovnp
            | Mnemonic::Cmovns
            | Mnemonic::Cmovo
            | Mnemonic::Cmovp
            | Mnemonic::Cmovs
    )
}

/// How an instruction without a handler is refused. Extensions that touch only user-visible state may run natively;
/// anything else is an instruction that no guest was promised: #UD, as on a CPU without it.
fn missing<M: Machine>(x: &Exec<'_, M>) -> Stop {
    let features = x.ins.cpuid_features();
    let any = |of: fn(&CpuidFeature) -> bool| features.iter().any(of);
    let what = if any(|f| {
        matches!(f, CpuidFeature::FXSR | CpuidFeature::XSAVE | CpuidFeature::XSAVEOPT | CpuidFeature::XSAVEC)
    }) {
        Unsupported::StateSave
    } else if any(|f| {
        matches!(
            f,
            CpuidFeature::SSE
                | CpuidFeature::SSE2
                | CpuidFeature::SSE3
                | CpuidFeature::SSSE3
                | CpuidFeature::SSE4_1
                | CpuidFeature::SSE4_2
                | CpuidFeature::SSE4A
                | CpuidFeature::AES
                | CpuidFeature::PCLMULQDQ
                | CpuidFeature::SHA
                | CpuidFeature::GFNI
        )
    }) {
        Unsupported::Sse
    } else if any(|f| matches!(f, CpuidFeature::MMX | CpuidFeature::D3NOW | CpuidFeature::D3NOWEXT)) {
        Unsupported::Mmx
    } else if any(|f| matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387)) {
        Unsupported::X87
    } else if any(|f| {
        matches!(
            f,
            CpuidFeature::RDRAND
                | CpuidFeature::RDSEED
                | CpuidFeature::MOVDIRI
                | CpuidFeature::MOVDIR64B
                | CpuidFeature::SERIALIZE
        )
    }) {
        Unsupported::Extension
    } else {
        return Exception::ud().into();
    };
    Stop::Unsupported(what)
}
