//! The ACPI tables, which firmware fetches from the configuration device (ACPI specification 6.5, chapter 5).
//!
//! They say what is there and no more: one CPU, two 8259s, the APICs if there are any (without, no MADT), no sleep but soft off. Addresses and checksums
//! that depend on where firmware puts a table are left to it, by a list of commands (QEMU's `table-loader`, hw/acpi/bios-linker-loader.c).

mod dsdt;
mod loader;
mod madt;

use acpi_tables::sdt::Sdt;

use super::power::{ACPI_DISABLE, ACPI_ENABLE, SMI_COMMAND};
use super::reset;
use loader::{Loader, Zone};

/// Where firmware is told to put the power management ports.
const PM_BASE: u32 = 0x600;
/// The system control interrupt.
const SCI: u16 = 9;

const OEM: [u8; 6] = *b"RVMM  ";
const OEM_TABLE: [u8; 8] = *b"RVMM PC ";

/// The file of all tables but the root pointer, and that of the root pointer.
const TABLES: &str = "etc/acpi/tables";
const ROOT: &str = "etc/acpi/rsdp";

/// Offsets in tables.
const CHECKSUM: usize = 9;
const FADT_FACS: usize = 36;
const FADT_DSDT: usize = 40;
const FADT_DSDT_64: usize = 140;
const HEADER: usize = 36;
const RSDP_CHECKSUM: usize = 8;
const RSDP_RSDT: usize = 16;
const RSDP_LEN: usize = 20;

/// FADT: WBINVD works, C1 is there, no sleep button, the clock's alarm is no fixed event, the reset register is there.
const FADT_FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10;
/// FADT: ISA devices, and an 8042.
const BOOT_FLAGS: u16 = 1 << 0 | 1 << 1;
/// FADT revision 3 (ACPI 2.0) and its length.
const FADT_REVISION: u8 = 3;
const FADT_LEN: u32 = 244;
const FACS_LEN: u32 = 64;

/// Names and contents of the files, with the list of commands.
pub fn files(memory_bytes: u64, apic: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut loader = Loader::default();
    loader.allocate(TABLES, 64, Zone::High);
    loader.allocate(ROOT, 16, Zone::FSegment);

    let mut tables = facs();
    let dsdt_at = tables.len();
    tables.extend(dsdt::table(memory_bytes));

    let fadt_at = tables.len();
    tables.extend(fadt(dsdt_at as u32));
    loader.add_address(TABLES, fadt_at + FADT_FACS, 4, TABLES);
    loader.add_address(TABLES, fadt_at + FADT_DSDT, 4, TABLES);
    loader.add_address(TABLES, fadt_at + FADT_DSDT_64, 8, TABLES);
    loader.add_checksum(TABLES, fadt_at + CHECKSUM, fadt_at, FADT_LEN as usize);

    let mut listed = vec![fadt_at];
    if apic {
        listed.push(tables.len());
        tables.extend(madt::table());
    }

    let rsdt_at = tables.len();
    let mut rsdt = Sdt::new(*b"RSDT", HEADER as u32, 1, OEM, OEM_TABLE, 1);
    for (index, at) in listed.iter().enumerate() {
        rsdt.append_slice(&(*at as u32).to_le_bytes());
        loader.add_address(TABLES, rsdt_at + HEADER + 4 * index, 4, TABLES);
    }
    tables.extend(without_checksum(rsdt.as_slice(), CHECKSUM));
    loader.add_checksum(TABLES, rsdt_at + CHECKSUM, rsdt_at, HEADER + 4 * listed.len());

    loader.add_address(ROOT, RSDP_RSDT, 4, TABLES);
    loader.add_checksum(ROOT, RSDP_CHECKSUM, 0, RSDP_LEN);
    vec![(TABLES, tables), (ROOT, rsdp(rsdt_at as u32)), ("etc/table-loader", loader.bytes())]
}

/// Shared memory between firmware and operating system; nobody uses the lock in it.
fn facs() -> Vec<u8> {
    let mut table = b"FACS".to_vec();
    table.extend(FACS_LEN.to_le_bytes());
    table.resize(FACS_LEN as usize, 0);
    table
}

