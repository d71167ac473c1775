//! The two-way map between a block's instructions and the guest's.

use super::layout::{NO_SHADOW, SCRATCH_WORDS};

bitflags::bitflags! {
    /// What to restore, from the scratch fields of the vCPU page, to stand at the guest boundary that an entry names.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Undo: u8 {
        /// EAX is in scratch word 0.
        const EAX = 1;
        /// ECX is in scratch word 1.
        const ECX = 2;
        /// The arithmetic flags are in scratch word 2: AH as LAHF leaves it, AL = 1 if OF was set.
        const FLAGS = 4;
        /// The instruction has pushed four bytes that do not count yet: ESP goes back up.
        const POP4 = 8;
        /// The virtual IF is to become scratch word 3, and virtual IOPL and AC zero: the POPF or IRET has happened otherwise.
        const VIF = 16;
        /// The instruction has passed over eight bytes that still count: ESP goes back down.
        const PUSH8 = 32;
        /// The boundary is not the entry's but scratch word 4: the IRET has happened, and goes there. No STI is right before it.
        const TARGET = 64;
        /// Nothing to restore, and the guest instruction's replacement begins here: a place to enter the block.
        const HEAD = 128;
    }
}

/// One instruction of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// Offset of the instruction in the block.
    pub at: u16,
    /// What to restore.
    pub undo: Undo,
    /// The guest boundary, relative to the linear address of the page that the region lies in; with [`Undo::TARGET`] that of
    /// the instruction that went away from here.
    pub guest: i32,
}

/// Instructions that a block can have.
pub const MAX_ENTRIES: usize = 56;

/// A block's address map: entries in the order of their offsets.
#[derive(Clone, Copy, Debug)]
pub struct BlockMap {
    entries: [MapEntry; MAX_ENTRIES],
    len: u8,
}

/// The registers and virtual flags that blocks use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "each is the register or vCPU page field of its name")]
pub struct BlockState {
    pub eax: u32,
    pub ecx: u32,
    pub esp: u32,
    pub eip: u32,
    pub eflags: u32,
    pub vif: u32,
    pub vflags: u32,
    pub shadow: u32,
}

/// SF, ZF, AF, PF, CF: the flags in AH after LAHF.
const LAHF_FLAGS: u32 = 0xD5;
/// OF.
const OVERFLOW: u32 = 0x800;

impl Default for BlockMap {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl BlockMap {
    /// A map without entries.
    pub const EMPTY: BlockMap =
        BlockMap { entries: [MapEntry { at: 0, undo: Undo::empty(), guest: 0 }; MAX_ENTRIES], len: 0 };

    /// The entries.
    pub fn entries(&self) -> &[MapEntry] {
        self.entries.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Add an entry; false if the map is full.
    pub(super) fn push(&mut self, entry: MapEntry) -> bool {
        match self.entries.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = entry;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The entry of the instruction at this offset of the block: `None` means that no instruction begins there.
    pub fn at(&self, offset: u16) -> Option<&MapEntry> {
        let entries = self.entries();
        entries.binary_search_by_key(&offset, |entry| entry.at).ok().and_then(|index| entries.get(index))
    }

    /// The offset at which to enter the block to run the guest instruction at `guest` (relative to its page).
    pub fn enter_at(&self, guest: i32) -> Option<u16> {
        self.entries()
            .iter()
            .find(|entry| entry.undo.contains(Undo::HEAD) && entry.guest == guest)
            .map(|entry| entry.at)
    }
}

impl MapEntry {
    /// Take a CPU that stopped before this instruction to the guest boundary. `page` is the linear address of the region's
    /// page, `scratch` the scratch words of the vCPU page.
    pub fn recover(&self, page: u64, scratch: &[u32; SCRATCH_WORDS], state: &mut BlockState) {
        let [eax, ecx, flags, vif, target] = *scratch;
        if self.undo.contains(Undo::EAX) {
            state.eax = eax;
        }
        if self.undo.contains(Undo::ECX) {
            state.ecx = ecx;
        }
        if self.undo.contains(Undo::FLAGS) {
            let saved = (flags >> 8) & LAHF_FLAGS | if flags & 1 != 0 { OVERFLOW } else { 0 };
            state.eflags = state.eflags & !(LAHF_FLAGS | OVERFLOW) | saved;
        }
        if self.undo.contains(Undo::POP4) {
            state.esp = state.esp.wrapping_add(4);
        }
        if self.undo.contains(Undo::VIF) {
            state.vif = vif & 0x200;
            state.vflags = 0;
        }
        if self.undo.contains(Undo::PUSH8) {
            state.esp = state.esp.wrapping_sub(8);
        }
        if self.undo.contains(Undo::TARGET) {
            state.eip = target;
            state.shadow = NO_SHADOW;
        } else {
            state.eip = (page as u32).wrapping_add_signed(self.guest);
        }
    }
}
