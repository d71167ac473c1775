//! A VGA with Bochs' extension for larger modes: QEMU's `stdvga`, PCI 1234:1111 (IBM VGA/XGA Technical Reference Manual, 1992; "FreeVGA"; QEMU's
//! docs/specs/standard-vga.rst; Bochs' "VBE DISPI" interface, version B0C5).
//!
//! - [`ports`]: the registers at 3B0–3DF, [`timing`] the retrace bits, [`dac`] the palette, [`dispi`] ports 1CE and 1CF, [`bar`] the registers in memory;
//! - [`memory`]: what the window A0000–BFFFF does to the four planes, [`text_window`] when text in it is memory;
//! - [`screen`]: a moment's registers and memory, to be made an [`Image`] ([`text_render`], [`graphics_render`], [`linear_render`]) or a
//!   [`TextScreen`] of by whoever shows it, without holding up the machine.
//!
//! The memory is one: the byte of plane p at address a is byte 4a + p of the linear frame buffer, so that what is drawn in one way can be seen in
//! the other, as with QEMU. The device does not own it; the linear frame buffer is memory that the guest writes without an exit.

pub mod bar;
pub mod cp437;
pub mod dac;
pub mod dispi;
pub mod graphics_render;
pub mod image;
pub mod linear_render;
pub mod memory;
pub mod ports;
pub mod registers;
pub mod screen;
#[cfg(test)]
pub mod text_mode;
pub mod text_render;
pub mod text_window;
pub mod timing;

pub use image::Image;
pub use registers::Registers;
pub use screen::Screen;
pub use text_render::TextScreen;

/// Bytes of video memory, and of BAR 0.
pub const VRAM_SIZE: usize = 16 << 20;

/// Video memory. Accesses beyond its end read ones and write nothing.
pub trait Vram: Send {
    /// Its size in bytes.
    fn size(&self) -> usize;
    /// Reads at `offset`.
    fn read(&self, offset: usize, data: &mut [u8]);
    /// Writes at `offset`.
    fn write(&mut self, offset: usize, data: &[u8]);
    /// Zeroes `length` bytes from the start.
    fn clear(&mut self, length: usize);
    /// There is memory of its own for text that is shown to the guest directly, [`text_window::SIZE`] bytes.
    fn has_text(&self) -> bool;
    /// Reads it at `offset`.
    fn read_text(&self, offset: usize, data: &mut [u8]);
    /// Writes it.
    fn write_text(&mut self, offset: usize, data: &[u8]);
}

impl Vram for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        match offset.checked_add(data.len()).and_then(|end| self.get(offset..end)) {
            Some(bytes) => data.copy_from_slice(bytes),
            None => data.fill(0xFF),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        if let Some(bytes) = offset.checked_add(data.len()).and_then(|end| self.get_mut(offset..end)) {
            bytes.copy_from_slice(data);
        }
    }

    fn clear(&mut self, length: usize) {
        let length = length.min(self.len());
        self.get_mut(..length).unwrap_or_default().fill(0);
    }

    fn has_text(&self) -> bool {
        false
    }

    fn read_text(&self, _offset: usize, data: &mut [u8]) {
        data.fill(0xFF);
    }

    fn write_text(&mut self, _offset: usize, _data: &[u8]) {}
}

/// The device.
pub struct Vga {
    registers: Registers,
    /// What the last read of the window left of the four planes.
    latches: [u8; 4],
    retrace: timing::Retrace,
    text: text_window::TextWindow,
    vram: Box<dyn Vram>,
}

impl Vga {
    /// A VGA at power-on: blank until its BIOS sets a mode.
    pub fn new(vram: Box<dyn Vram>) -> Self {
        let registers = Registers::new(vram.size());
        let (retrace, text) = (timing::Retrace::default(), text_window::TextWindow::default());
        Vga { registers, latches: [0; 4], retrace, text, vram }
    }

    /// The machine was reset: the registers go back to power-on, the memory stays.
    pub fn reset(&mut self) {
        self.end_direct_text(true);
        self.registers = Registers::new(self.vram.size());
        self.latches = [0; 4];
        self.retrace = timing::Retrace::default();
    }

    /// The registers.
    #[cfg(test)]
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// What a monitor would show at `now_ns`: a copy of what is needed to draw it.
    pub fn screen(&self, now_ns: u64) -> Screen {
        let mut memory = vec![0; screen::visible_bytes(&self.registers).min(self.vram.size())];
        self.vram.read(0, &mut memory);
        self.show_text(&mut memory);
        Screen::new(self.registers.clone(), memory, now_ns)
    }
}

#[cfg(test)]
mod tests;
