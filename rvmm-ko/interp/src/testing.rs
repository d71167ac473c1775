//! A machine for tests: RAM from guest-physical address 0, page tables of every mode, a port hook and a record of changes.
//!
//! It stands in for the engine wherever a guest is to run on the interpreter alone. Only for tests: it may panic.
#![allow(clippy::missing_panics_doc, clippy::indexing_slicing)]

extern crate std;

use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Exception, Gpa, Gva, PageFaultCode, VcpuState, PAGE_SIZE};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// What is behind the ports.
pub trait Ports {
    /// IN of `size` bytes.
    fn port_in(&mut self, port: u16, size: u8) -> u32;
    /// OUT of `size` bytes.
    fn port_out(&mut self, port: u16, size: u8, value: u32);
}

/// Ports with nothing behind them.
struct NoPorts;

impl Ports for NoPorts {
    fn port_in(&mut self, _: u16, size: u8) -> u32 {
        match size {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        }
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32) {}
}

/// The machine.
pub struct TestMachine {
    /// RAM, from guest-physical address 0.
    pub ram: Vec<u8>,
    /// Ports.
    pub ports: Box<dyn Ports>,
    /// Every port access made: port, size, value, and whether it was an OUT.
    pub port_log: Vec<(u16, u8, u32, bool)>,
    /// Every change reported.
    pub changes: Vec<Change>,
    /// The time-stamp counter; each read adds 1000.
    pub tsc: u64,
    /// Leaves of CPUID that are not those of the plain 32-bit CPU.
    pub cpuid: Vec<(u32, [u32; 4])>,
    /// A read or write of this guest-physical page is [`MachineStop::IoPending`].
    pub pending_page: Option<u64>,
    /// RAM is plain memory ([`Machine::is_plain`]): steps may do several iterations.
    pub plain: bool,
    /// Instructions may follow one another ([`Machine::goes_on`]).
    pub goes_on: bool,
    /// Reads and writes of guest-physical memory made so far.
    pub accesses: u64,
}

impl TestMachine {
    /// A machine with `ram` bytes of RAM and empty ports.
    #[must_use]
    pub fn new(ram: usize) -> Self {
        Self {
            ram: vec![0; ram],
            ports: Box::new(NoPorts),
            port_log: Vec::new(),
            changes: Vec::new(),
            tsc: 0,
            cpuid: Vec::new(),
            pending_page: None,
            plain: false,
            goes_on: false,
            accesses: 0,
        }
    }

