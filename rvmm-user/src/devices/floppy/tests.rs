//! The controller, as drivers find it.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::devices::block::Medium;
use crate::devices::testing::Ram;
use crate::disk::perform::perform;
use crate::disk::testing::{filled, FaultyDisk, FaultyState};
use crate::disk::{Disk, SECTOR};

const BUFFER: usize = 0x2000;
const SENSE: u8 = 0x08;

struct Bench {
    floppy: Floppy,
    isa: IsaDma,
    ram: Ram,
    disk: FaultyDisk,
    state: Arc<Mutex<FaultyState>>,
}

/// A diskette in drive 0; drive 1 is empty.
fn bench(disk: FaultyDisk, rate: u8) -> Bench {
    let diskette = Diskette::new(disk.medium());
    let state = disk.state();
    let floppy = Floppy::new([Some(diskette), Some(None), None, None]);
    let mut bench = Bench { floppy, isa: IsaDma::new(), ram: Ram::new(0x20000), disk, state };
    bench.set(2, 0x0C);
    assert!(bench.floppy.irq());
    for drive in 0..4 {
        assert_eq!(bench.command(&[SENSE]), [0xC0 | drive, 0]);
    }
    assert!(!bench.floppy.irq());
    bench.set(7, rate);
    bench
}

/// A 1.44 MB diskette whose sectors differ.
fn numbered() -> Bench {
    let mut data = filled(0, 2880);
    for (index, sector) in data.chunks_mut(512).enumerate() {
        sector.fill(index as u8);
        sector[..2].copy_from_slice(&(index as u16).to_le_bytes());
    }
    bench(FaultyDisk::with(data, SECTOR, false), 0)
}

fn expected(first: u16, count: usize) -> Vec<u8> {
    let sector = |index: u16| [&index.to_le_bytes()[..], &[index as u8; 510]].concat();
    (first..).take(count).flat_map(sector).collect()
}

impl Bench {
    fn set(&mut self, offset: u16, value: u8) {
        self.floppy.write(offset, value);
        self.serve();
    }

    fn serve(&mut self) {
        self.floppy.proceed(&mut self.isa, &mut self.ram);
        while let Some((drive, request)) = self.floppy.take_request() {
            assert!(drive < 4);
            let (completion, _) = perform(&mut self.disk, &request);
            self.floppy.complete(completion);
            self.floppy.proceed(&mut self.isa, &mut self.ram);
        }
    }

    fn result(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.floppy.read(4) & (RQM | DIO | NON_DMA) == RQM | DIO {
            bytes.push(self.floppy.read(5));
        }
        bytes
    }

    fn command(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            assert_eq!(self.floppy.read(4) & (RQM | DIO), RQM);
            self.set(5, *byte);
        }
        self.result()
    }

    fn dma(&mut self, mode: u8, bytes: usize) {
        let [low, high, ..] = BUFFER.to_le_bytes();
        let [count_low, count_high, ..] = (bytes - 1).to_le_bytes();
        let writes =
            [(0xA, 6), (0xC, 0), (0xB, mode | 2), (4, low), (4, high), (5, count_low), (5, count_high), (0xA, 2)];
        for (offset, value) in writes {
            self.isa.write_low(offset, value);
        }
    }

    fn seek(&mut self, track: u8) {
        self.command(&[0x0F, 0, track]);
        assert!(self.floppy.irq());
        assert_eq!(self.command(&[SENSE]), [0x20, track]);
        assert!(!self.floppy.irq());
    }

    fn read(&mut self, [c, h, r]: [u8; 3], bytes: usize) -> (Vec<u8>, Vec<u8>) {
        self.dma(0x44, bytes);
        let result = self.command(&[0xE6, h << 2, c, h, r, 2, 18, 27, 0xFF]);
        (result, self.ram.0[BUFFER..BUFFER + bytes].to_vec())
    }
}

