//! The trap tactic: a site that can have no jump keeps its int3, and has a block behind it.
//!
//! The int3 is met by the VMM, which goes on in the block instead of emulating the instruction. That may be in the middle of a stay in the
//! guest world, where a jump would have led without any trap. Nothing of the view changes: the site is what it was.

use super::jump::{JumpRefusal, JumpRequest, BLOCK_BYTES};
use super::region::{JumpConstraint, Region};
use crate::block::build;
use crate::page::Span;
use crate::page_map::{PageMap, Place, SiteReason, TrapSite};
use crate::patch_memory::{BlockId, NewBlock, PatchMemory};

/// An installed block behind an int3. The caller copies the code to the block's address.
#[derive(Clone, Copy, Debug)]
pub struct InstalledTrap {
    /// The block.
    pub block: BlockId,
    /// Linear address of the block.
    pub address: u64,
    /// Bytes of code in the buffer.
    pub len: u16,
    /// Where the word is of which a VERW in the block asks.
    pub asks: Option<u64>,
}

/// Finds a place for the block of a critical site that got no jump, generates it into `code`, and notes it in the page map.
///
/// # Errors
/// Why there is none: no critical site, no block for its instruction, no place or no slot.
pub fn install_trap(
    request: &JumpRequest<'_>,
    map: &mut PageMap,
    memory: &mut PatchMemory<'_>,
    code: &mut [u8; BLOCK_BYTES],
) -> Result<InstalledTrap, JumpRefusal> {
    let Place::Site { reason: SiteReason::Critical, len } = map.at(request.site) else {
        return Err(JumpRefusal::Covered);
    };
    if map.trap_at(request.site).is_some() {
        return Err(JumpRefusal::Covered);
    }
    if map.free_trap().is_none() {
        return Err(JumpRefusal::PageFull);
    }
    let start = request.site.get();
    let end = start + u16::from(len);
    let anywhere = JumpConstraint { trapping: 0, code_size: request.code_size };
    let region =
        Region { span: Span::new(start, end), moved: end, constraint: anywhere, absorbs: 0, blind: false, inner: 0 };
    let (page, linear, size) = (request.page, request.linear, request.code_size);
    let mut generate =
        |address: u64| build(page, linear, size, &region, start, request.tactics, request.layout, address, code);
    let bytes = generate(memory.nearest(linear))?.len;
    // The block leads back behind the instruction: within reach of that.
    let place = memory.find(bytes, linear.wrapping_add(u64::from(end)), anywhere).ok_or(JumpRefusal::NoPlace)?;
    let built = generate(place.address())?;
    let new = NewBlock {
        len: built.len,
        code_size: size,
        page: linear,
        region: region.span,
        owner: request.owner,
        map: built.map,
    };
    let block = memory.take(place, new);
    let trap = TrapSite { start, end, block: place.address() };
    if let Some(slot) = map.free_trap() {
        *slot = Some(trap);
    }
    Ok(InstalledTrap { block, address: trap.block, len: built.len, asks: built.asks })
}
