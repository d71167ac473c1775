//! Writes the guest's serial output in a thread of its own: a terminal that is stopped or a pipe that nobody reads must not keep the
//! run from being ended.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The vCPU pauses while more bytes than this wait.
const LIMIT: usize = 64 << 10;

/// After the writer has written it lets this much time pass for more to gather: a guest writes byte by byte, and to wake the writer for each costs
/// an interrupt from CPU to CPU, more than the byte itself. The first byte behind a pause does not wait.
const GATHER: Duration = Duration::from_millis(4);

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// The writer has taken bytes that it has not written yet.
    writing: bool,
    /// The writer waits for bytes, and is to be woken for them.
    idle: bool,
    failed: bool,
}

/// The queue before the writer. Clones are handles to the same queue.
#[derive(Clone, Default)]
pub struct OutputQueue {
    shared: Arc<(Mutex<Queue>, Condvar)>,
}

impl OutputQueue {
    /// A queue whose bytes a new thread writes to `sink`.
    pub fn start(mut sink: Box<dyn Write + Send>) -> Result<OutputQueue, Error> {
        let queue = OutputQueue::default();
        let writer = queue.clone();
        let body = move || loop {
            let bytes = writer.take();
            let written = sink.write_all(&bytes).and_then(|()| sink.flush());
            writer.written(written);
            thread::sleep(GATHER);
        };
        thread::Builder::new()
            .name("serial-out".into())
            .spawn(body)
            .map_err(|source| Error::Host { what: "starting the serial output thread", source })?;
        Ok(queue)
    }

    /// Whether the vCPU should pause.
    pub fn is_full(&self) -> bool {
        let queue = self.lock();
        queue.waiting.len() > LIMIT && !queue.failed
    }

    /// Waits for room, but no longer than `timeout`.
    pub fn wait_for_room(&self, timeout: Duration) {
        let queue = self.lock();
        if queue.waiting.len() > LIMIT {
            drop(self.shared.1.wait_timeout(queue, timeout));
        }
    }

    /// Waits until everything is written, the sink failed, or `timeout` passed.
    pub fn finish(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut queue = self.lock();
        while (!queue.waiting.is_empty() || queue.writing) && !queue.failed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = match self.shared.1.wait_timeout(queue, left) {
                Ok((queue, _)) => queue,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn take(&self) -> Vec<u8> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() {
            queue.idle = true;
            queue = self.shared.1.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        queue.writing = true;
        std::mem::take(&mut queue.waiting)
    }

    fn written(&self, result: io::Result<()>) {
        let mut queue = self.lock();
        queue.writing = false;
        if let Err(error) = result {
            if !queue.failed {
                tracing::warn!("the serial output cannot be written any more, the rest is lost: {error}");
            }
            queue.failed = true;
        }
        drop(queue);
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for OutputQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut queue = self.lock();
        if !queue.failed {
            queue.waiting.extend_from_slice(bytes);
            let wake = std::mem::take(&mut queue.idle);
            drop(queue);
            if wake {
                self.shared.1.notify_all();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Gate {
        open: mpsc::Receiver<()>,
        out: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(io::Error::other)?;
            self.out.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stopped_sink_fills_the_queue_without_blocking_the_writer() {
        let (open, gate) = mpsc::channel();
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink = Gate { open: gate, out: Arc::clone(&out) };
        let mut queue = OutputQueue::start(Box::new(sink)).unwrap();
        queue.write_all(b"first").unwrap();
        queue.write_all(&vec![b'x'; LIMIT * 2]).unwrap();
        assert!(queue.is_full() || queue.lock().writing);
        for _ in 0..4 {
            open.send(()).unwrap();
        }
        queue.finish(Duration::from_secs(10));
        assert_eq!(out.lock().unwrap().len(), 5 + LIMIT * 2);
        assert!(!queue.is_full());
    }

    #[test]
    fn a_failing_sink_ends_the_waiting() {
        let (open, gate) = mpsc::channel();
        drop(open);
        let sink = Gate { open: gate, out: Arc::default() };
        let mut queue = OutputQueue::start(Box::new(sink)).unwrap();
        queue.write_all(b"lost").unwrap();
        queue.finish(Duration::from_secs(10));
        assert!(queue.lock().failed);
        assert!(!queue.is_full());
    }

    /// Keeps what each call wrote.
    struct Calls(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_that_come_one_by_one_are_written_together() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut queue = OutputQueue::start(Box::new(Calls(Arc::clone(&calls)))).unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        let start = Instant::now();
        for byte in &bytes {
            queue.write_all(&[*byte]).unwrap();
            // A guest's pace.
            thread::sleep(Duration::from_micros(200));
        }
        queue.finish(Duration::from_secs(10));
        let most = 2 + start.elapsed().as_nanos() / GATHER.as_nanos();
        let calls = calls.lock().unwrap();
        assert_eq!(calls.concat(), bytes);
        assert!(calls.len() as u128 <= most, "{} calls, not {most}", calls.len());
    }
}
