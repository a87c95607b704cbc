//! The builder that configures and opens an engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_log::SyncMode;
use quorate_machine::StateMachine;
use quorate_transport::{NodeTls, WallClock};
use quorate_types::{ClusterId, NodeId, ShardId};

use crate::api::engine::Engine;
use crate::cluster::bootstrap::Bootstrap;
use crate::error::OpenError;
use crate::lifecycle::open::open;
use crate::lifecycle::settings::Settings;
use crate::worker::step::Observer;

/// Settings of an engine, made by [`Engine::builder`].
#[must_use = "a builder does nothing until `open`"]
pub struct EngineBuilder {
    settings: Settings,
}

impl EngineBuilder {
    pub(crate) fn new(directory: PathBuf) -> EngineBuilder {
        EngineBuilder { settings: Settings::new(directory) }
    }

    /// The cluster that the node belongs to. Required.
    pub fn cluster(mut self, cluster: ClusterId) -> Self {
        self.settings.cluster = Some(cluster);
        self
    }

    /// The node's id, unique in its cluster forever. Required.
    pub fn node(mut self, node: NodeId) -> Self {
        self.settings.node = Some(node);
        self
    }

    /// The UDP address for other nodes; port 0 takes a free one. Required.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.listen = Some(address);
        self
    }

    /// The address at which other nodes reach this one, if it is not the one it listens at.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.settings.advertise = Some(address);
        self
    }

    /// Tells the cluster where a service of this process listens, under a name of the caller's
    /// choice; shown by [`Engine::cluster_status`].
    pub fn service(mut self, name: impl Into<String>, address: SocketAddr) -> Self {
        self.settings.services.insert(name.into(), address.to_string());
        self
    }

    /// A wall clock instead of the system's. It decides expiry and is compared with the clocks of
    /// peers, which refuse a node that is more than `limits::CLOCK_SKEW_MAX` away; safety never
    /// depends on it.
    pub fn wall_clock(mut self, clock: WallClock) -> Self {
        self.settings.wall_clock = clock;
        self
    }

    /// The node's certificate, its key, and the cluster's authority. Required.
    pub fn tls(mut self, tls: NodeTls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// The cluster's first map, the same on every node. Required; used when the directory is new,
    /// and ignored once the directory knows the cluster's map.
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.settings.bootstrap = Some(bootstrap);
        self
    }

    /// The address at which another node listens. It can be set later by [`Engine::set_peer`].
    pub fn peer(mut self, node: NodeId, address: SocketAddr) -> Self {
        self.settings.peers.insert(node, address);
        self
    }

    /// The number of step workers; each shard is pinned to one. Default 1: on few cores, more
    /// workers cost more than they gain.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// How the log reaches the disk. Anything but the default loses acknowledged writes when the
    /// power fails; it exists to measure the cost of a sync, and to prove that a missing sync is
    /// noticed.
    pub fn sync(mut self, sync: SyncMode) -> Self {
        self.settings.sync = sync;
        self
    }

    /// The number of table files that both stores together keep open. Default
    /// `limits::TABLE_FILES_MAX`. If the process may open few files, set fewer, to leave some for
    /// sockets and the log's next file.
    pub fn table_files_max(mut self, files: usize) -> Self {
        self.settings.table_files_max = i32::try_from(files).unwrap_or(i32::MAX);
        self
    }

    /// Bytes of log entries kept in memory for followers and apply. Default 64 MiB.
    pub fn entry_cache_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.entry_cache_bytes_max = bytes;
        self
    }

    /// Bytes of applied entries that the node's log keeps for followers that were away, and for
    /// [`committed_entries`](crate::Engine::committed_entries). A follower that needs older ones
    /// gets a snapshot. Default 64 MiB.
    pub fn log_kept_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.log_kept_bytes_max = bytes;
        self
    }

    /// Free bytes of the directory's disk below which the node takes no writes
    /// ([`Refusal::DiskLow`](crate::Refusal::DiskLow)), and hands its leaderships to nodes that have
    /// more; below half of it, it takes no entries of other leaders either. Service resumes by itself
    /// somewhat above. Default 896 MiB, or 2% of the disk if that is more; at least 128 MiB. A node whose
    /// disk is really full ends with a fatal error.
    pub fn disk_floor_bytes(mut self, bytes: u64) -> Self {
        self.settings.disk_floor_bytes = Some(bytes);
        self
    }

    /// A state machine instead of the built-in key-value commands; see [`StateMachine`]. It must be
    /// the same on every node. `machine` is called for each replica that lives here when the engine is
    /// opened, and again when a snapshot takes the place of what a machine has written into the
    /// engine's map; a machine that keeps a store of its own takes the snapshot in itself.
    pub fn state_machine(
        mut self,
        machine: impl Fn(ShardId) -> Box<dyn StateMachine> + Send + Sync + 'static,
    ) -> Self {
        self.settings.machine = Arc::new(machine);
        self
    }

    /// Shows every message to `observer` just before it leaves. For tests.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.settings.observer = Some(observer);
        self
    }

    /// Opens the directory, recovers what it holds and starts serving. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] with every fault found; then nothing runs.
    pub fn open(self) -> Result<Engine, OpenError> {
        let dir = self.settings.directory.clone();
        let faults = self.settings.faults();
        if !faults.is_empty() {
            return Err(OpenError { dir, faults });
        }
        let running =
            open(self.settings).map_err(|fault| OpenError { dir, faults: vec![fault] })?;
        Ok(Engine::of(running))
    }
}
