//! The system half of the interpreter, rule by rule. Expected values are from the pseudo-code of the Intel SDM (vol. 2)
//! and the tables of vol. 3; each test names its place there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod control;
mod cpu;
mod debug;
mod deliver;
mod far;
mod flags;
mod gates;
mod iret;
mod load;
mod msr;
mod port;
mod privilege;
mod real;
mod sysenter;
mod tables;
mod task;
mod virtual8086;
mod world;
