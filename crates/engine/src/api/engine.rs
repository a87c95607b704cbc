//! The engine's public handle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_machine::{KvCommand, KvReply};
use quorate_transport::{BindError, NodeTls};
use quorate_types::{NodeId, ShardId, limits};
use tokio::sync::oneshot;

use crate::api::builder::EngineBuilder;
use crate::api::submission::{SUBMISSIONS_BYTES_MAX, SUBMISSIONS_MAX};
use crate::calls::call::{Call, CallKind, Completion, Outcome};
use crate::calls::read::ReadLevel;
use crate::control::balance::Balancer;
use crate::error::{
    FatalError, IncrementError, Indeterminate, Invalid, ReadError, Refusal, WriteError,
};
use crate::lifecycle::running::Running;
use crate::request::range_reads::{KeyPage, PageSize, ScanPage};
use crate::state::budget::Budget;
use crate::status::cluster_status::{Balanced, ClusterStatus, Drained, Readiness};
use crate::status::node_status::Status;
use crate::store::data_store::{DataStatistics, Found};

/// Where a key is, as far as a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The shard that owns it.
    pub shard: ShardId,
    /// True if a replica of the shard lives here.
    pub is_here: bool,
    /// The node that leads the shard. Only known where a replica lives.
    pub leader: Option<NodeId>,
}

/// The error for shards that were not ready in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {after:?} these shards know no serving leader: {shards:?}")]
pub struct NotReady {
    /// Time waited.
    pub after: Duration,
    /// The shards.
    pub shards: Vec<ShardId>,
}

/// One node of a cluster: opened by [`Engine::builder`], cheap to clone, used from any thread.
///
/// Its futures need any tokio runtime with time enabled. Dropping the future of a write leaves its
/// outcome unknown. Dropping the last clone stops the engine like [`Engine::shutdown`], and blocks
/// the thread that drops it.
#[derive(Clone)]
pub struct Engine {
    pub(crate) running: Arc<Running>,
    /// Room for writes that were submitted without waiting.
    pub(super) submissions: Arc<Budget>,
}

impl Engine {
    pub(super) fn of(running: Running) -> Engine {
        let submissions = Budget::new(SUBMISSIONS_MAX, SUBMISSIONS_BYTES_MAX);
        Engine { running: Arc::new(running), submissions }
    }

    /// Begins to configure a node that lives in `directory`.
    pub fn builder(directory: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder::new(directory.into())
    }

