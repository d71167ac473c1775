//! A small world in long mode: descriptor tables in the upper half, a GDT with one of everything, a TSS with an IST.
//!
//! Memory repeats every 256 KiB, so that every canonical address is there; the accesses made tell which one was meant.

use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{gpr, Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{Exception, Gpa, Gva, PageFaultCode, VcpuState, Vector};
use rvmm_interp::{deliver, step, Delivered, Step};
use std::collections::{HashMap, HashSet};

/// Bytes of memory before it repeats.
const MEMORY: u64 = 0x4_0000;
/// Where the kernel's half begins.
pub const HIGH: u64 = 0xffff_8000_0000_0000;
pub const GDT: u64 = HIGH + 0x1000;
pub const IDT: u64 = HIGH + 0x2000;
pub const LDT: u64 = HIGH + 0x3000;
pub const TSS: u64 = HIGH + 0x4000;
/// Handlers are entered here.
pub const HANDLER: u64 = HIGH + 0x6000;
/// Code of ring 0.
pub const CODE: u64 = HIGH + 0x8000;
/// Code of 64-bit programs.
pub const USER: u64 = 0x7fff_0000_9000;
/// Code of 32-bit programs, and of ring 0 in compatibility mode.
pub const USER32: u64 = 0xf000_a000;
pub const STACK0: u64 = HIGH + 0x1_0000;
/// IST1, not aligned.
pub const IST1: u64 = HIGH + 0x1_2008;
pub const USER_STACK: u64 = 0x7fff_0001_4000;
pub const USER32_STACK: u64 = 0xf001_6000;
/// Free memory.
pub const DATA: u64 = HIGH + 0x1_8000;
/// Outside both halves.
pub const NOWHERE: u64 = 0x8000_0000_0000;

/// Selectors of [`World::new`]'s GDT.
pub mod sel {
    pub const CODE0: u16 = 0x08;
    pub const DATA0: u16 = 0x10;
    /// 32-bit code, DPL 3.
    pub const COMPAT3: u16 = 0x1b;
    pub const DATA3: u16 = 0x23;
    pub const CODE3: u16 = 0x2b;
    /// 32-bit code, DPL 0.
    pub const COMPAT0: u16 = 0x30;
    /// 16 bytes.
    pub const TSS: u16 = 0x38;
    /// 16 bytes.
    pub const LDT: u16 = 0x48;
    /// L and D set.
    pub const BOTH0: u16 = 0x58;
    /// Conforming 64-bit code, DPL 0.
    pub const CONF0: u16 = 0x60;
    /// 64-bit code, DPL 0, not present.
    pub const CODE0_NP: u16 = 0x68;
    /// An available TSS, 16 bytes.
    pub const TSS2: u16 = 0x70;
    /// A 16-bit stack, DPL 3.
    pub const STACK16: u16 = 0x83;
    /// Data, DPL 3, not present.
    pub const DATA3_NP: u16 = 0x8b;
    /// 32-bit code, DPL 3, limit 0xfff.
    pub const SHORT3: u16 = 0x93;
    /// L and D set, DPL 3.
    pub const BOTH3: u16 = 0x9b;
    /// 64-bit code, DPL 3, not present.
    pub const CODE3_NP: u16 = 0xa3;
    /// Free for the test, 16 bytes; the last of the table.
    pub const FREE: u16 = 0xa8;
    pub const OUTSIDE: u16 = 0xb8;
}

pub struct Mach {
    pub ram: Vec<u8>,
    /// Linear pages that are not present.
    pub absent: HashSet<u64>,
    pub accesses: Vec<(u64, Access)>,
    pub changes: Vec<Change>,
    pub cpuid: HashMap<u32, [u32; 4]>,
}

impl Machine for Mach {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        assert!(la.0 >> 47 == 0 || la.0 >> 47 == 0x1_ffff, "{la:?} is not canonical");
        assert!(cpu.paging() || la.0 >> 32 == 0);
        self.accesses.push((la.0, access));
        if self.absent.contains(&(la.0 >> 12)) {
            let mut code = PageFaultCode::empty();
            code.set(PageFaultCode::W, access.kind == AccessKind::Write);
            code.set(PageFaultCode::U, access.privilege == Privilege::User);
            return Err(MachineStop::Fault(Exception::page_fault(code, la.0)));
        }
        Ok(Gpa(la.0 % MEMORY))
    }

    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        let at = gpa.0 as usize;
        buf.copy_from_slice(&self.ram[at..at + buf.len()]);
        Ok(())
    }

    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        let at = gpa.0 as usize;
        self.ram[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn port_in(&mut self, _: u16, _: u8) -> Result<u32, MachineStop> {
        Ok(0)
    }

    fn port_out(&mut self, _: u16, _: u8, _: u32) -> Result<(), MachineStop> {
        Ok(())
    }

    fn cpuid(&mut self, _: &VcpuState, leaf: u32, _: u32) -> [u32; 4] {
        self.cpuid.get(&leaf).copied().unwrap_or_default()
    }

    fn rdtsc(&mut self, _: &VcpuState) -> u64 {
        0
    }

    fn changed(&mut self, _: &VcpuState, change: Change) {
        self.changes.push(change);
    }
}

