//! The registers, 32 bits wide at every 16 bytes (Intel SDM volume 3, table 11-1).

use super::pace::Pace;
use super::{
    Lapic, ILLEGAL_REGISTER, LVT_LINT0, LVT_MASKED, LVT_PERIODIC, LVT_REMOTE_IRR, LVT_TIMER, SOFTWARE_ENABLED,
};

/// Version 14 and the number of the last entry of the local vector table.
const VERSION: u32 = 0x0005_0014;

/// What can be written of the entries of the local vector table: timer, thermal sensor, performance counters, LINT0, LINT1, error.
const LVT_WRITABLE: [u32; 6] = [0x300FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF];
const SPURIOUS_WRITABLE: u32 = 0x3FF;
const FORMAT_FIXED: u32 = 0x0FFF_FFFF;

/// A register. Those below are at 16 times the number.
const ID: u64 = 0x02;
const VERSION_REGISTER: u64 = 0x03;
const TASK_PRIORITY: u64 = 0x08;
const ARBITRATION_PRIORITY: u64 = 0x09;
const PROCESSOR_PRIORITY: u64 = 0x0A;
const END_OF_INTERRUPT: u64 = 0x0B;
const REMOTE_READ: u64 = 0x0C;
const LOGICAL_DESTINATION: u64 = 0x0D;
const DESTINATION_FORMAT: u64 = 0x0E;
const SPURIOUS: u64 = 0x0F;
const IN_SERVICE: u64 = 0x10;
const TRIGGER_MODE: u64 = 0x18;
const REQUESTS: u64 = 0x20;
const ERROR_STATUS: u64 = 0x28;
const COMMAND_LOW: u64 = 0x30;
const COMMAND_HIGH: u64 = 0x31;
const LOCAL_VECTORS: u64 = 0x32;
const INITIAL_COUNT: u64 = 0x38;
const CURRENT_COUNT: u64 = 0x39;
const DIVIDE: u64 = 0x3E;

impl Lapic {
    /// Reads `data.len()` bytes at `offset`. What lies between registers reads as zero.
    pub fn read(&mut self, offset: u64, data: &mut [u8], now_ns: u64) {
        data.fill(0);
        let within = (offset & 0xF) as usize;
        if within + data.len() <= 4 {
            let bytes = self.read_register(offset >> 4, now_ns).to_le_bytes();
            for (byte, value) in data.iter_mut().zip(bytes.into_iter().skip(within)) {
                *byte = value;
            }
        }
    }

    /// Writes at `offset`, whole registers only. The vector of a level whose end the I/O APIC is to be told.
    pub fn write(&mut self, offset: u64, data: &[u8], now_ns: u64) -> Option<u8> {
        let (0, &[a, b, c, d]) = (offset & 0xF, data) else { return None };
        self.write_register(offset >> 4, u32::from_le_bytes([a, b, c, d]), now_ns)
    }

    /// The offsets of the registers that only writes change, and what they read as.
    pub(super) fn constant_registers(&self) -> [(u64, u32); 5] {
        [ID, VERSION_REGISTER, LOGICAL_DESTINATION, DESTINATION_FORMAT, SPURIOUS]
            .map(|register| (register << 4, self.constant_register(register)))
    }

    fn constant_register(&self, register: u64) -> u32 {
        match register {
            ID => u32::from(self.id) << 24,
            VERSION_REGISTER => VERSION,
            LOGICAL_DESTINATION => u32::from(self.logical_id) << 24,
            DESTINATION_FORMAT => self.format,
            SPURIOUS => self.spurious,
            _ => 0,
        }
    }

    fn read_register(&mut self, register: u64, now_ns: u64) -> u32 {
        self.update(now_ns);
        match register {
            ID | VERSION_REGISTER | LOGICAL_DESTINATION | DESTINATION_FORMAT | SPURIOUS => {
                self.constant_register(register)
            }
            TASK_PRIORITY => self.task_priority.into(),
            PROCESSOR_PRIORITY => self.processor_priority().into(),
            IN_SERVICE..TRIGGER_MODE => self.in_service.word((register - IN_SERVICE) as usize),
            TRIGGER_MODE..REQUESTS => self.level.word((register - TRIGGER_MODE) as usize),
            REQUESTS..ERROR_STATUS => self.requests.word((register - REQUESTS) as usize),
            ERROR_STATUS => self.error_status,
            COMMAND_LOW => self.command[0],
            COMMAND_HIGH => self.command[1],
            LOCAL_VECTORS..INITIAL_COUNT => self.lvt.get((register - LOCAL_VECTORS) as usize).copied().unwrap_or(0),
            INITIAL_COUNT => self.timer.initial(),
            CURRENT_COUNT => self.timer.current(now_ns),
            DIVIDE => self.timer.divide(),
            // Written only, or of CPUs before the Pentium 4.
            END_OF_INTERRUPT | ARBITRATION_PRIORITY | REMOTE_READ => 0,
            _ => {
                self.error(ILLEGAL_REGISTER);
                0
            }
        }
    }

    fn write_register(&mut self, register: u64, value: u32, now_ns: u64) -> Option<u8> {
        self.update(now_ns);
        match register {
            ID => self.id = (value >> 24) as u8,
            TASK_PRIORITY => self.task_priority = value as u8,
            END_OF_INTERRUPT => return self.end_of_interrupt(),
            LOGICAL_DESTINATION => self.logical_id = (value >> 24) as u8,
            DESTINATION_FORMAT => self.format = value | FORMAT_FIXED,
            SPURIOUS => self.write_spurious(value),
            // A write shows what has come since the last one.
            ERROR_STATUS => self.error_status = std::mem::take(&mut self.errors),
            COMMAND_LOW => self.write_command(value),
            COMMAND_HIGH => self.command[1] = value & 0xFF00_0000,
            LOCAL_VECTORS..INITIAL_COUNT => self.write_local_vector((register - LOCAL_VECTORS) as usize, value),
            INITIAL_COUNT => {
                self.pace = Pace::default();
                self.timer.write_initial(value, now_ns);
            }
            DIVIDE => self.timer.write_divide(value, now_ns),
            // Read only.
            VERSION_REGISTER
            | ARBITRATION_PRIORITY
            | PROCESSOR_PRIORITY
            | REMOTE_READ
            | IN_SERVICE..ERROR_STATUS
            | CURRENT_COUNT => {}
            _ => self.error(ILLEGAL_REGISTER),
        }
        None
    }

    fn write_spurious(&mut self, value: u32) {
        self.spurious = value & SPURIOUS_WRITABLE;
        if self.spurious & SOFTWARE_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    fn write_local_vector(&mut self, index: usize, value: u32) {
        let software_enabled = self.spurious & SOFTWARE_ENABLED != 0;
        let (Some(entry), Some(writable)) = (self.lvt.get_mut(index), LVT_WRITABLE.get(index)) else { return };
        *entry = value & writable | *entry & LVT_REMOTE_IRR;
        if !software_enabled {
            *entry |= LVT_MASKED;
        }
        match index {
            LVT_TIMER => {
                self.pace = Pace::default();
                self.timer.set_periodic(value & LVT_PERIODIC != 0);
            }
            LVT_LINT0 => {
                if value & super::LVT_LEVEL == 0 {
                    self.lvt[LVT_LINT0] &= !LVT_REMOTE_IRR;
                }
                // A level that is there already is one.
                self.set_lint0(self.lint0);
            }
            _ => {}
        }
    }
}
