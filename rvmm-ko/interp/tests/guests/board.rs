//! A machine on the interpreter alone: RAM, devices, a virtual clock that counts instructions.

use crate::devices::Devices;
use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::machine::{Access, Change, Machine, MachineStop};
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::vcpu::Activity;
use rvmm_arch::{Gpa, Gva, VcpuState, Vector};
use rvmm_interp::testing::{flat32, TestMachine};
use rvmm_interp::{deliver, step_cached, Decoded, Delivered, Step, Unsupported};

/// Steps per tick of the 8254 (1.19 MHz): a CPU of some 10 MIPS.
const STEPS_PER_TICK: u64 = 8;
/// Cycles of the time-stamp counter per step.
const CYCLES_PER_STEP: u64 = 100;

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By the exit port.
    Exit(u8),
    /// A triple fault, or a reset it asked for.
    Reset,
    /// Not by itself: the budget of steps is used up, or HLT that no interrupt ends.
    Never,
    /// The interpreter does not have an instruction.
    Unsupported(Unsupported, u64),
}

pub struct Board {
    memory: TestMachine,
    pub devices: Devices,
    pub steps: u64,
    processor: Processor,
}

/// The CPU that a guest is to see: `bits` and `vendor` of tests/guests/list.cfg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Processor {
    /// A Pentium III without APIC, PAE, MTRRs, machine checks.
    Bits32,
    /// The same with virtual-8086 mode extensions.
    Vme,
    /// The same as the first with PAE and NX.
    Pae,
    /// A plain 64-bit CPU of this vendor.
    Bits64(&'static [u8; 12]),
}

impl Processor {
    fn cpuid(self, leaf: u32) -> [u32; 4] {
        const FEATURES: u32 = 0x0780_a939;
        let vendor = match self {
            Self::Bits64(vendor) => vendor,
            Self::Bits32 | Self::Vme | Self::Pae => b"GenuineIntel",
        };
        let word = |at: usize| u32::from_le_bytes([vendor[at], vendor[at + 1], vendor[at + 2], vendor[at + 3]]);
        let highest = if matches!(self, Self::Bits64(_)) { 7 } else { 2 };
        match (self, leaf) {
            (_, 0) => [highest, word(0), word(8), word(4)],
            (Self::Bits32, 1) => [0x0000_0673, 0, 0, FEATURES],
            (Self::Vme, 1) => [0x0000_0673, 0, 0, FEATURES | 1 << 1],
            (Self::Pae, 1) => [0x0000_0673, 0, 0, FEATURES | 1 << 6],
            (Self::Pae, 0x8000_0000) => [0x8000_0001, 0, 0, 0],
            (Self::Pae, 0x8000_0001) => [0, 0, 0, 1 << 20],
            // SSE3 and CX16; PAE and CLFLUSH.
            (Self::Bits64(_), 1) => [0x6f1, 8 << 8, 1 << 0 | 1 << 13, FEATURES | 1 << 6 | 1 << 19],
            // FSGSBASE.
            (Self::Bits64(_), 7) => [0, 1 << 0, 0, 0],
            (Self::Bits64(_), 0x8000_0000) => [0x8000_0008, 0, 0, 0],
            // LAHF in 64-bit mode; SYSCALL, NX, pages of 1 GiB, long mode.
            (Self::Bits64(_), 0x8000_0001) => [0, 0, 1 << 0, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29],
            (Self::Bits64(_), 0x8000_0008) => [48 << 8 | 40, 0, 0, 0],
            _ => [0; 4],
        }
    }
}

