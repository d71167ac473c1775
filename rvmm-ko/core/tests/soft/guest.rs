//! Loads and runs a micro-guest on the engine over the soft host, with the least of devices: a serial port and
//! isa-debug-exit.

use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gpa, VcpuState};
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::io::IoAccess;
use rvmm_core::{ClientExit, Options, RunRequest, Vcpu};
use rvmm_patcher::TacticSet;

use super::{audit, SoftHost};

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Port 0x501 was written.
    Status(u32),
    /// Something else.
    Exit(ClientExit),
    /// It went on for too long.
    Timeout,
}

pub struct Guest {
    pub host: SoftHost,
    pub vcpu: Vcpu,
    pub serial: String,
    /// An interrupt that the client raises whenever it has its thread back.
    pub irq: Option<u8>,
    next_irq: u64,
    open: bool,
    /// NMIs that came with it.
    pub nmis: u64,
    /// Times that it gets its thread back before it gives up.
    pub slices: u32,
}

/// The CPU that the bare emulator shows the guests: a Pentium III with SSE2 and without APIC, PAE and MTRR.
pub fn profile() -> Vec<CpuidEntry> {
    let leaf = |function, regs| CpuidEntry { function, regs, ..CpuidEntry::default() };
    let vendor = [b"Genu", b"ineI", b"ntel"].map(|part| u32::from_le_bytes(*part));
    vec![leaf(0, [2, vendor[0], vendor[2], vendor[1]]), leaf(1, [0x673, 0, 0, 0x0780_a939]), leaf(2, [1, 0, 0, 0])]
}

