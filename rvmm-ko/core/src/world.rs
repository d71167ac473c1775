//! The interpreter's machine under rvmm: guest memory through the memslots, translation through the guest's own tables,
//! devices through the client.

use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::host::{Backing, Host, HostError};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop};
use rvmm_arch::regs::Cr4;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::trace;
use rvmm_arch::{Gpa, Gva, VcpuState};
use rvmm_mmu::{Mmu, MmuError, TranslateStop};

use crate::constants::Constants;
use crate::cpuid::CpuidTable;
use crate::direct::Cause;
use crate::hot::HotPlaces;
use crate::io::{Answer, IoAccess, IoLog, STRING_BYTES};
use crate::writes::WriteLog;

/// Changes of state that the engine acts on after the instruction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// CR0, CR3 or CR4: translations may differ, and old ones end. (Paging modes are part of a shadow page's role, so no shadow is dropped.)
    pub paging: bool,
    /// EFER: shadow pages may mean something else.
    pub flush: bool,
    /// GDTR or LDTR.
    pub tables: bool,
    /// One linear page, INVLPG.
    pub invlpg: Option<Gva>,
}

/// The doorway, made anew for each interpreted instruction, or a few of them.
pub struct World<'a, H: Host> {
    /// The host.
    pub host: &'a mut H,
    /// Translation.
    pub mmu: &'a mut Mmu,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Device accesses of this instruction.
    pub io: &'a mut IoLog,
    /// What of the devices the client need not be asked for.
    pub constants: &'a mut Constants,
    /// Writes to guest memory of this instruction that others must hear of.
    pub writes: &'a mut WriteLog,
    /// State changes of this instruction.
    pub changes: &'a mut Changes,
    /// CPUID.
    pub cpuid: &'a CpuidTable,
    /// The first host failure.
    pub host_error: &'a mut Option<HostError>,
    /// An instruction's accesses differed when executed again.
    pub replay_error: &'a mut bool,
    /// Where instructions are noted that follow the first, and under what.
    pub hot: &'a mut HotPlaces,
    /// `None`: no other follows.
    pub cause: Option<Cause>,
}

impl<H: Host> World<'_, H> {
    fn failed(&mut self, error: HostError) -> MachineStop {
        self.host_error.get_or_insert(error);
        MachineStop::HostError
    }

    fn device(&mut self, access: IoAccess) -> Result<u64, MachineStop> {
        match self.io.access(access, self.constants) {
            Answer::Done(value) => Ok(value),
            Answer::Constant(value) => {
                self.stats.count(Counter::ConstantReads);
                Ok(value)
            }
            Answer::Ask => Err(MachineStop::IoPending),
            Answer::Overflow => {
                *self.replay_error = true;
                Err(MachineStop::HostError)
            }
        }
    }
}

/// How many of `count` elements one access can have.
fn at_once(count: u64, size: u8) -> u16 {
    let room = (STRING_BYTES as u64).checked_div(size.into()).unwrap_or(0);
    count.min(room) as u16
}

