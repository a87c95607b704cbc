//! The writer's thread, which gathers the turns of all workers into as few syncs as the disk
//! allows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::LogFault;
use crate::store::LogStore;
use crate::turn::TurnWrite;

/// Bytes after which a batch is closed and synced: past this a sync is bound by bandwidth,
/// and waiting for more would only add latency.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// The writer thread of one store. While batch N is with the disk, the turns of batch N+1 gather in
/// its queue; a turn that finds the writer idle is written at once, alone: a turn never waits for
/// others to join it.
///
/// A second thread that encodes batch N+1 while N syncs was rejected: encoding copies the runs
/// once, far faster than a sync, and the hand-over would cost each write of an idle store a
/// wake-up.
pub struct LogWriter {
    turns: Option<Sender<TurnWrite>>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread, which calls `completed` once per batch: with the worker and number of
    /// every turn that has a number and is now durable, in the order of submission, unless none
    /// has one; or, from the first failure on
    /// (RULE 8), with the store's first fault. A panic of the thread is such a failure. `completed`
    /// must not block, and must not submit.
    ///
    /// # Panics
    /// If the operating system refuses a thread.
    pub fn spawn(
        store: Arc<LogStore>,
        completed: impl Fn(Result<&[(usize, u64)], &LogFault>) + Send + 'static,
    ) -> LogWriter {
        // The queue is bounded by the kernels' bounds on uncommitted entries and by their leaders'
        // windows. A worker must not wait here: on a hung disk it has to give up its leaderships.
        let (turns, queue) = unbounded();
        let thread = thread::Builder::new()
            .name("quorate-log".to_owned())
            .spawn(move || {
                // A panic leaves turns without a completion, and a half-changed store.
                let caught = catch_unwind(AssertUnwindSafe(|| run(&store, &queue, &completed)));
                if caught.is_err() {
                    let dir = store.latch().dir().to_owned();
                    completed(Err(&store.latch().close(LogFault::Panicked { dir })));
                }
            })
            .expect("a thread for the log writer");
        LogWriter { turns: Some(turns), thread: Some(thread) }
    }

    /// Submits a turn; never blocks. Turns of one worker complete in the order of submission. Does
    /// nothing after a panic of the thread, which was reported through `completed`.
    pub fn submit(&self, turn: TurnWrite) {
        let turns = self.turns.as_ref().expect("open until shutdown");
        if turns.send(turn).is_err() {
            tracing::error!("a turn was handed to a log writer that has panicked");
        }
    }

    /// Writes what was submitted and ends the thread.
    pub fn shutdown(self) {
        drop(self);
    }

    fn end(&mut self) -> thread::Result<()> {
        self.turns = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // A panic was reported by the thread itself, and the store is latched.
        if self.end().is_err() {
            tracing::error!("the log writer has panicked");
        }
    }
}

fn run(
    store: &LogStore,
    queue: &Receiver<TurnWrite>,
    completed: &impl Fn(Result<&[(usize, u64)], &LogFault>),
) {
    let mut turns = Vec::new();
    let mut numbers = Vec::new();
    while let Ok(first) = queue.recv() {
        gather(first, queue, &mut turns);
        numbers.extend(turns.iter().filter_map(|turn| Some((turn.worker, turn.number?))));
        match store.write(&turns) {
            Ok(()) if numbers.is_empty() => {}
            Ok(()) => completed(Ok(&numbers)),
            Err(fault) => completed(Err(&fault)),
        }
        numbers.clear();
        turns.clear();
    }
}

/// Takes `first` and the turns that already wait, up to a batch's bytes.
fn gather(first: TurnWrite, queue: &Receiver<TurnWrite>, turns: &mut Vec<TurnWrite>) {
    let mut next = Some(first);
    let mut bytes = 0;
    while let Some(turn) = next {
        bytes += turn.batch_bytes();
        turns.push(turn);
        next = if bytes < BATCH_BYTES_MAX { queue.try_recv().ok() } else { None };
    }
}
