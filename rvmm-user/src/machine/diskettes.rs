//! The diskette controller, the DMA controllers that it needs, and what serves its media.
//!
//! As with disks, the media's answers are collected by the vCPU's thread alone; so is what DMA moves, since only accesses and answers
//! make it move.

use super::drives::Server;
use super::Machine;
use crate::devices::dma::Dma;
use crate::devices::dma8237::IsaDma;
use crate::devices::floppy::media::Diskette;
use crate::devices::floppy::Floppy;

/// First port of the controller; its offset 6 belongs to the primary IDE channel.
const FLOPPY: u16 = 0x3F0;
/// First ports of the DMA controllers, of bytes and of words, and of the page registers.
const DMA_LOW: u16 = 0x00;
const DMA_HIGH: u16 = 0xC0;
const PAGES: u16 = 0x80;

/// A diskette and what is behind it.
pub struct MountedDiskette {
    pub diskette: Diskette,
    pub server: Box<dyn Server>,
}

/// Controllers and media.
pub struct Diskettes {
    floppy: Floppy,
    isa: IsaDma,
    servers: [Option<Box<dyn Server>>; 2],
    /// Of each drive the type, as the CMOS memory has it; 0 for none.
    types: [u8; 2],
}

/// A register behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Floppy(u16),
    Low(u16),
    High(u16),
    Page(u16),
}

impl Diskettes {
    /// A controller with these drives. A drive without a diskette is not there.
    pub fn new(drives: [Option<MountedDiskette>; 2]) -> Diskettes {
        let types = std::array::from_fn(|index| {
            drives.get(index).and_then(Option::as_ref).map_or(0, |drive| drive.diskette.format.drive_type)
        });
        let [first, second] = drives.map(|drive| drive.map_or((None, None), |at| (Some(at.diskette), Some(at.server))));
        let floppy = Floppy::new([first.0.map(Some), second.0.map(Some), None, None]);
        Diskettes { floppy, isa: IsaDma::new(), servers: [first.1, second.1], types }
    }

    /// The types of the drives.
    pub fn types(&self) -> [u8; 2] {
        self.types
    }

    /// The reset line.
    pub fn reset(&mut self) {
        self.floppy.hard_reset();
        self.isa = IsaDma::new();
    }

    /// The level of interrupt request line 6.
    pub fn irq(&self) -> bool {
        self.floppy.irq()
    }

    /// Takes what serves the media away.
    pub fn take_servers(&mut self) -> impl Iterator<Item = Box<dyn Server>> + '_ {
        self.servers.iter_mut().filter_map(Option::take)
    }

    /// Brings what the media have done to the controller.
    pub fn collect(&mut self, memory: &mut dyn Dma) {
        for index in 0..self.servers.len() {
            while let Some(completion) =
                self.servers.get(index).and_then(Option::as_ref).and_then(|server| server.take_completion())
            {
                self.floppy.complete(completion);
                self.proceed(memory);
            }
        }
    }

    fn proceed(&mut self, memory: &mut dyn Dma) {
        self.floppy.proceed(&mut self.isa, memory);
        while let Some((drive, request)) = self.floppy.take_request() {
            // A drive without a diskette asks for nothing.
            if let Some(Some(server)) = self.servers.get(drive) {
                server.submit(request);
            }
        }
    }

    fn find(port: u16) -> Option<Register> {
        match port {
            DMA_LOW..=0x0F => Some(Register::Low(port - DMA_LOW)),
            PAGES..=0x8F => Some(Register::Page(port - PAGES)),
            DMA_HIGH..=0xDF => Some(Register::High((port - DMA_HIGH) / 2)),
            FLOPPY..=0x3F5 | 0x3F7 => Some(Register::Floppy(port - FLOPPY)),
            _ => None,
        }
    }
}

impl Machine {
    /// The register behind `port`, if it is one of these controllers'.
    pub(super) fn read_diskettes(&mut self, port: u16) -> Option<u8> {
        let diskettes = self.diskettes.as_mut()?;
        let value = match Diskettes::find(port)? {
            Register::Floppy(offset) => diskettes.floppy.read(offset),
            Register::Low(offset) => diskettes.isa.read_low(offset),
            Register::High(offset) => diskettes.isa.read_high(offset),
            Register::Page(offset) => diskettes.isa.read_page(offset),
        };
        diskettes.proceed(&mut self.ram);
        Some(value)
    }

