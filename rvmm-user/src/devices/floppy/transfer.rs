//! Commands that transfer sectors: a track at a time between diskette and buffer, byte by byte between buffer and host.

use super::media::Diskette;
use super::result::Ending;
use super::{Floppy, Phase, BUSY, DIO, IMPLIED_SEEK, NON_DMA, RQM};
use crate::devices::block::{Completion, Failure, Request};

/// The size of a sector in bytes, and the number that stands for it.
pub(super) const SECTOR: usize = 512;
pub(super) const SIZE_CODE: u8 = 2;

/// What is done with the sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    /// No sector of an image is a deleted one: it ends behind the first.
    ReadDeleted,
    /// From the first sector on, whatever the address says.
    ReadTrack,
    /// Deleted sectors, too: an image cannot mark them.
    Write,
    /// Reads without telling the data; so many sectors, or to the end of the track.
    Verify(Option<u8>),
    /// Writes sectors full of this byte, where the host's list says.
    Format(u8),
}

/// Who is to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The diskette.
    Medium,
    /// The host or DMA reads the buffer.
    Out,
    /// The host or DMA fills the buffer.
    In,
}

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    pub(super) kind: Kind,
    pub(super) multi_track: bool,
    /// Drive and head, as the command has them.
    pub(super) which: u8,
    /// The next sector's address.
    pub(super) cylinder: u8,
    pub(super) head: u8,
    pub(super) sector: u8,
    pub(super) eot: u8,
    /// The sectors that the diskette has on a track.
    pub(super) there: u8,
    /// The most sectors that are wanted.
    pub(super) count: usize,
    pub(super) turn: Turn,
    pub(super) buffer: Vec<u8>,
    pub(super) at: usize,
    /// The DMA controller said that it was the last byte.
    pub(super) terminal_count: bool,
    /// Why the sectors behind the buffer's cannot be read.
    pub(super) error: Option<Failure>,
}

impl Transfer {
    /// Moves on to the next sector. The table is that of section 5.1.1: behind the last one comes the first of the other side, or of
    /// the next cylinder.
    ///
    /// An end of track that the diskette does not have is where SeaBIOS expects the last of many sectors. The data sheet has no
    /// sector found behind the track's last one; QEMU and Bochs go on there with a multi-track command, to the next cylinder, too,
    /// and boot sectors that load more than a track at once were written with them.
    pub(super) fn advance(&mut self) {
        let last = if self.multi_track { self.eot.min(self.there) } else { self.eot };
        if self.sector != last {
            self.sector = self.sector.wrapping_add(1);
            return;
        }
        self.sector = 1;
        if self.multi_track {
            self.head ^= 1;
        }
        if !self.multi_track || self.head == 0 {
            self.cylinder = self.cylinder.wrapping_add(1);
        }
    }

    /// Whether the last sector of the command's track, or of both sides, is behind.
    fn is_over(&self, was: u8) -> bool {
        was == self.eot && !(self.multi_track && self.head == 1)
    }

    /// Sectors from the next one to the last one of the track.
    fn left_on_track(&self) -> u32 {
        u32::from(self.eot.min(self.there).saturating_sub(self.sector)) + 1
    }
}

impl Floppy {
    /// Begins a command with the sector address `[c, h, r, n]`.
    pub(super) fn begin(&mut self, kind: Kind, multi_track: bool, which: u8, [c, h, r, n]: [u8; 4], eot: u8) {
        let sector = if kind == Kind::ReadTrack { 1 } else { r };
        let mut transfer = Transfer {
            kind,
            multi_track,
            which: which & 7,
            cylinder: c,
            head: h,
            sector,
            eot,
            there: u8::MAX,
            count: usize::MAX,
            turn: Turn::Medium,
            buffer: Vec::new(),
            at: 0,
            terminal_count: false,
            error: None,
        };
        if let Kind::Verify(Some(count)) = kind {
            transfer.count = count.max(1).into();
        }
        if self.settings.configure[0] & IMPLIED_SEEK != 0 {
            if let Some(Some(drive)) = self.drives.get_mut(usize::from(which & 3)) {
                drive.seek(c);
            }
        }
        let found = self.find(which, [c, h]);
        if let Ok(diskette) = &found {
            transfer.there = diskette.format.sectors;
        }
        let ending = match (found, kind) {
            (Err(ending), _) => Some(ending),
            (Ok(diskette), Kind::Write) if diskette.medium.read_only => Some(Ending::NOT_WRITABLE),
            (Ok(_), _) if n != SIZE_CODE => Some(Ending::NO_DATA),
            _ => None,
        };
        match ending {
            Some(ending) => self.end_transfer(which & 7, ending, [c, h, r, n]),
            None => self.next_track(transfer),
        }
    }

