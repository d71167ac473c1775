//! The 8042 keyboard controller, with a keyboard and a mouse plugged in (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
//! Device Controller"; Intel UPI-41/42 data sheet for the status register).
//!
//! Register offsets: 0 is port 60, 4 is port 64. A byte takes [`FRAME_NS`] on a device's serial line: the next one is in the output register
//! so much after the guest has read the one before. A guest that reads port 60 twice for one interrupt reads the same byte twice, as on a PC.

use super::ps2::{
    keyboard::Keyboard,
    keys::Key,
    mouse::Mouse,
    scancodes::{translate, BREAK},
};

/// Eleven bits at the fastest clock of a PS/2 line, 16.7 kHz.
pub const FRAME_NS: u64 = 660_000;

/// Status: a byte waits in the output register.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the self-test has been passed.
const SYSTEM: u8 = 1 << 2;
/// Status: the last write was a command.
const COMMAND: u8 = 1 << 3;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;
/// Status: the waiting byte is the auxiliary device's.
const AUX_OUTPUT: u8 = 1 << 5;

/// Command byte: interrupt 1 when a byte of the keyboard's or the controller's arrives.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
/// Command byte: interrupt 12 when a byte of the mouse's arrives.
const AUX_INTERRUPT: u8 = 1 << 1;
const KEYBOARD_DISABLED: u8 = 1 << 4;
const AUX_DISABLED: u8 = 1 << 5;
/// Command byte: the keyboard's set 2 is made set 1.
const TRANSLATE: u8 = 1 << 6;

/// Output port: not resetting the CPU.
const NOT_RESET: u8 = 1 << 0;
/// Output port: the gate of address line 20.
const A20: u8 = 1 << 1;
const IRQ1: u8 = 1 << 4;
const IRQ12: u8 = 1 << 5;

/// What a write asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing beyond the controller.
    None,
    /// The CPU's reset line was pulsed.
    Reset,
    /// The A20 output was written, changed or not: port 92 drives the gate, too, and the last one decides.
    A20(bool),
}

/// Which command the next write to the data port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// None: it goes to the keyboard.
    Keyboard,
    /// This byte of the controller's memory; 0 is the command byte.
    Memory(u8),
    OutputPort,
    KeyboardBuffer,
    AuxBuffer,
    AuxDevice,
}

/// Where the byte in the output register came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Keyboard,
    Aux,
}

/// The controller and what is plugged into it.
#[derive(Debug)]
pub struct I8042 {
    /// The controller's memory; byte 0 is the command byte.
    memory: [u8; 32],
    output_port: u8,
    tested: bool,
    argument: Argument,
    last_was_command: bool,
    /// The output register. It keeps its byte when that was read.
    data: u8,
    full: Option<Source>,
    /// The controller's answer that waits for the output register.
    answer: Option<(u8, Source)>,
    /// The devices' lines are quiet until then.
    quiet_until_ns: u64,
    /// Translation met F0: the next code is that of a released key.
    released: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}

impl I8042 {
    /// A controller as a BIOS leaves it: tested, the keyboard on, with interrupts and translation, the mouse off, A20 open.
    pub fn new() -> Self {
        let mut memory = [0; 32];
        memory[0] = KEYBOARD_INTERRUPT | SYSTEM | AUX_DISABLED | TRANSLATE;
        I8042 {
            memory,
            output_port: 0xCC | NOT_RESET | A20,
            tested: true,
            argument: Argument::Keyboard,
            last_was_command: false,
            data: 0,
            full: None,
            answer: None,
            quiet_until_ns: 0,
            released: false,
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
        }
    }

    /// The controller's A20 output; the machine joins it with port 92's.
    pub fn a20(&self) -> bool {
        self.output_port & A20 != 0
    }

    /// Somebody presses or releases a key. `false`: too many wait to be typed.
    pub fn type_key(&mut self, key: Key, down: bool) -> bool {
        self.keyboard.type_key(key, down)
    }

    /// The mouse, to be moved.
    pub fn mouse(&mut self) -> &mut Mouse {
        &mut self.mouse
    }

    /// The level of interrupt request line 1.
    pub fn keyboard_irq(&self) -> bool {
        let on = self.has(KEYBOARD_INTERRUPT) && !self.has(KEYBOARD_DISABLED);
        on && self.full == Some(Source::Keyboard)
    }

    /// The level of interrupt request line 12.
    pub fn mouse_irq(&self) -> bool {
        self.has(AUX_INTERRUPT) && !self.has(AUX_DISABLED) && self.full == Some(Source::Aux)
    }

    /// Moves what is due at `now_ns` into the output register. To be called before the interrupt lines are looked at.
    pub fn update(&mut self, now_ns: u64) {
        self.keyboard.update(now_ns);
        self.mouse.update(now_ns);
        while self.full.is_none() && now_ns >= self.quiet_until_ns {
            if let Some((byte, source)) = self.answer.take() {
                self.put(byte, source);
            } else if !self.has(KEYBOARD_DISABLED) && self.keyboard.has_byte() {
                self.take_from_keyboard();
            } else if let Some(byte) = if self.has(AUX_DISABLED) { None } else { self.mouse.take() } {
                self.put(byte, Source::Aux);
            } else {
                return;
            }
        }
    }

