//! In what CPUs differ from one another, where the manuals leave it open or the CPU at hand does not follow them.

use crate::native::{Ending, State};
use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::SegReg;
use rvmm_arch::VcpuState;

/// Bytes below the stack pointer that an instruction may have written although it faults: AMD's CPUs push what comes before the fault. No
/// program can rely on what is there.
pub const BELOW: usize = 0x200;

/// A reason why this state is not compared.
pub fn differs(ins: &Instruction, ours: &Result<Ending, String>, theirs: Ending) -> Option<&'static str> {
    let fault = |e: &Ending| matches!(e, Ending::Fault { .. });
    let both = ours.as_ref().is_ok_and(fault) && fault(&theirs);
    if both && matches!(ins.mnemonic(), M::Popa | M::Popad) {
        return Some("which registers a POPA that faults has loaded");
    }
    if ours.as_ref() == Ok(&theirs) {
        return None;
    }
    match ins.mnemonic() {
        // Intel's CPUs look at two bytes only, at a limit or the end of a page.
        M::Push | M::Pop if moves_selector(ins) => Some("whether a selector on the stack is four bytes or two"),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq if both => Some("which operand of CMPS faults first"),
        // Intel: the target's limit, then the push. AMD, Bochs, TCG: the other way round.
        M::Call if both && !ins.is_call_far() && !ins.is_call_far_indirect() => {
            Some("whether a near CALL's target or its push faults first")
        }
        // Intel's manual wants a writable segment in any case; AMD's CPUs write only what changes.
        M::Arpl if ins.op0_kind() == OpKind::Memory => Some("whether ARPL needs to write where it changes nothing"),
        M::Verw if ins.has_lock_prefix() => Some("LOCK VERW, which AMD's CPUs execute"),
        // By Intel's manual and Bochs SS; AMD's CPUs look at RIP.
        M::Iret | M::Iretd | M::Iretq if both && gp(&theirs) => {
            Some("whether an IRET of 64-bit code checks SS or RIP first")
        }
        // TCG and the interpreter from the bottom, AMD's CPUs from the top.
        M::Iret | M::Iretd | M::Iretq | M::Retf if both && memory(&theirs) => {
            Some("where a far return begins to read its frame")
        }
        M::Iretq | M::Retf if ours == &Ok(Ending::Done) && gp(&theirs) => {
            Some("whether a return of 64-bit code to a segment with a limit looks at the upper half of RIP")
        }
        _ => None,
    }
}

/// #SS or #PF.
fn memory(e: &Ending) -> bool {
    matches!(e, Ending::Fault { vector: 12 | 14, .. })
}

fn gp(e: &Ending) -> bool {
    matches!(e, Ending::Fault { vector: 13, .. })
}

/// Flags that may be those of before the instruction, as `kept` says they are: behind a fault of a repeated CMPS or SCAS they are those from
/// before the instruction (SDM vol. 2 "REP"; Intel's CPUs), or those of the iteration before (AMD's CPUs, TCG and the interpreter).
pub fn open_flags(ins: &Instruction, theirs: &Ending, kept: bool) -> Rflags {
    let compares =
        matches!(ins.mnemonic(), M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq);
    let open = kept && compares && repeats(ins) && matches!(theirs, Ending::Fault { .. });
    if open {
        Rflags::STATUS
    } else {
        Rflags::empty()
    }
}

/// May this byte of memory, which the interpreter made `ours`, be as it was? The upper two bytes of a selector that is pushed as four are zero, or not
/// written (SDM vol. 2 "PUSH"; Intel's CPUs).
pub fn may_be_left(ins: &Instruction, ours: u8) -> bool {
    ins.mnemonic() == M::Push && moves_selector(ins) && ours == 0
}

/// PUSH or POP of a segment register as four bytes.
fn moves_selector(ins: &Instruction) -> bool {
    let pushes = [Code::Pushd_ES, Code::Pushd_CS, Code::Pushd_SS, Code::Pushd_DS, Code::Pushd_FS, Code::Pushd_GS];
    let pops = [Code::Popd_ES, Code::Popd_SS, Code::Popd_DS, Code::Popd_FS, Code::Popd_GS];
    pushes.contains(&ins.code()) || pops.contains(&ins.code())
}

fn repeats(ins: &Instruction) -> bool {
    ins.has_rep_prefix() || ins.has_repne_prefix()
}

/// A string instruction of 64-bit code with 32-bit addresses.
fn has_short_addresses(ins: &Instruction) -> bool {
    let short = |n| matches!(ins.op_kind(n), OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI);
    (0..ins.op_count()).any(short)
}

/// Takes over what Intel's CPUs do where a repeated string instruction of 64-bit code with 32-bit addresses has no iteration left, or faults: the
/// upper halves of its count and pointers are zero all the same. And what is undefined in a result: LAR's bits 16 to 19 (SDM vol. 2 "LAR": the mask is
/// 00FxFF00h); and what AMD's CPUs do to the upper half of ESP where RETF releases bytes of a 16-bit stack.
pub fn forgive(ins: &Instruction, cpu: &mut VcpuState, theirs: &State) {
    if ins.mnemonic() == M::Retf && !cpu.segment(SegReg::Ss).db() && ins.op_count() > 0 {
        cpu.gpr[4] = cpu.gpr[4] & 0xffff | theirs.gpr[4] & !0xffff;
    }
    if has_short_addresses(ins) && repeats(ins) {
        for index in [1, 6, 7] {
            if theirs.gpr[index] == cpu.gpr[index] & 0xffff_ffff {
                cpu.gpr[index] = theirs.gpr[index];
            }
        }
    }
    if ins.mnemonic() == M::Lar && ins.op0_register().size() > 2 {
        let to = ins.op0_register().full_register().number();
        cpu.gpr[to] = cpu.gpr[to] & !0xf_0000 | theirs.gpr[to] & 0xf_0000;
    }
}
