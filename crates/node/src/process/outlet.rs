//! Output that no thread waits for: lines of a running node, written by a separate thread.
//!
//! The reader of a node's standard error may be dead, or may not read: a closed pipe, a full one, a
//! terminal that was stopped. So a thread never writes its own lines. They are queued, within a
//! bound, and a separate thread writes them. A line that finds no room, or no reader, is dropped
//! and counted; the next reader is told how many are missing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait to be written: some ten thousand lines, enough for the burst of a start at
/// `trace`, and little of a node's memory.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// A file that is written by a separate thread. Clones write to the same file.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something waits.
    filled: Condvar,
    /// Everything that waited is written, or dropped.
    emptied: Condvar,
    dropped: AtomicU64,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// True while the thread holds a line that it has taken.
    writing: bool,
}

impl Outlet {
    /// Begins to write to `to`, with at most `bytes_max` bytes waiting.
    ///
    /// # Errors
    /// The system's, if it can't start a thread.
    pub fn start(to: impl Write + Send + 'static, bytes_max: usize) -> io::Result<Outlet> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
            bytes_max,
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("outlet".into()).spawn(move || writer.write_to(to))?;
        Ok(Outlet { shared })
    }

    /// An outlet to the standard output or error. It bypasses the standard library's lock, which a
    /// write that waits for a reader would hold.
    ///
    /// # Errors
    /// The system's, if the descriptor can't be duplicated, or there is no thread.
    pub fn to_standard(stream: impl AsFd) -> io::Result<Outlet> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        Outlet::start(file, WAITING_BYTES_MAX)
    }

    /// Queues `line`, with its end; drops it if there is no room. Never blocks.
    pub fn say(&self, line: impl Into<Box<[u8]>>) {
        let line = line.into();
        let mut queue = self.shared.queue.lock();
        if queue.bytes + line.len() > self.shared.bytes_max {
            drop(queue);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.shared.filled.notify_one();
    }

    /// Waits until all earlier lines are written or dropped, at most `within`.
    pub fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut queue = self.shared.queue.lock();
        while !queue.lines.is_empty() || queue.writing {
            if self.shared.emptied.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
    }

    /// How many lines had no room or no reader so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// For writers of lines that want a [`Write`]: each call of `write` is one line.
impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.say(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write_to(&self, mut to: impl Write) -> ! {
        let mut told = 0;
        loop {
            let line = self.next_line();
            // The gap is reported as soon as there is a reader, before the lines after it.
            let missing = self.dropped.load(Ordering::Relaxed) - told;
            if missing > 0 && to.write_all(gap_line(missing).as_bytes()).is_ok() {
                told += missing;
            }
            // A write that fails has no reader: the node continues without one.
            if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next_line(&self) -> Box<[u8]> {
        let mut queue = self.queue.lock();
        queue.writing = false;
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            self.emptied.notify_all();
            self.filled.wait(&mut queue);
        }
    }
}

fn gap_line(missing: u64) -> String {
    let lines = if missing == 1 { "line is" } else { "lines are" };
    format!("({missing} {lines} missing here: nobody read them in time)\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A reader that takes lines, has gone away, or lets the writer wait.
    struct Reader {
        lines: Arc<Mutex<Vec<u8>>>,
        gone: Arc<Mutex<bool>>,
        /// Each write waits for one of these; none once the other end is dropped.
        permits: mpsc::Receiver<()>,
        /// Told before each wait.
        waits: mpsc::Sender<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A test that has seen enough drops its ends.
            let _ended = self.waits.send(());
            let _permitted = self.permits.recv();
            if *self.gone.lock() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.lines.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        outlet: Outlet,
        lines: Arc<Mutex<Vec<u8>>>,
        gone: Arc<Mutex<bool>>,
        permits: mpsc::Sender<()>,
        waits: mpsc::Receiver<()>,
    }

    impl Test {
        fn start(bytes_max: usize) -> Test {
            let (lines, gone) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<bool>>::default());
            let (permits, permitted) = mpsc::channel();
            let (waiting, waits) = mpsc::channel();
            let reader = Reader {
                lines: Arc::clone(&lines),
                gone: Arc::clone(&gone),
                permits: permitted,
                waits: waiting,
            };
            let outlet = Outlet::start(reader, bytes_max).expect("a thread");
            Test { outlet, lines, gone, permits, waits }
        }

        fn read(&self) -> String {
            String::from_utf8(self.lines.lock().clone()).expect("text")
        }
    }

    /// Goal: a reader that does not read delays no thread and costs a bounded memory; when it reads
    /// again it gets what waited, and learns how much is missing. Method: a writer that waits for a
    /// permit; one line more than there is room for.
    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody() {
        let test = Test::start(30);
        test.outlet.say(*b"line 0000\n");
        test.waits.recv_timeout(PATIENCE).expect("the first line is being written");
        for number in 1..=5 {
            test.outlet.say(format!("line {number:04}\n").into_bytes());
        }
        assert_eq!(test.outlet.dropped(), 2, "three wait, beside the one that is being written");
        test.outlet.flush(Duration::ZERO);
        assert_eq!(test.read(), "");
        drop(test.permits);
        test.outlet.flush(PATIENCE);
        let text = String::from_utf8(test.lines.lock().clone()).expect("text");
        let gap = "(2 lines are missing here: nobody read them in time)\n";
        assert_eq!(text, format!("line 0000\n{gap}line 0001\nline 0002\nline 0003\n"));
    }

    /// Goal: a reader that is gone is no fault, and the next one learns of the gap. Method: writes
    /// fail as those to a closed pipe, then succeed.
    #[test]
    fn a_reader_that_is_gone_is_no_fault() {
        let test = Test::start(1_000);
        *test.gone.lock() = true;
        test.outlet.say(*b"lost\n");
        test.outlet.say(*b"lost too\n");
        for _ in 0..3 {
            // The second line is tried after the note of the first, which fails alike.
            test.permits.send(()).expect("the writer lives");
        }
        test.outlet.flush(PATIENCE);
        assert_eq!(test.outlet.dropped(), 2);
        *test.gone.lock() = false;
        test.outlet.say(*b"heard\n");
        test.permits.send(()).expect("the writer lives");
        test.permits.send(()).expect("the writer lives");
        test.outlet.flush(PATIENCE);
        let gap = "(2 lines are missing here: nobody read them in time)\n";
        assert_eq!(test.read(), format!("{gap}heard\n"));
    }
}
