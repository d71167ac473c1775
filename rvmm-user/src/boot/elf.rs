//! What the loaders of ELF files share: program headers, and how they are loaded.

use elf::abi::{EM_386, EM_X86_64, ET_EXEC, PT_LOAD};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use elf::ElfBytes;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{too_small, unexpected, Failure, Payload};
use crate::error::ImageError;
use crate::memory::{GuestMemory, HIGH_START, HOLE_START};

/// An executable for this machine.
pub struct Executable<'a> {
    pub elf: ElfBytes<'a, AnyEndian>,
    /// For x86-64.
    pub sixty_four_bit: bool,
}

/// What [`Executable::load`] did.
pub struct Loaded {
    /// The physical address of the ELF header's entry point, if one of the segments holds it.
    pub entry: Option<u64>,
    /// First byte behind all segments.
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

    /// Copies the segments to their physical addresses.
    pub(super) fn load(&self, memory: &GuestMemory, payload: &Payload<'_>) -> Result<Loaded, Failure> {
        let mut loaded = Loaded { entry: None, end: HIGH_START };
        for segment in self.segments()?.filter(|segment| segment.p_type == PT_LOAD) {
            self.load_segment(memory, payload, &segment)?;
            loaded.end = loaded.end.max(segment.p_paddr + segment.p_memsz);
            // The entry point is a linear address; it is reached before paging, at the segment's physical one.
            let offset = self.elf.ehdr.e_entry.wrapping_sub(segment.p_vaddr);
            if offset < segment.p_memsz {
                loaded.entry = Some(segment.p_paddr + offset);
            }
        }
        Ok(loaded)
    }

    fn load_segment(
        &self,
        memory: &GuestMemory,
        payload: &Payload<'_>,
        segment: &ProgramHeader,
    ) -> Result<(), Failure> {
        let data = self.elf.segment_data(segment).map_err(damaged)?;
        if segment.p_filesz > segment.p_memsz {
            return Err(ImageError::Elf("a segment is larger in the file than in memory".into()).into());
        }
        let (start, size) = (segment.p_paddr, segment.p_memsz);
        let end = start.saturating_add(size);
        if start >= HIGH_START && end > payload.memory_bytes && end <= HOLE_START {
            return Err(too_small(payload, end, "the kernel"));
        }
        if !memory.check_range(GuestAddress(start), size as usize) {
            return Err(ImageError::Segment { start, end }.into());
        }
        memory.write_slice(data, GuestAddress(start)).map_err(unexpected)?;
        let rest = vec![0; (size - segment.p_filesz) as usize];
        memory.write_slice(&rest, GuestAddress(start + segment.p_filesz)).map_err(unexpected)?;
        Ok(())
    }
}
