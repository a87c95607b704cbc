//! The task that keeps this node's map of the cluster: it founds the directory, announces the node,
//! hears what is new, keeps it for the next start, and reports what the shards here know better.
//!
//! Everything it does may be done twice, late or by several nodes at once: commands of the meta
//! shard say for themselves whether there is anything to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use quorate_host::{MetaCommand, MetaMap, MetaReply, NodeRecord};
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, limits};

use crate::cluster_map::META_SHARD;
use crate::core::Core;
use crate::error::{FatalError, Refusal, WriteError};
use crate::reads::ReadLevel;
use crate::shard_read::{Facts, Question};

/// Version of commands, frames and records that a new cluster begins with.
const CLUSTER_VERSION: u32 = 1;

/// See the module's documentation.
pub(crate) struct MapKeeper {
    /// Weak, so that an engine whose last handle is dropped can end.
    core: Weak<Core>,
    own: NodeRecord,
    /// Addresses taken from the map; those told by the owner come first and are not overwritten.
    dialed: BTreeMap<NodeId, String>,
    /// The revision that the cache on disk holds.
    cached: u64,
}

impl MapKeeper {
    pub(crate) fn new(core: &Arc<Core>, own: NodeRecord) -> MapKeeper {
        let cached = core.map.revision();
        MapKeeper { core: Arc::downgrade(core), own, dialed: BTreeMap::new(), cached }
    }

    /// Runs until the engine ends.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(core) = self.core.upgrade() else {
                return;
            };
            if core.is_stopped() {
                return;
            }
            if let Err(refusal) = self.look(&core).await {
                tracing::debug!(%refusal, "the map was not refreshed");
            }
            self.wait(core).await;
        }
    }

    /// Until something is wanted of the map, or it is time to look.
    async fn wait(&self, core: Arc<Core>) {
        let wanted = core.map_wanted.notified();
        // A timeout is the usual end.
        drop(tokio::time::timeout(limits::MAP_POLL, wanted).await);
    }

    async fn look(&mut self, core: &Arc<Core>) -> Result<(), Refusal> {
        self.dial(core);
        if !core.founding.is_founded() {
            return Ok(());
        }
        let news = self.ask(core).await?;
        if let Some(map) = news {
            core.map.adopt(map);
        }
        if core.map.revision() == 0 {
            let shards = core.map.descriptors();
            let found = MetaCommand::Found { cluster_version: CLUSTER_VERSION, shards };
            match self.command(core, &found).await? {
                // The map comes with the next look, which this one asks for.
                MetaReply::Done { .. } | MetaReply::AlreadyFounded { .. } => {
                    core.map_wanted.notify_one();
                }
                reply => tracing::error!(?reply, "the meta shard does not take the first map"),
            }
            return Ok(());
        }
        self.announce(core).await?;
        self.report(core).await?;
        self.dial(core);
        self.keep(core).await;
        Ok(())
    }

    /// The meta shard's map, if it is another than this node's. Any replica will do: the map is a
    /// cache, and epochs guard against its age.
    async fn ask(&self, core: &Arc<Core>) -> Result<Option<MetaMap>, Refusal> {
        let route = core.route_by_id(META_SHARD)?;
        let question = Question::Map { known: core.map.revision() };
        match core.read(route, question, ReadLevel::Stale).await? {
            Facts::Map(None) => Ok(None),
            Facts::Map(Some(bytes)) => match MetaMap::decode(&bytes) {
                Ok(map) => Ok(Some(map)),
                Err(error) => {
                    tracing::error!(%error, "the cluster's map can't be read");
                    Ok(None)
                }
            },
            _ => unreachable!("a question for the map is answered with it"),
        }
    }

    async fn command(&self, core: &Core, command: &MetaCommand) -> Result<MetaReply, Refusal> {
        let route = || core.route_by_id(META_SHARD);
        match core.write_until_done(route, command.encode().into()).await {
            Ok(reply) => Ok(MetaReply::decode(&reply).unwrap_or(MetaReply::Unknown)),
            Err(WriteError::DidNotHappen(refusal)) => Err(refusal),
            // Whatever became of it, the next look sees.
            Err(WriteError::OutcomeUnknown(doubt)) => {
                tracing::debug!(%doubt, ?command, "a command of the meta shard");
                Err(Refusal::NoLeader { shard: META_SHARD, leader: None, wait: limits::MAP_POLL })
            }
        }
    }

    /// Tells the cluster where this node is, unless it knows.
    async fn announce(&self, core: &Core) -> Result<(), Refusal> {
        if core.map.node(self.own.node).as_ref() == Some(&self.own) {
            return Ok(());
        }
        let reply = self.command(core, &MetaCommand::Register(self.own.clone())).await?;
        match reply {
            MetaReply::Done { .. } => core.map_wanted.notify_one(),
            MetaReply::OtherStore { known } => {
                core.end(FatalError::Identity(format!(
                    "node {} is registered with store {known}, and this directory is store {}",
                    self.own.node, self.own.store
                )));
            }
            reply => tracing::warn!(?reply, "this node was not registered"),
        }
        Ok(())
    }

    /// Tells the directory what shards led here know better than it. All in one command, but for
    /// those that it finds contradictory: they must not hold up the others.
    async fn report(&self, core: &Core) -> Result<(), Refusal> {
        let newer = |own: &ShardDescriptor| {
            // What was learnt of a shard here went into the map at the start; so compare with what
            // the meta shard has said last.
            core.map.reported(own.shard).is_none_or(|known| {
                own.epoch != known
                    && own.epoch.version >= known.version
                    && own.epoch.membership >= known.membership
            })
        };
        let led = core.shards.all().into_iter().filter(|s| s.leader() == Some(core.node));
        let mut news: Vec<ShardDescriptor> = led.map(|s| s.descriptor()).filter(newer).collect();
        while !news.is_empty() {
            let reply = self.command(core, &MetaCommand::ReportShards(news.clone())).await?;
            match reply {
                MetaReply::Contradiction { shard } => {
                    tracing::error!(%shard, "its descriptor contradicts the meta shard's");
                    news.retain(|descriptor| descriptor.shard != shard);
                }
                MetaReply::Done { .. } => {
                    core.map_wanted.notify_one();
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

    /// Tells the transport of nodes that only the map knows.
    fn dial(&mut self, core: &Core) {
        for record in core.map.nodes() {
            let told = core.addresses.lock();
            if told.contains_key(&record.node) || record.node == core.node {
                continue;
            }
            if self.dialed.get(&record.node) == Some(&record.address) {
                continue;
            }
            match record.address.parse::<SocketAddr>() {
                Ok(address) => core.transport.set_peer(record.node, address),
                Err(error) => tracing::warn!(node = %record.node, %error, "an address of the map"),
            }
            self.dialed.insert(record.node, record.address);
        }
    }

    /// Keeps the map for the next start.
    async fn keep(&mut self, core: &Arc<Core>) {
        let map = core.map.to_cache();
        if map.revision == self.cached {
            return;
        }
        let (revision, core) = (map.revision, Arc::clone(core));
        // It syncs, and this runtime carries the connections.
        let kept = tokio::task::spawn_blocking(move || core.log.record_map(&map.encode())).await;
        match kept {
            Ok(Ok(())) => self.cached = revision,
            Ok(Err(fault)) => tracing::error!(%fault, "the map was not kept"),
            Err(error) => tracing::debug!(%error, "the map was not kept"),
        }
    }
}
