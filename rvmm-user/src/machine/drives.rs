//! The IDE channels with their drives, and what serves their media.
//!
//! A drive's request is handed to its medium at once. The medium's answers are collected by the vCPU's thread alone, since they may be
//! written to guest memory, of which the engine must be told before the guest runs on.

use super::interrupts::Interrupts;
use super::Machine;
use crate::devices::block::{Completion, Request};
use crate::devices::dma::{Dma, NoMemory};
use crate::devices::ide::channel::Channel;
use crate::devices::ide::drive::Drive;
use crate::devices::ide::geometry::{Geometry, Translation};
use crate::devices::pic_pair::{IRQ_PRIMARY_IDE, IRQ_SECONDARY_IDE};
use crate::memory::ram::Ram;

/// First ports of the channels' command blocks.
const COMMAND: [u16; 2] = [0x1F0, 0x170];
/// The channels' device control and alternate status ports.
const CONTROL: [u16; 2] = [0x3F6, 0x376];
/// Ports of one channel in the bus master's window.
const MASTER_PORTS: u16 = 8;

/// What serves a drive's requests, in order.
pub trait Server: Send {
    /// Has `request` served.
    fn submit(&self, request: Request);
    /// The end of the oldest request of which that was not told yet.
    fn take_completion(&self) -> Option<Completion>;
}

/// A drive and what is behind it.
pub struct Mounted {
    pub drive: Drive,
    pub server: Option<Box<dyn Server>>,
    /// What a BIOS is told.
    pub translation: Translation,
}

/// Both channels.
pub struct Drives {
    channels: [Channel; 2],
    servers: [[Option<Box<dyn Server>>; 2]; 2],
    translations: [[Translation; 2]; 2],
}

/// Which of a channel's registers a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Command(u16),
    Control,
    Master(u16),
}

impl Drives {
    /// Channels with these drives: primary and secondary, each with drive 0 and 1.
    pub fn new(places: [[Option<Mounted>; 2]; 2]) -> Drives {
        let mut servers = [[None, None], [None, None]];
        let channels = std::array::from_fn(|_| Channel::new([None, None]));
        let of = |place: &Option<Mounted>| place.as_ref().map(|at| at.translation).unwrap_or_default();
        let translations = places.each_ref().map(|pair| pair.each_ref().map(of));
        let mut drives = Drives { channels, servers: [[None, None], [None, None]], translations };
        for ((channel, pair), kept) in drives.channels.iter_mut().zip(places).zip(&mut servers) {
            let [first, second] = pair.map(|place| place.map_or((None, None), |at| (Some(at.drive), at.server)));
            *channel = Channel::new([first.0, second.0]);
            *kept = [first.1, second.1];
        }
        drives.servers = servers;
        drives
    }

    /// The geometries of the hard disks on the primary channel, which are those that the CMOS memory tells of.
    pub fn primary_geometries(&self) -> [Option<Geometry>; 2] {
        let [primary, _] = &self.channels;
        primary.geometries()
    }

    /// What a BIOS is told of the drives, primary channel first.
    pub fn translations(&self) -> [[Translation; 2]; 2] {
        self.translations
    }

    /// The reset line.
    pub fn reset(&mut self) {
        self.channels.iter_mut().for_each(Channel::reset);
    }

    /// The channel and register behind `port`; `master` is where the bus master's ports are.
    pub fn find(port: u16, master: Option<u16>) -> Option<(usize, Register)> {
        for (index, (command, control)) in COMMAND.into_iter().zip(CONTROL).enumerate() {
            match port.checked_sub(command) {
                Some(offset @ 0..=7) => return Some((index, Register::Command(offset))),
                _ if port == control => return Some((index, Register::Control)),
                _ => {}
            }
        }
        let offset = port.checked_sub(master?).filter(|offset| *offset < 2 * MASTER_PORTS)?;
        Some((usize::from(offset / MASTER_PORTS), Register::Master(offset % MASTER_PORTS)))
    }

    fn read(&mut self, (channel, register): (usize, Register), data: &mut [u8], dma: &mut dyn Dma) {
        let Some(channel) = self.channels.get_mut(channel) else { return };
        let value = match register {
            Register::Command(offset) => channel.read(offset, data.len(), dma),
            Register::Control => channel.read_control().into(),
            Register::Master(offset) => channel.read_master(offset, data.len()),
        };
        for (byte, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = from;
        }
    }