pub struct World {
    pub cpu: VcpuState,
    pub m: Mach,
}

/// Where code runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    Kernel,
    /// Ring 0 in compatibility mode.
    Kernel32,
    User,
    User32,
}

/// A segment descriptor: the byte with P, DPL, S and type; G, D/B, L and AVL in `flags`.
pub const fn desc(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    (limit as u64 & 0xffff)
        | (base as u64 & 0xff_ffff) << 16
        | (access as u64) << 40
        | (limit as u64 & 0xf_0000) << 32
        | (flags as u64) << 52
        | (base as u64 & 0xff00_0000) << 32
}

/// Both halves of the descriptor of an LDT or a TSS.
pub const fn system(base: u64, limit: u32, access: u8) -> [u64; 2] {
    [desc(base as u32, limit, access, 0), base >> 32]
}

/// Both halves of a gate: `access` is the byte with P, DPL and type.
pub const fn gate(selector: u16, offset: u64, access: u8, ist: u8) -> [u64; 2] {
    let low = (offset & 0xffff)
        | (selector as u64) << 16
        | (ist as u64) << 32
        | (access as u64) << 40
        | (offset & 0xffff_0000) << 32;
    [low, offset >> 32]
}

const FLAT: u32 = 0xf_ffff;

impl World {
    /// Ring 0, 64-bit mode, at [`CODE`] with the stack at [`STACK0`].
    pub fn new() -> Self {
        Self::at(At::Kernel)
    }

