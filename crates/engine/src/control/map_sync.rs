//! The task that keeps this node's map of the cluster: it founds the cluster, announces the node,
//! fetches newer maps, saves them for the next start, and reports newer descriptors of the shards
//! here.
//!
//! Everything it does may be done twice, late or by several nodes at once: each command of the meta
//! shard checks whether there is anything to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use quorate_log::LogStore;
use quorate_machine::{MetaCommand, MetaMap, MetaReply, NodeRecord};
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, limits};

use crate::calls::call::Applied;
use crate::calls::read::ReadLevel;
use crate::calls::read::{ReadRequest, ReadResponse};
use crate::cluster::addresses::PeerAddresses;
use crate::cluster::map::{ClusterMap, META_SHARD};
use crate::control::admission::Admission;
use crate::error::{FatalError, Refusal, WriteError};
use crate::request::dispatch::Dispatch;
use crate::request::reads::Reads;
use crate::state::fatal::Fatal;
use crate::state::tasks::{guarded, run_blocking};

/// Version of commands, frames and records that a new cluster begins with.
const CLUSTER_VERSION: u32 = 1;

/// The parts that [`MapSync`] uses.
pub(crate) struct MapSyncParts {
    pub(crate) reads: Arc<Reads>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) addresses: Arc<PeerAddresses>,
    pub(crate) log: Arc<LogStore>,
    pub(crate) fatal: Arc<Fatal>,
}

/// Keeps this node's map up to date with the meta shard.
pub(crate) struct MapSync {
    parts: MapSyncParts,
    own: NodeRecord,
    /// Addresses taken from the map; those that the owner has set come first and are not
    /// overwritten.
    dialed: BTreeMap<NodeId, String>,
    /// The revision that the cache on disk holds.
    cached: u64,
    /// The map revision that this node's last command produced. Until the local map has reached it, no
    /// further command is sent, because the map is still older than that command.
    done: u64,
    /// Counts fetches, so that no single meta replica is asked each time.
    looks: usize,
}

impl MapSync {
    pub(crate) fn new(parts: MapSyncParts, own: NodeRecord) -> MapSync {
        let cached = parts.reads.dispatch.map().revision();
        MapSync { parts, own, dialed: BTreeMap::new(), cached, done: 0, looks: 0 }
    }

    fn dispatch(&self) -> &Dispatch {
        &self.parts.reads.dispatch
    }

    fn map(&self) -> &ClusterMap {
        self.dispatch().map()
    }

    /// Runs until the engine ends. A panic ends the engine's service, as in any of its threads.
    pub(crate) async fn run_guarded(self) {
        let fatal = Arc::clone(&self.parts.fatal);
        // The guard has reported a panic.
        let _ended: Option<()> = guarded(fatal, "map keeper", self.run()).await;
    }

    async fn run(mut self) {
        while !self.dispatch().is_stopped() {
            if let Err(refusal) = self.sync_once().await {
                tracing::debug!(%refusal, "the map was not refreshed");
            }
            // Wait until a refresh is requested or the poll interval has passed, which is the usual
            // case.
            drop(tokio::time::timeout(limits::MAP_POLL, self.map().refresh_asked()).await);
        }
    }

    async fn sync_once(&mut self) -> Result<(), Refusal> {
        self.publish_addresses();
        if !self.parts.admission.is_founded() {
            return Ok(());
        }
        if let Some(map) = self.fetch_map().await? {
            // First, because a node that has adopted this revision must know the starts in it.
            self.parts.admission.hear_instances(map.nodes.clone()).await;
            self.map().adopt(map);
            self.publish_addresses();
        }
        self.persist_map().await;
        if self.map().revision() < self.done {
            // The next fetch may ask a replica of the meta shard that is further.
            return Ok(());
        }
        if self.map().revision() == 0 {
            return self.found_cluster().await;
        }
        self.announce().await?;
        self.report().await
    }

    /// Fetches the meta shard's map, if it differs from this node's. Any replica will do: the map
    /// is a cache, and epochs protect against an old one.
    async fn fetch_map(&mut self) -> Result<Option<MetaMap>, Refusal> {
        let mut route = self.dispatch().route_by_id(META_SHARD)?;
        let request = ReadRequest::Map { known: self.map().revision() };
        self.looks += 1;
        let response = if route.local.is_some() {
            // The data store is read on a blocking thread, because this runtime also drives the
            // connections.
            let version = route.descriptor_version;
            match self.parts.reads.read_local_bounded(META_SHARD, version, request).await {
                Ok(response) => response,
                Err(_) => return Ok(None),
            }
        } else {
            let turn = self.looks % route.members.len().max(1);
            route.members.rotate_left(turn);
            self.parts.reads.read(&route, &request, ReadLevel::Stale).await?
        };
        let ReadResponse::Map(Some(bytes)) = response else {
            return Ok(None);
        };
        match MetaMap::decode(&bytes) {
            Ok(map) => Ok(Some(map)),
            Err(error) => {
                tracing::error!(%error, "the cluster's map can't be read");
                Ok(None)
            }
        }
    }

