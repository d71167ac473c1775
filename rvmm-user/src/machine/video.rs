//! The display adapter on the bus: its ports, its window below 1 MiB, its registers in memory.

use std::sync::{Arc, PoisonError};

use vm_memory::MmapRegion;

use super::Machine;
use crate::devices::vga::{bar, memory, ports, Vga, VRAM_SIZE};
use crate::devices::OPEN_BUS;
use crate::memory::video::{Video, Written};

/// Bochs' interface: index and data, 16 bits each; the data also one port further, where it is aligned.
const DISPI: std::ops::RangeInclusive<u16> = 0x1CE..=0x1D0;

/// The adapter and what it has written to its memory.
pub struct Display {
    pub vga: Vga,
    written: Written,
}

/// Where an access to memory goes.
enum Target {
    Window(u32),
    Registers(u32),
    /// The linear frame buffer: while it is not memory, or at the end of an instruction that has begun then.
    Frame(u32),
}

impl Display {
    /// An adapter with this memory.
    pub fn new(video: Arc<MmapRegion>) -> Display {
        let (video, written) = Video::new(video);
        Display { vga: Vga::new(Box::new(video)), written }
    }
}

impl Display {
    /// Switches to lines of pixels, as an operating system's driver would.
    fn show(&mut self, width: u16, height: u16, depth: u16) {
        // Off, width, height, bits of a pixel, on with all of memory at its base address.
        for (index, value) in [(4, 0), (1, width), (2, height), (3, depth), (4, 0x41)] {
            self.vga.dispi_write(0, index);
            self.vga.dispi_write(1, value);
        }
    }
}

impl Machine {
    /// Where video memory is, and its size, if there is a display adapter.
    pub fn screen_memory(&self) -> Option<(Option<u64>, u64)> {
        self.display.as_ref()?;
        Some((self.board.as_ref()?.windows.frame_buffer, VRAM_SIZE as u64))
    }

    /// What a boot loader promises: the A20 gate is open; and the picture that the kernel has asked for, if it has.
    pub fn hand_over(&mut self, pixels: Option<(u16, u16, u8)>) {
        if !self.system_control.is_open() {
            self.system_control.set(true);
            self.layout_changed = true;
        }
        if let (Some(display), Some((width, height, depth))) = (&mut self.display, pixels) {
            display.show(width, height, depth.into());
        }
    }

    /// Whether `port` is one of the adapter's, and was read.
    pub(super) fn read_display(&mut self, port: u16, data: &mut [u8], now_ns: u64) -> bool {
        let Some(display) = &mut self.display else { return false };
        if DISPI.contains(&port) {
            match data {
                [low, high] => [*low, *high] = display.vga.dispi_read(port - DISPI.start()).to_le_bytes(),
                other => other.fill(OPEN_BUS),
            }
            return true;
        }
        let Some(offset) = vga_port(port) else { return false };
        for (at, byte) in (offset..).zip(data) {
            *byte = if at < ports::COUNT { display.vga.port_read(at, now_ns) } else { OPEN_BUS };
        }
        true
    }

    /// Whether `port` is one of the adapter's, and was written.
    pub(super) fn write_display(&mut self, port: u16, data: &[u8]) -> bool {
        let Some(display) = &mut self.display else { return false };
        if DISPI.contains(&port) {
            if let &[low, high] = data {
                display.vga.dispi_write(port - DISPI.start(), u16::from_le_bytes([low, high]));
            }
            return true;
        }
        let Some(offset) = vga_port(port) else { return false };
        for (at, byte) in (offset..ports::COUNT).zip(data) {
            display.vga.port_write(at, *byte);
        }
        true
    }

    /// Whether `gpa` is the adapter's, and was read.
    pub(super) fn read_display_memory(&mut self, gpa: u64, data: &mut [u8], now_ns: u64) -> bool {
        let Some(target) = self.display_target(gpa) else { return false };
        match (target, &mut self.display) {
            (Target::Window(offset), Some(display)) => display.vga.memory_read(offset, data),
            (Target::Registers(offset), Some(display)) => display.vga.bar_read(offset, data, now_ns),
            (Target::Frame(offset), Some(display)) => display.vga.frame_read(offset, data),
            (_, None) => return false,
        }
        true
    }

    /// Whether `gpa` is the adapter's, and was written.
    pub(super) fn write_display_memory(&mut self, gpa: u64, data: &[u8]) -> bool {
        let Some(target) = self.display_target(gpa) else { return false };
        match (target, &mut self.display) {
            (Target::Window(offset), Some(display)) => display.vga.memory_write(offset, data),
            (Target::Registers(offset), Some(display)) => display.vga.bar_write(offset, data),
            (Target::Frame(offset), Some(display)) => display.vga.frame_write(offset, data),
            (_, None) => return false,
        }
        true
    }

