//! A disk behind a channel, as drivers find it.

use super::*;
use crate::devices::block::Failure;
use crate::devices::ide::ata::Ata;
use crate::devices::ide::geometry::Geometry;
use crate::devices::ide::registers::{ABRT, DF, DRDY, ERR, IDNF, UNC};
use crate::devices::ide::testing::{with, with_disk, Bench, DATA};
use crate::devices::ide::Place;
use crate::disk::testing::{filled, FaultyDisk};

const READY: u8 = DRDY | DSC;

/// A disk whose sectors differ.
fn numbered(sectors: usize) -> Bench {
    let (bench, state) = with_disk(sectors);
    for (index, sector) in state.lock().unwrap().data.chunks_mut(512).enumerate() {
        sector.fill(index as u8);
        sector[..4].copy_from_slice(&(index as u32).to_le_bytes());
    }
    bench
}

fn expected(first: u32, count: usize) -> Vec<u8> {
    let sector = |index: u32| [&index.to_le_bytes()[..], &[index as u8; 508]].concat();
    (first..).take(count).flat_map(sector).collect()
}

fn word(data: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([data[2 * index], data[2 * index + 1]])
}

fn identify(bench: &mut Bench) -> Vec<u8> {
    bench.set(7, 0xEC);
    bench.read_blocks(512)
}

#[test]
fn after_power_on_the_signature_is_a_disk_s() {
    let (mut bench, _) = with_disk(100);
    assert_eq!(bench.status(), READY);
    let registers: Vec<u8> = (1..7).map(|offset| bench.get(offset)).collect();
    assert_eq!(registers, [0x01, 1, 1, 0, 0, 0xA0]);
}

#[test]
fn identify_tells_size_and_geometry() {
    let (mut bench, _) = with_disk(70_000);
    let data = identify(&mut bench);
    assert_eq!(data.len(), 512);
    assert_eq!(bench.get(7), READY);
    assert_eq!((word(&data, 1), word(&data, 3), word(&data, 6)), (69, 16, 63));
    assert_eq!((word(&data, 60), word(&data, 61)), (70_000u32 as u16, 1));
    assert_eq!(word(&data, 100), word(&data, 60));
    assert_eq!(word(&data, 47), 0x8010);
    assert_eq!(data[54..58], *b"VRMM");
}

#[test]
fn sectors_are_read_with_every_kind_of_address() {
    let mut bench = numbered(70_000);
    bench.command28(0x20, 65_536, 3);
    assert_eq!(bench.read_blocks(512), expected(65_536, 3));
    assert!(!bench.channel.irq(), "the end of a PIO read is silent");
    assert_eq!((bench.get(2), bench.get(3), bench.get(4), bench.get(5)), (0, 2, 0, 1));
    bench.command48(0x24, 69_999, 1);
    assert_eq!(bench.read_blocks(512), expected(69_999, 1));
    // Cylinder 1, head 2, sector 3.
    for (offset, value) in [(6, 0xA2), (2, 2), (3, 3), (4, 1), (5, 0), (7, 0x20)] {
        bench.set(offset, value);
    }
    assert_eq!(bench.read_blocks(512), expected((16 + 2) * 63 + 2, 2));
    assert_eq!((bench.get(3), bench.get(4), bench.get(6)), (4, 1, 0xA2));
}

#[test]
fn a_count_of_zero_is_256_sectors() {
    let mut bench = numbered(300);
    bench.command28(0x20, 0, 0);
    assert_eq!(bench.read_blocks(512), expected(0, 256));
    bench.command28(0x30, 20, 0);
    bench.write_blocks(&expected(0, 256), 512);
    assert_eq!(bench.status(), READY);
    bench.command28(0xC8, 20, 0);
    bench.serve();
    bench.map(256 * 512);
    bench.start();
    assert!(bench.ram.0[DATA..DATA + 256 * 512] == expected(0, 256));
}

