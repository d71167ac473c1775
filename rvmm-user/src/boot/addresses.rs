//! Images whose multiboot header says where they are loaded: a.out files and plain binaries (Multiboot Specification 0.6.96, section 3.1.3;
//! version 2.0, section 3.1.5).

use std::ops::Range;

use super::elf::Loaded;
use super::ground::Ground;
use super::{place, Failure, Payload};
use crate::error::ImageError;
use crate::memory::{GuestMemory, HIGH_START};

/// The header's address fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where the header is in the file.
    pub header_offset: u32,
    pub header: u32,
    /// Where the header's text section begins; in version 2 `u32::MAX` for the beginning of the file.
    pub load: u32,
    /// 0: up to the end of the file.
    pub load_end: u32,
    /// 0: there is no bss section.
    pub bss_end: u32,
}

/// What they mean: which part of the file goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    offset: u64,
    start: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

impl Addresses {
    /// The plan for a file of `file_len` bytes.
    pub(super) fn plan(&self, file_len: u64) -> Result<Plan, ImageError> {
        let wrong = |what| ImageError::MultibootHeader(what);
        let [header_offset, header, load, load_end, bss_end] =
            [self.header_offset, self.header, self.load, self.load_end, self.bss_end].map(u64::from);
        let before = if self.load == u32::MAX {
            header_offset
        } else {
            header.checked_sub(load).ok_or(wrong("load_addr lies behind header_addr"))?
        };
        let start = header.checked_sub(before).ok_or(wrong("the file would begin below address 0"))?;
        let offset = header_offset
            .checked_sub(before)
            .ok_or(wrong("load_addr is farther from header_addr than the header from the file's beginning"))?;
        let file_bytes = match load_end {
            0 => file_len.saturating_sub(offset),
            end => end.checked_sub(start).ok_or(wrong("load_end_addr lies before load_addr"))?,
        };
        if offset + file_bytes > file_len {
            return Err(ImageError::Truncated { have: file_len, need: offset + file_bytes });
        }
        let memory_bytes = match bss_end {
            0 => file_bytes,
            end => end.checked_sub(start).filter(|size| *size >= file_bytes).ok_or(wrong("bss_end_addr is too low"))?,
        };
        Ok(Plan { offset, start, file_bytes, memory_bytes })
    }
}

impl Plan {
    /// The physical addresses that the image was made for.
    pub(super) fn extent(&self) -> Range<u64> {
        self.start..self.start + self.memory_bytes
    }

    /// Loads the image, `shift` bytes higher (modulo 2^64).
    pub(super) fn load(
        &self,
        memory: &GuestMemory,
        payload: &Payload<'_>,
        ground: &mut Ground,
        shift: u64,
    ) -> Result<Loaded, Failure> {
        let (from, len) = (self.offset as usize, self.file_bytes as usize);
        let data = payload.kernel.get(from..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        let start = self.start.wrapping_add(shift);
        place::put(memory, payload, start, data, self.memory_bytes)?;
        let end = start.saturating_add(self.memory_bytes);
        ground.take(start..end);
        Ok(Loaded { entry: None, end: end.max(HIGH_START) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(load: u32, load_end: u32, bss_end: u32) -> Addresses {
        Addresses { header_offset: 0x40, header: 0x10_0020, load, load_end, bss_end }
    }

    #[test]
    fn fields_that_are_0_mean_the_rest_of_the_file_and_nothing_behind() {
        let plan = addresses(0x10_0000, 0, 0).plan(0x1000).unwrap();
        assert_eq!(plan, Plan { offset: 0x20, start: 0x10_0000, file_bytes: 0xFE0, memory_bytes: 0xFE0 });
        let plan = addresses(0x10_0020, 0x10_0120, 0x10_2020).plan(0x1000).unwrap();
        assert_eq!(plan, Plan { offset: 0x40, start: 0x10_0020, file_bytes: 0x100, memory_bytes: 0x2000 });
        let plan = addresses(u32::MAX, 0, 0).plan(0x1000).unwrap();
        assert_eq!(plan, Plan { offset: 0, start: 0xF_FFE0, file_bytes: 0x1000, memory_bytes: 0x1000 });
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        for fields in [(0x10_0021, 0, 0), (0xF_0000, 0, 0), (0x10_0000, 0xF_FFFF, 0), (0x10_0000, 0x10_0100, 0x10_00FF)]
        {
            let error = addresses(fields.0, fields.1, fields.2).plan(0x1000).unwrap_err();
            assert!(matches!(error, ImageError::MultibootHeader(_)), "{fields:x?}: {error}");
        }
        let error = addresses(0x10_0000, 0x10_1000, 0).plan(0x1000).unwrap_err();
        assert_eq!(error, ImageError::Truncated { have: 0x1000, need: 0x1020 });
    }

    proptest! {
        #[test]
        fn no_fields_reach_beyond_the_file(header_offset in 0u32..0x2000, header: u32, load: u32, load_end: u32, bss_end: u32, len in 0u64..0x1_0000) {
            let addresses = Addresses { header_offset, header, load, load_end, bss_end };
            if let Ok(plan) = addresses.plan(len) {
                prop_assert!(plan.offset + plan.file_bytes <= len.max(plan.offset) && plan.file_bytes <= plan.memory_bytes);
            }
        }
    }
}
