//! Bytes between a transfer's buffer and the host, one by one or by DMA.

use super::result::Ending;
use super::transfer::{Kind, Turn, SECTOR};
use super::{Floppy, Phase, DMA_CHANNEL};
use crate::devices::dma::Dma;
use crate::devices::dma8237::IsaDma;

impl Floppy {
    /// The host reads a byte of a sector.
    pub(super) fn read_sector_byte(&mut self) -> u8 {
        let non_dma = self.is_non_dma();
        let Phase::Transfer(transfer) = &mut self.phase else { return 0 };
        if transfer.turn != Turn::Out || !non_dma {
            return 0;
        }
        self.interrupt = false;
        let byte = transfer.buffer.get(transfer.at).copied().unwrap_or(0);
        self.host_moved(1, false);
        byte
    }

    /// The host writes a byte of a sector.
    pub(super) fn write_sector_byte(&mut self, value: u8) {
        let non_dma = self.is_non_dma();
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        if transfer.turn != Turn::In || !non_dma {
            return;
        }
        self.interrupt = false;
        if let Some(byte) = transfer.buffer.get_mut(transfer.at) {
            *byte = value;
        }
        self.host_moved(1, false);
    }

    /// Lets the DMA controller move what it can.
    pub(super) fn move_by_dma(&mut self, isa: &mut IsaDma, memory: &mut dyn Dma) {
        while let Phase::Transfer(transfer) = &mut self.phase {
            if self.settings.specify[1] & 1 != 0 {
                return;
            }
            let Some(rest) = transfer.buffer.get_mut(transfer.at..) else { return };
            let moved = match transfer.turn {
                Turn::Medium => return,
                Turn::Out => isa.deliver(DMA_CHANNEL, rest, memory),
                Turn::In => isa.collect(DMA_CHANNEL, rest, memory),
            };
            if moved.bytes == 0 {
                return;
            }
            self.host_moved(moved.bytes, moved.terminal_count);
        }
    }

    /// So many bytes of the buffer have been transferred.
    fn host_moved(&mut self, bytes: usize, terminal_count: bool) {
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        transfer.at += bytes;
        transfer.terminal_count = terminal_count;
        // A deleted sector was wanted: the first other one is told, with its mark, and is the last.
        let marked = transfer.kind == Kind::ReadDeleted && transfer.at >= SECTOR;
        if !terminal_count && transfer.at < transfer.buffer.len() && !marked {
            return;
        }
        let Phase::Transfer(mut transfer) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        if marked {
            transfer.advance();
            return self.end_with(&transfer, Ending::CONTROL_MARK);
        }
        self.buffer_ended(transfer);
    }
}