#[test]
fn commands_longer_than_a_piece_go_on() {
    let mut bench = numbered(1000);
    bench.command48(0x24, 1, 700);
    assert!(bench.read_blocks(512) == expected(1, 700));
    bench.command48(0x29, 7, 600);
    assert!(bench.read_blocks(16 * 512) == expected(7, 600));
    bench.command48(0x34, 0, 600);
    bench.write_blocks(&expected(300, 600), 512);
    assert_eq!(bench.status(), READY);
    bench.command48(0x25, 0, 600);
    bench.serve();
    bench.map(600 * 512);
    bench.start();
    assert!(bench.ram.0[DATA..DATA + 600 * 512] == expected(300, 600));
    assert_eq!(bench.master(), 0x04);
}

#[test]
fn written_sectors_reach_the_medium_before_the_end() {
    let (mut bench, state) = with_disk(100);
    bench.command28(0x30, 10, 2);
    assert!(!bench.channel.irq(), "the first block is wanted without an interrupt");
    bench.write_blocks(&filled(3, 2), 512);
    assert!(bench.channel.irq());
    assert_eq!(bench.status(), READY);
    assert!(!bench.channel.irq());
    assert_eq!(state.lock().unwrap().data[10 * 512..12 * 512], filled(3, 2));
    assert_eq!(state.lock().unwrap().flushes, 0);
    bench.set(7, 0xE7);
    assert_eq!(bench.channel.read_control(), BSY);
    assert_eq!(bench.status(), READY);
    assert_eq!(state.lock().unwrap().flushes, 1);
}

#[test]
fn without_the_write_cache_every_write_is_durable() {
    let (mut bench, state) = with_disk(100);
    bench.set(1, 0x82);
    bench.set(7, 0xEF);
    assert_eq!(bench.status(), READY);
    assert_eq!(word(&identify(&mut bench), 85) & 1 << 5, 0);
    bench.command28(0x30, 10, 1);
    bench.write_blocks(&filled(3, 1), 512);
    assert_eq!(bench.status(), READY);
    assert_eq!(state.lock().unwrap().flushes, 2);
}

#[test]
fn multiple_transfers_so_many_sectors_per_interrupt() {
    let mut bench = numbered(100);
    bench.set(2, 8);
    bench.set(7, 0xC6);
    assert_eq!(bench.status(), READY);
    assert_eq!(word(&identify(&mut bench), 59), 0x108);
    bench.command28(0xC4, 3, 20);
    assert_eq!(bench.read_blocks(8 * 512), expected(3, 20));
    bench.command28(0xC5, 50, 20);
    bench.write_blocks(&expected(3, 20), 8 * 512);
    assert_eq!(bench.status(), READY);
    for bad in [3, 32, 255] {
        bench.set(2, bad);
        bench.set(7, 0xC6);
        assert_eq!((bench.status(), bench.get(1)), (READY | ERR, ABRT));
    }
    bench.set(2, 0);
    bench.set(7, 0xC6);
    bench.command28(0xC4, 3, 1);
    assert_eq!((bench.status(), bench.get(1)), (READY | ERR, ABRT));
}

#[test]
fn a_bad_sector_is_told_after_the_good_ones() {
    let (mut bench, state) = with_disk(1000);
    state.lock().unwrap().bad.insert(305);
    bench.command48(0x24, 300, 20);
    assert_eq!(bench.read_blocks(512).len(), 5 * 512);
    assert!(bench.channel.irq());
    assert_eq!((bench.status(), bench.get(1)), (READY | ERR, UNC));
    assert_eq!((bench.get(2), bench.get(3), bench.get(4)), (15, 305u16 as u8, 1));
    bench.command28(0xC8, 305, 1);
    assert_eq!((bench.status(), bench.get(1)), (READY | ERR, UNC));
    bench.command28(0x40, 300, 20);
    assert_eq!((bench.status(), bench.get(1), bench.get(3)), (READY | ERR, UNC, 305u16 as u8));
    bench.command28(0x40, 306, 20);
    assert_eq!(bench.status(), READY);
}

