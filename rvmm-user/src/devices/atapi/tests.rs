//! A CD-ROM drive behind a channel, as drivers find it.

use proptest::prelude::*;

use super::*;
use crate::devices::ide::drive::Drive;
use crate::devices::ide::registers::{ABRT, BSY, DRDY, DRQ, DSC, ERR, SRST};
use crate::devices::ide::testing::{Bench, DATA};
use crate::disk::testing::{FaultyDisk, FaultyState};
use crate::disk::{Disk, CD_SECTOR};
use std::sync::{Arc, Mutex};

const READY: u8 = DRDY | DSC;
const CHECK: u8 = READY | ERR;

fn content(sectors: usize) -> Vec<u8> {
    (0..sectors * 2048).map(|at| (at / 2048) as u8 ^ at as u8).collect()
}

fn with_disc(sectors: usize) -> (Bench, Arc<Mutex<FaultyState>>) {
    let disc = FaultyDisk::with(content(sectors), CD_SECTOR, true);
    let state = disc.state();
    let drive = Cdrom::new(Some(disc.medium()), Place { channel: 1, drive: 0 });
    (Bench::new([Some(Drive::Cdrom(drive)), None], [Some(Box::new(disc)), None]), state)
}

fn empty() -> Bench {
    Bench::new([Some(Drive::Cdrom(Cdrom::new(None, Place { channel: 1, drive: 0 }))), None], [None, None])
}

fn cdrom(bench: &mut Bench) -> &mut Cdrom {
    match bench.channel.drive_mut(0) {
        Some(Drive::Cdrom(cdrom)) => cdrom,
        _ => panic!("no CD-ROM"),
    }
}

/// Sends a packet; data will be in blocks of at most `limit` bytes, or by DMA.
fn packet(bench: &mut Bench, dma: bool, limit: u16, bytes: &[u8]) {
    let [low, high] = limit.to_le_bytes();
    for (offset, value) in [(6, 0xA0), (1, u8::from(dma)), (4, low), (5, high), (7, 0xA0)] {
        bench.set(offset, value);
    }
    assert!(!bench.channel.irq(), "the packet is wanted without an interrupt");
    assert_eq!((bench.status() & (BSY | DRQ), bench.get(2)), (DRQ, 1));
    let mut whole = bytes.to_vec();
    whole.resize(12, 0);
    for word in whole.chunks(2) {
        bench.channel.write(0, 2, u16::from_le_bytes([word[0], word[1]]).into(), &mut bench.ram);
    }
    bench.serve();
}

/// The data of a packet command by PIO, by the byte counts that the drive says; and the status at the end.
fn answer(bench: &mut Bench, bytes: &[u8], limit: u16) -> (Vec<u8>, u8) {
    packet(bench, false, limit, bytes);
    let mut data = Vec::new();
    loop {
        bench.serve();
        assert!(bench.channel.irq(), "an interrupt for each block and for the end");
        let status = bench.get(7);
        if status & DRQ == 0 {
            assert_eq!(bench.get(2), 3);
            return (data, status);
        }
        assert_eq!(bench.get(2), 2);
        let count = usize::from(bench.get(4)) | usize::from(bench.get(5)) << 8;
        assert!((1..=usize::from(limit)).contains(&count));
        let mut block: Vec<u8> = Vec::new();
        for _ in 0..count.div_ceil(2) {
            block.extend((bench.channel.read(0, 2, &mut bench.ram) as u16).to_le_bytes());
        }
        data.extend(&block[..count]);
    }
}

/// What the last failure was: key, code, qualifier.
fn sense(bench: &mut Bench) -> (u8, u8, u8) {
    let (data, status) = answer(bench, &[0x03, 0, 0, 0, 18], 0xFFFE);
    assert_eq!((status, data.len()), (READY, 18));
    (data[2], data[12], data[13])
}

#[test]
fn the_signature_is_a_packet_device_s() {
    let (mut bench, _) = with_disc(10);
    let signature = |bench: &mut Bench| [1, 2, 3, 4, 5, 7].map(|offset| bench.get(offset));
    assert_eq!(signature(&mut bench), [1, 1, 1, 0x14, 0xEB, 0]);
    for code in [0xEC, 0x20] {
        bench.set(4, 0);
        bench.set(7, code);
        assert_eq!(signature(&mut bench), [ABRT, 1, 1, 0x14, 0xEB, CHECK]);
    }
    bench.set(7, 0x08);
    assert!(!bench.channel.irq());
    assert_eq!(signature(&mut bench), [1, 1, 1, 0x14, 0xEB, 0]);
    bench.set(7, 0xA1);
    assert_eq!(bench.read_blocks(512)[..2], [0xC0, 0x85]);
}