    /// Writes the register behind `port`; whether it is one of these controllers'.
    pub(super) fn write_diskettes(&mut self, port: u16, value: u8) -> bool {
        let (Some(diskettes), Some(register)) = (&mut self.diskettes, Diskettes::find(port)) else { return false };
        match register {
            Register::Floppy(offset) => diskettes.floppy.write(offset, value),
            Register::Low(offset) => diskettes.isa.write_low(offset, value),
            Register::High(offset) => diskettes.isa.write_high(offset, value),
            Register::Page(offset) => diskettes.isa.write_page(offset, value),
        }
        diskettes.proceed(&mut self.ram);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::devices::block::{Completion, Medium, Request};

    #[test]
    fn the_controllers_are_behind_their_ports() {
        let mut machine = testing::machine(None);
        let byte = |machine: &mut Machine, port| {
            let mut data = [0];
            machine.read_port(port, &mut data, 0);
            data[0]
        };
        assert_eq!(byte(&mut machine, 0x3F4), 0xFF, "nothing there");
        machine.diskettes = Some(Diskettes::new([None, None]));
        machine.write_port(0x3F2, &[0x0C], 0);
        assert_eq!(byte(&mut machine, 0x3F4), 0x80, "ready for a command");
        machine.update_lines(0);
        machine.write_port(0x81, &[0x12], 0);
        assert_eq!(byte(&mut machine, 0x81), 0x12);
        machine.write_port(0x80, &[0x34], 0);
        assert_eq!((byte(&mut machine, 0x80), machine.post_code()), (0x34, 0x34));
        assert_eq!(Diskettes::find(0xC4), Some(Register::High(2)));
        assert_eq!((Diskettes::find(0x3F6), Diskettes::find(0x10)), (None, None));
    }

    /// Serves every read with sectors of this byte.
    struct Filled(u8, std::sync::Mutex<Vec<Completion>>);

    impl Server for Filled {
        fn submit(&self, request: Request) {
            let Request::Read { sectors, .. } = request else { return };
            let data = vec![self.0; sectors as usize * 512];
            self.1.lock().unwrap().push(Completion { data, sectors, error: None });
        }

        fn take_completion(&self) -> Option<Completion> {
            self.1.lock().unwrap().pop()
        }
    }

    #[test]
    fn a_bios_reads_a_sector_by_dma() {
        let mut machine = testing::machine(None);
        let diskette = Diskette::new(Medium { sectors: 2880, read_only: true }).unwrap();
        let mounted = MountedDiskette { diskette, server: Box::new(Filled(0x5A, Default::default())) };
        machine.diskettes = Some(Diskettes::new([Some(mounted), None]));
        let irq = |machine: &mut Machine| {
            machine.collect();
            machine.update_lines(0);
            let high = machine.diskettes.as_ref().unwrap().irq();
            assert!(high, "no interrupt");
        };
        let command = |machine: &mut Machine, bytes: &[u8]| {
            for byte in bytes {
                let mut status = [0];
                machine.read_port(0x3F4, &mut status, 0);
                assert_eq!(status[0] & 0xC0, 0x80, "a command byte is taken");
                machine.write_port(0x3F5, &[*byte], 0);
            }
        };
        let result = |machine: &mut Machine, count: usize| {
            let mut one = || {
                let mut byte = [0];
                machine.read_port(0x3F4, &mut byte, 0);
                assert_eq!(byte[0] & 0xC0, 0xC0, "a result byte is there");
                machine.read_port(0x3F5, &mut byte, 0);
                byte[0]
            };
            (0..count).map(|_| one()).collect::<Vec<u8>>()
        };
        machine.write_port(0x3F2, &[0x18], 0);
        machine.write_port(0x3F2, &[0x1C], 0);
        irq(&mut machine);
        command(&mut machine, &[0x08]);
        result(&mut machine, 2);
        command(&mut machine, &[0x07, 0x00]);
        irq(&mut machine);
        command(&mut machine, &[0x08]);
        result(&mut machine, 2);
        machine.write_port(0x3F7, &[0x00], 0);
        for (port, value) in [
            (0x0A, 0x06),
            (0x0C, 0x00),
            (0x0B, 0x46),
            (0x04, 0x00),
            (0x04, 0x7C),
            (0x0C, 0x00),
            (0x05, 0xFF),
            (0x05, 0x01),
            (0x81, 0x00),
            (0x0A, 0x02),
        ] {
            machine.write_port(port, &[value], 0);
        }
        command(&mut machine, &[0xE6, 0x00, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
        irq(&mut machine);
        assert_eq!(result(&mut machine, 7)[..3], [0, 0, 0]);
        assert_eq!(machine.take_written(), [(0x7C00, 512)]);
    }
}
