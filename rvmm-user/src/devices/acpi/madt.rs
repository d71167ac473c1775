//! The MADT: one CPU with its local APIC, one I/O APIC, and what differs from the ISA bus's ways (ACPI specification 6.5, section 5.2.12).

use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_TABLE, SCI};
use crate::devices::{ioapic, lapic};

/// There are 8259s, too.
const PC_COMPATIBLE: u32 = 1;
const LEN: u32 = 44;
/// Active high, by level.
const LEVEL_HIGH: u16 = 0x0D;
/// Lines that the PIIX has for interrupts of its own and of the PCI bus.
const LEVELS: [u8; 4] = [5, SCI as u8, 10, 11];

/// The table.
pub fn table() -> Vec<u8> {
    let mut table = Sdt::new(*b"APIC", LEN, 1, OEM, OEM_TABLE, 1);
    table.write_u32(36, lapic::BASE as u32);
    table.write_u32(40, PC_COMPATIBLE);
    // CPU 0 has local APIC 0 and is there.
    table.append_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
    let mut io = vec![1, 12, 0, 0];
    io.extend((ioapic::BASE as u32).to_le_bytes());
    io.extend([0; 4]);
    table.append_slice(&io);
    // The timer is at pin 2.
    append_override(&mut table, 0, 2, 0);
    for line in LEVELS {
        append_override(&mut table, line, line, LEVEL_HIGH);
    }
    // LINT1 of all CPUs is the non-maskable interrupt's.
    table.append_slice(&[4, 6, 0xFF, 0, 0, 1]);
    table.as_slice().to_vec()
}

fn append_override(table: &mut Sdt, irq: u8, pin: u8, flags: u16) {
    let [low, high] = flags.to_le_bytes();
    table.append_slice(&[2, 10, 0, irq, pin, 0, 0, 0, low, high]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_of_one_cpu() {
        let table = table();
        assert_eq!(table[4..8], (table.len() as u32).to_le_bytes());
        assert_eq!(table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        let (mut at, mut kinds) = (LEN as usize, Vec::new());
        while at < table.len() {
            kinds.push(table[at]);
            at += usize::from(table[at + 1]);
        }
        assert_eq!((at, kinds), (table.len(), vec![0, 1, 2, 2, 2, 2, 2, 4]));
        assert_eq!(table[36..44], [0, 0, 0xE0, 0xFE, 1, 0, 0, 0]);
    }
}
