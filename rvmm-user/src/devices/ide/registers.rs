//! The command block registers of one drive (ATA/ATAPI-6, sections 6 and 7), and the bits in them.

/// Status: the drive is busy; nothing else in the register counts.
pub const BSY: u8 = 0x80;
/// Status: the drive takes commands.
pub const DRDY: u8 = 0x40;
/// Status: device fault.
pub const DF: u8 = 0x20;
/// Status: seek complete (obsolete since ATA-4, and set all the same).
pub const DSC: u8 = 0x10;
/// Status: the drive wants to transfer data.
pub const DRQ: u8 = 0x08;
/// Status: the error register says more.
pub const ERR: u8 = 0x01;

/// Error: a sector cannot be read.
pub const UNC: u8 = 0x40;
/// Error: there is no such sector.
pub const IDNF: u8 = 0x10;
/// Error: the command was aborted.
pub const ABRT: u8 = 0x04;
/// Error, as the result of diagnostics and resets: no fault found.
pub const PASSED: u8 = 0x01;

/// Device: the address is an LBA.
pub const LBA: u8 = 0x40;
/// Device: drive 1 is selected.
pub const DEV: u8 = 0x10;
/// Device: bits that were always one up to ATA-3.
const ALWAYS: u8 = 0xA0;

/// Device control: reads give what the register held before the last write.
pub const HOB: u8 = 0x80;
/// Device control: software reset.
pub const SRST: u8 = 0x04;
/// Device control: no interrupts.
pub const NIEN: u8 = 0x02;

/// A register that remembers one value more, for 48-bit addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latch {
    /// What was written last.
    pub now: u8,
    /// What was written before.
    pub before: u8,
}

impl Latch {
    fn write(&mut self, value: u8) {
        *self = Latch { now: value, before: self.now };
    }

    fn read(self, previous: bool) -> u8 {
        if previous {
            self.before
        } else {
            self.now
        }
    }
}

/// The registers that a command takes its arguments from and leaves its results in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskFile {
    /// Offset 1, written.
    pub features: Latch,
    /// Offset 2; the interrupt reason of packet commands.
    pub count: Latch,
    /// Offset 3.
    pub low: Latch,
    /// Offset 4; the low byte count of packet commands.
    pub mid: Latch,
    /// Offset 5; the high byte count of packet commands.
    pub high: Latch,
    /// Offset 6, without the bits that are always one.
    pub device: u8,
}

impl TaskFile {
    /// Writes the register at `offset` (1–6).
    pub fn write(&mut self, offset: u16, value: u8) {
        match offset {
            1 => self.features.write(value),
            2 => self.count.write(value),
            3 => self.low.write(value),
            4 => self.mid.write(value),
            5 => self.high.write(value),
            6 => self.device = value & !ALWAYS,
            _ => {}
        }
    }

    /// Reads the register at `offset` (2–6), what it held before if `previous`.
    pub fn read(&self, offset: u16, previous: bool) -> u8 {
        match offset {
            2 => self.count.read(previous),
            3 => self.low.read(previous),
            4 => self.mid.read(previous),
            5 => self.high.read(previous),
            _ => self.device | ALWAYS,
        }
    }

    /// The 28-bit address.
    pub fn lba28(&self) -> u64 {
        let [low, mid, high] = [self.low, self.mid, self.high].map(|latch| u64::from(latch.now));
        low | mid << 8 | high << 16 | u64::from(self.device & 0x0F) << 24
    }

    /// The 48-bit address.
    pub fn lba48(&self) -> u64 {
        let [low, mid, high] = [self.low, self.mid, self.high];
        let bytes = [low.now, mid.now, high.now, low.before, mid.before, high.before, 0, 0];
        u64::from_le_bytes(bytes)
    }

    /// The sector count of a command with 28-bit or CHS address; 0 stands for 256.
    pub fn count28(&self) -> u32 {
        match self.count.now {
            0 => 256,
            count => u32::from(count),
        }
    }

    /// The sector count of a command with 48-bit address; 0 stands for 65,536.
    pub fn count48(&self) -> u32 {
        match u16::from_le_bytes([self.count.now, self.count.before]) {
            0 => 1 << 16,
            count => u32::from(count),
        }
    }

    /// Leaves a 28-bit address.
    pub fn set_lba28(&mut self, lba: u64) {
        let [low, mid, high, top, ..] = lba.to_le_bytes();
        (self.low.now, self.mid.now, self.high.now) = (low, mid, high);
        self.device = self.device & 0xF0 | top & 0x0F;
    }

    /// Leaves a 48-bit address.
    pub fn set_lba48(&mut self, lba: u64) {
        let [a, b, c, d, e, f, ..] = lba.to_le_bytes();
        self.low = Latch { now: a, before: d };
        self.mid = Latch { now: b, before: e };
        self.high = Latch { now: c, before: f };
    }

    /// Leaves a 48-bit command's sector count.
    pub fn set_count48(&mut self, count: u32) {
        let [now, before, ..] = count.to_le_bytes();
        self.count = Latch { now, before };
    }

    /// Leaves what tells the kinds of drives apart after a reset: `mid` and `high`.
    pub fn set_signature(&mut self, mid: u8, high: u8) {
        let now = |now| Latch { now, before: 0 };
        (self.count, self.low, self.mid, self.high) = (now(1), now(1), now(mid), now(high));
        self.device = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writes_make_a_48_bit_address() {
        let mut file = TaskFile::default();
        for (offset, first, second) in [(2, 0x12, 0x34), (3, 4, 1), (4, 5, 2), (5, 6, 3)] {
            file.write(offset, first);
            file.write(offset, second);
        }
        assert_eq!(file.lba48(), 0x0605_0403_0201);
        assert_eq!(file.count48(), 0x1234);
        assert_eq!((file.read(3, false), file.read(3, true)), (1, 4));
        file.set_lba48(0x0A0B_0C0D_0E0F);
        assert_eq!(file.lba48(), 0x0A0B_0C0D_0E0F);
    }

    #[test]
    fn a_count_of_zero_is_the_most() {
        let file = TaskFile::default();
        assert_eq!((file.count28(), file.count48()), (256, 65_536));
    }

    #[test]
    fn the_28_bit_address_ends_in_the_device_register() {
        let mut file = TaskFile::default();
        file.write(6, 0xE5);
        file.set_lba28(0x0ABC_DEF1);
        assert_eq!(file.lba28(), 0x0ABC_DEF1);
        assert_eq!(file.read(6, false), 0xEA);
    }
}
