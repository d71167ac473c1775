//! Mode pages (MMC-2, section 5.5; SFF-8020i, section 10.8.6).

use super::sense::Sense;
use super::Cdrom;

/// The pages that there are.
const PAGES: [u8; 4] = [0x01, 0x0D, 0x0E, 0x2A];
const ALL: u8 = 0x3F;

/// The answer to MODE SENSE (10). `select` is byte 2 of the packet: page, and which of its values.
pub fn sense(drive: &Cdrom, select: u8) -> Result<Vec<u8>, Sense> {
    let (control, wanted) = (select >> 6, select & 0x3F);
    if control == 3 {
        return Err(Sense::NO_SAVING);
    }
    let mut pages = Vec::new();
    for code in PAGES.into_iter().filter(|code| wanted == ALL || wanted == *code) {
        let mut page = page(drive, code);
        if control == 1 {
            // What can be changed: nothing.
            page.iter_mut().skip(2).for_each(|byte| *byte = 0);
        }
        pages.extend(page);
    }
    if pages.is_empty() {
        return Err(Sense::INVALID_FIELD);
    }
    // SFF-8020i, table 69: a data disc of 120 mm, no disc, door open.
    let medium_type = match (drive.tray_open, drive.medium) {
        (true, _) => 0x71,
        (false, None) => 0x70,
        (false, Some(_)) => 0x01,
    };
    let length = (pages.len() + 6) as u16;
    let mut answer = length.to_be_bytes().to_vec();
    answer.extend([medium_type, 0, 0, 0, 0, 0]);
    answer.extend(pages);
    Ok(answer)
}

fn page(drive: &Cdrom, code: u8) -> Vec<u8> {
    match code {
        // Error recovery: one retry.
        0x01 => vec![0x01, 6, 0, 1, 0, 0, 0, 0],
        // The drive's own: 60 seconds a minute, 75 frames a second.
        0x0D => vec![0x0D, 6, 0, 0, 0, 60, 0, 75],
        // Audio: both ports at full volume.
        0x0E => vec![0x0E, 14, 4, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0],
        // Capabilities: reads CD-R and CD-RW; locks, ejects, tray; 706 KB/s (four times), 512 KiB of buffer.
        _ => {
            let lock = 0x29 | if drive.locked { 0x02 } else { 0 };
            let [high, low] = 706u16.to_be_bytes();
            let [buffer_high, buffer_low] = 512u16.to_be_bytes();
            vec![0x2A, 18, 0x03, 0, 0, 0, lock, 0, high, low, 0, 2, buffer_high, buffer_low, high, low, 0, 0, 0, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::ide::Place;

    #[test]
    fn pages_come_behind_a_header() {
        let drive = Cdrom::new(None, Place { channel: 1, drive: 0 });
        let capabilities = sense(&drive, 0x2A).unwrap();
        assert_eq!(capabilities[..10], [0, 26, 0x70, 0, 0, 0, 0, 0, 0x2A, 18]);
        assert_eq!(capabilities.len(), 28);
        assert_eq!(sense(&drive, 0x3F).unwrap().len(), 8 + 8 + 8 + 16 + 20);
        assert_eq!(sense(&drive, 0x05), Err(Sense::INVALID_FIELD));
        assert_eq!(sense(&drive, 0xEA), Err(Sense::NO_SAVING));
        assert!(sense(&drive, 0x6A).unwrap()[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_page_says_its_length() {
        let drive = Cdrom::new(None, Place { channel: 1, drive: 0 });
        for code in PAGES {
            let page = page(&drive, code);
            assert_eq!((page[0], usize::from(page[1]) + 2), (code, page.len()));
        }
    }
}
