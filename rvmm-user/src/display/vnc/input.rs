//! Keys and pointer of a client.

use std::collections::HashMap;

use super::super::keysym::key_for_symbol;
use crate::devices::ps2::keys::Key;
use crate::devices::ps2::mouse;
use crate::monitor::typist::press;
use crate::monitor::Controls;

/// What a client holds and where it points.
#[derive(Default)]
pub struct Input {
    /// By symbol: the release is of the key that was pressed, and of the Shift that was added for it.
    held: HashMap<u32, (Key, Option<Key>)>,
    pointer: Option<(u16, u16)>,
    buttons: u8,
}

/// More symbols are not held at a time by anyone with two hands.
const HELD_LIMIT: usize = 64;

impl Input {
    /// A key event.
    pub fn key(&mut self, controls: &dyn Controls, symbol: u32, down: bool) {
        if !down {
            if let Some((key, shift)) = self.held.remove(&symbol) {
                press(controls, key, false);
                shift.into_iter().for_each(|shift| press(controls, shift, false));
            }
            return;
        }
        let Some((key, shifted)) = key_for_symbol(symbol) else { return };
        if self.held.contains_key(&symbol) || self.held.len() >= HELD_LIMIT {
            // The client's own repetition; the keyboard repeats by itself.
            return;
        }
        // Clients that type text send a capital letter without Shift.
        let holds_shift = self.held.values().any(|(key, _)| matches!(key.name(), "shift" | "shift_r" | "caps_lock"));
        let shift = if shifted && !holds_shift { Key::named("shift") } else { None };
        shift.into_iter().for_each(|shift| press(controls, shift, true));
        press(controls, key, true);
        self.held.insert(symbol, (key, shift));
    }

    /// A pointer event. The mouse tells movement, so where the pointer is at first means nothing.
    pub fn pointer(&mut self, controls: &dyn Controls, buttons: u8, x: u16, y: u16) {
        let (old_x, old_y) = self.pointer.replace((x, y)).unwrap_or((x, y));
        let (right, down) = (i32::from(x) - i32::from(old_x), i32::from(y) - i32::from(old_y));
        // Wheel steps are buttons 4 and 5, pressed and released.
        let step = |bit: u8| i32::from(buttons & bit != 0 && self.buttons & bit == 0);
        let wheel = step(0x10) - step(0x08);
        if (right, down, wheel) != (0, 0, 0) {
            controls.move_mouse(right, -down, wheel);
        }
        if (buttons ^ self.buttons) & 0x07 != 0 {
            let bit = |from: u8, to: u8| if buttons & from != 0 { to } else { 0 };
            controls.set_buttons(bit(1, mouse::LEFT) | bit(2, mouse::MIDDLE) | bit(4, mouse::RIGHT));
        }
        self.buttons = buttons;
    }

    /// The client has gone: nothing stays pressed.
    pub fn release(&mut self, controls: &dyn Controls) {
        for (_, (key, shift)) in self.held.drain() {
            press(controls, key, false);
            shift.into_iter().for_each(|shift| press(controls, shift, false));
        }
        if std::mem::take(&mut self.buttons) & 0x07 != 0 {
            controls.set_buttons(0);
        }
    }
}
