//! Accesses to guest-physical memory that nothing backs, and what the guest is to see of memory.

use super::Machine;
use crate::devices::dma::Dma;
use crate::devices::OPEN_BUS;
use crate::memory::layout::{shadow_at, Layout, Region};

/// Address line 20.
const A20: u64 = 1 << 20;

impl Machine {
    /// A read of memory that no region backs.
    pub fn read_memory(&mut self, gpa: u64, data: &mut [u8], now_ns: u64) {
        let gpa = self.on_bus(gpa);
        if !self.interrupts.read_memory(gpa, data, now_ns) && !self.read_display_memory(gpa, data, now_ns) {
            data.fill(OPEN_BUS);
        }
    }

    /// A write to memory that no region backs, or that may only be read.
    pub fn write_memory(&mut self, gpa: u64, data: &[u8], now_ns: u64) {
        let gpa = self.on_bus(gpa);
        if self.interrupts.write_memory(gpa, data, now_ns) || self.write_display_memory(gpa, data) {
            return;
        }
        // Reads come from the ROM, writes go to the RAM behind it: firmware copies itself that way.
        let shadow = shadow_at(&self.ram.shadow, gpa);
        if shadow.is_some_and(|shadow| shadow.write_ram && !shadow.read_ram) {
            // There is RAM behind all of C0000–FFFFF; what goes beyond its end is lost.
            let _ = self.ram.write(gpa, data);
        }
    }

    /// What the guest is to see of memory, if that has changed since the last call.
    pub fn take_layout(&mut self) -> Option<Vec<Region>> {
        let text_changed = self.display.as_mut().is_some_and(|display| display.vga.take_text_change());
        if !std::mem::take(&mut self.layout_changed) && !text_changed {
            return None;
        }
        if let Some(board) = &self.board {
            self.ram.shadow = board.windows.shadow;
        }
        let layout = Layout {
            memory_bytes: self.memory_bytes,
            firmware_bytes: self.ram.roms().map_or(0, |roms| roms.firmware_bytes()),
            shadow: self.ram.shadow,
            a20: self.system_control.is_open(),
            vga_rom: self.board.as_ref().and_then(|board| board.vga_rom()),
            direct_text: self.display.as_ref().is_some_and(|display| display.vga.is_text_direct()),
            frame_buffer: self.board.as_ref().and_then(|board| board.windows.frame_buffer),
        };
        Some(layout.regions())
    }

    /// Address and length of what devices have written to memory since the last call.
    pub fn take_written(&mut self) -> Vec<(u64, u64)> {
        let mut written = self.ram.take_written();
        written.extend(self.take_video_written());
        written
    }

    /// What a closed A20 gate leaves of an address.
    fn on_bus(&self, gpa: u64) -> u64 {
        if !self.system_control.is_open() && gpa < 2 * A20 {
            gpa & !A20
        } else {
            gpa
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::machine;
    use super::*;
    use crate::memory::layout::Source;

    fn source(regions: &[Region], gpa: u64) -> Option<Source> {
        regions.iter().find(|region| region.start == gpa).map(|region| region.source)
    }

    #[test]
    fn writes_behind_a_rom_reach_ram() {
        let mut machine = machine(Some(&[0; 128 << 10]));
        machine.take_layout();
        machine.write_memory(0xF_0000, &[1], 0);
        assert!(machine.take_written().is_empty());
        machine.write_port(0xCF8, &0x8000_0058u32.to_le_bytes(), 0);
        machine.write_port(0xCFD, &[0x20], 0);
        machine.take_layout().unwrap();
        machine.write_memory(0xF_0000, &[1], 0);
        assert_eq!(machine.take_written(), [(0xF_0000, 1)]);
        machine.write_port(0xCFD, &[0x30], 0);
        let regions = machine.take_layout().unwrap();
        assert_eq!(source(&regions, 0xF_0000), Some(Source::Ram(0xF_0000)));
        assert_eq!(machine.take_layout(), None);
    }

    #[test]
    fn port_92_closes_the_gate() {
        let mut machine = machine(None);
        assert_eq!(source(&machine.take_layout().unwrap(), 0x10_0000), Some(Source::Ram(0x10_0000)));
        machine.write_port(0x92, &[0], 0);
        assert_eq!(source(&machine.take_layout().unwrap(), 0x10_0000), Some(Source::Ram(0)));
    }
}
