//! Device accesses come in runs: an interrupt controller wants four in twenty instructions, a timer three with delays between
//! them. The instructions from one to the next are interpreted, where that pays, instead of a way into the guest world and
//! back for each.

use alloc::vec::Vec;

use rvmm_arch::host::{Host, HostError};
use rvmm_arch::stats::Counter;
use rvmm_arch::vcpu::Activity;

use crate::client::{ClientExit, RunRequest};
use crate::code::filled;
use crate::direct::Mode;
use crate::vcpu::{Flow, Vcpu};

/// Instructions interpreted behind a device access, while no other comes.
const REACH: u32 = 12;
/// Instructions whose habits are known; two that share a slot share a habit.
const SLOTS: usize = 256;
/// No other access came so many times more often than one did: no longer worth it.
const GIVE_UP: i8 = -2;
/// A long good habit must not take long to break.
const BEST: i8 = 4;

/// Behind which device accesses another one follows.
#[derive(Debug)]
pub struct Habits {
    scores: Vec<i8>,
}

impl Habits {
    /// No habits known: everything is tried.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, HostError> {
        Ok(Self { scores: filled(SLOTS, 0)? })
    }

    fn slot(&mut self, at: u64) -> Option<&mut i8> {
        let hash = (at as u32).wrapping_mul(0x9e37_79b1) >> 16;
        self.scores.get_mut(hash as usize % SLOTS)
    }

    /// Is it worth looking for another access behind the one at a linear address?
    fn worth(&mut self, at: u64) -> bool {
        self.slot(at).is_some_and(|score| *score > GIVE_UP)
    }

    /// Another one came, or did not.
    fn learn(&mut self, at: u64, came: bool) {
        if let Some(score) = self.slot(at) {
            *score = score.saturating_add(if came { 1 } else { -1 }).clamp(GIVE_UP, BEST);
        }
    }
}

impl Vcpu {
    /// After the device access of the instruction at linear address `at`: interprets on to the next one, if one is likely.
    pub(crate) fn look_for_another_access<H: Host>(&mut self, host: &mut H, request: RunRequest, at: u64) -> Flow {
        if self.verifier.is_on() || !self.parts.habits.worth(at) {
            return Ok(());
        }
        for _ in 0..REACH {
            self.offer_events(host, request)?;
            let kernel = self.runnable() == Ok(Mode::Kernel);
            if !kernel || self.state.activity != Activity::Running {
                break;
            }
            let flow = self.interpret(host, Counter::InterpretedForward);
            if matches!(flow, Err(ClientExit::Io(_))) {
                self.parts.habits.learn(at, true);
            }
            flow?;
        }
        self.parts.habits.learn(at, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_learnt_and_broken() -> Result<(), HostError> {
        let mut habits = Habits::new()?;
        assert!(habits.worth(0x1000), "everything is tried");
        for _ in 0..2 {
            habits.learn(0x1000, false);
        }
        assert!(!habits.worth(0x1000));
        for _ in 0..100 {
            habits.learn(0x2000, true);
        }
        for _ in 0..5 {
            assert!(habits.worth(0x2000));
            habits.learn(0x2000, false);
        }
        habits.learn(0x2000, false);
        assert!(!habits.worth(0x2000));
        Ok(())
    }
}
