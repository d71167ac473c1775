//! ACPI power management: the fixed hardware of the 82371AB (PIIX4, data sheet 290562, section 7.2) and the SMI command port.
//!
//! There is no system management mode; the one thing that an ACPI firmware's would do, to give the registers to the operating system and
//! take them back, the SMI command does directly.

use super::OPEN_BUS;

/// The SMI command port; behind it the status port.
pub const SMI_COMMAND: u16 = 0xB2;
/// What to write to it to give the fixed hardware to the operating system (FADT: ACPI_ENABLE).
pub const ACPI_ENABLE: u8 = 0xF1;
/// What to write to it to take it back (FADT: ACPI_DISABLE).
pub const ACPI_DISABLE: u8 = 0xF0;

/// Ports at the base address.
pub const PORTS: u16 = 64;

/// The counter's rate (ACPI specification, section 4.8.2.1).
const TIMER_HZ: u128 = 3_579_545;
const TIMER_MASK: u32 = 0xFF_FFFF;

const PM1_STATUS: u16 = 0x00;
const PM1_ENABLE: u16 = 0x02;
const PM1_CONTROL: u16 = 0x04;
const TIMER: u16 = 0x08;
const GENERAL_STATUS: u16 = 0x0C;
const GENERAL_ENABLE: u16 = 0x0E;

/// PM1 status and enable: the timer's upper bit changed, global lock, power button, real-time clock.
const TIMER_STATUS: u16 = 1 << 0;
const POWER_BUTTON: u16 = 1 << 8;
const EVENTS: u16 = TIMER_STATUS | 1 << 5 | POWER_BUTTON | 1 << 10;
/// PM1 status: clearable bits, with wake status.
const STATUS_BITS: u16 = EVENTS | 1 << 15;

/// PM1 control: events raise the system control interrupt.
const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// The sleep type that switches the machine off (PMCNTRL, SUS_TYP).
pub const SOFT_OFF: u16 = 0;

/// The registers.
#[derive(Debug, Default)]
pub struct Power {
    status: u16,
    enable: u16,
    control: u16,
    general: [u8; 4],
    smi: [u8; 2],
    /// The status bits are complete up to this moment.
    updated_ns: u64,
}

impl Power {
    /// The power button is pressed: an operating system that listens shuts itself down.
    pub fn press_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// Reads `data.len()` bytes from `offset` of the ports at the base address.
    pub fn read(&mut self, offset: u16, data: &mut [u8], now_ns: u64) {
        self.update(now_ns);
        for (at, byte) in (offset..).zip(data) {
            *byte = self.byte(at, now_ns);
        }
    }

    /// Writes them; tells whether that switches the machine off.
    pub fn write(&mut self, offset: u16, data: &[u8], now_ns: u64) -> bool {
        self.update(now_ns);
        let mut off = false;
        for (at, value) in (offset..).zip(data) {
            off |= self.write_byte(at, *value);
        }
        off
    }

    /// Reads the SMI command port (0) or the status port behind it (1).
    pub fn read_smi(&self, offset: u16) -> u8 {
        self.smi.get(usize::from(offset)).copied().unwrap_or(OPEN_BUS)
    }

    /// Writes one of them.
    pub fn write_smi(&mut self, offset: u16, value: u8) {
        if let Some(port) = self.smi.get_mut(usize::from(offset)) {
            *port = value;
        }
        match (offset, value) {
            (0, ACPI_ENABLE) => self.control |= SCI_ENABLE,
            (0, ACPI_DISABLE) => self.control &= !SCI_ENABLE,
            _ => {}
        }
    }

    /// The level of the system control interrupt.
    pub fn irq(&self) -> bool {
        self.control & SCI_ENABLE != 0 && self.status & self.enable & EVENTS != 0
    }

    /// Brings the status bits up to `now_ns`.
    pub fn update(&mut self, now_ns: u64) {
        if half(now_ns) != half(self.updated_ns) {
            self.status |= TIMER_STATUS;
        }
        self.updated_ns = self.updated_ns.max(now_ns);
    }

