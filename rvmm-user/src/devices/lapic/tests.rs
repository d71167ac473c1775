use super::*;
use proptest::prelude::*;

fn write(lapic: &mut Lapic, offset: u64, value: u32) -> Option<u8> {
    lapic.write(offset, &value.to_le_bytes(), 0)
}

fn read_at(lapic: &mut Lapic, offset: u64, now_ns: u64) -> u32 {
    let mut data = [0; 4];
    lapic.read(offset, &mut data, now_ns);
    u32::from_le_bytes(data)
}

fn read(lapic: &mut Lapic, offset: u64) -> u32 {
    read_at(lapic, offset, 0)
}

fn on() -> Lapic {
    let mut lapic = Lapic::new();
    write(&mut lapic, 0xF0, 0x1FF);
    lapic
}

fn fixed(vector: u8, level: bool) -> Message {
    Message { to: Destination::Physical(0), delivery: Delivery::Fixed, vector, level }
}

#[test]
fn the_registers_are_as_after_a_reset() {
    let mut lapic = Lapic::new();
    for (offset, value) in [
        (0x20, 0),
        (0x30, 0x50014),
        (0x80, 0),
        (0xA0, 0),
        (0xD0, 0),
        (0xE0, u32::MAX),
        (0xF0, 0xFF),
        (0x280, 0),
        (0x300, 0),
        (0x320, 0x10000),
        (0x330, 0x10000),
        (0x340, 0x10000),
        (0x350, 0x700),
        (0x360, 0x10000),
        (0x370, 0x10000),
        (0x380, 0),
        (0x390, 0),
        (0x3E0, 0),
    ] {
        assert_eq!(read(&mut lapic, offset), value, "{offset:x}");
    }
}

#[test]
fn constants_are_what_reads_show_and_change_by_writes_only() {
    let mut lapic = on();
    write(&mut lapic, 0x20, 0x0500_0000);
    write(&mut lapic, 0xD0, 0x0200_0000);
    let told = lapic.constants().unwrap();
    for (gpa, value) in told {
        assert_eq!(read_at(&mut lapic, gpa - BASE, 99), value, "{gpa:x}");
    }
    // Time, interrupts and CR8 leave them as they are.
    write(&mut lapic, 0x320, 0x20040);
    write(&mut lapic, 0x380, 100);
    lapic.update(1000);
    assert!(
        lapic.receive(Message { to: Destination::Physical(5), ..fixed(0x51, true) })
            && lapic.acknowledge(None).is_some()
    );
    lapic.set_cr8(7);
    assert_eq!(lapic.constants(), Some(told));
    write(&mut lapic, 0xE0, 0);
    assert_ne!(lapic.constants(), Some(told));
    lapic.set_base(0x8000_0000 | BASE_ENABLED);
    assert!(lapic.constants().unwrap().iter().all(|(gpa, _)| (0x8000_0000..0x8000_1000).contains(gpa)));
    lapic.set_base(BASE);
    assert_eq!(lapic.constants(), None);
}

#[test]
fn the_most_urgent_request_is_taken_and_nests() {
    let mut lapic = on();
    for vector in [0x31, 0x52, 0x55] {
        assert!(lapic.receive(fixed(vector, false)));
    }
    assert_eq!(lapic.acknowledge(None), Some(0x55));
    assert_eq!(lapic.acknowledge(None), None, "the same class waits");
    assert_eq!((read(&mut lapic, 0xA0), read(&mut lapic, 0x120), read(&mut lapic, 0x220)), (0x50, 1 << 21, 1 << 18));
    lapic.receive(fixed(0x60, false));
    assert_eq!(lapic.acknowledge(None), Some(0x60));
    assert_eq!(write(&mut lapic, 0xB0, 0), None, "edges have no end to tell");
    assert_eq!(lapic.acknowledge(None), None);
    write(&mut lapic, 0xB0, 0);
    assert_eq!(lapic.acknowledge(None), Some(0x52));
    write(&mut lapic, 0xB0, 0);
    assert_eq!(lapic.acknowledge(None), Some(0x31));
}

#[test]
fn the_task_priority_holds_classes_back_and_is_cr8() {
    let mut lapic = on();
    lapic.receive(fixed(0x4F, false));
    write(&mut lapic, 0x80, 0x45);
    assert_eq!((lapic.cr8(), lapic.deliverable(None), read(&mut lapic, 0xA0)), (4, None, 0x45));
    lapic.set_cr8(4);
    assert_eq!(read(&mut lapic, 0x80), 0x45, "nothing was written");
    lapic.set_cr8(3);
    assert_eq!((read(&mut lapic, 0x80), lapic.deliverable(None)), (0x30, Some(0x4F)));
}

#[test]
fn the_end_of_a_level_is_told() {
    let mut lapic = on();
    lapic.receive(fixed(0x71, true));
    assert_eq!(read(&mut lapic, 0x180 + 0x30), 1 << 17);
    assert_eq!(lapic.acknowledge(None), Some(0x71));
    assert_eq!(write(&mut lapic, 0xB0, 0), Some(0x71));
    assert_eq!(write(&mut lapic, 0xB0, 0), None);
    lapic.receive(fixed(0x71, false));
    assert_eq!(read(&mut lapic, 0x180 + 0x30), 0);
}

