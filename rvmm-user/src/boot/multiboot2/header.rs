//! The multiboot 2 header in a kernel's file (Multiboot Specification 2.0, section 3.1).

use crate::boot::addresses::Addresses;
use crate::boot::picture::Wish;
use crate::error::ImageError;

const MAGIC: u32 = 0xE852_50D6;
/// The architecture i386: 32-bit protected mode at entry.
const I386: u32 = 0;
/// All of the header lies in the first 32 KiB.
const AREA: usize = 32768;
const ALIGN: usize = 8;
/// Magic, architecture, length, checksum.
const FIXED: usize = 16;

const END: u16 = 0;
const INFORMATION_REQUEST: u16 = 1;
const ADDRESS: u16 = 2;
const ENTRY: u16 = 3;
const CONSOLE: u16 = 4;
const FRAME_BUFFER: u16 = 5;
const MODULE_ALIGNMENT: u16 = 6;
const EFI_BOOT_SERVICES: u16 = 7;
/// Entry points for EFI count only where its boot services are kept (sections 3.1.8 and 3.1.9).
const EFI_ENTRIES: std::ops::RangeInclusive<u16> = 8..=9;
const RELOCATABLE: u16 = 10;
/// A tag's flag: a loader that does not know it may go on.
const OPTIONAL: u16 = 1;

/// Where a relocatable image may go (section 3.1.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocatable {
    pub min: u32,
    pub max: u32,
    pub align: u32,
    pub preference: Preference,
}

/// Where it would like to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    None,
    Lowest,
    Highest,
}

/// What a kernel wants of the display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// It cannot do without one.
    pub required: bool,
    /// It can do with text.
    pub text: bool,
}

/// What the header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub addresses: Option<Addresses>,
    pub entry: Option<u32>,
    pub relocatable: Option<Relocatable>,
    pub console: Option<Console>,
    /// The frame buffer that it would like to have, and whether it can do without.
    pub frame_buffer: Option<(Wish, bool)>,
    /// Information that it cannot do without, by the tags' types.
    pub required: Vec<u32>,
}

impl Header {
    /// The header, if there is one.
    pub fn find(file: &[u8]) -> Result<Option<Header>, ImageError> {
        let area = file.get(..file.len().min(AREA)).unwrap_or(file);
        if let Some(offset) = (0..area.len()).step_by(ALIGN).find(|offset| is_header(area, *offset)) {
            return Header::read(area, offset).map(Some);
        }
        // None: but perhaps something that was meant to be one.
        if (0..area.len()).step_by(ALIGN).any(|offset| word(area, offset) == Some(MAGIC)) {
            return Err(ImageError::MultibootHeader("its checksum is wrong"));
        }
        if (0..file.len()).any(|offset| is_header(file, offset)) {
            return Err(ImageError::MultibootHeader("it must be in the first 32 KiB, at a multiple of 8"));
        }
        Ok(None)
    }

    fn read(area: &[u8], offset: usize) -> Result<Header, ImageError> {
        if word(area, offset + 4) != Some(I386) {
            return Err(ImageError::MultibootHeader("it is for another architecture than i386"));
        }
        let len = word(area, offset + 8).unwrap_or(0) as usize;
        let tags = area
            .get(offset..)
            .and_then(|rest| rest.get(FIXED..len))
            .ok_or(ImageError::MultibootHeader("it does not end in the first 32 KiB of the file"))?;
        let mut header = Header::default();
        let mut rest = tags;
        loop {
            let tag =
                Tag::first(rest).ok_or(ImageError::MultibootHeader("it has no end tag, or a tag with a wrong size"))?;
            if tag.kind == END {
                return Ok(header);
            }
            header.take(&tag, offset)?;
            let next = (FIXED_TAG + tag.data.len()).next_multiple_of(ALIGN);
            rest = rest.get(next..).unwrap_or_default();
        }
    }

    fn take(&mut self, tag: &Tag<'_>, offset: usize) -> Result<(), ImageError> {
        let field =
            |index: usize| word(tag.data, 4 * index).ok_or(ImageError::MultibootHeader("one of its tags is too short"));
        match tag.kind {
            INFORMATION_REQUEST if !tag.optional => {
                let types = tag.data.chunks_exact(4).filter_map(|bytes| word(bytes, 0));
                self.required.extend(types);
            }
            INFORMATION_REQUEST | MODULE_ALIGNMENT => {}
            ADDRESS => {
                self.addresses = Some(Addresses {
                    header_offset: offset as u32,
                    header: field(0)?,
                    load: field(1)?,
                    load_end: field(2)?,
                    bss_end: field(3)?,
                });
            }
            ENTRY => self.entry = Some(field(0)?),
            CONSOLE => {
                let flags = field(0)?;
                self.console = Some(Console { required: flags & 1 != 0, text: flags & 2 != 0 });
            }
            FRAME_BUFFER => {
                let wish = Wish { text: false, width: field(0)?, height: field(1)?, depth: field(2)? };
                self.frame_buffer = Some((wish, tag.optional));
            }
            RELOCATABLE => {
                let preference = match field(3)? {
                    1 => Preference::Lowest,
                    2 => Preference::Highest,
                    _ => Preference::None,
                };
                self.relocatable = Some(Relocatable { min: field(0)?, max: field(1)?, align: field(2)?, preference });
            }
            kind if EFI_ENTRIES.contains(&kind) || tag.optional => {}
            EFI_BOOT_SERVICES => {
                return Err(ImageError::MultibootHeader("it asks for EFI's boot services, and this machine has a BIOS"))
            }
            kind => return Err(ImageError::MultibootTag(kind)),
        }
        Ok(())
    }
}