    /// When the timer next raises the interrupt, if it may.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        let wanted = self.control & SCI_ENABLE != 0 && self.enable & !self.status & TIMER_STATUS != 0;
        let ticks = u128::from(half(now_ns) + 1) << 23;
        let due = (ticks * 1_000_000_000).div_ceil(TIMER_HZ);
        u64::try_from(due).ok().filter(|_| wanted)
    }

    fn byte(&self, at: u16, now_ns: u64) -> u8 {
        let [low, high] = match at & !1 {
            PM1_STATUS => self.status.to_le_bytes(),
            PM1_ENABLE => self.enable.to_le_bytes(),
            PM1_CONTROL => self.control.to_le_bytes(),
            _ => {
                return match at {
                    TIMER..GENERAL_STATUS => {
                        let count = (ticks(now_ns) as u32 & TIMER_MASK).to_le_bytes();
                        count.get(usize::from(at - TIMER)).copied().unwrap_or(0)
                    }
                    GENERAL_STATUS..0x10 => self.general.get(usize::from(at - GENERAL_STATUS)).copied().unwrap_or(0),
                    _ => 0,
                }
            }
        };
        if at & 1 == 0 {
            low
        } else {
            high
        }
    }

    fn write_byte(&mut self, at: u16, value: u8) -> bool {
        let shift = 8 * (at & 1);
        let (bits, mask) = (u16::from(value) << shift, 0xFF << shift);
        match at & !1 {
            PM1_STATUS => self.status &= !(bits & STATUS_BITS),
            PM1_ENABLE => self.enable = (self.enable & !mask | bits) & EVENTS,
            PM1_CONTROL => {
                // What starts a sleep reads as zero.
                self.control = (self.control & !mask | bits) & (SCI_ENABLE | SLEEP_TYPE | 2);
                return bits & SLEEP_ENABLE != 0 && (self.control & SLEEP_TYPE) >> 10 == SOFT_OFF;
            }
            GENERAL_ENABLE => {
                if let Some(byte) = self.general.get_mut(usize::from(at - GENERAL_STATUS)) {
                    *byte = value;
                }
            }
            // Nothing raises a general event, so there is none to clear.
            _ => {}
        }
        false
    }
}

fn ticks(now_ns: u64) -> u64 {
    (u128::from(now_ns) * TIMER_HZ / 1_000_000_000) as u64
}

/// Half periods of the counter's upper bit.
fn half(now_ns: u64) -> u64 {
    ticks(now_ns) >> 23
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read16(power: &mut Power, offset: u16, now: u64) -> u16 {
        let mut data = [0; 2];
        power.read(offset, &mut data, now);
        u16::from_le_bytes(data)
    }

    fn count(now: u64) -> u32 {
        let mut data = [0; 4];
        Power::default().read(TIMER, &mut data, now);
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_timer_counts_and_wraps() {
        assert_eq!(count(0), 0);
        assert_eq!(count(1_000_000_000), 3_579_545);
        assert_eq!(count(5_000_000_000), 5 * 3_579_545 - (1 << 24));
    }

    #[test]
    fn the_upper_bit_s_change_interrupts_when_enabled() {
        let mut power = Power::default();
        assert_eq!(power.next_event_ns(0), None);
        power.write(PM1_ENABLE, &[1, 0], 0);
        power.write_smi(0, ACPI_ENABLE);
        let due = power.next_event_ns(0).unwrap();
        assert_eq!(due / 1_000_000, 2343);
        power.update(due - 1);
        assert!(!power.irq());
        power.update(due);
        assert!(power.irq());
        power.write(PM1_STATUS, &[1, 0], due);
        assert!(!power.irq());
        power.write_smi(0, ACPI_DISABLE);
        assert_eq!(read16(&mut power, PM1_CONTROL, due), 0);
    }

    #[test]
    fn soft_off_switches_off_and_other_sleeps_do_not() {
        let mut power = Power::default();
        assert!(!power.write(PM1_CONTROL, &(1u16 << 13 | 1 << 10).to_le_bytes(), 0));
        assert!(!power.write(PM1_CONTROL, &0u16.to_le_bytes(), 0));
        assert!(power.write(PM1_CONTROL, &(1u16 << 13).to_le_bytes(), 0));
        assert_eq!(read16(&mut power, PM1_CONTROL, 0), 0);
    }

    proptest! {
        #[test]
        fn any_access_is_answered(
            accesses in proptest::collection::vec((0u16..70, any::<[u8; 4]>(), 0u64..u64::MAX / 2), 0..50)
        ) {
            let mut power = Power::default();
            for (offset, mut data, now) in accesses {
                power.write(offset, &data, now);
                power.read(offset, &mut data, now);
                power.next_event_ns(now);
                power.irq();
            }
        }
    }
}