#[test]
fn messages_reach_those_that_they_are_for() {
    let mut lapic = on();
    write(&mut lapic, 0x20, 0x0300_0000);
    write(&mut lapic, 0xD0, 0x2400_0000);
    let reaches = |lapic: &mut Lapic, to| lapic.receive(Message { to, ..fixed(0x40, false) });
    let physical = [0, 3, 0xFF].map(|id| reaches(&mut lapic, Destination::Physical(id)));
    assert_eq!(physical, [false, true, true]);
    let flat = [0x04, 0x20, 0x08, 0xFF].map(|mask| reaches(&mut lapic, Destination::Logical(mask)));
    assert_eq!(flat, [true, true, false, true]);
    write(&mut lapic, 0xE0, 0);
    let cluster = [0x24, 0x2C, 0x14, 0x28, 0xFF].map(|mask| reaches(&mut lapic, Destination::Logical(mask)));
    assert_eq!(cluster, [true, true, false, false, true]);
    assert_eq!(read(&mut lapic, 0xE0), 0x0FFF_FFFF);
}

#[test]
fn a_local_apic_that_is_off_takes_no_vectors_but_keeps_those_it_has() {
    let mut lapic = on();
    lapic.receive(fixed(0x40, false));
    write(&mut lapic, 0x320, 0x20040);
    write(&mut lapic, 0xF0, 0xFF);
    assert!(!lapic.receive(fixed(0x50, false)));
    assert_eq!(lapic.deliverable(None), Some(0x40));
    assert_eq!(read(&mut lapic, 0x320), 0x30040);
    write(&mut lapic, 0x320, 0x40);
    assert_eq!(read(&mut lapic, 0x320), 0x10040, "the mask stays");
    assert!(lapic.receive(Message { delivery: Delivery::Nmi, ..fixed(0, false) }));
    assert_eq!(lapic.take_signals(), Signals { nmi: true, init: false });
}

#[test]
fn interrupts_to_itself() {
    let mut lapic = on();
    write(&mut lapic, 0x300, 0x0004_0051);
    assert_eq!((lapic.acknowledge(None), read(&mut lapic, 0x300)), (Some(0x51), 0x0004_0051));
    write(&mut lapic, 0xB0, 0);
    write(&mut lapic, 0x300, 0x0008_5052);
    assert_eq!(
        (lapic.acknowledge(None), read(&mut lapic, 0x300)),
        (Some(0x52), 0x0008_4052),
        "idle as soon as it is sent"
    );
    write(&mut lapic, 0xB0, 0);
    write(&mut lapic, 0x310, 0);
    write(&mut lapic, 0x300, 0x4053);
    assert_eq!(lapic.acknowledge(None), Some(0x53));
}

#[test]
fn interrupts_to_absent_cpus_reach_nobody() {
    let mut lapic = on();
    for (high, low) in [
        (0x0100_0000, 0x4500),
        (0x0100_0000, 0x4608),
        (0x0100_0000, 0x4055),
        (0, 0x000C_4500),
        (0, 0x000C_4608),
        (0, 0x000C_4055),
        (0, 0x0008_8500),
        (0, 0x0004_4500),
        (0, 0x4608),
        (0, 0x4200),
        (0, 0x4300),
    ] {
        write(&mut lapic, 0x310, high);
        write(&mut lapic, 0x300, low);
        assert_eq!((lapic.deliverable(None), lapic.take_signals()), (None, Signals::default()), "{high:x} {low:x}");
    }
    write(&mut lapic, 0x310, 0);
    write(&mut lapic, 0x300, 0x4500);
    assert_eq!(lapic.take_signals(), Signals { nmi: false, init: true });
}

#[test]
fn the_timer_interrupts_once_or_periodically() {
    let mut lapic = on();
    write(&mut lapic, 0x3E0, 0xB);
    write(&mut lapic, 0x320, 0x60);
    write(&mut lapic, 0x380, 1_000_000);
    assert_eq!(lapic.next_event_ns(0), Some(1_000_000));
    assert_eq!(read_at(&mut lapic, 0x390, 400_000), 600_000);
    lapic.update(1_000_000);
    assert_eq!((lapic.acknowledge(None), lapic.next_event_ns(1_000_000)), (Some(0x60), None));
    write(&mut lapic, 0xB0, 0);

    lapic.write(0x320, &0x20061u32.to_le_bytes(), 2_000_000);
    lapic.write(0x380, &1_000_000u32.to_le_bytes(), 2_000_000);
    for due in [3_000_000, 4_000_000, 5_000_000] {
        assert_eq!(lapic.next_event_ns(due - 100_000), Some(due));
        lapic.update(due);
        assert_eq!(lapic.acknowledge(None), Some(0x61));
        write(&mut lapic, 0xB0, 0);
    }
    lapic.write(0x320, &0x30061u32.to_le_bytes(), 5_000_000);
    assert_eq!(lapic.next_event_ns(5_000_000), None);
    lapic.update(6_500_000);
    assert_eq!(lapic.deliverable(None), None, "masked");
}

