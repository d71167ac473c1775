//! The monitor: a socket on which scripts control a run, in the JSON protocol of QEMU's monitor (QMP, docs/interop/qmp-spec.rst).
//!
//! - [`controls`]: what can be done to a run;
//! - [`server`]: the socket and its connections; [`session`]: one connection's requests and answers;
//! - [`commands`], [`arguments`], [`human`]: the commands; [`typist`]: keys that are held for a time;
//! - [`picture`]: PNG and PPM files;
//! - [`client`]: `rvmm screenshot` and `rvmm monitor`.

pub mod arguments;
pub mod client;
pub mod commands;
pub mod controls;
pub mod human;
pub mod picture;
pub mod server;
pub mod session;
pub mod typist;

#[cfg(test)]
pub mod soft;

pub use controls::Controls;
