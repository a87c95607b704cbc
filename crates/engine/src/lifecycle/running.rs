//! A running engine: its parts, its threads, and how they stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_log::{LogStore, LogWriter};
use quorate_transport::Transport;
use quorate_types::limits;

use crate::cluster::addresses::PeerAddresses;
use crate::cluster::identity::NodeIdentity;
use crate::error::OpenFault;
use crate::lifecycle::periodic::Periodic;
use crate::lifecycle::threads::spawn;
use crate::request::dispatch::Dispatch;
use crate::request::reads::Reads;
use crate::serve::inbound::Inbound;
use crate::snapshot::receiver::SnapshotReceiver;
use crate::snapshot::sender::SnapshotSender;
use crate::state::engine_state::EngineState;
use crate::status::cluster_reporter::ClusterReporter;
use crate::status::node_status::StatusReporter;
use crate::status::resources::Resources;
use crate::store::data_store::DataStore;
use crate::upkeep::disk_watch::DiskWatch;
use crate::upkeep::log_bound::{self, LogBound};
use crate::upkeep::tables;
use crate::worker::apply::ApplyThread;
use crate::worker::fetch::FetchThread;
use crate::worker::inbox::{Inbox, Input};
use crate::worker::shared::{Queues, WorkerShared};
use crate::worker::step::Worker;
#[cfg(test)]
use crate::worker::{apply::ApplyTask, queue::Queue};

/// Longest wait for reads that run for other nodes.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The threads to join, in the order in which work flows through them.
struct Threads {
    workers: Vec<JoinHandle<()>>,
    writer: Arc<LogWriter>,
    apply: Option<JoinHandle<()>>,
    fetch: Option<JoinHandle<()>>,
    snapshots: Vec<JoinHandle<()>>,
    upkeep: Vec<Periodic>,
    runtime: tokio::runtime::Runtime,
}

/// The parts of a running engine that its handle uses.
pub(super) struct Components {
    pub(super) identity: NodeIdentity,
    pub(super) reads: Arc<Reads>,
    pub(super) cluster: Arc<ClusterReporter>,
    pub(super) status: Arc<StatusReporter>,
    pub(super) addresses: Arc<PeerAddresses>,
    pub(super) resources: Arc<Resources>,
    pub(super) transport: Arc<Transport>,
    pub(super) log: Arc<LogStore>,
    pub(super) data: Arc<DataStore>,
}

/// A running engine. Stops when it is dropped.
///
/// It is made before its threads: if one of them can't be started, the earlier ones are stopped as
/// in any engine.
pub(crate) struct Running {
    components: Components,
    state: Arc<EngineState>,
    inboxes: Vec<Arc<Inbox>>,
    inbound: Arc<Inbound>,
    queues: Queues,
    threads: Mutex<Option<Threads>>,
}

impl Running {
    /// Has no threads yet except those of the log's writer and of `runtime`.
    pub(super) fn new(
        components: Components,
        inbound: Arc<Inbound>,
        shared: &WorkerShared,
        runtime: tokio::runtime::Runtime,
    ) -> Running {
        let writer = Arc::clone(&shared.writer);
        let threads = Threads {
            workers: Vec::new(),
            writer,
            apply: None,
            fetch: None,
            snapshots: Vec::new(),
            upkeep: Vec::new(),
            runtime,
        };
        Running {
            components,
            state: Arc::clone(&shared.state),
            inboxes: shared.inboxes.clone(),
            inbound,
            queues: shared.queues.clone(),
            threads: Mutex::new(Some(threads)),
        }
    }

    pub(crate) fn identity(&self) -> &NodeIdentity {
        &self.components.identity
    }

    /// What the engine's threads share.
    pub(crate) fn state(&self) -> &EngineState {
        &self.state
    }

    /// Sends requests to their shards. Writes need only this.
    pub(crate) fn dispatch(&self) -> &Arc<Dispatch> {
        &self.components.reads.dispatch
    }

    pub(crate) fn reads(&self) -> &Arc<Reads> {
        &self.components.reads
    }

    /// Reports the status of the cluster.
    pub(crate) fn cluster_reporter(&self) -> &Arc<ClusterReporter> {
        &self.components.cluster
    }

    /// Reports the status of this node.
    pub(crate) fn status(&self) -> &Arc<StatusReporter> {
        &self.components.status
    }

    pub(crate) fn addresses(&self) -> &PeerAddresses {
        &self.components.addresses
    }

