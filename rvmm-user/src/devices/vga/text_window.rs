//! Text without exits: while the registers make of B8000–BFFFF plain memory, characters and attributes in turn, it is memory.
//!
//! Consoles scroll by reading and writing a screenful of words, and each would be an exit. After [`PATIENCE`] accesses the text is copied out of the
//! planes to a piece of memory of its own, which is shown to the guest in the window's place; before the registers, or anybody but the guest
//! by this window, could tell, it is copied back. Each time that happens more accesses are waited for.
//!
//! The linear frame buffer shows the same planes in another order: while the text is shown directly its accesses are exits, and the first one
//! ends that. One thing is lost: what reads of the window leave in the latches, for a program that goes from text to another mode and uses them
//! before it reads again.

use super::{Registers, Vga};

/// Where the text begins in the window A0000–BFFFF.
pub const OFFSET: u32 = 0x18000;
/// Bytes of text.
pub const SIZE: usize = 0x8000;

/// Accesses to text, one by one, before it is shown directly for the first time.
pub(super) const PATIENCE: u32 = 256;

/// Whether the text is shown directly, and what speaks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextWindow {
    direct: bool,
    /// As [`Vga::take_text_change`] said last.
    told: bool,
    accesses: u32,
    patience: u32,
}

impl Default for TextWindow {
    fn default() -> Self {
        TextWindow { direct: false, told: false, accesses: 0, patience: PATIENCE }
    }
}

#[cfg(test)]
impl TextWindow {
    /// As if it had been ended before.
    pub(super) fn set_patience(&mut self, accesses: u32) {
        self.patience = accesses;
    }
}

impl Registers {
    /// Text at B8000, reads and writes of which reach nothing but planes 0 and 1, unchanged.
    fn has_plain_text(&self) -> bool {
        let shown = self.misc & 2 != 0 && self.subsystem & 1 != 0 && !self.dispi.is_enabled();
        // Planes 0 and 1, even addresses and odd ones.
        let odd_even = self.sequencer(2) == 3 && self.sequencer(4) & 0xC == 0 && self.graphics(5) == 0x10;
        let at_b8000 = self.graphics(6) & 0xC == 0xC;
        let unchanged = self.graphics(1) & 3 == 0 && self.graphics(3) == 0 && self.graphics(8) == 0xFF;
        shown && odd_even && at_b8000 && unchanged && self.graphics(4) & 2 == 0
    }
}

impl Vga {
    /// The text is memory at this moment: the guest is to see [`Vram::read_text`](super::Vram::read_text) at [`OFFSET`] of the window.
    pub fn is_text_direct(&self) -> bool {
        self.text.direct
    }

    /// Whether that has changed since the last call.
    pub fn take_text_change(&mut self) -> bool {
        std::mem::replace(&mut self.text.told, self.text.direct) != self.text.direct
    }

    /// An access to the window at `offset`, one by one. Where the text is what it goes to, its place there.
    pub(super) fn text_place(&mut self, offset: u32) -> Option<usize> {
        let place = offset.checked_sub(OFFSET).filter(|place| (*place as usize) < SIZE)? as usize;
        if !self.text.direct && self.registers.has_plain_text() && self.vram.has_text() {
            self.text.accesses += 1;
            if self.text.accesses >= self.text.patience {
                self.text.direct = true;
                let mut text = vec![0; SIZE];
                for (address, pair) in text.chunks_exact_mut(2).enumerate() {
                    self.vram.read(address * 8, pair);
                }
                self.vram.write_text(0, &text);
            }
        }
        self.text.direct.then_some(place)
    }

    /// To be called behind each change of the registers, and with `always` before somebody else looks at the planes.
    pub(super) fn end_direct_text(&mut self, always: bool) {
        if !always && self.registers.has_plain_text() {
            return;
        }
        self.text.accesses = 0;
        if std::mem::take(&mut self.text.direct) {
            self.text.patience = self.text.patience.saturating_mul(2);
            let mut text = vec![0; SIZE];
            self.vram.read_text(0, &mut text);
            for (address, pair) in text.chunks_exact(2).enumerate() {
                self.vram.write(address * 8, pair);
            }
        }
    }

    /// Puts the text to where the planes have it, in a copy of the first bytes of video memory.
    pub(super) fn show_text(&self, memory: &mut [u8]) {
        if !self.text.direct {
            return;
        }
        let mut text = vec![0; SIZE];
        self.vram.read_text(0, &mut text);
        for (planes, pair) in memory.chunks_exact_mut(8).zip(text.chunks_exact(2)) {
            if let Some(to) = planes.get_mut(..2) {
                to.copy_from_slice(pair);
            }
        }
    }

    /// Reads the linear frame buffer where it is not memory.
    pub fn frame_read(&mut self, offset: u32, data: &mut [u8]) {
        self.end_direct_text(true);
        self.vram.read(offset as usize, data);
    }

    /// Writes it.
    pub fn frame_write(&mut self, offset: u32, data: &[u8]) {
        self.end_direct_text(true);
        self.vram.write(offset as usize, data);
    }
}
