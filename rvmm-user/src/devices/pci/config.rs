//! The configuration space of a PCI function: 256 bytes, of which masks say what may be written (PCI Local Bus Specification 2.1,
//! chapter 6).
//!
//! What a function does by its configuration (base addresses, shadowing, routing) is read from the bytes; nothing else is state.

/// Command register: the function answers I/O accesses.
const COMMAND_IO: u8 = 1 << 0;
/// Command register: the function answers memory accesses.
const COMMAND_MEMORY: u8 = 1 << 1;
/// Command register: the function may be a bus master.
const COMMAND_MASTER: u8 = 1 << 2;

/// Offsets of the header, type 0.
const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
pub const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const HEADER_TYPE: usize = 0x0E;
const BARS: usize = 0x10;
const SUBSYSTEM: usize = 0x2C;
const ROM_BAR: usize = 0x30;
const INTERRUPT_LINE: usize = 0x3C;
const INTERRUPT_PIN: usize = 0x3D;

/// Subsystem IDs by which firmware knows the virtual machine that it has drivers for (SeaBIOS reads them from the host bridge).
const SUBSYSTEM_IDS: [u8; 4] = [0xF4, 0x1A, 0x00, 0x11];

/// What a function is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Base class, subclass, programming interface.
    pub class: [u8; 3],
    /// The device has more functions than this one.
    pub multifunction: bool,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// So many ports.
    Io(u32),
    /// So many bytes of memory, which reads do not change.
    Prefetchable(u32),
    /// So many bytes of memory with side effects.
    Memory(u32),
}

/// The bytes and what may be written of them.
#[derive(Clone, Debug)]
pub struct Config {
    bytes: [u8; 256],
    /// Bits that a write sets and clears.
    writable: [u8; 256],
    /// Bits that writing a one clears.
    clearable: [u8; 256],
}

impl Config {
    /// A function without base addresses.
    pub fn new(identity: Identity) -> Config {
        let mut config = Config { bytes: [0; 256], writable: [0; 256], clearable: [0; 256] };
        config.preset(VENDOR, &identity.vendor.to_le_bytes());
        config.preset(DEVICE, &identity.device.to_le_bytes());
        let [base, sub, interface] = identity.class;
        config.preset(REVISION, &[identity.revision, interface, sub, base]);
        config.preset(HEADER_TYPE, &[if identity.multifunction { 0x80 } else { 0 }]);
        config.preset(SUBSYSTEM, &SUBSYSTEM_IDS);
        // I/O, memory, master; parity and SERR# enables are kept, and mean nothing without errors.
        config.allow(COMMAND, &[COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | 0x40, 0x01]);
        // Errors and aborts are cleared by ones.
        set(&mut config.clearable, STATUS, &[0x00, 0xF9]);
        config.allow(INTERRUPT_LINE, &[0xFF]);
        config.allow(0x0C, &[0xFF, 0xFF]);
        config
    }

    /// Adds base address register `index` (0–5).
    pub fn with_bar(mut self, index: usize, bar: Bar) -> Config {
        let at = BARS + 4 * (index % 6);
        let (len, flags) = match bar {
            Bar::Io(len) => (len.max(4), 0x1),
            Bar::Prefetchable(len) => (len.max(16), 0x8),
            Bar::Memory(len) => (len.max(16), 0x0),
        };
        self.preset(at, &[flags]);
        self.allow(at, &(!(len.next_power_of_two() - 1)).to_le_bytes());
        self
    }

    /// Adds the base address of an expansion ROM of `len` bytes, rounded up to a power of two.
    pub fn with_rom(mut self, len: u32) -> Config {
        let mask = !(len.next_power_of_two().max(2048) - 1) | 1;
        self.allow(ROM_BAR, &mask.to_le_bytes());
        self
    }

    /// Adds an interrupt pin: 1 is INTA#.
    pub fn with_interrupt(mut self, pin: u8, line: u8) -> Config {
        self.preset(INTERRUPT_PIN, &[pin]);
        self.preset(INTERRUPT_LINE, &[line]);
        self
    }

    /// Gives bytes from `offset` on their value at reset.
    pub fn preset(&mut self, offset: usize, values: &[u8]) {
        set(&mut self.bytes, offset, values);
    }

    /// Lets the guest write the bits of `masks`, from `offset` on.
    pub fn allow(&mut self, offset: usize, masks: &[u8]) {
        set(&mut self.writable, offset, masks);
    }

