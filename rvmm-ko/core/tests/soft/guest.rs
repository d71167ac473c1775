//! Loads and runs a micro-guest on the engine over the soft host, with the least of devices: a serial port and
//! isa-debug-exit.

use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Gpa, VcpuState};
use rvmm_core::io::IoAccess;
use rvmm_core::{ClientExit, Options, RunRequest, Vcpu};

use super::SoftHost;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Port 0x501 was written.
    Status(u32),
    /// Something else.
    Exit(ClientExit),
    /// Too many returns to the client.
    Timeout,
}

pub struct Guest {
    pub host: SoftHost,
    pub vcpu: Vcpu,
    pub serial: String,
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
        let mut host = SoftHost::new(ram);
        let vcpu = Vcpu::new(&mut host, options).unwrap();
        Self { host, vcpu, serial: String::new() }
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
        for _ in 0..returns {
            match self.vcpu.run(&mut self.host, RunRequest::default()) {
                ClientExit::Io(IoAccess::PortOut { port: 0x3f8, value, .. }) => {
                    self.serial.push(char::from(value as u8));
                    self.vcpu.complete_io(0);
                }
                ClientExit::Io(IoAccess::PortOut { port: 0x501, value, .. }) => return End::Status(value),
                ClientExit::Io(IoAccess::PortIn { port: 0x3fd, .. }) => self.vcpu.complete_io(0x60),
                ClientExit::Io(IoAccess::PortIn { .. } | IoAccess::MmioRead { .. }) => {
                    self.vcpu.complete_io(u64::MAX);
                }
                ClientExit::Io(_) => self.vcpu.complete_io(0),
                ClientExit::Interrupted => {}
                exit => return End::Exit(exit),
            }
        }
        End::Timeout
    }
}
