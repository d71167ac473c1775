//! PS/2 devices: what hangs on the 8042's two serial lines.
//!
//! A device takes bytes from the controller ([`Keyboard::receive`](keyboard::Keyboard::receive)) and has bytes for it (`take`). It knows
//! nothing of ports, interrupts or translation, and little of time: the lines' speed is the controller's business.

pub mod keyboard;
pub mod keys;
pub mod mouse;
pub mod scancodes;

/// The answer to a byte that was understood.
pub const ACK: u8 = 0xFA;
/// The answer to a byte that was not: send it again.
pub const RESEND: u8 = 0xFE;
/// The answer behind [`ACK`] to a reset: the self-test ("basic assurance test") was passed.
pub const SELF_TEST_PASSED: u8 = 0xAA;

/// Unread answers that a device keeps.
const ANSWERS_LIMIT: usize = 64;
