//! The PCI bus: configuration mechanism #1 and the functions of bus 0 (PCI Local Bus Specification 2.1, section 3.7.4).
//!
//! Only configuration is here. Where a function's registers are follows from it ([`Pci::windows`]); the registers are the devices'
//! own, by offset.

mod config;
pub mod host_bridge;
mod piix;

use super::vga::{bar, VRAM_SIZE};
use super::OPEN_BUS;
use config::{Bar, Config, Identity};
use host_bridge::{Shadow, SEGMENTS};

/// First port of the mechanism: four of the address register, four of the data.
pub const PORT: u16 = 0xCF8;
const DATA: u16 = 0xCFC;

/// Configuration address: bit 31 has accesses to the data become configuration accesses.
const ENABLE: u32 = 1 << 31;

/// Device and function numbers, as bits 8–15 of the configuration address hold them.
const HOST_BRIDGE: u8 = 0 << 3;
const ISA_BRIDGE: u8 = 1 << 3;
const IDE: u8 = 1 << 3 | 1;
const POWER: u8 = 1 << 3 | 3;
const VGA: u8 = 2 << 3;

/// Where functions answer, as their configuration says now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// 16 ports of the IDE bus master.
    pub ide_master: Option<u16>,
    /// 64 ports of power management.
    pub power: Option<u16>,
    /// All of video memory.
    pub frame_buffer: Option<u64>,
    /// The display adapter's registers in memory.
    pub vga_registers: Option<u64>,
    /// The display adapter's ROM.
    pub vga_rom: Option<u64>,
    /// The pieces of C0000–FFFFF.
    pub shadow: [Shadow; SEGMENTS],
}

/// The bus.
#[derive(Debug)]
pub struct Pci {
    address: u32,
    host: Config,
    isa: Config,
    ide: Config,
    power: Config,
    vga: Option<Config>,
}

impl Pci {
    /// The bus at reset. `vga_rom_len` is the size of the display adapter's ROM; without, there is no adapter.
    pub fn new(vga_rom_len: Option<u32>) -> Pci {
        Pci {
            address: 0,
            host: host_bridge::new(),
            isa: piix::isa_bridge(),
            ide: piix::ide(),
            power: piix::power_management(),
            vga: vga_rom_len.map(vga),
        }
    }

    /// Reads ports from `offset` (0–7) on. The address register is accessed as a whole or not at all.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        if port == PORT && data.len() == 4 {
            data.copy_from_slice(&self.address.to_le_bytes());
            return;
        }
        data.fill(OPEN_BUS);
        let Some(offset) = self.register(port, data.len()) else { return };
        if let Some(config) = self.function() {
            config.read(offset, data);
        }
    }

    /// Writes them; tells whether a function's configuration was written.
    pub fn write(&mut self, port: u16, data: &[u8]) -> bool {
        if let (PORT, &[a, b, c, d]) = (port, data) {
            self.address = u32::from_le_bytes([a, b, c, d]) & 0x80FF_FFFC;
            return false;
        }
        let Some(offset) = self.register(port, data.len()) else { return false };
        let Some(config) = self.function_mut() else { return false };
        config.write(offset, data);
        host_bridge::written(&mut self.host);
        true
    }

    /// Where functions answer.
    pub fn windows(&self) -> Windows {
        Windows {
            ide_master: self.ide.io_base(4),
            power: piix::power_management_base(&self.power),
            frame_buffer: self.vga.as_ref().and_then(|vga| vga.memory_base(0)),
            vga_registers: self.vga.as_ref().and_then(|vga| vga.memory_base(2)),
            vga_rom: self.vga.as_ref().and_then(Config::rom_base),
            shadow: host_bridge::shadow(&self.host),
        }
    }

    /// Whether the IDE function may be a bus master.
    pub fn ide_is_master(&self) -> bool {
        self.ide.is_master()
    }

    /// The register that an access of `width` bytes to a data port reaches.
    fn register(&self, port: u16, width: usize) -> Option<usize> {
        let byte = usize::from(port.checked_sub(DATA).filter(|byte| *byte < 4)?);
        let fits = byte + width <= 4;
        (fits && self.address & ENABLE != 0).then_some((self.address & 0xFC) as usize + byte)
    }

    fn number(&self) -> Option<u8> {
        let bus = (self.address >> 16) as u8;
        (bus == 0).then_some((self.address >> 8) as u8)
    }

    fn function(&self) -> Option<&Config> {
        match self.number()? {
            HOST_BRIDGE => Some(&self.host),
            ISA_BRIDGE => Some(&self.isa),
            IDE => Some(&self.ide),
            POWER => Some(&self.power),
            VGA => self.vga.as_ref(),
            _ => None,
        }
    }

    fn function_mut(&mut self) -> Option<&mut Config> {
        match self.number()? {
            HOST_BRIDGE => Some(&mut self.host),
            ISA_BRIDGE => Some(&mut self.isa),
            IDE => Some(&mut self.ide),
            POWER => Some(&mut self.power),
            VGA => self.vga.as_mut(),
            _ => None,
        }
    }
}

