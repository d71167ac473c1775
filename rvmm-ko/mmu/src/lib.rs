//! Guest page walks and shadow paging.
#![no_std]
#![forbid(unsafe_code)]
