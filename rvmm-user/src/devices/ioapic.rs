//! The I/O APIC (Intel 82093AA data sheet 290566): 24 pins, each with an entry of the redirection table that makes a message of its
//! interrupt.
//!
//! A pin is asserted or not; that is what the devices say, whichever level a wire would have. The polarity of an entry is kept and means
//! nothing more, as in QEMU and KVM: tables of firmware and kernels' defaults do not agree on it.

use super::apic_message::{Delivery, Destination, Message};

/// Where the registers are.
pub const BASE: u64 = 0xFEC0_0000;
/// Bytes of the page that they are in.
pub const SIZE: u64 = 0x1000;
/// Pins.
pub const PINS: u8 = 24;

/// Registers in memory: which register the window shows, and the window.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Registers behind the window.
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;

/// Version 11 and the number of the last entry.
const VERSION_VALUE: u32 = 0x0017_0011;
const ID_BITS: u32 = 0x0F00_0000;

/// Bits of an entry.
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery and destination mode, polarity, trigger mode, mask, destination; not the status bits.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

/// An I/O APIC.
#[derive(Clone, Debug)]
pub struct Ioapic {
    id: u32,
    select: u8,
    table: [u64; PINS as usize],
    /// Pins that are asserted.
    lines: u32,
    /// Edges that were not sent yet.
    edges: u32,
}

impl Ioapic {
    /// After a reset: everything masked.
    pub fn new() -> Ioapic {
        Ioapic { id: 0, select: 0, table: [MASKED; PINS as usize], lines: 0, edges: 0 }
    }

    /// Drives pin `pin` (0–23). [`Ioapic::due`] has what follows.
    pub fn set_line(&mut self, pin: u8, asserted: bool) {
        let bit = 1u32.checked_shl(pin.into()).unwrap_or(0);
        let rises = asserted && self.lines & bit == 0;
        self.lines = if asserted { self.lines | bit } else { self.lines & !bit };
        // An edge that comes while its pin is masked is not held (section 3.2.4, interrupt mask).
        if rises && self.entry(pin) & (MASKED | LEVEL) == 0 {
            self.edges |= bit;
        }
    }

    /// Whether a pin may have something to send.
    pub fn is_busy(&self) -> bool {
        self.lines | self.edges != 0
    }

    /// What `pin` has to send. Whether it was taken is told by [`Ioapic::sent`].
    pub fn due(&self, pin: u8) -> Option<Message> {
        let entry = self.entry(pin);
        let asserted = match entry & (MASKED | LEVEL | REMOTE_IRR) {
            0 => self.edges,
            LEVEL => self.lines,
            _ => 0,
        };
        (asserted.checked_shr(pin.into()).unwrap_or(0) & 1 != 0).then(|| message(entry))
    }

    /// The message of `pin` was sent, and accepted or not. A level that nobody accepted stays due.
    pub fn sent(&mut self, pin: u8, accepted: bool) {
        let level = self.entry(pin) & LEVEL != 0;
        self.edges &= !1u32.checked_shl(pin.into()).unwrap_or(0);
        if let Some(entry) = self.table.get_mut(usize::from(pin)).filter(|_| level && accepted) {
            *entry |= REMOTE_IRR;
        }
    }

    /// A local APIC tells the end of an interrupt by level.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.table {
            if *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
            }
        }
    }

    /// The vector of `pin`, unless it is masked or has none of its own.
    pub fn vector(&self, pin: u8) -> Option<u8> {
        let entry = self.entry(pin);
        let own = matches!(Delivery::of(entry as u32), Delivery::Fixed | Delivery::LowestPriority);
        (own && entry & MASKED == 0).then_some(entry as u8)
    }

    /// Reads `data.len()` bytes at `offset`.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let value = match offset {
            SELECT => self.select.into(),
            WINDOW => self.register(),
            _ => return,
        };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    /// Writes at `offset`; the window only as a whole.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (SELECT, &[value, ..]) => self.select = value,
            (WINDOW, &[a, b, c, d]) => self.write_register(u32::from_le_bytes([a, b, c, d])),
            _ => {}
        }
    }

    fn entry(&self, pin: u8) -> u64 {
        self.table.get(usize::from(pin)).copied().unwrap_or(MASKED)
    }

    fn register(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            select => match select.checked_sub(TABLE) {
                Some(index) if index < 2 * PINS => (self.entry(index / 2) >> (32 * (index % 2))) as u32,
                _ => 0,
            },
        }
    }

    fn write_register(&mut self, value: u32) {
        if self.select == ID {
            self.id = value & ID_BITS;
            return;
        }
        let Some(index) = self.select.checked_sub(TABLE) else { return };
        let Some(entry) = self.table.get_mut(usize::from(index / 2)) else { return };
        let shift = 32 * (index % 2);
        let mask = WRITABLE & 0xFFFF_FFFF << shift;
        *entry = *entry & !mask | u64::from(value) << shift & mask;
        // The bit is a level's. Kernels clear it so, where there is no register for an end of interrupt.
        if *entry & LEVEL == 0 {
            *entry &= !REMOTE_IRR;
        } else {
            self.edges &= !1u32.checked_shl((index / 2).into()).unwrap_or(0);
        }
    }
}

