//! The threads of a running engine, and their end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_log::LogWriter;
use quorate_transport::panic_text;

use crate::apply::ApplyJob;
use crate::core::Core;
use crate::error::{FatalError, OpenFault};
use crate::fetch::FetchJob;
use crate::inbox::Input;
use crate::queue::Queue;
use crate::receiver::Inbound;

/// Longest wait for reads that run for other nodes.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a thread whose panic ends the engine's service: a broken invariant in one thread must
/// not leave the others answering.
pub(crate) fn spawn(
    core: &Arc<Core>,
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenFault> {
    let core = Arc::clone(core);
    let thread = name.clone();
    let guarded = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            core.end(FatalError::Panic { thread, message: panic_text(&*panic) });
        }
    };
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(guarded)
        .map_err(|cause| OpenFault::System { what: format!("starting thread {name}"), cause })
}

/// What has to be joined, in the order in which work flows through it.
struct Threads {
    workers: Vec<JoinHandle<()>>,
    writer: Arc<LogWriter>,
    apply: JoinHandle<()>,
    fetch: JoinHandle<()>,
    runtime: tokio::runtime::Runtime,
}

/// A running engine. Stops when it is dropped.
pub(crate) struct Running {
    pub(crate) core: Arc<Core>,
    inbound: Arc<Inbound>,
    applies: Arc<Queue<ApplyJob>>,
    fetches: Arc<Queue<FetchJob>>,
    threads: Mutex<Option<Threads>>,
}

/// The threads and queues that [`Running::new`] takes over.
pub(crate) struct Started {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) workers: Vec<JoinHandle<()>>,
    pub(crate) writer: Arc<LogWriter>,
    pub(crate) applies: Arc<Queue<ApplyJob>>,
    pub(crate) apply: JoinHandle<()>,
    pub(crate) fetches: Arc<Queue<FetchJob>>,
    pub(crate) fetch: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(core: Arc<Core>, started: Started) -> Running {
        let Started { inbound, runtime, workers, writer, applies, apply, fetches, fetch } = started;
        let threads = Threads { workers, writer, apply, fetch, runtime };
        Running { core, inbound, applies, fetches, threads: Mutex::new(Some(threads)) }
    }

    /// Answers every pending call and joins every thread. Blocks; does nothing the second time.
    pub(crate) fn stop(&self) {
        self.core.ending.begin();
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        // First nothing new comes in; then work drains in the order in which it flows.
        self.core.inboxes.iter().for_each(|inbox| inbox.push(Input::Stop));
        threads.workers.into_iter().for_each(join);
        match Arc::try_unwrap(threads.writer) {
            Ok(writer) => writer.shutdown(),
            Err(_) => unreachable!("the workers that shared the writer have ended"),
        }
        self.applies.close();
        join(threads.apply);
        self.fetches.close();
        join(threads.fetch);
        if !self.core.fatal.is_set()
            && let Err(error) = self.core.data.flush()
        {
            // Nothing is lost: the next start applies it again from the log.
            tracing::warn!(%error, "the data store was not flushed");
        }
        // Answers to other nodes are queued by now; closing the transport sends what it can, and
        // tells every peer that its open requests have an unknown outcome.
        // On a thread of its own, because the last handle may be dropped on a runtime's thread.
        let (core, inbound, runtime) = (&self.core, &self.inbound, threads.runtime);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                core.transport.shutdown_blocking();
                inbound.close();
                runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            });
        });
    }
}

fn join(thread: JoinHandle<()>) {
    // A panic of the body was caught and latched; nothing is left to report here.
    drop(thread.join());
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
