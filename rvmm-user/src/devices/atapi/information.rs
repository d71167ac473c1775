//! What the drive tells about itself and its disc: INQUIRY, READ CAPACITY, GET CONFIGURATION and the like.

use super::protocol::SECTOR;
use crate::devices::block::Medium;

/// Sectors of the longest CD, of 80 minutes; what has more is a DVD.
const LONGEST_CD: u64 = 80 * 60 * 75;

const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;

/// INQUIRY (SPC-2, section 7.3; SFF-8020i, section 10.8.1).
pub fn inquiry() -> Vec<u8> {
    // A CD-ROM, removable; ATAPI's version and its form of data; 31 more bytes.
    let mut data = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    data.extend(b"RVMM    RVMM CD-ROM     1.0 ");
    data
}

/// READ CAPACITY: the last sector, and its size.
pub fn capacity(medium: Medium) -> Vec<u8> {
    let last = u32::try_from(medium.sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    [last.to_be_bytes(), (SECTOR as u32).to_be_bytes()].concat()
}

/// MECHANISM STATUS: no changer; one slot, of which there is no table.
pub fn mechanism(tray_open: bool) -> Vec<u8> {
    vec![0, if tray_open { 0x10 } else { 0 }, 0, 0, 0, 1, 0, 0]
}

/// READ DISC INFORMATION: one finished session with one track.
pub fn disc() -> Vec<u8> {
    let mut data = vec![0, 32, 0x0E, 1, 1, 1, 1, 0x20];
    data.resize(34, 0);
    data
}

/// GET CONFIGURATION (MMC-2, section 6.1.4): the features from `start` on, by `kind` all of them, the current ones, or that one.
pub fn configuration(medium: Option<Medium>, kind: u8, start: u16) -> Option<Vec<u8>> {
    let profile = match medium {
        None => 0,
        Some(medium) if medium.sectors > LONGEST_CD => DVD_ROM,
        Some(_) => CD_ROM,
    };
    let listed = |one: u16| [&one.to_be_bytes()[..], &[u8::from(one == profile), 0]].concat();
    let profiles = [listed(DVD_ROM), listed(CD_ROM)].concat();
    // Number, version, whether it is always there, whether it is current now, data.
    let features: [(u16, u8, bool, bool, Vec<u8>); 5] = [
        (0x0000, 0, true, true, profiles),                       // the profiles
        (0x0001, 0, true, true, vec![0, 0, 0, 2]),               // core: ATAPI
        (0x0003, 0, true, true, vec![0x29, 0, 0, 0]),            // removable: tray, ejects, locks
        (0x001E, 0, false, profile == CD_ROM, vec![0, 0, 0, 0]), // reads CDs
        (0x001F, 0, false, profile == DVD_ROM, vec![]),          // reads DVDs
    ];
    let wanted = |number: u16, current: bool| match kind {
        0 => number >= start,
        1 => number >= start && current,
        _ => number == start,
    };
    if kind > 2 {
        return None;
    }
    let mut described = Vec::new();
    for (number, version, persistent, current, data) in features {
        if wanted(number, current) {
            described.extend(number.to_be_bytes());
            described.push(version << 2 | u8::from(persistent) << 1 | u8::from(current));
            described.push(data.len() as u8);
            described.extend(data);
        }
    }
    let mut answer = ((described.len() + 4) as u32).to_be_bytes().to_vec();
    answer.extend([0, 0]);
    answer.extend(profile.to_be_bytes());
    answer.extend(described);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inquiry_has_its_texts_in_place() {
        let data = inquiry();
        assert_eq!((data.len(), usize::from(data[4]) + 5), (36, 36));
        assert_eq!(data[8..16], *b"RVMM    ");
        assert_eq!(data[32..36], *b"1.0 ");
    }

    #[test]
    fn the_profile_is_the_disc_s() {
        let profile = |sectors| configuration(Some(Medium { sectors, read_only: true }), 0, 0).unwrap()[6..8].to_vec();
        assert_eq!(profile(1000), [0, 8]);
        assert_eq!(profile(1_000_000), [0, 16]);
        let none = configuration(None, 2, 0x0001).unwrap();
        assert_eq!(none, [0, 0, 0, 12, 0, 0, 0, 0, 0, 1, 3, 4, 0, 0, 0, 2]);
        assert_eq!(configuration(None, 3, 0), None);
        assert_eq!(configuration(None, 2, 0x1234).unwrap().len(), 8);
    }
}
