//! The commands of a disk (ATA/ATAPI-6, section 8; the obsolete ones by ATA-3).

use super::job::{Address, Job, Kind, Transfer};
use super::{identify, Ata, Geometry, Power, TransferMode, MOST_MULTIPLE};
use crate::devices::ide::interface::Phase;
use crate::devices::ide::registers::{ABRT, DRDY, DSC, IDNF, LBA, PASSED};

impl Ata {
    /// Executes the command `code`.
    pub fn command(&mut self, code: u8) {
        self.port.irq = false;
        if self.power == Power::Sleep {
            return;
        }
        self.port.error = 0;
        match code {
            0x10..=0x1F => self.port.finish(), // RECALIBRATE
            0x20 | 0x21 => self.transfer(Kind::Read, Transfer::Pio(1), Address::Short),
            0x24 => self.transfer(Kind::Read, Transfer::Pio(1), Address::Long),
            0x25 => self.transfer(Kind::Read, Transfer::Dma, Address::Long),
            0x27 => self.read_native_max(Address::Long),
            0x29 => self.transfer_multiple(Kind::Read, Address::Long),
            0x30 | 0x31 => self.transfer(Kind::Write, Transfer::Pio(1), Address::Short),
            0x34 => self.transfer(Kind::Write, Transfer::Pio(1), Address::Long),
            0x35 => self.transfer(Kind::Write, Transfer::Dma, Address::Long),
            0x39 => self.transfer_multiple(Kind::Write, Address::Long),
            0x3C => self.transfer(Kind::WriteVerify, Transfer::Pio(1), Address::Short),
            0x40 | 0x41 => self.transfer(Kind::Verify, Transfer::None, Address::Short),
            0x42 => self.transfer(Kind::Verify, Transfer::None, Address::Long),
            0x70..=0x7F => self.seek(),
            0x91 => self.initialize_parameters(),
            0x94 | 0xE0 | 0x96 | 0xE2 => self.set_power(Power::Standby),
            0x95 | 0xE1 | 0x97 | 0xE3 => self.set_power(Power::Active),
            0x98 | 0xE5 => self.check_power(),
            0x99 | 0xE6 => self.set_power(Power::Sleep),
            0xC4 => self.transfer_multiple(Kind::Read, Address::Short),
            0xC5 => self.transfer_multiple(Kind::Write, Address::Short),
            0xC6 => self.set_multiple(),
            0xC8 | 0xC9 => self.transfer(Kind::Read, Transfer::Dma, Address::Short),
            0xCA | 0xCB => self.transfer(Kind::Write, Transfer::Dma, Address::Short),
            0xE7 | 0xEA => self.start(Job::flush()),
            0xEC => self.identify(),
            0xEF => self.set_features(),
            0xF8 => self.read_native_max(Address::Short),
            // NOP (00) is one of those that always end so. Its subcommands are for queued commands, which there are none of.
            _ => self.abort(),
        }
    }

    /// EXECUTE DEVICE DIAGNOSTIC, which both drives do at once. It does not interrupt here: drive 0 does for both.
    pub fn diagnose(&mut self) {
        self.cancel();
        self.power = Power::Active;
        self.port.regs.set_signature(0, 0);
        self.port.rest(DRDY | DSC);
        self.port.error = PASSED;
    }

    pub(super) fn abort(&mut self) {
        self.job = None;
        self.port.fail(0, ABRT);
    }

    fn identify(&mut self) {
        self.port.load(identify::data(self));
        self.port.start_block(Phase::PioIn, usize::MAX);
        self.port.irq = true;
    }

    fn transfer(&mut self, kind: Kind, transfer: Transfer, address: Address) {
        let regs = &self.port.regs;
        let (first, count) = match address {
            Address::Long => (Some(regs.lba48()), regs.count48()),
            _ if regs.device & LBA != 0 => (Some(regs.lba28()), regs.count28()),
            _ => {
                let cylinder = u16::from_le_bytes([regs.mid.now, regs.high.now]);
                (self.translation.lba(cylinder, regs.device & 0x0F, regs.low.now), regs.count28())
            }
        };
        let address = if address == Address::Short && regs.device & LBA == 0 { Address::Chs } else { address };
        let transfer = match transfer {
            Transfer::Dma if self.mode == TransferMode::Pio => return self.abort(),
            transfer => transfer,
        };
        match first {
            Some(lba) if lba < self.medium.sectors => self.start(Job::new(kind, transfer, address, lba, count)),
            // The registers keep the address that there is not.
            _ => self.port.fail(0, IDNF),
        }
    }

