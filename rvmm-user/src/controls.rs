//! People and scripts at a run: its controls, and the displays and the monitor that work with them.

use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::cli::{RunArgs, SerialArg};
use crate::devices::ps2::keys::Key;
use crate::devices::vga::Screen;
use crate::display::curses::Curses;
use crate::display::vnc::Vnc;
use crate::display::DisplayArg;
use crate::error::Error;
use crate::monitor::controls::{Controls, Refused, RunState};
use crate::monitor::server::Server;
use crate::outcome::RunEnd;
use crate::shared::Shared;
use crate::vcpu::orders::Order;

/// How often a thread that waits for the vCPU's looks whether the run has ended.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the user asked for besides the guest: it is there until this is dropped.
pub struct Front {
    monitor: Option<Server>,
    /// Dropped last of all: the terminal is the user's again.
    displays: (Option<Vnc>, Option<Curses>),
}

impl Front {
    /// Starts the monitor and the display.
    pub fn start(args: &RunArgs, shared: &Arc<Shared>) -> Result<Front, Error> {
        let failed = |what| move |source| Error::Host { what, source };
        let controls: Arc<dyn Controls> = Arc::new(RunControls(Arc::clone(shared)));
        let start = |path| Server::start(path, Arc::clone(&controls));
        let monitor = args.monitor.as_ref().map(|path| start(&path.0)).transpose();
        let monitor = monitor.map_err(failed("listening for the monitor"))?;
        let displays = match &args.display {
            DisplayArg::None => (None, None),
            DisplayArg::Vnc(address) => {
                let vnc = Vnc::start(address, "rvmm", controls).map_err(failed("listening for VNC"))?;
                eprintln!("rvmm: the screen is at {} (VNC)", vnc.address());
                (Some(vnc), None)
            }
            DisplayArg::Curses => {
                let wanted =
                    [("--serial", args.serials()), ("--debugcon", args.firmware.debugcon.iter().cloned().collect())];
                if let Some((option, _)) = wanted.into_iter().find(|(_, places)| places.contains(&SerialArg::Stdio)) {
                    return Err(Error::Terminal { option });
                }
                let curses =
                    Curses::start(controls, args.escape).map_err(failed("showing the screen in the terminal"))?;
                (None, Some(curses))
            }
        };
        Ok(Front { monitor, displays })
    }

    /// The run has ended.
    pub fn finish(self, end: &RunEnd) {
        if let Some(monitor) = &self.monitor {
            let by_guest =
                matches!(end, RunEnd::GuestExit(_) | RunEnd::PowerOff | RunEnd::Reset(_) | RunEnd::TripleFault);
            monitor.event("SHUTDOWN", json!({ "guest": by_guest, "reason": end.to_string() }));
        }
        drop(self.displays);
    }
}

/// A run's controls.
struct RunControls(Arc<Shared>);

impl RunControls {
    /// Waits for the vCPU's thread to answer.
    fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, Refused> {
        loop {
            match answer.recv_timeout(PATIENCE) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) if self.state() != RunState::Ended => {}
                Err(_) => return Err(Refused("the run has ended".into())),
            }
        }
    }
}

impl Controls for RunControls {
    fn state(&self) -> RunState {
        let state = self.0.lock();
        match (state.stopped(), state.is_paused()) {
            (Some(_), _) => RunState::Ended,
            (None, true) => RunState::Paused,
            (None, false) => RunState::Running,
        }
    }

    fn pause(&self) -> Result<(), Refused> {
        self.0.set_paused(true);
        let (answer, answered) = sync_channel(1);
        self.0.order(Order::Report(answer));
        self.wait(&answered)
    }

    fn resume(&self) -> Result<(), Refused> {
        self.0.set_paused(false);
        Ok(())
    }

    fn reset(&self) -> Result<(), Refused> {
        self.0.order(Order::Reset);
        Ok(())
    }

    fn power_down(&self) -> Result<(), Refused> {
        if !self.0.lock().machine.press_power_button() {
            return Err(Refused("a machine without firmware has no power button".into()));
        }
        self.0.update();
        Ok(())
    }

    fn quit(&self) {
        self.0.stop(RunEnd::Quit);
    }

    fn send_key(&self, key: Key, down: bool) -> bool {
        let taken = self.0.lock().machine.type_key(key, down);
        self.0.update();
        taken
    }

    fn move_mouse(&self, right: i32, up: i32, wheel: i32) {
        self.0.lock().machine.mouse().move_by(right, up, wheel);
        self.0.update();
    }

    fn set_buttons(&self, buttons: u8) {
        self.0.lock().machine.mouse().set_buttons(buttons);
        self.0.update();
    }

    fn screen(&self) -> Option<Screen> {
        let state = self.0.lock();
        state.machine.screen(self.0.clock.now_ns())
    }

    fn read_physical(&self, address: u64, data: &mut [u8]) -> Result<(), Refused> {
        let state = self.0.lock();
        state
            .machine
            .look(address, data)
            .map_err(|missing| Refused(format!("there is no memory at {:#x}", missing.gpa)))
    }

    fn read_linear(&self, address: u64, data: &mut [u8]) -> Result<(), Refused> {
        let (answer, answered) = sync_channel(1);
        self.0.order(Order::Read { address, length: data.len(), answer });
        let bytes = self.wait(&answered)??;
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn registers(&self) -> Result<String, Refused> {
        let (answer, answered) = sync_channel(1);
        self.0.order(Order::Registers(answer));
        self.wait(&answered)?
    }
}
