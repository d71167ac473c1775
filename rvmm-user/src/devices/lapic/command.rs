//! The interrupt command register: interrupts to CPUs, of which there is this one (Intel SDM volume 3, section 11.6).

use super::{Lapic, FIRST_VECTOR, SEND_ILLEGAL_VECTOR};
use crate::devices::apic_message::{Delivery, Destination, Message};

/// What of the lower half is stored. The delivery status, bit 12, is "idle" as soon as the write has ended.
const STORED: u32 = 0x000C_CFFF;
const LOGICAL: u32 = 1 << 11;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

/// Destination shorthands (bits 18 and 19).
const NO_SHORTHAND: u32 = 0;
const SELF: u32 = 1;
const ALL: u32 = 2;

impl Lapic {
    /// Writes the lower half, which sends.
    pub(super) fn write_command(&mut self, value: u32) {
        self.command[0] = value & STORED;
        let (delivery, vector) = (Delivery::of(value), value as u8);
        // The end of an INIT level: tells arbitration numbers to CPUs that have such.
        if delivery == Delivery::Init && value & (LEVEL | ASSERT) == LEVEL {
            return;
        }
        let fixed = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        if fixed && vector < FIRST_VECTOR {
            self.error(SEND_ILLEGAL_VECTOR);
            return;
        }
        let destination = (self.command[1] >> 24) as u8;
        let to = match value >> 18 & 3 {
            NO_SHORTHAND if value & LOGICAL != 0 => Destination::Logical(destination),
            NO_SHORTHAND => Destination::Physical(destination),
            // INIT and start-up by a shorthand that includes the sender are not valid (table 11-3).
            SELF | ALL if matches!(delivery, Delivery::Init | Delivery::StartUp) => return,
            SELF | ALL => Destination::Physical(self.id),
            // There is nobody else.
            _ => return,
        };
        // No external interrupts between CPUs.
        if delivery != Delivery::External {
            self.receive(Message { to, delivery, vector, level: false });
        }
    }
}
