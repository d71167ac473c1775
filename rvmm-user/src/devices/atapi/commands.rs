//! The packet commands (MMC-2, SPC-2).

use super::protocol::PACKET;
use super::sense::Sense;
use super::{information, mode, toc, Cdrom, MediaEvent};
use crate::devices::block::Medium;

/// What a command leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing more.
    Done,
    /// An answer.
    Data(Vec<u8>),
    /// Sectors to be read and sent.
    Sectors {
        /// The first one.
        lba: u32,
        /// How many.
        count: u32,
    },
    /// CHECK CONDITION.
    Failed(Sense),
}

impl From<Sense> for Reply {
    fn from(sense: Sense) -> Reply {
        Reply::Failed(sense)
    }
}

/// An answer of at most `limit` bytes.
fn data(mut data: Vec<u8>, limit: impl Into<usize>) -> Reply {
    data.truncate(limit.into());
    Reply::Data(data)
}

impl Cdrom {
    /// Executes a packet.
    pub(super) fn execute(&mut self, packet: &[u8; PACKET]) -> Reply {
        let [code, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, _] = *packet;
        let lba = u32::from_be_bytes([b2, b3, b4, b5]);
        let length = u16::from_be_bytes([b7, b8]);
        // SPC-2, section 5.9.5: a unit attention goes before every command but those that ask about it.
        if self.attention && !matches!(code, 0x03 | 0x12 | 0x46 | 0x4A) {
            self.attention = false;
            return Sense::MEDIUM_CHANGED.into();
        }
        match code {
            0x00 => self.with_medium(|_| Reply::Done), // TEST UNIT READY
            0x03 => self.request_sense(b4),
            0x12 if b1 & 0x03 != 0 || b2 != 0 => Sense::INVALID_FIELD.into(),
            0x12 => data(information::inquiry(), b4),
            0x1B => self.start_stop(b4),
            0x1E => {
                self.locked = b4 & 1 != 0;
                Reply::Done
            }
            0x25 => self.with_medium(|medium| Reply::Data(information::capacity(medium))),
            0x28 => self.read(lba, length.into()),
            0x2B => self.read(lba, 0), // SEEK
            0x43 => {
                // The format was in the last byte once (SFF-8020i).
                let format = if b2 & 0x0F != 0 { b2 & 0x0F } else { b9 >> 6 };
                self.with_medium(|medium| match toc::data(medium, format, b6, b1 & 0x02 != 0) {
                    Some(toc) => data(toc, length),
                    None => Sense::INVALID_FIELD.into(),
                })
            }
            0x46 => match information::configuration(self.loaded(), b1 & 3, u16::from_be_bytes([b2, b3])) {
                Some(answer) => data(answer, length),
                None => Sense::INVALID_FIELD.into(),
            },
            0x4A => self.event_status(b1, b4, length),
            0x51 if b1 & 7 != 0 => Sense::INVALID_FIELD.into(),
            0x51 => self.with_medium(|_| data(information::disc(), length)),
            0x5A => match mode::sense(self, b2) {
                Ok(pages) => data(pages, length),
                Err(sense) => sense.into(),
            },
            0xA8 => self.read(lba, u32::from_be_bytes([b6, b7, b8, b9])),
            0xBB => Reply::Done, // SET CD SPEED
            0xBD => data(information::mechanism(self.tray_open), u16::from_be_bytes([b8, b9])),
            0xBE => self.read_cd(lba, u32::from_be_bytes([0, b6, b7, b8]), [b1, b9, b10]),
            _ => Sense::INVALID_COMMAND.into(),
        }
    }

    fn with_medium(&self, then: impl FnOnce(Medium) -> Reply) -> Reply {
        match self.loaded() {
            Some(medium) => then(medium),
            None if self.tray_open => Sense::TRAY_OPEN.into(),
            None => Sense::NO_MEDIUM.into(),
        }
    }

    fn request_sense(&mut self, limit: u8) -> Reply {
        let sense = match std::mem::take(&mut self.attention) {
            true => Sense::MEDIUM_CHANGED,
            false => self.sense,
        };
        data(sense.data(), limit)
    }

    fn read(&self, lba: u32, count: u32) -> Reply {
        self.with_medium(|medium| {
            if u64::from(lba) + u64::from(count) > medium.sectors || u64::from(lba) >= medium.sectors {
                return Sense::OUT_OF_RANGE.at(lba.into()).into();
            }
            Reply::Sectors { lba, count }
        })
    }

    /// READ CD, for what the image has: the 2,048 bytes of user data of data sectors.
    fn read_cd(&self, lba: u32, count: u32, [kind, parts, subchannel]: [u8; 3]) -> Reply {
        // Any kind of sector, or mode 1.
        if !matches!(kind >> 2 & 7, 0 | 2) {
            return self.with_medium(|_| Sense::ILLEGAL_MODE.into());
        }
        match (parts & 0xFE, subchannel & 7) {
            (0x00, 0) => self.read(lba, 0),
            (0x10, 0) => self.read(lba, count),
            _ => Sense::INVALID_FIELD.into(),
        }
    }

    fn start_stop(&mut self, what: u8) -> Reply {
        const START: u8 = 1;
        const LOAD_EJECT: u8 = 2;
        match what & (START | LOAD_EJECT) {
            LOAD_EJECT if self.locked => Sense::REMOVAL_PREVENTED.into(),
            LOAD_EJECT => {
                if self.loaded().is_some() {
                    self.event = MediaEvent::Removed;
                }
                self.tray_open = true;
                Reply::Done
            }
            code => {
                if code & LOAD_EJECT != 0 && std::mem::take(&mut self.tray_open) && self.medium.is_some() {
                    (self.event, self.attention) = (MediaEvent::New, true);
                }
                Reply::Done
            }
        }
    }

    /// GET EVENT STATUS NOTIFICATION (MMC-2, section 6.1.3): of the medium, which is all this drive has events of.
    fn event_status(&mut self, flags: u8, classes: u8, limit: u16) -> Reply {
        const POLLED: u8 = 1;
        const MEDIA: u8 = 4;
        if flags & POLLED == 0 {
            // It has no queue to wait in.
            return Sense::INVALID_FIELD.into();
        }
        if classes & 1 << MEDIA == 0 {
            return data(vec![0, 2, 0x80, 1 << MEDIA], limit);
        }
        // An event is told once, and only if it gets through.
        let event = match limit {
            0..=4 => MediaEvent::None,
            _ => std::mem::replace(&mut self.event, MediaEvent::None),
        };
        let code = match event {
            MediaEvent::None => 0,
            MediaEvent::New => 2,
            MediaEvent::Removed => 3,
        };
        let state = u8::from(self.tray_open) | u8::from(self.loaded().is_some()) << 1;
        data(vec![0, 6, MEDIA, 1 << MEDIA, code, state, 0, 0], limit)
    }
}
