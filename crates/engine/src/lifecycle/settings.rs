//! The settings of an engine, and their check. Every fault is found before anything is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_log::SyncMode;
use quorate_machine::{KvMachine, MetaCommand, MetaMachine, NodeRecord};
use quorate_transport::{NodeTls, WallClock};
use quorate_types::{ClusterId, NodeId, NodeInstance, limits};

use crate::cluster::bootstrap::Bootstrap;
use crate::cluster::map::{ClusterMap, META_SHARD};
use crate::error::OpenFault;
use crate::state::clock;
use crate::worker::apply::MachineFactory;
use crate::worker::step::Observer;

/// Fewest table files kept open: RocksDB rounds each store's part up to 20, and some for its own
/// use come on top.
const TABLE_FILES_MIN: i32 = 64;

/// The settings of an engine; see the builder's methods.
pub(crate) struct Settings {
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
    pub(crate) log_kept_bytes_max: u64,
    pub(crate) disk_floor_bytes: Option<u64>,
    pub(crate) machine: MachineFactory,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Settings {
    pub(crate) fn new(directory: PathBuf) -> Settings {
        Settings {
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
            log_kept_bytes_max: limits::LOG_KEPT_BYTES_MAX,
            disk_floor_bytes: None,
            machine: Arc::new(|_| Box::new(KvMachine)),
            observer: None,
        }
    }

    /// Makes the interpreters of all shards.
    pub(crate) fn machines(&self) -> MachineFactory {
        let of_users = Arc::clone(&self.machine);
        Arc::new(move |shard| match shard {
            META_SHARD => Box::new(MetaMachine),
            shard => of_users(shard),
        })
    }

    /// Every setting that is missing or invalid.
    pub(crate) fn faults(&self) -> Vec<OpenFault> {
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
            instance: NodeInstance::default(),
            address: String::new(),
            services: self.services.clone(),
        };
        if let Err(error) = record.check() {
            fault("service", &error.to_string());
        }
        if self.table_files_max < TABLE_FILES_MIN {
            fault("table_files_max", &format!("must be at least {TABLE_FILES_MIN}"));
        }
        let floor_min = limits::DISK_FLOOR_BYTES_MIN;
        if self.disk_floor_bytes.is_some_and(|bytes| bytes < floor_min) {
            fault("disk_floor_bytes", &format!("must be at least {floor_min}, what a start needs"));
        }
        if !(1..=256).contains(&self.workers) {
            fault("workers", "must be from 1 to 256");
        }
        match &self.bootstrap {
            None => fault("bootstrap", "missing; Bootstrap::split_at makes one"),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a floor of the disk that would leave no room for a start is refused by the name of its
    /// setting, and none or a higher one is not.
    #[test]
    fn a_floor_below_what_a_start_needs_is_a_fault() {
        let is_refused = |floor| {
            let mut settings = Settings::new("nowhere".into());
            settings.disk_floor_bytes = floor;
            let faults = settings.faults();
            faults.iter().any(|fault| fault.to_string().contains("`disk_floor_bytes`: must be at"))
        };
        assert!(is_refused(Some(limits::DISK_FLOOR_BYTES_MIN - 1)));
        assert!(!is_refused(Some(limits::DISK_FLOOR_BYTES_MIN)));
        assert!(!is_refused(None));
    }
}
