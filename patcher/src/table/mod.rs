//! Tour 14/22, next: `rvmm-ko/core/src/interpret.rs`.
//! The one declarative table of sensitive instructions.
//!
//! Scanner, patcher, interpreter and documentation all read [`ROWS`]; nothing else in rvmm lists sensitive
//! instructions. *Privileged* instructions fault below ring 0 and so announce themselves; *critical* ones are
//! sensitive without being privileged: deprivileged they run silently and answer wrongly, so they must never run
//! verbatim in guest-kernel mode. The table says which is which, per row.
//!
//! Sources: Intel SDM volume 2 (instruction pages), volume 3 section 6.9 ("Privileged instructions") and section 3.2
//! (UMIP in CR4); AMD APM volume 3. The `manual` field of a row names the page.

mod classify;
mod rows;

pub use classify::{classify, classify_index, row, RowId};
pub use rows::{ROWS, ROW_COUNT};

use iced_x86::{Code, Mnemonic, Register};

bitflags::bitflags! {
    /// Code sizes in which an instruction exists.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Modes: u8 {
        /// 16-bit code segments.
        const M16 = 1;
        /// 32-bit code segments.
        const M32 = 2;
        /// 64-bit code segments.
        const M64 = 4;
        /// 16-bit and 32-bit code segments only.
        const LEGACY = 1 | 2;
        /// Every code size.
        const ALL = 1 | 2 | 4;
    }
}

/// How the encodings of a row are recognised among decoded instructions. Prefixes (LOCK, REP, redundant ones) do not
/// matter: the decoder has already folded them into the instruction.
#[derive(Clone, Copy, Debug)]
pub enum Match {
    /// Every encoding of these mnemonics.
    Mnemonics(&'static [Mnemonic]),
    /// Exactly these encodings.
    Codes(&'static [Code]),
    /// `MOV r/m, Sreg` with one of these segment registers.
    StoreSreg(&'static [Register]),
    /// `MOV Sreg, r/m` with one of these segment registers.
    LoadSreg(&'static [Register]),
}

/// What the processor does with an instruction when it runs verbatim at a deprivileged ring with IOPL 0, in the guest
/// world as rvmm configures it (EFER.SCE=0, SYSENTER_CS=0, CR4.PCE=0 in kernel mode, no I/O bitmap, CR4.CET=0, CR4.UINTR=0,
/// CR4.FSGSBASE and the FS and GS bases the guest's).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// #GP: the VMM sees it and emulates.
    Gp,
    /// #UD: the VMM sees it and emulates or reflects.
    Ud,
    /// It enters through a gate of the VMM's own IDT.
    VmmGate,
    /// It runs and does, or answers, something other than the guest expects.
    Silent,
    /// It faults in some cases and runs silently in the others.
    Conditional,
    /// It runs and the result is the guest's own.
    Right,
}

/// What the scanner does with an instruction of the row in guest-kernel mode: virtual CPL 0 at CPL 1 (0/1/3 model, 32-bit code) or
/// at CPL 3 (0/3/3 model, and all 64-bit code). No instruction needs a policy of its own for each: what faults at one faults at
/// the other, and what is right at one is right at the other, since the shadow descriptor tables follow the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// It must never run verbatim: int3 or a better tactic.
    Critical,
    /// It traps by itself and is then emulated, so it may stay verbatim; a tactic may replace it for speed.
    TrapsByItself,
    /// Sensitive in general, but right as it is in both models; the row says why.
    Verbatim,
}

/// The patch block that can replace an instruction of the row, for the jump tactics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// No block: int3 (or the trap itself) stays the tactic.
    None,
    /// Clear the virtual IF.
    Cli,
    /// Set the virtual IF, with the interrupt shadow.
    Sti,
    /// Push flags with the virtual IF, IOPL and AC.
    Pushf,
    /// Pop flags into real flags and the virtual IF.
    Popf,
    /// Read the CS or SS selector as the guest last loaded it.
    ReadSelector,
    /// Push the CS or SS selector as the guest last loaded it.
    PushSelector,
    /// Read a control register as the guest last wrote it, or as its last page fault left it.
    ReadControl,
    /// Return to the same ring, popping flags into real flags and the virtual IF.
    Iret,
    /// Exchange the GS base with the one in the vCPU page.
    Swapgs,
    /// Return to a program, by a call of ring 0.
    Sysret,
    /// The same with the flags as they are.
    Sysexit,
    /// Clear the CPU's buffers; the VMM knows what the guest's selector says.
    Verw,
}

/// Who emulates an instruction of the row: one name per mechanism of the interpreter. A row always names one; the
/// interpreter matches exhaustively on this enum, so a row without a handler does not compile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each name is the instruction or family that it handles")]
pub enum Handler {
    Sgdt,
    Sidt,
    Sldt,
    Str,
    Smsw,
    Lar,
    Lsl,
    Verr,
    Pushf,
    Popf,
    Iret,
    PushSreg,
    PopSreg,
    MovFromSreg,
    MovToSreg,
    LoadFarPointer,
    CallFar,
    JmpFar,
    RetFar,
    IntN,
    Int3,
    Into,
    Int1,
    Cpuid,
    Rdtsc,
    Rdtscp,
    Rdpid,
    Rdpru,
    Rdpmc,
    Syscall,
    Sysret,
    Sysenter,
    Sysexit,
    FsGsBase,
    Swapgs,
    Xgetbv,
    Xsetbv,
    Pkru,
    Xsave,
    UserInterrupt,
    Arpl,
    Cli,
    Sti,
    AcFlag,
    MonitorMwait,
    Rsm,
    In,
    Out,
    Ins,
    Outs,
    Hlt,
    Lgdt,
    Lidt,
    Lldt,
    Ltr,
    Lmsw,
    Clts,
    MovCr,
    MovDr,
    CacheControl,
    Invlpg,
    Invpcid,
    Rdmsr,
    Wrmsr,
    /// Virtualisation, enclave, key-locker and vendor instructions that no guest of rvmm has: #UD for the guest.
    NotInGuest,
}

/// One row of the table: a sensitive instruction (or a family that is treated as one).
#[derive(Debug)]
pub struct Row {
    /// Name for counters and reports: lower case, unique.
    pub name: &'static str,
    /// Opcode as the manuals write it.
    pub opcode: &'static str,
    /// The encodings that belong to the row.
    pub matches: Match,
    /// Code sizes in which it exists.
    pub modes: Modes,
    /// Behaviour at CPL 1, UMIP off.
    pub cpl1: Behaviour,
    /// Behaviour at CPL 3, UMIP off.
    pub cpl3: Behaviour,
    /// Behaviour outside ring 0 where CR4.UMIP is on, if UMIP covers it.
    pub umip: Option<Behaviour>,
    /// What the scanner does with it.
    pub policy: Policy,
    /// The patch block that can stand in for it.
    pub block: BlockKind,
    /// Who emulates it.
    pub handler: Handler,
    /// Where the manuals define it.
    pub manual: &'static str,
}
