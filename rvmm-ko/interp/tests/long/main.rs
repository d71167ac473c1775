//! Long mode, rule by rule: its gates, stacks, far transfers, system calls, control registers and MSRs, in 64-bit and in
//! compatibility mode. Expected values are from the pseudo-code of the Intel SDM (vol. 2) and from vol. 3; where AMD's CPUs
//! differ, from the APM.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod base;
mod deliver;
mod far;
mod iret;
mod load;
mod mode;
mod operands;
mod syscall;
mod tables;
mod world;