    /// Copies `bytes` to guest-physical address `at`.
    pub fn poke(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.ram[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The `len` bytes at guest-physical address `at`.
    #[must_use]
    pub fn peek(&self, at: u64, len: usize) -> &[u8] {
        &self.ram[at as usize..at as usize + len]
    }

    /// Stores a 32-bit number.
    pub fn poke32(&mut self, at: u64, value: u32) {
        self.poke(at, &value.to_le_bytes());
    }

    /// Loads a 32-bit number.
    #[must_use]
    pub fn peek32(&self, at: u64) -> u32 {
        let mut b = [0; 4];
        b.copy_from_slice(self.peek(at, 4));
        u32::from_le_bytes(b)
    }

    /// A paging-structure entry of `size` (4 or 8) bytes; all ones outside memory.
    fn entry(&self, at: u64, size: u64) -> u64 {
        if (at as usize).saturating_add(size as usize) > self.ram.len() {
            return u64::MAX >> (64 - size * 8);
        }
        let mut b = [0; 8];
        b[..size as usize].copy_from_slice(self.peek(at, size as usize));
        u64::from_le_bytes(b)
    }

    fn set_entry(&mut self, at: u64, size: u64, value: u64) {
        if (at as usize).saturating_add(size as usize) <= self.ram.len() {
            self.poke(at, &value.to_le_bytes()[..size as usize]);
        }
    }

    /// The walk of the mode that CR4 and EFER make (SDM vol. 3 §4.3 to §4.5), with pages of every size. Entries are read from
    /// memory each time, those that CR3 points to with PAE included. Reserved are, of the wide entries, the bits beyond 40 of the
    /// address, those within the frame of a large page, NX without EFER.NXE, and PS in a PML4 entry.
    fn walk(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        let user = access.privilege == Privilege::User;
        let write = access.kind == AccessKind::Write;
        let wide = cpu.cr4.contains(Cr4::PAE);
        let long = cpu.efer.contains(Efer::LMA);
        let nx = wide && cpu.efer.contains(Efer::NXE);
        if long && !crate::exec::canonical(la.0) {
            return Err(MachineStop::Fault(Exception::gp(0)));
        }
        let mut code = PageFaultCode::empty();
        code.set(PageFaultCode::W, write);
        code.set(PageFaultCode::U, user);
        code.set(PageFaultCode::I, access.kind == AccessKind::Fetch && (cpu.cr4.contains(Cr4::SMEP) || nx));
        let fault = |code| Err(MachineStop::Fault(Exception::page_fault(code, la.0)));

        let (levels, bits, size) = match (long, wide) {
            (true, _) => (4u32, 9u32, 8u64),
            (false, true) => (3, 9, 8),
            (false, false) => (2, 10, 4),
        };
        let address = if wide { 0xff_ffff_f000 } else { 0xffff_f000u64 };
        let mut table = match (long, wide) {
            (false, true) => cpu.cr3 & 0xffff_ffe0,
            (false, false) => cpu.cr3 & 0xffff_f000,
            (true, _) => cpu.cr3 & address,
        };
        let (mut rights, mut no_execute) = (6, false);
        let mut passed = Vec::new();
        let mut level = levels;
        let (entry, page) = loop {
            let shift = 12 + bits * (level - 1);
            let index = la.0 >> shift & ((1 << bits) - 1);
            // The four entries of PAE have two bits of the address, and no rights.
            let top_of_pae = levels == 3 && level == 3;
            let at = table + (if top_of_pae { index & 3 } else { index }) * size;
            let entry = self.entry(at, size);
            if entry & 1 == 0 {
                return fault(code);
            }
            let large = match level {
                2 => entry & 0x80 != 0 && (wide || cpu.cr4.contains(Cr4::PSE)),
                3 => entry & 0x80 != 0 && long,
                _ => false,
            };
            let page = 1u64 << shift;
            let within = if large { (page - 1) & address & !0x1000 } else { 0 };
            let reserved = match size {
                8 => {
                    let not_enabled = if nx && !top_of_pae { 0 } else { 1 << 63 };
                    let in_pml4 = if level == 4 { 0x80 } else { 0 };
                    entry & (0x000f_ff00_0000_0000 | within | not_enabled | in_pml4) != 0
                }
                _ => false,
            };
            if reserved {
                return fault(code | PageFaultCode::P | PageFaultCode::RSVD);
            }
            if !top_of_pae {
                rights &= entry;
                no_execute |= entry >> 63 != 0 && size == 8;
                passed.push((at, entry));
            }
            if large || level == 1 {
                break (entry, page);
            }
            table = entry & address;
            level -= 1;
        };
        code |= PageFaultCode::P;
        let (is_user, writable) = (rights & 4 != 0, rights & 2 != 0);
        let smap = cpu.cr4.contains(Cr4::SMAP)
            && !(access.privilege == Privilege::Supervisor && cpu.rflags.contains(Rflags::AC));
        let denied = match access.kind {
            _ if user && !is_user => true,
            AccessKind::Write if !writable && (user || cpu.cr0.contains(Cr0::WP)) => true,
            AccessKind::Fetch => no_execute || (!user && is_user && cpu.cr4.contains(Cr4::SMEP)),
            _ => !user && is_user && smap,
        };
        if denied {
            return fault(code);
        }
        let last = passed.len().saturating_sub(1);
        for (i, (at, entry)) in passed.into_iter().enumerate() {
            self.set_entry(at, size, entry | 0x20 | if write && i == last { 0x40 } else { 0 });
        }
        Ok(Gpa((entry & address & !(page - 1)) | la.0 & (page - 1)))
    }

    fn pending(&self, gpa: Gpa) -> bool {
        self.pending_page.is_some_and(|page| page & !0xfff == gpa.page().0)
    }
}

impl Machine for TestMachine {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        if cpu.paging() {
            self.walk(cpu, la, access)
        } else {
            Ok(Gpa(la.0))
        }
    }

    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        self.accesses += 1;
        if self.pending(gpa) {
            return Err(MachineStop::IoPending);
        }
        for (i, b) in buf.iter_mut().enumerate() {
            *b = self.ram.get(gpa.0.wrapping_add(i as u64) as usize).copied().unwrap_or(0xff);
        }
        Ok(())
    }

    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        self.accesses += 1;
        if self.pending(gpa) {
            return Err(MachineStop::IoPending);
        }
        for (i, b) in data.iter().enumerate() {
            if let Some(slot) = self.ram.get_mut(gpa.0.wrapping_add(i as u64) as usize) {
                *slot = *b;
            }
        }
        Ok(())
    }

    fn is_plain(&mut self, gpa: Gpa, _: AccessKind) -> Result<bool, MachineStop> {
        Ok(self.plain && !self.pending(gpa) && gpa.page().0.saturating_add(PAGE_SIZE) <= self.ram.len() as u64)
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, MachineStop> {
        let value = self.ports.port_in(port, size);
        self.port_log.push((port, size, value, false));
        Ok(value)
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), MachineStop> {
        self.ports.port_out(port, size, value);
        self.port_log.push((port, size, value, true));
        Ok(())
    }

    fn cpuid(&mut self, _: &VcpuState, leaf: u32, _: u32) -> [u32; 4] {
        if let Some((_, registers)) = self.cpuid.iter().find(|(l, _)| *l == leaf) {
            return *registers;
        }
        match leaf {
            0 => [1, u32::from_le_bytes(*b"rvmm"), u32::from_le_bytes(*b"test"), u32::from_le_bytes(*b"ing ")],
            // FPU, VME, DE, PSE, TSC, MSR, CX8, SEP, PGE, CMOV.
            1 => [0x0000_0611, 0, 0, 0x0000_a93f],
            _ => [0; 4],
        }
    }

    fn rdtsc(&mut self, _: &VcpuState) -> u64 {
        self.tsc += 1000;
        self.tsc
    }

    fn changed(&mut self, _: &VcpuState, change: Change) {
        self.changes.push(change);
    }

    fn goes_on(&mut self, _: &VcpuState) -> bool {
        self.goes_on
    }
}

