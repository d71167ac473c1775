//! The commands, and those that transfer no sectors (data sheet, section 5).

use super::result::{Ending, ABNORMAL, EQUIPMENT, SEEK_END};
use super::transfer::Kind;
use super::{Floppy, Phase, DOR_ENABLE, POLLED};

/// A command byte's flag: go on with the other side.
const MULTI_TRACK: u8 = 0x80;

/// How many bytes the command that begins with `code` has.
fn length(code: u8) -> usize {
    match code {
        0x13 => 4,
        0x03 | 0x0F | 0x8F | 0xCF => 3,
        0x04 | 0x07 | 0x12 => 2,
        // Three bits of the others are flags; which of them a command has not are not looked at.
        _ => match code & 0x1F {
            0x02 | 0x05 | 0x06 | 0x09 | 0x0C | 0x16 => 9,
            0x0D => 6,
            0x0A => 2,
            _ => 1,
        },
    }
}

impl Floppy {
    /// Writes the data register.
    pub(super) fn write_fifo(&mut self, value: u8) {
        if self.output & DOR_ENABLE == 0 {
            return;
        }
        let bytes = match &mut self.phase {
            Phase::Idle => vec![value],
            Phase::Command(bytes) => {
                bytes.push(value);
                std::mem::take(bytes)
            }
            Phase::Transfer(_) => return self.write_sector_byte(value),
            Phase::Result(_) => return,
        };
        match bytes.first() {
            Some(code) if bytes.len() >= length(*code) => {
                self.phase = Phase::Idle;
                self.execute(&bytes);
            }
            _ => self.phase = Phase::Command(bytes),
        }
    }

    fn execute(&mut self, bytes: &[u8]) {
        match *bytes {
            [code @ (0x8F | 0xCF), which, steps] => self.relative_seek(code == 0xCF, which, steps),
            [code @ (0x14 | 0x94)] => {
                self.settings.locked = code == 0x94;
                self.end(&[u8::from(self.settings.locked) << 4], false);
            }
            [code, which, c, h, r, n, eot, _, length] => {
                self.last_eot = eot;
                let kind = match code & 0x1F {
                    0x02 => Kind::ReadTrack,
                    0x05 | 0x09 => Kind::Write,
                    0x06 => Kind::Read,
                    0x0C => Kind::ReadDeleted,
                    // With EC set, so many sectors are verified.
                    _ => Kind::Verify(if which & 0x80 != 0 { Some(length) } else { None }),
                };
                self.begin(kind, code & MULTI_TRACK != 0, which, [c, h, r, n], eot);
            }
            [_, which, n, sectors, _, fill] => self.begin_format(which, n, sectors, fill),
            [0x13, _, settings, precompensation] => {
                self.settings.configure = [settings, precompensation];
                self.end(&[], false);
            }
            [0x03, times, load_time] => {
                self.settings.specify = [times, load_time];
                self.end(&[], false);
            }
            [0x0F, which, track] => self.seek(which, track),
            [0x04, which] => self.drive_status(which),
            [0x07, which] => self.recalibrate(which),
            [code, which] if code & 0x1F == 0x0A => self.read_id(which),
            [0x12, value] => {
                // Without OW, the drives' bits stay.
                let drives = if value & 0x80 != 0 { value & 0x3C } else { self.settings.perpendicular & 0x3C };
                self.settings.perpendicular = drives | value & 3;
                self.end(&[], false);
            }
            [0x08] => self.sense_interrupt(),
            [0x0E] => self.dump_registers(),
            [0x10] => self.end(&[0x90], false), // VERSION: an 82077AA or newer
            _ => self.end(&[0x80], false),
        }
    }

    /// A command that needs no result has moved the heads of drive `drive`. The head address is 0 then, as in the 8272.
    fn sought(&mut self, drive: u8, status: u8) {
        // One interrupt per drive is remembered.
        self.sense.retain(|status| (status ^ drive) & 3 != 0);
        self.sense.push_back(status | drive);
        self.end(&[], true);
    }

    fn seek(&mut self, which: u8, track: u8) {
        match self.drives.get_mut(usize::from(which & 3)) {
            Some(Some(drive)) => {
                drive.seek(track);
                self.sought(which & 3, SEEK_END);
            }
            // Steps that no drive makes: the controller does not see that.
            _ => self.sought(which & 3, SEEK_END),
        }
    }

    fn relative_seek(&mut self, inwards: bool, which: u8, steps: u8) {
        let track = match self.drives.get(usize::from(which & 3)) {
            Some(Some(drive)) if inwards => drive.track.saturating_add(steps),
            Some(Some(drive)) => drive.track.saturating_sub(steps),
            _ => 0,
        };
        self.seek(which, track);
    }

    fn recalibrate(&mut self, which: u8) {
        match self.drives.get_mut(usize::from(which & 3)) {
            Some(Some(drive)) => {
                drive.seek(0);
                self.sought(which & 3, SEEK_END);
            }
            // Track 0 is not found.
            _ => self.sought(which & 3, ABNORMAL | SEEK_END | EQUIPMENT),
        }
    }

    fn sense_interrupt(&mut self) {
        match self.sense.pop_front() {
            Some(status) => {
                let track = match self.drives.get(usize::from(status & 3)) {
                    Some(Some(drive)) => drive.track,
                    _ => 0,
                };
                // After a reset there is one interrupt for the four drives; each seek has its own.
                self.interrupt = self.sense.front().is_some_and(|next| next & POLLED != POLLED);
                self.end(&[status, track], false);
            }
            None => self.end(&[0x80], false),
        }
    }

    fn drive_status(&mut self, which: u8) {
        const ALWAYS: u8 = 0x28;
        const WRITE_PROTECTED: u8 = 0x40;
        const TRACK_0: u8 = 0x10;
        let status = match self.drives.get(usize::from(which & 3)) {
            Some(Some(drive)) => {
                let protected = drive.diskette.is_some_and(|diskette| diskette.medium.read_only);
                (if protected { WRITE_PROTECTED } else { 0 }) | if drive.track == 0 { TRACK_0 } else { 0 }
            }
            _ => 0,
        };
        self.end(&[ALWAYS | status | which & 7], false);
    }

    fn read_id(&mut self, which: u8) {
        let (head, rate) = (which >> 2 & 1, self.rate);
        let found = match self.drives.get_mut(usize::from(which & 3)) {
            Some(Some(drive)) => drive
                .diskette
                .filter(|diskette| {
                    let format = diskette.format;
                    drive.track < format.cylinders && head < format.heads && format.has_rate(rate)
                })
                .map(|diskette| {
                    let sector = drive.turned % diskette.format.sectors + 1;
                    drive.turned = sector;
                    (drive.track, sector)
                }),
            _ => None,
        };
        let (ending, id) = match found {
            Some((track, sector)) => (Ending::NORMAL, [track, head, sector, 2]),
            None => (Ending::NO_ADDRESS_MARK, [0; 4]),
        };
        self.end_transfer(which & 7, ending, id);
    }

    fn dump_registers(&mut self) {
        let tracks = self.drives.map(|drive| drive.map_or(0, |drive| drive.track));
        let [times, load_time] = self.settings.specify;
        let [configure, precompensation] = self.settings.configure;
        let lock = u8::from(self.settings.locked) << 7 | self.settings.perpendicular;
        let rest = [times, load_time, self.last_eot, lock, configure, precompensation];
        self.end(&[&tracks[..], &rest].concat(), false);
    }
}