#[test]
fn a_full_host_is_a_device_fault_and_a_read_only_disk_aborts() {
    let (mut bench, state) = with_disk(100);
    state.lock().unwrap().full = true;
    bench.command28(0x30, 10, 1);
    bench.write_blocks(&filled(3, 1), 512);
    assert_eq!((bench.status(), bench.get(1)), (READY | DF | ERR, ABRT));
    state.lock().unwrap().full = false;
    state.lock().unwrap().broken_flush = true;
    bench.set(7, 0xE7);
    assert_eq!((bench.status(), bench.get(1)), (READY | DF | ERR, ABRT));

    let (mut bench, _) = with(FaultyDisk::with(filled(0, 9), 512, true));
    for code in [0x30, 0xCA, 0xC5] {
        bench.command28(code, 1, 1);
        assert_eq!((bench.status(), bench.get(1)), (READY | ERR, ABRT));
    }
}

#[test]
fn sectors_behind_the_end_are_not_found() {
    let mut bench = numbered(100);
    for code in [0x20, 0x30, 0x40, 0xC8, 0xCA, 0xC4, 0x70] {
        bench.command28(code, 100, 1);
        assert_eq!((bench.status(), bench.get(1)), (READY | ERR, IDNF), "{code:x}");
    }
    bench.command28(0x20, 98, 4);
    assert_eq!(bench.read_blocks(512), expected(98, 2));
    assert_eq!((bench.status(), bench.get(1), bench.get(3)), (READY | ERR, IDNF, 100));
    bench.command28(0x30, 98, 4);
    bench.write_blocks(&filled(1, 2), 512);
    assert_eq!((bench.status(), bench.get(1), bench.get(3)), (READY | ERR, IDNF, 100));
    bench.command48(0x24, u64::from(u32::MAX) << 8, 1);
    assert_eq!((bench.status(), bench.get(1)), (READY | ERR, IDNF));
}

#[test]
fn bus_master_reads_and_writes() {
    let mut bench = numbered(100);
    bench.command28(0xC8, 5, 8);
    bench.regions(&[(DATA as u32, 512), (DATA as u32 + 0x2000, 3584)]);
    bench.start();
    assert_eq!(bench.master(), 0x04);
    assert!(bench.channel.irq());
    assert_eq!(bench.status(), READY);
    assert_eq!(bench.ram.0[DATA..DATA + 512], expected(5, 1));
    assert_eq!(bench.ram.0[DATA + 0x2000..DATA + 0x2000 + 3584], expected(6, 7));
    // Started before the command, as some drivers do.
    bench.channel.write_master(0, 1, 0, &mut bench.ram);
    bench.start();
    assert_eq!(bench.master(), 0x01);
    bench.command28(0xCA, 50, 8);
    bench.serve();
    assert_eq!((bench.master(), bench.status()), (0x04, READY));
    bench.command28(0x20, 50, 8);
    assert_eq!(bench.read_blocks(512), expected(5, 8));
}

#[test]
fn a_longer_table_leaves_the_bus_master_active() {
    let mut bench = numbered(100);
    bench.command28(0xC8, 5, 1);
    bench.regions(&[(DATA as u32, 4096)]);
    bench.start();
    assert_eq!((bench.master(), bench.status()), (0x05, READY));
}

#[test]
fn a_shorter_table_leaves_the_drive_waiting() {
    let mut bench = numbered(100);
    bench.command28(0xC8, 5, 4);
    bench.regions(&[(DATA as u32, 1024)]);
    bench.start();
    assert_eq!(bench.master(), 0x00);
    assert!(!bench.channel.irq());
    assert_eq!(bench.status(), READY | DRQ);
    // The rest can still be fetched.
    bench.channel.write_master(0, 1, 0, &mut bench.ram);
    bench.regions(&[(DATA as u32 + 1024, 1024)]);
    bench.start();
    assert_eq!((bench.master(), bench.status()), (0x04, READY));
    assert_eq!(bench.ram.0[DATA..DATA + 2048], expected(5, 4));
}

