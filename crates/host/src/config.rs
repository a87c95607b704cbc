//! The configuration of a host, and what it is told of each replica that it takes in.

use quorate_liveness::Standings;
use quorate_raft::{Config, Restored};
use quorate_types::{Duration, Incarnation, Mutation, NodeId, ReplicaId, ShardId, limits};

/// The configuration of a host, fixed for its life.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// This node.
    pub node: NodeId,
    /// How often the node has started; keeps read contexts from being reused.
    pub incarnation: Incarnation,
    /// Seed of every kernel's election jitter.
    pub seed: u64,
    /// Deadlines are rounded up to this grid, so that the heartbeats of many shards fall into one
    /// turn and one frame per peer.
    pub timer_grain: Duration,
    /// Bytes of runs that the shards of this host keep in memory together.
    pub entry_cache_bytes_max: usize,
    /// Bytes that the shards of this host may have proposed and not committed together.
    pub uncommitted_bytes_max: usize,
    /// Bytes beyond that, for shards that have nothing under way.
    pub uncommitted_reserve_bytes: usize,
    /// Bytes that the shards of this host may have handed out and not applied together.
    pub apply_bytes_max: usize,
    /// Bytes that the shards of this host may have under way to one peer together.
    pub window_peer_bytes_max: usize,
    /// The standing of the support that this node gives, at its start. With it, shards are bound to
    /// leaders by node liveness: leases, quiesced shards, and no vote in the silence after a start.
    /// Without it, each shard has heartbeats and timers of its own, and every read costs a round.
    pub standings: Option<Standings>,
    /// Whether leaders answer reads by their leases. Only for nodes whose clocks stray from each other
    /// by less than `limits::DRIFT_MARGIN` in one support, pauses that CLOCK_BOOTTIME misses
    /// included. Otherwise every read costs a round, and nothing else changes.
    pub lease_reads: bool,
    /// Whether the driver answers [`Turn::snapshots`](crate::Turn::snapshots). Otherwise the host
    /// itself reports each snapshot as failed, and the kernel tries the log again after a while.
    pub sends_snapshots: bool,
    /// Adjusts the configuration of each kernel, which otherwise comes from `limits`.
    pub shape: fn(&mut Config),
    /// A deliberate bug, for the simulator.
    pub mutation: Mutation,
}

impl HostConfig {
    /// A configuration with the usual grain and bounds, without node liveness and snapshots.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, seed: u64) -> HostConfig {
        HostConfig {
            node,
            incarnation,
            seed,
            timer_grain: Duration::from_millis(10),
            entry_cache_bytes_max: limits::ENTRY_CACHE_BYTES_MAX,
            uncommitted_bytes_max: limits::UNCOMMITTED_NODE_BYTES_MAX,
            uncommitted_reserve_bytes: limits::UNCOMMITTED_RESERVE_BYTES,
            apply_bytes_max: limits::APPLY_NODE_BYTES_MAX,
            window_peer_bytes_max: limits::WINDOW_PEER_BYTES_MAX,
            standings: None,
            lease_reads: true,
            sends_snapshots: false,
            shape: |_| (),
            mutation: Mutation::NONE,
        }
    }
}

/// A replica to be hosted, as log and data store left it.
#[derive(Clone, Debug)]
pub struct ReplicaInit {
    /// The shard.
    pub shard: ShardId,
    /// The replica's id in the group.
    pub replica: ReplicaId,
    /// Version of the descriptor in force.
    pub descriptor_version: u64,
    /// The durable state; `applied` is the data store's.
    pub restored: Restored,
}
