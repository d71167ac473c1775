//! Accesses to ports.
//!
//! ISA devices are one byte wide and at fixed ports: a wider access is so many byte accesses to consecutive ports, as on the ISA bus.
//! What is wider, or where PCI configuration says, is looked at first.

use super::{BusEvent, Machine, ResetLine};
use crate::devices::pic_pair::{IRQ_KEYBOARD, IRQ_MOUSE, IRQ_RTC};
use crate::devices::{debug_console, debug_exit, fw_cfg, i8042, kernel_start, pci, power, reset, OPEN_BUS};

/// Where firmware writes how far it has come.
const POST_CODE: u16 = 0x80;

impl Machine {
    /// A read of `data.len()` bytes (1, 2 or 4) from `port`.
    pub fn read_port(&mut self, port: u16, data: &mut [u8], now_ns: u64) {
        if belongs_to_pci(port, data.len()) {
            match &self.board {
                Some(board) => board.pci.read(port, data),
                None => data.fill(OPEN_BUS),
            }
            return;
        }
        if self.read_board(port, data, now_ns) || self.read_drives(port, data) || self.read_display(port, data, now_ns)
        {
            return;
        }
        for (offset, byte) in (0u16..).zip(data.iter_mut()) {
            *byte = self.read_byte(port.wrapping_add(offset), now_ns);
        }
    }

    /// A write of `data` (1, 2 or 4 bytes) to `port`.
    pub fn write_port(&mut self, port: u16, data: &[u8], now_ns: u64) -> Option<BusEvent> {
        if port == self.debug_exit {
            return debug_exit::status(data).map(BusEvent::GuestExit);
        }
        if belongs_to_pci(port, data.len()) {
            self.write_pci(port, data);
            return None;
        }
        if let Some(event) = self.write_board(port, data, now_ns) {
            return event;
        }
        if self.write_drives(port, data) || self.write_display(port, data) {
            return None;
        }
        let mut event = None;
        for (offset, byte) in (0u16..).zip(data) {
            event = event.or(self.write_byte(port.wrapping_add(offset), *byte, now_ns));
        }
        event
    }

    fn write_pci(&mut self, port: u16, data: &[u8]) {
        let Some(board) = &mut self.board else { return };
        if board.pci.write(port, data) {
            let windows = board.pci.windows();
            self.layout_changed |= windows != board.windows;
            board.windows = windows;
        }
    }

    /// What is on the board and not one byte wide: whether the access was one to it.
    fn read_board(&mut self, port: u16, data: &mut [u8], now_ns: u64) -> bool {
        let Some(board) = &mut self.board else { return false };
        if (fw_cfg::PORT..fw_cfg::ADDRESS + 8).contains(&port) {
            board.fw_cfg.read(port, data);
        } else if let Some(offset) = within(port, board.windows.power, power::PORTS) {
            board.power.read(offset, data, now_ns);
        } else {
            return false;
        }
        true
    }

    /// The same for writes: what the access meant, if it was one.
    fn write_board(&mut self, port: u16, data: &[u8], now_ns: u64) -> Option<Option<BusEvent>> {
        let board = self.board.as_mut()?;
        if (fw_cfg::PORT..fw_cfg::ADDRESS + 8).contains(&port) {
            board.fw_cfg.write(port, data, &mut self.ram);
            return Some(None);
        }
        if port == kernel_start::PORT && board.has_kernel {
            return Some(kernel_start::entries(data).map(BusEvent::StartKernel));
        }
        let offset = within(port, board.windows.power, power::PORTS)?;
        let off = board.power.write(offset, data, now_ns);
        Some(off.then_some(BusEvent::PowerOff))
    }

