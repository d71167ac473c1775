//! One 8237A: four channels.

/// Command register: the controller is switched off.
const DISABLE: u8 = 0x04;

/// Mode register: the address counts down.
const DOWN: u8 = 0x20;
/// Mode register: at the end the channel begins anew.
const AUTO_INITIALIZE: u8 = 0x10;

/// A channel's address and count, with what they begin with.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    base_address: u16,
    base_count: u16,
    address: u16,
    count: u16,
    mode: u8,
}

/// The controller.
#[derive(Debug)]
pub struct Controller {
    channels: [Channel; 4],
    command: u8,
    /// Channels that have reached their end since this was read.
    ended: u8,
    /// Requests by software.
    requests: u8,
    mask: u8,
    /// The next access of an address or count is of its high byte.
    high_byte: bool,
}

/// One unit's transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The address in units, below 65,536.
    pub address: u64,
    /// Only the count moves.
    pub verify: bool,
    /// It was the last one.
    pub terminal_count: bool,
}

impl Controller {
    /// A controller after power-on.
    pub fn new() -> Self {
        Controller {
            channels: [Channel::default(); 4],
            command: 0,
            ended: 0,
            requests: 0,
            mask: 0x0F,
            high_byte: false,
        }
    }

    /// Reads register `offset` (0–15).
    pub fn read(&mut self, offset: u16) -> u8 {
        match offset {
            0..=7 => {
                let high = self.toggle();
                let Some(channel) = self.channels.get(usize::from(offset / 2)) else { return 0 };
                let [low_byte, high_byte] = if offset & 1 == 0 { channel.address } else { channel.count }.to_le_bytes();
                if high {
                    high_byte
                } else {
                    low_byte
                }
            }
            8 => std::mem::take(&mut self.ended) | self.requests << 4,
            // The later 8237s, and the PIIX, read the mask here.
            0xF => self.mask | 0xF0,
            // The temporary register serves memory-to-memory transfers alone.
            0xD => 0,
            _ => crate::devices::OPEN_BUS,
        }
    }

    /// Writes register `offset` (0–15).
    pub fn write(&mut self, offset: u16, value: u8) {
        let bit = 1 << (value & 3);
        match offset {
            0..=7 => self.write_channel(offset, value),
            8 => self.command = value,
            9 if value & 4 != 0 => self.requests |= bit,
            9 => self.requests &= !bit,
            0xA if value & 4 != 0 => self.mask |= bit,
            0xA => self.mask &= !bit,
            0xB => {
                if let Some(channel) = self.channels.get_mut(usize::from(value & 3)) {
                    channel.mode = value;
                }
            }
            0xC => self.high_byte = false,
            // Master clear: as the reset line; addresses, counts and modes stay.
            0xD => *self = Controller { channels: self.channels, ..Controller::new() },
            0xE => self.mask = 0,
            0xF => self.mask = value & 0x0F,
            _ => {}
        }
    }

    /// The flip-flop: whether this access is of the high byte.
    fn toggle(&mut self) -> bool {
        self.high_byte = !self.high_byte;
        !self.high_byte
    }

    fn write_channel(&mut self, offset: u16, value: u8) {
        let high = self.toggle();
        let Some(channel) = self.channels.get_mut(usize::from(offset / 2)) else { return };
        let (base, current) = match offset & 1 {
            0 => (&mut channel.base_address, &mut channel.address),
            _ => (&mut channel.base_count, &mut channel.count),
        };
        let [low_byte, high_byte] = base.to_le_bytes();
        *base = u16::from_le_bytes(if high { [low_byte, value] } else { [value, high_byte] });
        *current = *base;
    }

    /// The channel, if it would serve a device that transfers this way now.
    pub fn ready(&self, channel: usize, to_memory: bool) -> Option<usize> {
        let mode = self.channels.get(channel)?.mode;
        let served = match (mode >> 6, mode >> 2 & 3) {
            // Cascade, and a kind of transfer that there is not.
            (3, _) | (_, 3) => false,
            // Verify: either way.
            (_, 0) => true,
            (_, kind) => (kind == 1) == to_memory,
        };
        (served && self.command & DISABLE == 0 && self.mask & 1 << channel == 0).then_some(channel)
    }

    /// Moves on by one unit.
    pub fn step(&mut self, index: usize) -> Step {
        let Some(channel) = self.channels.get_mut(index) else {
            return Step { address: 0, verify: true, terminal_count: true };
        };
        let (address, verify) = (u64::from(channel.address), channel.mode >> 2 & 3 == 0);
        channel.address =
            if channel.mode & DOWN != 0 { channel.address.wrapping_sub(1) } else { channel.address.wrapping_add(1) };
        let terminal_count = channel.count == 0;
        channel.count = channel.count.wrapping_sub(1);
        if terminal_count {
            self.ended |= 1 << index;
            self.requests &= !(1 << index);
            if channel.mode & AUTO_INITIALIZE != 0 {
                (channel.address, channel.count) = (channel.base_address, channel.base_count);
            } else {
                self.mask |= 1 << index;
            }
        }
        Step { address, verify, terminal_count }
    }
}
