//! Everything privileged, and event delivery.
//!
//! From descriptors outwards: `descriptor` (entries of GDT and LDT, gates), `tss`, `stack` (frames pushed as a whole);
//! `load` (segment registers), `swap` (the bases of FS and GS), `far` (JMP, CALL, RET), `callgate`, `iret`, `task` and `switch`
//! (task switches); `deliver` and `deliver_long` (events through the IDT) with `nested` (double and triple faults) and
//! `interrupt` (INT n); `virtual8086` (what is different in that mode); `flags` (CLI, STI, PUSHF, POPF), `control`,
//! `debug`, `tables`, `rights` (LAR and its kin), `msr` and `mtrr`, `port`, `sysenter` and `syscall`, `cpu` (the rest), and
//! `features` (what CPUID announces).

mod callgate;
mod control;
mod cpu;
mod debug;
mod deliver;
mod deliver_long;
mod descriptor;
mod far;
mod features;
mod flags;
mod interrupt;
mod iret;
mod load;
pub mod msr;
mod mtrr;
mod nested;
mod port;
mod rights;
mod stack;
mod swap;
mod switch;
mod syscall;
mod sysenter;
mod tables;
mod task;
mod tss;
mod virtual8086;

pub use deliver::{deliver, Delivered};
pub use syscall::{behind_syscall, enter_by_syscall, leave_by_sysret, leave_by_sysret_to_compat};
pub use sysenter::{enter_by_sysenter, has_sysenter, sysexit_segments};
pub(crate) use virtual8086::virtual_interrupt_is_due;

use crate::exec::{Exec, Res};
use crate::reg;
use features::Feature;
use iced_x86::{Instruction, Mnemonic};
use rvmm_arch::machine::Machine;
use rvmm_arch::Exception;

