//! Guest page walks and shadow paging.
//!
//! The guest's own page tables are never given to the CPU. [`walk`](mod@walk) reads them as the CPU would, apart from
//! any policy; the shadow tables of [`Mmu`] hold what has been found so far, in the host's long-mode format, and every
//! fault they cause is either the guest's own, or hidden from it, or something for the engine. docs/shadow-paging.md
//! tells it by event.
//!
//! - what the guest means: [`paging`], [`gpte`], [`walk`](mod@walk)
//! - what a shadow page is: [`role`], [`spte`]; where it is kept: [`pool`], [`links`], [`track`]
//! - what happens: [`mod@mmu`] (creation), `root`, `map` (build a path), `fault`, `translate`, `sync` (the guest wrote
//!   a table), `unsync` (tables that it writes freely), `prefill` (entries made before their fault), `protect` (write tracking),
//!   `zap` (forget, reclaim), `serve` (faults in the middle of a stay), `view`, `stand_in`, `overlay`
#![no_std]
#![forbid(unsafe_code)]

#[allow(unused_extern_crates, reason = "the build for the kernel names the crate by itself; cargo does not")]
extern crate alloc;

pub mod gpte;
pub mod links;
pub mod mmu;
pub mod paging;
pub mod pool;
pub mod role;
pub mod spte;
pub mod track;
pub mod walk;

mod absent;
mod fault;
mod map;
mod overlay;
mod prefill;
mod protect;
mod root;
mod serve;
mod stand_in;
mod sync;
mod translate;
mod unsync;
mod view;
mod zap;

pub use fault::FaultOutcome;
pub use mmu::{Mmu, MmuConfig, MmuError, MmuHost};
pub use overlay::{Occupied, OverlayAccess, WindowSlot};
pub use paging::{GuestMode, Paging};
pub use role::{Env, Space};
pub use root::Root;
pub use stand_in::StandInRights;
pub use sync::Wrote;
pub use track::{Reason, Reasons};
pub use translate::TranslateStop;
pub use view::{ViewInstall, ViewProtection};
