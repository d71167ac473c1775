//! What the tests of the MMU have in common: a host of arrays, the host's CPU, and both together with a guest's registers.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cpu;
mod host;
mod machine;
mod rng;

pub use cpu::{cpu_access, marked, ram, shadow_leaf, Leaf, BEYOND};
pub use host::{compare_exchange, gfn, host_page, pfn, FakeHost};
pub use machine::{Machine, PROTECTION, VMM_SLOT};
pub use rng::Rng;
