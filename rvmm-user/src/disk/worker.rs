//! A thread that serves one drive's requests, in order.

use std::collections::VecDeque;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::perform::perform;
use super::Disk;
use crate::devices::block::{Completion, Failure, Medium, Request};

/// Failures that are told in the log; a guest may try again without end.
const LOGGED_FAILURES: u32 = 10;

/// What wakes whoever collects the completions.
pub type Notify = Box<dyn Fn() + Send>;

/// A disk and the thread that serves it.
pub struct Worker {
    /// `None` only while it is dropped.
    requests: Option<Sender<Request>>,
    completions: Arc<Mutex<VecDeque<Completion>>>,
    medium: Medium,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread for `disk`. It is named `name`, which stands in the log too, and calls `notify` after each request.
    pub fn start(name: &str, disk: Box<dyn Disk>, notify: Notify) -> io::Result<Self> {
        let medium = disk.medium();
        let (requests, queue) = mpsc::channel();
        let completions = Arc::new(Mutex::new(VecDeque::new()));
        let served = Arc::clone(&completions);
        let named = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&named, disk, &queue, &served, &notify))?;
        Ok(Worker { requests: Some(requests), completions, medium, thread: Some(thread) })
    }

    /// The disk, as the drive is to know of it.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Has `request` served after all before it.
    pub fn submit(&self, request: Request) {
        // The thread ends only when this end of the channel is closed.
        if self.requests.as_ref().is_none_or(|requests| requests.send(request).is_err()) {
            tracing::error!("the thread of a disk has ended");
        }
    }

    /// The next request's end, in the order of the requests.
    pub fn take_completion(&self) -> Option<Completion> {
        self.completions.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Serves what is queued, makes it durable, and ends the thread.
impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the thread of a disk panicked");
            }
        }
    }
}

fn serve(
    name: &str,
    mut disk: Box<dyn Disk>,
    queue: &Receiver<Request>,
    completions: &Mutex<VecDeque<Completion>>,
    notify: &Notify,
) {
    let mut failures = 0;
    let mut broken = false;
    while let Ok(request) = queue.recv() {
        // A bug in a format's code (a crate's, say) on a damaged image must not leave the guest waiting, nor go on writing.
        let served = match broken {
            true => None,
            false => catch_unwind(AssertUnwindSafe(|| perform(disk.as_mut(), &request))).ok(),
        };
        let (completion, error) = served.unwrap_or_else(|| {
            if !std::mem::replace(&mut broken, true) {
                tracing::error!("{name}: the code of its format panicked; all of its sectors fail from now on");
            }
            (Completion { error: Some(Failure::Unwritable), ..Completion::default() }, None)
        });
        if let Some(error) = error {
            failures += 1;
            if failures <= LOGGED_FAILURES {
                let last = if failures == LOGGED_FAILURES { " (no more of this disk's are told)" } else { "" };
                tracing::warn!("{name}: {error}; the guest is told{last}");
            }
        }
        completions.lock().unwrap_or_else(PoisonError::into_inner).push_back(completion);
        notify();
    }
    if broken {
        // Whatever it holds is not to be written by its destructor either.
        std::mem::forget(disk);
        return;
    }
    if let Err(error) = disk.flush() {
        tracing::error!("{name}: {error}: what the guest wrote last may be lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::{filled, FaultyDisk};

    fn next(worker: &Worker, woken: &Receiver<()>) -> Completion {
        woken.recv().unwrap();
        worker.take_completion().unwrap()
    }

    #[test]
    fn requests_are_served_in_order() {
        let (wake, woken) = mpsc::channel();
        let disk = FaultyDisk::new(16);
        let state = disk.state();
        let worker = Worker::start("disk", Box::new(disk), Box::new(move || wake.send(()).unwrap())).unwrap();
        worker.submit(Request::Write { lba: 3, data: filled(7, 2) });
        worker.submit(Request::Flush);
        worker.submit(Request::Read { lba: 4, sectors: 1 });
        assert_eq!(next(&worker, &woken).sectors, 2);
        assert_eq!(next(&worker, &woken).error, None);
        assert_eq!(next(&worker, &woken).data, filled(7, 1));
        assert_eq!(worker.take_completion(), None);
        assert_eq!(state.lock().unwrap().flushes, 1);
    }

    #[test]
    fn the_end_waits_for_the_queue_and_flushes() {
        let disk = FaultyDisk::new(16);
        let state = disk.state();
        let worker = Worker::start("disk", Box::new(disk), Box::new(|| {})).unwrap();
        worker.submit(Request::Write { lba: 0, data: filled(1, 16) });
        drop(worker);
        let state = state.lock().unwrap();
        assert_eq!(state.flushes, 1);
        assert_eq!(state.data, filled(1, 16));
    }

    #[test]
    fn a_bug_in_a_format_fails_every_request() {
        let (wake, woken) = mpsc::channel();
        let disk = FaultyDisk::new(16);
        disk.state().lock().unwrap().panics = true;
        let worker = Worker::start("disk", Box::new(disk), Box::new(move || wake.send(()).unwrap())).unwrap();
        for request in [Request::Read { lba: 2, sectors: 1 }, Request::Flush] {
            worker.submit(request);
            assert_eq!(next(&worker, &woken).error, Some(Failure::Unwritable));
        }
    }

    #[test]
    fn errors_name_the_sector() {
        let (wake, woken) = mpsc::channel();
        let disk = FaultyDisk::new(16);
        disk.state().lock().unwrap().bad.insert(5);
        let worker = Worker::start("disk", Box::new(disk), Box::new(move || wake.send(()).unwrap())).unwrap();
        worker.submit(Request::Read { lba: 2, sectors: 8 });
        worker.submit(Request::Read { lba: 12, sectors: 8 });
        let read = next(&worker, &woken);
        assert_eq!((read.sectors, read.data.len(), read.error), (3, 3 * 512, Some(Failure::Unreadable)));
        let beyond = next(&worker, &woken);
        assert_eq!((beyond.sectors, beyond.error), (4, Some(Failure::NoSuchSector)));
    }
}
