//! What the threads of a run share: the machine, the reason to stop, and the vCPU's alarm.
//!
//! Threads: the vCPU's, the event loop's (main), one for each serial port that reads its input, one that writes its output, one for each disk. Lock order: the
//! state before the kicker's target; the output queue's lock is a leaf. Nobody blocks while holding the state.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::devices::serial;
use crate::error::Error;
use crate::host::clock::Clock;
use crate::machine::Machine;
use crate::outcome::RunEnd;
use crate::vcpu::kick::Kicker;
use crate::vcpu::orders::Order;

/// Received bytes that wait for room in a UART; its reader pauses beyond this.
const INPUT_LIMIT: usize = 64 << 10;

/// State behind the one lock.
pub struct State {
    pub machine: Machine,
    /// Set once, by whoever first has a reason.
    stop: Option<RunEnd>,
    /// The guest is to stand still.
    paused: bool,
    /// What the vCPU's thread is asked to do before it enters the guest again.
    pub orders: VecDeque<Order>,
    /// The vCPU asked for an exit as soon as it can take an interrupt: no kick is needed for one.
    pub window_requested: bool,
    /// COM1's first.
    inputs: [Input; serial::PLACES.len()],
    /// Whose alarm it is.
    kicker: Kicker,
    /// What the alarm is set for, in the machine's nanoseconds.
    armed_for: Option<u64>,
}

/// What a serial port is still to receive.
#[derive(Default)]
struct Input {
    bytes: VecDeque<u8>,
    reader_waits: bool,
}

/// Shared by all threads.
pub struct Shared {
    state: Mutex<State>,
    /// Interrupts, stops, room for input.
    changed: Condvar,
    pub clock: Clock,
    pub kicker: Kicker,
}

impl Shared {
    /// Everything that a run shares, around `machine`.
    pub fn new(machine: Machine, clock: Clock) -> Result<Shared, Error> {
        let failed = |what| move |source| Error::Host { what, source };
        let kicker = Kicker::new().map_err(failed("installing the signal handler"))?;
        let state = State {
            machine,
            stop: None,
            paused: false,
            orders: VecDeque::new(),
            window_requested: false,
            inputs: Default::default(),
            kicker: kicker.clone(),
            armed_for: None,
        };
        Ok(Shared { state: Mutex::new(state), changed: Condvar::new(), clock, kicker })
    }

    /// The state. A thread that panicked with it has ended the run anyway, so poison is not looked at.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state, but no longer than until what was due next when it was brought up to `now_ns`.
    pub fn wait_until_due<'a>(&self, state: MutexGuard<'a, State>, now_ns: u64) -> MutexGuard<'a, State> {
        let Some(at) = state.armed_for else { return self.wait(state) };
        let left = Duration::from_nanos(at.saturating_sub(now_ns));
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the run, unless another reason came first.
    pub fn stop(&self, end: RunEnd) {
        self.lock().stop.get_or_insert(end);
        self.changed.notify_all();
        self.kicker.kick();
    }

    /// Has the guest and its time stand still, or go on.
    pub fn set_paused(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        if paused {
            self.clock.stop();
        } else {
            self.clock.go_on();
        }
        drop(state);
        self.changed.notify_all();
        self.kicker.kick();
        self.update();
    }

    /// Gives the vCPU's thread an order.
    pub fn order(&self, order: Order) {
        self.lock().orders.push_back(order);
        self.changed.notify_all();
        self.kicker.kick();
    }

    /// To be called from other threads than the vCPU's when input came or time goes on: updates the interrupt lines and gets the vCPU
    /// out of the guest if it has an interrupt to take.
    pub fn update(&self) {
        let mut state = self.lock();
        let now = self.clock.now_ns();
        let due = state.armed_for;
        state.update(now);
        if state.armed_for != due {
            // A vCPU that halts waits for another moment now.
            self.changed.notify_all();
        }
        let signals = state.machine.has_signals();
        if state.machine.intr(now) || signals {
            let kick = signals || !state.window_requested;
            drop(state);
            self.changed.notify_all();
            if kick {
                self.kicker.kick();
            }
        }
    }

    /// A disk has served a request: has the vCPU's thread collect it.
    pub fn disk_served(&self) {
        // With the lock taken in between, a vCPU that halts has either seen the request's end or is waiting already.
        drop(self.lock());
        self.changed.notify_all();
        self.kicker.kick();
    }

    /// Bytes for one of the guest's serial ports (0 is COM1). Waits while too many wait already; `false` when the run is over.
    pub fn serial_input(&self, port: usize, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        loop {
            let over = state.stop.is_some();
            let Some(input) = state.inputs.get_mut(port) else { return false };
            input.reader_waits = input.bytes.len() >= INPUT_LIMIT;
            if !input.reader_waits {
                input.bytes.extend(bytes);
                break;
            }
            if over {
                return false;
            }
            state = self.wait(state);
        }
        drop(state);
        self.update();
        true
    }

    /// Wakes a reader of input that waits for room, if there is some.
    pub fn wake_reader(&self, state: &State) {
        if state.inputs.iter().any(|input| input.reader_waits && input.bytes.len() < INPUT_LIMIT) {
            self.changed.notify_all();
        }
    }

    /// The state of interrupts and time in a line, for whoever looks for the reason of a hang.
    pub fn describe(&self) -> String {
        let now = self.clock.now_ns();
        let mut state = self.lock();
        let next = state.machine.next_event_ns(now);
        format!(
            "now {now} ns, next event {next:?}, alarm set for {:?}, window requested {}, {}",
            state.armed_for,
            state.window_requested,
            state.machine.describe(now)
        )
    }
}

impl State {
    /// The reason to stop, if there is one.
    pub fn stopped(&self) -> Option<RunEnd> {
        self.stop.clone()
    }

    /// The guest is to stand still.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The alarm may have rung: whatever it was set for, it must be set again, even if that moment is still to come.
    pub fn alarm_rang(&mut self) {
        self.armed_for = None;
    }

    /// Brings input, interrupt lines and the alarm up to `now_ns`.
    pub fn update(&mut self, now_ns: u64) {
        self.feed_serial();
        self.machine.update_lines(now_ns);
        // While time stands still nothing becomes due.
        let next = if self.paused { None } else { self.machine.next_event_ns(now_ns) };
        if next == self.armed_for && next.is_none_or(|at| at > now_ns) {
            return;
        }
        self.armed_for = next;
        match self.kicker.set_alarm(next.map(|at| Duration::from_nanos(at.saturating_sub(now_ns)))) {
            Ok(true) => {}
            // The vCPU's thread has not begun; it sets its own before it enters the guest.
            Ok(false) => self.armed_for = None,
            Err(error) => tracing::error!("the host's timer cannot be set: {error}"),
        }
    }

    fn feed_serial(&mut self) {
        for (port, input) in self.inputs.iter_mut().enumerate() {
            let take = self.machine.serial_room(port).min(input.bytes.len());
            if take > 0 {
                let bytes: Vec<u8> = input.bytes.iter().take(take).copied().collect();
                let taken = self.machine.serial_receive(port, &bytes);
                input.bytes.drain(..taken);
            }
        }
    }
}
