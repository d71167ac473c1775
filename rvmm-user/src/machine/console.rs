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
