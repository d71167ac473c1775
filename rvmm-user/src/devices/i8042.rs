//! The 8042 keyboard controller with nothing plugged in (IBM PC AT Technical Reference, section "Keyboard").
//!
//! An operating system finds a working controller, tests it, and finds neither keyboard nor mouse. What it is really for here are
//! the A20 gate, which is always open, and output line 0, which resets the CPU.

use std::collections::VecDeque;

/// Status: a byte waits in the output buffer.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the self-test has been passed.
const SYSTEM: u8 = 1 << 2;
/// Status: the last write was a command.
const COMMAND: u8 = 1 << 3;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;
/// Status: the waiting byte is the auxiliary device's.
const AUX_OUTPUT: u8 = 1 << 5;

/// Command byte: interrupt 1 when a byte arrives.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
const KEYBOARD_DISABLED: u8 = 1 << 4;
const AUX_DISABLED: u8 = 1 << 5;

/// What a write asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing beyond the controller.
    None,
    /// The CPU's reset line was pulsed.
    Reset,
}

/// Which command the next write to the data port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// None: it goes to the keyboard, which is not there.
    Keyboard,
    CommandByte,
    OutputPort,
    KeyboardBuffer,
    AuxBuffer,
    /// The auxiliary device, which is not there either.
    AuxDevice,
}

/// The controller.
#[derive(Debug)]
pub struct I8042 {
    command_byte: u8,
    argument: Argument,
    last_was_command: bool,
    output: VecDeque<(u8, bool)>,
}

impl I8042 {
    /// A controller as a BIOS leaves it: tested, both ports off.
    pub fn new() -> Self {
        I8042 {
            command_byte: SYSTEM | KEYBOARD_DISABLED | AUX_DISABLED,
            argument: Argument::Keyboard,
            last_was_command: false,
            output: VecDeque::new(),
        }
    }

    /// Reads port 64.
    pub fn read_status(&self) -> u8 {
        let mut status = UNLOCKED | self.command_byte & SYSTEM;
        if let Some((_, aux)) = self.output.front() {
            status |= OUTPUT_FULL | if *aux { AUX_OUTPUT } else { 0 };
        }
        if self.last_was_command {
            status |= COMMAND;
        }
        status
    }

    /// Reads port 60.
    pub fn read_data(&mut self) -> u8 {
        self.output.pop_front().map_or(0, |(byte, _)| byte)
    }

    /// Writes port 64.
    pub fn write_command(&mut self, command: u8) -> Effect {
        self.last_was_command = true;
        self.argument = Argument::Keyboard;
        match command {
            0x20 => self.answer(self.command_byte, false),
            0x60 => self.argument = Argument::CommandByte,
            0xA7 => self.command_byte |= AUX_DISABLED,
            0xA8 => self.command_byte &= !AUX_DISABLED,
            // Interface tests: 00 is "no error found" (the wiring is sound, only nothing hangs on it).
            0xA9 | 0xAB => self.answer(0x00, false),
            0xAA => {
                self.command_byte |= SYSTEM;
                self.answer(0x55, false);
            }
            0xAD => self.command_byte |= KEYBOARD_DISABLED,
            0xAE => self.command_byte &= !KEYBOARD_DISABLED,
            // Input port: not locked, second 256 KiB of the planar fitted.
            0xC0 => self.answer(0xB0, false),
            // Output port: A20 open, no reset.
            0xD0 => self.answer(0x03, false),
            0xD1 => self.argument = Argument::OutputPort,
            0xD2 => self.argument = Argument::KeyboardBuffer,
            0xD3 => self.argument = Argument::AuxBuffer,
            0xD4 => self.argument = Argument::AuxDevice,
            // Pulse the output lines whose bit is 0: line 0 is the CPU's reset.
            0xF0..=0xFF if command & 1 == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }

    /// Writes port 60.
    pub fn write_data(&mut self, value: u8) -> Effect {
        self.last_was_command = false;
        match std::mem::replace(&mut self.argument, Argument::Keyboard) {
            Argument::CommandByte => self.command_byte = value,
            Argument::OutputPort if value & 1 == 0 => return Effect::Reset,
            Argument::KeyboardBuffer => self.answer(value, false),
            Argument::AuxBuffer => self.answer(value, true),
            Argument::OutputPort | Argument::Keyboard | Argument::AuxDevice => {}
        }
        Effect::None
    }

    /// The level of interrupt request line 1.
    pub fn keyboard_irq(&self) -> bool {
        self.command_byte & KEYBOARD_INTERRUPT != 0 && matches!(self.output.front(), Some((_, false)))
    }

    fn answer(&mut self, byte: u8, aux: bool) {
        // The part has one output register; a new answer replaces an unread one.
        self.output.clear();
        self.output.push_back((byte, aux));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes() {
        let mut controller = I8042::new();
        assert_eq!(controller.write_command(0xAA), Effect::None);
        assert_eq!(controller.read_status() & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(controller.read_data(), 0x55);
        assert_eq!(controller.read_status() & OUTPUT_FULL, 0);
    }

    #[test]
    fn the_command_byte_reads_back() {
        let mut controller = I8042::new();
        controller.write_command(0x60);
        controller.write_data(0x47);
        controller.write_command(0x20);
        assert_eq!(controller.read_data(), 0x47);
    }

    #[test]
    fn pulsing_line_0_resets() {
        assert_eq!(I8042::new().write_command(0xFE), Effect::Reset);
        assert_eq!(I8042::new().write_command(0xFF), Effect::None);
    }

    #[test]
    fn clearing_output_port_bit_0_resets() {
        let mut controller = I8042::new();
        controller.write_command(0xD1);
        assert_eq!(controller.write_data(0xDF), Effect::None);
        controller.write_command(0xD1);
        assert_eq!(controller.write_data(0xFE), Effect::Reset);
    }

    #[test]
    fn the_absent_keyboard_does_not_answer() {
        let mut controller = I8042::new();
        controller.write_data(0xFF);
        assert_eq!(controller.read_status() & OUTPUT_FULL, 0);
    }

    #[test]
    fn auxiliary_loopback_is_marked_as_such() {
        let mut controller = I8042::new();
        controller.write_command(0xD3);
        controller.write_data(0x5A);
        assert_eq!(controller.read_status() & AUX_OUTPUT, AUX_OUTPUT);
        assert!(!controller.keyboard_irq());
        assert_eq!(controller.read_data(), 0x5A);
    }

    #[test]
    fn an_answer_interrupts_only_when_enabled() {
        let mut controller = I8042::new();
        controller.write_command(0xAA);
        assert!(!controller.keyboard_irq());
        controller.write_command(0x60);
        controller.write_data(KEYBOARD_INTERRUPT);
        controller.write_command(0xAA);
        assert!(controller.keyboard_irq());
    }
}