    /// Sets `key` to `value`. When it returns, a majority of the shard's replicas has synced it.
    ///
    /// # Errors
    /// [`WriteError`] tells "did not happen" from "outcome unknown".
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<(), WriteError> {
        let command = KvCommand::Put { key: key.into(), value: value.into() };
        match self.execute(command).await? {
            KvReply::Done => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Removes `key`; true if it existed.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, WriteError> {
        match self.execute(KvCommand::Delete { key: key.into() }).await? {
            KvReply::Deleted(keys) => Ok(keys > 0),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Adds `by` to the decimal integer under `key`; an absent key counts as 0. Returns the sum.
    ///
    /// # Errors
    /// [`IncrementError`], which tells a value that is not an integer from a failed write.
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<i64, IncrementError> {
        match self.execute(KvCommand::Increment { key: key.into(), by }).await? {
            KvReply::Integer(sum) => Ok(sum),
            KvReply::NotAnInteger => Err(IncrementError::NotAnInteger),
            KvReply::WouldOverflow => Err(IncrementError::WouldOverflow),
            reply => Err(unexpected(&reply).into()),
        }
    }

    /// Replicates any key-value command of one shard.
    ///
    /// Futures that are first polled one after the other enter their shard's log in that order,
    /// unless one of them has to be tried again.
    ///
    /// # Errors
    /// As [`Engine::put`]; [`Invalid`] if keys or values are too long, a range is empty, or the keys
    /// belong to several shards.
    pub async fn execute(&self, command: KvCommand) -> Result<KvReply, WriteError> {
        let invalid = |error: Invalid| WriteError::DidNotHappen(error.into());
        check(&command).map_err(invalid)?;
        if command.first_key().is_none() {
            return Ok(KvReply::Batch(Vec::new()));
        }
        let dispatch = self.running.dispatch();
        let find = || dispatch.route_command(&command);
        let applied = dispatch.write(find, command.encode().into(), None).await?;
        KvReply::decode(&applied.reply).map_err(|error| unreadable(error.to_string()))
    }

    /// Replicates a command of the configured state machine in the shard that owns `key`; returns
    /// the machine's reply.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn execute_bytes(
        &self,
        key: &[u8],
        command: impl Into<Bytes>,
    ) -> Result<Bytes, WriteError> {
        Ok(self.execute_at(key, command).await?.reply)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was changed, so a retry is always safe.
    pub async fn get(&self, key: &[u8], level: ReadLevel) -> Result<Option<Bytes>, ReadError> {
        Ok(self.running.reads().get(key, level).await?)
    }

    /// The values of `keys`, in their order. Each shard's part is consistent in itself, as long as
    /// it is within [`limits::READ_PAGE_BYTES_MAX`] and [`limits::READ_PAGE_KEYS_MAX`]; the parts
    /// are read in parallel, not at one moment.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`Invalid::AnswerTooLong`], before any value is held, if the values have
    /// more than [`limits::READ_BYTES_MAX`] bytes together.
    pub async fn get_many(
        &self,
        keys: &[Bytes],
        level: ReadLevel,
    ) -> Result<Vec<Option<Bytes>>, ReadError> {
        Ok(self.running.reads().get_many(keys, level).await?)
    }

    /// As [`Engine::get_many`], but returns only the length of each value if together they have
    /// more than `bytes_max` bytes. Never holds more than `bytes_max` bytes; with 0 it holds no
    /// value, so that it can also tell which keys exist.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn get_within(
        &self,
        keys: &[Bytes],
        bytes_max: usize,
        level: ReadLevel,
    ) -> Result<Found, ReadError> {
        Ok(self.running.reads().get_within(keys, bytes_max, level).await?)
    }

    /// At most `limit` pairs with keys in `[start, end)`, in key order, across shards; without `end` the
    /// range is unbounded. Each page within a shard is linearizable in itself.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`Invalid::AnswerTooLong`] if the answer has [`limits::READ_BYTES_MAX`]
    /// bytes of keys and values and there may be more: use [`Engine::scan_page`].
    pub async fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        limit: usize,
        level: ReadLevel,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(self.running.reads().scan(start, end, limit, level).await?)
    }

    /// The first pairs with keys in `[start, end)`, at most `keys_max` of them and `bytes_max` bytes
    /// of keys and values (but always at least one pair if there is one), and where to continue. A
    /// page never crosses a shard boundary, so it may be empty without being the last.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn scan_page(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        keys_max: usize,
        bytes_max: usize,
        level: ReadLevel,
    ) -> Result<ScanPage, ReadError> {
        let size = PageSize { keys_max, bytes_max };
        Ok(self.running.reads().scan_page(start, end, size, level).await?)
    }

    /// As [`Engine::scan_page`], but keys only: values are neither held nor counted.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn scan_keys(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        keys_max: usize,
        bytes_max: usize,
        level: ReadLevel,
    ) -> Result<KeyPage, ReadError> {
        let size = PageSize { keys_max, bytes_max };
        Ok(self.running.reads().scan_keys(start, end, size, level).await?)
    }

