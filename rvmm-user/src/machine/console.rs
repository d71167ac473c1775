//! The machine's front: keyboard, mouse, screen, power button, and memory for whoever looks into it.

use super::Machine;
use crate::devices::dma::{Dma, NoMemory};
use crate::devices::ps2::{keys::Key, mouse::Mouse};
use crate::devices::vga::Screen;

impl Machine {
    /// Presses or releases a key. `false`: too many wait to be typed.
    pub fn type_key(&mut self, key: Key, down: bool) -> bool {
        self.keyboard.type_key(key, down)
    }

    /// The mouse, to be moved.
    pub fn mouse(&mut self) -> &mut Mouse {
        self.keyboard.mouse()
    }

    /// What the screen shows; `None` without a display adapter.
    pub fn screen(&self, now_ns: u64) -> Option<Screen> {
        self.display.as_ref().map(|display| display.vga.screen(now_ns))
    }

    /// Presses the power button. `false`: the machine has none.
    pub fn press_power_button(&mut self) -> bool {
        let Some(board) = &mut self.board else { return false };
        board.power.press_button();
        true
    }

    /// Reads guest-physical memory.
    pub fn look(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory> {
        self.ram.read(gpa, data)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn each_byte_of_a_key_is_an_edge_however_late_it_is_looked_for() {
        let mut machine = testing::machine(None);
        for (port, value) in
            [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xFD), (0x64, 0x60), (0x60, 0x41)]
        {
            machine.write_port(port, &[value], 0);
        }
        // Press and release: a byte each, as the controller translates them.
        let key = Key::named("a").unwrap();
        assert!(machine.type_key(key, true) && machine.type_key(key, false));
        let mut bytes = Vec::new();
        for now in [1_000_000_000, 2_000_000_000] {
            machine.update_lines(now);
            assert!(machine.intr(now), "behind {bytes:x?}");
            assert_eq!(machine.acknowledge(now), 0x31);
            let mut byte = [0];
            machine.read_port(0x60, &mut byte, now);
            bytes.push(byte[0]);
            machine.write_port(0x20, &[0x20], now);
        }
        assert_eq!(bytes, [0x1E, 0x9E]);
    }

    #[test]
    fn a_key_interrupts() {
        let mut machine = testing::machine(None);
        assert!(machine.type_key(Key::named("a").unwrap(), true));
        machine.update_lines(0);
        let mut data = [0];
        machine.read_port(0x64, &mut data, 0);
        assert_eq!(data[0] & 1, 1);
        machine.read_port(0x60, &mut data, 0);
        assert_eq!(data, [0x1E]);
    }

    #[test]
    fn only_a_machine_with_firmware_has_a_power_button() {
        assert!(!testing::machine(None).press_power_button());
        let mut machine = testing::machine(Some(&[0; 128 << 10]));
        assert!(machine.press_power_button());
        assert!(machine.screen(0).is_none());
        assert!(machine.look(0, &mut [0; 16]).is_ok() && machine.look(0xA0000, &mut [0]).is_err());
    }
}