    pub(super) fn track(&self, which: u8) -> u8 {
        match self.drives.get(usize::from(which & 3)) {
            Some(Some(drive)) => drive.track,
            _ => 0,
        }
    }

    /// The diskette under the heads, if the track has sectors with this cylinder and head.
    pub(super) fn find(&self, which: u8, [cylinder, head]: [u8; 2]) -> Result<Diskette, Ending> {
        let Some(Some(drive)) = self.drives.get(usize::from(which & 3)) else { return Err(Ending::NO_ADDRESS_MARK) };
        let diskette = drive.diskette.ok_or(Ending::NO_ADDRESS_MARK)?;
        let (format, side) = (diskette.format, which >> 2 & 1);
        if !format.has_rate(self.rate) || drive.track >= format.cylinders || side >= format.heads {
            return Err(Ending::NO_ADDRESS_MARK);
        }
        match (drive.track == cylinder, side == head & 1 && head <= 1) {
            (true, true) => Ok(diskette),
            (false, _) => Err(Ending::WRONG_CYLINDER),
            (true, false) => Err(Ending::NO_DATA),
        }
    }

    /// Goes on with the sectors of the track that `transfer` is at.
    fn next_track(&mut self, mut transfer: Transfer) {
        // The side may have changed; the heads move by themselves only where the end of track is not there.
        transfer.which = transfer.which & 3 | transfer.head << 2;
        if transfer.multi_track && transfer.eot > transfer.there {
            if let Some(Some(drive)) = self.drives.get_mut(usize::from(transfer.which & 3)) {
                drive.seek(transfer.cylinder);
            }
        }
        let found = self.find(transfer.which, [transfer.cylinder, transfer.head]);
        let start = found.and_then(|diskette| {
            let lba = diskette.format.lba(transfer.cylinder, transfer.head, transfer.sector).ok_or(Ending::NO_DATA)?;
            Ok((lba, transfer.left_on_track()))
        });
        match start {
            Err(ending) => self.end_with(&transfer, ending),
            Ok((_, sectors)) if transfer.kind == Kind::Write => {
                (transfer.buffer, transfer.at) = (vec![0; sectors as usize * SECTOR], 0);
                transfer.turn = Turn::In;
                self.wait_for_host(transfer);
            }
            Ok((lba, sectors)) => {
                transfer.turn = Turn::Medium;
                self.ask(usize::from(transfer.which & 3), Request::Read { lba, sectors });
                self.phase = Phase::Transfer(transfer);
            }
        }
    }

    /// Without DMA, the host is called by an interrupt.
    pub(super) fn wait_for_host(&mut self, transfer: Transfer) {
        self.interrupt |= self.is_non_dma();
        self.phase = Phase::Transfer(transfer);
    }

    pub(super) fn is_non_dma(&self) -> bool {
        self.settings.specify[1] & 1 != 0
    }

    /// The bits of the main status register that a transfer sets.
    pub(super) fn transfer_status(&self, transfer: &Transfer) -> u8 {
        match (transfer.turn, self.is_non_dma()) {
            (Turn::Out, true) => RQM | DIO | NON_DMA,
            (Turn::In, true) => RQM | NON_DMA,
            (Turn::Medium, true) => NON_DMA,
            (_, false) => BUSY,
        }
    }

    /// The diskette has answered.
    pub(super) fn sectors_done(&mut self, completion: Completion) {
        let Phase::Transfer(mut transfer) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        match transfer.kind {
            Kind::Write => self.written(transfer, &completion),
            Kind::Format(_) => self.formatted(transfer, &completion),
            _ => {
                transfer.buffer = completion.data;
                transfer.error = completion.error;
                transfer.at = 0;
                if completion.error == Some(Failure::NoSuchSector) {
                    // Behind the end of an image that is shorter than its format there are zeros, as in QEMU.
                    let there = self.find(transfer.which, [transfer.cylinder, transfer.head]);
                    let wanted = there.map_or(0, |_| transfer.left_on_track());
                    transfer.buffer.resize(wanted as usize * SECTOR, 0);
                    transfer.error = None;
                }
                if let Kind::Verify(_) = transfer.kind {
                    self.verified(transfer);
                } else if transfer.buffer.is_empty() {
                    self.buffer_ended(transfer);
                } else {
                    transfer.turn = Turn::Out;
                    self.wait_for_host(transfer);
                }
            }
        }
    }