fn message(entry: u64) -> Message {
    let destination = (entry >> 56) as u8;
    let to = if entry & LOGICAL != 0 { Destination::Logical(destination) } else { Destination::Physical(destination) };
    Message { to, delivery: Delivery::of(entry as u32), vector: entry as u8, level: entry & LEVEL != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(ioapic: &mut Ioapic, register: u8, value: u32) {
        ioapic.write(SELECT, &u32::from(register).to_le_bytes());
        ioapic.write(WINDOW, &value.to_le_bytes());
    }

    fn read(ioapic: &mut Ioapic, register: u8) -> u32 {
        ioapic.write(SELECT, &[register]);
        let mut data = [0; 4];
        ioapic.read(WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    /// What is sent until nothing is due, everything accepted.
    fn drain(ioapic: &mut Ioapic) -> Vec<u8> {
        let mut vectors = Vec::new();
        for pin in 0..PINS {
            if let Some(message) = ioapic.due(pin) {
                assert!(ioapic.is_busy());
                vectors.push(message.vector);
                ioapic.sent(pin, true);
                assert_eq!(ioapic.due(pin), None);
            }
        }
        vectors
    }

    #[test]
    fn the_registers_are_those_of_the_82093aa() {
        let mut ioapic = Ioapic::new();
        assert_eq!(read(&mut ioapic, 1), 0x0017_0011);
        write(&mut ioapic, 0, u32::MAX);
        assert_eq!((read(&mut ioapic, 0), read(&mut ioapic, 2)), (0x0F00_0000, 0x0F00_0000));
        for pin in 0..PINS {
            assert_eq!((read(&mut ioapic, 0x10 + 2 * pin), read(&mut ioapic, 0x11 + 2 * pin)), (0x1_0000, 0));
        }
        write(&mut ioapic, 0x12, u32::MAX);
        write(&mut ioapic, 0x13, u32::MAX);
        assert_eq!((read(&mut ioapic, 0x12), read(&mut ioapic, 0x13)), (0x0001_AFFF, 0xFF00_0000));
        assert_eq!((read(&mut ioapic, 0x40), read(&mut ioapic, 0xFF)), (0, 0));
    }

    #[test]
    fn an_edge_is_one_message_and_lost_while_masked() {
        let mut ioapic = Ioapic::new();
        ioapic.set_line(4, true);
        ioapic.set_line(4, false);
        write(&mut ioapic, 0x18, 0x0931);
        write(&mut ioapic, 0x19, 0x0100_0000);
        assert!(drain(&mut ioapic).is_empty());
        ioapic.set_line(4, true);
        let expected =
            Message { to: Destination::Logical(1), delivery: Delivery::LowestPriority, vector: 0x31, level: false };
        assert_eq!(ioapic.due(4), Some(expected));
        assert_eq!(drain(&mut ioapic), [0x31]);
        ioapic.set_line(4, true);
        assert!(drain(&mut ioapic).is_empty(), "still the same edge");
        assert_eq!(read(&mut ioapic, 0x18) & REMOTE_IRR as u32, 0);
    }

    #[test]
    fn a_level_is_sent_again_after_its_end_while_it_lasts() {
        let mut ioapic = Ioapic::new();
        ioapic.set_line(9, true);
        write(&mut ioapic, 0x22, 0x8000 | 0x41);
        assert_eq!(drain(&mut ioapic), [0x41]);
        assert_eq!(read(&mut ioapic, 0x22), 0xC041);
        ioapic.end_of_interrupt(0x42);
        assert!(drain(&mut ioapic).is_empty());
        ioapic.end_of_interrupt(0x41);
        assert_eq!(drain(&mut ioapic), [0x41]);
        ioapic.set_line(9, false);
        ioapic.end_of_interrupt(0x41);
        assert!(drain(&mut ioapic).is_empty());
        assert_eq!(read(&mut ioapic, 0x22), 0x8041);
    }

    #[test]
    fn the_mask_holds_a_level_back_and_an_edge_mode_clears_remote_irr() {
        let mut ioapic = Ioapic::new();
        ioapic.set_line(10, true);
        write(&mut ioapic, 0x24, 0x8050);
        assert_eq!(drain(&mut ioapic), [0x50]);
        // The end as kernels have it for version 11: masked and by edge, then as before.
        write(&mut ioapic, 0x24, 0x1_0050);
        assert!(drain(&mut ioapic).is_empty());
        write(&mut ioapic, 0x24, 0x8050);
        assert_eq!(drain(&mut ioapic), [0x50]);
    }

    #[test]
    fn a_level_that_nobody_accepts_stays_due() {
        let mut ioapic = Ioapic::new();
        ioapic.set_line(3, true);
        write(&mut ioapic, 0x16, 0x8033);
        ioapic.sent(3, false);
        assert_eq!(read(&mut ioapic, 0x16), 0x8033);
        assert!(ioapic.due(3).is_some());
    }

    proptest! {
        #[test]
        fn any_access_is_answered(
            steps in proptest::collection::vec((0u8..5, any::<u8>(), any::<u32>()), 0..200)
        ) {
            let mut ioapic = Ioapic::new();
            for (what, small, value) in steps {
                match what {
                    0 => ioapic.set_line(small, value & 1 != 0),
                    1 => write(&mut ioapic, small, value),
                    2 => ioapic.end_of_interrupt(small),
                    3 => ioapic.write(value.into(), &[small; 3]),
                    _ => { read(&mut ioapic, small); }
                }
                drain(&mut ioapic);
                for entry in ioapic.table {
                    prop_assert!(entry & REMOTE_IRR == 0 || entry & LEVEL != 0);
                }
            }
        }
    }
}
