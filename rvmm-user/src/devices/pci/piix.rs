//! The functions of the south bridge: ISA bridge and IDE of the 82371SB (PIIX3, data sheet 290550), power management of the 82371AB
//! (PIIX4, data sheet 290562), the combination that QEMU's machine has, too.

use super::config::{Bar, Config, Identity};

const PM_BASE: usize = 0x40;
const PM_ENABLE: usize = 0x80;

/// The ISA bridge at reset (PIIX3, section 2.2).
pub fn isa_bridge() -> Config {
    let mut config = Config::new(Identity {
        vendor: 0x8086,
        device: 0x7000,
        revision: 0x00,
        class: [0x06, 0x01, 0x00],
        multifunction: true,
    });
    config.preset(0x04, &[0x07, 0x00, 0x00, 0x02]);
    config.allow(0x04, &[0x00, 0x01]);
    config.preset(0x4C, &[0x4D]);
    config.preset(0x4E, &[0x03, 0x00]);
    config.allow(0x4C, &[0xFF, 0x00, 0xFF, 0xFF]);
    // PIRQRC[A:D]: the interrupt request line, bit 7 is "not routed".
    config.preset(0x60, &[0x80; 4]);
    config.allow(0x60, &[0x8F; 4]);
    config.preset(0x69, &[0x02]);
    config.allow(0x69, &[0xFE]);
    config.preset(0x70, &[0x80, 0x80]);
    config.allow(0x70, &[0xEF, 0xEF]);
    config.preset(0x76, &[0x0C, 0x0C]);
    config.allow(0x76, &[0x8F, 0x8F]);
    config.allow(0x80, &[0x7F]);
    config.allow(0x82, &[0x0F]);
    config.preset(0xA0, &[0x08]);
    config.allow(0xA0, &[0x1F]);
    config.allow(0xA2, &[0xFF; 9]);
    config
}

/// The IDE function at reset (PIIX3, section 2.3). The two channels are at their fixed addresses, the bus master's registers where
/// base address 4 says.
pub fn ide() -> Config {
    let mut config = Config::new(Identity {
        vendor: 0x8086,
        device: 0x7010,
        revision: 0x00,
        class: [0x01, 0x01, 0x80],
        multifunction: false,
    })
    .with_bar(4, Bar::Io(16));
    config.preset(0x06, &[0x80, 0x02]);
    config.allow(0x04, &[0x05, 0x00]);
    // IDETIM of both channels, SIDETIM.
    config.allow(0x40, &[0xFF; 5]);
    config
}

/// Power management at reset (PIIX4, section 7).
pub fn power_management() -> Config {
    let mut config = Config::new(Identity {
        vendor: 0x8086,
        device: 0x7113,
        revision: 0x03,
        class: [0x06, 0x80, 0x00],
        multifunction: false,
    })
    // The system control interrupt has its own line.
    .with_interrupt(1, 9);
    config.preset(0x06, &[0x80, 0x02]);
    config.allow(0x3C, &[0x00]);
    config.preset(PM_BASE, &[0x01]);
    config.allow(PM_BASE, &[0xC0, 0xFF]);
    config.allow(0x44, &[0xFF; 0x3C]);
    // Writes to port B2 raise an SMI, says DEVACTB: to firmware the sign that there is nothing left to set up. There is no SMM.
    config.preset(0x5B, &[0x02]);
    config.allow(PM_ENABLE, &[0x01]);
    config.preset(0x90, &[0x01]);
    config.allow(0x90, &[0xF0, 0xFF]);
    config.allow(0xD2, &[0x0F]);
    config
}

/// Where the 64 ports of power management are, if they are switched on.
pub fn power_management_base(config: &Config) -> Option<u16> {
    let base = (config.dword(PM_BASE) & 0xFFC0) as u16;
    (config.byte(PM_ENABLE) & 1 != 0 && base != 0).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_management_is_where_its_base_says() {
        let mut config = power_management();
        config.write(PM_BASE, &[0x01, 0x06, 0, 0]);
        assert_eq!(power_management_base(&config), None);
        config.write(PM_ENABLE, &[0x01]);
        assert_eq!(power_management_base(&config), Some(0x600));
        config.write(PM_BASE, &[0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(config.dword(PM_BASE), 0xFFC1);
    }

    #[test]
    fn interrupts_are_not_routed_after_reset() {
        let mut config = isa_bridge();
        assert_eq!(config.dword(0x60), 0x8080_8080);
        config.write(0x60, &[0x7B]);
        assert_eq!(config.byte(0x60), 0x0B);
    }

    #[test]
    fn the_ide_function_has_no_memory() {
        let mut config = ide();
        config.write(0x04, &[0xFF, 0xFF]);
        assert_eq!(config.byte(0x04), 0x05);
    }
}
