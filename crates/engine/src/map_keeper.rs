//! The task that keeps this node's map of the cluster: it founds the directory, announces the node,
//! hears what is new, keeps it for the next start, and reports what the shards here know better.
//!
//! Everything it does may be done twice, late or by several nodes at once: commands of the meta
//! shard say for themselves whether there is anything to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use quorate_machine::{MetaCommand, MetaMap, MetaReply, NodeRecord};
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, limits};

use crate::cluster_map::META_SHARD;
use crate::core::Core;
use crate::error::{FatalError, Refusal, WriteError};
use crate::guarded::{guarded, run_blocking};
use crate::reads::ReadLevel;
use crate::shard_read::{Facts, Question};
use crate::submission::Applied;

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
    /// The revision that the last command brought about. Until the map has come to it, what is seen
    /// is older than what was done, and nothing is done again.
    done: u64,
    /// Counts looks, so that no single meta replica is asked each time.
    looks: usize,
}

impl MapKeeper {
    pub(crate) fn new(core: &Arc<Core>, own: NodeRecord) -> MapKeeper {
        let cached = core.map.revision();
        let dialed = BTreeMap::new();
        MapKeeper { core: Arc::downgrade(core), own, dialed, cached, done: 0, looks: 0 }
    }

    /// Runs until the engine ends. A panic ends the engine's service, as in any of its threads.
    pub(crate) async fn run_guarded(self) {
        let core = Weak::clone(&self.core);
        // A panic has been told by the guard.
        let _ended: Option<()> = guarded(core, "map keeper", self.run()).await;
    }

    async fn run(mut self) {
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
        if let Some(map) = self.ask(core).await? {
            // First: who has adopted this revision knows the starts in it.
            core.hear_lives(map.nodes.clone()).await;
            core.map.adopt(map);
            self.dial(core);
        }
        self.keep(core).await;
        if core.map.revision() < self.done {
            // Another replica of the meta shard, at the next look, may have come further.
            return Ok(());
        }
        if core.map.revision() == 0 {
            return self.found(core).await;
        }
        self.announce(core).await?;
        self.report(core).await
    }

    /// The meta shard's map, if it is another than this node's. Any replica will do: the map is a
    /// cache, and epochs guard against its age.
    async fn ask(&mut self, core: &Arc<Core>) -> Result<Option<MetaMap>, Refusal> {
        let mut route = core.route_by_id(META_SHARD)?;
        let question = Question::Map { known: core.map.revision() };
        self.looks += 1;
        let facts = if route.local.is_some() {
            // The look itself is for a thread that may block: this one carries the connections.
            let version = route.descriptor_version;
            match core.look_bounded(META_SHARD, version, question).await {
                Ok(facts) => facts,
                Err(_) => return Ok(None),
            }
        } else {
            let turn = self.looks % route.members.len().max(1);
            route.members.rotate_left(turn);
            core.read(route, question, ReadLevel::Stale).await?
        };
        let Facts::Map(Some(bytes)) = facts else {
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

    /// The first command of a cluster.
    async fn found(&mut self, core: &Core) -> Result<(), Refusal> {
        let shards = core.map.descriptors();
        let found = MetaCommand::Found { cluster_version: CLUSTER_VERSION, shards };
        match self.command(core, &found).await? {
            MetaReply::Done { revision } | MetaReply::AlreadyFounded { revision } => {
                self.expect(core, revision);
            }
            reply => tracing::error!(?reply, "the meta shard does not take the first map"),
        }
        Ok(())
    }

    /// The map has this revision, or will have it soon.
    fn expect(&mut self, core: &Core, revision: u64) {
        self.done = self.done.max(revision);
        core.map_wanted.notify_one();
    }

    async fn command(&self, core: &Core, command: &MetaCommand) -> Result<MetaReply, Refusal> {
        let route = || core.route_by_id(META_SHARD);
        match core.write_until_done(route, command.encode().into(), None).await {
            Ok(Applied { reply, .. }) => {
                Ok(MetaReply::decode(&reply).unwrap_or(MetaReply::Unknown))
            }
            Err(WriteError::DidNotHappen(refusal)) => Err(refusal),
            // Whatever became of it, the next look sees.
            Err(WriteError::OutcomeUnknown(doubt)) => {
                tracing::debug!(%doubt, ?command, "a command of the meta shard");
                Err(Refusal::NoLeader { shard: META_SHARD, leader: None, wait: limits::MAP_POLL })
            }
        }
    }

    /// Tells the cluster where this node is, unless it knows.
    async fn announce(&mut self, core: &Core) -> Result<(), Refusal> {
        if core.map.node(self.own.node).as_ref() == Some(&self.own) {
            return Ok(());
        }
        let reply = self.command(core, &MetaCommand::Register(self.own.clone())).await?;
        match reply {
            MetaReply::Done { revision } => self.expect(core, revision),
            MetaReply::OtherStore { known } => {
                core.end(FatalError::Identity(format!(
                    "node {} is registered with store {known}, and this directory is store {}",
                    self.own.node, self.own.life.store
                )));
            }
            reply => tracing::warn!(?reply, "this node was not registered"),
        }
        Ok(())
    }

    /// Tells the directory what shards led here know better than it. All in one command, but for
    /// those that it finds contradictory: they must not hold up the others.
    async fn report(&mut self, core: &Core) -> Result<(), Refusal> {
        let newer = |own: &ShardDescriptor| {
            // What was learnt of a shard here went into the routes at the start; so compare with
            // what the meta shard has said last.
            core.map.reported(own.shard).is_none_or(|known| own.epoch > known)
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
                MetaReply::Done { revision } => {
                    self.expect(core, revision);
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
        if core.map.revision() == self.cached {
            return;
        }
        let (map, core) = (core.map.adopted(), Arc::clone(core));
        let revision = map.revision;
        // It syncs, and this runtime carries the connections.
        let fatal = Arc::clone(&core.fatal);
        let keep = move || core.log.record_map(&map.encode());
        match run_blocking(fatal, "map keeper", keep).await {
            Some(Ok(())) => self.cached = revision,
            Some(Err(fault)) => tracing::error!(%fault, "the map was not kept"),
            None => tracing::debug!("the map was not kept: this node is stopping"),
        }
    }
}