    fn write(&mut self, (channel, register): (usize, Register), data: &[u8], dma: &mut dyn Dma) {
        let Some(channel) = self.channels.get_mut(channel) else { return };
        let value = data.iter().rev().take(4).fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        match register {
            Register::Command(offset) => channel.write(offset, data.len(), value, dma),
            Register::Control => channel.write_control(value as u8, dma),
            Register::Master(offset) => channel.write_master(offset, data.len(), value, dma),
        }
    }

    /// Hands requests to the media.
    fn submit(&mut self) {
        for (channel, servers) in self.channels.iter_mut().zip(&self.servers) {
            while let Some((drive, request)) = channel.take_request() {
                // A drive without a medium asks for nothing.
                if let Some(Some(server)) = servers.get(drive) {
                    server.submit(request);
                }
            }
        }
    }

    fn collect(&mut self, dma: &mut dyn Dma) {
        for (channel, servers) in self.channels.iter_mut().zip(&self.servers) {
            for (drive, server) in servers.iter().enumerate() {
                while let Some(completion) = server.as_ref().and_then(|server| server.take_completion()) {
                    channel.complete(drive, completion, dma);
                }
            }
        }
        self.submit();
    }
}

impl Machine {
    /// Brings what the media have done to the drives, and to guest memory. For the vCPU's thread alone.
    pub fn collect(&mut self) {
        if let Some(diskettes) = &mut self.diskettes {
            diskettes.collect(&mut self.ram);
        }
        if let Some(drives) = &mut self.drives {
            let allowed = self.board.as_ref().is_some_and(|board| board.pci.ide_is_master());
            drives.collect(&mut Gate { ram: &mut self.ram, open: allowed });
        }
    }

    /// Takes what serves the media away. Dropped, with nothing of the machine locked, each writes what it still has to.
    pub fn take_media(&mut self) -> Vec<Box<dyn Server>> {
        let servers = self.drives.iter_mut().flat_map(|drives| drives.servers.iter_mut().flatten());
        let mut taken: Vec<_> = servers.filter_map(Option::take).collect();
        taken.extend(self.diskettes.iter_mut().flat_map(|diskettes| diskettes.take_servers()));
        taken
    }

    /// Whether `port` is one of the channels', and its register was read.
    pub(super) fn read_drives(&mut self, port: u16, data: &mut [u8]) -> bool {
        let master = self.board.as_ref().and_then(|board| board.windows.ide_master);
        let (Some(drives), Some(place)) = (&mut self.drives, Drives::find(port, master)) else { return false };
        let allowed = self.board.as_ref().is_some_and(|board| board.pci.ide_is_master());
        drives.read(place, data, &mut Gate { ram: &mut self.ram, open: allowed });
        drives.submit();
        true
    }

    /// Whether `port` is one of the channels', and its register was written.
    pub(super) fn write_drives(&mut self, port: u16, data: &[u8]) -> bool {
        let master = self.board.as_ref().and_then(|board| board.windows.ide_master);
        let (Some(drives), Some(place)) = (&mut self.drives, Drives::find(port, master)) else { return false };
        let allowed = self.board.as_ref().is_some_and(|board| board.pci.ide_is_master());
        drives.write(place, data, &mut Gate { ram: &mut self.ram, open: allowed });
        drives.submit();
        true
    }
}

/// Drives the channels' interrupt lines.
pub fn update_lines(drives: &Drives, pics: &mut Interrupts) {
    for (channel, irq) in drives.channels.iter().zip([IRQ_PRIMARY_IDE, IRQ_SECONDARY_IDE]) {
        pics.set_irq(irq, channel.irq());
    }
}

/// Memory as far as the PCI command register lets a function be a master.
struct Gate<'a> {
    ram: &'a mut Ram,
    open: bool,
}

