//! Tour 22/22, the last.
//! `--verify`: guest-kernel code is executed twice, by the interpreter and by the CPU, and must do the same.
//!
//! One instruction at a time: the interpreter predicts registers, flags and memory on a copy of the state and a log of
//! writes that never reaches guest memory; then the CPU executes the instruction from the execution view with TF set; then
//! both are compared. The first difference stops the guest with a report. What cannot be predicted (time, devices, x87 and
//! vector instructions) is executed unverified and counted.

use alloc::vec::Vec;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};
use rvmm_arch::fault::{Exception, Vector};
use rvmm_arch::host::{Host, HostError};
use rvmm_arch::machine::{Access, Change, Machine, MachineStop};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::{CpuMode, SegReg};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gpa, Gva, VcpuState};
use rvmm_interp::Step;
use rvmm_mmu::{Mmu, MmuError};

use crate::client::{ClientExit, InternalError};
use crate::cpuid::CpuidTable;
use crate::direct::Mode;
use crate::native::{Fetched, Stepped};
use crate::options::Verify;
use crate::vcpu::{Flow, Vcpu};

/// Sets of the table of addresses already verified, and addresses in each. A kernel has a few hundred thousand instructions
/// that it ever executes; one that falls out of the table is verified once more.
const SETS: usize = 1 << 18;
/// See [`SETS`].
const WAYS: usize = 4;
/// TF in the second byte of a pushed flags image.
const TF_IN_BYTE: u8 = 1;
/// Bytes that one instruction may write and still be predicted (PUSHAD writes 32).
const LOG_BYTES: usize = 64;

/// What has been verified.
#[derive(Debug)]
pub struct Verifier {
    policy: Verify,
    /// (low 32 bits of the linear address, times) in sets by hash, the latest first.
    seen: Vec<[(u32, u32); WAYS]>,
    /// One element, taken out while it is in use.
    scratch: Vec<Scratch>,
}

impl Verifier {
    /// Nothing verified yet.
    ///
    /// # Errors
    /// No memory.
    #[inline(never)]
    pub fn new(policy: Verify) -> Result<Self, HostError> {
        let mut seen = Vec::new();
        if matches!(policy, Verify::First(_)) {
            seen.try_reserve_exact(SETS).map_err(|_| HostError::NoMemory)?;
            seen.resize(SETS, [(0, 0); WAYS]);
        }
        let mut scratch = Vec::new();
        if policy != Verify::Off {
            scratch.try_reserve_exact(1).map_err(|_| HostError::NoMemory)?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(LOG_BYTES).map_err(|_| HostError::NoMemory)?;
            let (before, predicted) = (VcpuState::reset(), VcpuState::reset());
            scratch.push(Scratch { before, predicted, log: Log { bytes } });
        }
        Ok(Self { policy, seen, scratch })
    }

    /// Is anything verified at all?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.policy != Verify::Off
    }

    /// Shall the next instruction be verified?
    pub fn wants(&mut self, cpu: &VcpuState, mode: Mode) -> bool {
        match (self.policy, mode) {
            (Verify::Off, _) | (_, Mode::User) => false,
            (Verify::Always, Mode::Kernel) => true,
            (Verify::First(n), Mode::Kernel) => {
                let at = cpu.linear_rip() as u32;
                let hash = at.wrapping_mul(0x9e37_79b1) >> 14;
                let Some(set) = self.seen.get_mut(hash as usize % SETS) else { return true };
                let way = set.iter().position(|(seen, _)| *seen == at);
                // The one that was not seen for the longest time makes room.
                set.get_mut(..=way.unwrap_or(WAYS - 1)).unwrap_or_default().rotate_right(1);
                let Some(first) = set.first_mut() else { return true };
                if way.is_none() {
                    *first = (at, 0);
                }
                first.1 = first.1.saturating_add(1);
                first.1 <= n
            }
        }
    }
}