    /// When [`I8042::update`] will have something to do although nothing happens.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        if self.full.is_some() {
            // Nothing moves before the guest has read.
            return None;
        }
        let keyboard = match self.has(KEYBOARD_DISABLED) {
            true => None,
            false if self.keyboard.has_byte() => Some(now_ns),
            false => self.keyboard.next_event_ns(now_ns),
        };
        let mouse = match self.has(AUX_DISABLED) {
            true => None,
            false if self.mouse.has_byte() => Some(now_ns),
            false => self.mouse.next_event_ns(now_ns),
        };
        let answer = self.answer.map(|_| now_ns);
        [keyboard, mouse, answer].into_iter().flatten().min().map(|at| at.max(self.quiet_until_ns))
    }

    /// Reads port 64.
    pub fn read_status(&mut self, now_ns: u64) -> u8 {
        self.update(now_ns);
        let mut status = UNLOCKED;
        if self.tested || self.has(SYSTEM) {
            status |= SYSTEM;
        }
        if let Some(source) = self.full {
            status |= OUTPUT_FULL | if source == Source::Aux { AUX_OUTPUT } else { 0 };
        }
        if self.last_was_command {
            status |= COMMAND;
        }
        status
    }

    /// Reads port 60.
    pub fn read_data(&mut self, now_ns: u64) -> u8 {
        self.update(now_ns);
        if self.full.take().is_some() {
            self.quiet_until_ns = now_ns.saturating_add(FRAME_NS);
        }
        self.data
    }

    /// Writes port 64.
    pub fn write_command(&mut self, command: u8, now_ns: u64) -> Effect {
        self.update(now_ns);
        self.last_was_command = true;
        self.argument = Argument::Keyboard;
        match command {
            0x20..=0x3F => self.answer(self.memory.get(usize::from(command & 0x1F)).copied().unwrap_or(0)),
            0x60..=0x7F => self.argument = Argument::Memory(command & 0x1F),
            0xA7 => self.memory[0] |= AUX_DISABLED,
            0xA8 => self.memory[0] &= !AUX_DISABLED,
            // Interface tests: 00 is "no error found".
            0xA9 | 0xAB => self.answer(0x00),
            0xAA => {
                self.tested = true;
                self.answer(0x55);
            }
            0xAD => self.memory[0] |= KEYBOARD_DISABLED,
            0xAE => self.memory[0] &= !KEYBOARD_DISABLED,
            // Input port: not locked, colour display, second 256 KiB of the planar fitted.
            0xC0 => self.answer(0xB0),
            0xD0 => {
                let irq1 = if self.keyboard_irq() { IRQ1 } else { 0 };
                let irq12 = if self.mouse_irq() { IRQ12 } else { 0 };
                self.answer(self.output_port & !(IRQ1 | IRQ12) | irq1 | irq12);
            }
            0xD1 => self.argument = Argument::OutputPort,
            0xD2 => self.argument = Argument::KeyboardBuffer,
            0xD3 => self.argument = Argument::AuxBuffer,
            0xD4 => self.argument = Argument::AuxDevice,
            // Not of IBM's, but of so many controllers that software counts on them.
            0xDD | 0xDF => {
                self.output_port = self.output_port & !A20 | if command == 0xDF { A20 } else { 0 };
                return Effect::A20(self.a20());
            }
            // Test inputs: the two clock lines, which a disabled interface holds low.
            0xE0 => {
                let (keyboard, aux) = (!self.has(KEYBOARD_DISABLED), !self.has(AUX_DISABLED));
                self.answer(u8::from(keyboard) | u8::from(aux) << 1);
            }
            // Pulse the output lines whose bit is 0: line 0 is the CPU's reset.
            0xF0..=0xFF if command & 1 == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }

    /// Writes port 60.
    pub fn write_data(&mut self, value: u8, now_ns: u64) -> Effect {
        self.update(now_ns);
        self.last_was_command = false;
        match std::mem::replace(&mut self.argument, Argument::Keyboard) {
            Argument::Memory(index) => {
                if let Some(byte) = self.memory.get_mut(usize::from(index)) {
                    *byte = value;
                }
            }
            Argument::OutputPort => {
                self.output_port = value;
                if value & NOT_RESET == 0 {
                    return Effect::Reset;
                }
                self.release_answer();
                return Effect::A20(self.a20());
            }
            Argument::KeyboardBuffer => self.answer = Some((value, Source::Keyboard)),
            Argument::AuxBuffer => self.answer = Some((value, Source::Aux)),
            // Sending to a device switches its interface on.
            Argument::Keyboard => {
                self.memory[0] &= !KEYBOARD_DISABLED;
                self.keyboard.receive(value);
                self.quiet_until_ns = now_ns.saturating_add(FRAME_NS);
            }
            Argument::AuxDevice => {
                self.memory[0] &= !AUX_DISABLED;
                self.mouse.receive(value);
                self.quiet_until_ns = now_ns.saturating_add(FRAME_NS);
            }
        }
        self.release_answer();
        Effect::None
    }

    fn has(&self, bit: u8) -> bool {
        self.memory[0] & bit != 0
    }

    /// The controller's own answer. There is one; a newer one replaces it.
    fn answer(&mut self, byte: u8) {
        self.answer = Some((byte, Source::Keyboard));
        self.release_answer();
    }

    /// The controller itself is at once with its answer, if the output register is free.
    fn release_answer(&mut self) {
        if self.full.is_none() {
            if let Some((byte, source)) = self.answer.take() {
                self.put(byte, source);
            }
        }
    }

    fn put(&mut self, byte: u8, source: Source) {
        self.data = byte;
        self.full = Some(source);
    }

    fn take_from_keyboard(&mut self) {
        let Some(byte) = self.keyboard.take() else { return };
        if !self.has(TRANSLATE) {
            self.released = false;
            self.put(byte, Source::Keyboard);
        } else if byte == BREAK {
            self.released = true;
        } else {
            let code = translate(byte) | if std::mem::take(&mut self.released) { 0x80 } else { 0 };
            self.put(code, Source::Keyboard);
        }
    }
}

#[cfg(test)]
#[path = "i8042_tests.rs"]
mod tests;