impl Machine for Board {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        self.memory.translate(cpu, la, access)
    }
    fn read(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        self.memory.read(gpa, buf)
    }
    fn write(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        self.memory.write(gpa, data)
    }
    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, MachineStop> {
        Ok(self.devices.read(port, size))
    }
    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), MachineStop> {
        self.devices.write(port, size, value);
        Ok(())
    }
    fn cpuid(&mut self, _: &VcpuState, leaf: u32, _: u32) -> [u32; 4] {
        self.processor.cpuid(leaf)
    }
    fn rdtsc(&mut self, cpu: &VcpuState) -> u64 {
        self.steps.wrapping_mul(CYCLES_PER_STEP).wrapping_add(cpu.tsc_offset)
    }
    fn changed(&mut self, cpu: &VcpuState, change: Change) {
        self.memory.changed(cpu, change);
        self.memory.changes.clear();
    }
}

impl Board {
    /// Loads an ELF32 image as a multiboot loader does (see the multiboot specification, "Machine state").
    pub fn load(image: &[u8], memory: usize, processor: Processor) -> Result<(VcpuState, Self), String> {
        let u32_at = |at: usize| image.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let u16_at = |at: usize| image.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        if image.get(..5) != Some(&[0x7f, b'E', b'L', b'F', 1]) {
            return Err("not an ELF32 file".into());
        }
        let cut = || "the image is cut short".to_string();
        let mut ram = TestMachine::new(memory);
        let entry = u32_at(24).ok_or_else(cut)?;
        let table = u32_at(28).ok_or_else(cut)? as usize;
        for i in 0..usize::from(u16_at(44).ok_or_else(cut)?) {
            let header = table + i * usize::from(u16_at(42).ok_or_else(cut)?);
            let field = |n: usize| u32_at(header + n * 4).ok_or_else(cut);
            let (kind, offset, physical, size) = (field(0)?, field(1)? as usize, field(3)?, field(4)? as usize);
            if kind == 1 {
                let bytes = image.get(offset..offset + size).ok_or_else(cut)?;
                if physical as usize + field(5)? as usize > memory {
                    return Err("the image does not fit".into());
                }
                ram.poke(physical.into(), bytes);
            }
        }
        let mut cpu = flat32(entry, 0);
        cpu.gpr[0] = 0x2bad_b002;
        cpu.cr0 = Cr0::PE | Cr0::ET;
        Ok((cpu, Self { memory: ram, devices: Devices::default(), steps: 0, processor }))
    }

    /// Runs the guest for at most `budget` steps.
    pub fn run(&mut self, cpu: &mut VcpuState, budget: u64) -> End {
        // Small, so that slots are fought for; the guests that change their code would show a stale one.
        let mut cache = vec![Decoded::default(); 256];
        while self.steps < budget {
            if self.devices.interrupt() && cpu.interruptible() {
                if let Some(vector) = self.devices.acknowledge() {
                    let event =
                        Event { vector: Vector(vector), error: None, payload: 0, source: EventSource::External };
                    if deliver(cpu, self, event) == Ok(Delivered::Shutdown) {
                        return End::Reset;
                    }
                }
            }
            if cpu.activity == Activity::Halted {
                match self.devices.next_event() {
                    Some(ticks) if cpu.rflags.contains(Rflags::IF) => {
                        self.devices.pass(ticks);
                        self.steps += ticks * STEPS_PER_TICK;
                        continue;
                    }
                    _ => return End::Never,
                }
            }
            self.steps += 1;
            if self.steps % STEPS_PER_TICK == 0 {
                self.devices.pass(1);
            }
            match step_cached(cpu, self, &mut cache) {
                Step::Retired | Step::Halted => {}
                Step::Exception(e) => match deliver(cpu, self, e.into()) {
                    Ok(Delivered::Done) => {}
                    Ok(Delivered::Shutdown) => return End::Reset,
                    Err(_) => return End::Never,
                },
                Step::Shutdown => return End::Reset,
                Step::Unsupported(what) => return End::Unsupported(what, cpu.rip),
                Step::IoPending | Step::HostError => return End::Never,
            }
            if let Some(status) = self.devices.exit {
                return End::Exit(status & 0x7f);
            }
            if self.devices.reset {
                return End::Reset;
            }
        }
        End::Never
    }
}
