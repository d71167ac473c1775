//! What rvmm adds to the KVM ABI: ioctl numbers and the layout of statistics.
#![no_std]
#![forbid(unsafe_code)]
