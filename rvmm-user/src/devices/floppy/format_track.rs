//! FORMAT TRACK (data sheet, section 5.1.7): writes the sectors that a list of the host's names.

use super::result::Ending;
use super::transfer::{Kind, Transfer, Turn, SECTOR, SIZE_CODE};
use super::{Floppy, Phase};
use crate::devices::block::{Completion, Request};

impl Floppy {
    /// Begins FORMAT TRACK: the host will send four bytes for each sector.
    pub(super) fn begin_format(&mut self, which: u8, n: u8, sectors: u8, fill: u8) {
        let (track, head) = (self.track(which), which >> 2 & 1);
        let id = [track, head, 1, n];
        let diskette = match self.find(which, [track, head]) {
            Err(ending) => return self.end_transfer(which & 7, ending, id),
            Ok(diskette) => diskette,
        };
        if diskette.medium.read_only {
            return self.end_transfer(which & 7, Ending::NOT_WRITABLE, id);
        }
        // An image has the sectors of its format and no others.
        if n != SIZE_CODE || sectors == 0 || sectors > diskette.format.sectors {
            return self.end_transfer(which & 7, Ending::FAULT, id);
        }
        self.last_eot = sectors;
        let transfer = Transfer {
            kind: Kind::Format(fill),
            multi_track: false,
            which: which & 7,
            cylinder: track,
            head,
            sector: 1,
            eot: sectors,
            there: sectors,
            count: usize::MAX,
            turn: Turn::In,
            buffer: vec![0; 4 * usize::from(sectors)],
            at: 0,
            terminal_count: false,
            error: None,
        };
        self.wait_for_host(transfer);
    }

    /// One sector of FORMAT TRACK is written; `at` counts the bytes of the list that are done.
    pub(super) fn formatted(&mut self, mut transfer: Transfer, completion: &Completion) {
        match completion.error {
            Some(_) => self.end_with(&transfer, Ending::FAULT),
            None => {
                transfer.at += 4;
                self.format_next(transfer);
            }
        }
    }

    pub(super) fn format_next(&mut self, mut transfer: Transfer) {
        let Kind::Format(fill) = transfer.kind else { return };
        let Some(&[c, h, r, n]) = transfer.buffer.get(transfer.at..).and_then(|rest| rest.first_chunk()) else {
            return self.end_with(&transfer, Ending::NORMAL);
        };
        let lba = self.find(transfer.which, [c, h]).ok().and_then(|diskette| diskette.format.lba(c, h, r));
        match lba.filter(|_| n == SIZE_CODE) {
            // The image cannot hold such a sector.
            None => self.end_with(&transfer, Ending::FAULT),
            Some(lba) => {
                transfer.turn = Turn::Medium;
                self.ask(usize::from(transfer.which & 3), Request::Write { lba, data: vec![fill; SECTOR] });
                self.phase = Phase::Transfer(transfer);
            }
        }
    }
}