    pub fn at(at: At) -> Self {
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::ET | Cr0::NE;
        cpu.cr4 = Cr4::PAE;
        cpu.efer = Efer::LME | Efer::LMA | Efer::SCE;
        cpu.gdtr = TableRegister { base: GDT, limit: sel::OUTSIDE - 1 };
        cpu.idtr = TableRegister { base: IDT, limit: 0xfff };
        let m = Mach {
            ram: vec![0; MEMORY as usize],
            absent: HashSet::new(),
            accesses: Vec::new(),
            changes: Vec::new(),
            cpuid: HashMap::from([
                (0, [0xd, u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ntel"), u32::from_le_bytes(*b"ineI")]),
                // XSAVE; FPU to CX8, SEP, PGE, PAT, FXSR, SSE, SSE2.
                (1, [0x6f0, 0, 1 << 26, 0x0701_29ff]),
                // FSGSBASE.
                (7, [0, 1, 0, 0]),
                (0xd, [0xe7, 0, 0, 0]),
                (0x8000_0000, [0x8000_0008, 0, 0, 0]),
                // SYSCALL, NX, RDTSCP, LM.
                (0x8000_0001, [0, 0, 0, 0x2810_0800]),
                (0x8000_0008, [0x3028, 0, 0, 0]),
            ]),
        };
        let mut w = Self { cpu, m };
        for (selector, raw) in [
            (sel::CODE0, desc(0, FLAT, 0x9b, 0xa)),
            (sel::DATA0, desc(0, FLAT, 0x93, 0xc)),
            (sel::COMPAT3, desc(0, FLAT, 0xfb, 0xc)),
            (sel::DATA3, desc(0, FLAT, 0xf3, 0xc)),
            (sel::CODE3, desc(0, FLAT, 0xfb, 0xa)),
            (sel::COMPAT0, desc(0, FLAT, 0x9b, 0xc)),
            (sel::BOTH0, desc(0, FLAT, 0x9b, 0xe)),
            (sel::CONF0, desc(0, FLAT, 0x9f, 0xa)),
            (sel::CODE0_NP, desc(0, FLAT, 0x1b, 0xa)),
            (sel::STACK16, desc(0, 0xffff, 0xf3, 0)),
            (sel::DATA3_NP, desc(0, FLAT, 0x73, 0xc)),
            (sel::SHORT3, desc(0, 0xfff, 0xfb, 4)),
            (sel::BOTH3, desc(0, FLAT, 0xfb, 0xe)),
            (sel::CODE3_NP, desc(0, FLAT, 0x7b, 0xa)),
        ] {
            w.poke(GDT + u64::from(selector & !7), raw);
        }
        w.set_system(sel::TSS, system(TSS, 0x67, 0x8b));
        w.set_system(sel::LDT, system(LDT, 0xff, 0x82));
        w.set_system(sel::TSS2, system(DATA, 0x67, 0x89));
        w.poke(TSS + 4, STACK0);
        w.poke(TSS + 0x24, IST1);
        w.poke(TSS + 0x60, 0x68 << 48);
        w.cpu.tr = Segment { selector: Selector(sel::TSS), base: TSS, limit: 0x67, attrs: 0x8b };
        w.cpu.ldtr = Segment { selector: Selector(sel::LDT), base: LDT, limit: 0xff, attrs: 0x82 };
        for vector in 0..=255 {
            w.set_gate(vector, gate(sel::CODE0, HANDLER + u64::from(vector), 0x8e, 0));
        }
        w.go(at);
        w
    }

    /// Goes there without asking.
    pub fn go(&mut self, at: At) {
        let (cs, ds, rip, rsp) = match at {
            At::Kernel => (sel::CODE0, sel::DATA0, CODE, STACK0),
            At::Kernel32 => (sel::COMPAT0, sel::DATA0, USER32, USER32_STACK),
            At::User => (sel::CODE3, sel::DATA3, USER, USER_STACK),
            At::User32 => (sel::COMPAT3, sel::DATA3, USER32, USER32_STACK),
        };
        for reg in SegReg::ALL {
            self.force(reg, if reg == SegReg::Cs { cs } else { ds });
        }
        self.cpu.cpl = (cs & 3) as u8;
        self.cpu.rip = rip;
        self.cpu.gpr[gpr::RSP] = rsp;
    }

    /// Loads a segment register with whatever the GDT has, unchecked.
    pub fn force(&mut self, reg: SegReg, selector: u16) {
        let raw = self.peek(GDT + u64::from(selector & !7));
        *self.cpu.segment_mut(reg) = Segment::from_descriptor(Selector(selector), Descriptor(raw));
    }

    pub fn set_system(&mut self, selector: u16, [low, high]: [u64; 2]) {
        self.poke(GDT + u64::from(selector & !7), low);
        self.poke(GDT + u64::from(selector & !7) + 8, high);
    }

    pub fn set_gate(&mut self, vector: u8, [low, high]: [u64; 2]) {
        self.poke(IDT + u64::from(vector) * 16, low);
        self.poke(IDT + u64::from(vector) * 16 + 8, high);
    }

    pub fn amd(&mut self) {
        let [eax, ..] = self.m.cpuid[&0];
        let name = [*b"Auth", *b"cAMD", *b"enti"].map(u32::from_le_bytes);
        self.m.cpuid.insert(0, [eax, name[0], name[1], name[2]]);
    }

    pub fn peek(&self, at: u64) -> u64 {
        let at = (at % MEMORY) as usize;
        u64::from_le_bytes(self.m.ram[at..at + 8].try_into().unwrap())
    }

    pub fn poke(&mut self, at: u64, value: u64) {
        self.poke_bytes(at, &value.to_le_bytes());
    }

    pub fn poke_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (i, b) in bytes.iter().enumerate() {
            self.m.ram[((at.wrapping_add(i as u64)) % MEMORY) as usize] = *b;
        }
    }

    /// Puts values on the stack as if pushed in this order, each of `size` bytes.
    pub fn push(&mut self, size: u64, values: &[u64]) {
        for value in values {
            self.cpu.gpr[gpr::RSP] -= size;
            self.poke_bytes(self.rsp(), &value.to_le_bytes()[..size as usize]);
        }
    }

    /// The quadwords on top of the stack.
    pub fn top(&self, n: u64) -> Vec<u64> {
        (0..n).map(|i| self.peek(self.rsp() + i * 8)).collect()
    }

    pub fn rsp(&self) -> u64 {
        self.cpu.gpr[gpr::RSP]
    }

    pub fn selector(&self, reg: SegReg) -> u16 {
        self.cpu.segment(reg).selector.0
    }

    pub fn flags(&self) -> u64 {
        self.cpu.rflags.bits()
    }

    pub fn set_flags(&mut self, flags: u64) {
        self.cpu.rflags = Rflags::from_bits_retain(flags);
    }

    /// CPL, CS, RIP, SS, RSP.
    pub fn place(&self) -> (u8, u16, u64, u16, u64) {
        (self.cpu.cpl, self.selector(SegReg::Cs), self.cpu.rip, self.selector(SegReg::Ss), self.rsp())
    }

    /// Executes one instruction put at CS:RIP.
    pub fn run(&mut self, code: &[u8]) -> Step {
        let at = self.cpu.linear_rip();
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

    pub fn deliver(&mut self, event: Event) -> Delivered {
        deliver(&mut self.cpu, &mut self.m, event).unwrap()
    }

    /// Was this linear address among those accessed?
    pub fn touched(&self, la: u64) -> bool {
        self.m.accesses.iter().any(|(at, _)| *at == la)
    }
}

/// An external interrupt.
pub fn external(vector: u8) -> Event {
    Event { vector: Vector(vector), error: None, payload: 0, source: EventSource::External }
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
