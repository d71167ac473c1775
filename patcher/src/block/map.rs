//! The two-way map between a block's instructions and the guest's.

use super::layout::{NO_SHADOW, SCRATCH_WORDS};
use crate::page::CodeSize;

bitflags::bitflags! {
    /// What to restore, from the scratch fields of the vCPU page, to stand at the guest boundary that an entry names. A word is
    /// four bytes in 32-bit code and eight in 64-bit code.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Undo: u16 {
        /// RAX is in scratch word 0.
        const RAX = 1;
        /// RCX is in scratch word 1.
        const RCX = 2;
        /// The arithmetic flags are in scratch word 2: AH as LAHF leaves it, AL = 1 if OF was set.
        const FLAGS = 4;
        /// The instruction has pushed a word that does not count yet: RSP goes back up.
        const PUSHED = 8;
        /// The virtual IF is to become scratch word 3, and virtual IOPL and AC zero: the POPF or IRET has happened otherwise.
        const VIF = 16;
        /// The instruction has passed over two words that still count: RSP goes back down.
        const PASSED = 32;
        /// The boundary is not the entry's but scratch word 4, and in 64-bit code RSP is scratch word 5: the IRET has happened,
        /// and goes there. No STI is right before it.
        const TARGET = 64;
        /// Nothing to restore, and the guest instruction's replacement begins here: a place to enter the block.
        const HEAD = 128;
        /// The kernel GS base is to become scratch word 6: the SWAPGS has happened otherwise.
        const GS = 256;
        /// RCX is in scratch word 7, and R11 in word 8: ring 0 was called and has left it to the VMM.
        const CALL = 512;
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

/// Instructions that a block can have: enough for a PUSHFQ, what pushes the rest of a frame, and the IRETQ to it.
pub const MAX_ENTRIES: usize = 76;

/// A block's address map: entries in the order of their offsets.
#[derive(Clone, Copy, Debug)]
pub struct BlockMap {
    entries: [MapEntry; MAX_ENTRIES],
    len: u8,
}

/// The registers and virtual flags that blocks use. In 32-bit code the upper halves of the registers are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "each is the register or vCPU page field of its name")]
pub struct BlockState {
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub r11: u64,
    pub rip: u64,
    pub rflags: u64,
    pub vif: u32,
    pub vflags: u32,
    pub shadow: u64,
    pub kernel_gs: u64,
}

/// SF, ZF, AF, PF, CF: the flags in AH after LAHF.
const LAHF_FLAGS: u64 = 0xD5;
/// OF.
const OVERFLOW: u64 = 0x800;

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
    /// Take a CPU that stopped before this instruction of a block of `size` to the guest boundary. `page` is the linear address of
    /// the region's page, `scratch` the scratch words of the vCPU page.
    pub fn recover(&self, size: CodeSize, page: u64, scratch: &[u64; SCRATCH_WORDS], state: &mut BlockState) {
        let [rax, rcx, flags, vif, target, rsp, old_gs, call_rcx, call_r11, ..] = *scratch;
        let wide = size == CodeSize::Bits64;
        let (word, mask) = if wide { (8, u64::MAX) } else { (4, 0xFFFF_FFFF) };
        if self.undo.contains(Undo::RAX) {
            state.rax = rax & mask;
        }
        if self.undo.contains(Undo::RCX) {
            state.rcx = rcx & mask;
        }
        if self.undo.contains(Undo::CALL) {
            (state.rcx, state.r11) = (call_rcx, call_r11);
        }
        if self.undo.contains(Undo::FLAGS) {
            let saved = (flags >> 8) & LAHF_FLAGS | if flags & 1 != 0 { OVERFLOW } else { 0 };
            state.rflags = state.rflags & !(LAHF_FLAGS | OVERFLOW) | saved;
        }
        if self.undo.contains(Undo::PUSHED) {
            state.rsp = state.rsp.wrapping_add(word) & mask;
        }
        if self.undo.contains(Undo::VIF) {
            state.vif = vif as u32 & 0x200;
            state.vflags = 0;
        }
        if self.undo.contains(Undo::PASSED) {
            state.rsp = state.rsp.wrapping_sub(2 * word) & mask;
        }
        if self.undo.contains(Undo::GS) {
            state.kernel_gs = old_gs;
        }
        if self.undo.contains(Undo::TARGET) {
            state.rip = target & mask;
            state.shadow = NO_SHADOW;
            if wide {
                state.rsp = rsp;
            }
        } else {
            state.rip = page.wrapping_add_signed(i64::from(self.guest)) & mask;
        }
    }
}
