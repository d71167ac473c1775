use proptest::prelude::*;

use super::*;

/// All bytes that the guest gets by reading whenever the status says so.
fn drain(controller: &mut I8042, now_ns: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        while controller.read_status(*now_ns) & OUTPUT_FULL != 0 {
            bytes.push(controller.read_data(*now_ns));
        }
        match controller.next_event_ns(*now_ns) {
            Some(at) if at <= *now_ns + FRAME_NS => *now_ns = at.max(*now_ns + 1),
            _ => return bytes,
        }
    }
}

fn set_command_byte(controller: &mut I8042, value: u8) {
    controller.write_command(0x60, 0);
    controller.write_data(value, 0);
}

fn press(controller: &mut I8042, name: &str, down: bool) {
    assert!(controller.type_key(Key::named(name).unwrap(), down));
}

#[test]
fn the_tests_pass() {
    let mut controller = I8042::new();
    for (command, answer) in [(0xAA, 0x55), (0xA9, 0), (0xAB, 0)] {
        assert_eq!(controller.write_command(command, 0), Effect::None);
        assert_eq!(controller.read_status(0) & (OUTPUT_FULL | SYSTEM), OUTPUT_FULL | SYSTEM);
        assert_eq!(controller.read_data(0), answer);
        assert_eq!(controller.read_status(0) & OUTPUT_FULL, 0);
    }
}

#[test]
fn the_controller_s_memory_reads_back() {
    let mut controller = I8042::new();
    set_command_byte(&mut controller, 0x47);
    controller.write_command(0x20, 0);
    assert_eq!(controller.read_data(0), 0x47);
    controller.write_command(0x7F, 0);
    controller.write_data(0xA5, 0);
    controller.write_command(0x3F, 0);
    assert_eq!(controller.read_data(0), 0xA5);
}

#[test]
fn line_0_resets_and_line_1_is_a20() {
    assert_eq!(I8042::new().write_command(0xFE, 0), Effect::Reset);
    assert_eq!(I8042::new().write_command(0xFF, 0), Effect::None);
    let mut controller = I8042::new();
    controller.write_command(0xD1, 0);
    assert_eq!(controller.write_data(0xDD, 0), Effect::A20(false));
    assert!(!controller.a20());
    controller.write_command(0xD0, 0);
    assert_eq!(controller.read_data(0) & 3, 1);
    controller.write_command(0xD1, 0);
    controller.write_data(0xDF, 0);
    assert!(controller.a20());
    controller.write_command(0xDD, 0);
    assert!(!controller.a20());
    controller.write_command(0xDF, 0);
    assert!(controller.a20());
    controller.write_command(0xD1, 0);
    assert_eq!(controller.write_data(0xFE, 0), Effect::Reset);
}