    /// Address and length of what the adapter has written to where the guest has its memory.
    pub(super) fn take_video_written(&mut self) -> Option<(u64, u64)> {
        let written = self.display.as_ref()?.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (start, end) = written?;
        let base = self.board.as_ref()?.windows.frame_buffer?;
        Some((base + start as u64, (end - start) as u64))
    }

    fn display_target(&self, gpa: u64) -> Option<Target> {
        if let Some(offset) = gpa.checked_sub(memory::BASE).filter(|offset| *offset < memory::SIZE) {
            return Some(Target::Window(offset as u32));
        }
        let windows = &self.board.as_ref()?.windows;
        let within = |base: Option<u64>, size: u64| gpa.checked_sub(base?).filter(|offset| *offset < size);
        if let Some(offset) = within(windows.vga_registers, bar::SIZE.into()) {
            return Some(Target::Registers(offset as u32));
        }
        let offset = within(windows.frame_buffer, VRAM_SIZE as u64)?;
        Some(Target::Frame(offset as u32))
    }
}

fn vga_port(port: u16) -> Option<u16> {
    port.checked_sub(ports::BASE).filter(|offset| *offset < ports::COUNT)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn machine() -> Machine {
        let mut machine = testing::machine(Some(&[0; 128 << 10]));
        machine.display = Some(Display::new(crate::memory::video::create().unwrap()));
        machine
    }

    #[test]
    fn the_adapter_is_behind_its_ports_and_its_window() {
        let mut machine = machine();
        let mut word = [0; 2];
        machine.write_port(0x1CE, &[0, 0], 0);
        machine.read_port(0x1CF, &mut word, 0);
        assert_eq!(word, [0xC5, 0xB0], "the interface's version");
        // Index and data in one access: the sequencer's map mask.
        machine.write_port(0x3C4, &[2, 0x0F], 0);
        machine.read_port(0x3C4, &mut word, 0);
        assert_eq!(word, [2, 0x0F]);
        // 640 × 480 in 256 colours: the window is a bank of the linear memory.
        for (index, value) in [(1u16, 640u16), (2, 480), (3, 8), (4, 0x41)] {
            machine.write_port(0x1CE, &index.to_le_bytes(), 0);
            machine.write_port(0x1CF, &value.to_le_bytes(), 0);
        }
        machine.write_memory(0xA_0000, &[1, 2], 0);
        let mut data = [0; 2];
        machine.read_memory(0xA_0000, &mut data, 0);
        assert_eq!(data, [1, 2]);
    }

    fn text_mode(machine: &mut Machine) {
        for (index, value) in [(2u8, 3u8), (4, 2)] {
            machine.write_port(0x3C4, &[index, value], 0);
        }
        machine.write_port(0x3C2, &[0x67], 0);
        for (index, value) in [(4u8, 0u8), (5, 0x10), (6, 0x0E), (8, 0xFF)] {
            machine.write_port(0x3CE, &[index, value], 0);
        }
    }

    fn is_direct(machine: &mut Machine) -> Option<bool> {
        Some(machine.take_layout()?.iter().any(|region| region.start == 0xB_8000))
    }

    #[test]
    fn text_that_is_written_a_lot_is_memory_until_the_mode_changes() {
        let mut machine = machine();
        text_mode(&mut machine);
        assert_eq!(is_direct(&mut machine), Some(false));
        for at in (0..0x400).step_by(2) {
            machine.write_memory(0xB_8000 + at, &[at as u8, 7], 0);
        }
        assert_eq!(is_direct(&mut machine), Some(true));
        // What the instruction that was begun as an exit still does.
        machine.write_memory(0xB_8000, &[b'A', 7], 0);
        let mut data = [0; 4];
        machine.read_memory(0xB_8000, &mut data, 0);
        assert_eq!((data, is_direct(&mut machine)), ([b'A', 7, 2, 7], None));
        // Another plane.
        machine.write_port(0x3C4, &[2, 4], 0);
        assert_eq!(is_direct(&mut machine), Some(false));
        machine.write_port(0x3C4, &[2, 3], 0);
        machine.read_memory(0xB_8000, &mut data, 0);
        assert_eq!((data, is_direct(&mut machine)), ([b'A', 7, 2, 7], None));
    }

    #[test]
    fn without_one_the_bus_floats() {
        let mut machine = testing::machine(None);
        let mut data = [0; 2];
        machine.read_memory(0xB_8000, &mut data, 0);
        assert_eq!(data, [OPEN_BUS; 2]);
        machine.read_port(0x3CC, &mut data, 0);
        assert_eq!(data, [OPEN_BUS; 2]);
    }
}