fn fadt(dsdt_at: u32) -> Vec<u8> {
    let mut table = Sdt::new(*b"FACP", FADT_LEN, FADT_REVISION, OEM, OEM_TABLE, 1);
    table.write_u32(FADT_DSDT, dsdt_at);
    table.write_u64(FADT_DSDT_64, dsdt_at.into());
    table.write_u16(46, SCI);
    table.write_u32(48, SMI_COMMAND.into());
    table.write_u8(52, ACPI_ENABLE);
    table.write_u8(53, ACPI_DISABLE);
    // PM1a event and control, the timer, general purpose events; their lengths.
    for (at, offset) in [(56, 0x0), (64, 0x4), (76, 0x8), (80, 0xC)] {
        table.write_u32(at, PM_BASE + offset);
    }
    for (at, len) in [(88, 4), (89, 2), (91, 4), (92, 4)] {
        table.write_u8(at, len);
    }
    // No C2 and C3: latencies beyond what is allowed for them.
    table.write_u16(96, 0xFFF);
    table.write_u16(98, 0xFFF);
    table.write_u16(109, BOOT_FLAGS);
    table.write_u32(112, FADT_FLAGS);
    // The reset register: a byte in I/O space, and what to write to it.
    for (at, address, bits) in [
        (116, u32::from(reset::PORT), 8),
        (148, PM_BASE, 32),
        (172, PM_BASE + 4, 16),
        (208, PM_BASE + 8, 32),
        (220, PM_BASE + 12, 32),
    ] {
        table.write_u8(at, 1);
        table.write_u8(at + 1, bits);
        table.write_u64(at + 4, address.into());
    }
    table.write_u8(128, 0x06);
    // The clock's century register.
    table.write_u8(108, 0x32);
    without_checksum(table.as_slice(), CHECKSUM)
}

/// Revision 0: a 32-bit root table, which every operating system can read.
fn rsdp(rsdt_at: u32) -> Vec<u8> {
    let mut pointer = b"RSD PTR \0".to_vec();
    pointer.extend(OEM);
    pointer.push(0);
    pointer.extend(rsdt_at.to_le_bytes());
    pointer
}

/// Firmware subtracts the sum of all bytes from the checksum, so that it has to begin as zero.
fn without_checksum(table: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = table.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte = 0;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, apic: bool) -> Vec<u8> {
        files(64 << 20, apic).into_iter().find(|(file, _)| *file == name).unwrap().1
    }

    #[test]
    fn the_tables_lie_one_behind_the_other() {
        for (apic, names) in
            [(false, &["FACS", "DSDT", "FACP", "RSDT"][..]), (true, &["FACS", "DSDT", "FACP", "APIC", "RSDT"])]
        {
            let tables = file(TABLES, apic);
            let mut at = 0;
            let mut found = Vec::new();
            while at < tables.len() {
                found.push(String::from_utf8(tables[at..at + 4].to_vec()).unwrap());
                at += u32::from_le_bytes(tables[at + 4..at + 8].try_into().unwrap()) as usize;
            }
            assert_eq!((at, found), (tables.len(), names.iter().map(|name| name.to_string()).collect()));
        }
    }

    #[test]
    fn the_fadt_points_to_the_ports() {
        let table = fadt(0x40);
        assert_eq!(table.len(), FADT_LEN as usize);
        assert_eq!(table[46..54], [9, 0, 0xB2, 0, 0, 0, 0xF1, 0xF0]);
        assert_eq!((&table[56..60], &table[76..80]), (&[0, 6, 0, 0][..], &[8, 6, 0, 0][..]));
        assert_eq!(table[116..129], [1, 8, 0, 0, 0xF9, 0x0C, 0, 0, 0, 0, 0, 0, 6]);
    }

    #[test]
    fn the_root_pointer_has_its_signature() {
        let pointer = file(ROOT, false);
        assert_eq!((pointer.len(), &pointer[..8]), (RSDP_LEN, &b"RSD PTR "[..]));
    }
}