    /// Sends the first command of a cluster.
    async fn found_cluster(&mut self) -> Result<(), Refusal> {
        let shards = self.map().descriptors();
        let found = MetaCommand::Found { cluster_version: CLUSTER_VERSION, shards };
        match self.command(&found).await? {
            MetaReply::Done { revision } | MetaReply::AlreadyFounded { revision } => {
                self.expect(revision);
            }
            reply => tracing::error!(?reply, "the meta shard does not take the first map"),
        }
        Ok(())
    }

    /// Notes that the map has this revision, or will have it soon.
    fn expect(&mut self, revision: u64) {
        self.done = self.done.max(revision);
        self.map().ask_refresh();
    }

    async fn command(&self, command: &MetaCommand) -> Result<MetaReply, Refusal> {
        let route = || self.dispatch().route_by_id(META_SHARD);
        match self.dispatch().write_with_retries(route, command.encode().into(), None).await {
            Ok(Applied { reply, .. }) => {
                Ok(MetaReply::decode(&reply).unwrap_or(MetaReply::Unknown))
            }
            Err(WriteError::DidNotHappen(refusal)) => Err(refusal),
            // The next refresh shows whether it took effect.
            Err(WriteError::OutcomeUnknown(indeterminate)) => {
                tracing::debug!(%indeterminate, ?command, "a command of the meta shard");
                Err(Refusal::NoLeader { shard: META_SHARD, leader: None, wait: limits::MAP_POLL })
            }
        }
    }

    /// Tells the cluster where this node is, unless the map says so already.
    async fn announce(&mut self) -> Result<(), Refusal> {
        if self.map().node(self.own.node).as_ref() == Some(&self.own) {
            return Ok(());
        }
        let reply = self.command(&MetaCommand::Register(self.own.clone())).await?;
        match reply {
            MetaReply::Done { revision } => self.expect(revision),
            MetaReply::OtherStore { known } => {
                self.parts.fatal.latch(FatalError::Identity(format!(
                    "node {} is registered with store {known}, and this directory is store {}",
                    self.own.node, self.own.instance.store
                )));
            }
            reply => tracing::warn!(?reply, "this node was not registered"),
        }
        Ok(())
    }

    /// Reports to the meta shard the descriptors of shards led here that are newer than its own, all in
    /// one command. Shards whose descriptors it finds contradictory are left out, so that they do not
    /// hold up the others.
    async fn report(&mut self) -> Result<(), Refusal> {
        let newer = |own: &ShardDescriptor| {
            // At the start the routes took the descriptors of the shards here; so compare with what
            // the meta shard said last.
            self.map().reported(own.shard).is_none_or(|known| own.epoch > known)
        };
        let led = self
            .dispatch()
            .shards()
            .all()
            .into_iter()
            .filter(|s| s.leader() == Some(self.dispatch().node()));
        let mut news: Vec<ShardDescriptor> = led.map(|s| s.descriptor()).filter(newer).collect();
        while !news.is_empty() {
            let reply = self.command(&MetaCommand::ReportShards(news.clone())).await?;
            match reply {
                MetaReply::Contradiction { shard } => {
                    tracing::error!(%shard, "its descriptor contradicts the meta shard's");
                    news.retain(|descriptor| descriptor.shard != shard);
                }
                MetaReply::Done { revision } => {
                    self.expect(revision);
                    break;
                }
                reply => {
                    tracing::warn!(?reply, "a report to the meta shard");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives the transport the addresses of nodes that only the map knows.
    fn publish_addresses(&mut self) {
        for record in self.map().nodes() {
            let is_known = self.dialed.get(&record.node) == Some(&record.address);
            if record.node == self.own.node || is_known {
                continue;
            }
            match record.address.parse::<SocketAddr>() {
                // The owner has set an address, and may change it.
                Ok(address) if !self.parts.addresses.hint(record.node, address) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(node = %record.node, %error, "an address of the map"),
            }
            self.dialed.insert(record.node, record.address);
        }
    }

    /// Saves the map for the next start.
    async fn persist_map(&mut self) {
        if self.map().revision() == self.cached {
            return;
        }
        let (map, log) = (self.map().adopted(), Arc::clone(&self.parts.log));
        let revision = map.revision;
        // The write syncs, and this runtime drives the connections.
        let fatal = Arc::clone(&self.parts.fatal);
        let persist = move || log.record_map(&map.encode());
        match run_blocking(fatal, "map keeper", persist).await {
            Some(Ok(())) => self.cached = revision,
            Some(Err(fault)) => tracing::error!(%fault, "the map was not kept"),
            None => tracing::debug!("the map was not kept: this node is stopping"),
        }
    }
}
