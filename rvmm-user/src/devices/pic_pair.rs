//! The PC's two 8259As: the slave's output is the master's input 2.
//!
//! Ports: master 20/21, slave A0/A1, edge/level registers 4D0/4D1.

use super::pic::{Pic, Role};

/// The timer's interrupt request line.
pub const IRQ_TIMER: u8 = 0;
/// The keyboard controller's interrupt request line.
pub const IRQ_KEYBOARD: u8 = 1;
/// COM1's interrupt request line, and COM3's.
pub const IRQ_COM1: u8 = 4;
/// COM2's interrupt request line, and COM4's.
pub const IRQ_COM2: u8 = 3;
/// The real-time clock's interrupt request line.
pub const IRQ_RTC: u8 = 8;
/// The mouse.
pub const IRQ_MOUSE: u8 = 12;

/// The system control interrupt of ACPI power management.
pub const IRQ_POWER: u8 = 9;
/// The diskette controller's.
pub const IRQ_DISKETTE: u8 = 6;
/// The primary IDE channel's.
pub const IRQ_PRIMARY_IDE: u8 = 14;
/// The secondary IDE channel's.
pub const IRQ_SECONDARY_IDE: u8 = 15;

const CASCADE: u8 = 2;

/// What an INTA cycle yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The line that was taken (7 and 15 also stand for a spurious interrupt).
    pub irq: u8,
    /// The vector on the bus.
    pub vector: u8,
}

/// Master and slave.
#[derive(Debug)]
pub struct PicPair {
    master: Pic,
    slave: Pic,
}

impl PicPair {
    /// Both controllers after power-on.
    pub fn new() -> Self {
        PicPair { master: Pic::new(Role::Master), slave: Pic::new(Role::Slave) }
    }

    /// Drives interrupt request line `irq` (0–15).
    pub fn set_irq(&mut self, irq: u8, high: bool) {
        if irq < 8 {
            self.master.set_line(irq, high);
        } else {
            self.slave.set_line(irq - 8, high);
            self.update_cascade();
        }
    }

    /// A rising edge followed by a falling one.
    #[cfg(test)]
    pub fn pulse(&mut self, irq: u8) {
        self.set_irq(irq, true);
        self.set_irq(irq, false);
    }

    /// The level of the CPU's INTR pin.
    #[cfg(test)]
    pub fn intr(&self) -> bool {
        self.most_urgent(0).is_some()
    }

    /// The CPU's INTA cycle, with the lines in `held` left out. Only to be called while [`PicPair::most_urgent`] names a line.
    pub fn acknowledge(&mut self, held: u8) -> Acknowledged {
        let input = self.master.acknowledge_without(held);
        if input != CASCADE {
            return Acknowledged { irq: input, vector: self.master.vector(input) };
        }
        let slave_input = self.slave.acknowledge();
        self.update_cascade();
        Acknowledged { irq: 8 + slave_input, vector: self.slave.vector(slave_input) }
    }

    /// The line that an INTA cycle would take now, before it is known whether the slave still requests; `None` while INTR is low. The master's
    /// lines in `held` (bit 0 is line 0) are left out.
    pub fn most_urgent(&self, held: u8) -> Option<u8> {
        self.master.requested_without(held)
    }

    /// The master, for what the machine must know of its inputs.
    pub fn master(&self) -> &Pic {
        &self.master
    }

    /// Reads one of the six ports; `None` if `port` is not one of them.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        let value = match port {
            0x20 => self.master.read_command(),
            0x21 => self.master.read_data(),
            0xA0 => self.slave.read_command(),
            0xA1 => self.slave.read_data(),
            0x4D0 => self.master.read_elcr(),
            0x4D1 => self.slave.read_elcr(),
            _ => return None,
        };
        // A read after a poll command acknowledges.
        self.update_cascade();
        Some(value)
    }

    /// Writes one of the six ports; `false` if `port` is not one of them.
    pub fn write(&mut self, port: u16, value: u8) -> bool {
        match port {
            0x20 => self.master.write_command(value),
            0x21 => self.master.write_data(value),
            0xA0 => self.slave.write_command(value),
            0xA1 => self.slave.write_data(value),
            // Timer, keyboard and cascade, and clock and coprocessor, are edge-triggered by wiring.
            0x4D0 => self.master.write_elcr(value, 0xF8),
            0x4D1 => self.slave.write_elcr(value, 0xDE),
            _ => return false,
        }
        self.update_cascade();
        true
    }

    fn update_cascade(&mut self) {
        let high = self.slave.requested().is_some();
        self.master.set_line(CASCADE, high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux programs them: vectors 30–3F, everything unmasked.
    fn ready() -> PicPair {
        let mut pair = PicPair::new();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 0x04),
            (0x21, 0x01),
            (0xA0, 0x11),
            (0xA1, 0x38),
            (0xA1, 0x02),
            (0xA1, 0x01),
            (0x21, 0),
            (0xA1, 0),
        ] {
            assert!(pair.write(port, value));
        }
        pair
    }

    #[test]
    fn a_slave_request_passes_through_the_cascade() {
        let mut pair = ready();
        pair.pulse(IRQ_RTC);
        assert!(pair.intr());
        assert_eq!(pair.acknowledge(0).vector, 0x38);
        assert!(!pair.intr());
        assert!(pair.slave.is_in_service(0));
        pair.write(0xA0, 0x20);
        pair.write(0x20, 0x20);
        assert!(!pair.slave.is_in_service(0) && !pair.master.is_in_service(2));
    }

    #[test]
    fn a_second_slave_request_comes_after_both_ends_of_interrupt() {
        let mut pair = ready();
        pair.pulse(12);
        assert_eq!(pair.acknowledge(0).vector, 0x3C);
        pair.pulse(14);
        assert!(!pair.intr());
        pair.write(0xA0, 0x20);
        assert!(!pair.intr(), "the cascade input is still in service");
        pair.write(0x20, 0x20);
        assert!(pair.intr());
        assert_eq!(pair.acknowledge(0).vector, 0x3E);
    }

    #[test]
    fn a_pulse_is_not_lost() {
        let mut pair = ready();
        pair.pulse(IRQ_COM1);
        assert_eq!(pair.acknowledge(0).vector, 0x34);
    }

    #[test]
    fn masking_the_cascade_masks_the_slave() {
        let mut pair = ready();
        pair.write(0x21, 0x04);
        pair.pulse(IRQ_RTC);
        assert!(!pair.intr());
        pair.write(0x21, 0);
        assert!(pair.intr());
    }

    #[test]
    fn foreign_ports_are_not_claimed() {
        let mut pair = ready();
        assert_eq!(pair.read(0x22), None);
        assert!(!pair.write(0x22, 0));
    }
}