#[test]
fn sectors_are_read_in_blocks_of_the_host_s_limit() {
    let (mut bench, _) = with_disc(100);
    let all = content(100);
    let read = [0x28, 0, 0, 0, 0, 3, 0, 0, 50];
    for limit in [2048, 2047, 512, 0xFFFE, 0xFFFF, 0x8000, 130] {
        let (data, status) = answer(&mut bench, &read, limit);
        assert_eq!(status, READY);
        assert!(data == all[3 * 2048..53 * 2048], "limit {limit}");
    }
    let (data, _) = answer(&mut bench, &[0xA8, 0, 0, 0, 0, 99, 0, 0, 0, 1], 2048);
    assert!(data == all[99 * 2048..]);
    let (data, _) = answer(&mut bench, &[0xBE, 0, 0, 0, 0, 99, 0, 0, 1, 0x10], 2048);
    assert!(data == all[99 * 2048..]);
}

#[test]
fn sectors_are_read_by_dma() {
    let (mut bench, _) = with_disc(200);
    packet(&mut bench, true, 0, &[0x28, 0, 0, 0, 0, 100, 0, 0, 70]);
    assert!(!bench.channel.irq());
    bench.map(70 * 2048);
    bench.start();
    assert_eq!(bench.master(), 0x04);
    assert_eq!((bench.status(), bench.get(2)), (READY, 3));
    assert!(bench.ram.0[DATA..DATA + 70 * 2048] == content(200)[100 * 2048..170 * 2048]);
    // Answers, too.
    packet(&mut bench, true, 0, &[0x12, 0, 0, 0, 36]);
    bench.regions(&[(DATA as u32, 36)]);
    bench.channel.write_master(0, 1, 0, &mut bench.ram);
    bench.start();
    assert_eq!((bench.master(), bench.status()), (0x04, READY));
    assert_eq!(bench.ram.0[DATA + 8..DATA + 12], *b"RVMM");
}

#[test]
fn answers_are_cut_to_the_allocation_length() {
    let (mut bench, _) = with_disc(10);
    for length in [0, 1, 5, 36, 255] {
        let (data, status) = answer(&mut bench, &[0x12, 0, 0, 0, length], 0xFFFE);
        assert_eq!((data.len(), status), (usize::from(length).min(36), READY));
    }
    assert_eq!(answer(&mut bench, &[0x25], 8), (vec![0, 0, 0, 9, 0, 0, 8, 0], READY));
}

#[test]
fn without_a_medium_there_is_nothing_to_read() {
    let mut bench = empty();
    for code in [0x00, 0x25, 0x28, 0x43, 0xA8, 0xBE, 0x51] {
        packet(&mut bench, false, 2048, &[code, 0, 0, 0, 0, 0, 0, 0, 1, 0x10]);
        assert_eq!((bench.status(), bench.get(1)), (CHECK, 0x24), "{code:x}");
        assert_eq!(sense(&mut bench), (2, 0x3A, 1));
    }
    assert_eq!(sense(&mut bench), (0, 0, 0), "told once");
    assert_eq!(answer(&mut bench, &[0x12, 0, 0, 0, 36], 2048).1, READY);
}

#[test]
fn bad_addresses_and_bad_fields_have_their_sense() {
    let (mut bench, _) = with_disc(10);
    type Case<'a> = (&'a [u8], (u8, u8, u8));
    let cases: [Case; 7] = [
        (&[0x28, 0, 0, 0, 0, 10, 0, 0, 1], (5, 0x21, 0)),
        (&[0x28, 0, 0, 0, 0, 9, 0, 0, 2], (5, 0x21, 0)),
        (&[0xA8, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], (5, 0x21, 0)),
        (&[0xFF], (5, 0x20, 0)),
        (&[0x12, 1, 0, 0, 36], (5, 0x24, 0)),
        (&[0xBE, 0, 0, 0, 0, 0, 0, 0, 1, 0xF8], (5, 0x24, 0)),
        (&[0xBE, 4, 0, 0, 0, 0, 0, 0, 1, 0x10], (5, 0x64, 0)),
    ];
    for (bytes, expected) in cases {
        packet(&mut bench, false, 2048, bytes);
        assert!(bench.channel.irq());
        assert_eq!((bench.status(), bench.get(1), bench.get(2)), (CHECK, 0x54, 3));
        assert_eq!(sense(&mut bench), expected);
    }
    packet(&mut bench, false, 0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((bench.status(), bench.get(1)), (CHECK, ABRT), "no room for data");
}