#[test]
fn errors_are_shown_by_a_write_and_interrupt() {
    let mut lapic = on();
    write(&mut lapic, 0x370, 0xFE);
    write(&mut lapic, 0x300, 0x0004_0003);
    assert_eq!((read(&mut lapic, 0x280), lapic.acknowledge(None)), (0, Some(0xFE)));
    write(&mut lapic, 0x280, 0);
    assert_eq!(read(&mut lapic, 0x280), 0x20);
    lapic.receive(fixed(5, false));
    read(&mut lapic, 0x3F0);
    write(&mut lapic, 0x280, 0);
    assert_eq!(read(&mut lapic, 0x280), 0xC0);
    write(&mut lapic, 0x280, 0);
    assert_eq!(read(&mut lapic, 0x280), 0);
}

#[test]
fn lint0_carries_the_8259s_as_its_entry_says() {
    let mut lapic = Lapic::new();
    assert!(lapic.passes_external(), "after a reset");
    lapic.set_virtual_wire();
    assert!(lapic.passes_external());
    write(&mut lapic, 0x350, 0x10700);
    assert!(!lapic.passes_external());

    write(&mut lapic, 0x350, 0x38);
    lapic.set_lint0(true);
    lapic.set_lint0(true);
    assert_eq!((lapic.acknowledge(None), lapic.deliverable(None)), (Some(0x38), None), "one edge");
    write(&mut lapic, 0xB0, 0);

    write(&mut lapic, 0x350, 0x8039);
    assert_eq!(read(&mut lapic, 0x350), 0xC039);
    assert_eq!(lapic.acknowledge(None), Some(0x39));
    write(&mut lapic, 0xB0, 0);
    assert_eq!(lapic.acknowledge(None), Some(0x39), "the level is still there");
    lapic.set_lint0(false);
    write(&mut lapic, 0xB0, 0);
    assert_eq!((lapic.acknowledge(None), read(&mut lapic, 0x350)), (None, 0x8039));

    write(&mut lapic, 0x350, 0x400);
    lapic.set_lint0(true);
    assert!(lapic.take_signals().nmi);
}

#[test]
fn switched_off_it_is_not_there() {
    let mut lapic = on();
    assert_eq!((lapic.offset(BASE + 0x30), lapic.offset(BASE + SIZE)), (Some(0x30), None));
    write(&mut lapic, 0x350, 0x10700);
    lapic.set_base(BASE | 0x100);
    assert_eq!(lapic.offset(BASE + 0x30), None);
    assert!(lapic.passes_external() && !lapic.receive(fixed(0x40, false)));
    lapic.set_base(0xFEE1_0900);
    assert_eq!((lapic.offset(0xFEE1_0000), read(&mut lapic, 0xF0)), (Some(0), 0xFF));
}

#[test]
fn only_whole_registers_are_written() {
    let mut lapic = on();
    lapic.write(0x80, &[0x50], 0);
    lapic.write(0x82, &[0x50; 4], 0);
    lapic.write(0x80, &[0x50; 8], 0);
    assert_eq!(read(&mut lapic, 0x80), 0);
    let (mut byte, mut wide) = ([0], [0xAA; 8]);
    lapic.read(0x32, &mut byte, 0);
    lapic.read(0x30, &mut wide, 0);
    assert_eq!((byte, wide), ([0x05], [0; 8]));
}

proptest! {
    #[test]
    fn any_access_keeps_the_order_of_priorities(
        steps in proptest::collection::vec((0u8..8, 0u64..0x1000, any::<u32>(), 0u64..1 << 33), 0..200)
    ) {
        let mut lapic = on();
        let mut now = 0;
        for (what, offset, value, later) in steps {
            now += later;
            match what {
                0 | 1 => { lapic.write(offset & 0xFF0, &value.to_le_bytes(), now); }
                2 => { lapic.read(offset, &mut [0; 4], now); }
                3 => { lapic.receive(fixed(value as u8, value & 0x100 != 0)); }
                4 => lapic.set_lint0(value & 1 != 0),
                5 => lapic.set_cr8(u64::from(value & 15)),
                6 => lapic.set_base(u64::from(value)),
                _ => {
                    let priority = lapic.processor_priority();
                    if let Some(vector) = lapic.acknowledge(None) {
                        prop_assert!(vector >> 4 > priority >> 4 && vector >= FIRST_VECTOR);
                        prop_assert_eq!(lapic.in_service.highest(), Some(vector));
                        prop_assert_eq!(lapic.processor_priority() >> 4, vector >> 4);
                    }
                }
            }
            lapic.update(now);
            prop_assert!(lapic.next_event_ns(now).is_none_or(|at| at >= now));
        }
    }
}
