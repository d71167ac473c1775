//! Linear memory: translation of ranges that may cross a page, and reads and writes through them.
//!
//! Two pages are both translated before any byte of them is written, so an access that faults has no effect. Segment
//! checks come before this layer (see [`crate::exec`]); event delivery and descriptor loads, whose addresses are
//! linear from the start, use it directly.

use rvmm_arch::machine::{Access, AccessKind, Machine, MachineStop, Privilege};
use rvmm_arch::regs::Efer;
use rvmm_arch::segment::CpuMode;
use rvmm_arch::{Gpa, Gva, VcpuState, PAGE_SIZE};

/// Linear memory already translated: one piece, or two where a page boundary lies inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    first: Gpa,
    second: Gpa,
    /// Bytes in the first piece.
    split: usize,
    /// Bytes in all.
    len: usize,
}

impl Span {
    /// Translates `len` (1 to 4096) bytes at `la` for `access`; both pages where two are touched.
    ///
    /// # Errors
    /// The fault of the first page that has one, or a host failure.
    pub fn translate<M: Machine>(
        cpu: &VcpuState,
        m: &mut M,
        la: Gva,
        len: usize,
        access: Access,
    ) -> Result<Self, MachineStop> {
        let behind = wrap_for(cpu, access.privilege, la.page().add(PAGE_SIZE));
        Self::two_pages(cpu, m, la, behind, len, access)
    }

    /// [`Span::translate`] where addresses have 64 bits though the CPU may still be in compatibility mode: the stacks that
    /// gates of long mode lead to.
    ///
    /// # Errors
    /// As for [`Span::translate`].
    pub fn translate_wide<M: Machine>(
        cpu: &VcpuState,
        m: &mut M,
        la: Gva,
        len: usize,
        access: Access,
    ) -> Result<Self, MachineStop> {
        Self::two_pages(cpu, m, la, la.page().add(PAGE_SIZE), len, access)
    }

    /// The span of `len` bytes at `la`, which go on at `behind` where the page ends.
    fn two_pages<M: Machine>(
        cpu: &VcpuState,
        m: &mut M,
        la: Gva,
        behind: Gva,
        len: usize,
        access: Access,
    ) -> Result<Self, MachineStop> {
        let first = m.translate(cpu, la, access)?;
        let room = PAGE_SIZE as usize - la.offset();
        if len <= room {
            return Ok(Self { first, second: first, split: len, len });
        }
        let second = m.translate(cpu, behind, access)?;
        Ok(Self { first, second, split: room, len })
    }

    /// Reads the whole span into the front of `buf`.
    ///
    /// # Errors
    /// See [`Machine::read`].
    pub fn read<M: Machine>(&self, m: &mut M, buf: &mut [u8]) -> Result<(), MachineStop> {
        let len = self.len.min(buf.len());
        let (all, _) = buf.split_at_mut(len);
        let (a, b) = all.split_at_mut(self.split.min(len));
        m.read(self.first, a)?;
        if !b.is_empty() {
            m.read(self.second, b)?;
        }
        Ok(())
    }

    /// Writes the whole span from the front of `data`.
    ///
    /// # Errors
    /// See [`Machine::write`].
    pub fn write<M: Machine>(&self, m: &mut M, data: &[u8]) -> Result<(), MachineStop> {
        let len = self.len.min(data.len());
        let (all, _) = data.split_at(len);
        let (a, b) = all.split_at(self.split.min(len));
        m.write(self.first, a)?;
        if !b.is_empty() {
            m.write(self.second, b)?;
        }
        Ok(())
    }

    /// Reads the span, up to 8 bytes, as a little-endian number.
    ///
    /// # Errors
    /// See [`Machine::read`].
    pub fn read_uint<M: Machine>(&self, m: &mut M) -> Result<u64, MachineStop> {
        let mut buf = [0; 8];
        self.read(m, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Writes the low bytes of `value` to the span, up to 8 bytes.
    ///
    /// # Errors
    /// See [`Machine::write`].
    pub fn write_uint<M: Machine>(&self, m: &mut M, value: u64) -> Result<(), MachineStop> {
        self.write(m, &value.to_le_bytes())
    }
}

/// Cuts the linear address of an access that an instruction asks for to the width the mode has.
#[must_use]
pub fn wrap(cpu: &VcpuState, la: Gva) -> Gva {
    if cpu.mode() == CpuMode::Long {
        la
    } else {
        Gva(la.0 & 0xffff_ffff)
    }
}

/// Cuts the linear address of a system structure (descriptor table, IDT, TSS): 64 bits wide wherever long mode is active, in
/// compatibility mode too (SDM vol. 3 §2.4, §5.5 and §7.2.3).
#[must_use]
pub const fn wrap_system(cpu: &VcpuState, la: Gva) -> Gva {
    if cpu.efer.contains(Efer::LMA) {
        la
    } else {
        Gva(la.0 & 0xffff_ffff)
    }
}

/// [`wrap`] or [`wrap_system`], by whose access it is.
fn wrap_for(cpu: &VcpuState, privilege: Privilege, la: Gva) -> Gva {
    match privilege {
        Privilege::Implicit => wrap_system(cpu, la),
        Privilege::User | Privilege::Supervisor => wrap(cpu, la),
    }
}

/// The rights of an explicit access at the current privilege level.
#[must_use]
pub const fn privilege(cpu: &VcpuState) -> Privilege {
    if cpu.cpl == 3 {
        Privilege::User
    } else {
        Privilege::Supervisor
    }
}

/// Reads `buf.len()` bytes (up to 4096) at a linear address.
///
/// # Errors
/// See [`Machine::translate`] and [`Machine::read`].
pub fn read_linear<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    la: Gva,
    buf: &mut [u8],
    privilege: Privilege,
) -> Result<(), MachineStop> {
    let access = Access { kind: AccessKind::Read, privilege };
    Span::translate(cpu, m, wrap_for(cpu, privilege, la), buf.len(), access)?.read(m, buf)
}

/// Writes `data` (up to 4096 bytes) at a linear address; nothing is written where any byte would fault.
///
/// # Errors
/// See [`Machine::translate`] and [`Machine::write`].
pub fn write_linear<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    la: Gva,
    data: &[u8],
    privilege: Privilege,
) -> Result<(), MachineStop> {
    let access = Access { kind: AccessKind::Write, privilege };
    Span::translate(cpu, m, wrap_for(cpu, privilege, la), data.len(), access)?.write(m, data)
}

/// Reads a little-endian number of `size` (1 to 8) bytes at a linear address.
///
/// # Errors
/// See [`Machine::translate`] and [`Machine::read`].
pub fn read_uint<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    la: Gva,
    size: usize,
    privilege: Privilege,
) -> Result<u64, MachineStop> {
    let access = Access { kind: AccessKind::Read, privilege };
    Span::translate(cpu, m, wrap_for(cpu, privilege, la), size, access)?.read_uint(m)
}

/// Writes the low `size` (1 to 8) bytes of `value` at a linear address.
///
/// # Errors
/// See [`Machine::translate`] and [`Machine::write`].
pub fn write_uint<M: Machine>(
    cpu: &VcpuState,
    m: &mut M,
    la: Gva,
    size: usize,
    value: u64,
    privilege: Privilege,
) -> Result<(), MachineStop> {
    let access = Access { kind: AccessKind::Write, privilege };
    Span::translate(cpu, m, wrap_for(cpu, privilege, la), size, access)?.write_uint(m, value)
}
