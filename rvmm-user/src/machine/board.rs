//! What a machine with firmware has and one without has not: the PCI bus with its chip set, power management and the firmware
//! configuration device.

use crate::devices::fw_cfg::{items, FwCfg};
use crate::devices::pci::{Pci, Windows};
use crate::devices::power::Power;

/// What the board is to be like.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Size of the guest's memory.
    pub memory_bytes: u64,
    /// There are a local APIC and an I/O APIC.
    pub apic: bool,
    /// Size of the display adapter's ROM in whole pages; without, there is no adapter.
    pub vga_rom_bytes: Option<u64>,
    /// How long firmware shows its boot menu; without, it does not.
    pub menu_wait_ms: Option<u16>,
    /// The option ROM that has firmware start a kernel.
    pub kernel_rom: Option<Vec<u8>>,
}

/// The devices.
#[derive(Debug)]
pub struct Board {
    pub pci: Pci,
    /// Where functions answer: what [`Pci::windows`] said last.
    pub windows: Windows,
    pub power: Power,
    pub fw_cfg: FwCfg,
    /// There is a kernel that firmware may start.
    pub has_kernel: bool,
    vga_rom_bytes: Option<u64>,
}

impl Board {
    /// A board at power-on.
    pub fn new(setup: &Setup) -> Board {
        let pci = Board::bus(setup.vga_rom_bytes);
        let description = items::Description {
            memory_bytes: setup.memory_bytes,
            apic: setup.apic,
            menu_wait_ms: setup.menu_wait_ms,
            boot_rom: setup.kernel_rom.clone(),
        };
        Board {
            windows: pci.windows(),
            pci,
            power: Power::default(),
            fw_cfg: items::device(&description),
            has_kernel: setup.kernel_rom.is_some(),
            vga_rom_bytes: setup.vga_rom_bytes,
        }
    }

    /// The reset line.
    pub fn reset(&mut self) {
        self.pci = Board::bus(self.vga_rom_bytes);
        self.windows = self.pci.windows();
        self.power = Power::default();
        self.fw_cfg.reset();
    }

    /// Where the display adapter's ROM is seen, and its size.
    pub fn vga_rom(&self) -> Option<(u64, u64)> {
        self.windows.vga_rom.zip(self.vga_rom_bytes)
    }

    fn bus(vga_rom_bytes: Option<u64>) -> Pci {
        Pci::new(vga_rom_bytes.map(|len| u32::try_from(len).unwrap_or(u32::MAX)))
    }
}
