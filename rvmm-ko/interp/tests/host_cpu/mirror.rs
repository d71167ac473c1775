//! The interpreter's side: the same memory and tables, and one instruction in it.

use crate::native::{self, Ending, Mode, State, DATA, GS_BASE, WRITABLE};
use crate::tables::{GDT, LDT};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Exception, Gpa, Gva, PageFaultCode, VcpuState, Vector};
use rvmm_interp::{step, testing, Step};

/// The two tables, where no program can see them.
const GDT_AT: u64 = 0x1000_0000;
const LDT_AT: u64 = 0x1000_1000;
const TSS_AT: u64 = 0x1000_2000;

/// Memory as the interpreter sees it.
pub struct Mirror {
    pub code: Vec<u8>,
    /// The page that can be read behind it included.
    pub data: Vec<u8>,
}

impl Mirror {
    pub fn new(bytes: &[u8], free: bool, data: &[u8]) -> Self {
        let mut code = vec![native::filler(free); 0x1000];
        code[0x800..0x800 + bytes.len()].copy_from_slice(bytes);
        let mut data = data.to_vec();
        data.resize(WRITABLE + 0x1000, 0);
        Self { code, data }
    }
}

impl Machine for Mirror {
    fn translate(&mut self, _: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        let write = access.kind == AccessKind::Write;
        if access.privilege != Privilege::User {
            assert!((GDT_AT..TSS_AT + 0x1000).contains(&la.0), "a table at {la:?}");
            return Ok(Gpa(la.0));
        }
        let code = native::CODE..native::CODE + 0x1000;
        let end = DATA + WRITABLE as u64;
        let mut error = PageFaultCode::U;
        error.set(PageFaultCode::W, write);
        match la.0 {
            a if code.contains(&a) && !write => return Ok(Gpa(a)),
            a if (DATA..end).contains(&a) => return Ok(Gpa(a)),
            a if (end..end + 0x1000).contains(&a) && !write => return Ok(Gpa(a)),
            a if (end..end + 0x1000).contains(&a) => error |= PageFaultCode::P,
            _ => {}
        }
        Err(MachineStop::Fault(Exception::page_fault(error, la.0)))
    }
    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        let table =
            |table: &[u64], at: u64| table.get((at / 8) as usize).map_or(0, |d| d.to_le_bytes()[(at % 8) as usize]);
        for (i, b) in buf.iter_mut().enumerate() {
            let at = gpa.0 + i as u64;
            *b = match at {
                GDT_AT..LDT_AT => table(&GDT, at - GDT_AT),
                LDT_AT..TSS_AT => table(&LDT, at - LDT_AT),
                _ if at >= DATA => self.data[(at - DATA) as usize],
                _ if at >= native::CODE => self.code[(at - native::CODE) as usize],
                // No I/O bitmap within the limit of the TSS.
                _ => 0xff,
            };
        }
        Ok(())
    }
    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        let at = (gpa.0.checked_sub(DATA)).expect("tables have their accessed bits set") as usize;
        self.data[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn is_plain(&mut self, gpa: Gpa, _: AccessKind) -> Result<bool, MachineStop> {
        Ok(gpa.0 >= DATA)
    }
    fn port_in(&mut self, _: u16, _: u8) -> Result<u32, MachineStop> {
        panic!("no ports here")
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32) -> Result<(), MachineStop> {
        panic!("no ports here")
    }
    fn cpuid(&mut self, _: &VcpuState, leaf: u32, subleaf: u32) -> [u32; 4] {
        let r = std::arch::x86_64::__cpuid_count(leaf, subleaf);
        [r.eax, r.ebx, r.ecx, r.edx]
    }
    fn rdtsc(&mut self, _: &VcpuState) -> u64 {
        panic!("no time here")
    }
    fn changed(&mut self, _: &VcpuState, _: Change) {}
}

/// The virtual CPU in the state that the CPU is sent to.
pub fn cpu(mode: Mode, input: &State) -> VcpuState {
    let mut cpu = testing::flat64(input.rip, 0);
    cpu.cr0 |= Cr0::AM | Cr0::WP;
    cpu.cr4 |= Cr4::PAE;
    cpu.cpl = 3;
    cpu.gpr = input.gpr;
    cpu.rflags = Rflags::from_bits_retain(input.flags);
    for (i, seg) in SegReg::ALL.into_iter().enumerate() {
        let selector = Selector(input.seg[i]);
        *cpu.segment_mut(seg) = match native::descriptor(selector.0) {
            Some(d) => Segment::from_descriptor(selector, Descriptor(d)),
            None => Segment::null(selector),
        };
    }
    if mode == Mode::Bits64 {
        cpu.segment_mut(SegReg::Gs).base = GS_BASE;
    }
    let system = |base, limit, attrs| Segment { selector: Selector(0x40), base, limit, attrs };
    cpu.ldtr = system(LDT_AT, LDT.len() as u32 * 8 - 1, 0x82);
    cpu.tr = system(TSS_AT, 0x67, 0x8b);
    (cpu.gdtr.base, cpu.gdtr.limit) = (GDT_AT, 0x7f);
    (cpu.idtr.base, cpu.idtr.limit) = (TSS_AT, 0xfff);
    cpu
}

/// Interprets the instruction to its end; after a load of SS the one behind it too, as the CPU's single step does.
pub fn interpret(cpu: &mut VcpuState, m: &mut Mirror, string: bool) -> Result<Ending, String> {
    let start = cpu.rip;
    let mut iterations = 0;
    loop {
        let before = cpu.rip;
        match step(cpu, m) {
            Step::Retired if cpu.shadow == InterruptShadow::MovSs && before == start => {}
            Step::Retired if string && cpu.rip == start && iterations < 1000 => iterations += 1,
            Step::Retired => return Ok(Ending::Done),
            Step::Exception(e) if e.vector == Vector::DB && e.payload & 1 << 14 != 0 && e.payload & 0xf == 0 => {
                if !string || cpu.rip != start || iterations > 1000 {
                    return Ok(Ending::Done);
                }
                iterations += 1;
            }
            Step::Exception(e) => {
                let cr2 = if e.vector == Vector::PF { e.payload } else { 0 };
                return Ok(Ending::Fault { vector: e.vector.0, error: e.error.unwrap_or(0).into(), cr2 });
            }
            other => return Err(format!("{other:?}")),
        }
    }
}

/// What a program sees of the virtual CPU. Null selectors are 0: Linux's return to the program makes them that.
pub fn state(cpu: &VcpuState) -> State {
    let seg = SegReg::ALL.map(|s| cpu.segment(s).selector).map(|s| if s.is_null() { 0 } else { s.0 });
    State { gpr: cpu.gpr, rip: cpu.rip, flags: cpu.rflags.bits(), seg }
}
