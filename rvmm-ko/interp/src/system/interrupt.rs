//! INT n, INT3, INTO and INT1: events that an instruction asks for.

use super::deliver;
use super::virtual8086;
use crate::exec::{Exec, Res};
use iced_x86::Mnemonic;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Change, Machine};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::CpuMode;
use rvmm_arch::{Exception, Vector};

/// Delivers the instruction's own event. A fault on the way is the instruction's fault, with RIP at the instruction.
pub(super) fn software<M: Machine>(x: &mut Exec<'_, M>) -> Res {
    let (vector, source) = match x.ins.mnemonic() {
        Mnemonic::Int3 => (Vector::BP, EventSource::Software),
        Mnemonic::Int1 => (Vector::DB, EventSource::PrivilegedSoftware),
        Mnemonic::Into => {
            if x.mode == CpuMode::Long {
                return Err(Exception::ud().into());
            }
            if !x.flag(Rflags::OF) {
                return Ok(());
            }
            (Vector::OF, EventSource::Software)
        }
        _ => (Vector(x.ins.immediate8()), EventSource::Software),
    };
    // INT3, INTO and INT1 depend neither on IOPL nor on the redirection bitmap.
    if x.mode == CpuMode::Virtual8086 && x.ins.mnemonic() == Mnemonic::Int && virtual8086::redirect(x, vector)? {
        x.keep_rf = true;
        x.no_step_trap = true;
        x.m.changed(x.cpu, Change::SoftwareInterrupt(vector));
        return Ok(());
    }
    // The frame shows RF clear (SDM vol. 3 §17.3.1.1); that of a fault on the way shows it set.
    x.cpu.rflags.remove(Rflags::RF);
    // The delivery has its say on RF, TF and the shadow itself; none of the instruction's is left over.
    x.fault_after = deliver::through_gate(x.cpu, x.m, &Event { vector, error: None, payload: 0, source })?;
    x.keep_rf = true;
    x.no_step_trap = true;
    x.m.changed(x.cpu, Change::SoftwareInterrupt(vector));
    Ok(())
}