/// The 64-bit CPU that the bare emulator shows the guests.
pub fn profile64(vendor: &[u8; 12]) -> Vec<CpuidEntry> {
    let leaf = |function, regs| CpuidEntry { function, regs, ..CpuidEntry::default() };
    let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
    vec![
        leaf(0, [7, word(0), word(8), word(4)]),
        // SSE3 and CX16; the 32-bit CPU's features, PAE and CLFLUSH.
        leaf(1, [0x6f1, 8 << 8, 1 << 0 | 1 << 13, 0x0780_a939 | 1 << 6 | 1 << 19]),
        leaf(2, [1, 0, 0, 0]),
        // FSGSBASE.
        leaf(7, [0, 1 << 0, 0, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        // LAHF in 64-bit mode; SYSCALL, NX, pages of 1 GiB, long mode.
        leaf(0x8000_0001, [0, 0, 1 << 0, 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29]),
        leaf(0x8000_0008, [48 << 8 | 40, 0, 0, 0]),
    ]
}

/// A 32-bit CPU with PAE and NX.
pub fn profile_pae() -> Vec<CpuidEntry> {
    let leaf = |function, regs| CpuidEntry { function, regs, ..CpuidEntry::default() };
    let mut profile = profile();
    profile[1].regs[3] |= 1 << 6;
    profile.extend([leaf(0x8000_0000, [0x8000_0001, 0, 0, 0]), leaf(0x8000_0001, [0, 0, 0, 1 << 20])]);
    profile
}

/// Flat 32-bit protected mode at `entry`, as multiboot has it.
pub fn multiboot_state(entry: u64) -> VcpuState {
    let mut s = VcpuState::reset();
    s.rip = entry;
    s.rflags = Rflags::ONE;
    s.cr0 = Cr0::PE | Cr0::ET;
    for reg in SegReg::ALL {
        *s.segment_mut(reg) = Segment { selector: Selector(0x10), base: 0, limit: u32::MAX, attrs: 0xc093 };
    }
    *s.segment_mut(SegReg::Cs) = Segment { selector: Selector(8), base: 0, limit: u32::MAX, attrs: 0xc09b };
    s.gpr[0] = 0x2bad_b002;
    s
}

impl Guest {
    pub fn new(ram: usize, options: Options) -> Self {
        Self::with_cpu(SoftHost::new(ram), options, profile())
    }

    /// On a host made ready by the caller, with a CPU of the caller's choice.
    pub fn with_cpu(mut host: SoftHost, options: Options, cpuid: Vec<CpuidEntry>) -> Self {
        host.strict = !options.tactics.intersects(TacticSet::JUMP);
        host.cpuid.clone_from(&cpuid);
        let mut vcpu = Vcpu::new(&mut host, options).unwrap();
        vcpu.set_cpuid(&mut host, cpuid.into_iter()).unwrap();
        Self { host, vcpu, serial: String::new(), irq: None, next_irq: 0, open: false, nmis: 0, slices: 300 }
    }

    /// Loads an ELF32 image's segments to their physical addresses; its entry.
    pub fn load_elf(&mut self, image: &[u8]) -> u64 {
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        let half = |at: usize| u16::from_le_bytes(image[at..at + 2].try_into().unwrap()) as usize;
        assert_eq!(&image[..4], b"\x7fELF");
        let (phoff, phentsize, phnum) = (word(28), half(42), half(44));
        for i in 0..phnum {
            let ph = phoff + i * phentsize;
            if word(ph) == 1 {
                let (offset, paddr, filesz) = (word(ph + 4), word(ph + 12), word(ph + 16));
                self.host.ram[paddr..paddr + filesz].copy_from_slice(&image[offset..offset + filesz]);
            }
        }
        word(24) as u64
    }

    pub fn load_code(&mut self, at: Gpa, code: &[u8]) {
        let start = at.0 as usize;
        self.host.ram[start..start + code.len()].copy_from_slice(code);
    }

    pub fn start(&mut self, entry: u64) {
        self.vcpu.set_state(&mut self.host, multiboot_state(entry)).unwrap();
    }

    pub fn run(&mut self, returns: u32) -> End {
        let mut slices = 0;
        let mut exits = 0_u32;
        let mut divisor_latch = false;
        for _ in 0..returns {
            // Not at once again: the guest must get on in between.
            if let Some(vector) = self.irq.filter(|_| self.host.direct > self.next_irq) {
                self.next_irq = self.host.direct + 997;
                // An NMI as well, each time after the first that the guest took an interrupt, or could.
                let taken = self.vcpu.stats().get(Counter::InjectedInterrupts) != 0;
                if taken || self.vcpu.ready_for_interrupt() {
                    self.open = true;
                }
                if self.open {
                    // The handler of the last one has long returned, which opened NMIs again.
                    assert!(!self.vcpu.state().nmi_blocked);
                    self.vcpu.nmi();
                    self.nmis += 1;
                }
                self.vcpu.interrupt(vector);
            }
            let exit = self.vcpu.run(&mut self.host, RunRequest::default());
            exits += 1;
            if self.host.audit_due(exits) {
                audit::against_guest(&mut self.host, self.vcpu.state());
            }
            match exit {
                ClientExit::Io(IoAccess::PortOut { port: 0x3fb, value, .. }) => {
                    divisor_latch = value & 0x80 != 0;
                    self.vcpu.complete_io(0);
                }
                ClientExit::Io(IoAccess::PortOut { port: 0x3f8, value, .. }) => {
                    if !divisor_latch {
                        self.serial.push(char::from(value as u8));
                    }
                    self.vcpu.complete_io(0);
                }
                ClientExit::Io(IoAccess::PortOutString { port: 0x3f8, size: 1, count }) => {
                    let bytes = self.vcpu.io_string(count.into());
                    self.serial.extend(bytes.iter().copied().map(char::from));
                    self.vcpu.complete_io(0);
                }
                ClientExit::Io(IoAccess::PortOut { port: 0x501, value, .. }) => return End::Status(value),
                ClientExit::Io(IoAccess::PortIn { port: 0x3fd, .. }) => self.vcpu.complete_io(0x60),
                ClientExit::Io(IoAccess::PortIn { .. } | IoAccess::MmioRead { .. }) => {
                    self.vcpu.complete_io(u64::MAX);
                }
                ClientExit::Io(_) => self.vcpu.complete_io(0),
                // Nothing is held back.
                ClientExit::TaskPriority => {}
                ClientExit::Interrupted => {
                    slices += 1;
                    if slices > self.slices {
                        return End::Timeout;
                    }
                }
                exit => return End::Exit(exit),
            }
        }
        End::Timeout
    }
}
