//! The firmware configuration device: what firmware asks about the machine (QEMU, docs/specs/fw_cfg).
//!
//! Items have numbers; files are items with a name, listed in a directory. A guest selects an item and reads it byte by byte, or has
//! all of it copied to its memory.

pub mod items;

use super::dma::Dma;

/// First port: the selector, 16 bits wide.
pub const PORT: u16 = 0x510;
/// The data, a byte at a time.
pub const DATA: u16 = 0x511;
/// The address of a request to copy: the upper half, then the lower one, both big-endian.
pub const ADDRESS: u16 = 0x514;
const ADDRESS_LOW: u16 = 0x518;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
/// Bits of a selector that choose an item; bit 14 asks to write, which no item allows.
const ITEM: u16 = 0xBFFF;

/// ID: the traditional interface, and the one that copies.
const FEATURES: u32 = 0b11;
/// What the address register reads as.
const ADDRESS_SIGNATURE: [u8; 8] = *b"QEMU CFG";

const NAME_BYTES: usize = 56;

const CONTROL_ERROR: u32 = 1 << 0;
const CONTROL_READ: u32 = 1 << 1;
const CONTROL_SKIP: u32 = 1 << 2;
const CONTROL_SELECT: u32 = 1 << 3;
const CONTROL_WRITE: u32 = 1 << 4;

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    items: Vec<(u16, Vec<u8>)>,
    files: Vec<(String, u16)>,
    selected: u16,
    offset: usize,
    address: u64,
}

impl FwCfg {
    /// A device that says no more than that it is one.
    pub fn new() -> FwCfg {
        let mut device = FwCfg { items: Vec::new(), files: Vec::new(), selected: 0, offset: 0, address: 0 };
        device.add(SIGNATURE, b"QEMU".to_vec());
        device.add(ID, FEATURES.to_le_bytes().to_vec());
        device.write_directory();
        device
    }

    /// Adds item `number`.
    pub fn add(&mut self, number: u16, data: Vec<u8>) {
        self.items.retain(|(old, _)| *old != number);
        self.items.push((number, data));
    }

    /// Adds a file. Names longer than the directory has room for are cut.
    pub fn add_file(&mut self, name: &str, data: Vec<u8>) {
        let number = FIRST_FILE.saturating_add(self.files.len() as u16);
        self.add(number, data);
        self.files.push((name.chars().take(NAME_BYTES - 1).collect(), number));
        self.write_directory();
    }

    /// Forgets what was selected.
    pub fn reset(&mut self) {
        (self.selected, self.offset, self.address) = (0, 0, 0);
    }

