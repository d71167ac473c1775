use super::*;

fn machine() -> Machine {
    testing::machine(None)
}

fn programmed() -> Machine {
    let mut machine = machine();
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x30), (0x21, 0x04), (0x21, 0x01), (0x21, 0x00), (0x43, 0x34), (0x40, 0xA5), (0x40, 0x12)]
    {
        assert_eq!(machine.write_port(port, &[value], 0), None);
    }
    machine.update_lines(0);
    if machine.intr(0) {
        // The output's rise when the mode was set.
        machine.acknowledge(0);
        machine.write_port(0x20, &[0x20], 0);
        machine.update_lines(0);
    }
    machine
}

#[test]
fn unclaimed_ports_read_as_ones_in_every_width() {
    let mut machine = machine();
    for port in [0x10, 0x2F8, 0x501, 0xCF8, 0xCFC, 0xFFFF] {
        for width in [1, 2, 4] {
            let mut data = vec![0; width];
            machine.read_port(port, &mut data, 0);
            assert_eq!(data, vec![0xFF; width], "port {port:x}");
        }
    }
}

#[test]
fn the_timer_interrupts_with_its_vector() {
    let mut machine = programmed();
    let due = machine.next_event_ns(0).unwrap();
    assert_eq!(due / 1_000_000, 4);
    machine.update_lines(due - 1);
    assert!(!machine.intr(due - 1));
    machine.update_lines(due);
    assert!(machine.intr(due));
    assert_eq!(machine.acknowledge(due), 0x30);
    machine.update_lines(due);
    assert!(!machine.intr(due));
}

#[test]
fn missed_ticks_come_after_each_end_of_interrupt() {
    let mut machine = programmed();
    let late = 41_000_000;
    let mut delivered = 0;
    for step in 0..20u64 {
        let now = late + step;
        machine.update_lines(now);
        if machine.intr(now) {
            machine.acknowledge(now);
            machine.write_port(0x20, &[0x20], now);
            delivered += 1;
        }
    }
    assert_eq!(delivered, 10, "41 ms hold ten ticks of 4 ms");
}

#[test]
fn a_tick_is_requested_while_masked_or_in_service_as_on_the_real_part() {
    let mut machine = programmed();
    let due = machine.next_event_ns(0).unwrap();
    machine.update_lines(due);
    machine.acknowledge(due);
    machine.write_port(0x21, &[0x01], due);
    let next = machine.next_event_ns(due).unwrap();
    machine.update_lines(next);
    let mut requests = [0];
    machine.read_port(0x20, &mut requests, next);
    assert_eq!(requests, [1]);
    assert!(!machine.intr(next));
    machine.write_port(0x20, &[0x20], next);
    machine.write_port(0x21, &[0x00], next);
    assert!(machine.intr(next));
}

#[test]
fn the_guest_ends_the_run_or_resets_the_machine() {
    let mut machine = machine();
    let exit = |status| Some(BusEvent::GuestExit(status));
    assert_eq!(machine.write_port(0x501, &[42], 0), exit(42));
    assert_eq!(machine.write_port(0x501, &[1, 0, 0, 0], 0), exit(1));
    let reset = |line| Some(BusEvent::Reset(line));
    assert_eq!(machine.write_port(0x64, &[0xFE], 0), reset(ResetLine::KeyboardController));
    assert_eq!(machine.write_port(0xCF9, &[0x06], 0), reset(ResetLine::ResetControl));
    assert_eq!(machine.write_port(0x92, &[0x03], 0), reset(ResetLine::SystemControlA));
}

#[test]
fn probing_for_pci_does_not_reset() {
    let mut machine = machine();
    assert_eq!(machine.write_port(0xCF8, &[0, 0xFF, 0xFF, 0x80], 0), None);
    assert_eq!(machine.write_port(0xCFB, &[1], 0), None);
    assert_eq!(machine.write_port(0xCF8, &[0, 0], 0), None);
}

#[test]
fn received_bytes_raise_com1_s_line() {
    let mut machine = programmed();
    machine.write_port(0x3FC, &[0x08], 0);
    machine.write_port(0x3F9, &[0x01], 0);
    assert_eq!(machine.serial_receive(b"hi"), 2);
    machine.update_lines(0);
    assert_eq!(machine.acknowledge(0), 0x34);
}
