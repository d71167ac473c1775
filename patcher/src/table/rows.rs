//! The rows. Order is for the reader only: silent ones first, then control transfers, then what traps by itself.

use super::Behaviour::{Conditional, Gp, Right, Silent, Ud, VmmGate};
use super::BlockKind as Block;
use super::Handler as H;
use super::Match::{Codes, LoadSreg, Mnemonics, StoreSreg};
use super::Policy::{Critical, TrapsByItself, Verbatim};
use super::{Behaviour, BlockKind, Handler, Match, Modes, Policy, Row};
use iced_x86::{Code as C, Mnemonic as M, Register as R};

/// Number of rows; arrays of counters by row have this length.
pub const ROW_COUNT: usize = ROW_ARRAY.len();

const ALL: Modes = Modes::ALL;
const LEGACY: Modes = Modes::LEGACY;
const LONG: Modes = Modes::M64;

/// A row whose instruction no CPL changes and UMIP does not cover.
#[expect(clippy::too_many_arguments, reason = "one argument per column keeps the table a table")]
const fn at(
    name: &'static str,
    opcode: &'static str,
    matches: Match,
    modes: Modes,
    cpl1: Behaviour,
    cpl3: Behaviour,
    policy: Policy,
    handler: Handler,
    manual: &'static str,
) -> Row {
    Row { name, opcode, matches, modes, cpl1, cpl3, umip: None, policy, block: Block::None, handler, manual }
}

impl Row {
    /// The same row, with the instruction covered by CR4.UMIP.
    const fn umip(mut self) -> Row {
        self.umip = Some(Gp);
        self
    }

    /// The same row, with a patch block.
    const fn block(mut self, block: BlockKind) -> Row {
        self.block = block;
        self
    }
}

/// Every sensitive instruction. See the module documentation for the columns.
#[rustfmt::skip]
pub static ROWS: &[Row] = ROW_ARRAY;

