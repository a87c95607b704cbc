//! Sends a request to where it is executed: the worker of a local shard, or another node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_host::{HostRefusal, ShardView};
use quorate_transport::Transport;
use quorate_types::{NodeId, ShardId, limits};
use tokio::sync::oneshot;

use crate::calls::call::{Call, CallKind, Outcome};
use crate::calls::progress::ProgressSink;
use crate::cluster::map::{ClusterMap, META_SHARD};
use crate::error::{Invalid, Refusal};
use crate::peer::codec::{PeerRequest, RequestKind};
use crate::peer::forwarder::{Forwarder, NotSent, PendingRequest};
use crate::request::route::Route;
use crate::state::clock;
use crate::state::counters::Counters;
use crate::state::engine_state::EngineState;
use crate::state::shards::{DamagedReplica, LocalShard, Shards};
use crate::state::shutdown::Shutdown;
use crate::worker::inbox::{Inbox, Input};

/// The parts of [`Dispatch`]; all of them are shared with others.
pub(crate) struct DispatchParts {
    pub(crate) node: NodeId,
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) state: Arc<EngineState>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) forwarder: Arc<Forwarder>,
}

/// Sends requests to local workers or other nodes. It reaches no store: a write needs no more.
pub(crate) struct Dispatch(DispatchParts);

impl Dispatch {
    pub(crate) fn new(parts: DispatchParts) -> Dispatch {
        Dispatch(parts)
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.0.node
    }

    /// The cluster's map as this node knows it.
    pub(crate) fn map(&self) -> &Arc<ClusterMap> {
        &self.0.map
    }

    /// The shards that live here.
    pub(crate) fn shards(&self) -> &Shards {
        &self.0.state.shards
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.state.counters
    }

    /// What the engine's threads share.
    pub(crate) fn state(&self) -> &EngineState {
        &self.0.state
    }

    /// The engine's shutdown signal.
    pub(crate) fn shutdown(&self) -> &Arc<Shutdown> {
        &self.0.state.shutdown
    }

    /// True once shutdown has begun or a fatal error has occurred.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.state.shutdown.has_begun()
    }

    /// Why the engine is stopped, as an error for the caller.
    pub(crate) fn stopped(&self) -> Refusal {
        self.0.state.shutdown.refusal()
    }

    /// True while there is a connection to `node`.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.0.transport.is_connected(node)
    }

    /// Hands a call to the worker of its shard, or returns its outcome at once.
    pub(crate) fn submit(&self, call: Call) -> Result<(), Outcome> {
        if self.is_stopped() {
            return Err(Outcome::Stopping);
        }
        let no_replica = Outcome::Refused(HostRefusal::NoReplica);
        let state = self.0.state.shards.get(call.shard).ok_or(no_replica)?;
        if let CallKind::Write(_) = call.kind {
            self.check_disk(state)?;
        }
        let pushed = self.0.inboxes[state.worker].push_call(call);
        pushed.map_err(|_| Outcome::Refused(HostRefusal::Busy))
    }

    /// Refuses a write of a shard that is led here, if the disk has no room for it. Which disk counts is
    /// known only where the leader is. The meta shard's small commands come from nodes alone, and how
    /// room is made may depend on them: they are taken down to half of the floor.
    fn check_disk(&self, shard: &LocalShard) -> Result<(), Outcome> {
        let disk = &self.0.state.disk;
        let Some(low) = disk.low() else {
            return self.check_peers_disks(shard);
        };
        if shard.leader() != Some(self.node()) {
            return Ok(());
        }
        if shard.shard == META_SHARD && !disk.is_spent() {
            return self.check_peers_disks(shard);
        }
        let members = shard.descriptor().members;
        let is_relieved = disk.is_relieved(members.iter().map(|member| member.node));
        Err(Outcome::DiskLow { node: self.node(), low, is_relieved })
    }

    /// Refuses a write of a shard that is led here, if so many members have said that they take no entries
    /// that it could not be committed.
    fn check_peers_disks(&self, shard: &LocalShard) -> Result<(), Outcome> {
        let peers = &self.0.state.spent_peers;
        if !peers.has_some() || shard.leader() != Some(self.node()) {
            return Ok(());
        }
        let members = shard.descriptor().members;
        let nodes = members.iter().map(|member| member.node);
        match peers.without_majority(clock::now(), nodes) {
            None => Ok(()),
            Some((node, low)) => Err(Outcome::DiskLow { node, low, is_relieved: false }),
        }
    }

    /// Ends a replica whose stored bytes are not what was written.
    pub(crate) fn report_damage(&self, state: &LocalShard, what: String) {
        let (shard, replica) = (state.shard, state.replica);
        let damaged = DamagedReplica::for_good(shard, replica, what);
        self.0.inboxes[state.worker].push(Input::Damaged(damaged));
    }

    /// Every shard that lives here, as its worker sees it.
    pub(crate) async fn views(&self) -> BTreeMap<ShardId, ShardView> {
        let mut views = BTreeMap::new();
        for inbox in &self.0.inboxes {
            let (sender, receiver) = oneshot::channel();
            inbox.push(Input::View(sender));
            // A worker that has ended does not answer; its shards are omitted.
            views.extend(receiver.await.unwrap_or_default());
        }
        views
    }

    /// Sends a request to `node`. The stages before its outcome go to `progress`.
    pub(crate) fn forward(
        &self,
        route: &Route,
        node: NodeId,
        kind: RequestKind,
        body: Bytes,
        progress: Option<ProgressSink>,
    ) -> Result<PendingRequest, Outcome> {
        let request = PeerRequest {
            kind,
            shard: route.shard,
            descriptor_version: route.descriptor_version,
            body,
        };
        let sent = self.send_request(node, &request, progress);
        self.0.state.counters.forwards_sent.add(1);
        sent.map_err(|error| match error {
            NotSent::Unreachable => Outcome::Unreachable { node },
            NotSent::Full => Outcome::Refused(HostRefusal::Busy),
        })
    }

    /// Sends a request to `node` as it is, without a route. Requests that concern no single shard use it
    /// directly.
    pub(crate) fn send_request(
        &self,
        node: NodeId,
        request: &PeerRequest,
        progress: Option<ProgressSink>,
    ) -> Result<PendingRequest, NotSent> {
        self.0.forwarder.send(&self.0.transport, node, request, progress)
    }
}

/// Every command is checked here before it enters a log: an entry too large for a frame would block its
/// shard.
pub(crate) fn check_command_size(command: &[u8]) -> Result<(), Invalid> {
    match command.len() {
        found if found > limits::COMMAND_BYTES_MAX => {
            Err(Invalid::CommandTooLong { found, max: limits::COMMAND_BYTES_MAX })
        }
        _ => Ok(()),
    }
}