const FIXED_TAG: usize = 8;

struct Tag<'a> {
    kind: u16,
    optional: bool,
    /// What is behind type, flags and size.
    data: &'a [u8],
}

impl<'a> Tag<'a> {
    fn first(bytes: &'a [u8]) -> Option<Tag<'a>> {
        let kind = word(bytes, 0)?;
        let size = word(bytes, 4)? as usize;
        let data = bytes.get(FIXED_TAG..size)?;
        Some(Tag { kind: kind as u16, optional: (kind >> 16) as u16 & OPTIONAL != 0, data })
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn is_header(bytes: &[u8], offset: usize) -> bool {
    if word(bytes, offset) != Some(MAGIC) {
        return false;
    }
    let sum =
        (0..4).map(|index| word(bytes, offset + 4 * index)).try_fold(0u32, |sum, word| Some(sum.wrapping_add(word?)));
    sum == Some(0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, tag};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_found_in_the_first_32_kib() {
        assert_eq!(Header::find(&file(0, &[tag(0, 0, &[])])), Ok(Some(Header::default())));
        assert_eq!(Header::find(&file(32768 - 24, &[tag(0, 0, &[])])), Ok(Some(Header::default())));
        for offset in [4, 32768 - 16, 32768, 100_001] {
            let error = Header::find(&file(offset, &[tag(0, 0, &[])])).unwrap_err();
            assert!(matches!(error, ImageError::MultibootHeader(_)), "{offset}");
        }
        assert_eq!(Header::find(&[0; 40000]), Ok(None));
        let mut broken = file(64, &[tag(0, 0, &[])]);
        broken[64 + 12] ^= 1;
        assert_eq!(Header::find(&broken), Err(ImageError::MultibootHeader("its checksum is wrong")));
    }

    #[test]
    fn tags_are_read() {
        let tags = [
            tag(1, 0, &[4, 6]),
            tag(1, 1, &[99]),
            tag(2, 0, &[0x10_0000, 0x10_0000, 0, 0]),
            tag(3, 0, &[0x10_0040]),
            tag(4, 0, &[3]),
            tag(5, 1, &[800, 600, 32]),
            tag(6, 0, &[]),
            tag(9, 0, &[1]),
            tag(10, 0, &[0x20_0000, 0x40_0000, 0x1000, 2]),
            tag(77, 1, &[1, 2, 3]),
            tag(0, 0, &[]),
        ];
        let header = Header::find(&file(8, &tags)).unwrap().unwrap();
        assert_eq!(header.required, [4, 6]);
        assert_eq!((header.addresses.unwrap().header_offset, header.entry), (8, Some(0x10_0040)));
        assert_eq!(header.console, Some(Console { required: true, text: true }));
        assert_eq!(header.frame_buffer, Some((Wish { text: false, width: 800, height: 600, depth: 32 }, true)));
        assert_eq!(header.relocatable.unwrap().preference, Preference::Highest);
    }

    #[test]
    fn what_a_kernel_requires_is_known_or_refused() {
        let with = |tags: &[Vec<u8>]| Header::find(&file(0, tags)).err();
        assert_eq!(with(&[tag(77, 0, &[]), tag(0, 0, &[])]), Some(ImageError::MultibootTag(77)));
        assert!(matches!(with(&[tag(7, 0, &[]), tag(0, 0, &[])]), Some(ImageError::MultibootHeader(_))));
        assert!(matches!(with(&[tag(3, 0, &[]), tag(0, 0, &[])]), Some(ImageError::MultibootHeader(_))));
        assert!(matches!(with(&[tag(6, 0, &[])]), Some(ImageError::MultibootHeader(_))), "no end");
        let mut mips = file(0, &[tag(0, 0, &[])]);
        mips[4] = 4;
        mips[12] -= 4;
        assert!(matches!(Header::find(&mips), Err(ImageError::MultibootHeader(_))));
    }

    proptest! {
        #[test]
        fn no_tags_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), offset in 0usize..100) {
            let mut all = file(offset * 8, &[bytes]);
            let _ = Header::find(&all);
            all.truncate(all.len().saturating_sub(30));
            let _ = Header::find(&all);
        }
    }
}
