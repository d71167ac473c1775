//! The items that tell SeaBIOS of this machine.

use super::FwCfg;
use crate::devices::acpi;
use crate::memory;

const RAM_SIZE: u16 = 0x03;
const CPUS: u16 = 0x05;
const BOOT_MENU: u16 = 0x0E;
const MAX_CPUS: u16 = 0x0F;
/// The first of the items that differ between architectures.
const ARCHITECTURE: u16 = 0x8000;
const IRQ0_OVERRIDE: u16 = ARCHITECTURE + 2;

/// E820 types.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Names that begin like this are those of option ROMs.
const BOOT_ROM: &str = "genroms/kernel.bin";

/// What the items say.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub memory_bytes: u64,
    /// There are a local APIC and an I/O APIC.
    pub apic: bool,
    /// How long the boot menu waits for a key; without, there is no menu.
    pub menu_wait_ms: Option<u16>,
    /// An option ROM to boot from before all else.
    pub boot_rom: Option<Vec<u8>>,
}

/// A device with the items of `description`.
pub fn device(description: &Description) -> FwCfg {
    let mut device = FwCfg::new();
    let bytes = description.memory_bytes;
    device.add(RAM_SIZE, bytes.to_le_bytes().to_vec());
    device.add(CPUS, 1u16.to_le_bytes().to_vec());
    device.add(MAX_CPUS, 1u16.to_le_bytes().to_vec());
    device.add(BOOT_MENU, u16::from(description.menu_wait_ms.is_some()).to_le_bytes().to_vec());
    // Whether the timer is at pin 2 of the I/O APIC.
    device.add(IRQ0_OVERRIDE, u32::from(description.apic).to_le_bytes().to_vec());
    device.add_file("etc/e820", e820(bytes));
    // An MP table, which SeaBIOS makes, tells of APICs.
    device.add_file("etc/mptable", u16::from(description.apic).to_le_bytes().to_vec());
    for (name, data) in acpi::files(bytes, description.apic) {
        device.add_file(name, data);
    }
    if let Some(rom) = &description.boot_rom {
        device.add_file(BOOT_ROM, rom.clone());
        device.add_file("bootorder", format!("/rom@{BOOT_ROM}\n\0").into_bytes());
    }
    // Where nothing can be started, firmware says so and waits for ever: to try again would be a reset.
    device.add_file("etc/boot-fail-wait", u32::MAX.to_le_bytes().to_vec());
    // SeaBIOS takes a menu for granted where nobody forbids it.
    device.add_file("etc/show-boot-menu", u16::from(description.menu_wait_ms.is_some()).to_le_bytes().to_vec());
    if let Some(wait) = description.menu_wait_ms {
        device.add_file("etc/boot-menu-wait", wait.to_le_bytes().to_vec());
    }
    device
}

/// RAM, and what is neither RAM nor a PCI function's: firmware finds the holes below 1 MiB by itself.
fn e820(bytes: u64) -> Vec<u8> {
    let mut table = Vec::new();
    let mut entry = |start: u64, end: u64, kind: u32| {
        table.extend(start.to_le_bytes());
        table.extend((end - start).to_le_bytes());
        table.extend(kind.to_le_bytes());
    };
    entry(0, memory::below_hole(bytes), RAM);
    if memory::end(bytes) > memory::HOLE_END {
        entry(memory::HOLE_END, memory::end(bytes), RAM);
    }
    // The pages that KVM on Intel wants for itself (engine).
    let reserved = crate::engine::HELPER_PAGES;
    entry(reserved.start, reserved.end, RESERVED);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_the_hole_has_its_own_entry() {
        assert_eq!(e820(64 << 20).len(), 2 * 20);
        let table = e820(4 << 30);
        assert_eq!(table.len(), 3 * 20);
        assert_eq!(table[8..16], (3u64 << 30).to_le_bytes());
        assert_eq!(table[20..28], (4u64 << 30).to_le_bytes());
    }
}
