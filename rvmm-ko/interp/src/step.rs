//! Tour 16/22, next: `rvmm-ko/interp/src/system/deliver.rs`.
//! One instruction: breakpoints, fetch, decode, execute, retire.
//!
//! Whatever is not retired leaves the CPU as it was, so that the instruction can be executed again. A string
//! instruction with a REP prefix is executed one iteration at a time, or as many as nobody can tell from that (`batch.rs`): RIP
//! stays, RF is set (as an interrupt between iterations would find it, SDM vol. 3 §18.3.1.1), and the next step goes on.

use crate::dispatch;
use crate::exec::Exec;
use crate::fetch::{self, Decoded};
use crate::system::{self, Delivered};
use iced_x86::Mnemonic;
use rvmm_arch::fault::Event;
use rvmm_arch::machine::{AccessKind, Machine, MachineStop};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::Segment;
use rvmm_arch::vcpu::{Activity, InterruptShadow};
use rvmm_arch::{Exception, VcpuState};

/// What the interpreter does not execute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsupported {
    /// x87.
    X87,
    /// MMX and 3DNow!.
    Mmx,
    /// SSE to SSE4, AES and the like, legacy encoding.
    Sse,
    /// VEX and EVEX encodings, general-purpose ones included, but for BMI1 and BMI2, which it has.
    Avx,
    /// FXSAVE, FXRSTOR, XSAVE and the like.
    StateSave,
    /// Other instructions that any program may execute and that have no effect on privileged state: RDRAND, ADX, …
    Extension,
    /// A privileged or virtualisation instruction that no guest of ours has been promised.
    Privileged,
    /// An instruction for the CPU alone, in a state that the CPU cannot be put into for it. Only callers say so.
    Mode,
}

impl Unsupported {
    /// May the caller execute it directly on the CPU in the guest's stead?
    #[must_use]
    pub const fn runs_natively(self) -> bool {
        matches!(self, Self::X87 | Self::Mmx | Self::Sse | Self::Avx | Self::StateSave | Self::Extension)
    }
}

/// Why an instruction or a delivery did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The guest faults.
    Fault(Exception),
    /// See [`MachineStop::IoPending`].
    IoPending,
    /// See [`MachineStop::HostError`].
    HostError,
    /// Not implemented.
    Unsupported(Unsupported),
}

impl From<Exception> for Stop {
    fn from(e: Exception) -> Self {
        Self::Fault(e)
    }
}

impl From<MachineStop> for Stop {
    fn from(stop: MachineStop) -> Self {
        match stop {
            MachineStop::Fault(e) => Self::Fault(e),
            MachineStop::IoPending => Self::IoPending,
            MachineStop::HostError => Self::HostError,
        }
    }
}

/// What became of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The instruction (or one iteration of a string instruction, or several) is done. INT n, INT3, INTO and INT1 retire with
    /// their event delivered.
    Retired,
    /// The instruction faulted and changed nothing (an IRET has opened NMIs all the same); or, for #DB with a single step
    /// or data breakpoint in its payload, it is done and traps; or it has switched tasks, and what comes is the new task's fault or the
    /// trap of its TSS. Not delivered yet by [`step()`]; delivered by
    /// [`step_and_deliver`].
    Exception(Exception),
    /// Nothing changed; execute again once the client has answered.
    IoPending,
    /// Nothing changed; the machine knows why.
    HostError,
    /// Nothing changed; the interpreter does not have this instruction.
    Unsupported(Unsupported),
    /// HLT is done: the CPU waits for an event.
    Halted,
    /// A triple fault: the CPU waits for a reset.
    Shutdown,
}

impl From<Stop> for Step {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(e) => Self::Exception(e),
            Stop::IoPending => Self::IoPending,
            Stop::HostError => Self::HostError,
            Stop::Unsupported(what) => Self::Unsupported(what),
        }
    }
}