    /// Counts the keys in `[start, end)` by walking over them on a thread that may block; dropping
    /// the future ends the walk. If a replica lives here, each shard is counted at a single point
    /// in time; otherwise each stretch of at most [`limits::WALK_KEYS_MAX`] keys is.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn count(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        level: ReadLevel,
    ) -> Result<u64, ReadError> {
        Ok(self.running.reads().count(start, end, level).await?)
    }

    /// Sizes of this node's data store, as RocksDB estimates them. Asks no other node.
    #[must_use]
    pub fn data_statistics(&self) -> DataStatistics {
        self.running.data().statistics()
    }

    /// Hands the leadership of `shard` to its replica on `to`. Must be called on the node that
    /// leads; returns when the transfer has begun.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub async fn transfer_leader(&self, shard: ShardId, to: NodeId) -> Result<(), Refusal> {
        let dispatch = self.running.dispatch();
        let descriptor_version = dispatch.replica(shard)?.version();
        let (sender, receiver) = oneshot::channel();
        let call = Call {
            shard,
            descriptor_version,
            kind: CallKind::TransferLeader(to),
            completion: Completion::Local(sender),
        };
        let outcome = match dispatch.submit(call) {
            Ok(()) => receiver.await.unwrap_or(Outcome::Stopping),
            Err(outcome) => outcome,
        };
        match outcome {
            Outcome::TransferBegun => Ok(()),
            Outcome::Refused(HostRefusal::NotLeader { leader })
            | Outcome::LeaderChanged { leader } => {
                Err(Refusal::NoLeader { shard, leader, wait: limits::HEARTBEAT })
            }
            Outcome::Refused(HostRefusal::Busy) => {
                Err(Refusal::Busy { what: "leadership transfer", wait: limits::TRANSFER_TIMEOUT })
            }
            Outcome::Refused(HostRefusal::NotAVoter) => Err(Refusal::NotAVoter { shard, node: to }),
            Outcome::Stale(current) => {
                Err(Refusal::StaleRoute { routed: descriptor_version, current })
            }
            Outcome::Refused(_) => Err(Refusal::NoShard),
            _ => Err(dispatch.stopped()),
        }
    }

    /// The UDP address for other nodes.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.running.transport().local_address()
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.running.identity().node
    }

    /// Sets the address at which another node listens from now on.
    pub fn set_peer(&self, node: NodeId, address: SocketAddr) {
        self.running.addresses().set(node, address);
    }

    /// Where `key` is, as far as this node knows; `None` if no shard owns it. Asks no other node.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Option<Location> {
        let route = self.running.dispatch().route(key).ok()?;
        let leader = route.local.as_ref().and_then(|state| state.leader());
        Some(Location { shard: route.shard, is_here: route.local.is_some(), leader })
    }

    /// What this node knows about itself, its shards and its peers.
    pub async fn status(&self) -> Status {
        self.running.status().status().await
    }

    /// The error that ended this engine's service, if one did. It is permanent.
    #[must_use]
    pub fn fatal(&self) -> Option<FatalError> {
        self.running.state().fatal.get()
    }

    /// Waits until a fatal error ends this engine's service.
    pub async fn wait_fatal(&self) -> FatalError {
        self.running.state().fatal.wait().await
    }

    /// Waits until every shard that lives here knows a serving leader.
    ///
    /// # Errors
    /// [`NotReady`], after `timeout`, names the shards that know none.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady> {
        let (shards, node) = (self.running.dispatch().shards(), self.node());
        let deadline = tokio::time::Instant::now() + timeout;
        for state in shards.all() {
            loop {
                let changed = state.leader_changed();
                if state.is_ready(node) {
                    break;
                }
                if tokio::time::timeout_at(deadline, changed).await.is_err() {
                    let waiting = shards.all().into_iter();
                    let shards = waiting.filter(|s| !s.is_ready(node)).map(|s| s.shard);
                    return Err(NotReady { after: timeout, shards: shards.collect() });
                }
            }
        }
        Ok(())
    }

    /// Whether this node can serve requests. Asks no other node.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.running.status().readiness()
    }

    /// The status of the whole cluster, unreachable nodes included, as far as this node can find
    /// out. It waits at most `timeout` for each other node. If a replica seems to lag, or nodes
    /// seem not to hear each other, it asks those that answered once more, which takes up to
    /// `limits::STATUS_LOOK_AGAIN` and `limits::STATUS_ANSWER_AGAIN` longer. Callers at about the
    /// same time share one answer, found with the first one's timeout and kept for
    /// `limits::STATUS_AGE_MAX`.
    pub async fn cluster_status(&self, timeout: Duration) -> ClusterStatus {
        (*self.running.cluster_reporter().status(timeout).await).clone()
    }

    /// As [`Engine::cluster_status`], with the approximate size of the data of each of `shard`'s
    /// replicas. It is not cheap to find, so it is not told of all shards.
    pub async fn cluster_status_of_shard(
        &self,
        shard: ShardId,
        timeout: Duration,
    ) -> ClusterStatus {
        self.running.cluster_reporter().status_of_shard(shard, timeout).await
    }

    /// Spreads the leaders of all shards over the nodes that are up, as far as their replicas keep
    /// up: asks each node that leads more than its share to hand over, and returns when the
    /// transfers have begun. Does one round; if some transfers could not be begun, call it again
    /// after a few seconds.
    pub async fn balance_leaders(&self) -> Balanced {
        let (cluster, dispatch) = (self.running.cluster_reporter(), self.running.dispatch());
        let fatal = Arc::clone(&self.running.state().fatal);
        let balancer = Balancer::new(Arc::clone(cluster), Arc::clone(dispatch), fatal);
        Arc::new(balancer).balance_leaders().await
    }

    /// Replaces this node's certificates, for example after renewal. New connections use them; existing
    /// connections are kept.
    ///
    /// # Errors
    /// [`BindError`] if they belong to another node or can't be used; then nothing has changed.
    pub fn set_tls(&self, tls: &NodeTls) -> Result<(), BindError> {
        self.running.transport().set_tls(tls)
    }

    /// Adds `text` to this node's warnings in [`Engine::status`] and [`Engine::cluster_status`], for
    /// problems that only the embedding program can know. It stays until it is replaced, or removed with
    /// `None`, under the same `subject`.
    pub fn set_warning(&self, subject: &'static str, text: Option<String>) {
        self.running.resources().set_warning(subject, text);
    }

    /// Transfers every leadership to other nodes, so that stopping this node causes no election. Writes
    /// continue at the new leaders. Returns when no leadership is left, when no node can take one, or
    /// after `timeout`.
    pub async fn drain(&self, timeout: Duration) -> Drained {
        self.running.dispatch().drain(timeout).await
    }

    /// Stops serving, answers every pending call, flushes the data store and joins every thread.
    /// Other clones of the handle get "stopped" from then on.
    pub async fn shutdown(self) {
        let running = Arc::clone(&self.running);
        // Joining blocks; the runtime's own threads must not.
        let joined = tokio::task::spawn_blocking(move || running.stop());
        if let Err(error) = joined.await {
            tracing::error!(%error, "shutdown");
        }
    }
}

