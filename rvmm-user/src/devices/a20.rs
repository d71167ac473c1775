//! The A20 gate, which on a PC two ports drive: system control port A (92) and the keyboard controller's output port.
//!
//! As in QEMU and Bochs the last write to either decides. Port 92 reads back what it decided, the keyboard controller what was last written
//! there.

/// The bit of port 92.
pub const PORT_92_A20: u8 = 1 << 1;
/// The bit of port 92 that resets.
pub const PORT_92_RESET: u8 = 1 << 0;

/// The gate and port 92.
#[derive(Debug)]
pub struct SystemControl {
    open: bool,
    /// The other bits of port 92.
    port: u8,
}

impl SystemControl {
    /// The gate is open, as firmware finds it.
    pub fn new() -> SystemControl {
        SystemControl { open: true, port: 0 }
    }

    /// Whether address line 20 is the CPU's.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The keyboard controller drives the line.
    pub fn set(&mut self, open: bool) {
        self.open = open;
    }

    /// Reads port 92.
    pub fn read(&self) -> u8 {
        self.port & !PORT_92_A20 | if self.open { PORT_92_A20 } else { 0 }
    }

    /// Writes port 92; tells whether that resets: bit 0 going from 0 to 1.
    pub fn write(&mut self, value: u8) -> bool {
        let resets = value & PORT_92_RESET != 0 && self.port & PORT_92_RESET == 0;
        self.open = value & PORT_92_A20 != 0;
        self.port = value;
        resets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_writer_decides() {
        let mut control = SystemControl::new();
        assert!(control.is_open() && control.read() == 0x02);
        assert!(!control.write(0x00));
        assert!(!control.is_open());
        control.set(true);
        assert_eq!(control.read(), 0x02);
        assert!(control.write(0x03));
        assert!(!control.write(0x03));
    }
}
