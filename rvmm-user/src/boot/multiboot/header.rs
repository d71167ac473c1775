//! The multiboot 1 header in a kernel's file (Multiboot Specification 0.6.96, section 3.1).

use crate::boot::addresses::Addresses;
use crate::boot::picture::Wish;
use crate::error::ImageError;

const MAGIC: u32 = 0x1BAD_B002;
/// All of the header lies in the first 8 KiB.
const AREA: usize = 8192;

/// Requirements are bits 15–0: page-aligned modules and memory information, which all kernels get, and a video mode.
const KNOWN_REQUIREMENTS: u32 = 0b111;
const REQUIREMENTS: u32 = 0xFFFF;
const WANTS_VIDEO: u32 = 1 << 2;
/// The address fields are valid.
const HAS_ADDRESSES: u32 = 1 << 16;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub flags: u32,
    /// Where the image is loaded and entered, if it is not an ELF file that says so.
    pub addresses: Option<(Addresses, u32)>,
    pub video: Option<Wish>,
}

impl Header {
    /// The header, if there is one.
    pub fn find(file: &[u8]) -> Result<Option<Header>, ImageError> {
        let area = file.get(..file.len().min(AREA)).unwrap_or(file);
        if let Some(offset) = (0..area.len()).step_by(4).find(|offset| is_header(area, *offset)) {
            return Header::read(area, offset).map(Some);
        }
        // None: but perhaps something that was meant to be one.
        if (0..area.len()).step_by(4).any(|offset| word(area, offset) == Some(MAGIC)) {
            return Err(ImageError::MultibootHeader("its checksum is wrong"));
        }
        if (0..file.len()).any(|offset| is_header(file, offset)) {
            return Err(ImageError::MultibootHeader("it must be in the first 8 KiB, at a multiple of 4"));
        }
        Ok(None)
    }

    fn read(area: &[u8], offset: usize) -> Result<Header, ImageError> {
        let field = |index: usize| {
            word(area, offset + 4 * index)
                .ok_or(ImageError::MultibootHeader("it does not end in the first 8 KiB of the file"))
        };
        let flags = field(1)?;
        if flags & REQUIREMENTS & !KNOWN_REQUIREMENTS != 0 {
            return Err(ImageError::MultibootFlags(flags));
        }
        let addresses = match flags & HAS_ADDRESSES {
            0 => None,
            _ => {
                let fields = Addresses {
                    header_offset: offset as u32,
                    header: field(3)?,
                    load: field(4)?,
                    load_end: field(5)?,
                    bss_end: field(6)?,
                };
                Some((fields, field(7)?))
            }
        };
        let video = match flags & WANTS_VIDEO {
            0 => None,
            _ => Some(Wish { text: field(8)? == 1, width: field(9)?, height: field(10)?, depth: field(11)? }),
        };
        Ok(Header { flags, addresses, video })
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn is_header(bytes: &[u8], offset: usize) -> bool {
    let field = |index: usize| word(bytes, offset + 4 * index);
    match (field(0), field(1), field(2)) {
        (Some(MAGIC), Some(flags), Some(checksum)) => MAGIC.wrapping_add(flags).wrapping_add(checksum) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(offset: usize, flags: u32, fields: &[u32]) -> Vec<u8> {
        let mut file = vec![0; offset];
        for word in [MAGIC, flags, 0u32.wrapping_sub(MAGIC.wrapping_add(flags))].iter().chain(fields) {
            file.extend(word.to_le_bytes());
        }
        file
    }

    #[test]
    fn a_header_is_found_in_the_first_8_kib() {
        let plain = Header { flags: 3, addresses: None, video: None };
        assert_eq!(Header::find(&file(0, 3, &[])), Ok(Some(plain)));
        assert_eq!(Header::find(&file(8180, 3, &[])), Ok(Some(plain)));
        for offset in [8184, 8192, 6, 100_001] {
            assert!(matches!(Header::find(&file(offset, 3, &[])), Err(ImageError::MultibootHeader(_))), "{offset}");
        }
        assert_eq!(Header::find(&[0; 9000]), Ok(None));
        assert_eq!(Header::find(&[]), Ok(None));
        let mut broken = file(64, 3, &[]);
        broken[72] ^= 1;
        assert_eq!(Header::find(&broken), Err(ImageError::MultibootHeader("its checksum is wrong")));
    }

    #[test]
    fn what_a_kernel_requires_is_known_or_refused() {
        for bit in 0..32 {
            let found = Header::find(&file(0, 1 << bit, &[0; 9]));
            let refused = found == Err(ImageError::MultibootFlags(1 << bit));
            assert_eq!(refused, (3..16).contains(&bit), "bit {bit}");
        }
    }

    #[test]
    fn fields_behind_the_checksum_count_where_a_flag_says_so() {
        let fields = [0x10_0000, 0x10_0000, 0x10_1000, 0x10_2000, 0x10_0030, 0, 800, 600, 32];
        let header = Header::find(&file(16, 0x1_0004, &fields)).unwrap().unwrap();
        let (addresses, entry) = header.addresses.unwrap();
        assert_eq!((addresses.header_offset, addresses.bss_end, entry), (16, 0x10_2000, 0x10_0030));
        assert_eq!(header.video, Some(Wish { text: false, width: 800, height: 600, depth: 32 }));
        assert!(Header::find(&file(8192 - 40, 0x1_0004, &fields)).is_err(), "its end is too far behind");
        assert!(Header::find(&file(16, 4, &[])).is_err());
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), offset in 0usize..9000, flags: u32) {
            let mut all = file(offset, flags, &[]);
            all.extend(bytes);
            let _ = Header::find(&all);
        }
    }
}
