//! Scans guest code and plans and emits patches for sensitive instructions.
#![no_std]
#![forbid(unsafe_code)]