#[test]
fn a_reset_interrupts_once_and_is_sensed_four_times() {
    let mut bench = numbered();
    assert_eq!(bench.command(&[SENSE]), [0x80], "nothing left");
    bench.set(4, DSR_RESET);
    assert!(bench.floppy.irq());
    for drive in 0..4 {
        assert_eq!(bench.command(&[SENSE]), [0xC0 | drive, 0]);
    }
    bench.set(2, 0x08);
    assert_eq!((bench.floppy.read(4), bench.floppy.irq()), (0, false));
    bench.set(2, 0x04);
    assert!(!bench.floppy.irq(), "the gate is closed");
    bench.set(2, 0x0C);
    assert!(bench.floppy.irq());
}

#[test]
fn sectors_are_read_by_dma() {
    let mut bench = numbered();
    let (result, data) = bench.read([0, 0, 1], 512);
    assert_eq!(result, [0, 0, 0, 0, 0, 2, 2]);
    assert!(data == expected(0, 1));
    bench.seek(3);
    let (result, data) = bench.read([3, 1, 17], 1024);
    assert_eq!(result, [4, 0, 0, 4, 0, 1, 2]);
    assert!(data == expected(3 * 36 + 18 + 16, 2));
}

#[test]
fn multi_track_goes_on_at_the_other_side() {
    let mut bench = numbered();
    bench.seek(2);
    let (result, data) = bench.read([2, 0, 18], 3 * 512);
    assert_eq!(result, [4, 0, 0, 2, 1, 3, 2]);
    assert!(data == expected(2 * 36 + 17, 3));
    let (result, data) = bench.read([2, 0, 1], 36 * 512);
    assert_eq!(result, [4, 0, 0, 3, 0, 1, 2]);
    assert!(data == expected(2 * 36, 36));
}

#[test]
fn an_end_of_track_that_is_not_there_is_no_end() {
    // As SeaBIOS reads 40 sectors from the last but one of a track on: over three tracks' ends.
    let mut bench = numbered();
    bench.seek(5);
    bench.dma(0x44, 40 * 512);
    let result = bench.command(&[0xE6, 0, 5, 0, 17, 2, 56, 27, 0xFF]);
    assert_eq!(result, [4, 0, 0, 6, 1, 3, 2]);
    assert!(bench.ram.0[BUFFER..BUFFER + 40 * 512] == expected(5 * 36 + 16, 40));
    // Without multi-track there is no such sector.
    bench.seek(5);
    bench.dma(0x44, 3 * 512);
    let result = bench.command(&[0x66, 0, 5, 0, 17, 2, 19, 27, 0xFF]);
    assert_eq!((result[0] & 0xC0, result[2]), (0x40, 0));
}

#[test]
fn more_than_the_cylinder_is_an_error_at_its_end() {
    let mut bench = numbered();
    let (result, data) = bench.read([0, 1, 18], 1024);
    assert_eq!(result, [0x44, 0x80, 0, 1, 0, 1, 2]);
    assert!(data[..512] == expected(35, 1));
}

#[test]
fn sectors_are_written_and_come_back() {
    let mut bench = numbered();
    bench.seek(79);
    bench.ram.0[BUFFER..BUFFER + 1024].copy_from_slice(&expected(7, 2));
    bench.dma(0x48, 1024);
    assert_eq!(bench.command(&[0xC5, 4, 79, 1, 9, 2, 18, 27, 0xFF]), [4, 0, 0, 79, 1, 11, 2]);
    let at = (79 * 36 + 18 + 8) * 512;
    assert!(bench.state.lock().unwrap().data[at..at + 1024] == expected(7, 2));
    // Half a sector: the rest is zeros, the next one stays.
    bench.dma(0x48, 100);
    assert_eq!(bench.command(&[0xC5, 4, 79, 1, 9, 2, 18, 27, 0xFF]), [4, 0, 0, 79, 1, 10, 2]);
    let state = bench.state.lock().unwrap();
    assert!(state.data[at..at + 512] == [&expected(7, 1)[..100], &[0; 412]].concat());
    assert!(state.data[at + 512..at + 1024] == expected(8, 1));
}

