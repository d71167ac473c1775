//! The least a micro-guest finds around its CPU: a serial port that only sends, the exit port, two 8259s, channel 0 of
//! the 8254.

/// One 8259.
#[derive(Default)]
pub struct Pic {
    irr: u8,
    isr: u8,
    pub mask: u8,
    base: u8,
    /// Which initialisation word comes next on the odd port: 2 to 4; 0 for none.
    next_word: u8,
    needs_word4: bool,
    auto_eoi: bool,
    read_isr: bool,
}

impl Pic {
    fn raise(&mut self, line: u8) {
        self.irr |= 1 << line;
    }

    /// The line to be served, if it beats those in service.
    fn pending(&self) -> Option<u8> {
        let requested = (self.irr & !self.mask).trailing_zeros() as u8;
        let in_service = self.isr.trailing_zeros() as u8;
        (requested < 8 && requested < in_service).then_some(requested)
    }

    fn acknowledge(&mut self, line: u8) -> u8 {
        self.irr &= !(1 << line);
        if !self.auto_eoi {
            self.isr |= 1 << line;
        }
        self.base + line
    }

    fn write(&mut self, odd: bool, value: u8) {
        match (odd, self.next_word) {
            (false, _) if value & 0x10 != 0 => {
                *self = Self { next_word: 2, needs_word4: value & 1 != 0, ..Self::default() };
            }
            (false, _) if value & 0x18 == 0x08 => match value & 3 {
                2 => self.read_isr = false,
                3 => self.read_isr = true,
                _ => {}
            },
            (false, _) => match value >> 5 {
                1 => self.isr &= self.isr.wrapping_sub(1),
                3 => self.isr &= !(1 << (value & 7)),
                _ => {}
            },
            (true, 2) => (self.base, self.next_word) = (value & 0xf8, 3),
            (true, 3) => self.next_word = if self.needs_word4 { 4 } else { 0 },
            (true, 4) => (self.auto_eoi, self.next_word) = (value & 2 != 0, 0),
            (true, _) => self.mask = value,
        }
    }

    fn read(&self, odd: bool) -> u8 {
        match (odd, self.read_isr) {
            (true, _) => self.mask,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }
}

/// Channel 0 of the 8254, modes 0 and 2 (and 3, as 2).
#[derive(Default)]
pub struct Pit {
    mode: u8,
    low: Option<u8>,
    /// Ticks until the next edge; `None`: not counting.
    left: Option<u64>,
    reload: u64,
}

impl Pit {
    fn write(&mut self, port: u16, value: u8) {
        match (port, self.low) {
            (0x43, _) if value >> 6 == 0 && value & 0x30 != 0 => {
                *self = Self { mode: value >> 1 & 3, ..Self::default() };
            }
            (0x40, None) => self.low = Some(value),
            (0x40, Some(low)) => {
                self.low = None;
                self.reload = match u64::from(value) << 8 | u64::from(low) {
                    0 => 0x1_0000,
                    n => n,
                };
                self.left = Some(self.reload);
            }
            _ => {}
        }
    }

    /// Lets time pass; how many edges fell into it (at most one is remembered by the 8259).
    fn pass(&mut self, ticks: u64) -> bool {
        let Some(left) = self.left else {
            return false;
        };
        if ticks < left {
            self.left = Some(left - ticks);
            return false;
        }
        self.left = (self.mode != 0).then_some(self.reload);
        true
    }
}

/// All of it.
#[derive(Default)]
pub struct Devices {
    /// What the guest sent.
    pub serial: Vec<u8>,
    /// What it wrote to the exit port.
    pub exit: Option<u8>,
    /// It asked for a reset, through the keyboard controller or the chipset.
    pub reset: bool,
    /// The serial port's divisor latch stands in for its data.
    divisor_latch: bool,
    pub master: Pic,
    pub slave: Pic,
    pub pit: Pit,
}

impl Devices {
    /// Time passes, in ticks of the 8254.
    pub fn pass(&mut self, ticks: u64) {
        if self.pit.pass(ticks) {
            self.master.raise(0);
        }
    }

    /// Ticks until something happens by itself.
    pub fn next_event(&self) -> Option<u64> {
        self.pit.left
    }

    /// Is INTR asserted?
    pub fn interrupt(&self) -> bool {
        self.master.pending().is_some()
    }

    /// The CPU takes the interrupt: its vector.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let line = self.master.pending()?;
        Some(self.master.acknowledge(line))
    }

    pub fn read(&mut self, port: u16, size: u8) -> u32 {
        if size > 1 {
            return u32::MAX >> (32 - u32::from(size) * 8);
        }
        let value = match port {
            0x20 | 0x21 => self.master.read(port & 1 != 0),
            0xa0 | 0xa1 => self.slave.read(port & 1 != 0),
            // Line status: the transmitter is empty.
            0x3fd => 0x60,
            0x3f8..=0x3ff => 0,
            0x61 => 0x20,
            _ => 0xff,
        };
        value.into()
    }

    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        match (port, size) {
            (0x20 | 0x21, 1) => self.master.write(port & 1 != 0, value as u8),
            (0xa0 | 0xa1, 1) => self.slave.write(port & 1 != 0, value as u8),
            (0x40 | 0x43, 1) => self.pit.write(port, value as u8),
            (0x3f8, 1) if !self.divisor_latch => self.serial.push(value as u8),
            (0x3fb, 1) => self.divisor_latch = value & 0x80 != 0,
            (0x64, 1) => self.reset |= value == 0xfe,
            (0xcf9, 1) => self.reset |= value & 4 != 0,
            (0x501, _) => self.exit = Some(value as u8),
            _ => {}
        }
    }
}
