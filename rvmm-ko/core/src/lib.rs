//! The engine: run loop, exits, execution views, descriptor shadowing, verification.
#![no_std]
#![forbid(unsafe_code)]