/// A virtual CPU in flat 32-bit protected mode, paging off, at `eip` with stack pointer `esp`: CS 8, data 10h, ring 0.
#[must_use]
pub fn flat32(eip: u32, esp: u32) -> VcpuState {
    let mut cpu = VcpuState::reset();
    cpu.cr0 |= Cr0::PE | Cr0::ET | Cr0::NE;
    cpu.rip = eip.into();
    cpu.gpr[rvmm_arch::regs::gpr::RSP] = esp.into();
    let data = Segment::from_descriptor(Selector(0x10), Descriptor(0x00cf_9300_0000_ffff));
    for seg in SegReg::ALL {
        *cpu.segment_mut(seg) = data;
    }
    *cpu.segment_mut(SegReg::Cs) = Segment::from_descriptor(Selector(8), Descriptor(0x00cf_9b00_0000_ffff));
    cpu
}

/// The same in flat 16-bit protected mode: 64 KiB segments with base 0.
#[must_use]
pub fn flat16(ip: u16, sp: u16) -> VcpuState {
    let mut cpu = flat32(ip.into(), sp.into());
    for seg in SegReg::ALL {
        let s = cpu.segment_mut(seg);
        s.attrs &= !0xc000;
        s.limit = 0xffff;
    }
    cpu
}

/// A virtual CPU in 64-bit mode, ring 0. Paging is formally off, so that no tables are needed.
#[must_use]
pub fn flat64(rip: u64, rsp: u64) -> VcpuState {
    let mut cpu = flat32(0, 0);
    cpu.rip = rip;
    cpu.gpr[rvmm_arch::regs::gpr::RSP] = rsp;
    cpu.efer = Efer::LME | Efer::LMA;
    *cpu.segment_mut(SegReg::Cs) = Segment::from_descriptor(Selector(8), Descriptor(0x00af_9b00_0000_ffff));
    cpu
}
