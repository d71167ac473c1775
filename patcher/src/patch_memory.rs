//! Patch memory: who has which bytes of it, and which block an address belongs to.
//!
//! The caller owns the memory itself and the storage of the tables; this sees addresses only.

use crate::block::BlockMap;
use crate::page::{CodeSize, Span};
use crate::tactic::JumpConstraint;

/// Patch memory is handed out in pieces of this size; a block may begin at any byte of its first piece.
pub const GRANULE: usize = 64;

/// A block's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockId(u16);

impl BlockId {
    /// The number, an index into the block table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A block in patch memory.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Linear address of its first byte.
    pub address: u64,
    /// Bytes of code.
    pub len: u16,
    /// The code's size.
    pub code_size: CodeSize,
    /// Linear address of the guest page that its region lies in.
    pub page: u64,
    /// The region.
    pub region: Span,
    /// What the installer said.
    pub owner: u32,
    /// The address map.
    pub map: BlockMap,
}

impl Block {
    /// A slot of the block table without a block.
    pub const FREE: Block = Block {
        address: 0,
        len: 0,
        code_size: CodeSize::Bits32,
        page: 0,
        region: Span::EMPTY,
        owner: 0,
        map: BlockMap::EMPTY,
    };

    const fn is_free(&self) -> bool {
        self.len == 0
    }
}

/// What [`PatchMemory::take`] records.
pub(crate) struct NewBlock {
    pub len: u16,
    pub code_size: CodeSize,
    pub page: u64,
    pub region: Span,
    pub owner: u32,
    pub map: BlockMap,
}

/// A place for a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    slot: u16,
    first: usize,
    granules: usize,
    address: u64,
}

impl Place {
    pub(crate) const fn address(&self) -> u64 {
        self.address
    }
}

/// The tables of a piece of patch memory that begins at linear address `base`.
pub struct PatchMemory<'m> {
    base: u64,
    /// For each granule: 0 if free, else the number of its block plus one.
    granules: &'m mut [u16],
    blocks: &'m mut [Block],
    hints: &'m mut SearchHints,
}

/// Where the next searches begin, so that the front is not searched again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchHints {
    granule: usize,
    slot: usize,
}

impl<'m> PatchMemory<'m> {
    /// Over tables that were all zero and [`Block::FREE`] at first and that only this type changes. The memory is
    /// `granules.len() * GRANULE` bytes long. At most 65,534 blocks are used.
    pub fn new(base: u64, granules: &'m mut [u16], blocks: &'m mut [Block], hints: &'m mut SearchHints) -> Self {
        Self { base, granules, blocks, hints }
    }

    /// The byte of this memory that is nearest to an address outside.
    pub(crate) fn nearest(&self, address: u64) -> u64 {
        let last = ((self.granules.len() * GRANULE) as u64).saturating_sub(1);
        address.clamp(self.base, self.base.saturating_add(last))
    }

    /// True if the address lies in this memory.
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.base) < (self.granules.len() * GRANULE) as u64
    }

    /// The block that this address belongs to.
    pub fn find_block(&self, address: u64) -> Option<(BlockId, &Block)> {
        let granule = usize::try_from(address.wrapping_sub(self.base)).ok()? / GRANULE;
        let number = self.granules.get(granule)?.checked_sub(1)?;
        let block = self.blocks.get(usize::from(number))?;
        let inside = address.wrapping_sub(block.address) < u64::from(block.len);
        inside.then_some((BlockId(number), block))
    }

    /// A block by number.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id.index()).filter(|block| !block.is_free())
    }

    /// Give a block's bytes back. No CPU may be in it any more.
    pub fn free(&mut self, id: BlockId) {
        let Some(slot) = self.blocks.get_mut(id.index()) else { return };
        let block = core::mem::replace(slot, Block::FREE);
        self.hints.slot = self.hints.slot.min(id.index());
        let mark = id.0.wrapping_add(1);
        let first = (block.address.wrapping_sub(self.base) as usize) / GRANULE;
        let count = usize::from(block.len).div_ceil(GRANULE) + 1;
        for granule in self.granules.iter_mut().skip(first).take(count).filter(|granule| **granule == mark) {
            *granule = 0;
        }
    }

    /// A free place of `len` bytes at an address to which a jump, with its next instruction at `next`, may lead.
    pub(crate) fn find(&mut self, len: u16, next: u64, constraint: JumpConstraint) -> Option<Place> {
        // Every slot before the hint is taken.
        let slots = self.blocks.iter().zip(0..u16::MAX - 1).skip(self.hints.slot);
        let slot = slots.into_iter().find(|(block, _)| block.is_free())?.1;
        self.hints.slot = usize::from(slot);
        let end = self.base.wrapping_add((self.granules.len() * GRANULE) as u64);
        let hint = self.base.wrapping_add((self.hints.granule * GRANULE) as u64);
        let found = if hint < end { self.search(len, next, constraint, hint, end) } else { None };
        let (first, granules, address) = found.or_else(|| self.search(len, next, constraint, self.base, end))?;
        Some(Place { slot, first, granules, address })
    }

    /// The first such place in `from..end`: its granules and its address.
    fn search(
        &self,
        len: u16,
        next: u64,
        constraint: JumpConstraint,
        from: u64,
        end: u64,
    ) -> Option<(usize, usize, u64)> {
        let mut address = from;
        loop {
            address = constraint.first_allowed(next, address, end)?;
            let offset = usize::try_from(address.wrapping_sub(self.base)).ok()?;
            let first = offset / GRANULE;
            let granules = (offset % GRANULE + usize::from(len)).div_ceil(GRANULE);
            let run = self.granules.get(first..first + granules)?;
            match run.iter().rposition(|&owner| owner != 0) {
                None => return Some((first, granules, address)),
                // Nothing can begin before the last granule in the way.
                Some(taken) => address = self.base.wrapping_add(((first + taken + 1) * GRANULE) as u64),
            }
        }
    }

    /// Take a place that [`PatchMemory::find`] has just found.
    pub(crate) fn take(&mut self, place: Place, new: NewBlock) -> BlockId {
        let NewBlock { len, code_size, page, region, owner, map } = new;
        if let Some(slot) = self.blocks.get_mut(usize::from(place.slot)) {
            *slot = Block { address: place.address, len, code_size, page, region, owner, map };
        }
        for granule in self.granules.iter_mut().skip(place.first).take(place.granules) {
            *granule = place.slot + 1;
        }
        self.hints.granule = place.first + place.granules;
        BlockId(place.slot)
    }
}