/// The error for a reply that the built-in machine never gives to this command. `Unknown` means that every
/// replica refused the command; any other reply means that it was applied.
fn unexpected(reply: &KvReply) -> WriteError {
    match reply {
        KvReply::Unknown => WriteError::DidNotHappen(Refusal::UnknownCommand),
        reply => unreadable(format!("{reply:?}")),
    }
}

fn unreadable(reply: String) -> WriteError {
    WriteError::OutcomeUnknown(Indeterminate::UnreadableReply { reply })
}

fn check(command: &KvCommand) -> Result<(), Invalid> {
    let key = |key: &Bytes| match key.len() {
        found if found > limits::KEY_BYTES_MAX => {
            Err(Invalid::KeyTooLong { found, max: limits::KEY_BYTES_MAX })
        }
        _ => Ok(()),
    };
    let value = |value: &Bytes| match value.len() {
        found if found > limits::VALUE_BYTES_MAX => {
            Err(Invalid::ValueTooLong { found, max: limits::VALUE_BYTES_MAX })
        }
        _ => Ok(()),
    };
    match command {
        KvCommand::Put { key: k, value: v } => key(k).and_then(|()| value(v)),
        KvCommand::Delete { key: k } | KvCommand::Increment { key: k, .. } => key(k),
        KvCommand::DeleteRange { start, end } => {
            if start >= end {
                return Err(Invalid::EmptyRange);
            }
            key(start).and_then(|()| key(end))
        }
        KvCommand::CompareAndSet { key: k, expected, value: new } => {
            key(k)?;
            expected.iter().chain(new).try_for_each(value)
        }
        KvCommand::Batch(commands) => commands.iter().try_for_each(check),
    }
}
