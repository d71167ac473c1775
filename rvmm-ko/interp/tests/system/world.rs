//! A small world: identity-mapped memory with rights by page, a GDT with one of everything, an IDT, an LDT, a TSS.

use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{gpr, Cr0, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{Exception, Gpa, Gva, PageFaultCode, VcpuState, Vector};
use rvmm_interp::{deliver, step, Delivered, Step, Stop};
use std::collections::HashMap;

pub const GDT: u32 = 0x1000;
pub const IDT: u32 = 0x2000;
pub const LDT: u32 = 0x3000;
pub const TSS: u32 = 0x4000;
pub const CODE: u32 = 0x8000;
/// Top of the stack of ring 0, as the TSS has it.
pub const STACK0: u32 = 0x1_0000;
/// Top of the stack of ring 1.
pub const STACK1: u32 = 0x1_2000;
/// Top of the stack of ring 3.
pub const STACK3: u32 = 0x1_4000;
/// Free memory.
pub const DATA: u32 = 0x1_8000;

/// Selectors of [`World::new`]'s GDT.
pub mod sel {
    pub const CODE0: u16 = 0x08;
    pub const DATA0: u16 = 0x10;
    pub const CODE3: u16 = 0x1b;
    pub const DATA3: u16 = 0x23;
    pub const TSS: u16 = 0x28;
    pub const LDT: u16 = 0x30;
    /// Conforming, DPL 0.
    pub const CONF0: u16 = 0x38;
    /// Conforming, DPL 3.
    pub const CONF3: u16 = 0x40;
    pub const CODE1: u16 = 0x49;
    pub const DATA1: u16 = 0x51;
    /// Code, DPL 0, not present.
    pub const CODE0_NP: u16 = 0x58;
    /// Data, DPL 0, not present.
    pub const DATA0_NP: u16 = 0x60;
    /// Data, DPL 0, read-only.
    pub const RODATA0: u16 = 0x68;
    /// Code, DPL 0, execute-only.
    pub const XCODE0: u16 = 0x70;
    /// Code, DPL 0, limit 0xfff.
    pub const SHORT_CODE0: u16 = 0x78;
    /// 16-bit stack, DPL 0, limit 0xffff.
    pub const STACK16: u16 = 0x80;
    /// 16-bit stack, DPL 3, limit 0xffff.
    pub const STACK16_3: u16 = 0x8b;
    /// 16-bit code, DPL 0.
    pub const CODE16: u16 = 0x90;
    /// Data, DPL 3, not present.
    pub const DATA3_NP: u16 = 0x9b;
    /// Code, DPL 3, not present.
    pub const CODE3_NP: u16 = 0xa3;
    /// Another TSS, available.
    pub const TSS2: u16 = 0xa8;
    /// Free for the test.
    pub const FREE: u16 = 0xb0;
    /// Free for the test.
    pub const FREE2: u16 = 0xb8;
    /// Data, DPL 0, limit 0xff.
    pub const SHORT_DATA0: u16 = 0xc0;
    /// Outside the limit.
    pub const OUTSIDE: u16 = 0xc8;
}

/// Rights of a page that is not simply everyone's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    NotPresent,
    ReadOnly,
    SupervisorOnly,
}

/// The machine behind the CPU.
pub struct Mach {
    pub ram: Vec<u8>,
    pub pages: HashMap<u64, Page>,
    pub changes: Vec<Change>,
    /// Every translation asked for.
    pub accesses: Vec<(u64, Access)>,
    pub cpuid: HashMap<u32, [u32; 4]>,
    pub tsc: u64,
    /// Answers to IN; empty: the client has not answered yet.
    pub inputs: Vec<u32>,
    /// Port, size, value of each OUT; `None`: the client does not take it yet.
    pub outputs: Option<Vec<(u16, u8, u32)>>,
    /// Reads and writes of this page wait for the client.
    pub pending_page: Option<u64>,
}