impl<H: Host> Machine for World<'_, H> {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        self.mmu.translate(self.host, cpu, la, access).map_err(|stop| match stop {
            TranslateStop::Guest(exception) => MachineStop::Fault(exception),
            TranslateStop::Mmu(MmuError::Host(error)) => self.failed(error),
            TranslateStop::Mmu(_) => MachineStop::HostError,
        })
    }

    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        match self.host.read_ram(gpa, buf) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(self.failed(error)),
        }
        // KVM_EXIT_MMIO carries up to 8 bytes.
        let mut at = gpa;
        for chunk in buf.chunks_mut(8) {
            let value = self.device(IoAccess::MmioRead { gpa: at, len: chunk.len() as u8 })?;
            for (to, from) in chunk.iter_mut().zip(value.to_le_bytes()) {
                *to = from;
            }
            at = at.add(chunk.len() as u64);
        }
        Ok(())
    }

    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        match self.host.write_ram(gpa, data) {
            Ok(true) => {
                if !self.mmu.reasons(gpa.frame()).is_empty() {
                    self.writes.note(gpa, data.len());
                }
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let mut at = gpa;
        for chunk in data.chunks(8) {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(chunk) {
                *to = *from;
            }
            let access = IoAccess::MmioWrite { gpa: at, len: chunk.len() as u8, data: u64::from_le_bytes(bytes) };
            self.device(access)?;
            at = at.add(chunk.len() as u64);
        }
        Ok(())
    }

    fn is_plain(&mut self, gpa: Gpa, kind: AccessKind) -> Result<bool, MachineStop> {
        match self.host.backing(gpa.frame()) {
            Ok(Backing::Ram { readonly, .. }) => {
                // Whoever follows a frame acts behind each instruction, and by what one iteration wrote.
                let writes = kind == AccessKind::Write;
                Ok(!writes || !readonly && self.mmu.reasons(gpa.frame()).is_empty())
            }
            Ok(Backing::Mmio) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, MachineStop> {
        self.device(IoAccess::PortIn { port, size }).map(|value| value as u32)
    }

    fn port_in_string(&mut self, port: u16, size: u8, count: u64, to: Gpa) -> Result<u64, MachineStop> {
        let count = at_once(count, size);
        self.device(IoAccess::PortInString { port, size, count })?;
        let bytes = self.io.string(usize::from(count).saturating_mul(size.into()));
        match self.host.write_ram(to, bytes) {
            // Whoever follows the frame would not have called it plain.
            Ok(true) => Ok(count.into()),
            // The client has taken the memory away since.
            Ok(false) => {
                *self.replay_error = true;
                Err(MachineStop::HostError)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), MachineStop> {
        self.device(IoAccess::PortOut { port, size, value }).map(|_| ())
    }

    fn port_out_string(&mut self, port: u16, size: u8, count: u64, from: Gpa) -> Result<u64, MachineStop> {
        let count = at_once(count, size);
        let asked = self.device(IoAccess::PortOutString { port, size, count });
        if asked == Err(MachineStop::IoPending) {
            let bytes = self.io.string_mut().get_mut(..usize::from(count).saturating_mul(size.into()));
            match self.host.read_ram(from, bytes.unwrap_or_default()) {
                Ok(true) => {}
                // What is plain is RAM.
                Ok(false) => {
                    *self.replay_error = true;
                    return Err(MachineStop::HostError);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        asked.map(|_| count.into())
    }

    fn cpuid(&mut self, cpu: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.cpuid.lookup(cpu, leaf, subleaf)
    }

    fn rdtsc(&mut self, cpu: &VcpuState) -> u64 {
        self.host.tsc().wrapping_add(cpu.tsc_offset)
    }

    fn changed(&mut self, cpu: &VcpuState, change: Change) {
        match change {
            Change::Efer(_) => {
                self.changes.paging = true;
                self.changes.flush = true;
            }
            Change::Cr4(old) => {
                // Of the bits that change what a translation permits, these are not part of a shadow page's role.
                let permits = Cr4::SMEP | Cr4::SMAP | Cr4::PKE | Cr4::PCIDE;
                self.changes.flush |= (Cr4::from_bits_retain(old) ^ cpu.cr4).intersects(permits);
                self.changes.paging = true;
            }
            Change::Cr0(_) | Change::Cr3 => self.changes.paging = true,
            Change::Invlpg(la) => match self.changes.invlpg {
                None => self.changes.invlpg = Some(la),
                Some(_) => self.changes.paging = true,
            },
            Change::Gdtr | Change::Ldtr => self.changes.tables = true,
            // What the client told may be the local APIC's registers, where it was.
            Change::ApicBase => *self.constants = Constants::default(),
            // The IDT and TSS are read at each delivery, breakpoints at each entry, and guest caches are the host's.
            Change::Idtr | Change::Tr | Change::DebugRegisters | Change::CacheFlush => {}
            Change::SoftwareInterrupt(vector) => {
                self.stats.count(Counter::InjectedSoftware);
                let event = Event { vector, error: None, payload: 0, source: EventSource::Software };
                trace!(self.host, Inject(event));
            }
            Change::Iterations(n) => self.stats.add(Counter::StringIterations, n),
            Change::Sysenter => self.stats.count(Counter::Sysenter),
        }
    }

    fn goes_on(&mut self, cpu: &VcpuState) -> bool {
        // What devices answered, and whose page was written, is looked at behind each instruction.
        let Some(cause) = self.cause.filter(|_| self.writes.is_empty() && self.io.is_untouched()) else { return false };
        self.hot.note(cpu.linear_rip(), cause);
        let (rip, cpl) = (cpu.rip, cpu.cpl);
        trace!(self.host, Interpret { rip, cpl, cause });
        true
    }
}
