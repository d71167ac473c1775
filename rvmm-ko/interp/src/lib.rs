//! The interpreter: the ground truth of guest execution.
#![no_std]
#![forbid(unsafe_code)]