/// What any instruction may change before it fails, and so what is put back.
struct Before {
    gpr: [u64; 16],
    rip: u64,
    rflags: Rflags,
}

impl Before {
    fn of(cpu: &VcpuState) -> Self {
        Self { gpr: cpu.gpr, rip: cpu.rip, rflags: cpu.rflags }
    }

    fn restore(&self, cpu: &mut VcpuState) {
        cpu.gpr = self.gpr;
        cpu.rip = self.rip;
        cpu.rflags = self.rflags;
    }
}

/// What only those of the system half may change besides. Kept apart because it is twice as much, and these are few.
pub(crate) struct SystemBefore {
    seg: [Segment; 6],
    ldtr: Segment,
    tr: Segment,
    cpl: u8,
    shadow: InterruptShadow,
    nmi_blocked: bool,
}

impl SystemBefore {
    pub(crate) fn of(cpu: &VcpuState) -> Self {
        Self {
            seg: cpu.seg,
            ldtr: cpu.ldtr,
            tr: cpu.tr,
            cpl: cpu.cpl,
            shadow: cpu.shadow,
            nmi_blocked: cpu.nmi_blocked,
        }
    }

    pub(crate) fn restore(&self, cpu: &mut VcpuState) {
        cpu.seg = self.seg;
        cpu.ldtr = self.ldtr;
        cpu.tr = self.tr;
        cpu.cpl = self.cpl;
        cpu.shadow = self.shadow;
        cpu.nmi_blocked = self.nmi_blocked;
    }
}

/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;

/// Executes one instruction of the guest, which must be running ([`Activity::Running`]). Exceptions are returned, not
/// delivered.
pub fn step<M: Machine>(cpu: &mut VcpuState, m: &mut M) -> Step {
    step_cached(cpu, m, &mut [])
}

/// [`step()`] with a decode cache: any number of slots (of which the largest power of two is used), kept by the caller from step to step,
/// and for one virtual CPU or for many.
pub fn step_cached<M: Machine>(cpu: &mut VcpuState, m: &mut M, cache: &mut [Decoded]) -> Step {
    one(cpu, m, cache).0
}

/// [`step_cached`] again and again, `limit` times at most: how many instructions were begun, and what became of the last. It goes on behind
/// those alone that have retired, can have changed nothing but general-purpose registers, RIP, the status flags, DF and memory, began in no
/// interrupt shadow, and behind which the machine lets it ([`Machine::goes_on`]): modes, segments and which events may be delivered are what they
/// were before the first.
pub fn steps_cached<M: Machine>(cpu: &mut VcpuState, m: &mut M, cache: &mut [Decoded], limit: u32) -> (u32, Step) {
    let mut begun = 0;
    loop {
        let in_shadow = cpu.shadow != InterruptShadow::None;
        let (step, plain) = one(cpu, m, cache);
        begun += 1;
        if step != Step::Retired || !plain || in_shadow || begun >= limit || !m.goes_on(cpu) {
            return (begun, step);
        }
    }
}