    /// Reads `data.len()` bytes from `offset`.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.byte(at);
        }
    }

    /// Writes `data` from `offset` on.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, value) in (offset..).zip(data) {
            let (Some(byte), Some(mask), Some(ones)) =
                (self.bytes.get_mut(at), self.writable.get(at), self.clearable.get(at))
            else {
                return;
            };
            *byte = (*byte & !mask | value & mask) & !(value & ones);
        }
    }

    /// The byte at `offset`.
    pub fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(super::super::OPEN_BUS)
    }

    /// The little-endian number at `offset`.
    pub fn dword(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Where I/O base address register `index` points, if the function answers there.
    pub fn io_base(&self, index: usize) -> Option<u16> {
        let base = self.dword(BARS + 4 * index) & !3;
        let enabled = self.byte(COMMAND) & COMMAND_IO != 0;
        u16::try_from(base).ok().filter(|base| enabled && *base != 0)
    }

    /// Where memory base address register `index` points, if the function answers there.
    pub fn memory_base(&self, index: usize) -> Option<u64> {
        let base = self.dword(BARS + 4 * index) & !0xF;
        let enabled = self.byte(COMMAND) & COMMAND_MEMORY != 0;
        (enabled && base != 0).then_some(base.into())
    }

    /// Where the expansion ROM is, if it is to be seen.
    pub fn rom_base(&self) -> Option<u64> {
        let register = self.dword(ROM_BAR);
        let enabled = self.byte(COMMAND) & COMMAND_MEMORY != 0 && register & 1 != 0;
        let base = register & !0x7FF;
        (enabled && base != 0).then_some(base.into())
    }

    /// Whether the function may read and write memory.
    pub fn is_master(&self) -> bool {
        self.byte(COMMAND) & COMMAND_MASTER != 0
    }
}

fn set(array: &mut [u8; 256], offset: usize, values: &[u8]) {
    for (slot, value) in array.iter_mut().skip(offset).zip(values) {
        *slot = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> Config {
        let identity =
            Identity { vendor: 0x8086, device: 0x7010, revision: 0, class: [1, 1, 0x80], multifunction: false };
        Config::new(identity).with_bar(4, Bar::Io(16)).with_bar(0, Bar::Prefetchable(16 << 20)).with_rom(39_000)
    }

    fn write32(config: &mut Config, offset: usize, value: u32) {
        config.write(offset, &value.to_le_bytes());
    }

    #[test]
    fn writing_ones_to_a_base_address_tells_its_size() {
        let mut config = config();
        write32(&mut config, 0x20, u32::MAX);
        assert_eq!(config.dword(0x20), 0xFFFF_FFF1);
        write32(&mut config, 0x10, u32::MAX);
        assert_eq!(config.dword(0x10), 0xFF00_0008);
        write32(&mut config, 0x30, u32::MAX);
        assert_eq!(config.dword(0x30), 0xFFFF_0001);
        write32(&mut config, 0x14, u32::MAX);
        assert_eq!(config.dword(0x14), 0);
    }

    #[test]
    fn a_base_address_counts_while_the_command_register_lets_it() {
        let mut config = config();
        write32(&mut config, 0x20, 0xC001);
        write32(&mut config, 0x10, 0xFD00_0000);
        write32(&mut config, 0x30, 0xFEBF_0001);
        assert_eq!((config.io_base(4), config.memory_base(0), config.rom_base()), (None, None, None));
        config.write(COMMAND, &[0x03]);
        assert_eq!(config.io_base(4), Some(0xC000));
        assert_eq!(config.memory_base(0), Some(0xFD00_0000));
        assert_eq!(config.rom_base(), Some(0xFEBF_0000));
        assert!(!config.is_master());
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut config = config();
        write32(&mut config, 0, 0);
        write32(&mut config, 8, 0);
        assert_eq!((config.dword(0), config.dword(8)), (0x7010_8086, 0x0101_8000));
        assert_eq!(config.dword(0x2C), 0x1100_1AF4);
    }

    proptest! {
        #[test]
        fn any_access_is_answered(offset in 0usize..300, data in proptest::collection::vec(any::<u8>(), 0..5)) {
            let mut config = config();
            config.write(offset, &data);
            let mut back = data.clone();
            config.read(offset, &mut back);
        }
    }
}
