//! IDE: two drives behind one channel's registers, and the channel's bus master.
//!
//! [`Channel`](channel::Channel) has the ports; a [`Drive`](drive::Drive) is a hard disk ([`ata`]) or a CD-ROM
//! ([`atapi`](super::atapi)). Both are an [`Interface`](interface::Interface) to the cable and what is behind it. Standards:
//! ATA/ATAPI-6 (NCITS 361-2002), and for what it dropped ATA-3 and ATA-1.

pub mod ata;
pub mod bus_master;
pub mod channel;
pub mod drive;
pub mod geometry;
pub mod identity;
pub mod interface;
pub mod registers;
#[cfg(test)]
pub mod testing;

/// Where a drive is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0: primary channel, 1: secondary channel.
    pub channel: u8,
    /// 0: drive 0 (master), 1: drive 1 (slave).
    pub drive: u8,
}

impl Place {
    /// The serial number of the drive there: QEMU's, with another vendor.
    pub fn serial(self) -> String {
        format!("RV{:05}", u32::from(self.channel) * 2 + u32::from(self.drive) + 1)
    }
}