impl Dma for Gate<'_> {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory> {
        if self.open {
            self.ram.read(gpa, data)
        } else {
            Err(NoMemory { gpa })
        }
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), NoMemory> {
        if self.open {
            self.ram.write(gpa, data)
        } else {
            Err(NoMemory { gpa })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::devices::block::Medium;
    use crate::devices::ide::ata::Ata;
    use crate::devices::ide::Place;
    use std::sync::Mutex;

    /// Sectors filled with their number, served at once.
    #[derive(Default)]
    struct Numbers(Mutex<Vec<Completion>>);

    impl Server for Numbers {
        fn submit(&self, request: Request) {
            let done = match request {
                Request::Read { lba, sectors } => {
                    let data = (0..sectors).flat_map(|index| vec![lba as u8 + index as u8; 512]).collect();
                    Completion { data, sectors, error: None }
                }
                Request::Write { data, .. } => {
                    Completion { data: Vec::new(), sectors: (data.len() / 512) as u32, error: None }
                }
                Request::Flush => Completion::default(),
            };
            self.0.lock().unwrap().push(done);
        }

        fn take_completion(&self) -> Option<Completion> {
            self.0.lock().unwrap().pop()
        }
    }

    fn machine() -> Machine {
        let medium = Medium { sectors: 64, read_only: false };
        let drive = Drive::Disk(Ata::new(medium, Geometry::usual(64), Place { channel: 0, drive: 0 }));
        let disk = Mounted { drive, server: Some(Box::<Numbers>::default()), translation: Translation::Large };
        let mut machine = testing::machine(Some(&[0; 128 << 10]));
        machine.drives = Some(Drives::new([[Some(disk), None], [None, None]]));
        machine
    }

    fn byte(machine: &mut Machine, port: u16) -> u8 {
        let mut data = [0];
        machine.read_port(port, &mut data, 0);
        data[0]
    }

    #[test]
    fn a_sector_comes_in_words() {
        let mut machine = machine();
        for (port, value) in [(0x1F2, 1), (0x1F3, 5), (0x1F4, 0), (0x1F5, 0), (0x1F6, 0xE0), (0x1F7, 0x20)] {
            machine.write_port(port, &[value], 0);
        }
        assert_eq!(byte(&mut machine, 0x3F6) & 0x80, 0x80, "busy");
        machine.collect();
        assert_eq!(byte(&mut machine, 0x3F6) & 0x88, 0x08, "data is there");
        for _ in 0..128 {
            let mut data = [0; 4];
            machine.read_port(0x1F0, &mut data, 0);
            assert_eq!(data, [5; 4]);
        }
        assert_eq!(byte(&mut machine, 0x1F7) & 0x88, 0);
    }

    #[test]
    fn the_cmos_memory_tells_of_the_disk() {
        let mut machine = machine();
        machine.set_up_disks();
        let mut told = |index: u8| {
            machine.write_port(0x70, &[index], 0);
            byte(&mut machine, 0x71)
        };
        assert_eq!([0x12, 0x19, 0x1A, 0x39].map(&mut told), [0xF0, 47, 0, 2]);
        // One cylinder, 16 heads and 63 sectors.
        let parts: Vec<u8> = (0x1B..=0x24).map(told).collect();
        assert_eq!(parts, [1, 0, 16, 0xFF, 0xFF, 0xC8, 1, 0, 63, 0]);
    }

    #[test]
    fn the_secondary_channel_has_its_own_ports() {
        assert_eq!(Drives::find(0x177, None), Some((1, Register::Command(7))));
        assert_eq!(Drives::find(0x376, None), Some((1, Register::Control)));
        assert_eq!(Drives::find(0xC00A, Some(0xC000)), Some((1, Register::Master(2))));
        assert_eq!((Drives::find(0xC010, Some(0xC000)), Drives::find(0x3F5, None)), (None, None));
    }

    #[test]
    fn the_bus_master_writes_to_memory_once_it_may() {
        for allowed in [false, true] {
            let mut machine = machine();
            machine.write_port(0xCF8, &0x8000_0920u32.to_le_bytes(), 0);
            machine.write_port(0xCFC, &0xC001u32.to_le_bytes(), 0);
            machine.write_port(0xCF8, &0x8000_0904u32.to_le_bytes(), 0);
            machine.write_port(0xCFC, &[if allowed { 5 } else { 1 }], 0);
            // One region of 512 bytes at 10000h, described at 8000h.
            let mut table = 0x1_0000u32.to_le_bytes().to_vec();
            table.extend(0x8000_0200u32.to_le_bytes());
            machine.ram.write(0x8000, &table).unwrap();
            machine.take_written();
            machine.write_port(0xC004, &0x8000u32.to_le_bytes(), 0);
            for (port, value) in
                [(0xC000, 9), (0x1F2, 1), (0x1F3, 7), (0x1F4, 0), (0x1F5, 0), (0x1F6, 0xE0), (0x1F7, 0xC8)]
            {
                machine.write_port(port, &[value], 0);
            }
            machine.collect();
            let expected = if allowed { vec![(0x1_0000, 512)] } else { Vec::new() };
            assert_eq!(machine.take_written(), expected);
        }
    }
}
