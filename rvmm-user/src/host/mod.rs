//! The host's side: clock, terminal, serial input and output, and the event loop.

pub mod clock;
pub mod escape;
pub mod events;
pub mod input;
pub mod output;
pub mod pty;
pub mod terminal;
