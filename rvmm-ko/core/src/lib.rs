//! The engine: what happens between KVM_RUN and the return to the client.
//!
//! [`run`] is the table of contents: answer devices, deliver events, then run guest code directly ([`direct`],
//! [`exits`]) or interpret it ([`interpret`]). Around it: execution views ([`code`]), descriptor shadowing
//! ([`segments`]), the interpreter's machine ([`world`]), and verification ([`verify`]).
//!
//! Everything here is a decision; the host's side of it is behind [`rvmm_arch::host::Host`].
#![no_std]
#![forbid(unsafe_code)]

#[allow(unused_extern_crates, reason = "the build for the kernel names the crate by itself; cargo does not")]
extern crate alloc;

mod ahead;
mod blocks;
pub mod client;
pub mod code;
pub mod constants;
pub mod cpuid;
pub mod direct;
mod events;
mod exits;
mod flat_step;
mod heap;
pub mod hot;
mod interpret;
pub mod io;
pub mod load;
mod native;
pub mod options;
mod reflect;
mod reload;
pub mod run;
pub mod segments;
mod serve;
mod stand_in;
mod syscall;
mod sysenter;
pub mod vcpu;
pub mod verify;
mod verw;
pub mod world;
pub mod writes;

pub use client::{ClientExit, InternalError, RunRequest};
pub use options::{Options, Verify};
pub use vcpu::Vcpu;

/// Builds the tables that libraries fill on first use. Call once, where allocation may block, before the first guest.
pub fn warm_up() {
    rvmm_patcher::warm_up();
}
