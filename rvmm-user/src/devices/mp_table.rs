//! The table of the MultiProcessor Specification 1.4 (chapter 4), for kernels that are started without firmware. It tells of one CPU, the
//! ISA bus and the I/O APIC; with firmware the table is SeaBIOS' own.

use super::{ioapic, lapic};

/// Where it is put: among what operating systems search, reserved in the memory map.
pub const ADDRESS: u64 = 0xF_0000;

const POINTER_LEN: usize = 16;
const HEADER_LEN: usize = 44;
const REVISION: u8 = 4;
const LAPIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
/// Enabled, bootstrap processor.
const CPU_FLAGS: u8 = 3;
const ISA: u8 = 0;
const IOAPIC_ID: u8 = 0;

/// Interrupt types: with a vector, non-maskable, from the 8259s.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

/// The bytes for [`ADDRESS`]. `signature` and `features` are what CPUID leaf 1 has in EAX and EDX.
pub fn table(signature: u32, features: u32) -> Vec<u8> {
    let mut body = Vec::new();
    let mut entries = 0u16;
    let mut entry = |parts: &[&[u8]]| {
        entries += 1;
        body.extend(parts.concat());
    };
    entry(&[&[0, 0, LAPIC_VERSION, CPU_FLAGS], &signature.to_le_bytes(), &features.to_le_bytes(), &[0; 8]]);
    entry(&[&[1, ISA], b"ISA   "]);
    entry(&[&[2, IOAPIC_ID, IOAPIC_VERSION, 1], &(ioapic::BASE as u32).to_le_bytes()]);
    for irq in (0..16u8).filter(|irq| *irq != 2) {
        // The timer is at the pin that the cascade leaves free. Polarity and trigger mode are the bus's.
        let pin = if irq == 0 { 2 } else { irq };
        entry(&[&[3, INT, 0, 0, ISA, irq, IOAPIC_ID, pin]]);
    }
    entry(&[&[4, EXT_INT, 0, 0, ISA, 0, 0xFF, 0]]);
    entry(&[&[4, NMI, 0, 0, ISA, 0, 0xFF, 1]]);

    let mut header = b"PCMP".to_vec();
    header.extend(((HEADER_LEN + body.len()) as u16).to_le_bytes());
    header.extend([REVISION, 0]);
    header.extend(b"RVMM    RVMM PC     ");
    header.extend([0; 6]);
    header.extend(entries.to_le_bytes());
    header.extend((lapic::BASE as u32).to_le_bytes());
    header.extend([0; 4]);
    header.extend(body);
    set_checksum(&mut header, 7);

    let mut table = b"_MP_".to_vec();
    table.extend((ADDRESS as u32 + POINTER_LEN as u32).to_le_bytes());
    // One paragraph; a table is there, and no IMCR.
    table.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    set_checksum(&mut table, 10);
    table.extend(header);
    table
}

/// Has all bytes add up to zero.
fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(at) {
        *byte = byte.wrapping_sub(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn the_pointer_leads_to_a_table_of_one_cpu() {
        let table = table(0x6F1, 0x789);
        let (pointer, config) = table.split_at(POINTER_LEN);
        assert_eq!((&pointer[..8], sum(pointer)), (&b"_MP_\x10\0\x0F\0"[..], 0));
        assert_eq!((&config[..4], sum(config)), (&b"PCMP"[..], 0));
        assert_eq!(usize::from(u16::from_le_bytes([config[4], config[5]])), config.len());
        assert_eq!(config[36..40], 0xFEE0_0000u32.to_le_bytes());
        let (mut at, mut kinds) = (HEADER_LEN, [0; 5]);
        while at < config.len() {
            kinds[usize::from(config[at])] += 1;
            at += if config[at] == 0 { 20 } else { 8 };
        }
        assert_eq!((at, kinds), (config.len(), [1, 1, 1, 15, 2]));
        assert_eq!(u16::from_le_bytes([config[34], config[35]]), 20);
        assert_eq!(config[HEADER_LEN + 4..HEADER_LEN + 12], [0xF1, 6, 0, 0, 0x89, 7, 0, 0]);
    }

    #[test]
    fn the_timer_is_at_pin_2() {
        let table = table(0, 0);
        let timer = [3, 0, 0, 0, 0, 0, 0, 2];
        assert!(table.windows(8).any(|entry| entry == timer));
    }
}
