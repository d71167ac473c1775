//! Keys that are held for a time: a thread that presses, waits and releases, one combination after the other.

use std::io;
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::arguments::Failure;
use super::controls::{Controls, RunState};
use crate::devices::ps2::keys::Key;

/// How long keys are held unless told otherwise, as with QEMU.
pub const HOLD: Duration = Duration::from_millis(100);
/// The longest time that keys are held.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// Combinations that may wait.
const QUEUE: usize = 1024;
/// How long to wait for room in the keyboard's queue at a time.
const PATIENCE: Duration = Duration::from_millis(10);

struct Combination {
    keys: Vec<Key>,
    hold: Duration,
}

/// The thread's other end. The thread ends with the last of these.
#[derive(Clone)]
pub struct Typist(SyncSender<Combination>);

impl Typist {
    /// Starts the thread.
    pub fn start(controls: Arc<dyn Controls>) -> io::Result<Typist> {
        let (sender, receiver) = sync_channel::<Combination>(QUEUE);
        thread::Builder::new().name("typist".into()).spawn(move || {
            for Combination { keys, hold } in receiver {
                keys.iter().for_each(|key| press(&*controls, *key, true));
                thread::sleep(hold);
                keys.iter().rev().for_each(|key| press(&*controls, *key, false));
            }
        })?;
        Ok(Typist(sender))
    }

    /// Presses `keys` together, and releases them after `hold`.
    pub fn combination(&self, keys: Vec<Key>, hold: Option<Duration>) -> Result<(), Failure> {
        let hold = hold.unwrap_or(HOLD).min(LONGEST_HOLD);
        self.0.try_send(Combination { keys, hold }).map_err(|error| match error {
            TrySendError::Full(_) => Failure::generic("too many keys wait to be sent"),
            TrySendError::Disconnected(_) => Failure::generic("the run has ended"),
        })
    }
}

/// Presses or releases a key; waits while the guest is behind, so that none is lost.
pub fn press(controls: &dyn Controls, key: Key, down: bool) {
    while !controls.send_key(key, down) && controls.state() != RunState::Ended {
        thread::sleep(PATIENCE);
    }
}