    fn verified(&mut self, mut transfer: Transfer) {
        let mut over = false;
        let mut sectors = transfer.buffer.len() / SECTOR;
        if sectors >= transfer.count {
            // Those behind were read in vain; that one of them is bad is nobody's business.
            (sectors, over, transfer.error) = (transfer.count, true, None);
        }
        transfer.count -= sectors;
        for _ in 0..sectors {
            let was = transfer.sector;
            transfer.advance();
            over |= transfer.is_over(was);
        }
        match transfer.error {
            Some(_) => self.end_with(&transfer, Ending::DATA_ERROR),
            None if over => self.end_with(&transfer, Ending::NORMAL),
            None => self.next_track(transfer),
        }
    }

    fn written(&mut self, mut transfer: Transfer, completion: &Completion) {
        let mut over = false;
        for _ in 0..completion.sectors {
            let was = transfer.sector;
            transfer.advance();
            over = transfer.is_over(was);
        }
        match completion.error {
            Some(Failure::WriteProtected) => self.end_with(&transfer, Ending::NOT_WRITABLE),
            Some(_) => self.end_with(&transfer, Ending::FAULT),
            None if transfer.terminal_count => self.end_with(&transfer, Ending::NORMAL),
            None if over => self.end_of_cylinder(&transfer),
            None => self.next_track(transfer),
        }
    }

    /// The buffer has been transferred, or DMA has reached its end.
    pub(super) fn buffer_ended(&mut self, mut transfer: Transfer) {
        match (transfer.kind, transfer.turn) {
            (Kind::Format(_), _) => {
                transfer.at = 0;
                self.format_next(transfer);
            }
            (Kind::Write, _) => {
                // What the host did not send of the last sector is zeros.
                transfer.buffer.truncate(transfer.at.div_ceil(SECTOR) * SECTOR);
                let data = std::mem::take(&mut transfer.buffer);
                let found = self.find(transfer.which, [transfer.cylinder, transfer.head]);
                let format = found.ok().map(|diskette| diskette.format);
                match format.and_then(|format| format.lba(transfer.cylinder, transfer.head, transfer.sector)) {
                    None => self.end_with(&transfer, Ending::NO_DATA),
                    Some(lba) => {
                        transfer.turn = Turn::Medium;
                        self.ask(usize::from(transfer.which & 3), Request::Write { lba, data });
                        self.phase = Phase::Transfer(transfer);
                    }
                }
            }
            _ => self.read_ended(transfer),
        }
    }

    /// A buffer of sectors has been read by the host.
    fn read_ended(&mut self, mut transfer: Transfer) {
        let mut over = false;
        for _ in 0..transfer.at.div_ceil(SECTOR) {
            let was = transfer.sector;
            transfer.advance();
            over = transfer.is_over(was);
        }
        if transfer.terminal_count {
            self.end_with(&transfer, Ending::NORMAL);
        } else if transfer.error.is_some() {
            self.end_with(&transfer, Ending::DATA_ERROR);
        } else if over {
            self.end_of_cylinder(&transfer);
        } else {
            self.next_track(transfer);
        }
    }

    /// The last sector of the command is done and the DMA controller wants more. Without DMA nobody can say that it was the last
    /// byte, and that the command had its sectors is a success, as in QEMU.
    fn end_of_cylinder(&mut self, transfer: &Transfer) {
        let ending = if self.is_non_dma() { Ending::NORMAL } else { Ending::END_OF_CYLINDER };
        self.end_with(transfer, ending);
    }

    pub(super) fn end_with(&mut self, transfer: &Transfer, ending: Ending) {
        self.end_transfer(transfer.which, ending, [transfer.cylinder, transfer.head, transfer.sector, SIZE_CODE]);
    }

    /// Ends a command with three status registers and a sector address.
    pub(super) fn end_transfer(&mut self, which: u8, Ending(st0, st1, st2): Ending, [c, h, r, n]: [u8; 4]) {
        self.end(&[st0 | which, st1, st2, c, h, r, n], true);
    }
}
