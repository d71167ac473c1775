//! BAR 2: the registers in memory, 4 KiB (QEMU's docs/specs/standard-vga.rst).
//!
//! | offset | what |
//! |---|---|
//! | 000–3FF | EDID of a monitor; there is none, and it reads as zeros |
//! | 400–41F | ports 3C0–3DF |
//! | 500–515 | Bochs' registers, two bytes each |
//! | 600–607 | QEMU's: size of this block, byte order of the frame buffer |

use super::Vga;

/// Bytes of the BAR.
pub const SIZE: u32 = 0x1000;

/// The frame buffer is little-endian, and stays so.
const LITTLE_ENDIAN: u32 = 0x1E1E_1E1E;

impl Vga {
    /// Reads `data.len()` bytes at `offset`.
    pub fn bar_read(&mut self, offset: u32, data: &mut [u8], now_ns: u64) {
        for (at, byte) in (offset..).zip(data) {
            *byte = match at {
                0x400..=0x41F => self.port_read((at - 0x400) as u16 + 0x10, now_ns),
                0x500..=0x515 => {
                    let value = self.registers.dispi.read((at as u16 - 0x500) / 2);
                    value.to_le_bytes()[usize::from(at & 1 != 0)]
                }
                0x600..=0x603 => 8u32.to_le_bytes()[(at & 3) as usize],
                0x604..=0x607 => LITTLE_ENDIAN.to_le_bytes()[(at & 3) as usize],
                _ => 0,
            };
        }
    }

    /// Writes `data` at `offset`.
    pub fn bar_write(&mut self, offset: u32, data: &[u8]) {
        match (offset, data) {
            (0x500..=0x515, [low, high]) if offset & 1 == 0 => {
                self.dispi_set((offset as u16 - 0x500) / 2, u16::from_le_bytes([*low, *high]));
            }
            (0x500..=0x515, [low0, high0, low1, high1]) if offset & 1 == 0 => {
                self.bar_write(offset, &[*low0, *high0]);
                self.bar_write(offset + 2, &[*low1, *high1]);
            }
            (0x400..=0x41F, _) => {
                for (at, byte) in (offset..).zip(data) {
                    if at <= 0x41F {
                        self.port_write((at - 0x400) as u16 + 0x10, *byte);
                    }
                }
            }
            _ => {}
        }
    }
}