#[test]
fn memory_that_is_not_there_is_a_bus_master_error() {
    let mut bench = numbered(100);
    bench.command28(0xC8, 5, 1);
    bench.regions(&[(0x7000_0000, 512)]);
    bench.start();
    assert_eq!(bench.master(), 0x02);
    assert!(!bench.channel.irq());
    bench.channel.write_control(SRST, &mut bench.ram);
    bench.channel.write_control(0, &mut bench.ram);
    assert_eq!(bench.status(), READY);
}

#[test]
fn a_reset_gives_up_what_was_under_way() {
    let mut bench = numbered(100);
    bench.command28(0x20, 5, 1);
    let (drive, _) = bench.channel.take_request().unwrap();
    bench.channel.write_control(SRST, &mut bench.ram);
    assert_eq!(bench.get(7) & BSY, BSY);
    bench.channel.write_control(0, &mut bench.ram);
    bench.command28(0x20, 9, 1);
    // The answer to the first command comes late.
    let late = Completion { data: filled(0xEE, 1), sectors: 1, error: None };
    bench.channel.complete(drive, late, &mut bench.ram);
    assert_eq!(bench.channel.read_control(), BSY);
    assert_eq!(bench.read_blocks(512), expected(9, 1));
}

#[test]
fn interrupts_wait_while_they_are_off_and_until_the_drive_is_selected() {
    let mut bench = numbered(100);
    bench.channel.write_control(NIEN, &mut bench.ram);
    bench.command28(0x40, 5, 1);
    bench.serve();
    assert!(!bench.channel.irq());
    bench.channel.write_control(0, &mut bench.ram);
    assert!(bench.channel.irq());
    bench.set(6, 0xB0);
    assert!(!bench.channel.irq());
    bench.set(6, 0xA0);
    assert!(bench.channel.irq());
    bench.channel.read_control();
    assert!(bench.channel.irq(), "alternate status takes no interrupt back");
    bench.get(7);
    assert!(!bench.channel.irq());
}

#[test]
fn absent_drives_read_as_zero() {
    let (mut bench, _) = with_disk(100);
    bench.set(6, 0xB0);
    assert!((1..8).all(|offset| bench.get(offset) == 0));
    bench.set(7, 0xEC);
    assert_eq!((bench.status(), bench.channel.read_control()), (0, 0));
    bench.set(6, 0xA0);
    assert_eq!(bench.status(), READY);

    let mut empty = Bench::new([None, None], [None, None]);
    empty.set(2, 0x55);
    assert!((0..8).all(|offset| empty.get(offset) == 0));
    assert_eq!(empty.channel.read(0, 4, &mut empty.ram), 0);
    empty.set(7, 0x90);
    assert!(!empty.channel.irq());
}

#[test]
fn both_drives_of_a_channel_work() {
    let disk = |byte| FaultyDisk::with(filled(byte, 50), 512, false);
    let drive = |drive, disk: &FaultyDisk| {
        use crate::disk::Disk;
        Some(Drive::Disk(Ata::new(disk.medium(), Geometry::usual(50), Place { channel: 0, drive })))
    };
    let (first, second) = (disk(1), disk(2));
    let drives = [drive(0, &first), drive(1, &second)];
    let mut bench = Bench::new(drives, [Some(Box::new(first)), Some(Box::new(second))]);
    for (select, byte) in [(0xE0, 1), (0xF0, 2), (0xE0, 1)] {
        for (offset, value) in [(6, select), (2, 1), (3, 4), (4, 0), (5, 0), (7, 0x20)] {
            bench.set(offset, value);
        }
        assert_eq!(bench.read_blocks(512), filled(byte, 1));
        assert_eq!(bench.get(6), select);
    }
    bench.set(6, 0xB0);
    bench.set(7, 0x90);
    assert!(bench.channel.irq());
    assert_eq!((bench.get(1), bench.get(6), bench.get(7)), (1, 0xA0, READY));
}

