//! A run made of software, for tests: it notes what is done to it.

use std::sync::{Arc, Mutex};

use super::controls::{Controls, Refused, RunState};
use crate::devices::ps2::keys::Key;
use crate::devices::vga::{Screen, Vga};

/// The run.
pub struct SoftRun {
    pub state: Mutex<RunState>,
    pub log: Mutex<Vec<String>>,
    pub vga: Mutex<Vga>,
}

impl SoftRun {
    /// A run with a text screen on which nothing stands.
    pub fn new() -> Arc<SoftRun> {
        let mut vga = Vga::new(Box::new(vec![0; crate::devices::vga::VRAM_SIZE]));
        vga.set_text_mode(&[]);
        Arc::new(SoftRun { state: Mutex::new(RunState::Running), log: Mutex::default(), vga: Mutex::new(vga) })
    }

    /// What was done since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Waits until so much has been done, and takes it.
    pub fn wait_log(&self, entries: usize) -> Vec<String> {
        for _ in 0..500 {
            if self.log.lock().unwrap().len() >= entries {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.take_log()
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }
}

impl Controls for SoftRun {
    fn state(&self) -> RunState {
        *self.state.lock().unwrap()
    }

    fn pause(&self) -> Result<(), Refused> {
        *self.state.lock().unwrap() = RunState::Paused;
        Ok(())
    }

    fn resume(&self) -> Result<(), Refused> {
        *self.state.lock().unwrap() = RunState::Running;
        Ok(())
    }

    fn reset(&self) -> Result<(), Refused> {
        self.note("reset");
        Ok(())
    }

    fn power_down(&self) -> Result<(), Refused> {
        Err(Refused("there is no power button".into()))
    }

    fn quit(&self) {
        *self.state.lock().unwrap() = RunState::Ended;
    }

    fn send_key(&self, key: Key, down: bool) -> bool {
        self.note(format!("{}{}", if down { '+' } else { '-' }, key.name()));
        true
    }

    fn move_mouse(&self, right: i32, up: i32, wheel: i32) {
        self.note(format!("move {right} {up} {wheel}"));
    }

    fn set_buttons(&self, buttons: u8) {
        self.note(format!("buttons {buttons}"));
    }

    fn screen(&self) -> Option<Screen> {
        Some(self.vga.lock().unwrap().screen(0))
    }

    fn read_physical(&self, address: u64, data: &mut [u8]) -> Result<(), Refused> {
        if address >= 1 << 30 {
            return Err(Refused("there is no memory".into()));
        }
        (address..).zip(data).for_each(|(address, byte)| *byte = address as u8);
        Ok(())
    }

    fn read_linear(&self, address: u64, data: &mut [u8]) -> Result<(), Refused> {
        self.read_physical(address + 1, data)
    }

    fn registers(&self) -> Result<String, Refused> {
        Ok("RIP=000000000000fff0\nCS=f000".into())
    }
}