#[test]
fn without_dma_the_host_moves_every_byte() {
    let mut bench = numbered();
    bench.command(&[0x03, 0xDF, 0x03]);
    for byte in [0x46, 0, 0, 0, 17, 2, 18, 27, 0xFF] {
        bench.set(5, byte);
    }
    assert!(bench.floppy.irq());
    let mut data = Vec::new();
    while bench.floppy.read(4) == RQM | DIO | NON_DMA | BUSY {
        data.push(bench.floppy.read(5));
        assert_eq!(bench.floppy.irq(), data.len() == 1024, "the result interrupts again");
        bench.serve();
    }
    assert!(data == expected(16, 2));
    assert_eq!(bench.result(), [0, 0, 0, 1, 0, 1, 2]);
    for byte in [0x45, 0, 0, 0, 18, 2, 18, 27, 0xFF] {
        bench.set(5, byte);
    }
    for byte in expected(99, 1) {
        assert_eq!(bench.floppy.read(4), RQM | NON_DMA | BUSY);
        bench.set(5, byte);
    }
    assert_eq!(bench.result()[..3], [0, 0, 0]);
    assert!(bench.state.lock().unwrap().data[17 * 512..18 * 512] == expected(99, 1));
}

#[test]
fn a_track_is_formatted() {
    let mut bench = numbered();
    bench.seek(5);
    let list: Vec<u8> = (0..18).flat_map(|index| [5, 1, index * 5 % 18 + 1, 2]).collect();
    bench.ram.0[BUFFER..BUFFER + list.len()].copy_from_slice(&list);
    bench.dma(0x48, list.len());
    assert_eq!(bench.command(&[0x4D, 4, 2, 18, 84, 0xF6])[..3], [4, 0, 0]);
    let at = (5 * 36 + 18) * 512;
    let state = bench.state.lock().unwrap();
    assert!(state.data[at - 512..at] == expected(5 * 36 + 17, 1));
    assert!(state.data[at..at + 18 * 512] == filled(0xF6, 18));
    assert!(state.data[at + 18 * 512..at + 19 * 512] == expected(6 * 36, 1));
}

#[test]
fn what_is_not_on_the_track_is_not_found() {
    let mut bench = numbered();
    let statuses = |result: Vec<u8>| result[..3].to_vec();
    assert_eq!(statuses(bench.read([0, 0, 19], 512).0), [0x40, 0x04, 0]);
    assert_eq!(statuses(bench.read([0, 0, 0], 512).0), [0x40, 0x04, 0]);
    assert_eq!(statuses(bench.read([1, 0, 1], 512).0), [0x40, 0x04, 0x10]);
    bench.dma(0x44, 512);
    assert_eq!(statuses(bench.command(&[0x46, 0, 0, 1, 1, 2, 18, 27, 0xFF])), [0x40, 0x04, 0]);
    assert_eq!(statuses(bench.command(&[0x46, 0, 0, 0, 1, 3, 18, 27, 0xFF])), [0x40, 0x04, 0]);
    assert_eq!(statuses(bench.command(&[0x46, 1, 0, 0, 1, 2, 18, 27, 0xFF])), [0x41, 0x01, 0]);
    bench.set(7, 2);
    assert_eq!(statuses(bench.read([0, 0, 1], 512).0), [0x40, 0x01, 0], "another data rate");
    bench.set(7, 0);
    bench.seek(81);
    assert_eq!(statuses(bench.read([81, 0, 1], 512).0), [0x40, 0x01, 0], "not formatted");
}

#[test]
fn implied_seeks_move_the_heads() {
    let mut bench = numbered();
    bench.command(&[0x13, 0, 0x57, 0]);
    let (result, data) = bench.read([33, 0, 4], 512);
    assert_eq!(result[..3], [0, 0, 0]);
    assert!(data == expected(33 * 36 + 3, 1));
}