#[rustfmt::skip]
pub(super) const ROW_ARRAY: &[Row] = &[
    // Descriptor-table and machine-state reads: the host's values, silently, unless UMIP is on.
    at("sgdt", "0F 01 /0", Mnemonics(&[M::Sgdt]), ALL, Silent, Silent, Critical, H::Sgdt, "SDM 2 SGDT").umip(),
    at("sidt", "0F 01 /1", Mnemonics(&[M::Sidt]), ALL, Silent, Silent, Critical, H::Sidt, "SDM 2 SIDT").umip(),
    at("sldt", "0F 00 /0", Mnemonics(&[M::Sldt]), ALL, Silent, Silent, Critical, H::Sldt, "SDM 2 SLDT").umip(),
    at("str", "0F 00 /1", Mnemonics(&[M::Str]), ALL, Silent, Silent, Critical, H::Str, "SDM 2 STR").umip(),
    at("smsw", "0F 01 /4", Mnemonics(&[M::Smsw]), ALL, Silent, Silent, Critical, H::Smsw, "SDM 2 SMSW").umip(),
    // Descriptor checks: they compare with the real CPL and read the shadow tables (DPL 1 where the guest wrote 0).
    at("lar", "0F 02", Mnemonics(&[M::Lar]), ALL, Silent, Silent, Critical, H::Lar, "SDM 2 LAR"),
    at("lsl", "0F 03", Mnemonics(&[M::Lsl]), ALL, Silent, Silent, Critical, H::Lsl, "SDM 2 LSL"),
    at("verr", "0F 00 /4", Mnemonics(&[M::Verr]), ALL, Silent, Silent, Critical, H::Verr, "SDM 2 VERR/VERW"),
    at("verw", "0F 00 /5", Mnemonics(&[M::Verw]), ALL, Silent, Silent, Critical, H::Verr, "SDM 2 VERR/VERW").block(Block::Verw),
    at("arpl", "63", Mnemonics(&[M::Arpl]), LEGACY, Silent, Silent, Critical, H::Arpl, "SDM 2 ARPL"),
    // Flags: the real IF is always 1 and IOPL 0; POPF keeps both without a word.
    at("pushf", "9C", Mnemonics(&[M::Pushf, M::Pushfd, M::Pushfq]), ALL, Silent, Silent, Critical, H::Pushf, "SDM 2 PUSHF").block(Block::Pushf),
    at("popf", "9D", Mnemonics(&[M::Popf, M::Popfd, M::Popfq]), ALL, Silent, Silent, Critical, H::Popf, "SDM 2 POPF").block(Block::Popf),
    // Selector reads. CS and SS carry the real RPL, 1 or 3. DS, ES, FS and GS keep the RPL with which the guest loaded them: for
    // data, a load compares RPL and CPL with the descriptor's DPL and stores the selector as it is (SDM 2 MOV).
    at("mov-from-cs-ss", "8C /1 /2", StoreSreg(&[R::CS, R::SS]), ALL, Silent, Silent, Critical, H::MovFromSreg, "SDM 2 MOV; SDM 3 5.5").block(Block::ReadSelector),
    at("push-cs-ss", "0E 16", Codes(&[C::Pushw_CS, C::Pushd_CS, C::Pushw_SS, C::Pushd_SS]), LEGACY, Silent, Silent, Critical, H::PushSreg, "SDM 2 PUSH").block(Block::PushSelector),
    at("mov-from-data-sreg", "8C /0 /3 /4 /5", StoreSreg(&[R::DS, R::ES, R::FS, R::GS]), ALL, Right, Right, Verbatim, H::MovFromSreg, "SDM 2 MOV"),
    at("push-data-sreg", "06 1E 0F A0 0F A8",
        Codes(&[C::Pushw_DS, C::Pushd_DS, C::Pushw_ES, C::Pushd_ES, C::Pushw_FS, C::Pushd_FS, C::Pushq_FS, C::Pushw_GS, C::Pushd_GS, C::Pushq_GS]),
        ALL, Right, Right, Verbatim, H::PushSreg, "SDM 2 PUSH"),
    // Selector loads. SS wants RPL = CPL, so every kernel SS load goes through the VMM (which also owns the "SS is flat"
    // knowledge that patch blocks rest on). The others load from the shadow GDT/LDT and fault when they need help.
    // In ring 3 that is whatever has a DPL below 3, which is not present there; at DPL 3 no RPL is refused at CPL 0 or 3.
    at("mov-to-ss", "8E /2", LoadSreg(&[R::SS]), ALL, Conditional, Conditional, Critical, H::MovToSreg, "SDM 2 MOV; SDM 3 5.7"),
    at("pop-ss", "17", Codes(&[C::Popw_SS, C::Popd_SS]), LEGACY, Conditional, Conditional, Critical, H::PopSreg, "SDM 2 POP; SDM 3 5.7"),
    at("lss", "0F B2", Mnemonics(&[M::Lss]), ALL, Conditional, Conditional, Critical, H::LoadFarPointer, "SDM 2 LSS"),
    at("mov-to-data-sreg", "8E /0 /3 /4 /5", LoadSreg(&[R::DS, R::ES, R::FS, R::GS]), ALL, Right, Right, Verbatim, H::MovToSreg, "SDM 2 MOV; SDM 3 5.6"),
    at("pop-data-sreg", "07 1F 0F A1 0F A9",
        Codes(&[C::Popw_DS, C::Popd_DS, C::Popw_ES, C::Popd_ES, C::Popw_FS, C::Popd_FS, C::Popq_FS, C::Popw_GS, C::Popd_GS, C::Popq_GS]),
        ALL, Right, Right, Verbatim, H::PopSreg, "SDM 2 POP; SDM 3 5.6"),
    at("load-far-pointer", "C4 C5 0F B4 0F B5", Mnemonics(&[M::Lds, M::Les, M::Lfs, M::Lgs]), ALL, Right, Right, Verbatim, H::LoadFarPointer, "SDM 2 LDS/LES/LFS/LGS"),
    // Identity and time.
    at("cpuid", "0F A2", Mnemonics(&[M::Cpuid]), ALL, Silent, Silent, Critical, H::Cpuid, "SDM 2 CPUID"),
    at("rdtsc", "0F 31", Mnemonics(&[M::Rdtsc]), ALL, Conditional, Conditional, Verbatim, H::Rdtsc, "SDM 2 RDTSC; CR4.TSD is set where the guest's counter differs"),
    at("rdtscp", "0F 01 F9", Mnemonics(&[M::Rdtscp]), ALL, Silent, Silent, Critical, H::Rdtscp, "SDM 2 RDTSCP"),
    at("rdpid", "F3 0F C7 /7", Mnemonics(&[M::Rdpid]), ALL, Silent, Silent, Critical, H::Rdpid, "SDM 2 RDPID"),
    at("rdpru", "0F 01 FD", Mnemonics(&[M::Rdpru]), ALL, Silent, Silent, Critical, H::Rdpru, "APM 3 RDPRU"),
    // Extended state. CR4.OSXSAVE and XCR0 are the guest's while it runs, and no guest has PKRU's bit in XCR0: what XGETBV shows is its own,
    // and XRSTOR loads no key. RDPKRU and WRPKRU do not ask XCR0: they hold the key to the execute-only views.
    at("xgetbv", "0F 01 D0", Mnemonics(&[M::Xgetbv]), ALL, Right, Right, Verbatim, H::Xgetbv, "SDM 2 XGETBV"),
    at("xsetbv", "0F 01 D1", Mnemonics(&[M::Xsetbv]), ALL, Gp, Gp, Critical, H::Xsetbv, "SDM 2 XSETBV"),
    at("pkru", "0F 01 EE/EF", Mnemonics(&[M::Rdpkru, M::Wrpkru]), ALL, Silent, Silent, Critical, H::Pkru, "SDM 2 RDPKRU, WRPKRU"),
    at("xsave", "0F AE /4 /5 /6, 0F C7 /4", Mnemonics(&[M::Xsave, M::Xsave64, M::Xsaveopt, M::Xsaveopt64, M::Xsavec, M::Xsavec64, M::Xrstor, M::Xrstor64]),
        ALL, Right, Right, Verbatim, H::Xsave, "SDM 2 XSAVE, XSAVEOPT, XSAVEC, XRSTOR"),
    // 64-bit code runs at CPL 3 with the guest's own CR4.FSGSBASE and bases. On a host with LA57 a base is checked for 57 bits.
    at("fsgsbase", "F3 0F AE /0-/3", Mnemonics(&[M::Rdfsbase, M::Rdgsbase, M::Wrfsbase, M::Wrgsbase]), LONG, Ud, Right, Verbatim, H::FsGsBase, "SDM 2 RDFSBASE, WRFSBASE"),
    at("user-interrupt", "F3 0F 01 EC-EF, F3 0F C7 /6", Mnemonics(&[M::Clui, M::Stui, M::Testui, M::Uiret, M::Senduipi]), LONG, Ud, Conditional, Critical, H::UserInterrupt, "SDM 2 CLUI, STUI, TESTUI, UIRET, SENDUIPI"),
    // Would reach the hypervisor under the host, an enclave or an accelerator: no guest of rvmm has any of these.
    at("hypercall", "0F 01 C1, 0F 01 D9", Mnemonics(&[M::Vmcall, M::Vmmcall, M::Vmgexit]), ALL, Silent, Silent, Critical, H::NotInGuest, "SDM 3 VMCALL; APM 3 VMMCALL, VMGEXIT"),
    at("vmfunc", "0F 01 D4", Mnemonics(&[M::Vmfunc]), ALL, Conditional, Conditional, Critical, H::NotInGuest, "SDM 3 VMFUNC"),
    at("enclave", "0F 01 CF/D7/C0", Mnemonics(&[M::Encls, M::Enclu, M::Enclv]), ALL, Ud, Conditional, Critical, H::NotInGuest, "SDM 3 ENCLS, ENCLU, ENCLV"),
    at("enqcmd", "F2/F3 0F 38 F8", Mnemonics(&[M::Enqcmd, M::Enqcmds]), ALL, Silent, Silent, Critical, H::NotInGuest, "SDM 2 ENQCMD: submits under the host's PASID"),
    at("monitorx", "0F 01 FA/FB", Mnemonics(&[M::Monitorx, M::Mwaitx]), ALL, Silent, Silent, Critical, H::NotInGuest, "APM 3 MONITORX, MWAITX"),
    at("umwait", "0F AE /6", Mnemonics(&[M::Umonitor, M::Umwait, M::Tpause]), ALL, Silent, Silent, Critical, H::NotInGuest, "SDM 2 UMONITOR, UMWAIT, TPAUSE"),
    // Control transfers through segments and gates: CPL, DPL and stack switches are virtual.
    at("iret", "CF", Mnemonics(&[M::Iret, M::Iretd, M::Iretq]), ALL, Conditional, Conditional, Critical, H::Iret, "SDM 2 IRET").block(Block::Iret),
    at("call-far", "9A, FF /3", Codes(&[C::Call_ptr1616, C::Call_ptr1632, C::Call_m1616, C::Call_m1632, C::Call_m1664]), ALL, Conditional, Conditional, Critical, H::CallFar, "SDM 2 CALL"),
    at("jmp-far", "EA, FF /5", Codes(&[C::Jmp_ptr1616, C::Jmp_ptr1632, C::Jmp_m1616, C::Jmp_m1632, C::Jmp_m1664]), ALL, Conditional, Conditional, Critical, H::JmpFar, "SDM 2 JMP"),
    at("ret-far", "CA CB", Mnemonics(&[M::Retf]), ALL, Conditional, Conditional, Critical, H::RetFar, "SDM 2 RET"),
    // Software interrupts and fast system calls enter the VMM by themselves.
    at("int-n", "CD", Mnemonics(&[M::Int]), ALL, Gp, Gp, TrapsByItself, H::IntN, "SDM 2 INT n: gates have DPL 0"),
    at("int3", "CC", Mnemonics(&[M::Int3]), ALL, VmmGate, VmmGate, TrapsByItself, H::Int3, "SDM 2 INT3"),
    at("into", "CE", Mnemonics(&[M::Into]), LEGACY, Gp, Gp, TrapsByItself, H::Into, "SDM 2 INTO"),
    at("int1", "F1", Mnemonics(&[M::Int1]), ALL, VmmGate, VmmGate, TrapsByItself, H::Int1, "SDM 2 INT1"),
    at("syscall", "0F 05", Mnemonics(&[M::Syscall]), ALL, Ud, Ud, TrapsByItself, H::Syscall, "SDM 2 SYSCALL: EFER.SCE=0"),
    at("sysenter", "0F 34", Mnemonics(&[M::Sysenter]), ALL, Gp, Gp, TrapsByItself, H::Sysenter, "SDM 2 SYSENTER: SYSENTER_CS=0"),
    at("sysret", "0F 07", Mnemonics(&[M::Sysret, M::Sysretq]), ALL, Ud, Ud, TrapsByItself, H::Sysret, "SDM 2 SYSRET").block(Block::Sysret),
    at("sysexit", "0F 35", Mnemonics(&[M::Sysexit, M::Sysexitq]), ALL, Gp, Gp, TrapsByItself, H::Sysexit, "SDM 2 SYSEXIT").block(Block::Sysexit),
    at("swapgs", "0F 01 F8", Mnemonics(&[M::Swapgs]), LONG, Gp, Gp, TrapsByItself, H::Swapgs, "SDM 2 SWAPGS").block(Block::Swapgs),
    // IOPL-sensitive. At CPL 3 with CR4.PVI, CLI and STI would toggle VIF silently: PVI stays off.
    at("cli", "FA", Mnemonics(&[M::Cli]), ALL, Gp, Gp, TrapsByItself, H::Cli, "SDM 2 CLI").block(Block::Cli),
    at("sti", "FB", Mnemonics(&[M::Sti]), ALL, Gp, Gp, TrapsByItself, H::Sti, "SDM 2 STI").block(Block::Sti),
    at("in", "E4 E5 EC ED", Mnemonics(&[M::In]), ALL, Gp, Gp, TrapsByItself, H::In, "SDM 2 IN"),
    at("out", "E6 E7 EE EF", Mnemonics(&[M::Out]), ALL, Gp, Gp, TrapsByItself, H::Out, "SDM 2 OUT"),
    at("ins", "6C 6D", Mnemonics(&[M::Insb, M::Insw, M::Insd]), ALL, Gp, Gp, TrapsByItself, H::Ins, "SDM 2 INS"),
    at("outs", "6E 6F", Mnemonics(&[M::Outsb, M::Outsw, M::Outsd]), ALL, Gp, Gp, TrapsByItself, H::Outs, "SDM 2 OUTS"),
    // Privileged: they fault below ring 0.
    at("hlt", "F4", Mnemonics(&[M::Hlt]), ALL, Gp, Gp, TrapsByItself, H::Hlt, "SDM 2 HLT"),
    at("lgdt", "0F 01 /2", Mnemonics(&[M::Lgdt]), ALL, Gp, Gp, TrapsByItself, H::Lgdt, "SDM 2 LGDT/LIDT"),
    at("lidt", "0F 01 /3", Mnemonics(&[M::Lidt]), ALL, Gp, Gp, TrapsByItself, H::Lidt, "SDM 2 LGDT/LIDT"),
    at("lldt", "0F 00 /2", Mnemonics(&[M::Lldt]), ALL, Gp, Gp, TrapsByItself, H::Lldt, "SDM 2 LLDT"),
    at("ltr", "0F 00 /3", Mnemonics(&[M::Ltr]), ALL, Gp, Gp, TrapsByItself, H::Ltr, "SDM 2 LTR"),
    at("lmsw", "0F 01 /6", Mnemonics(&[M::Lmsw]), ALL, Gp, Gp, TrapsByItself, H::Lmsw, "SDM 2 LMSW"),
    at("clts", "0F 06", Mnemonics(&[M::Clts]), ALL, Gp, Gp, TrapsByItself, H::Clts, "SDM 2 CLTS"),
    at("mov-from-cr", "0F 20", Codes(&[C::Mov_r32_cr, C::Mov_r64_cr]), ALL, Gp, Gp, TrapsByItself, H::MovCr, "SDM 2 MOV to/from control registers").block(Block::ReadControl),
    at("mov-to-cr", "0F 22", Codes(&[C::Mov_cr_r32, C::Mov_cr_r64]), ALL, Gp, Gp, TrapsByItself, H::MovCr, "SDM 2 MOV to/from control registers"),
    at("mov-dr", "0F 21 0F 23", Codes(&[C::Mov_r32_dr, C::Mov_r64_dr, C::Mov_dr_r32, C::Mov_dr_r64]), ALL, Gp, Gp, TrapsByItself, H::MovDr, "SDM 2 MOV to/from debug registers"),
    at("invlpg", "0F 01 /7", Mnemonics(&[M::Invlpg]), ALL, Gp, Gp, TrapsByItself, H::Invlpg, "SDM 2 INVLPG"),
    at("invpcid", "66 0F 38 82", Mnemonics(&[M::Invpcid]), ALL, Gp, Gp, TrapsByItself, H::Invpcid, "SDM 2 INVPCID"),
    at("rdmsr", "0F 32", Mnemonics(&[M::Rdmsr]), ALL, Gp, Gp, TrapsByItself, H::Rdmsr, "SDM 2 RDMSR"),
    at("wrmsr", "0F 30", Mnemonics(&[M::Wrmsr, M::Wrmsrns]), ALL, Gp, Gp, TrapsByItself, H::Wrmsr, "SDM 2 WRMSR, WRMSRNS"),
    at("rdpmc", "0F 33", Mnemonics(&[M::Rdpmc]), ALL, Gp, Gp, TrapsByItself, H::Rdpmc, "SDM 2 RDPMC: CR4.PCE=0 in kernel mode"),
    // TCG runs these outside ring 0 as well, and a verbatim one would flush the host's caches on a machine that errs so.
    at("cache-control", "0F 08, 0F 09, F3 0F 09", Mnemonics(&[M::Invd, M::Wbinvd, M::Wbnoinvd]), ALL, Gp, Gp, Critical, H::CacheControl, "SDM 2 INVD, WBINVD, WBNOINVD"),
    at("ac-flag", "0F 01 CA/CB", Mnemonics(&[M::Clac, M::Stac]), ALL, Ud, Ud, TrapsByItself, H::AcFlag, "SDM 2 CLAC, STAC"),
    at("monitor-mwait", "0F 01 C8/C9", Mnemonics(&[M::Monitor, M::Mwait]), ALL, Ud, Ud, TrapsByItself, H::MonitorMwait, "SDM 2 MONITOR, MWAIT"),
    at("rsm", "0F AA", Mnemonics(&[M::Rsm]), ALL, Ud, Ud, TrapsByItself, H::Rsm, "SDM 2 RSM"),
    at("xsaves", "0F C7 /3 /5", Mnemonics(&[M::Xsaves, M::Xsaves64, M::Xrstors, M::Xrstors64]), ALL, Gp, Gp, TrapsByItself, H::Xsave, "SDM 2 XSAVES, XRSTORS"),
    // Virtualisation and the like: #GP or #UD outside ring 0 whatever the host has enabled.
    at("vmx", "0F 01 C2-C4, 0F 78, 0F 79, 0F C7 /6 /7, 66 0F 38 80/81",
        Mnemonics(&[M::Vmlaunch, M::Vmresume, M::Vmxoff, M::Vmxon, M::Vmread, M::Vmwrite, M::Vmptrld, M::Vmptrst, M::Vmclear, M::Invept, M::Invvpid]),
        ALL, Ud, Ud, TrapsByItself, H::NotInGuest, "SDM 3 chapter 31"),
    at("svm", "0F 01 D8 DA-DF", Mnemonics(&[M::Vmrun, M::Vmload, M::Vmsave, M::Stgi, M::Clgi, M::Skinit, M::Invlpga]), ALL, Ud, Ud, TrapsByItself, H::NotInGuest, "APM 3 VMRUN and others"),
    at("confidential", "0F 01 CC-CF, F2/F3 0F 01 FE/FF",
        Mnemonics(&[M::Tdcall, M::Seamret, M::Seamops, M::Seamcall, M::Pvalidate, M::Rmpadjust, M::Rmpupdate, M::Rmpquery, M::Psmash, M::Invlpgb, M::Tlbsync]),
        ALL, Ud, Ud, Critical, H::NotInGuest, "SDM 3 TDX; APM 3 SNP instructions"),
    at("cet-supervisor", "F3 0F 01 E8, F3 0F AE /6, 66 0F 38 F5", Mnemonics(&[M::Setssbsy, M::Clrssbsy, M::Wrussd, M::Wrussq]), ALL, Ud, Ud, TrapsByItself, H::NotInGuest, "SDM 2 SETSSBSY, CLRSSBSY, WRUSS: CR4.CET=0"),
    at("platform", "NP 0F 01 C5, F3 0F 3A F0, F3 0F 38 DC, 0F 37",
        Mnemonics(&[M::Pconfig, M::Hreset, M::Loadiwkey, M::Getsec, M::Getsecq, M::Pbndkb, M::Lkgs, M::Eretu, M::Erets, M::Rdmsrlist, M::Wrmsrlist, M::Rdudbg, M::Wrudbg]),
        ALL, Gp, Gp, Critical, H::NotInGuest, "SDM 2 and 3, instruction pages"),
];
