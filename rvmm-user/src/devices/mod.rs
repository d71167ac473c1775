//! The devices of the machine: pure state machines, one per file.
//!
//! A device knows nothing of threads, of the engine or of real time. What it needs of the outside comes in as an argument
//! (`now_ns`: nanoseconds of a monotonic clock since the machine was switched on), and what it wants of the outside goes out as a
//! return value. So each is tested beside its source against its data sheet.

pub mod a20;
pub mod acpi;
pub mod apic_message;
#[allow(dead_code, reason = "the monitor that changes media is being made")]
pub mod atapi;
pub mod block;
pub mod debug_console;
pub mod debug_exit;
pub mod dma;
pub mod dma8237;
#[allow(dead_code, reason = "the monitor that changes media is being made")]
pub mod floppy;
pub mod fw_cfg;
pub mod i8042;
pub mod ide;
pub mod ioapic;
pub mod kernel_start;
pub mod lapic;
pub mod mp_table;
pub mod pci;
pub mod pic;
pub mod pic_pair;
pub mod pit;
pub mod pit_channel;
pub mod port61;
pub mod power;
pub mod ps2;
pub mod reset;
pub mod rtc;
pub mod rtc_time;
pub mod serial;
#[cfg(test)]
pub mod testing;
pub mod vga;

/// What an access gives when nothing answers on the bus: the lines float high.
pub const OPEN_BUS: u8 = 0xFF;
