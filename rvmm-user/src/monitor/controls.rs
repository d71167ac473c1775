//! What monitors and displays can do to a run. The run implements it; whoever calls it is on a thread of its own, holding no lock.

use std::fmt;

use crate::devices::ps2::keys::Key;
use crate::devices::vga::Screen;

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Running,
    Paused,
    /// The run has ended or is about to.
    Ended,
}

/// Why something was not done, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The run's handles.
pub trait Controls: Send + Sync {
    /// Whether the guest runs.
    fn state(&self) -> RunState;
    /// Stops the guest where it is. Returns when it has stopped.
    fn pause(&self) -> Result<(), Refused>;
    /// Lets it go on.
    fn resume(&self) -> Result<(), Refused>;
    /// Presses the reset button.
    fn reset(&self) -> Result<(), Refused>;
    /// Presses the power button (ACPI): the guest may shut itself down.
    fn power_down(&self) -> Result<(), Refused>;
    /// Ends the run.
    fn quit(&self);
    /// Presses or releases a key. `false`: too many wait to be typed; try again later.
    fn send_key(&self, key: Key, down: bool) -> bool;
    /// Moves the mouse by so many counts: right, up, and the wheel towards the user.
    fn move_mouse(&self, right: i32, up: i32, wheel: i32);
    /// Which mouse buttons are down (`devices::ps2::mouse`'s bits).
    fn set_buttons(&self, buttons: u8);
    /// What the screen shows; `None` if the machine has none.
    fn screen(&self) -> Option<Screen>;
    /// Reads guest-physical memory.
    fn read_physical(&self, address: u64, data: &mut [u8]) -> Result<(), Refused>;
    /// Reads memory at a linear address, through the guest's page tables as they are now.
    fn read_linear(&self, address: u64, data: &mut [u8]) -> Result<(), Refused>;
    /// The CPU's registers, as `info registers` shows them.
    fn registers(&self) -> Result<String, Refused>;
}
