//! What the loaders of ELF files share: program headers, and how they are loaded.

use std::ops::Range;

use elf::abi::{EM_386, EM_X86_64, ET_EXEC, PT_LOAD};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use elf::ElfBytes;

use super::ground::Ground;
use super::{place, Failure, Payload};
use crate::error::ImageError;
use crate::memory::{GuestMemory, HIGH_START};

/// An executable for this machine.
pub struct Executable<'a> {
    pub elf: ElfBytes<'a, AnyEndian>,
    /// For x86-64.
    pub sixty_four_bit: bool,
}

/// An image in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The physical address where it is to be entered, if it says one that it has.
    pub entry: Option<u64>,
    /// First byte behind all of it, or 1 MiB if that is more.
    pub end: u64,
}

pub(super) fn damaged(error: elf::ParseError) -> Failure {
    Failure::Image(ImageError::Elf(error.to_string()))
}

impl<'a> Executable<'a> {
    /// Looks at the headers.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, Failure> {
        let elf = ElfBytes::<AnyEndian>::minimal_parse(file).map_err(damaged)?;
        let sixty_four_bit = match (elf.ehdr.class, elf.ehdr.e_machine) {
            (Class::ELF32, EM_386) => false,
            (Class::ELF64, EM_X86_64) => true,
            (_, machine) => return Err(ImageError::Architecture(machine).into()),
        };
        if elf.ehdr.e_type != ET_EXEC {
            return Err(ImageError::Elf("it is not an executable".into()).into());
        }
        Ok(Executable { elf, sixty_four_bit })
    }

    pub(super) fn segments(&self) -> Result<impl Iterator<Item = ProgramHeader> + 'a, Failure> {
        let segments = self.elf.segments().ok_or_else(|| ImageError::Elf("it has no program headers".into()))?;
        Ok(segments.iter())
    }

    fn loadable(&self) -> Result<impl Iterator<Item = ProgramHeader> + 'a, Failure> {
        Ok(self.segments()?.filter(|segment| segment.p_type == PT_LOAD))
    }

    /// The physical addresses that the segments were linked for, from the first to the last.
    pub(super) fn extent(&self) -> Result<Range<u64>, Failure> {
        let (mut start, mut end) = (u64::MAX, 0);
        for segment in self.loadable()? {
            start = start.min(segment.p_paddr);
            end = segment.p_paddr.saturating_add(segment.p_memsz).max(end);
        }
        Ok(start.min(end)..end)
    }

    /// Copies the segments to their physical addresses, all of them `shift` bytes higher (modulo 2^64).
    pub(super) fn load(
        &self,
        memory: &GuestMemory,
        payload: &Payload<'_>,
        ground: &mut Ground,
        shift: u64,
    ) -> Result<Loaded, Failure> {
        let mut loaded = Loaded { entry: None, end: HIGH_START };
        for segment in self.loadable()? {
            let start = segment.p_paddr.wrapping_add(shift);
            let data = self.elf.segment_data(&segment).map_err(damaged)?;
            if segment.p_filesz > segment.p_memsz {
                return Err(ImageError::Elf("a segment is larger in the file than in memory".into()).into());
            }
            place::put(memory, payload, start, data, segment.p_memsz)?;
            let end = start.saturating_add(segment.p_memsz);
            ground.take(start..end);
            loaded.end = loaded.end.max(end);
            // The entry point is a linear address; it is reached before paging, at the segment's physical one.
            let offset = self.elf.ehdr.e_entry.wrapping_sub(segment.p_vaddr);
            if offset < segment.p_memsz {
                loaded.entry = start.checked_add(offset);
            }
        }
        Ok(loaded)
    }
}