#[test]
fn the_small_commands() {
    let mut bench = numbered(1000);
    for code in [0x10, 0xE0, 0x94, 0xE1, 0xE2, 0xE3, 0xEA, 0xE7] {
        bench.set(7, code);
        assert_eq!(bench.status(), READY, "{code:x}");
    }
    bench.set(7, 0xE0);
    bench.set(7, 0xE5);
    assert_eq!((bench.status(), bench.get(2)), (READY, 0));
    bench.set(7, 0xE1);
    bench.set(7, 0xE5);
    assert_eq!((bench.status(), bench.get(2)), (READY, 0xFF));
    bench.command28(0xF8, 0, 0);
    assert_eq!((bench.status(), bench.get(3), bench.get(4)), (READY, 999u16 as u8, 3));
    for code in [0x00, 0x08, 0xA0, 0xA1, 0xB0, 0xF9, 0x22] {
        bench.set(7, code);
        assert_eq!((bench.status(), bench.get(1)), (READY | ERR, ABRT), "{code:x}");
    }
    bench.set(7, 0xE6);
    bench.get(7);
    bench.set(7, 0xEC);
    assert_eq!(bench.status(), READY, "asleep");
    bench.channel.write_control(SRST, &mut bench.ram);
    bench.channel.write_control(0, &mut bench.ram);
    assert_eq!(identify(&mut bench).len(), 512);
}

#[test]
fn another_translation_moves_chs_addresses() {
    let mut bench = numbered(1000);
    bench.set(6, 0xA3); // four heads
    bench.set(2, 10);
    bench.set(7, 0x91);
    assert_eq!(bench.status(), READY);
    let data = identify(&mut bench);
    assert_eq!((word(&data, 54), word(&data, 55), word(&data, 56)), (25, 4, 10));
    for (offset, value) in [(6, 0xA3), (2, 1), (3, 10), (4, 1), (5, 0), (7, 0x20)] {
        bench.set(offset, value);
    }
    assert_eq!(bench.read_blocks(512), expected(79, 1));
    for (head, sector) in [(4, 1), (0, 0), (0, 11)] {
        for (offset, value) in [(6, 0xA0 | head), (2, 1), (3, sector), (4, 1), (5, 0), (7, 0x20)] {
            bench.set(offset, value);
        }
        assert_eq!((bench.status(), bench.get(1)), (READY | ERR, IDNF));
    }
}

#[test]
fn transfer_modes_are_chosen() {
    let (mut bench, _) = with_disk(100);
    let mut choose = |mode| {
        bench.set(1, 3);
        bench.set(2, mode);
        bench.set(7, 0xEF);
        let status = bench.status();
        let data = identify(&mut bench);
        (status, word(&data, 63), word(&data, 88))
    };
    assert_eq!(choose(0x22), (READY, 0x0407, 0x003F));
    assert_eq!(choose(0x42), (READY, 0x0007, 0x043F));
    assert_eq!(choose(0x0C).0, READY);
    assert_eq!(choose(0x46).0, READY | ERR);
}

#[test]
fn a_failure_of_any_kind_ends_the_command() {
    for failure in [Failure::NoSuchSector, Failure::Unreadable, Failure::Unwritable, Failure::WriteProtected] {
        let mut bench = numbered(100);
        bench.command28(0xC8, 5, 4);
        let (drive, _) = bench.channel.take_request().unwrap();
        let completion = Completion { data: Vec::new(), sectors: 0, error: Some(failure) };
        bench.channel.complete(drive, completion, &mut bench.ram);
        assert!(bench.channel.irq());
        assert_eq!(bench.status() & (BSY | DRQ | ERR), ERR);
    }
}