/// The display adapter that SeaBIOS' VGA BIOS and Linux' bochs-drm know: IDs and base addresses of QEMU's `VGA`
/// (docs/specs/standard-vga of QEMU).
fn vga(rom_len: u32) -> Config {
    Config::new(Identity {
        vendor: 0x1234,
        device: 0x1111,
        revision: 0x02,
        class: [0x03, 0x00, 0x00],
        multifunction: false,
    })
    .with_bar(0, Bar::Prefetchable(VRAM_SIZE as u32))
    .with_bar(2, Bar::Memory(bar::SIZE))
    .with_rom(rom_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn select(pci: &mut Pci, function: u8, register: u8) {
        let address = ENABLE | u32::from(function) << 8 | u32::from(register);
        pci.write(PORT, &address.to_le_bytes());
    }

    fn read32(pci: &Pci) -> u32 {
        let mut data = [0; 4];
        pci.read(DATA, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_bus_has_the_functions_of_the_chip_set() {
        let mut pci = Pci::new(Some(39_000));
        let mut found = Vec::new();
        for function in 0..=255 {
            select(&mut pci, function, 0);
            if read32(&pci) != u32::MAX {
                found.push((function, read32(&pci)));
            }
        }
        let expected =
            [(0x00, 0x1237_8086), (0x08, 0x7000_8086), (0x09, 0x7010_8086), (0x0B, 0x7113_8086), (0x10, 0x1111_1234)];
        assert_eq!(found, expected);
        pci.write(PORT, &(ENABLE | 1 << 16).to_le_bytes());
        assert_eq!(read32(&pci), u32::MAX, "there is no bus 1");
    }

    #[test]
    fn the_address_reads_back_and_has_to_be_enabled() {
        let mut pci = Pci::new(None);
        pci.write(PORT, &0x0000_0003u32.to_le_bytes());
        let mut address = [0xFF; 4];
        pci.read(PORT, &mut address);
        assert_eq!(address, [0; 4]);
        assert_eq!(read32(&pci), u32::MAX);
        let mut byte = [0];
        pci.read(PORT, &mut byte);
        assert_eq!(byte, [OPEN_BUS], "only as a whole");
    }

    #[test]
    fn narrow_accesses_reach_their_bytes() {
        let mut pci = Pci::new(None);
        select(&mut pci, HOST_BRIDGE, 0x58);
        assert!(pci.write(DATA + 1, &[0x30]));
        assert!(pci.windows().shadow[12].read_ram);
        let mut word = [0; 2];
        pci.read(DATA, &mut word);
        assert_eq!(word, [0x00, 0x30]);
    }

    proptest! {
        #[test]
        fn any_access_is_answered(
            accesses in proptest::collection::vec((0xCF8u16..0xD00, any::<[u8; 4]>(), 0usize..3), 0..200)
        ) {
            let mut pci = Pci::new(Some(39_000));
            for (port, data, width) in accesses {
                let width = [1, 2, 4][width];
                pci.write(port, &data[..width]);
                pci.read(port, &mut { data }[..width]);
                pci.windows();
            }
        }
    }
}
