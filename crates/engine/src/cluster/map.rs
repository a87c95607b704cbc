//! The cluster's map as this node knows it: shards, nodes, and how new that knowledge is.
//!
//! It is a cache: the truth about a shard is in its own log, and the meta shard is the directory. A
//! stale entry costs a refused request that brings the newer descriptor along, never a wrong one.

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use quorate_machine::{MetaMap, NodeRecord};
use quorate_router::{RouteMap, ShardDescriptor, UpdateError, Updated};
use quorate_types::{Epoch, NodeId, ShardId};
use tokio::sync::{Notify, watch};

/// The meta shard: the directory of the cluster. It owns no user key.
pub(crate) const META_SHARD: ShardId = ShardId(0);

/// What a node knows of the cluster's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapView {
    /// Revision of the newest map adopted from the meta shard; 0 before the first. It does not count
    /// what replicas said of their shards since.
    pub revision: u64,
    /// Every shard known: the meta shard, then the others in key order.
    pub shards: Vec<ShardDescriptor>,
}

struct Known {
    /// The newest map of the meta shard, as it was received.
    adopted: MetaMap,
    /// Adopted or learnt, whichever is newer.
    meta: ShardDescriptor,
    routes: RouteMap,
}

/// The shards and nodes of the cluster, as this node knows them.
pub(crate) struct ClusterMap {
    known: RwLock<Known>,
    /// Counts changes of anything above.
    changes: watch::Sender<u64>,
    /// Wakes the task that keeps the map in step with the meta shard.
    refresh: Notify,
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
            adopted: MetaMap::default(),
            meta: meta.expect("every map has a meta shard").clone(),
            routes: RouteMap::from_descriptors(users.cloned())?,
        };
        Ok(ClusterMap {
            known: RwLock::new(known),
            changes: watch::Sender::new(0),
            refresh: Notify::new(),
        })
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

    /// The revision of the newest map adopted; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.known.read().adopted.revision
    }

    /// The shard's epoch as the meta shard has it; `None` if it does not know the shard.
    pub(crate) fn reported(&self, shard: ShardId) -> Option<Epoch> {
        let known = self.known.read();
        let shards = &known.adopted.shards;
        let at = shards.binary_search_by_key(&shard, |descriptor| descriptor.shard).ok()?;
        Some(shards[at].epoch)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeRecord> {
        self.known.read().adopted.nodes.clone()
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<NodeRecord> {
        self.known.read().adopted.node(node).cloned()
    }

    /// Every descriptor, the meta shard's first.
    pub(crate) fn descriptors(&self) -> Vec<ShardDescriptor> {
        let known = self.known.read();
        std::iter::once(&known.meta).chain(known.routes.iter()).cloned().collect()
    }

    /// What callers see of the map.
    pub(crate) fn view(&self) -> MapView {
        let known = self.known.read();
        let shards = std::iter::once(&known.meta).chain(known.routes.iter()).cloned().collect();
        MapView { revision: known.adopted.revision, shards }
    }

    /// Takes in what a replica of the shard says of it; if that was news, the task that keeps the map
    /// checks what else is new.
    pub(crate) fn learn(&self, descriptor: ShardDescriptor) {
        match self.try_learn(descriptor) {
            Ok(true) => self.ask_refresh(),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "a descriptor contradicts the map and is ignored");
            }
        }
    }

    /// Asks for a refresh: something may be new at the meta shard.
    pub(crate) fn ask_refresh(&self) {
        self.refresh.notify_one();
    }

    /// Completes once [`ClusterMap::ask_refresh`] was called since the last time.
    pub(crate) async fn refresh_asked(&self) {
        self.refresh.notified().await;
    }

    /// As [`ClusterMap::learn`].
    ///
    /// # Errors
    /// [`UpdateError`] if the descriptor can't be true beside what the map holds.
    pub(crate) fn try_learn(&self, descriptor: ShardDescriptor) -> Result<bool, UpdateError> {
        let changed = self.known.write().take_descriptor(descriptor)?;
        if changed {
            self.announce();
        }
        Ok(changed)
    }

    /// Takes in a map of the meta shard, unless it is older than the last one. True if it was newer.
    pub(crate) fn adopt(&self, map: MetaMap) -> bool {
        let mut known = self.known.write();
        if map.revision <= known.adopted.revision {
            return false;
        }
        for descriptor in &map.shards {
            if let Err(error) = known.take_descriptor(descriptor.clone()) {
                tracing::error!(%error, "the meta shard contradicts what is known here");
            }
        }
        known.adopted = map;
        drop(known);
        self.announce();
        true
    }

    /// The map to store for the next start: that of the meta shard, without what was learnt since,
    /// so that the next instance still sees what has to be reported.
    pub(crate) fn adopted(&self) -> MetaMap {
        self.known.read().adopted.clone()
    }

    /// Reports every change, by a number that grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Known {
    fn take_descriptor(&mut self, descriptor: ShardDescriptor) -> Result<bool, UpdateError> {
        if descriptor.shard == META_SHARD {
            let (old, new) = (self.meta.epoch, descriptor.epoch);
            let newer = new.version >= old.version && new.membership >= old.membership;
            let news = newer && new != old;
            if news {
                self.meta = descriptor;
            }
            return Ok(news);
        }
        match self.routes.update(descriptor)? {
            Updated::Changed { evicted } => {
                if !evicted.is_empty() {
                    tracing::info!(?evicted, "shards left the map until their news comes");
                }
                Ok(true)
            }
            Updated::Stale | Updated::Unchanged => Ok(false),
        }
    }
}