    pub(crate) fn resources(&self) -> &Arc<Resources> {
        &self.components.resources
    }

    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.components.transport
    }

    pub(crate) fn log(&self) -> &Arc<LogStore> {
        &self.components.log
    }

    pub(crate) fn data(&self) -> &Arc<DataStore> {
        &self.components.data
    }

    /// Where the transport's events go.
    #[cfg(test)]
    pub(crate) fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Where tasks for the apply thread go.
    #[cfg(test)]
    pub(crate) fn applies(&self) -> &Arc<Queue<ApplyTask>> {
        &self.queues.applies
    }

    /// Another watch over this engine's log, which asks `applies` for syncs of own stores.
    #[cfg(test)]
    pub(crate) fn log_bound(
        &self,
        applies: &Arc<Queue<ApplyTask>>,
        kept_bytes_max: u64,
    ) -> LogBound {
        let Components { log, data, .. } = &self.components;
        let (log, data, state) = (Arc::clone(log), Arc::clone(data), Arc::clone(&self.state));
        LogBound::new(log, data, state, Arc::clone(applies), self.inboxes.clone(), kept_bytes_max)
    }

    /// Starts the thread of the next worker.
    pub(super) fn start_worker(&self, worker: Worker) -> Result<(), OpenFault> {
        let name = format!("step-{}-{}", self.identity().node, worker.index());
        let thread = spawn(&self.state.fatal, name, move || worker.run())?;
        self.keep(|threads| threads.workers.push(thread));
        Ok(())
    }

    /// Starts the thread that applies.
    pub(super) fn start_apply(&self, apply: ApplyThread) -> Result<(), OpenFault> {
        let name = format!("apply-{}", self.identity().node);
        let thread = spawn(&self.state.fatal, name, move || apply.run())?;
        self.keep(|threads| threads.apply = Some(thread));
        Ok(())
    }

    /// Starts the thread that reads the log.
    pub(super) fn start_fetch(&self, fetch: FetchThread) -> Result<(), OpenFault> {
        let name = format!("fetch-{}", self.identity().node);
        let thread = spawn(&self.state.fatal, name, move || fetch.run())?;
        self.keep(|threads| threads.fetch = Some(thread));
        Ok(())
    }

    /// Starts the threads that send and receive snapshots.
    pub(super) fn start_snapshots(
        &self,
        sender: SnapshotSender,
        receiver: SnapshotReceiver,
    ) -> Result<(), OpenFault> {
        let node = self.identity().node;
        let sender = spawn(&self.state.fatal, format!("snap-out-{node}"), move || sender.run())?;
        self.keep(|threads| threads.snapshots.push(sender));
        let receiver = spawn(&self.state.fatal, format!("snap-in-{node}"), move || receiver.run())?;
        self.keep(|threads| threads.snapshots.push(receiver));
        Ok(())
    }

    /// Starts the threads that merge the log's small tables and keep the log within its bound.
    pub(super) fn start_upkeep(&self, mut bound: LogBound) -> Result<(), OpenFault> {
        let node = self.identity().node;
        let Components { log, resources, .. } = &self.components;
        let (log, resources) = (Arc::clone(log), Arc::clone(resources));
        let merge = move |stop: &AtomicBool| tables::merge(&log, &resources, stop);
        let fatal = &self.state.fatal;
        let tidy = Periodic::start(fatal, format!("tidy-{node}"), tables::LOOK, merge)?;
        self.keep(|threads| threads.upkeep.push(tidy));
        let look = move |_: &AtomicBool| {
            bound.look();
            true
        };
        let purge = Periodic::start(fatal, format!("purge-{node}"), log_bound::LOOK, look)?;
        self.keep(|threads| threads.upkeep.push(purge));
        Ok(())
    }

    /// Starts the thread that looks at the room on the disk.
    pub(super) fn start_disk_watch(&self, mut watch: DiskWatch) -> Result<(), OpenFault> {
        let name = format!("disk-{}", self.identity().node);
        let look = move |_: &AtomicBool| {
            watch.round();
            true
        };
        let thread = Periodic::start(&self.state.fatal, name, limits::DISK_FLOOR_LOOK, look)?;
        self.keep(|threads| threads.upkeep.push(thread));
        Ok(())
    }

    fn keep(&self, keep: impl FnOnce(&mut Threads)) {
        keep(self.threads.lock().as_mut().expect("not stopped while it starts"));
    }

    /// Answers every pending call and joins every thread. Blocks; does nothing the second time.
    pub(crate) fn stop(&self) {
        self.state.shutdown.begin();
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        // First nothing new comes in; then work drains in the order in which it flows.
        self.inboxes.iter().for_each(|inbox| inbox.push(Input::Stop));
        threads.workers.into_iter().for_each(join);
        match Arc::try_unwrap(threads.writer) {
            Ok(writer) => writer.shutdown(),
            Err(_) => unreachable!("the workers that shared the writer have ended"),
        }
        self.queues.applies.close();
        threads.apply.into_iter().for_each(join);
        self.queues.fetches.close();
        threads.fetch.into_iter().for_each(join);
        self.queues.sent.close();
        self.queues.received.close();
        threads.snapshots.into_iter().for_each(join);
        threads.upkeep.into_iter().for_each(Periodic::end);
        // A read that is still running would keep the data store open after its engine has ended.
        self.components.reads.drain(SHUTDOWN_TIMEOUT);
        if !self.state.fatal.is_set()
            && let Err(error) = self.components.data.flush()
        {
            // Nothing is lost: the next start applies it again from the log.
            tracing::warn!(%error, "the data store was not flushed");
        }
        // Answers to other nodes are queued by now; closing the transport sends what it can, and
        // tells every peer that its open requests have an unknown outcome.
        // On a thread of its own, because the last handle may be dropped on a runtime's thread.
        let (transport, inbound) = (&self.components.transport, &self.inbound);
        let runtime = threads.runtime;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                transport.shutdown_blocking();
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
