use proptest::prelude::*;

use super::*;

fn drain(keyboard: &mut Keyboard, now_ns: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        keyboard.update(now_ns);
        match keyboard.take() {
            Some(byte) => bytes.push(byte),
            None => return bytes,
        }
    }
}

fn send(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
    bytes.iter().for_each(|byte| keyboard.receive(*byte));
    drain(keyboard, 0)
}

fn press(keyboard: &mut Keyboard, name: &str, down: bool) {
    assert!(keyboard.type_key(Key::named(name).unwrap(), down));
}

#[test]
fn commands_have_their_answers() {
    let mut keyboard = Keyboard::new();
    assert_eq!(send(&mut keyboard, &[0xFF]), [0xFA, 0xAA]);
    assert_eq!(send(&mut keyboard, &[0xEE]), [0xEE]);
    assert_eq!(send(&mut keyboard, &[0xF2]), [0xFA, 0xAB, 0x83]);
    assert_eq!(send(&mut keyboard, &[0xED, 0x05]), [0xFA, 0xFA]);
    assert_eq!(keyboard.leds(), 5);
    assert_eq!(send(&mut keyboard, &[0xF0, 0]), [0xFA, 0xFA, 2]);
    assert_eq!(send(&mut keyboard, &[0xF0, 3, 0xF0, 0]), [0xFA, 0xFA, 0xFA, 0xFA, 3]);
    assert_eq!(send(&mut keyboard, &[0xF3, 0x20]), [0xFA, 0xFA]);
    assert_eq!(send(&mut keyboard, &[0xF5, 0xF4, 0xF6]), [0xFA, 0xFA, 0xFA]);
    assert_eq!(send(&mut keyboard, &[0x12]), [0xFE]);
    assert_eq!(send(&mut keyboard, &[0xF0, 9]), [0xFA, 0xFE]);
}

#[test]
fn the_last_byte_is_sent_again() {
    let mut keyboard = Keyboard::new();
    send(&mut keyboard, &[0xF2]);
    assert_eq!(send(&mut keyboard, &[0xFE]), [0x83]);
}

#[test]
fn a_command_ends_another_that_waits_for_its_parameter() {
    let mut keyboard = Keyboard::new();
    assert_eq!(send(&mut keyboard, &[0xED, 0xF2]), [0xFA, 0xFA, 0xAB, 0x83]);
    assert_eq!(keyboard.leds(), 0);
}

#[test]
fn keys_are_sent_in_the_chosen_set() {
    let mut keyboard = Keyboard::new();
    press(&mut keyboard, "a", true);
    press(&mut keyboard, "a", false);
    assert_eq!(drain(&mut keyboard, 0), [0x1C, 0xF0, 0x1C]);
    send(&mut keyboard, &[0xF0, 1]);
    press(&mut keyboard, "a", true);
    press(&mut keyboard, "a", false);
    assert_eq!(drain(&mut keyboard, 0), [0x1E, 0x9E]);
}

#[test]
fn set_3_breaks_only_for_the_keys_that_it_is_told() {
    let mut keyboard = Keyboard::new();
    send(&mut keyboard, &[0xF0, 3]);
    for name in ["a", "shift"] {
        press(&mut keyboard, name, true);
        press(&mut keyboard, name, false);
    }
    assert_eq!(drain(&mut keyboard, 0), [0x1C, 0x12, 0xF0, 0x12]);
    send(&mut keyboard, &[0xFC, 0x1C, 0xF4]);
    press(&mut keyboard, "a", true);
    press(&mut keyboard, "a", false);
    assert_eq!(drain(&mut keyboard, 0), [0x1C, 0xF0, 0x1C]);
}

#[test]
fn a_held_key_repeats_after_its_delay() {
    let mut keyboard = Keyboard::new();
    press(&mut keyboard, "a", true);
    assert_eq!(drain(&mut keyboard, 1000), [0x1C]);
    let due = keyboard.next_event_ns(1000).unwrap();
    assert_eq!(due, 500_001_000);
    assert!(drain(&mut keyboard, due - 1).is_empty());
    assert_eq!(drain(&mut keyboard, due), [0x1C]);
    let period = keyboard.next_event_ns(due).unwrap() - due;
    assert_eq!(1_000_000_000 / period, 10);
    press(&mut keyboard, "a", true);
    assert!(drain(&mut keyboard, due).is_empty(), "the host's repetition is not ours");
    press(&mut keyboard, "a", false);
    assert_eq!(drain(&mut keyboard, due), [0xF0, 0x1C]);
    assert_eq!(keyboard.next_event_ns(due), None);
}

#[test]
fn a_keyboard_that_is_off_sends_no_keys() {
    let mut keyboard = Keyboard::new();
    send(&mut keyboard, &[0xF5]);
    press(&mut keyboard, "a", true);
    press(&mut keyboard, "a", false);
    assert!(drain(&mut keyboard, 0).is_empty());
    assert!(keyboard.is_drained());
}

#[test]
fn answers_come_before_keys_and_nothing_typed_is_lost() {
    let mut keyboard = Keyboard::new();
    for _ in 0..TYPED_LIMIT / 2 {
        press(&mut keyboard, "x", true);
        press(&mut keyboard, "x", false);
    }
    assert!(!keyboard.type_key(Key::named("x").unwrap(), true));
    keyboard.update(0);
    keyboard.receive(0xEE);
    let bytes = drain(&mut keyboard, 0);
    assert_eq!(bytes[0], 0xEE);
    assert_eq!(bytes.len(), 1 + TYPED_LIMIT / 2 * 3);
}

proptest! {
    #[test]
    fn any_input_is_survived_and_bounded(steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<bool>()), 0..400)) {
        let mut keyboard = Keyboard::new();
        let mut now = 0u64;
        for (kind, value, down) in steps {
            now += u64::from(value) * 5_000_000;
            match kind % 4 {
                0 => keyboard.receive(value),
                1 => drop(keyboard.take()),
                2 => { Key::with_set1(u16::from(value)).map(|key| keyboard.type_key(key, down)); }
                _ => keyboard.update(now),
            }
            let _ = keyboard.next_event_ns(now);
            prop_assert!(keyboard.codes.len() <= 16 && keyboard.answers.len() <= ANSWERS_LIMIT + 3);
        }
    }
}