/// Executes `x.ins` if it is a system instruction; `false` if it is not.
pub(crate) fn execute<M: Machine>(x: &mut Exec<'_, M>) -> Res<bool> {
    use Mnemonic as Mn;
    match x.ins.mnemonic() {
        Mn::Mov => return mov(x),
        Mn::Pop if reg::segment(x.ins.op0_register()).is_some() => load::pop(x)?,
        Mn::Lds | Mn::Les | Mn::Lfs | Mn::Lgs | Mn::Lss => load::far_pointer(x)?,
        Mn::Jmp if is_far(&x.ins) => far::transfer(x, far::Transfer::Jump)?,
        Mn::Call if is_far(&x.ins) => far::transfer(x, far::Transfer::Call)?,
        Mn::Retf => far::ret(x)?,
        Mn::Iret | Mn::Iretd | Mn::Iretq => iret::iret(x)?,
        Mn::Int | Mn::Int1 | Mn::Int3 | Mn::Into => interrupt::software(x)?,

        Mn::Cli => flags::cli(x)?,
        Mn::Sti => flags::sti(x)?,
        Mn::Pushf | Mn::Pushfd | Mn::Pushfq => flags::pushf(x)?,
        Mn::Popf | Mn::Popfd | Mn::Popfq => flags::popf(x)?,
        Mn::Stac | Mn::Clac => cpu::alignment_flag(x)?,

        Mn::Lmsw => control::lmsw(x)?,
        Mn::Smsw => control::smsw(x)?,
        Mn::Clts => control::clts(x)?,
        Mn::Lgdt | Mn::Lidt => tables::load(x)?,
        Mn::Sgdt | Mn::Sidt => tables::store(x)?,
        Mn::Lldt => tables::lldt(x)?,
        Mn::Ltr => tables::ltr(x)?,
        Mn::Sldt | Mn::Str => tables::store_selector(x)?,
        Mn::Lar | Mn::Lsl => rights::lar_lsl(x)?,
        Mn::Verr | Mn::Verw => rights::verify(x)?,
        Mn::Arpl => rights::arpl(x)?,

        Mn::In => port::input(x)?,
        Mn::Out => port::output(x)?,
        Mn::Insb | Mn::Insw | Mn::Insd | Mn::Outsb | Mn::Outsw | Mn::Outsd => port::string(x)?,

        Mn::Rdmsr | Mn::Wrmsr => msr::execute(x)?,
        Mn::Sysenter => sysenter::sysenter(x)?,
        Mn::Sysexit | Mn::Sysexitq => sysenter::sysexit(x)?,
        Mn::Syscall => syscall::syscall(x)?,
        Mn::Sysret | Mn::Sysretq => syscall::sysret(x)?,
        Mn::Swapgs => swap::swapgs(x)?,
        Mn::Rdfsbase | Mn::Rdgsbase | Mn::Wrfsbase | Mn::Wrgsbase => swap::base(x)?,

        Mn::Cpuid => cpu::cpuid(x)?,
        Mn::Rdtsc | Mn::Rdtscp => cpu::rdtsc(x)?,
        Mn::Rdpid => cpu::rdpid(x)?,
        Mn::Rdpmc => cpu::rdpmc(x)?,
        Mn::Hlt => cpu::hlt(x)?,
        Mn::Invd | Mn::Wbinvd | Mn::Wbnoinvd => cpu::caches(x)?,
        Mn::Invlpg => cpu::invlpg(x)?,
        Mn::Xgetbv | Mn::Xsetbv => cpu::xcr(x)?,
        Mn::Xsave | Mn::Xsave64 | Mn::Xsaveopt | Mn::Xsaveopt64 | Mn::Xsavec | Mn::Xsavec64 => cpu::state_save(x)?,
        Mn::Xrstor | Mn::Xrstor64 => cpu::state_save(x)?,
        Mn::Xsaves | Mn::Xsaves64 | Mn::Xrstors | Mn::Xrstors64 => cpu::supervisor_state_save(x)?,
        Mn::Rdpkru | Mn::Wrpkru => cpu::protection_keys(x)?,
        Mn::Rdrand | Mn::Rdseed => cpu::random(x)?,
        Mn::Serialize => cpu::native_if(x, Feature::SERIALIZE)?,
        Mn::Monitor | Mn::Mwait => cpu::monitor(x, Feature::MONITOR)?,
        Mn::Monitorx | Mn::Mwaitx => cpu::refused_if(x, Feature::MONITORX)?,
        Mn::Umonitor | Mn::Umwait | Mn::Tpause => cpu::refused_if(x, Feature::WAITPKG)?,
        Mn::Invpcid => cpu::refused_if(x, Feature::INVPCID)?,
        other if never_promised(other) => return Err(Exception::ud().into()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// MOV with a segment, control or debug register. Test registers are gone since the 486: #UD.
fn mov<M: Machine>(x: &mut Exec<'_, M>) -> Res<bool> {
    let (to, from) = (x.ins.op0_register(), x.ins.op1_register());
    if to.is_segment_register() {
        load::mov(x)?;
    } else if to.is_cr() {
        control::write(x)?;
    } else if from.is_cr() {
        control::read(x)?;
    } else if to.is_dr() {
        debug::write(x)?;
    } else if from.is_dr() {
        debug::read(x)?;
    } else if to.is_tr() || from.is_tr() {
        return Err(Exception::ud().into());
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// A JMP or CALL with a selector?
fn is_far(ins: &Instruction) -> bool {
    ins.is_jmp_far() || ins.is_jmp_far_indirect() || ins.is_call_far() || ins.is_call_far_indirect()
}

/// Instructions of extensions that the guest's control registers or CPUID never enable: #UD at any privilege level
/// (VMX and SMX with CR4.VMXE and SMXE clear, SVM with EFER.SVME clear, RSM outside SMM, SGX, CET, UINTR, TDX, FRED
/// and the like).
fn never_promised(mnemonic: Mnemonic) -> bool {
    use Mnemonic as Mn;
    matches!(
        mnemonic,
        Mn::Rsm
            | Mn::Vmcall
            | Mn::Vmlaunch
            | Mn::Vmresume
            | Mn::Vmxoff
            | Mn::Vmxon
            | Mn::Vmclear
            | Mn::Vmptrld
            | Mn::Vmptrst
            | Mn::Vmread
            | Mn::Vmwrite
            | Mn::Vmfunc
            | Mn::Invept
            | Mn::Invvpid
            | Mn::Getsec
            | Mn::Vmrun
            | Mn::Vmmcall
            | Mn::Vmgexit
            | Mn::Vmload
            | Mn::Vmsave
            | Mn::Stgi
            | Mn::Clgi
            | Mn::Skinit
            | Mn::Invlpga
            | Mn::Invlpgb
            | Mn::Tlbsync
            | Mn::Psmash
            | Mn::Pvalidate
            | Mn::Rmpadjust
            | Mn::Rmpupdate
            | Mn::Rmpquery
            | Mn::Encls
            | Mn::Enclu
            | Mn::Enclv
            | Mn::Pconfig
            | Mn::Enqcmd
            | Mn::Enqcmds
            | Mn::Incsspd
            | Mn::Rstorssp
            | Mn::Saveprevssp
            | Mn::Setssbsy
            | Mn::Clrssbsy
            | Mn::Wrssd
            | Mn::Wrussd
            | Mn::Hreset
            | Mn::Loadiwkey
            | Mn::Tdcall
            | Mn::Seamcall
            | Mn::Seamops
            | Mn::Seamret
            | Mn::Rdpru
            | Mn::Mcommit
            | Mn::Clui
            | Mn::Stui
            | Mn::Testui
            | Mn::Uiret
            | Mn::Senduipi
            | Mn::Lkgs
            | Mn::Eretu
            | Mn::Erets
            | Mn::Loadall
            | Mn::Wrmsrns
            | Mn::Rdmsrlist
            | Mn::Wrmsrlist
            | Mn::Ccs_hash
            | Mn::Ud0
            | Mn::Ud1
            | Mn::Ud2
    )
}
