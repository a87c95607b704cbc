//! The status that an engine reports of itself: plain numbers and text, ready for JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_host::ShardView;
use quorate_log::LogStore;
use quorate_transport::{Transport, WallClock};
use quorate_types::{Incarnation, Index, NodeId, ReplicaId, ShardId, Term, limits};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cluster::addresses::PeerAddresses;
use crate::cluster::bootstrap_state::BootstrapState;
use crate::cluster::identity::NodeIdentity;
use crate::request::dispatch::Dispatch;
use crate::state::clock;
use crate::state::counters::CounterValues;
use crate::state::fatal::Fatal;
use crate::state::shards::DamagedReplica;
use crate::state::tasks::run_blocking;
use crate::status::cached::Cached;
use crate::status::cluster_status::{Readiness, ReplicaRole};
use crate::status::log_status::{LogStatus, micros};
use crate::status::resources::{ResourceStatus, Resources, Warning};
use crate::status::snapshots::SnapshotsStatus;
use crate::store::data_store::{DataStatistics, DataStore};

/// The status of a node at one moment. Each shard's part is consistent in itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This node's id.
    pub node: NodeId,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The directory's id, 32 hexadecimal digits.
    pub store: String,
    /// How often the node has started.
    pub incarnation: Incarnation,
    /// The QUIC address.
    pub address: String,
    /// The fatal error that ended service, if any.
    pub fatal: Option<String>,
    /// Whether the node can serve.
    pub readiness: Readiness,
    /// The shards that live here, ascending; 0 is the meta shard.
    pub shards: Vec<ShardStatus>,
    /// The other nodes, ascending.
    pub peers: Vec<PeerStatus>,
    /// The log.
    pub log: LogStatus,
    /// The data store.
    pub data: DataStatistics,
    /// Totals since the engine opened.
    pub counters: CounterValues,
    /// The snapshots that it sends and receives.
    #[serde(default)]
    pub snapshots: SnapshotsStatus,
    /// The replicas that were given up because their bytes are damaged, by shard. They are not among
    /// `shards`.
    #[serde(default)]
    pub damaged: Vec<DamagedReplica>,
    /// The node's limited resources.
    #[serde(default)]
    pub resources: ResourceStatus,
    /// What will end its service unless somebody acts.
    #[serde(default, rename = "warning_facts", deserialize_with = "known_warnings")]
    pub warnings: Vec<Warning>,
}

/// The status of one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The shard's id.
    pub shard: ShardId,
    /// This replica's id in the group.
    pub replica: ReplicaId,
    /// Its role in its group.
    pub role: ReplicaRole,
    /// Current term.
    pub term: Term,
    /// The node of the leader, if known.
    pub leader: Option<NodeId>,
    /// Last entry's term.
    pub last_term: Term,
    /// Last entry's index.
    pub last_index: Index,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// The entry before the first of its log; none if an older version reports.
    #[serde(default)]
    pub base: Option<Index>,
    /// Bytes of its stored log; none if an older version reports.
    #[serde(default)]
    pub log_bytes: Option<u64>,
    /// Version of the descriptor.
    pub descriptor_version: u64,
    /// First key, as lower-case hexadecimal.
    pub start: String,
    /// First key after its range, as lower-case hexadecimal; none if there is no bound.
    pub end: Option<String>,
    /// Nodes of the members.
    pub members: Vec<NodeId>,
}

/// The status of one connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer's node id.
    pub node: NodeId,
    /// Its address.
    pub address: String,
    /// Whether the connection is up.
    pub connected: bool,
    /// Why the last connection ended or failed, if one did.
    pub last_failure: Option<String>,
    /// Whether the reason is that one of the two nodes does not admit the other.
    #[serde(default)]
    pub is_not_admitted: bool,
    /// Smoothed round trip in microseconds; 0 if not connected.
    pub round_trip_us: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages dropped because a lane was full.
    pub messages_dropped: u64,
    /// UDP bytes sent.
    pub udp_bytes_sent: u64,
    /// UDP bytes received.
    pub udp_bytes_received: u64,
}

/// The warnings of a peer that this version knows: a newer version may know more, and the rest of
/// its status must still be readable.
fn known_warnings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Warning>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let known = |value| match serde_json::from_value(value) {
        Ok(warning) => Some(warning),
        Err(error) => {
            tracing::debug!(%error, "a warning of a peer is not known here");
            None
        }
    };
    Ok(all.into_iter().filter_map(known).collect())
}

impl Status {
    /// Whether this node has a connection to `node`.
    pub(crate) fn is_connected_to(&self, node: NodeId) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.connected)
    }
}

/// The parts that [`StatusReporter`] reads.
pub(crate) struct StatusParts {
    pub(crate) identity: NodeIdentity,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) bootstrap_state: Arc<BootstrapState>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) addresses: Arc<PeerAddresses>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) log: Arc<LogStore>,
    pub(crate) data: Arc<DataStore>,
    pub(crate) log_kept_bytes_max: u64,
    pub(crate) wall_clock: WallClock,
}