impl Machine for Mach {
    fn translate(&mut self, _: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        assert!(la.0 >> 32 == 0, "linear address {la:?} is wider than 32 bits");
        self.accesses.push((la.0, access));
        let write = access.kind == AccessKind::Write;
        let user = access.privilege == Privilege::User;
        let mut code = PageFaultCode::empty();
        code.set(PageFaultCode::W, write);
        code.set(PageFaultCode::U, user);
        let denied = match self.pages.get(&(la.0 >> 12)) {
            None => false,
            Some(Page::NotPresent) => true,
            Some(Page::ReadOnly) => {
                code |= PageFaultCode::P;
                write
            }
            Some(Page::SupervisorOnly) => {
                code |= PageFaultCode::P;
                user
            }
        };
        if denied {
            return Err(MachineStop::Fault(Exception::page_fault(code, la.0)));
        }
        Ok(Gpa(la.0))
    }

    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        if self.pending_page == Some(gpa.0 >> 12) {
            return Err(MachineStop::IoPending);
        }
        let at = gpa.0 as usize;
        buf.copy_from_slice(&self.ram[at..at + buf.len()]);
        Ok(())
    }

    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        if self.pending_page == Some(gpa.0 >> 12) {
            return Err(MachineStop::IoPending);
        }
        let at = gpa.0 as usize;
        self.ram[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn port_in(&mut self, _: u16, _: u8) -> Result<u32, MachineStop> {
        self.inputs.pop().ok_or(MachineStop::IoPending)
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), MachineStop> {
        self.outputs.as_mut().ok_or(MachineStop::IoPending)?.push((port, size, value));
        Ok(())
    }

    fn cpuid(&mut self, _: &VcpuState, leaf: u32, _: u32) -> [u32; 4] {
        self.cpuid.get(&leaf).copied().unwrap_or_default()
    }

    fn rdtsc(&mut self, cpu: &VcpuState) -> u64 {
        self.tsc.wrapping_add(cpu.tsc_offset)
    }

    fn changed(&mut self, _: &VcpuState, change: Change) {
        self.changes.push(change);
    }
}

pub struct World {
    pub cpu: VcpuState,
    pub m: Mach,
}

/// A segment descriptor: `access` is the byte with P, DPL, S and type; `flags` holds G, D/B, L and AVL in bits 3 to 0.
pub const fn desc(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    (limit as u64 & 0xffff)
        | (base as u64 & 0xff_ffff) << 16
        | (access as u64) << 40
        | (limit as u64 & 0xf_0000) << 32
        | (flags as u64) << 52
        | (base as u64 & 0xff00_0000) << 32
}

/// A gate: `access` is the byte with P, DPL and type.
pub const fn gate(selector: u16, offset: u32, access: u8, parameters: u8) -> u64 {
    (offset as u64 & 0xffff)
        | (selector as u64) << 16
        | (parameters as u64) << 32
        | (access as u64) << 40
        | (offset as u64 & 0xffff_0000) << 32
}

const FLAT: u32 = 0xf_ffff;

