//! Scans guest code and plans and emits patches for sensitive instructions.
//!
//! The crate sees bytes and addresses, nothing else: no guest, no CPU, no memory manager. It allocates nothing (the
//! decoder's tables excepted, see [`warm_up`]); all state lives in memory that the caller provides.
//!
//! - [`table`]: the one table of sensitive instructions;
//! - [`scan()`]: from guest bytes to a [`PageMap`], and [`PageMap::write_view`] from there to the view's bytes;
//! - [`forget`]: when guest code has been written.
#![no_std]
#![forbid(unsafe_code)]

pub mod block;
mod decode;
mod page;
pub mod page_map;
pub mod patch_memory;
pub mod scan;
pub mod table;
pub mod tactic;

pub use page::{CodeSize, PageBytes, PageOffset, Span, MAX_INSTRUCTION, PAGE_SIZE};
pub use page_map::{JumpSite, PageMap, Place, SiteReason, TrapSite, INT3, MAX_JUMPS, MAX_TRAPS};
pub use scan::{forget, scan, Branches, Reach, ScanCounts, ScanInput, ScanOutcome, ScanRefusal};
pub use tactic::{Tactic, TacticSet};

/// Builds the decoder's lazily allocated tables. Call it once where allocation may sleep and fail loudly, before the first
/// scan: no later call allocates.
pub fn warm_up() {
    static NOPS: PageBytes = [0x90; PAGE_SIZE];
    let _ = decode::PageDecoder::new(&NOPS, 0, CodeSize::Bits32).decode(0);
}