#[test]
fn a_bad_sector_is_a_medium_error_after_the_good_ones() {
    let (mut bench, state) = with_disc(100);
    state.lock().unwrap().bad.insert(42);
    let (data, status) = answer(&mut bench, &[0x28, 0, 0, 0, 0, 40, 0, 0, 10], 2048);
    assert!(data == content(100)[40 * 2048..42 * 2048]);
    assert_eq!((status, bench.get(1)), (CHECK, 0x34));
    let (data, _) = answer(&mut bench, &[0x03, 0, 0, 0, 18], 18);
    assert_eq!((data[0], data[2], &data[3..7], data[12]), (0xF0, 3, &[0, 0, 0, 42][..], 0x11));
}

#[test]
fn the_tray_opens_unless_it_is_locked() {
    let (mut bench, _) = with_disc(10);
    let mut run = |bytes: &[u8]| answer(&mut bench, bytes, 2048).1;
    assert_eq!(run(&[0x1E, 0, 0, 0, 1]), READY);
    assert_eq!(run(&[0x1B, 0, 0, 0, 2]), CHECK);
    assert_eq!(run(&[0x1E, 0, 0, 0, 0]), READY);
    assert_eq!(run(&[0x1B, 0, 0, 0, 2]), READY);
    assert_eq!(run(&[0x00]), CHECK);
    assert_eq!(run(&[0x1B, 0, 0, 0, 3]), READY);
    assert_eq!(run(&[0x00]), CHECK);
    assert_eq!(run(&[0x00]), READY);
    assert_eq!(run(&[0x1B, 0, 0, 0, 1]), READY);
}

#[test]
fn another_medium_is_announced() {
    let mut bench = empty();
    cdrom(&mut bench).insert(Some(Medium { sectors: 5, read_only: true }));
    let event = answer(&mut bench, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8], 2048).0;
    assert_eq!(event, [0, 6, 4, 0x10, 2, 2, 0, 0]);
    let event = answer(&mut bench, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8], 2048).0;
    assert_eq!(event[4], 0, "told once");
    assert_eq!(answer(&mut bench, &[0x00], 2048).1, CHECK);
    assert_eq!(sense(&mut bench), (6, 0x28, 0));
    assert_eq!(answer(&mut bench, &[0x00], 2048).1, READY);
    assert_eq!(answer(&mut bench, &[0x25], 2048).0[3], 4);
}

#[test]
fn a_reset_ends_a_packet() {
    let (mut bench, _) = with_disc(10);
    packet(&mut bench, false, 2048, &[0x28, 0, 0, 0, 0, 1, 0, 0, 2]);
    bench.channel.write_control(SRST, &mut bench.ram);
    bench.channel.write_control(0, &mut bench.ram);
    assert_eq!((bench.status(), bench.get(4)), (0, 0x14));
    assert_eq!(answer(&mut bench, &[0x00], 2048).1, READY);
}

proptest! {
    #[test]
    fn no_packet_panics(
        packets in prop::collection::vec((any::<[u8; 12]>(), any::<u16>(), any::<bool>(), 0..40usize), 1..30),
        sectors in 0..9usize,
    ) {
        const CODES: [u8; 18] = [
            0x00, 0x03, 0x12, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBB, 0xBD, 0xBE, 0x28,
        ];
        let (mut bench, _) = with_disc(sectors);
        for (mut bytes, limit, dma, words) in packets {
            bytes[0] = if bytes[0] & 1 == 0 { bytes[0] } else { CODES[usize::from(bytes[0]) % CODES.len()] };
            let [low, high] = limit.to_le_bytes();
            for (offset, value) in [(1, u8::from(dma)), (4, low), (5, high), (7, 0xA0)] {
                bench.set(offset, value);
            }
            for word in bytes.chunks(2) {
                bench.channel.write(0, 2, u16::from_le_bytes([word[0], word[1]]).into(), &mut bench.ram);
            }
            bench.map(words * 512 + 2);
            bench.start();
            for _ in 0..words {
                bench.serve();
                bench.channel.read(0, 4, &mut bench.ram);
            }
            bench.set(7, 0x08);
            prop_assert_eq!(bench.status(), 0);
        }
    }
}
