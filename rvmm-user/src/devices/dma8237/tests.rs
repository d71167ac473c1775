use super::*;
use crate::devices::testing::Ram;
use proptest::prelude::*;

/// Channel 2, as a floppy driver programs it.
fn programmed(mode: u8, address: u32, count: u16) -> IsaDma {
    let mut dma = IsaDma::new();
    let [low, high, page, _] = address.to_le_bytes();
    let [count_low, count_high] = count.to_le_bytes();
    dma.write_low(0xA, 4 | 2);
    dma.write_low(0xC, 0);
    dma.write_low(0xB, mode | 2);
    for (offset, value) in [(4, low), (4, high), (5, count_low), (5, count_high)] {
        dma.write_low(offset, value);
    }
    dma.write_page(1, page);
    dma.write_low(0xA, 2);
    dma
}

fn current(dma: &mut IsaDma, offset: u16) -> u16 {
    dma.write_low(0xC, 0);
    u16::from_le_bytes([dma.read_low(offset), dma.read_low(offset)])
}

#[test]
fn a_transfer_to_memory_ends_at_its_count() {
    let mut ram = Ram::new(0x40000);
    let mut dma = programmed(0x44, 0x23000, 7);
    assert_eq!(dma.deliver(2, &[1, 2, 3], &mut ram), Moved { bytes: 3, terminal_count: false });
    assert_eq!((current(&mut dma, 4), current(&mut dma, 5)), (0x3003, 4));
    assert_eq!(dma.read_low(8), 0);
    assert_eq!(dma.deliver(2, &[4, 5, 6, 7, 8, 9], &mut ram), Moved { bytes: 5, terminal_count: true });
    assert_eq!(ram.0[0x23000..0x23009], [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    assert_eq!(current(&mut dma, 5), 0xFFFF);
    assert_eq!(dma.read_low(8), 4);
    assert_eq!(dma.read_low(8), 0, "reading clears it");
    assert_eq!(dma.deliver(2, &[1], &mut ram), Moved::NOTHING, "masked by its end");
}

#[test]
fn a_transfer_from_memory_reads_it() {
    let mut ram = Ram::new(0x40000);
    ram.0[0x1FFFE..0x20002].copy_from_slice(&[1, 2, 3, 4]);
    ram.0[0x10000] = 9;
    let mut dma = programmed(0x48, 0x1FFFE, 3);
    let mut data = [0; 4];
    assert_eq!(dma.collect(2, &mut data, &mut ram), Moved { bytes: 4, terminal_count: true });
    assert_eq!(data, [1, 2, 9, 0], "the address wraps in its 64 KiB");
}

#[test]
fn automatic_initialization_begins_anew() {
    let mut ram = Ram::new(0x40000);
    let mut dma = programmed(0x54, 0x100, 1);
    for byte in 0..3 {
        assert!(dma.deliver(2, &[byte, byte], &mut ram).terminal_count);
        assert_eq!((current(&mut dma, 4), current(&mut dma, 5)), (0x100, 1));
    }
    assert_eq!(ram.0[0x100..0x103], [2, 2, 0]);
}

#[test]
fn addresses_may_count_down() {
    let mut ram = Ram::new(0x40000);
    programmed(0x64, 0x102, 2).deliver(2, &[1, 2, 3], &mut ram);
    assert_eq!(ram.0[0x100..0x103], [3, 2, 1]);
}

#[test]
fn verifying_moves_the_count_alone() {
    let mut ram = Ram::new(0x40000);
    let mut dma = programmed(0x40, 0x100, 2);
    assert_eq!(dma.deliver(2, &[1, 2, 3], &mut ram), Moved { bytes: 3, terminal_count: true });
    assert_eq!(ram.0[0x100], 0);
}

#[test]
fn what_is_masked_off_or_otherwise_programmed_does_not_move() {
    let mut ram = Ram::new(0x40000);
    let mut dma = programmed(0x48, 0x100, 2);
    assert_eq!(dma.deliver(2, &[1], &mut ram), Moved::NOTHING, "the other direction");
    dma.write_low(8, 4);
    assert_eq!(dma.collect(2, &mut [0], &mut ram), Moved::NOTHING, "switched off");
    dma.write_low(8, 0);
    dma.write_low(0xF, 4);
    assert_eq!(dma.collect(2, &mut [0], &mut ram), Moved::NOTHING, "masked");
    dma.write_low(0xE, 0);
    assert_eq!(dma.collect(2, &mut [0], &mut ram).bytes, 1);
    dma.write_low(0xD, 0);
    assert_eq!(dma.read_low(0xF), 0xFF, "master clear masks all");
    assert_eq!(dma.collect(9, &mut [0], &mut ram), Moved::NOTHING);
}

#[test]
fn the_second_controller_moves_words() {
    let mut ram = Ram::new(0x40000);
    let mut dma = IsaDma::new();
    // Channel 5: word address 8001 in page 3, so 2_0000 + 1_0002.
    for (offset, value) in [(0xB, 0x45), (0xC, 0), (2, 0x01), (2, 0x80), (3, 1), (3, 0), (0xA, 1)] {
        dma.write_high(offset, value);
    }
    dma.write_page(0xB, 3);
    assert_eq!(dma.deliver(5, &[1, 2, 3, 4, 5, 6], &mut ram), Moved { bytes: 4, terminal_count: true });
    assert_eq!(ram.0[0x30002..0x30007], [1, 2, 3, 4, 0]);
}

#[test]
fn absent_memory_reads_as_ones() {
    let mut ram = Ram::new(0x1000);
    let mut data = [0; 2];
    programmed(0x48, 0xFFF, 1).collect(2, &mut data, &mut ram);
    assert_eq!(data, [0, 0xFF]);
}

proptest! {
    #[test]
    fn nothing_that_a_guest_writes_panics(
        writes in prop::collection::vec((0..3u8, 0..16u16, any::<u8>()), 0..100),
        length in 0..600usize,
    ) {
        let mut ram = Ram::new(0x1000);
        let mut dma = IsaDma::new();
        for (which, offset, value) in writes {
            match which {
                0 => dma.write_low(offset, value),
                1 => dma.write_high(offset, value),
                _ => dma.write_page(offset, value),
            }
            dma.read_low(offset);
            dma.read_high(offset);
        }
        for channel in 0..8 {
            let mut data = vec![0; length];
            prop_assert!(dma.deliver(channel, &data, &mut ram).bytes <= length);
            prop_assert!(dma.collect(channel, &mut data, &mut ram).bytes <= length);
        }
    }
}