/// Predicted writes, byte by byte.
#[derive(Debug, Default)]
struct Log {
    bytes: Vec<(Gpa, u8)>,
}

impl Log {
    fn get(&self, gpa: Gpa) -> Option<u8> {
        self.bytes.iter().find(|(at, _)| *at == gpa).map(|(_, byte)| *byte)
    }

    /// False: there is no room.
    fn put(&mut self, gpa: Gpa, byte: u8) -> bool {
        if let Some(slot) = self.bytes.iter_mut().find(|(at, _)| *at == gpa) {
            slot.1 = byte;
        } else if self.bytes.len() < LOG_BYTES {
            // Within the capacity reserved at creation.
            self.bytes.push((gpa, byte));
        } else {
            return false;
        }
        true
    }
}

/// The two states that are compared with the CPU's, and the log: off the kernel stack.
#[derive(Debug)]
struct Scratch {
    before: VcpuState,
    predicted: VcpuState,
    log: Log,
}

/// The interpreter's machine for predictions: reads guest memory, changes nothing.
struct Prediction<'a, H: Host> {
    host: &'a mut H,
    mmu: &'a Mmu,
    cpuid: &'a CpuidTable,
    log: &'a mut Log,
}

impl<H: Host> Machine for Prediction<'_, H> {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        match self.mmu.peek(self.host, cpu, la, access) {
            Ok(Ok(gpa)) => Ok(gpa),
            Ok(Err(code)) => Err(MachineStop::Fault(Exception::page_fault(code, la.0))),
            Err(_) => Err(MachineStop::HostError),
        }
    }

    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        match self.host.read_ram(gpa, buf) {
            Ok(true) => {}
            Ok(false) => return Err(MachineStop::IoPending),
            Err(_) => return Err(MachineStop::HostError),
        }
        for (i, byte) in buf.iter_mut().enumerate() {
            if let Some(written) = self.log.get(gpa.add(i as u64)) {
                *byte = written;
            }
        }
        Ok(())
    }

    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        for (i, byte) in data.iter().enumerate() {
            if !self.log.put(gpa.add(i as u64), *byte) {
                return Err(MachineStop::IoPending);
            }
        }
        Ok(())
    }

    fn port_in(&mut self, _port: u16, _size: u8) -> Result<u32, MachineStop> {
        Err(MachineStop::IoPending)
    }

    fn port_out(&mut self, _port: u16, _size: u8, _value: u32) -> Result<(), MachineStop> {
        Err(MachineStop::IoPending)
    }

    fn cpuid(&mut self, cpu: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.cpuid.lookup(cpu, leaf, subleaf)
    }

    fn rdtsc(&mut self, cpu: &VcpuState) -> u64 {
        self.host.tsc().wrapping_add(cpu.tsc_offset)
    }

    fn changed(&mut self, _cpu: &VcpuState, _change: Change) {}
}

/// The decoder's code size for the code that `cpu` is in: 32 or 64 bits. (16-bit code never runs directly.)
pub(crate) fn bitness(cpu: &VcpuState) -> u32 {
    match cpu.mode() {
        CpuMode::Long => 64,
        _ if cpu.segment(SegReg::Cs).db() => 32,
        _ => 16,
    }
}

/// The instruction at RIP.
pub(crate) fn decode(cpu: &VcpuState, fetched: &Fetched) -> Instruction {
    let bytes = fetched.bytes.get(..fetched.available).unwrap_or(&[]);
    Decoder::with_ip(bitness(cpu), bytes, cpu.rip, DecoderOptions::NONE).decode()
}

/// Results that differ from one execution to the next.
fn unpredictable(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdpmc | Mnemonic::Rdrand | Mnemonic::Rdseed
    )
}

/// Does it push a selector as four bytes? The upper two are zero or what was there, as the CPU likes it (SDM 2, PUSH).
fn pushes_selector(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Code::Pushd_CS | Code::Pushd_SS | Code::Pushd_DS | Code::Pushd_ES | Code::Pushd_FS | Code::Pushd_GS
    )
}