    /// Reads `data.len()` bytes from `port`.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        data.fill(super::OPEN_BUS);
        match port {
            DATA => {
                // The port is one byte wide, and a wider access to it takes no more than that.
                if let Some(first) = data.first_mut() {
                    *first = self.next_byte();
                }
            }
            ADDRESS.. => {
                let from = usize::from(port - ADDRESS);
                for (byte, value) in data.iter_mut().zip(ADDRESS_SIGNATURE.into_iter().skip(from)) {
                    *byte = value;
                }
            }
            _ => {}
        }
    }

    /// Writes `data` to `port`. The write that completes an address carries the request out.
    pub fn write(&mut self, port: u16, data: &[u8], memory: &mut dyn Dma) {
        match (port, data) {
            (PORT, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (ADDRESS, &[a, b, c, d]) => {
                self.address = u64::from(u32::from_be_bytes([a, b, c, d])) << 32 | self.address & 0xFFFF_FFFF;
            }
            (ADDRESS_LOW, &[a, b, c, d]) => {
                let low = u64::from(u32::from_be_bytes([a, b, c, d]));
                let address = self.address & !0xFFFF_FFFF | low;
                self.address = 0;
                self.copy(address, memory);
            }
            _ => {}
        }
    }

    fn select(&mut self, number: u16) {
        (self.selected, self.offset) = (number & ITEM, 0);
    }

    fn item(&self) -> &[u8] {
        self.items.iter().find(|(number, _)| *number == self.selected).map_or(&[], |(_, data)| data)
    }

    /// Items go on with zeros for ever.
    fn next_byte(&mut self) -> u8 {
        let byte = self.item().get(self.offset).copied().unwrap_or(0);
        self.offset = self.offset.saturating_add(1);
        byte
    }

    /// Carries out the request at `address`: control, length and the address of the data, big-endian. Behind it the control word tells
    /// whether that failed.
    fn copy(&mut self, address: u64, memory: &mut dyn Dma) {
        let mut request = [0; 16];
        if memory.read(address, &mut request).is_err() {
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, data @ ..] = request;
        let control = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if control & CONTROL_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let failed = if control & CONTROL_READ != 0 {
            self.copy_out(u64::from_be_bytes(data), length, memory)
        } else if control & CONTROL_WRITE != 0 {
            // No item can be written.
            length != 0
        } else {
            if control & CONTROL_SKIP != 0 {
                self.offset = self.offset.saturating_add(length);
            }
            false
        };
        let answer = if failed { CONTROL_ERROR } else { 0 };
        // Where the request was read there is memory; in a ROM the answer is lost, as any write is.
        let _ = memory.write(address, &answer.to_be_bytes());
    }

    /// Whether it failed.
    fn copy_out(&mut self, address: u64, length: usize, memory: &mut dyn Dma) -> bool {
        let mut done = 0;
        while done < length {
            let rest = self.item().get(self.offset..).unwrap_or(&[]);
            let mut page = [0; 4096];
            let now = (length - done).min(page.len());
            for (to, from) in page.iter_mut().zip(rest) {
                *to = *from;
            }
            let Some(at) = address.checked_add(done as u64) else { return true };
            if memory.write(at, page.get(..now).unwrap_or(&page)).is_err() {
                return true;
            }
            self.offset = self.offset.saturating_add(now);
            done += now;
        }
        false
    }

    /// The directory: a count, and for each file its size, number and name, big-endian.
    fn write_directory(&mut self) {
        let mut directory = (self.files.len() as u32).to_be_bytes().to_vec();
        for (name, number) in &self.files {
            let size = self.items.iter().find(|(item, _)| item == number).map_or(0, |(_, data)| data.len());
            directory.extend((size as u32).to_be_bytes());
            directory.extend(number.to_be_bytes());
            directory.extend([0; 2]);
            directory.extend(name.bytes().chain(std::iter::repeat(0)).take(NAME_BYTES));
        }
        self.add(DIRECTORY, directory);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dma::NoMemory;
    use super::*;
    use proptest::prelude::*;

    struct Memory(Vec<u8>);

    impl Dma for Memory {
        fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory> {
            let from = usize::try_from(gpa).ok().and_then(|at| self.0.get(at..at.checked_add(data.len())?));
            data.copy_from_slice(from.ok_or(NoMemory { gpa })?);
            Ok(())
        }

        fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), NoMemory> {
            let to = usize::try_from(gpa).ok().and_then(|at| self.0.get_mut(at..at.checked_add(data.len())?));
            to.ok_or(NoMemory { gpa })?.copy_from_slice(data);
            Ok(())
        }
    }

    fn request(memory: &mut Memory, control: u32, length: u32, address: u64) {
        memory.0[..4].copy_from_slice(&control.to_be_bytes());
        memory.0[4..8].copy_from_slice(&length.to_be_bytes());
        memory.0[8..16].copy_from_slice(&address.to_be_bytes());
    }

    fn bytes(device: &mut FwCfg, number: u16, count: usize) -> Vec<u8> {
        let mut memory = Memory(Vec::new());
        device.write(PORT, &number.to_le_bytes(), &mut memory);
        let mut one = || {
            let mut byte = [0];
            device.read(DATA, &mut byte);
            byte[0]
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn the_signature_goes_on_with_zeros() {
        assert_eq!(bytes(&mut FwCfg::new(), 0, 6), b"QEMU\0\0");
        assert_eq!(bytes(&mut FwCfg::new(), 1, 4), [3, 0, 0, 0]);
        assert_eq!(bytes(&mut FwCfg::new(), 0x1234, 2), [0, 0]);
    }

    #[test]
    fn files_are_in_the_directory() {
        let mut device = FwCfg::new();
        device.add_file("etc/one", vec![1]);
        device.add_file("etc/two", vec![1, 2]);
        let directory = bytes(&mut device, DIRECTORY, 4 + 2 * 64);
        assert_eq!(directory[..4], [0, 0, 0, 2]);
        assert_eq!(directory[68..76], [0, 0, 0, 2, 0, 0x21, 0, 0]);
        assert_eq!(&directory[76..84], b"etc/two\0");
        assert_eq!(bytes(&mut device, 0x21, 2), [1, 2]);
    }

    #[test]
    fn a_request_copies_and_answers() {
        let mut device = FwCfg::new();
        device.add_file("etc/file", vec![7; 5000]);
        let mut memory = Memory(vec![0xFF; 8192]);
        request(&mut memory, CONTROL_SELECT | CONTROL_READ | 0x20 << 16, 5001, 100);
        device.write(ADDRESS, &[0; 4], &mut memory);
        device.write(ADDRESS_LOW, &[0; 4], &mut memory);
        assert_eq!(memory.0[..4], [0; 4]);
        assert_eq!((memory.0[100], memory.0[5099], memory.0[5100], memory.0[5101]), (7, 7, 0, 0xFF));
    }

    #[test]
    fn a_request_without_memory_fails() {
        let mut device = FwCfg::new();
        let mut memory = Memory(vec![0; 64]);
        request(&mut memory, CONTROL_SELECT | CONTROL_READ, 4, 1 << 40);
        device.write(ADDRESS_LOW, &[0; 4], &mut memory);
        assert_eq!(memory.0[..4], [0, 0, 0, 1]);
        request(&mut memory, CONTROL_WRITE, 4, 32);
        device.write(ADDRESS_LOW, &[0; 4], &mut memory);
        assert_eq!(memory.0[..4], [0, 0, 0, 1]);
    }

    #[test]
    fn the_address_register_tells_that_there_is_one() {
        let mut data = [0; 4];
        FwCfg::new().read(ADDRESS, &mut data);
        assert_eq!(&data, b"QEMU");
        FwCfg::new().read(ADDRESS_LOW, &mut data);
        assert_eq!(&data, b" CFG");
    }

    proptest! {
        #[test]
        fn any_request_is_answered(
            control in any::<u32>(), length in 0u32..100_000, address in any::<u64>(), at in 0u32..8192,
            accesses in proptest::collection::vec((0x510u16..0x51C, any::<[u8; 4]>(), 0usize..3), 0..50)
        ) {
            let mut device = FwCfg::new();
            let mut memory = Memory(vec![0; 8192]);
            request(&mut memory, control, length, address % 10_000);
            device.write(ADDRESS_LOW, &at.to_be_bytes(), &mut memory);
            for (port, mut data, width) in accesses {
                let width = [1, 2, 4][width];
                device.write(port, &data[..width], &mut memory);
                device.read(port, &mut data[..width]);
            }
        }
    }
}
