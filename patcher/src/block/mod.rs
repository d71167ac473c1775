//! Patch blocks: the generated code that stands in for a region of guest code.
//!
//! A block is the region's instructions in order, each either moved or replaced, and a jump back. It never writes guest
//! memory that the original would not write, never uses the guest's stack for scratch, and keeps its scratch in the vCPU
//! page, which 32-bit blocks reach through SS (the engine uses them only while CS and SS are flat) and 64-bit ones relative to RIP.
//!
//! Every instruction of a block has a [`MapEntry`]. It says to which guest boundary the instruction belongs and what to
//! restore to be there. So there is no state from which the VMM could not get back to a guest boundary at once, whatever
//! stopped the block: a fault, an interrupt, an exit that the block asked for with int3.

mod build;
mod control;
mod deliver;
mod emit;
mod flags;
mod iret;
mod layout;
mod map;
mod reload;
mod relocate;
mod selectors;
mod swapgs;
mod sysret;
mod verw;

pub use build::{build, Built};
pub use deliver::{deliver, WITHOUT_ERROR};
pub use layout::{
    VcpuPageLayout, BY_IRETQ, BY_IRETQ_COMPAT, BY_SYSEXIT, BY_SYSRETL, BY_SYSRETQ, CALL_VECTOR, CALL_WORD, EVENT_WORDS,
    NO_RETURN, NO_SHADOW, SCRATCH_WORDS,
};
pub use map::{BlockMap, BlockState, MapEntry, Undo, MAX_ENTRIES};
pub use reload::{reload, Reload, RELOAD_BYTES, RELOAD_WORDS};

/// Why a region cannot become a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlockRefusal {
    /// The code buffer or the address map is full.
    TooLong,
    /// An instruction cannot be moved or replaced.
    NotMovable,
    /// A branch in the region leads into the region's middle.
    InnerBranch,
    /// 64-bit code refers to an address further than 2 GiB from the block.
    OutOfReach,
}