impl Vcpu {
    /// Executes one guest-kernel instruction under verification.
    #[inline(never)]
    pub(crate) fn verify_step<H: Host>(&mut self, host: &mut H, mode: Mode) -> Flow {
        let mut taken = core::mem::take(&mut self.verifier.scratch);
        let flow = match taken.first_mut() {
            Some(scratch) => self.verify_with(host, mode, scratch),
            None => self.run_directly(host, mode),
        };
        self.verifier.scratch = taken;
        flow
    }

    fn verify_with<H: Host>(&mut self, host: &mut H, mode: Mode, scratch: &mut Scratch) -> Flow {
        let Scratch { before, predicted, log } = scratch;
        // The prediction is by the guest's tables, and an old translation of the CPU's would be right, too.
        self.parts.mmu.sync_all(host);
        let fetched = self.fetch(host)?;
        let instruction = decode(&self.state, &fetched);
        if instruction.mnemonic() == Mnemonic::Int1 {
            // Its #DB and that of the step behind it are one vector.
            self.parts.stats.count(Counter::VerifySkipped);
            return self.interpret(host, Counter::InterpretedPrivileged);
        }
        if self.sees_null(&instruction) {
            self.parts.stats.count(Counter::VerifySkipped);
            return self.interpret(host, Counter::InterpretedStaleSegment);
        }

        before.clone_from(&self.state);
        predicted.clone_from(&self.state);
        log.bytes.clear();
        let mut world = Prediction { host, mmu: &self.parts.mmu, cpuid: &self.parts.cpuid, log };
        let prediction = rvmm_interp::step_cached(predicted, &mut world, &mut self.decoded);
        self.parts.stats.count(Counter::InterpretedVerify);

        match self.single_step(host, mode)? {
            Stepped::Done => {
                // TCG traps once more behind the last iteration of a REP instruction, with RIP still on it.
                let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
                if repeated && self.state.rip == before.rip && self.state.gpr == predicted.gpr {
                    self.state.rip = predicted.rip;
                }
                if prediction != Step::Retired || unpredictable(&instruction) {
                    if matches!(prediction, Step::Exception(_)) {
                        return self.difference(host, before, predicted, &fetched, "the CPU did not fault");
                    }
                    self.parts.stats.count(Counter::VerifySkipped);
                    return Ok(());
                }
                self.compare(host, (before, predicted), &instruction, &fetched, log)
            }
            Stepped::Trapped => {
                self.state.rip = self.state.wrap(self.state.rip.wrapping_sub(1));
                self.view_trap(host)
            }
            Stepped::NeedView(gfn, page) => {
                let at = Gva(self.state.linear_rip());
                let gpa = gfn.base().add(if at.page() == page.page() { at.offset() as u64 } else { 0 });
                self.fetch_fault(host, gpa, if at.page() == page.page() { at } else { page })
            }
            Stepped::Asked => self.serve_block(host),
            Stepped::NeedsInterpreter(blocked) => self.interpret(host, blocked.cause),
            // A byte of a jump that traps, over a guest instruction that was not moved with it.
            Stepped::Faulted(fault) if matches!(fault.vector, Vector::GP | Vector::UD) && self.covered(host)? => {
                self.interpret(host, Counter::InterpretedSite)
            }
            Stepped::Faulted(fault) => {
                // Privileged and segment-loading instructions fault on the CPU by design, and are interpreted.
                let by_design = rvmm_patcher::table::classify(&instruction).is_some();
                if by_design && fault.vector != Vector::PF {
                    return self.interpret_or_reflect(host, Counter::InterpretedPrivileged, fault);
                }
                let same = match prediction {
                    Step::Exception(e) => (e.vector, e.error) == (fault.vector, fault.error),
                    Step::Unsupported(_) | Step::IoPending | Step::HostError => true,
                    Step::Retired | Step::Halted | Step::Shutdown => false,
                };
                if !same {
                    host.report(format_args!("predicted {prediction:?}, the CPU raised {fault:?}"));
                    return self.difference(host, before, predicted, &fetched, "another exception");
                }
                self.parts.stats.count(Counter::Verified);
                self.deliver(host, fault.into())
            }
        }
    }