    fn transfer_multiple(&mut self, kind: Kind, address: Address) {
        match self.multiple {
            0 => self.abort(),
            block => self.transfer(kind, Transfer::Pio(block), address),
        }
    }

    fn set_multiple(&mut self) {
        match self.port.regs.count.now {
            count if count > MOST_MULTIPLE || count != 0 && !count.is_power_of_two() => self.abort(),
            count => {
                self.multiple = count;
                self.port.finish();
            }
        }
    }

    fn seek(&mut self) {
        let regs = &self.port.regs;
        let cylinder = u16::from_le_bytes([regs.mid.now, regs.high.now]);
        let target = match regs.device & LBA {
            0 => self.translation.lba(cylinder, regs.device & 0x0F, regs.low.now),
            _ => Some(regs.lba28()),
        };
        match target {
            Some(lba) if lba < self.medium.sectors => self.port.finish(),
            _ => self.port.fail(0, IDNF),
        }
    }

    fn initialize_parameters(&mut self) {
        let (heads, per_track) = ((self.port.regs.device & 0x0F) + 1, self.port.regs.count.now);
        if per_track == 0 {
            return self.abort();
        }
        self.translation = Geometry::of(self.medium.sectors, heads, per_track);
        self.port.finish();
    }

    fn read_native_max(&mut self, address: Address) {
        let last = self.medium.sectors.saturating_sub(1);
        match address {
            Address::Long => self.port.regs.set_lba48(last),
            _ if self.port.regs.device & LBA != 0 => self.port.regs.set_lba28(last.min(identify::MOST_LBA28 - 1)),
            _ => {
                self.leave_address(Address::Chs, self.translation.capacity().min(self.medium.sectors).saturating_sub(1))
            }
        }
        self.port.finish();
    }

    fn set_power(&mut self, power: Power) {
        self.power = power;
        self.port.finish();
    }

    fn check_power(&mut self) {
        self.port.regs.count.now = if self.power == Power::Standby { 0x00 } else { 0xFF };
        self.port.finish();
    }

    fn set_features(&mut self) {
        match self.port.regs.features.now {
            0x02 => self.write_cache = true,
            0x03 => match self.chosen_mode() {
                Some(mode) => self.mode = mode,
                None => return self.abort(),
            },
            0x55 => self.read_ahead = false,
            // Settings never fall back at a software reset, whichever of the two is asked for.
            0x66 | 0xCC => {}
            0x82 => {
                self.write_cache = false;
                return self.start(Job::flush());
            }
            0xAA => self.read_ahead = true,
            _ => return self.abort(),
        }
        self.port.finish();
    }

    /// The mode that SET FEATURES 03 names. PIO modes leave the choice of DMA alone: the drive serves every one of them.
    fn chosen_mode(&self) -> Option<TransferMode> {
        let mode = self.port.regs.count.now;
        match (mode >> 3, mode & 7) {
            (0, 0 | 1) | (1, 0..=4) => Some(self.mode),
            (4, number @ 0..=2) => Some(TransferMode::Multiword(number)),
            (8, number @ 0..=5) => Some(TransferMode::Ultra(number)),
            _ => None,
        }
    }

    /// Leaves the address of sector `lba` in the registers.
    pub(super) fn leave_address(&mut self, address: Address, lba: u64) {
        let regs = &mut self.port.regs;
        match address {
            Address::Long => regs.set_lba48(lba),
            Address::Short => regs.set_lba28(lba),
            Address::Chs => {
                let (cylinder, head, sector) = self.translation.address(lba);
                regs.low.now = sector;
                [regs.mid.now, regs.high.now] = cylinder.to_le_bytes();
                regs.device = regs.device & 0xF0 | head & 0x0F;
            }
        }
    }
}
