//! The multiboot 1 information (specification, section 3.3): one block of memory with all that it points to.

use vm_memory::{Bytes, GuestAddress};

use crate::boot::ground::Ground;
use crate::boot::picture::Picture;
use crate::boot::sections::Sections;
use crate::boot::{modules, too_small, unexpected, Failure, Payload};
use crate::memory::map::{Map, BAD, RESERVED};
use crate::memory::{GuestMemory, HIGH_START};

const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_SECTIONS: u32 = 1 << 5;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;
const HAS_FRAME_BUFFER: u32 = 1 << 12;

/// Where the block goes if nothing else is there: conventional memory, below what kernels that load low take.
const LOWEST: u64 = 0x9000;
/// The fixed part, up to the end of the frame buffer's colours.
const FIXED: usize = 120;
const MODULE_BYTES: usize = 16;

/// A module in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    pub start: u32,
    pub end: u32,
    pub module: &'a modules::Module,
}

/// What the kernel is told.
pub struct Information<'a> {
    pub map: &'a Map,
    pub command_line: &'a str,
    pub modules: &'a [Module<'a>],
    pub sections: Option<&'a Sections>,
    pub picture: Option<Picture>,
}

impl Information<'_> {
    /// Puts the block where there is room; its address.
    pub fn write(&self, memory: &GuestMemory, payload: &Payload<'_>, ground: &mut Ground) -> Result<u32, Failure> {
        let len = self.block(0).len() as u64;
        let Some(address) = ground.lowest(LOWEST, self.map.upper_end(), len, 16) else {
            return Err(too_small(payload, self.map.upper_end() + len, "the kernel and what it is told"));
        };
        memory.write_slice(&self.block(address as u32), GuestAddress(address)).map_err(unexpected)?;
        Ok(address as u32)
    }

    /// The block for address `base`.
    fn block(&self, base: u32) -> Vec<u8> {
        let mut block = Block { base, bytes: vec![0; FIXED] };
        let mut flags = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
        block.set(4, (self.map.lower_end().min(640 << 10) >> 10) as u32);
        block.set(8, (self.map.upper_end().saturating_sub(HIGH_START) >> 10) as u32);
        let command_line = block.text(self.command_line);
        block.set(16, command_line);
        let table = block.add(&vec![0; self.modules.len() * MODULE_BYTES]);
        block.set(20, self.modules.len() as u32);
        block.set(24, table);
        for (index, module) in self.modules.iter().enumerate() {
            let text = block.text(&module.module.text);
            let at = (table - base) as usize + index * MODULE_BYTES;
            for (field, value) in [module.start, module.end, text].into_iter().enumerate() {
                block.set(at + 4 * field, value);
            }
        }
        if let Some(sections) = self.sections {
            flags |= HAS_SECTIONS;
            let headers = block.add(&sections.headers);
            for (index, value) in
                [sections.count, sections.entry_bytes, headers, sections.names].into_iter().enumerate()
            {
                block.set(28 + 4 * index, value);
            }
        }
        let map = self.memory_map();
        let start = block.add(&map);
        block.set(44, map.len() as u32);
        block.set(48, start);
        let name = block.text("rvmm");
        block.set(64, name);
        if let Some(picture) = self.picture {
            flags |= HAS_FRAME_BUFFER;
            block.frame_buffer(&picture);
        }
        block.set(0, flags);
        block.bytes
    }

    fn memory_map(&self) -> Vec<u8> {
        let mut map = Vec::new();
        for entry in self.map.entries() {
            // `size` does not count itself.
            map.extend(20u32.to_le_bytes());
            map.extend(entry.start.to_le_bytes());
            map.extend(entry.len.to_le_bytes());
            map.extend((if entry.kind <= BAD { entry.kind } else { RESERVED }).to_le_bytes());
        }
        map
    }
}

/// The block while it is made.
struct Block {
    base: u32,
    bytes: Vec<u8>,
}

impl Block {
    fn set(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put(&mut self, at: usize, data: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + data.len()) {
            place.copy_from_slice(data);
        }
    }

    /// Adds `data` at a multiple of 8; its address.
    fn add(&mut self, data: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let address = self.base + self.bytes.len() as u32;
        self.bytes.extend_from_slice(data);
        address
    }

    fn text(&mut self, text: &str) -> u32 {
        let address = self.add(text.as_bytes());
        self.bytes.push(0);
        address
    }

    fn frame_buffer(&mut self, picture: &Picture) {
        let picture = picture.describe();
        self.put(88, &picture.address.to_le_bytes());
        for (at, value) in [(96, picture.pitch), (100, picture.width), (104, picture.height)] {
            self.set(at, value);
        }
        self.put(108, &[picture.depth, picture.kind]);
        // Where the specification's own multiboot.h has it, by alignment, and GRUB with it; the table of fields says 110.
        self.put(112, &picture.colours);
    }
}
