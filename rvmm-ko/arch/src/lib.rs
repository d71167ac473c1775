//! The vocabulary of rvmm: addresses, registers, segments, faults, virtual CPU state, and the traits through which decisions see the host.
#![no_std]
#![forbid(unsafe_code)]
