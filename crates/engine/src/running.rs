//! The threads of a running engine, and their end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_log::LogWriter;
use quorate_transport::panic_text;

use crate::apply::{ApplyJob, ApplyThread};
use crate::core::Core;
use crate::error::{FatalError, OpenFault};
use crate::fetch::{FetchJob, FetchThread};
use crate::inbox::Input;
use crate::queue::Queue;
use crate::receiver::Inbound;
use crate::tidy::Tidy;
use crate::worker::Worker;

/// Longest wait for reads that run for other nodes.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a thread whose panic ends the engine's service: a broken invariant in one thread must
/// not leave the others answering.
pub(crate) fn spawn(
    core: &Arc<Core>,
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenFault> {
    #[cfg(test)]
    tests::refuse_thread(&name)?;
    let core = Arc::clone(core);
    let thread = name.clone();
    let guarded = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            core.fatal.latch(FatalError::Panic { thread, message: panic_text(&*panic) });
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
    apply: Option<JoinHandle<()>>,
    fetch: Option<JoinHandle<()>>,
    tidy: Option<Tidy>,
    runtime: tokio::runtime::Runtime,
}

/// A running engine. Stops when it is dropped.
///
/// It is made before its threads are: when one of them can't be started, those before it are stopped
/// like those of any engine.
pub(crate) struct Running {
    pub(crate) core: Arc<Core>,
    inbound: Arc<Inbound>,
    applies: Arc<Queue<ApplyJob>>,
    fetches: Arc<Queue<FetchJob>>,
    threads: Mutex<Option<Threads>>,
}

impl Running {
    /// Without any thread yet but those of `writer` and `runtime`.
    pub(crate) fn new(
        core: Arc<Core>,
        inbound: Arc<Inbound>,
        runtime: tokio::runtime::Runtime,
        writer: LogWriter,
    ) -> Running {
        let writer = Arc::new(writer);
        let threads =
            Threads { workers: Vec::new(), writer, apply: None, fetch: None, tidy: None, runtime };
        let (applies, fetches) = (Arc::default(), Arc::default());
        Running { core, inbound, applies, fetches, threads: Mutex::new(Some(threads)) }
    }

    /// Takes over the next worker.
    pub(crate) fn start_worker(&self, worker: Worker) -> Result<(), OpenFault> {
        let name = format!("step-{}-{}", self.core.node, worker.index);
        self.start(|core| spawn(core, name, move || worker.run()), |all, it| all.workers.push(it))
    }

    /// Takes over the thread that drains [`Running::applies`].
    pub(crate) fn start_apply(&self, apply: ApplyThread) -> Result<(), OpenFault> {
        let name = format!("apply-{}", self.core.node);
        self.start(|core| spawn(core, name, move || apply.run()), |all, it| all.apply = Some(it))
    }

    /// Takes over the thread that drains [`Running::fetches`].
    pub(crate) fn start_fetch(&self, fetch: FetchThread) -> Result<(), OpenFault> {
        let name = format!("fetch-{}", self.core.node);
        self.start(|core| spawn(core, name, move || fetch.run()), |all, it| all.fetch = Some(it))
    }

    /// Starts the thread that merges the log's small tables.
    pub(crate) fn start_tidy(&self) -> Result<(), OpenFault> {
        self.start(Tidy::start, |all, it| all.tidy = Some(it))
    }

    fn start<T>(
        &self,
        start: impl FnOnce(&Arc<Core>) -> Result<T, OpenFault>,
        keep: impl FnOnce(&mut Threads, T),
    ) -> Result<(), OpenFault> {
        let started = start(&self.core)?;
        keep(self.threads.lock().as_mut().expect("not stopped while it starts"), started);
        Ok(())
    }

    /// For a worker that is about to be started.
    pub(crate) fn writer(&self) -> Arc<LogWriter> {
        let threads = self.threads.lock();
        Arc::clone(&threads.as_ref().expect("not stopped while it starts").writer)
    }

    /// Where workers leave what is to be applied.
    pub(crate) fn applies(&self) -> &Arc<Queue<ApplyJob>> {
        &self.applies
    }

    /// Where workers leave what is to be read back.
    pub(crate) fn fetches(&self) -> &Arc<Queue<FetchJob>> {
        &self.fetches
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
        threads.apply.into_iter().for_each(join);
        self.fetches.close();
        threads.fetch.into_iter().for_each(join);
        threads.tidy.into_iter().for_each(Tidy::end);
        // A look that goes on would keep the data store open beyond the end of its engine.
        self.core.read_room.drain(SHUTDOWN_TIMEOUT);
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

#[cfg(test)]
#[path = "running_tests.rs"]
pub(crate) mod tests;