#[test]
fn bad_sectors_and_bad_writes_are_told() {
    let mut bench = numbered();
    bench.state.lock().unwrap().bad.insert(4);
    let (result, data) = bench.read([0, 0, 3], 10 * 512);
    assert_eq!(result, [0x40, 0x20, 0x20, 0, 0, 5, 2]);
    assert!(data[..1024] == expected(2, 2));
    assert_eq!(bench.command(&[0x56, 0, 0, 0, 1, 2, 18, 27, 0xFF])[..3], [0x40, 0x20, 0x20]);
    assert_eq!(bench.command(&[0xD6, 0x80, 0, 0, 1, 2, 18, 27, 4]), [0, 0, 0, 0, 0, 5, 2]);
    bench.state.lock().unwrap().full = true;
    bench.dma(0x48, 512);
    assert_eq!(bench.command(&[0xC5, 0, 0, 0, 9, 2, 18, 27, 0xFF])[..3], [0x50, 0, 0]);
}

#[test]
fn a_protected_diskette_is_not_written() {
    let mut bench = bench(FaultyDisk::with(filled(3, 2880), SECTOR, true), 0);
    bench.dma(0x48, 512);
    assert_eq!(bench.command(&[0xC5, 0, 0, 0, 1, 2, 18, 27, 0xFF])[..3], [0x40, 0x02, 0]);
    assert_eq!(bench.command(&[0x4D, 0, 2, 18, 84, 0xF6])[..3], [0x40, 0x02, 0]);
    assert_eq!(bench.command(&[0x04, 0]), [0x78]);
}

#[test]
fn a_short_image_reads_as_zeros_behind_its_end() {
    let mut bench = bench(FaultyDisk::with(filled(9, 3), SECTOR, false), 0);
    let (result, data) = bench.read([0, 0, 2], 4 * 512);
    assert_eq!(result[..3], [0, 0, 0]);
    assert!(data == [filled(9, 2), filled(0, 2)].concat());
    bench.dma(0x48, 512);
    assert_eq!(bench.command(&[0xC5, 0, 0, 0, 9, 2, 18, 27, 0xFF])[..3], [0x50, 0, 0]);
}

#[test]
fn the_change_line_falls_with_the_first_step() {
    let mut bench = numbered();
    assert_eq!(bench.floppy.read(7), CHANGED);
    bench.seek(1);
    assert_eq!(bench.floppy.read(7), 0);
    bench.floppy.insert(0, None);
    assert_eq!(bench.floppy.read(7), CHANGED);
    bench.seek(0);
    assert_eq!(bench.floppy.read(7), CHANGED);
    bench.floppy.insert(0, Diskette::new(Medium { sectors: 2880, read_only: false }));
    bench.command(&[0x07, 0]);
    assert_eq!(bench.floppy.read(7), CHANGED, "they are there already");
    bench.seek(1);
    bench.command(&[0x07, 0]);
    assert_eq!(bench.floppy.read(7), 0);
    bench.set(2, 0x0D);
    assert_eq!(bench.floppy.read(7), CHANGED, "an empty drive");
}

#[test]
fn drives_that_are_not_there_do_not_find_track_0() {
    let mut bench = numbered();
    bench.command(&[0x07, 2]);
    assert_eq!(bench.command(&[SENSE]), [0x72, 0]);
    bench.command(&[0x07, 0]);
    assert_eq!(bench.command(&[SENSE]), [0x20, 0]);
}

#[test]
fn ids_pass_by() {
    let mut bench = numbered();
    bench.seek(7);
    assert_eq!(bench.command(&[0x4A, 4]), [4, 0, 0, 7, 1, 1, 2]);
    assert!(!bench.floppy.irq());
    assert_eq!(bench.command(&[0x4A, 4]), [4, 0, 0, 7, 1, 2, 2]);
    bench.set(7, 1);
    assert_eq!(bench.command(&[0x4A, 0])[..3], [0x40, 1, 0]);
}