    fn read_byte(&mut self, port: u16, now_ns: u64) -> u8 {
        if let Some(value) = self.read_diskettes(port) {
            return value;
        }
        match port {
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => self.interrupts.read_port(port).unwrap_or(OPEN_BUS),
            0x40..=0x43 => self.pit.read(port, now_ns),
            0x60 => {
                let value = self.keyboard.read_data(now_ns);
                // As with port 71: the next byte must be an edge, however late it is looked for.
                self.interrupts.set_irq(IRQ_KEYBOARD, self.keyboard.keyboard_irq());
                self.interrupts.set_irq(IRQ_MOUSE, self.keyboard.mouse_irq());
                value
            }
            0x61 => self.port61.read(&mut self.pit, now_ns),
            0x64 => self.keyboard.read_status(now_ns),
            0x71 => {
                let value = self.rtc.read_data(now_ns);
                // The line falls with the read. By the next update of all lines another period may be over: that must be an edge, too.
                self.interrupts.set_irq(IRQ_RTC, self.rtc.irq_line());
                value
            }
            POST_CODE => self.post_code,
            0x92 => self.system_control.read(),
            0xB2 | 0xB3 => match &self.board {
                Some(board) => board.power.read_smi(port - power::SMI_COMMAND),
                None => OPEN_BUS,
            },
            debug_console::PORT_BOCHS | debug_console::PORT_QEMU if self.debug.is_some() => debug_console::READ_BACK,
            reset::PORT => self.reset.read(),
            _ => self.serial.read(port).unwrap_or(OPEN_BUS),
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now_ns: u64) -> Option<BusEvent> {
        // Port 80 is both: a page register that belongs to no channel, and what a self-test shows.
        if self.write_diskettes(port, value) && port != POST_CODE {
            return None;
        }
        match port {
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => {
                self.interrupts.write_port(port, value);
            }
            0x40..=0x43 => {
                if self.pit.write(port, value, now_ns) {
                    self.ticks.forget();
                }
            }
            0x60 => return self.keyboard_wrote(|keyboard| keyboard.write_data(value, now_ns)),
            0x61 => self.port61.write(value, &mut self.pit, now_ns),
            0x64 => return self.keyboard_wrote(|keyboard| keyboard.write_command(value, now_ns)),
            0x70 => self.rtc.write_index(value),
            0x71 => self.rtc.write_data(value, now_ns),
            POST_CODE => self.post_code = value,
            0x92 => {
                let before = self.system_control.is_open();
                let resets = self.system_control.write(value);
                self.layout_changed |= before != self.system_control.is_open();
                if resets {
                    return Some(BusEvent::Reset(ResetLine::SystemControlA));
                }
            }
            0xB2 | 0xB3 => {
                if let Some(board) = &mut self.board {
                    board.power.write_smi(port - power::SMI_COMMAND, value);
                }
            }
            debug_console::PORT_BOCHS | debug_console::PORT_QEMU => {
                if let Some(debug) = &mut self.debug {
                    debug.write(value);
                }
            }
            reset::PORT => {
                if self.reset.write(value) {
                    return Some(BusEvent::Reset(ResetLine::ResetControl));
                }
            }
            _ => self.serial.write(port, value),
        }
        None
    }

    fn keyboard_wrote(&mut self, write: impl FnOnce(&mut i8042::I8042) -> i8042::Effect) -> Option<BusEvent> {
        match write(&mut self.keyboard) {
            i8042::Effect::None => {}
            i8042::Effect::Reset => return Some(BusEvent::Reset(ResetLine::KeyboardController)),
            i8042::Effect::A20(open) => {
                self.layout_changed |= open != self.system_control.is_open();
                self.system_control.set(open);
            }
        }
        None
    }
}

/// PCI configuration mechanism #1, whose address register hides the reset register in its second byte: only byte accesses reach
/// that. A machine without a board has no PCI bus, so nobody answers; that the address does not read back is how a guest finds out.
fn belongs_to_pci(port: u16, width: usize) -> bool {
    (pci::PORT..pci::PORT + 8).contains(&port) && (port != reset::PORT || width != 1)
}

/// The offset of `port` in `len` ports from `base` on.
fn within(port: u16, base: Option<u16>, len: u16) -> Option<u16> {
    port.checked_sub(base?).filter(|offset| *offset < len)
}

#[cfg(test)]
mod tests {
    use super::super::testing::machine;
    use super::*;

    fn configure(machine: &mut Machine, function: u32, register: u32, data: &[u8]) {
        let address = 1u32 << 31 | function << 8 | register & !3;
        machine.write_port(0xCF8, &address.to_le_bytes(), 0);
        machine.write_port(0xCFC + (register & 3) as u16, data, 0);
    }

    #[test]
    fn power_management_answers_where_its_function_says() {
        let mut machine = machine(Some(&[0; 128 << 10]));
        let mut data = [0; 4];
        machine.read_port(0x608, &mut data, 1_000_000_000);
        assert_eq!(data, [OPEN_BUS; 4]);
        configure(&mut machine, 0x0B, 0x40, &0x601u32.to_le_bytes());
        configure(&mut machine, 0x0B, 0x80, &[1]);
        machine.read_port(0x608, &mut data, 1_000_000_000);
        assert_eq!(u32::from_le_bytes(data), 3_579_545);
        assert_eq!(machine.write_port(0x604, &0x2000u16.to_le_bytes(), 0), Some(BusEvent::PowerOff));
    }

    #[test]
    fn the_reset_register_is_inside_the_configuration_address() {
        let mut machine = machine(Some(&[0; 128 << 10]));
        assert_eq!(machine.write_port(0xCF8, &0x8000_0600u32.to_le_bytes(), 0), None);
        assert_eq!(machine.write_port(0xCF9, &[6], 0), Some(BusEvent::Reset(ResetLine::ResetControl)));
        let mut address = [0; 4];
        machine.read_port(0xCF8, &mut address, 0);
        assert_eq!(u32::from_le_bytes(address), 0x8000_0600);
    }

    #[test]
    fn firmware_finds_its_configuration_device() {
        let mut machine = machine(Some(&[0; 128 << 10]));
        machine.write_port(0x510, &[0, 0], 0);
        let mut signature = [0; 4];
        for byte in &mut signature {
            machine.read_port(0x511, std::slice::from_mut(byte), 0);
        }
        assert_eq!(&signature, b"QEMU");
    }
}
