//! The table of contents of a disc with one data track (MMC-2, section 6.1.20).

use crate::devices::block::Medium;

/// The only track, and the only session.
const TRACK: u8 = 1;
/// The lead-out's track number.
const LEAD_OUT: u8 = 0xAA;
/// ADR 1 (the position is told), a data track that may not be copied.
const DATA_TRACK: u8 = 0x14;

/// The answer to READ TOC; `None` if there is no such format or track. `msf`: addresses as minutes, seconds and frames.
pub fn data(medium: Medium, format: u8, start: u8, msf: bool) -> Option<Vec<u8>> {
    let end = u32::try_from(medium.sectors).unwrap_or(u32::MAX);
    let entry = |track, lba| [&[0, DATA_TRACK, track, 0][..], &address(lba, msf)].concat();
    let entries = match (format, start) {
        (0, 0 | TRACK) => [entry(TRACK, 0), entry(LEAD_OUT, end)].concat(),
        (0, LEAD_OUT) => entry(LEAD_OUT, end),
        // The sessions: the first track of the last one.
        (1, _) => entry(TRACK, 0),
        (2, _) => full(end),
        _ => return None,
    };
    let length = (entries.len() + 2) as u16;
    Some([&length.to_be_bytes()[..], &[TRACK, TRACK], &entries].concat())
}

/// The entries of the lead-in: first track, last track, lead-out, and the track.
fn full(end: u32) -> Vec<u8> {
    let entry =
        |point, [_, minute, second, frame]: [u8; 4]| [1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame];
    let first = entry(0xA0, [0, TRACK, 0, 0]);
    let last = entry(0xA1, [0, TRACK, 0, 0]);
    [first, last, entry(0xA2, address(end, true)), entry(TRACK, address(0, true))].concat()
}

fn address(lba: u32, msf: bool) -> [u8; 4] {
    if !msf {
        return lba.to_be_bytes();
    }
    // Two seconds go before sector 0.
    let frames = lba.saturating_add(150);
    [0, (frames / 75 / 60).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIUM: Medium = Medium { sectors: 0x1234, read_only: true };

    #[test]
    fn one_track_and_the_lead_out() {
        let expected = [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 0x12, 0x34];
        assert_eq!(data(MEDIUM, 0, 0, false).unwrap(), expected);
        assert_eq!(data(MEDIUM, 0, 0xAA, false).unwrap(), [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 0x12, 0x34]);
        assert_eq!(data(MEDIUM, 0, 2, false), None);
        assert_eq!(data(MEDIUM, 4, 0, false), None);
    }

    #[test]
    fn addresses_may_be_minutes_seconds_and_frames() {
        // 4660 + 150 frames are 64 s and 10 frames.
        assert_eq!(data(MEDIUM, 0, 0xAA, true).unwrap()[8..], [0, 1, 4, 10]);
        assert_eq!(data(MEDIUM, 1, 0, true).unwrap(), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn the_full_table_has_four_points() {
        let full = data(MEDIUM, 2, 1, true).unwrap();
        assert_eq!(full.len(), 4 + 4 * 11);
        assert_eq!(full[..4], [0, 46, 1, 1]);
        let points: Vec<u8> = full[4..].chunks(11).map(|entry| entry[3]).collect();
        assert_eq!(points, [0xA0, 0xA1, 0xA2, 1]);
    }
}
