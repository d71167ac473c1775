//! From a decoded instruction to its handler.

use crate::exec::{Exec, Res};
use crate::step::{Stop, Unsupported};
use crate::system;
use iced_x86::{EncodingKind, Mnemonic, Register};
use rvmm_arch::machine::Machine;
use rvmm_arch::Exception;

/// Executes `x.ins`.
pub(crate) fn execute<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    if x.ins.encoding() != EncodingKind::Legacy {
        return Err(Stop::Unsupported(Unsupported::Avx));
    }
    if system::execute(x)? {
        return Ok(());
    }
    Err(missing(x))
}

/// How an instruction without a handler is refused.
fn missing<M: Machine>(x: &Exec<'_, M>) -> Stop {
    match x.ins.mnemonic() {
        Mnemonic::INVALID => Exception::ud().into(),
        _ => Stop::Unsupported(Unsupported::Extension),
    }
}

/// Is it a register of the segment, control, debug or test kind?
pub(crate) fn is_system_register(reg: Register) -> bool {
    reg.is_segment_register() || reg.is_cr() || reg.is_dr() || reg.is_tr()
}
