//! What the workers of one engine share, and the queues to the threads behind them.

use std::sync::Arc;

use quorate_log::{LogStore, LogWriter};
use quorate_transport::{Transport, WallClock};

use crate::cluster::bootstrap_state::BootstrapState;
use crate::state::engine_state::EngineState;
use crate::worker::apply::ApplyTask;
use crate::worker::fetch::FetchJob;
use crate::worker::inbox::Inbox;
use crate::worker::queue::Queue;
use crate::worker::snapshots::{ReceiveTask, SendTask};
use crate::worker::step::Observer;

/// The queues from the workers to the threads behind them.
#[derive(Clone, Default)]
pub(crate) struct Queues {
    pub(crate) applies: Arc<Queue<ApplyTask>>,
    pub(crate) fetches: Arc<Queue<FetchJob>>,
    /// For the thread that sends snapshots.
    pub(crate) sent: Arc<Queue<SendTask>>,
    /// For the thread that receives them.
    pub(crate) received: Arc<Queue<ReceiveTask>>,
}

/// Passed to each worker and each thread behind them when they are made.
pub(crate) struct WorkerShared {
    pub(crate) state: Arc<EngineState>,
    pub(crate) bootstrap_state: Arc<BootstrapState>,
    pub(crate) wall_clock: WallClock,
    /// One per worker.
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) log: Arc<LogStore>,
    pub(crate) writer: Arc<LogWriter>,
    pub(crate) queues: Queues,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}