/// Reports the status of this node.
pub(crate) struct StatusReporter {
    parts: StatusParts,
    /// This node's status for others, encoded.
    own: Cached<Option<Bytes>>,
}

impl StatusReporter {
    pub(crate) fn new(parts: StatusParts) -> StatusReporter {
        StatusReporter { parts, own: Cached::new(limits::STATUS_AGE_MAX) }
    }

    /// The parts that it reads, for the reporter of the whole cluster.
    pub(super) fn parts(&self) -> &StatusParts {
        &self.parts
    }

    fn dispatch(&self) -> &Dispatch {
        &self.parts.dispatch
    }

    fn fatal(&self) -> Arc<Fatal> {
        self.parts.dispatch.shutdown().fatal()
    }

    /// This node's status, encoded for another node: computed at most once a second, however many
    /// ask. `None` if the engine is ending.
    pub(crate) async fn encoded_status(self: &Arc<Self>) -> Option<Bytes> {
        let encode = |status: Status| {
            Bytes::from(serde_json::to_vec(&status).expect("plain numbers and text"))
        };
        let work = async {
            self.dispatch().counters().statuses_told.add(1);
            let (status, fatal) = (self.blocking_status().await?, self.fatal());
            run_blocking(fatal, "status for a peer", move || encode(status)).await
        };
        self.own.get(work).await
    }

    /// Whether this node can serve.
    pub(crate) fn readiness(&self) -> Readiness {
        let waiting = self
            .dispatch()
            .shards()
            .all()
            .into_iter()
            .filter(|state| !state.is_ready(self.dispatch().node()));
        let shards_without_leader: Vec<ShardId> = waiting.map(|state| state.shard).collect();
        let founders_missing = self.parts.bootstrap_state.missing();
        let fatal = self.fatal().get().map(|error| error.to_string());
        let founded = self.parts.bootstrap_state.is_founded();
        let (disk_stalled, apply_stalled) =
            (self.dispatch().state().stalls.disk(), self.dispatch().state().stalls.apply());
        let is_stalled = disk_stalled || apply_stalled;
        let ready = founded && fatal.is_none() && !is_stalled && shards_without_leader.is_empty();
        Readiness {
            ready,
            founded,
            founders_missing,
            shards_without_leader,
            disk_stalled,
            apply_stalled,
            disk_low: self.dispatch().state().disk.low(),
            fatal,
        }
    }

    /// Asks every worker, and reads every counter.
    pub(crate) async fn status(&self) -> Status {
        let views = self.dispatch().views().await;
        self.status_with(&views)
    }

    /// As [`StatusReporter::status`], but built on a thread that may block: with many shards it
    /// takes a while, and it reads counters of RocksDB. `None` if this engine is ending.
    pub(crate) async fn blocking_status(self: &Arc<Self>) -> Option<Status> {
        let (views, reporter) = (self.dispatch().views().await, Arc::clone(self));
        run_blocking(self.fatal(), "status", move || reporter.status_with(&views)).await
    }

    fn status_with(&self, views: &BTreeMap<ShardId, ShardView>) -> Status {
        let validity = self.parts.transport.validity();
        let disk = &self.dispatch().state().disk;
        let resources = self.parts.resources.look(validity, disk);
        let now = (self.parts.wall_clock)();
        let warnings = self.parts.resources.warnings(&resources, disk.low(), validity, now);
        Status {
            node: self.parts.identity.node,
            cluster: self.parts.identity.cluster.to_string(),
            store: self.parts.identity.instance.store.to_string(),
            incarnation: self.parts.identity.instance.incarnation,
            address: self.parts.transport.local_address().to_string(),
            fatal: self.fatal().get().map(|error| error.to_string()),
            readiness: self.readiness(),
            shards: views.iter().filter_map(|(id, view)| self.shard_status(*id, view)).collect(),
            peers: self.peer_statuses(),
            log: LogStatus::of(&self.parts.log, self.parts.log_kept_bytes_max),
            data: self.parts.data.statistics(),
            counters: self.dispatch().counters().values(),
            snapshots: SnapshotsStatus::of(&self.dispatch().state().transfers, clock::now()),
            damaged: self.dispatch().shards().damaged(),
            resources,
            warnings,
        }
    }

    /// About how many bytes the data of this node's replica of `shard` has. Asks the data store, on a
    /// thread that may block. None if no replica serves here, or the engine is ending.
    pub(crate) async fn data_bytes(&self, shard: ShardId) -> Option<u64> {
        let space = self.dispatch().shards().get(shard)?.space();
        let data = Arc::clone(&self.parts.data);
        run_blocking(self.fatal(), "size of a shard", move || data.space_bytes(space)).await
    }

