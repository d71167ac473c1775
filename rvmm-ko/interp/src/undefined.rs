//! What the manuals leave undefined, so that comparisons with a real CPU can mask it.
//!
//! | Instruction | Undefined | What the interpreter does |
//! |---|---|---|
//! | AND OR XOR TEST | AF | cleared |
//! | MUL IMUL | SF ZF AF PF | as AND of the lower half with itself |
//! | DIV IDIV | all | unchanged |
//! | AAA AAS | OF SF ZF PF | unchanged |
//! | AAM AAD | OF AF CF | cleared |
//! | DAA DAS | OF | cleared |
//! | shifts, SHLD, SHRD by n > 0 | AF | cleared |
//! | … by n > 1 | OF | by the formula for 1 |
//! | SHL SHR by n ≥ operand's bits | CF | the bit of the zero-extended operand that left last |
//! | SHLD SHRD by n > operand's bits | CF, result | destination and source in turn, as on Intel's CPUs |
//! | rotates by n > 1 | OF | by the formula for 1 |
//! | BT BTS BTR BTC | OF SF AF PF (not ZF) | unchanged |
//! | BSF BSR | CF OF SF AF PF | cleared |
//! | BSF BSR of 0 | result | destination unchanged |
//! | TZCNT LZCNT | OF SF AF PF | cleared |
//! | ANDN BZHI BLSI BLSMSK BLSR | AF PF | cleared |
//! | BEXTR | AF SF PF | AF, PF cleared, SF of the result |
//! | BSWAP of 16 bits | result | 0 |

use crate::reg;
use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::VcpuState;

/// What an instruction leaves undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undefined {
    /// Flags.
    pub flags: Rflags,
    /// The destination operand too.
    pub result: bool,
}

/// What `ins`, executed in the state `cpu`, leaves undefined (Intel SDM vol. 2, the flags section of each instruction).
#[must_use]
pub fn undefined(ins: &Instruction, cpu: &VcpuState) -> Undefined {
    let (of, af, cf) = (Rflags::OF, Rflags::AF, Rflags::CF);
    let only = |flags| Undefined { flags, result: false };
    match ins.mnemonic() {
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Test => only(af),
        Mnemonic::Mul | Mnemonic::Imul => only(Rflags::SF | Rflags::ZF | af | Rflags::PF),
        Mnemonic::Div | Mnemonic::Idiv => only(Rflags::STATUS),
        Mnemonic::Aaa | Mnemonic::Aas => only(of | Rflags::SF | Rflags::ZF | Rflags::PF),
        Mnemonic::Aam | Mnemonic::Aad => only(of | af | cf),
        Mnemonic::Daa | Mnemonic::Das => only(of),
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => only(of | Rflags::SF | af | Rflags::PF),
        Mnemonic::Bsf | Mnemonic::Bsr => Undefined {
            flags: Rflags::STATUS.difference(Rflags::ZF),
            // Only a register source tells here whether it is 0; a memory source is taken to be.
            result: ins.op1_kind() != OpKind::Register || reg::get(cpu, ins.op1_register()) == 0,
        },
        Mnemonic::Tzcnt | Mnemonic::Lzcnt => only(of | Rflags::SF | af | Rflags::PF),
        Mnemonic::Andn | Mnemonic::Bzhi | Mnemonic::Blsi | Mnemonic::Blsmsk | Mnemonic::Blsr => only(af | Rflags::PF),
        Mnemonic::Bextr => only(af | Rflags::SF | Rflags::PF),
        Mnemonic::Bswap => Undefined { flags: Rflags::empty(), result: ins.code() == Code::Bswap_r16 },
        Mnemonic::Shl
        | Mnemonic::Sal
        | Mnemonic::Shr
        | Mnemonic::Sar
        | Mnemonic::Rol
        | Mnemonic::Ror
        | Mnemonic::Rcl
        | Mnemonic::Rcr
        | Mnemonic::Shld
        | Mnemonic::Shrd => shifted(ins, cpu),
        _ => only(Rflags::empty()),
    }
}

/// [`undefined`] for shifts and rotates: it depends on the count.
fn shifted(ins: &Instruction, cpu: &VcpuState) -> Undefined {
    let size = match ins.op0_kind() {
        OpKind::Register => reg::place(ins.op0_register()).size,
        _ => ins.memory_size().size() as u32,
    };
    let bits = reg::bits(size);
    let operand = ins.op_count().saturating_sub(1);
    let raw = ins.try_immediate(operand).unwrap_or_else(|_| reg::get_gpr(cpu, gpr::RCX, 1));
    let n = raw as u32 & if size == 8 { 63 } else { 31 };
    let mut what = Undefined { flags: Rflags::empty(), result: false };
    if n == 0 {
        return what;
    }
    if n > 1 {
        what.flags |= Rflags::OF;
    }
    match ins.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr => {
            what.flags |= Rflags::AF;
            if n >= bits {
                what.flags |= Rflags::CF;
            }
        }
        Mnemonic::Sar => what.flags |= Rflags::AF,
        Mnemonic::Shld | Mnemonic::Shrd => {
            what.flags |= Rflags::AF;
            if n > bits {
                what.flags = Rflags::STATUS;
                what.result = true;
            }
        }
        _ => {}
    }
    what
}
