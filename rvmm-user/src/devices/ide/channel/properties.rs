//! What holds for every guest: nothing panics, and a driver reads what it wrote.

use proptest::prelude::*;

use super::*;
use crate::devices::ide::registers::DRDY;
use crate::devices::ide::testing::{with_disk, Bench, DATA};
use crate::disk::testing::filled;

const READY: u8 = DRDY | DSC;

/// An access of any of a channel's registers.
#[derive(Clone, Debug)]
enum Access {
    Read(u16, usize),
    Write(u16, usize, u32),
    Control(u8),
    Master(u16, usize, u32),
    Serve,
}

fn access() -> impl Strategy<Value = Access> {
    let width = prop_oneof![Just(1usize), Just(2), Just(4)];
    prop_oneof![
        (0..8u16, width.clone()).prop_map(|(offset, width)| Access::Read(offset, width)),
        (0..8u16, width.clone(), any::<u32>()).prop_map(|(offset, width, value)| Access::Write(offset, width, value)),
        // Commands that exist, more often than chance would have them.
        prop::sample::select(vec![
            0x20u32, 0x24, 0x25, 0x29, 0x30, 0x35, 0xC4, 0xC5, 0xC8, 0xCA, 0xEC, 0xA0, 0xA1, 0xEF, 0x91
        ])
        .prop_map(|code| Access::Write(7, 1, code)),
        any::<u8>().prop_map(Access::Control),
        (0..8u16, width, any::<u32>()).prop_map(|(offset, width, value)| Access::Master(offset, width, value & 0xFFFF)),
        Just(Access::Serve),
    ]
}

fn try_all(bench: &mut Bench, accesses: &[Access]) {
    for access in accesses {
        match *access {
            Access::Read(offset, width) => drop(bench.channel.read(offset, width, &mut bench.ram)),
            Access::Write(offset, width, value) => bench.channel.write(offset, width, value, &mut bench.ram),
            Access::Control(value) => bench.channel.write_control(value & 0x86, &mut bench.ram),
            Access::Master(offset, width, value) => bench.channel.write_master(offset, width, value, &mut bench.ram),
            Access::Serve => bench.serve(),
        }
        bench.channel.irq();
    }
    bench.serve();
}

proptest! {
    #[test]
    fn nothing_that_a_guest_writes_panics(accesses in prop::collection::vec(access(), 1..200)) {
        let (mut bench, _) = with_disk(70);
        try_all(&mut bench, &accesses);
        bench.channel.write_control(SRST, &mut bench.ram);
        bench.channel.write_control(0, &mut bench.ram);
        prop_assert_eq!(bench.status(), READY);
    }

    #[test]
    fn a_driver_sees_what_it_wrote(steps in prop::collection::vec((0..6u8, 0..590u32, 1..40u8, any::<u8>()), 1..25)) {
        let (mut bench, state) = with_disk(640);
        let mut shadow = filled(0, 640);
        for (kind, lba, count, byte) in steps {
            let (from, bytes) = (lba as usize * 512, usize::from(count) * 512);
            let data: Vec<u8> = (0..bytes).map(|at| byte ^ (at as u8) ^ ((at >> 8) as u8)).collect();
            match kind {
                0 => bench.command28(0x20, lba, count),
                1 => bench.command28(0xC4, lba, count),
                2 => bench.command28(0x30, lba, count),
                3 => bench.command48(0x39, lba.into(), count.into()),
                4 => bench.command28(0xC8, lba, count),
                _ => bench.command48(0x35, lba.into(), count.into()),
            }
            bench.serve();
            match kind {
                0 => prop_assert!(bench.read_blocks(512) == shadow[from..from + bytes]),
                1 => prop_assert!(bench.read_blocks(16 * 512) == shadow[from..from + bytes]),
                2 => bench.write_blocks(&data, 512),
                3 => bench.write_blocks(&data, 16 * 512),
                _ => {
                    if kind == 5 {
                        bench.ram.0[DATA..DATA + bytes].copy_from_slice(&data);
                    }
                    bench.map(bytes);
                    bench.start();
                    prop_assert_eq!(bench.master(), 0x04);
                    prop_assert!(kind == 5 || bench.ram.0[DATA..DATA + bytes] == shadow[from..from + bytes]);
                    bench.channel.write_master(0, 1, 0, &mut bench.ram);
                }
            }
            prop_assert_eq!(bench.status(), READY);
            if matches!(kind, 2 | 3 | 5) {
                shadow[from..from + bytes].copy_from_slice(&data);
            }
        }
        prop_assert!(state.lock().unwrap().data == shadow);
    }
}
