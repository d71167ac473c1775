//! What the interpreter sees of the world: one doorway trait.
//!
//! The interpreter owns nothing but the virtual CPU's architectural state; memory, translation, ports, CPUID and time
//! come through [`Machine`]. Under rvmm the engine implements it; under `cargo test` a plain array of memory does.

use crate::addr::{Gpa, Gva};
use crate::fault::{Exception, Vector};
use crate::vcpu::VcpuState;

/// What an access is for; decides permissions and the error code of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// Data read.
    Read,
    /// Data write, or the first half of a read-modify-write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// With whose rights an access is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL 0 to 2, explicit.
    Supervisor,
    /// Implicit supervisor access: descriptor tables, TSS, IDT, stacks of event delivery, at any CPL.
    Implicit,
}

/// A linear access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Read, write or fetch.
    pub kind: AccessKind,
    /// On whose behalf.
    pub privilege: Privilege,
}

/// Why an access to the machine did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineStop {
    /// The guest faults.
    Fault(Exception),
    /// A device access must first be answered by the client; the machine has noted which. The instruction is executed
    /// again from its start once the answer is there.
    IoPending,
    /// The host failed (no memory, memory of the guest gone); the machine has noted why.
    HostError,
}

/// A change of state that others than the interpreter must hear of. Sent after the state was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// CR0 written; the old value.
    Cr0(u64),
    /// CR3 loaded (same value or not): non-global translations go.
    Cr3,
    /// CR4 written; the old value.
    Cr4(u64),
    /// EFER written; the old value.
    Efer(u64),
    /// INVLPG of this linear address.
    Invlpg(Gva),
    /// LGDT.
    Gdtr,
    /// LIDT.
    Idtr,
    /// LLDT, or LDTR loaded by a task switch.
    Ldtr,
    /// LTR, or TR loaded by a task switch.
    Tr,
    /// DR7 or a breakpoint address written.
    DebugRegisters,
    /// IA32_APIC_BASE has another value.
    ApicBase,
    /// WBINVD or INVD.
    CacheFlush,
    /// INT n, INT3, INTO or INT1 has delivered its event.
    SoftwareInterrupt(Vector),
    /// SYSENTER has entered ring 0.
    Sysenter,
    /// One step has done so many iterations of a string instruction ([`Machine::is_plain`]).
    Iterations(u64),
}

/// The world as the interpreter sees it.
pub trait Machine {
    /// Translates a linear address with the guest's own page tables, setting accessed and dirty bits as the CPU would.
    /// `cpu` gives CR0, CR3, CR4, EFER. The translation is good for the rest of the page.
    ///
    /// # Errors
    /// [`MachineStop::Fault`] with #PF (or #GP for non-canonical addresses), or a host failure.
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop>;

    /// Reads guest-physical memory or an MMIO device. Never crosses a page.
    ///
    /// # Errors
    /// [`MachineStop::IoPending`] for MMIO not yet answered, or a host failure.
    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop>;

    /// Writes guest-physical memory or an MMIO device. Never crosses a page.
    ///
    /// # Errors
    /// As for [`Machine::read`].
    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop>;

    /// Are accesses of this kind to the page of `gpa` memory and nothing else: no device answers them, they cannot fail, and nobody has to
    /// hear of each single one before the next? Then the interpreter makes those of several iterations of a string instruction in
    /// one step. A machine that compares iterations, or does not know, says no.
    ///
    /// # Errors
    /// A host failure.
    fn is_plain(&mut self, _gpa: Gpa, _kind: AccessKind) -> Result<bool, MachineStop> {
        Ok(false)
    }

    /// IN: reads `size` (1, 2 or 4) bytes from a port.
    ///
    /// # Errors
    /// [`MachineStop::IoPending`] until the client has answered.
    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, MachineStop>;

    /// INS with a REP prefix: reads up to `count` (at least one) elements of `size` bytes from a port, one after the other, to `to` and
    /// upwards, in one page of which [`Machine::is_plain`] says that writes to it are memory. How many they were. A machine that
    /// does not know better reads one.
    ///
    /// # Errors
    /// As for [`Machine::port_in`]. Nothing has been written then.
    fn port_in_string(&mut self, port: u16, size: u8, _count: u64, to: Gpa) -> Result<u64, MachineStop> {
        let value = self.port_in(port, size)?.to_le_bytes();
        self.write(to, value.get(..usize::from(size)).unwrap_or(&[]))?;
        Ok(1)
    }

    /// OUT: writes `size` (1, 2 or 4) bytes to a port.
    ///
    /// # Errors
    /// [`MachineStop::IoPending`] until the client has taken it.
    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), MachineStop>;

    /// OUTS with a REP prefix: writes up to `count` (at least one) elements of `size` bytes to a port, one after the other, from `from` on
    /// upwards, in one page of which [`Machine::is_plain`] says that reads of it are memory. How many they were. A machine that does not
    /// know better writes one.
    ///
    /// # Errors
    /// As for [`Machine::port_out`].
    fn port_out_string(&mut self, port: u16, size: u8, _count: u64, from: Gpa) -> Result<u64, MachineStop> {
        let mut value = [0; 4];
        self.read(from, value.get_mut(..usize::from(size)).unwrap_or_default())?;
        self.port_out(port, size, u32::from_le_bytes(value))?;
        Ok(1)
    }

    /// CPUID of the guest: EAX, EBX, ECX, EDX. OSXSAVE and the like are filled in from `cpu`.
    fn cpuid(&mut self, cpu: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4];

    /// The guest's time-stamp counter.
    fn rdtsc(&mut self, cpu: &VcpuState) -> u64;

    /// Tells that state changed.
    fn changed(&mut self, cpu: &VcpuState, change: Change);

    /// Another instruction may follow, at the new RIP, before the caller has looked at what this one did.
    fn goes_on(&mut self, cpu: &VcpuState) -> bool {
        let _ = cpu;
        false
    }
}