impl World {
    /// Ring 0 in flat segments at [`CODE`] with the stack at [`STACK0`].
    pub fn new() -> Self {
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::ET | Cr0::NE;
        cpu.gdtr = TableRegister { base: GDT.into(), limit: sel::OUTSIDE - 1 };
        cpu.idtr = TableRegister { base: IDT.into(), limit: 0x7ff };
        let m = Mach {
            ram: vec![0; 0x4_0000],
            pages: HashMap::new(),
            changes: Vec::new(),
            accesses: Vec::new(),
            cpuid: HashMap::from([
                (0, [0xd, u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ntel"), u32::from_le_bytes(*b"ineI")]),
                // FPU, VME, DE, PSE, TSC, MSR, CX8, SEP, PGE, PAT, FXSR, SSE, SSE2.
                (1, [0x6f0, 0, 0, 0x0701_293f]),
                (0x8000_0000, [0x8000_0001, 0, 0, 0]),
            ]),
            tsc: 1_000_000,
            inputs: Vec::new(),
            outputs: Some(Vec::new()),
            pending_page: None,
        };
        let mut w = Self { cpu, m };
        for (selector, raw) in [
            (sel::CODE0, desc(0, FLAT, 0x9b, 0xc)),
            (sel::DATA0, desc(0, FLAT, 0x93, 0xc)),
            (sel::CODE3, desc(0, FLAT, 0xfb, 0xc)),
            (sel::DATA3, desc(0, FLAT, 0xf3, 0xc)),
            (sel::TSS, desc(TSS, 0x67, 0x8b, 0)),
            (sel::LDT, desc(LDT, 0xf, 0x82, 0)),
            (sel::CONF0, desc(0, FLAT, 0x9f, 0xc)),
            (sel::CONF3, desc(0, FLAT, 0xff, 0xc)),
            (sel::CODE1, desc(0, FLAT, 0xbb, 0xc)),
            (sel::DATA1, desc(0, FLAT, 0xb3, 0xc)),
            (sel::CODE0_NP, desc(0, FLAT, 0x1b, 0xc)),
            (sel::DATA0_NP, desc(0, FLAT, 0x13, 0xc)),
            (sel::RODATA0, desc(0, FLAT, 0x91, 0xc)),
            (sel::XCODE0, desc(0, FLAT, 0x99, 0xc)),
            (sel::SHORT_CODE0, desc(0, 0xfff, 0x9b, 0x4)),
            (sel::STACK16, desc(0, 0xffff, 0x93, 0)),
            (sel::STACK16_3, desc(0, 0xffff, 0xf3, 0)),
            (sel::CODE16, desc(0, 0xffff, 0x9b, 0)),
            (sel::DATA3_NP, desc(0, FLAT, 0x73, 0xc)),
            (sel::CODE3_NP, desc(0, FLAT, 0x7b, 0xc)),
            (sel::TSS2, desc(DATA, 0x67, 0x89, 0)),
            (sel::SHORT_DATA0, desc(0, 0xff, 0x93, 0x4)),
        ] {
            w.set_desc(selector, raw);
        }
        w.poke(TSS + 4, STACK0);
        w.poke(TSS + 8, sel::DATA0.into());
        w.poke(TSS + 12, STACK1);
        w.poke(TSS + 16, sel::DATA1.into());
        w.poke(TSS + 0x64, 0x68 << 16);
        w.cpu.tr = Segment { selector: Selector(sel::TSS), base: TSS.into(), limit: 0x67, attrs: 0x8b };
        w.cpu.ldtr = Segment { selector: Selector(sel::LDT), base: LDT.into(), limit: 0xf, attrs: 0x82 };
        w.ring(0);
        w
    }

    /// The same at CPL `ring` (0, 1 or 3), with that ring's stack and segments.
    pub fn at_ring(ring: u8) -> Self {
        let mut w = Self::new();
        w.ring(ring);
        w
    }

    /// Goes to a ring without asking.
    pub fn ring(&mut self, ring: u8) {
        let (cs, ds, esp) = match ring {
            0 => (sel::CODE0, sel::DATA0, STACK0),
            1 => (sel::CODE1, sel::DATA1, STACK1),
            3 => (sel::CODE3, sel::DATA3, STACK3),
            _ => panic!("no ring {ring} here"),
        };
        for reg in SegReg::ALL {
            self.force(reg, if reg == SegReg::Cs { cs } else { ds });
        }
        self.cpu.cpl = ring;
        self.cpu.rip = CODE.into();
        self.set_esp(esp);
    }

    /// Loads a segment register with whatever the GDT has, unchecked.
    pub fn force(&mut self, reg: SegReg, selector: u16) {
        let raw = self.desc(selector);
        *self.cpu.segment_mut(reg) = Segment::from_descriptor(Selector(selector), Descriptor(raw));
    }

    pub fn desc(&self, selector: u16) -> u64 {
        let base = if selector & 4 == 0 { GDT } else { LDT };
        let at = base + u32::from(selector & !7);
        u64::from(self.peek(at)) | u64::from(self.peek(at + 4)) << 32
    }

    pub fn set_desc(&mut self, selector: u16, raw: u64) {
        let base = if selector & 4 == 0 { GDT } else { LDT };
        self.poke_bytes(base + u32::from(selector & !7), &raw.to_le_bytes());
    }

    pub fn set_gate(&mut self, vector: u8, raw: u64) {
        self.poke_bytes(IDT + u32::from(vector) * 8, &raw.to_le_bytes());
    }

    pub fn peek(&self, at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(self.m.ram[at..at + 4].try_into().unwrap())
    }

    pub fn peek16(&self, at: u32) -> u16 {
        self.peek(at) as u16
    }

    pub fn poke(&mut self, at: u32, value: u32) {
        self.poke_bytes(at, &value.to_le_bytes());
    }

    pub fn poke_bytes(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        self.m.ram[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts values on the stack as if pushed in this order (the last one is on top), each of `size` bytes.
    pub fn push(&mut self, size: u32, values: &[u32]) {
        for value in values {
            let esp = self.esp() - size;
            self.poke_bytes(esp, &value.to_le_bytes()[..size as usize]);
            self.set_esp(esp);
        }
    }

    /// Puts words on a 16-bit stack as if pushed in this order.
    pub fn push_words(&mut self, words: &[u16]) {
        for word in words {
            let esp = self.esp();
            let sp = (esp as u16).wrapping_sub(2);
            self.set_esp(esp & 0xffff_0000 | u32::from(sp));
            self.poke_bytes(self.cpu.segment(SegReg::Ss).base as u32 + u32::from(sp), &word.to_le_bytes());
        }
    }

    pub fn esp(&self) -> u32 {
        self.cpu.gpr[gpr::RSP] as u32
    }

    pub fn set_esp(&mut self, value: u32) {
        self.cpu.gpr[gpr::RSP] = value.into();
    }

    pub fn eip(&self) -> u32 {
        self.cpu.rip as u32
    }

    pub fn set(&mut self, index: usize, value: u32) {
        self.cpu.gpr[index] = value.into();
    }

    pub fn get(&self, index: usize) -> u32 {
        assert!(self.cpu.gpr[index] >> 32 == 0);
        self.cpu.gpr[index] as u32
    }

    pub fn selector(&self, reg: SegReg) -> u16 {
        self.cpu.segment(reg).selector.0
    }

    pub fn flags(&self) -> Rflags {
        self.cpu.rflags
    }

    pub fn iopl(&mut self, iopl: u8) {
        self.cpu.rflags.remove(Rflags::IOPL);
        self.cpu.rflags |= Rflags::from_bits_retain(u64::from(iopl) << 12);
    }

    /// Announces a bit of CPUID: leaf, register (0 to 3), bit.
    pub fn announce(&mut self, leaf: u32, register: usize, bit: u32) {
        self.m.cpuid.entry(leaf).or_default()[register] |= 1 << bit;
    }

    /// Executes one instruction put at CS:EIP.
    pub fn run(&mut self, code: &[u8]) -> Step {
        let at = self.cpu.linear_rip() as u32;
        self.poke_bytes(at, code);
        step(&mut self.cpu, &mut self.m)
    }

    /// Executes an instruction that must retire.
    pub fn ok(&mut self, code: &[u8]) {
        let got = self.run(code);
        assert_eq!(got, Step::Retired, "{code:02x?}");
    }

    /// Executes an instruction that must fault with `expected` and change no register.
    pub fn faults(&mut self, code: &[u8], expected: Exception) {
        let before = self.cpu.clone();
        let got = self.run(code);
        assert_eq!(got, Step::Exception(expected), "{code:02x?}");
        assert_eq!(self.cpu, before, "{code:02x?} changed state");
    }

    /// Delivers an event that must get somewhere.
    pub fn deliver(&mut self, event: Event) -> Delivered {
        deliver(&mut self.cpu, &mut self.m, event).unwrap()
    }

    /// Delivers an event that must stop with `expected` and change nothing.
    pub fn deliver_stops(&mut self, event: Event, expected: Stop) {
        let before = self.cpu.clone();
        assert_eq!(deliver(&mut self.cpu, &mut self.m, event), Err(expected));
        assert_eq!(self.cpu, before);
    }
}

/// An external interrupt.
pub fn external(vector: u8) -> Event {
    Event { vector: Vector(vector), error: None, payload: 0, source: EventSource::External }
}

/// An exception as an event.
pub fn exception(e: Exception) -> Event {
    Event::from(e)
}

pub fn gp(code: u32) -> Exception {
    Exception::gp(code)
}

pub fn np(code: u32) -> Exception {
    Exception::with_code(Vector::NP, code)
}

pub fn ss(code: u32) -> Exception {
    Exception::with_code(Vector::SS, code)
}

pub fn ts(code: u32) -> Exception {
    Exception::with_code(Vector::TS, code)
}

pub fn ud() -> Exception {
    Exception::ud()
}

/// A selector as an error code.
pub fn code(selector: u16) -> u32 {
    u32::from(selector & !3)
}