/// One instruction, and whether it was none of the system half.
fn one<M: Machine>(cpu: &mut VcpuState, m: &mut M, cache: &mut [Decoded]) -> (Step, bool) {
    let mode = cpu.mode();
    if cpu.dr7 & 0xff != 0 {
        let hits = code_breakpoints(cpu);
        if hits != 0 {
            return (Step::Exception(Exception::debug(hits)), false);
        }
    }
    if system::virtual_interrupt_is_due(cpu) {
        return (Step::Exception(Exception::gp(0)), false);
    }
    let ins = match fetch::fetch(cpu, m, mode, cache) {
        Ok(ins) => ins,
        Err(stop) => return (stop.into(), false),
    };
    // IRET opens NMIs even if it faults (SDM vol. 3 §6.7.1).
    let is_iret = matches!(ins.mnemonic(), Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
    let before = Before::of(cpu);
    let start_rip = cpu.rip;
    cpu.rip = fetch::next_rip(start_rip, &ins, mode);
    let mut x = Exec::new(cpu, m, ins, start_rip, mode);
    let done = dispatch::execute(&mut x);
    let plain = !x.system;
    let step = match done {
        Ok(()) => {
            let (shadow, keep_rf, no_step_trap) = (x.shadow, x.keep_rf, x.no_step_trap);
            let by_new_tf = x.step_by_new_tf;
            let mut trap = x.debug_hits;
            let fault_after = x.fault_after;
            cpu.shadow = shadow;
            if !keep_rf {
                cpu.rflags.remove(Rflags::RF);
            }
            if let Some(fault) = fault_after {
                return (Step::Exception(fault), false);
            }
            let stepped = if by_new_tf { cpu.rflags } else { before.rflags };
            if stepped.contains(Rflags::TF) && !no_step_trap {
                trap |= DR6_BS;
            }
            // MOV SS and POP SS raise no debug trap (SDM vol. 3 §6.8.3): the single step comes after the next instruction;
            // a data breakpoint, which Intel's CPUs hold pending until then, is lost.
            if trap != 0 && shadow != InterruptShadow::MovSs {
                cpu.activity = Activity::Running;
                return (Step::Exception(Exception::debug(trap)), false);
            }
            match cpu.activity {
                Activity::Running => Step::Retired,
                Activity::Halted => Step::Halted,
                Activity::Shutdown => Step::Shutdown,
            }
        }
        Err(stop) => {
            before.restore(cpu);
            if is_iret && matches!(stop, Stop::Fault(_)) {
                cpu.nmi_blocked = false;
            }
            stop.into()
        }
    };
    (step, plain)
}

/// [`step()`], and delivery of the exception it returns, if any.
pub fn step_and_deliver<M: Machine>(cpu: &mut VcpuState, m: &mut M) -> Step {
    let outcome = step(cpu, m);
    let Step::Exception(e) = outcome else {
        return outcome;
    };
    match system::deliver(cpu, m, Event::from(e)) {
        Ok(Delivered::Done) => outcome,
        Ok(Delivered::Shutdown) => Step::Shutdown,
        Err(stop) => stop.into(),
    }
}

/// The enabled breakpoints of DR7, as number, type (R/W field) and length in bytes.
fn breakpoints(cpu: &VcpuState) -> impl Iterator<Item = (u32, u64, u64, u64)> + '_ {
    (0..4u32).zip(cpu.dr.iter()).filter_map(|(i, &address)| {
        let enabled = (cpu.dr7 >> (i * 2)) & 3 != 0;
        let control = (cpu.dr7 >> (16 + i * 4)) & 15;
        let len = match control >> 2 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        enabled.then_some((i, address, control & 3, len))
    })
}

/// DR6 bits of the instruction breakpoints at RIP: none with RF or after MOV SS.
fn code_breakpoints(cpu: &VcpuState) -> u64 {
    if cpu.rflags.contains(Rflags::RF) || cpu.shadow == InterruptShadow::MovSs {
        return 0;
    }
    let la = cpu.linear_rip();
    breakpoints(cpu).filter(|&(_, at, kind, _)| kind == 0 && at == la).fold(0, |bits, (i, ..)| bits | 1 << i)
}

/// DR6 bits of the data breakpoints that an access of `len` bytes at `la` meets.
pub(crate) fn data_breakpoints(cpu: &VcpuState, la: u64, len: u32, kind: AccessKind) -> u64 {
    let end = la.wrapping_add(u64::from(len));
    breakpoints(cpu)
        .filter(|&(_, at, rw, size)| {
            let wanted = match rw {
                1 => kind == AccessKind::Write,
                3 => kind != AccessKind::Fetch,
                _ => false,
            };
            let at = at & !(size - 1);
            wanted && at < end && la < at.wrapping_add(size)
        })
        .fold(0, |bits, (i, ..)| bits | 1 << i)
}
