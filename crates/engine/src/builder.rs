//! How an engine is configured. Every fault is found before anything is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_log::SyncMode;
use quorate_machine::{KvMachine, MetaCommand, NodeRecord, StateMachine};
use quorate_transport::{NodeTls, WallClock};
use quorate_types::{ClusterId, NodeId, NodeLife, ShardId, limits};

use crate::bootstrap::Bootstrap;
use crate::clock;
use crate::cluster_map::{ClusterMap, META_SHARD};
use crate::engine::Engine;
use crate::error::{OpenError, OpenFault};
use crate::open;
use crate::worker::Observer;

/// Fewest table files kept open: RocksDB rounds each store's part up to 20, and a part of its own use
/// comes on top.
const TABLE_FILES_MIN: i32 = 64;

/// Makes the interpreter of one shard's commands.
pub type MachineFactory = Arc<dyn Fn(ShardId) -> Box<dyn StateMachine> + Send + Sync>;

/// Settings of an engine, made by [`Engine::builder`].
#[must_use = "a builder does nothing until `open`"]
pub struct EngineBuilder {
    pub(crate) directory: PathBuf,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) node: Option<NodeId>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) wall_clock: WallClock,
    pub(crate) tls: Option<NodeTls>,
    pub(crate) bootstrap: Option<Bootstrap>,
    pub(crate) peers: BTreeMap<NodeId, SocketAddr>,
    pub(crate) workers: usize,
    pub(crate) sync: SyncMode,
    pub(crate) table_files_max: i32,
    pub(crate) entry_cache_bytes_max: usize,
    pub(crate) machine: MachineFactory,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl EngineBuilder {
    pub(crate) fn new(directory: PathBuf) -> EngineBuilder {
        EngineBuilder {
            directory,
            cluster: None,
            node: None,
            listen: None,
            advertise: None,
            services: BTreeMap::new(),
            wall_clock: Arc::new(clock::wall),
            tls: None,
            bootstrap: None,
            peers: BTreeMap::new(),
            workers: 1,
            sync: SyncMode::Sync,
            table_files_max: limits::TABLE_FILES_MAX as i32,
            entry_cache_bytes_max: 64 << 20,
            machine: Arc::new(|_| Box::new(KvMachine)),
            observer: None,
        }
    }

    /// The cluster that the node belongs to. Required.
    pub fn cluster(mut self, cluster: ClusterId) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// The node's id, unique in its cluster for ever. Required.
    pub fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// The UDP address for other nodes; port 0 takes a free one. Required.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The address at which other nodes reach this one, if it is not the one it listens at.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Tells the cluster where a service of this process listens, under a name of the caller's
    /// choice; shown by [`Engine::cluster_status`].
    pub fn service(mut self, name: impl Into<String>, address: SocketAddr) -> Self {
        self.services.insert(name.into(), address.to_string());
        self
    }

    /// Another wall clock than the system's. It decides expiry and is compared with the peers', who
    /// refuse a node that is more than `limits::CLOCK_SKEW_MAX` away; safety never rests on it.
    pub fn wall_clock(mut self, clock: WallClock) -> Self {
        self.wall_clock = clock;
        self
    }

    /// The node's certificate, its key, and the cluster's authority. Required.
    pub fn tls(mut self, tls: NodeTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The cluster's first map, the same on every node. Required; used when the directory is new, and
    /// not looked at once the directory knows the cluster's map.
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = Some(bootstrap);
        self
    }

    /// Where another node listens. Can be given later by [`Engine::set_peer`].
    pub fn peer(mut self, node: NodeId, address: SocketAddr) -> Self {
        self.peers.insert(node, address);
        self
    }

    /// Step workers; each shard is pinned to one. Default 1: on few cores more cost more than they
    /// give.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How the log reaches the disk. Anything but the default loses acknowledged writes when the
    /// power fails; it exists to measure what a sync costs, and to prove that its absence is seen.
    pub fn sync(mut self, sync: SyncMode) -> Self {
        self.sync = sync;
        self
    }

    /// Table files that both stores keep open, together. Default `limits::TABLE_FILES_MAX`. A process
    /// whose limit of open files is low gives fewer, so that sockets and the log's next file find room.
    pub fn table_files_max(mut self, files: usize) -> Self {
        self.table_files_max = i32::try_from(files).unwrap_or(i32::MAX);
        self
    }

    /// Bytes of log entries kept in memory for followers and apply. Default 64 MiB.
    pub fn entry_cache_bytes_max(mut self, bytes: usize) -> Self {
        self.entry_cache_bytes_max = bytes;
        self
    }

    /// Another state machine than the built-in key-value commands; see [`StateMachine`]. The same
    /// on every node.
    pub fn state_machine(mut self, machine: MachineFactory) -> Self {
        self.machine = machine;
        self
    }

    /// Shows every message to `observer` just before it leaves. For tests.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Opens the directory, recovers what it holds and starts serving. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] with every fault found; nothing runs then.
    pub fn open(self) -> Result<Engine, OpenError> {
        let dir = self.directory.clone();
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(OpenError { dir, faults });
        }
        open::open(self).map_err(|fault| OpenError { dir, faults: vec![fault] })
    }

    fn faults(&self) -> Vec<OpenFault> {
        let mut faults = Vec::new();
        let mut fault = |setting, what: &str| {
            faults.push(OpenFault::Setting { setting, what: what.to_owned() });
        };
        if self.cluster.is_none() {
            fault("cluster", "missing; draw one with ClusterId(random) when the cluster is made");
        }
        match self.node {
            None => fault("node", "missing; give each node of the cluster its own number"),
            Some(node) if self.peers.contains_key(&node) => {
                fault("peer", "names this node itself; leave it out");
            }
            Some(_) => {}
        }
        match self.listen {
            None => fault("listen", "missing; 127.0.0.1:0 takes a free port on loopback"),
            Some(listen) if listen.ip().is_unspecified() && self.advertise.is_none() => {
                fault("advertise", "missing: nobody can reach a node at an unspecified address");
            }
            Some(_) => {}
        }
        if self.tls.is_none() {
            fault("tls", "missing; ClusterAuthority::issue makes a node's certificate");
        }
        let record = NodeRecord {
            node: self.node.unwrap_or_default(),
            life: NodeLife::default(),
            address: String::new(),
            services: self.services.clone(),
        };
        if let Err(error) = record.check() {
            fault("service", &error.to_string());
        }
        if self.table_files_max < TABLE_FILES_MIN {
            fault("table_files_max", &format!("must be at least {TABLE_FILES_MIN}"));
        }
        if !(1..=256).contains(&self.workers) {
            fault("workers", "must be from 1 to 256");
        }
        match &self.bootstrap {
            None => fault("bootstrap", "missing; Bootstrap::even_slots makes one"),
            Some(bootstrap) => {
                let nodes = bootstrap.shards.iter().map(|shard| &shard.nodes);
                if bootstrap.shards.iter().any(|shard| shard.shard == META_SHARD) {
                    fault("bootstrap", "shard 0 is kept for the meta shard; number from 1");
                }
                if nodes.chain([&bootstrap.meta]).any(Vec::is_empty) {
                    fault("bootstrap", "every shard, and `meta`, needs at least one node");
                }
                let shards = bootstrap.descriptors();
                let found = MetaCommand::Found { cluster_version: 0, shards: shards.clone() };
                if found.encode().len() > limits::COMMAND_BYTES_MAX {
                    fault("bootstrap", "does not fit one command; begin with fewer shards");
                }
                if let Err(error) = ClusterMap::new(&shards) {
                    fault("bootstrap", &error.to_string());
                }
            }
        }
        faults
    }
}
