//! The status registers that commands end with (data sheet, section 6).

use std::collections::VecDeque;

use super::{Floppy, Phase};

/// Status register 0: the command ended abnormally.
pub const ABNORMAL: u8 = 0x40;
/// Status register 0: a seek has ended.
pub const SEEK_END: u8 = 0x20;
/// Status register 0: the drive failed.
pub const EQUIPMENT: u8 = 0x10;

/// How a transfer ended: status registers 0 (without drive and head), 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending(pub u8, pub u8, pub u8);

impl Ending {
    /// All was well.
    pub const NORMAL: Ending = Ending(0, 0, 0);
    /// The sectors of the cylinder were not enough.
    pub const END_OF_CYLINDER: Ending = Ending(ABNORMAL, 0x80, 0);
    /// A sector's data is damaged.
    pub const DATA_ERROR: Ending = Ending(ABNORMAL, 0x20, 0x20);
    /// There is no such sector on the track.
    pub const NO_DATA: Ending = Ending(ABNORMAL, 0x04, 0);
    /// The track is of another cylinder.
    pub const WRONG_CYLINDER: Ending = Ending(ABNORMAL, 0x04, 0x10);
    /// The diskette is write-protected.
    pub const NOT_WRITABLE: Ending = Ending(ABNORMAL, 0x02, 0);
    /// Nothing is recognised on the track: no diskette, another data rate, a track that is not formatted.
    pub const NO_ADDRESS_MARK: Ending = Ending(ABNORMAL, 0x01, 0);
    /// The drive cannot write.
    pub const FAULT: Ending = Ending(ABNORMAL | EQUIPMENT, 0, 0);
    /// Reading deleted sectors, one that is not was found.
    pub const CONTROL_MARK: Ending = Ending(0, 0, 0x40);
}

impl Floppy {
    /// Ends a command with a result. `interrupt`: the host is told.
    pub(super) fn end(&mut self, result: &[u8], interrupt: bool) {
        self.phase = if result.is_empty() { Phase::Idle } else { Phase::Result(VecDeque::from(result.to_vec())) };
        self.interrupt |= interrupt;
    }

    /// Reads the data register.
    pub(super) fn read_fifo(&mut self) -> u8 {
        match &mut self.phase {
            Phase::Result(bytes) => {
                // The first byte that is read takes the interrupt back.
                self.interrupt = false;
                let byte = bytes.pop_front().unwrap_or(0);
                if bytes.is_empty() {
                    self.phase = Phase::Idle;
                }
                byte
            }
            Phase::Transfer(_) => self.read_sector_byte(),
            Phase::Idle | Phase::Command(_) => 0,
        }
    }
}
