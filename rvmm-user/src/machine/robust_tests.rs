//! Any accesses to any ports and addresses, in any order and at any time: an answer, no panic. PROPTEST_CASES=N runs longer.

use proptest::prelude::*;

use super::{testing, Machine};

#[derive(Clone, Debug)]
enum Access {
    In(u16, usize),
    Out(u16, usize, u32),
    Read(u64, usize),
    Write(u64, Vec<u8>),
    /// Nanoseconds pass, and the loop that serves the machine goes round.
    Wait(u64),
    Reset,
}

/// Ports where something is, and any.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        2 => 0u16..0x100,
        2 => prop::sample::select(vec![0x170u16, 0x1F0, 0x376, 0x3B4, 0x3C0, 0x3D4, 0x3F0, 0x3F8, 0x402, 0x510, 0xB000, 0xB100, 0xCF8, 0xCFC, 0x5658])
            .prop_flat_map(|base| (0..16u16).prop_map(move |n| base + n)),
        1 => any::<u16>(),
    ]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        0xA_0000u64..0x10_0000,
        0x20_0000u64..0x30_0000,
        0xFEC0_0000u64..0xFEF0_0000,
        any::<u64>(),
        0u64..0x20_0000
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let size = || prop::sample::select(vec![1usize, 2, 4]);
    let time = prop_oneof![0u64..1000, 0u64..100_000_000, 0..u64::MAX / 4096];
    prop_oneof![
        8 => (port(), size()).prop_map(|(p, s)| Access::In(p, s)),
        12 => (port(), size(), any::<u32>()).prop_map(|(p, s, v)| Access::Out(p, s, v)),
        // The configuration space of PCI: an address that is one.
        3 => (any::<u8>(), any::<u8>(), size(), any::<u32>()).prop_map(|(f, r, _, _)| Access::Out(0xCF8, 4, 0x8000_0000 | u32::from(f & 31) << 8 | u32::from(r & !3))),
        2 => (address(), 1usize..9).prop_map(|(a, n)| Access::Read(a, n)),
        2 => (address(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(a, d)| Access::Write(a, d)),
        3 => time.prop_map(Access::Wait),
        1 => Just(Access::Reset),
    ]
}

fn run(machine: &mut Machine, accesses: Vec<Access>) {
    let mut now_ns = 0u64;
    for access in accesses {
        match access {
            Access::In(port, size) => {
                let mut data = [0; 4];
                machine.read_port(port, &mut data[..size], now_ns);
            }
            Access::Out(port, size, value) => {
                machine.write_port(port, &value.to_le_bytes()[..size], now_ns);
            }
            Access::Read(gpa, length) => {
                let mut data = vec![0; length];
                machine.read_memory(gpa, &mut data, now_ns);
            }
            Access::Write(gpa, data) => machine.write_memory(gpa, &data, now_ns),
            Access::Wait(ns) => {
                now_ns = now_ns.saturating_add(ns);
                machine.update_lines(now_ns);
                machine.next_event_ns(now_ns);
                if machine.intr(now_ns) {
                    machine.acknowledge(now_ns);
                }
                machine.take_layout();
                machine.take_written();
            }
            Access::Reset => machine.reset(now_ns),
        }
    }
    let _ = machine.describe(now_ns);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_accesses_are_answered(firmware in any::<bool>(), accesses in prop::collection::vec(access(), 0..250)) {
        let image = vec![0xF4; 0x1_0000];
        run(&mut testing::machine(firmware.then_some(&image[..])), accesses);
    }
}
