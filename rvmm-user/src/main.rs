//! The `rvmm` command.
fn main() {}