#[test]
fn keys_arrive_translated_one_by_one() {
    let mut controller = I8042::new();
    let mut now = 1_000_000;
    press(&mut controller, "a", true);
    press(&mut controller, "a", false);
    controller.update(now);
    assert!(controller.keyboard_irq());
    assert_eq!(controller.read_data(now), 0x1E);
    assert!(!controller.keyboard_irq());
    assert_eq!(controller.read_data(now), 0x1E, "the register keeps its byte");
    now = controller.next_event_ns(now).unwrap();
    controller.update(now);
    assert!(controller.keyboard_irq());
    assert_eq!(controller.read_data(now), 0x9E);
    press(&mut controller, "pause", true);
    assert_eq!(drain(&mut controller, &mut now), [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
}

#[test]
fn without_translation_the_guest_sees_set_2() {
    let mut controller = I8042::new();
    set_command_byte(&mut controller, 0x01);
    press(&mut controller, "up", true);
    press(&mut controller, "up", false);
    assert_eq!(drain(&mut controller, &mut 0), [0xE0, 0x75, 0xE0, 0xF0, 0x75]);
}

#[test]
fn a_disabled_keyboard_waits() {
    let mut controller = I8042::new();
    controller.write_command(0xAD, 0);
    press(&mut controller, "a", true);
    controller.update(0);
    assert_eq!(controller.read_status(0) & OUTPUT_FULL, 0);
    assert_eq!(controller.next_event_ns(0), None);
    controller.write_command(0xAE, 0);
    assert_eq!(drain(&mut controller, &mut 0), [0x1E]);
}

#[test]
fn keyboard_and_mouse_answer_their_resets() {
    let mut controller = I8042::new();
    let mut now = 0;
    controller.write_data(0xFF, now);
    assert_eq!(controller.read_status(now) & OUTPUT_FULL, 0, "a byte takes its time");
    assert_eq!(drain(&mut controller, &mut now), [0xFA, 0xAA]);
    controller.write_data(0xF2, now);
    assert_eq!(drain(&mut controller, &mut now), [0xFA, 0xAB, 0x41], "AB 83 is translated, too");
    set_command_byte(&mut controller, 0x47);
    controller.write_command(0xD4, now);
    controller.write_data(0xFF, now);
    now += FRAME_NS;
    controller.update(now);
    assert!(controller.mouse_irq() && !controller.keyboard_irq());
    assert_eq!(controller.read_status(now) & (AUX_OUTPUT | OUTPUT_FULL), AUX_OUTPUT | OUTPUT_FULL);
    assert_eq!(drain(&mut controller, &mut now), [0xFA, 0xAA, 0x00]);
}

#[test]
fn loopback_is_marked_with_its_source() {
    let mut controller = I8042::new();
    set_command_byte(&mut controller, KEYBOARD_INTERRUPT | AUX_INTERRUPT);
    controller.write_command(0xD3, 0);
    controller.write_data(0x5A, 0);
    assert_eq!(controller.read_status(0) & AUX_OUTPUT, AUX_OUTPUT);
    assert!(controller.mouse_irq() && !controller.keyboard_irq());
    assert_eq!(controller.read_data(0), 0x5A);
    controller.write_command(0xD2, 0);
    controller.write_data(0x1C, 0);
    assert!(controller.keyboard_irq());
    assert_eq!(controller.read_data(0), 0x1C, "loopback is not translated");
}

#[test]
fn an_answer_waits_for_the_output_register() {
    let mut controller = I8042::new();
    press(&mut controller, "a", true);
    controller.update(0);
    controller.write_command(0xAA, 0);
    assert_eq!(controller.read_data(0), 0x1E);
    let next = controller.next_event_ns(0).unwrap();
    controller.update(next);
    assert_eq!(controller.read_data(next), 0x55);
}

#[test]
fn the_mouse_moves() {
    let mut controller = I8042::new();
    let mut now = 0;
    set_command_byte(&mut controller, 0x03);
    controller.write_command(0xD4, now);
    controller.write_data(0xF4, now);
    assert_eq!(drain(&mut controller, &mut now), [0xFA]);
    controller.mouse().move_by(3, 4, 0);
    assert_eq!(drain(&mut controller, &mut now), [0x08, 3, 4]);
}

proptest! {
    #[test]
    fn any_sequence_of_accesses_is_survived(steps in prop::collection::vec((0u8..6, any::<u8>(), any::<u16>()), 0..500)) {
        let mut controller = I8042::new();
        let mut now = 0u64;
        for (kind, value, wait) in steps {
            now += u64::from(wait) * 1000;
            match kind {
                0 => drop(controller.write_command(value, now)),
                1 => drop(controller.write_data(value, now)),
                2 => drop(controller.read_data(now)),
                3 => drop(controller.read_status(now)),
                4 => { Key::with_set1(u16::from(value & 0x7F)).map(|key| controller.type_key(key, value & 0x80 == 0)); }
                _ => controller.mouse().move_by(i32::from(value), -i32::from(value), 0),
            }
            controller.update(now);
            prop_assert!(!(controller.keyboard_irq() && controller.mouse_irq()));
            prop_assert!(controller.next_event_ns(now).is_none_or(|at| at >= now));
        }
    }
}
