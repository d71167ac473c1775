//! The reset control register at port CF9 (82371AB PIIX4 data sheet, section 4.2: RC).
//!
//! Bit 2 starts a reset when it goes from 0 to 1; bit 1 chooses hard or soft. The port is a byte inside the PCI configuration
//! address register: only byte accesses reach it.

/// The port.
pub const PORT: u16 = 0xCF9;

const RESET_CPU: u8 = 1 << 2;

/// The register.
#[derive(Debug, Default)]
pub struct ResetControl {
    value: u8,
}

impl ResetControl {
    /// Reads the register.
    pub fn read(&self) -> u8 {
        self.value
    }

    /// Writes the register and tells whether that resets the machine.
    pub fn write(&mut self, value: u8) -> bool {
        let rising = value & RESET_CPU != 0 && self.value & RESET_CPU == 0;
        self.value = value & !RESET_CPU & 0x0F;
        rising
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bit_2_resets() {
        let mut register = ResetControl::default();
        assert!(!register.write(0x02));
        assert_eq!(register.read(), 0x02);
        assert!(register.write(0x06));
    }
}
