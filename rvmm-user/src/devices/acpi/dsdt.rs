//! The DSDT: the PCI bus with its windows and interrupts, the ISA devices behind its bridge, soft off.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, Interrupt, Name, Package, PackageBuilder, Path,
    ResourceTemplate, Scope, IO,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::Aml;

use super::{HEADER, OEM, OEM_TABLE, SCI};
use crate::devices::power::SOFT_OFF;
use crate::memory;

/// Where interrupts A to D of the bus go, as SeaBIOS programs the PIIX.
const ROUTES: [u8; 4] = [10, 10, 11, 11];
/// The device whose function 3 is power management, with its own interrupt.
const SOUTH_BRIDGE: u32 = 1;
const LAST_DEVICE: u32 = 31;

/// Where the PCI memory window ends: below what would be the interrupt controllers.
const WINDOW_END: u32 = 0xFEBF_FFFF;
/// Where SeaBIOS begins it, unless there is memory.
const WINDOW_START: u32 = 0x8000_0000;

/// The table.
pub fn table(memory_bytes: u64) -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", HEADER as u32, 1, OEM, OEM_TABLE, 1);
    let mut body = Vec::new();
    scope(memory_bytes, &mut body);
    let off = SOFT_OFF as u8;
    let s5 = Package::new(vec![&off, &off, &0u8, &0u8]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut body);
    table.append_slice(&body);
    table.as_slice().to_vec()
}

fn scope(memory_bytes: u64, body: &mut Vec<u8>) {
    let window_start = if memory_bytes <= u64::from(WINDOW_START) { WINDOW_START } else { memory::HOLE_START as u32 };
    let buses = AddressSpace::new_bus_number(0u16, 0xFF);
    let mechanism = IO::new(0xCF8, 0xCF8, 1, 8);
    let low_ports = AddressSpace::new_io(0u16, 0xCF7, None);
    let high_ports = AddressSpace::new_io(0xD00u16, 0xFFFF, None);
    let display = AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0xA_0000u32, 0xB_FFFF, None);
    let window = AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, window_start, WINDOW_END, None);
    let resources = ResourceTemplate::new(vec![&buses, &mechanism, &low_ports, &high_ports, &display, &window]);
    let bus_id = Name::new("_HID".into(), &EISAName::new("PNP0A03"));
    let bus_address = Name::new("_ADR".into(), &0u8);
    let current = Name::new("_CRS".into(), &resources);
    let routing = Name::new("_PRT".into(), &routing());

    let bridge_address = Name::new("_ADR".into(), &(SOUTH_BRIDGE << 16));
    let clock = isa("RTC_", "PNP0B00", &[(0x70, 2)], Some(8));
    let timer = isa("TIMR", "PNP0100", &[(0x40, 4)], Some(0));
    let keyboard = isa("KBD_", "PNP0303", &[(0x60, 1), (0x64, 1)], Some(1));
    let mouse = isa("MOU_", "PNP0F13", &[], Some(12));
    let serial = isa("COM1", "PNP0501", &[(0x3F8, 8)], Some(4));
    let devices = [clock, timer, keyboard, mouse, serial].map(Encoded);
    let mut inside: Vec<&dyn Aml> = vec![&bridge_address];
    inside.extend(devices.iter().map(|device| device as &dyn Aml));
    let bridge = Device::new("ISA_".into(), inside);

    let bus = Device::new("PCI0".into(), vec![&bus_id, &bus_address, &current, &routing, &bridge]);
    Scope::new(Path::new("\\_SB_"), vec![&bus]).to_aml_bytes(body);
}

/// Which interrupt each pin of each device has. The routes are fixed: there are no link devices.
fn routing() -> PackageBuilder {
    let mut table = PackageBuilder::new();
    for device in 1..=LAST_DEVICE {
        for pin in 0..4u8 {
            let route = ROUTES.into_iter().cycle().nth((device - 1) as usize + usize::from(pin)).unwrap_or_default();
            let irq = if (device, pin) == (SOUTH_BRIDGE, 0) { SCI as u8 } else { route };
            let address = device << 16 | 0xFFFF;
            table.add_element(&Package::new(vec![&address, &pin, &0u8, &irq]));
        }
    }
    table
}

/// Finished AML.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

fn isa(name: &str, id: &str, ports: &[(u16, u8)], irq: Option<u32>) -> Vec<u8> {
    let ports: Vec<IO> = ports.iter().map(|(first, len)| IO::new(*first, *first, 1, *len)).collect();
    let irq = irq.map(|number| Interrupt::new(true, true, false, false, number));
    let mut resources: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    resources.extend(irq.iter().map(|irq| irq as &dyn Aml));
    let id = Name::new("_HID".into(), &EISAName::new(id));
    let current = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    let mut bytes = Vec::new();
    Device::new(name.into(), vec![&id, &current]).to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up_to_zero() {
        let table = table(64 << 20);
        assert_eq!(&table[..4], b"DSDT");
        assert_eq!(table[4..8], (table.len() as u32).to_le_bytes());
        assert_eq!(table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        for name in ["_SB_", "PCI0", "_PRT", "COM1", "_S5_"] {
            assert!(table.windows(4).any(|part| part == name.as_bytes()), "{name}");
        }
    }
}
