//! The cluster's map as this node knows it: shards, nodes, and how new that knowledge is.
//!
//! A cache: the truth about a shard is in its own log, the meta shard is the directory. What is
//! stale here costs a refused request that brings the newer descriptor along, never a wrong one.

use std::collections::BTreeMap;

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use quorate_host::{MetaMap, NodeRecord};
use quorate_router::{RouteMap, ShardDescriptor, UpdateError, Updated};
use quorate_types::{Epoch, NodeId, ShardId};
use tokio::sync::watch;

/// The meta shard: the directory of the cluster. It owns no user key.
pub(crate) const META_SHARD: ShardId = ShardId(0);

struct Known {
    /// Of the newest map adopted; 0 before the first.
    revision: u64,
    cluster_version: u32,
    meta: ShardDescriptor,
    routes: RouteMap,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// The epochs that the meta shard's map gave, as of `revision`.
    reported: BTreeMap<ShardId, Epoch>,
}

/// See the module's documentation.
pub(crate) struct ClusterMap {
    known: RwLock<Known>,
    /// Counts changes of anything above.
    changes: watch::Sender<u64>,
}

impl ClusterMap {
    /// The first map: a list of descriptors, that of the meta shard among them.
    ///
    /// # Errors
    /// [`UpdateError`] if the descriptors can't be true together.
    ///
    /// # Panics
    /// If the meta shard is not in the list.
    pub(crate) fn new(descriptors: &[ShardDescriptor]) -> Result<ClusterMap, UpdateError> {
        let meta = descriptors.iter().find(|descriptor| descriptor.shard == META_SHARD);
        let users = descriptors.iter().filter(|descriptor| descriptor.shard != META_SHARD);
        let known = Known {
            revision: 0,
            cluster_version: 0,
            meta: meta.expect("every map has a meta shard").clone(),
            routes: RouteMap::from_descriptors(users.cloned())?,
            nodes: BTreeMap::new(),
            reported: BTreeMap::new(),
        };
        Ok(ClusterMap { known: RwLock::new(known), changes: watch::Sender::new(0) })
    }

    /// Which shard owns which user key.
    pub(crate) fn routes(&self) -> MappedRwLockReadGuard<'_, RouteMap> {
        RwLockReadGuard::map(self.known.read(), |known| &known.routes)
    }

    pub(crate) fn descriptor(&self, shard: ShardId) -> Option<ShardDescriptor> {
        let known = self.known.read();
        if shard == META_SHARD {
            Some(known.meta.clone())
        } else {
            known.routes.get(shard).cloned()
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.known.read().revision
    }

    /// The shard's epoch as the meta shard has it; `None` if it does not know the shard.
    pub(crate) fn reported(&self, shard: ShardId) -> Option<Epoch> {
        self.known.read().reported.get(&shard).copied()
    }

    pub(crate) fn nodes(&self) -> Vec<NodeRecord> {
        self.known.read().nodes.values().cloned().collect()
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<NodeRecord> {
        self.known.read().nodes.get(&node).cloned()
    }

    /// Every descriptor, the meta shard's first.
    pub(crate) fn descriptors(&self) -> Vec<ShardDescriptor> {
        let known = self.known.read();
        std::iter::once(&known.meta).chain(known.routes.iter()).cloned().collect()
    }

    /// Takes in what a replica of the shard says of it; true if that was news.
    pub(crate) fn learn(&self, descriptor: ShardDescriptor) -> bool {
        let changed = self.known.write().take_descriptor(descriptor);
        if changed {
            self.announce();
        }
        changed
    }

    /// Takes in a map of the meta shard, unless it is older than the last one. True if it was newer.
    pub(crate) fn adopt(&self, map: MetaMap) -> bool {
        let mut known = self.known.write();
        if map.revision <= known.revision {
            return false;
        }
        known.revision = map.revision;
        known.cluster_version = map.cluster_version;
        known.nodes = map.nodes.into_iter().map(|node| (node.node, node)).collect();
        known.reported = map.shards.iter().map(|shard| (shard.shard, shard.epoch)).collect();
        for descriptor in map.shards {
            known.take_descriptor(descriptor);
        }
        drop(known);
        self.announce();
        true
    }

    /// What there is to keep for the next start.
    pub(crate) fn to_cache(&self) -> MetaMap {
        let known = self.known.read();
        let mut shards: Vec<ShardDescriptor> =
            std::iter::once(&known.meta).chain(known.routes.iter()).cloned().collect();
        shards.sort_by_key(|descriptor| descriptor.shard);
        MetaMap {
            revision: known.revision,
            cluster_version: known.cluster_version,
            nodes: known.nodes.values().cloned().collect(),
            shards,
        }
    }

    /// Tells of every change, by a number that grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Known {
    fn take_descriptor(&mut self, descriptor: ShardDescriptor) -> bool {
        if descriptor.shard == META_SHARD {
            let (old, new) = (self.meta.epoch, descriptor.epoch);
            let newer = new.version >= old.version && new.membership >= old.membership;
            let news = newer && new != old;
            if news {
                self.meta = descriptor;
            }
            return news;
        }
        match self.routes.update(descriptor) {
            Ok(Updated::Changed { evicted }) => {
                if !evicted.is_empty() {
                    tracing::info!(?evicted, "shards left the map until their news comes");
                }
                true
            }
            Ok(Updated::Stale | Updated::Unchanged) => false,
            Err(error) => {
                tracing::error!(%error, "a descriptor contradicts the map and is ignored");
                false
            }
        }
    }
}