    #[inline(never)]
    fn compare<H: Host>(
        &mut self,
        host: &mut H,
        (before, predicted): (&VcpuState, &VcpuState),
        instruction: &Instruction,
        fetched: &Fetched,
        log: &Log,
    ) -> Flow {
        let now = &self.state;
        let undefined = rvmm_interp::undefined(instruction, before);
        if undefined.result {
            self.parts.stats.count(Counter::VerifySkipped);
            return Ok(());
        }
        let what = if now.gpr != predicted.gpr {
            "general registers"
        } else if now.rip != predicted.rip {
            "RIP"
        } else if !(now.rflags ^ predicted.rflags).difference(undefined.flags | Rflags::RF).is_empty() {
            "flags"
        } else if now.seg != predicted.seg {
            "segment registers"
        } else {
            ""
        };
        if !what.is_empty() {
            return self.difference(host, before, predicted, fetched, what);
        }
        let pushes_flags = matches!(instruction.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq);
        for (n, (gpa, byte)) in log.bytes.iter().enumerate() {
            if n >= 2 && pushes_selector(instruction) {
                break;
            }
            let mut there = 0;
            let ram = host.read_ram(*gpa, core::slice::from_mut(&mut there))?;
            // A block's PUSHF has pushed the TF of this very step; the guest must not find it.
            if ram && pushes_flags && there ^ *byte == TF_IN_BYTE {
                host.write_ram(*gpa, core::slice::from_ref(byte))?;
                continue;
            }
            if ram && there != *byte {
                host.report(format_args!("at {gpa:?}: predicted {byte:#04x}, the CPU wrote {there:#04x}"));
                return self.difference(host, before, predicted, fetched, "memory");
            }
        }
        self.parts.stats.count(Counter::Verified);
        Ok(())
    }

    #[inline(never)]
    fn difference<H: Host>(
        &mut self,
        host: &mut H,
        before: &VcpuState,
        predicted: &VcpuState,
        fetched: &Fetched,
        what: &str,
    ) -> Flow {
        let bytes = fetched.bytes.get(..fetched.available).unwrap_or(&[]);
        host.report(format_args!("verify: difference in {what} at RIP {:#x}, guest bytes {bytes:02x?}", before.rip));
        for (name, s) in [("before", before), ("interpreter", predicted), ("CPU", &self.state)] {
            let gpr = s.gpr.get(..if s.long_mode() { 16 } else { 8 }).unwrap_or(&[]);
            host.report(format_args!("{name}: rip {:#x} flags {:#x} gpr {gpr:x?}", s.rip, s.rflags.bits()));
        }
        Err(ClientExit::InternalError(InternalError::VerifyDifference))
    }
}

impl From<MmuError> for InternalError {
    fn from(error: MmuError) -> Self {
        Self::Mmu(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instruction_is_wanted_so_many_times() -> Result<(), HostError> {
        let mut verifier = Verifier::new(Verify::First(2))?;
        let mut cpu = VcpuState::reset();
        cpu.segment_mut(rvmm_arch::segment::SegReg::Cs).base = 0;
        let mut wanted = 0;
        for _ in 0..5 {
            for at in 0..100_000 {
                cpu.rip = 0xc100_0000 + at * 3;
                wanted += u32::from(verifier.wants(&cpu, Mode::Kernel));
            }
        }
        // More only where more than four addresses share a set.
        assert!((200_000..202_000).contains(&wanted), "{wanted}");
        assert!(!verifier.wants(&cpu, Mode::User));
        Ok(())
    }
}
