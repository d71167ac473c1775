//! Gets a vCPU thread out of KVM_RUN.
//!
//! Two steps, in this order: `immediate_exit` is set, so that a KVM_RUN that has not begun returns at once; then a signal interrupts one
//! that has. The vCPU thread clears `immediate_exit` before it looks at what it might be kicked for, so no kick is lost. Time kicks it
//! by the alarm.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{register_signal_handler, SIGRTMIN};

use super::alarm::{self, Alarm};

/// `kvm_run.immediate_exit` of one vCPU, and the thread that runs it.
struct Target {
    immediate_exit: *const AtomicU8,
    thread: libc::pthread_t,
    alarm: Alarm,
}

// SAFETY: the pointer is only used for atomic accesses, and only while the vCPU's mapping exists (see `Registration`).
unsafe impl Send for Target {}

/// A handle with which other threads kick the vCPU.
#[derive(Clone)]
pub struct Kicker {
    target: Arc<Mutex<Option<Target>>>,
}

/// While it lives, kicks reach the thread that made it. Dropped before the vCPU is.
pub struct Registration {
    target: Arc<Mutex<Option<Target>>>,
}

impl Kicker {
    /// A handle that reaches nobody yet. Installs the signal's handler.
    pub fn new() -> io::Result<Kicker> {
        register_signal_handler(SIGRTMIN(), alarm::rings)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(Kicker { target: Arc::new(Mutex::new(None)) })
    }

    /// Makes the calling thread, which is about to run `vcpu`, the one that is kicked, and gives it its alarm.
    pub fn register(&self, vcpu: &mut VcpuFd) -> io::Result<Registration> {
        let immediate_exit = std::ptr::from_mut(&mut vcpu.get_kvm_run().immediate_exit).cast::<AtomicU8>();
        self.aim(immediate_exit)
    }

    fn aim(&self, immediate_exit: *const AtomicU8) -> io::Result<Registration> {
        // SAFETY: pthread_self has no precondition.
        let thread = unsafe { libc::pthread_self() };
        *lock(&self.target) = Some(Target { immediate_exit, thread, alarm: Alarm::new(immediate_exit)? });
        Ok(Registration { target: Arc::clone(&self.target) })
    }

    /// Kicks this long from now, as was set last; `None`: not any more. `false`: there is nobody to kick.
    pub fn set_alarm(&self, after: Option<Duration>) -> io::Result<bool> {
        lock(&self.target).as_ref().map_or(Ok(false), |target| target.alarm.set(after).map(|()| true))
    }

    /// Kicks.
    pub fn kick(&self) {
        if let Some(target) = &*lock(&self.target) {
            // SAFETY: registered, hence mapped, and an AtomicU8 has the layout of the u8 that it points to.
            unsafe { &*target.immediate_exit }.store(1, Ordering::Release);
            // SAFETY: registered, hence not yet ended; the signal has a handler. Its only error would be a wrong signal number.
            unsafe { libc::pthread_kill(target.thread, SIGRTMIN()) };
        }
    }
}

impl Registration {
    /// Takes back the kicks so far. What they were for must be looked at after this.
    pub fn clear(&self) {
        if let Some(target) = &*lock(&self.target) {
            // SAFETY: as in `kick`.
            unsafe { &*target.immediate_exit }.store(0, Ordering::Release);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        *lock(&self.target) = None;
    }
}

fn lock(target: &Mutex<Option<Target>>) -> std::sync::MutexGuard<'_, Option<Target>> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps until a signal comes, 10 s at most; whether one came.
    fn interrupted() -> bool {
        let wait = libc::timespec { tv_sec: 10, tv_nsec: 0 };
        // SAFETY: a valid timespec and no remainder wanted.
        unsafe { libc::nanosleep(&wait, std::ptr::null_mut()) != 0 }
    }

    #[test]
    fn a_kick_interrupts_a_blocking_call_and_sets_the_flag() {
        let kicker = Kicker::new().unwrap();
        let flag = AtomicU8::new(0);
        let registration = kicker.aim(&flag).unwrap();
        let other = kicker.clone();
        let helper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            other.kick();
        });
        assert!(interrupted());
        assert_eq!(flag.load(Ordering::Acquire), 1);
        registration.clear();
        assert_eq!(flag.load(Ordering::Acquire), 0);
        helper.join().unwrap();
        drop(registration);
        kicker.kick();
        assert_eq!(flag.load(Ordering::Acquire), 0, "nobody is registered any more");
    }

    #[test]
    fn the_alarm_kicks_the_thread_that_has_it_whoever_sets_it() {
        let kicker = Kicker::new().unwrap();
        assert!(!kicker.set_alarm(Some(Duration::from_millis(1))).unwrap(), "nobody to kick yet");
        let flag = AtomicU8::new(0);
        let registration = kicker.aim(&flag).unwrap();
        let other = kicker.clone();
        std::thread::spawn(move || assert!(other.set_alarm(Some(Duration::from_millis(50))).unwrap())).join().unwrap();
        assert!(interrupted());
        assert_eq!(flag.load(Ordering::Acquire), 1);
        registration.clear();
        // One that was set for now is not taken for none, and one that was taken back does not ring.
        assert!(kicker.set_alarm(Some(Duration::ZERO)).unwrap());
        while flag.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        registration.clear();
        assert!(kicker.set_alarm(Some(Duration::from_millis(200))).unwrap());
        assert!(kicker.set_alarm(None).unwrap());
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(flag.load(Ordering::Acquire), 0);
        drop(registration);
    }
}