#[test]
fn settings_show_in_a_dump() {
    let mut bench = numbered();
    bench.command(&[0x03, 0xAF, 0x02]);
    bench.command(&[0x13, 0, 0x57, 3]);
    bench.command(&[0x12, 0x84]);
    bench.seek(4);
    assert_eq!(bench.command(&[0x94]), [0x10]);
    bench.set(4, DSR_RESET);
    while bench.command(&[SENSE]).len() == 2 {}
    assert_eq!(bench.command(&[0x0E]), [4, 0, 0, 0, 0xAF, 0x02, 0, 0x84, 0x57, 3]);
    assert_eq!(bench.command(&[0x14]), [0]);
    bench.set(4, DSR_RESET);
    while bench.command(&[SENSE]).len() == 2 {}
    assert_eq!(bench.command(&[0x0E])[8..], [0x20, 0]);
    assert_eq!(bench.command(&[0x10]), [0x90]);
    assert_eq!(bench.command(&[0x1F]), [0x80]);
    bench.command(&[0xCF, 0, 3]);
    assert_eq!(bench.command(&[SENSE]), [0x20, 7]);
}

#[test]
fn a_reset_ends_a_transfer_and_late_answers_are_dropped() {
    let mut bench = numbered();
    bench.dma(0x44, 512);
    for byte in [0x46, 0, 0, 0, 1, 2, 18, 27, 0xFF] {
        bench.floppy.write(5, byte);
    }
    let (_, request) = bench.floppy.take_request().unwrap();
    assert_eq!(bench.floppy.read(4), BUSY);
    bench.set(2, 0x08);
    bench.set(2, 0x0C);
    let (completion, _) = perform(&mut bench.disk, &request);
    bench.floppy.complete(completion);
    assert_eq!(bench.floppy.read(4), RQM);
    while bench.command(&[SENSE]).len() == 2 {}
    assert!(bench.read([0, 0, 1], 512).1 == expected(0, 1));
}

#[test]
fn other_diskettes_have_their_rates() {
    for (sectors, rate, track, last) in
        [(720, 1, 39, 9), (720, 2, 39, 9), (1440, 2, 79, 9), (2400, 0, 79, 15), (5760, 3, 79, 36)]
    {
        let data: Vec<u8> = (0..sectors * 512).map(|at| (at / 512) as u8).collect();
        let mut bench = bench(FaultyDisk::with(data, SECTOR, false), rate);
        bench.seek(track);
        bench.dma(0x44, 512);
        let result = bench.command(&[0x46, 4, track, 1, last, 2, last, 27, 0xFF]);
        assert_eq!(result[..3], [4, 0, 0], "{sectors}");
        assert_eq!(bench.ram.0[BUFFER], (sectors - 1) as u8);
    }
}

proptest! {
    #[test]
    fn nothing_that_a_guest_writes_panics(
        sectors in prop::sample::select(vec![1usize, 320, 720, 2880]),
        writes in prop::collection::vec((0..8u16, any::<u8>(), any::<bool>()), 0..300),
    ) {
        let mut bench = bench(FaultyDisk::new(sectors), 0);
        bench.dma(0x44, 5000);
        for (offset, value, non_dma) in writes {
            match offset {
                // Mostly commands, and those that exist.
                0 | 1 | 6 => {
                    const CODES: [u8; 12] = [0x46, 0xE6, 0xC5, 0x4D, 0x42, 0x56, 0x0F, 0x07, 0x4A, 0x4C, 0x13, 0x08];
                    bench.set(2, 0x0C);
                    bench.set(5, CODES[usize::from(value) % CODES.len()]);
                    for byte in [0, 0, 0, 1, 2, 18, 27, value] {
                        bench.set(5, byte);
                    }
                }
                2 => bench.set(2, value | 0x04),
                3 if non_dma => bench.command_bytes(&[0x03, 0, value]),
                _ => bench.set(offset, value),
            }
            bench.floppy.read(offset);
            bench.floppy.read(5);
            bench.floppy.irq();
        }
        bench.set(2, 0);
        bench.set(2, 0x0C);
        prop_assert_eq!(bench.floppy.read(4), RQM);
    }
}

impl Bench {
    /// Bytes of a command, whatever the controller thinks of them.
    fn command_bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.set(5, *byte));
    }
}
