//! The bus-master registers of one IDE channel ("Programming Interface for Bus Master IDE Controller", revision 1.0; 82371SB
//! PIIX3 data sheet, section 2.6), and the walk through the table of physical regions.

use crate::devices::dma::{Dma, NoMemory};

/// Command: the bus master runs.
const START: u8 = 0x01;
/// Command: to memory. The direction that counts is the drive's, as in QEMU; the bit only reads back.
const TO_MEMORY: u8 = 0x08;

/// Status: between start and the end of the table.
const ACTIVE: u8 = 0x01;
/// Status: memory did not answer.
const ERROR: u8 = 0x02;
/// Status: the drive has interrupted.
const INTERRUPT: u8 = 0x04;
/// Status: the drives can do DMA; for software's use alone.
const CAPABLE: u8 = 0x60;

/// A region's descriptor: the last one.
const END_OF_TABLE: u16 = 0x8000;

/// The registers and the place in the table.
#[derive(Debug, Default)]
pub struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
    /// Where the next descriptor is.
    next: u32,
    /// The rest of the region that is being transferred.
    address: u32,
    left: u32,
    last: bool,
}

impl BusMaster {
    /// Reads the byte at `offset` (0–7).
    pub fn read(&self, offset: u16) -> u8 {
        match offset {
            0 => self.command,
            2 => self.status,
            4..=7 => self.table.to_le_bytes().get(usize::from(offset - 4)).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// Writes the byte at `offset` (0–7).
    pub fn write(&mut self, offset: u16, value: u8) {
        match offset {
            0 => self.write_command(value),
            2 => {
                let kept = self.status & ACTIVE | self.status & !value & (ERROR | INTERRUPT);
                self.status = kept | value & CAPABLE;
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                if let Some(byte) = bytes.get_mut(usize::from(offset - 4)) {
                    *byte = value;
                }
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }

    /// Whether it would transfer now.
    pub fn is_active(&self) -> bool {
        self.status & ACTIVE != 0
    }

    /// The drive's interrupt line rose.
    pub fn interrupted(&mut self) {
        self.status |= INTERRUPT;
    }

    /// Writes `data`, which comes from the drive, to memory. Returns how many bytes the table had room for.
    pub fn deliver(&mut self, data: &[u8], dma: &mut dyn Dma) -> usize {
        let mut done = 0;
        while let Some((address, part)) = self.region(&*dma, data.len() - done) {
            let Some(bytes) = data.get(done..done + part) else { break };
            if !self.moved(dma.write(u64::from(address), bytes), part) {
                break;
            }
            done += part;
        }
        done
    }

    /// Fills `data`, which goes to the drive, from memory. Returns how many bytes the table had.
    pub fn collect(&mut self, data: &mut [u8], dma: &dyn Dma) -> usize {
        let mut done = 0;
        while let Some((address, part)) = self.region(dma, data.len() - done) {
            let Some(bytes) = data.get_mut(done..done + part) else { break };
            if !self.moved(dma.read(u64::from(address), bytes), part) {
                break;
            }
            done += part;
        }
        done
    }

    fn write_command(&mut self, value: u8) {
        let was = std::mem::replace(&mut self.command, value & (START | TO_MEMORY));
        if value & START == 0 {
            self.status &= !ACTIVE;
        } else if was & START == 0 {
            self.status |= ACTIVE;
            (self.next, self.left, self.last) = (self.table, 0, false);
        }
    }

    /// The next piece of memory, of at most `wanted` bytes. Never empty.
    fn region(&mut self, dma: &dyn Dma, wanted: usize) -> Option<(u32, usize)> {
        if wanted == 0 || !self.is_active() {
            return None;
        }
        if self.left == 0 {
            self.fetch(dma)?;
        }
        Some((self.address, wanted.min(self.left as usize)))
    }

    /// Reads a descriptor: address, count (0 stands for 64 KiB), end mark. Neither address nor count can be odd.
    fn fetch(&mut self, dma: &dyn Dma) -> Option<()> {
        let mut descriptor = [0; 8];
        if dma.read(u64::from(self.next), &mut descriptor).is_err() {
            self.stop(ERROR);
            return None;
        }
        let [a, b, c, d, e, f, g, h] = descriptor;
        self.next = self.next.wrapping_add(8);
        self.address = u32::from_le_bytes([a, b, c, d]) & !1;
        self.left = match u32::from(u16::from_le_bytes([e, f]) & !1) {
            0 => 1 << 16,
            count => count,
        };
        self.last = u16::from_le_bytes([g, h]) & END_OF_TABLE != 0;
        Some(())
    }

    /// Books a transfer of `part` bytes. Returns whether it took place.
    fn moved(&mut self, result: Result<(), NoMemory>, part: usize) -> bool {
        if result.is_err() {
            self.stop(ERROR);
            return false;
        }
        self.address = self.address.wrapping_add(part as u32);
        self.left = self.left.saturating_sub(part as u32);
        if self.left == 0 && self.last {
            self.stop(0);
        }
        true
    }

    fn stop(&mut self, why: u8) {
        self.status = self.status & !ACTIVE | why;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::Ram;

    fn started(ram: &mut Ram, regions: &[(u32, u16, u16)]) -> BusMaster {
        for (index, (address, count, flags)) in regions.iter().enumerate() {
            let descriptor = [&address.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat();
            ram.write(0x1000 + 8 * index as u64, &descriptor).unwrap();
        }
        let mut master = BusMaster::default();
        for (offset, byte) in (4..).zip(0x1003u32.to_le_bytes()) {
            master.write(offset, byte);
        }
        master.write(0, START | TO_MEMORY);
        master
    }

    #[test]
    fn regions_are_filled_in_order_and_the_last_one_ends_it() {
        let mut ram = Ram::new(0x10000);
        let mut master = started(&mut ram, &[(0x2000, 4, 0), (0x3001, 6, END_OF_TABLE)]);
        assert_eq!(master.read(4), 0, "the table is aligned");
        assert_eq!(master.deliver(&[1, 2, 3, 4, 5], &mut ram), 5);
        assert!(master.is_active());
        assert_eq!(master.deliver(&[6, 7, 8, 9, 10, 11], &mut ram), 5, "one byte too many");
        assert!(!master.is_active());
        assert_eq!((&ram.0[0x2000..0x2004], &ram.0[0x3000..0x3006]), (&[1, 2, 3, 4][..], &[5, 6, 7, 8, 9, 10][..]));
        assert_eq!(master.read(2), 0, "too short a table is no error of memory");
    }

    #[test]
    fn a_count_of_zero_is_64_kib() {
        let mut ram = Ram::new(0x40000);
        let mut master = started(&mut ram, &[(0x20000, 0, END_OF_TABLE)]);
        let mut data = vec![1; 0x20000];
        assert_eq!(master.collect(&mut data, &ram), 0x10000);
    }

    #[test]
    fn absent_memory_is_an_error() {
        let mut ram = Ram::new(0x10000);
        let mut master = started(&mut ram, &[(0x2000, 2, 0), (0x20000, 2, END_OF_TABLE)]);
        assert_eq!(master.deliver(&[1, 2, 3, 4], &mut ram), 2);
        assert_eq!(master.read(2), ERROR);
        master.write(2, ERROR);
        assert_eq!(master.read(2), 0);
    }

    #[test]
    fn stopping_clears_active_and_starting_begins_anew() {
        let mut ram = Ram::new(0x10000);
        let mut master = started(&mut ram, &[(0x2000, 4, 0), (0x3000, 4, END_OF_TABLE)]);
        master.deliver(&[1, 2, 3, 4, 5], &mut ram);
        master.write(0, 0);
        assert!(!master.is_active());
        assert_eq!(master.deliver(&[9], &mut ram), 0);
        master.write(0, START);
        master.deliver(&[8], &mut ram);
        assert_eq!((ram.0[0x2000], ram.0[0x3000]), (8, 5));
    }

    #[test]
    fn the_interrupt_bit_is_cleared_by_writing_one() {
        let mut master = BusMaster::default();
        master.interrupted();
        master.write(2, 0x60);
        assert_eq!(master.read(2), 0x64);
        master.write(2, 0x04);
        assert_eq!(master.read(2), 0);
    }
}
