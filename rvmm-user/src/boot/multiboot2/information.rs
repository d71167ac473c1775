//! The multiboot 2 information (specification, section 3.6): a list of tags.

use vm_memory::{Bytes, GuestAddress};

use crate::boot::ground::Ground;
use crate::boot::multiboot::Module;
use crate::boot::picture::Picture;
use crate::boot::rsdp::Rsdp;
use crate::boot::sections::Sections;
use crate::boot::{too_small, unexpected, Failure, Payload};
use crate::memory::map::{Map, BAD, RESERVED};
use crate::memory::{GuestMemory, HIGH_START};

/// The tags' types.
pub mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY: u32 = 4;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAME_BUFFER: u32 = 8;
    pub const SECTIONS: u32 = 9;
    pub const OLD_RSDP: u32 = 14;
    pub const NEW_RSDP: u32 = 15;
    pub const BASE: u32 = 21;
}

/// Where the list goes if nothing else is there.
const LOWEST: u64 = 0x9000;
/// Size of a line of the memory map.
const MAP_ENTRY: u32 = 24;

/// What the kernel is told.
pub struct Information<'a> {
    pub map: &'a Map,
    pub command_line: &'a str,
    pub modules: &'a [Module<'a>],
    pub sections: Option<&'a Sections>,
    pub picture: Option<Picture>,
    pub rsdp: Option<&'a Rsdp>,
    /// Where a relocatable image has been loaded.
    pub base: Option<u32>,
}

impl Information<'_> {
    /// Puts the list where there is room; its address.
    pub fn write(&self, memory: &GuestMemory, payload: &Payload<'_>, ground: &mut Ground) -> Result<u32, Failure> {
        let list = self.list();
        let len = list.len() as u64;
        let Some(address) = ground.lowest(LOWEST, self.map.upper_end(), len, 8) else {
            return Err(too_small(payload, self.map.upper_end() + len, "the kernel and what it is told"));
        };
        memory.write_slice(&list, GuestAddress(address)).map_err(unexpected)?;
        Ok(address as u32)
    }

    fn list(&self) -> Vec<u8> {
        let mut list = List(vec![0; 8]);
        list.add(tag::COMMAND_LINE, &[self.command_line.as_bytes(), &[0]]);
        list.add(tag::LOADER_NAME, &[b"rvmm\0"]);
        let lower = (self.map.lower_end().min(640 << 10) >> 10) as u32;
        let upper = (self.map.upper_end().saturating_sub(HIGH_START) >> 10) as u32;
        list.add(tag::MEMORY, &[&words(&[lower, upper])]);
        for module in self.modules {
            // Its arguments without the file's name, as GRUB passes them.
            let text = module.module.arguments().as_bytes();
            list.add(tag::MODULE, &[&words(&[module.start, module.end]), text, &[0]]);
        }
        list.add(tag::MEMORY_MAP, &[&words(&[MAP_ENTRY, 0]), &self.memory_map()]);
        if let Some(picture) = self.picture {
            let picture = picture.describe();
            let sizes = words(&[picture.pitch, picture.width, picture.height]);
            let kind = [picture.depth, picture.kind, 0, 0];
            list.add(tag::FRAME_BUFFER, &[&picture.address.to_le_bytes(), &sizes, &kind, &picture.colours]);
        }
        if let Some(sections) = self.sections {
            let sizes = words(&[sections.count, sections.entry_bytes, sections.names]);
            list.add(tag::SECTIONS, &[&sizes, &sections.headers]);
        }
        if let Some(rsdp) = self.rsdp {
            list.add(if rsdp.extended { tag::NEW_RSDP } else { tag::OLD_RSDP }, &[&rsdp.bytes]);
        }
        if let Some(base) = self.base {
            list.add(tag::BASE, &[&words(&[base])]);
        }
        list.add(tag::END, &[]);
        list.finish()
    }

    fn memory_map(&self) -> Vec<u8> {
        let mut map = Vec::new();
        for entry in self.map.entries() {
            map.extend(entry.start.to_le_bytes());
            map.extend(entry.len.to_le_bytes());
            map.extend(words(&[if entry.kind <= BAD { entry.kind } else { RESERVED }, 0]));
        }
        map
    }
}

/// The list while it is made: its size and a reserved word, then tags, each at a multiple of 8.
struct List(Vec<u8>);

impl List {
    fn add(&mut self, kind: u32, parts: &[&[u8]]) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
        self.0.extend(words(&[kind, size as u32]));
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    fn finish(mut self) -> Vec<u8> {
        let size = self.0.len() as u32;
        if let Some(field) = self.0.get_mut(..4) {
            field.copy_from_slice(&size.to_le_bytes());
        }
        self.0
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}