    fn shard_status(&self, id: ShardId, view: &ShardView) -> Option<ShardStatus> {
        let state = self.dispatch().shards().get(id)?;
        let descriptor = state.descriptor();
        Some(ShardStatus {
            shard: id,
            replica: state.replica,
            role: view.role.role.into(),
            term: view.role.term,
            leader: view.role.leader.map(|(_, node)| node),
            last_term: view.last.term,
            last_index: view.last.index,
            commit: view.commit,
            applied: view.applied,
            base: Some(view.base.index),
            log_bytes: self.parts.log.held(id).map(|held| held.bytes),
            descriptor_version: state.version(),
            start: hex(&descriptor.start),
            end: descriptor.end.as_deref().map(hex),
            members: view.membership.members().map(|member| member.node).collect(),
        })
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let statistics = self.parts.transport.statistics();
        let status = |(node, peer): (&NodeId, &quorate_transport::PeerStatistics)| PeerStatus {
            node: *node,
            address: self
                .parts
                .addresses
                .get(*node)
                .map(|address| address.to_string())
                .unwrap_or_default(),
            connected: peer.connected,
            last_failure: peer.last_failure.clone(),
            is_not_admitted: peer.is_not_admitted,
            round_trip_us: peer.round_trip.map_or(0, micros),
            frames_sent: peer.frames_sent,
            messages_sent: peer.messages_sent,
            messages_dropped: peer.messages_dropped_full
                + peer.messages_dropped_unconnected
                + peer.messages_dropped_oversize,
            udp_bytes_sent: peer.udp_bytes_sent,
            udp_bytes_received: peer.udp_bytes_received,
        };
        statistics.peers.iter().map(status).collect()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A replica of `shard` that is committed and applied to `applied`.
    pub(crate) fn replica(
        shard: u64,
        role: ReplicaRole,
        leader: Option<u64>,
        applied: u64,
    ) -> ShardStatus {
        ShardStatus {
            shard: ShardId(shard),
            replica: ReplicaId(1),
            role,
            term: Term(2),
            leader: leader.map(NodeId),
            last_term: Term(2),
            last_index: Index(applied),
            commit: Index(applied),
            applied: Index(applied),
            base: Some(Index(1)),
            log_bytes: Some(0),
            descriptor_version: 1,
            start: String::new(),
            end: None,
            members: Vec::new(),
        }
    }

    /// A sound node with these replicas, connected to nobody.
    pub(crate) fn status(node: u64, shards: Vec<ShardStatus>) -> Status {
        let readiness = Readiness {
            ready: true,
            founded: true,
            founders_missing: Vec::new(),
            shards_without_leader: Vec::new(),
            disk_stalled: false,
            apply_stalled: false,
            disk_low: None,
            fatal: None,
        };
        Status {
            node: NodeId(node),
            cluster: String::new(),
            store: String::new(),
            incarnation: Incarnation(1),
            address: String::new(),
            fatal: None,
            readiness,
            shards,
            peers: Vec::new(),
            log: LogStatus::default(),
            data: DataStatistics::default(),
            counters: CounterValues::default(),
            snapshots: SnapshotsStatus::default(),
            damaged: Vec::new(),
            resources: ResourceStatus::default(),
            warnings: Vec::new(),
        }
    }

    /// Goal: a warning that only a newer version knows does not make a peer's status unreadable. Method: a
    /// known and an unknown one.
    #[test]
    fn unknown_warnings_are_left_out() {
        let known = Warning::DiskNearlyFull { free_bytes: 1, bytes: 100 };
        let mut told = serde_json::to_value(status(1, Vec::new())).expect("plain");
        let known_told = serde_json::to_value(&known).expect("plain");
        told["warning_facts"] = serde_json::json!([{ "moon-is-full": { "phase": 1 } }, known_told]);
        let heard: Status = serde_json::from_value(told).expect("readable");
        assert_eq!(heard.warnings, [known]);
    }

    /// Goal: the status of a peer of an older version, which knows nothing of snapshots and damaged
    /// replicas, can be read. Method: leave out what it does not write.
    #[test]
    fn an_older_peer_is_understood() {
        let role = ReplicaRole::Follower;
        let mut told = serde_json::to_value(status(1, vec![replica(4, role, None, 9)]));
        let told = told.as_mut().expect("plain").as_object_mut().expect("an object");
        for field in ["snapshots", "damaged"] {
            told.remove(field).expect(field);
        }
        let of_shard = told["shards"][0].as_object_mut().expect("an object");
        for field in ["base", "log_bytes"] {
            of_shard.remove(field).expect(field);
        }
        let of_log = told["log"].as_object_mut().expect("an object");
        for field in [
            "held_bytes",
            "kept_bytes_max",
            "purges",
            "purged_runs",
            "purged_bytes",
            "installs",
            "skipped_parts",
        ] {
            of_log.remove(field).expect(field);
        }
        let heard: Status = serde_json::from_value(told.clone().into()).expect("readable");
        assert_eq!((heard.shards[0].base, heard.shards[0].log_bytes), (None, None));
        assert_eq!(heard.snapshots, SnapshotsStatus::default());
    }
}
