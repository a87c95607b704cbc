//! Finds the shard that a request goes to, by key, command or id, and the nodes that may serve it.

use std::sync::Arc;

use quorate_machine::KvCommand;
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId, limits};

use crate::error::{Invalid, Refusal};
use crate::request::dispatch::Dispatch;
use crate::state::shards::LocalShard;

/// The shard of a key and where its replicas are, as far as this node knows.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) shard: ShardId,
    pub(crate) descriptor_version: u64,
    /// Set if a replica lives here.
    pub(crate) local: Option<Arc<LocalShard>>,
    pub(crate) members: Vec<NodeId>,
}

impl Route {
    /// Whether it leads to a replica here that was given up meanwhile.
    pub(crate) fn is_ended(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.ended().is_some())
    }
}

impl Dispatch {
    /// The route of a key.
    pub(crate) fn route(&self, key: &[u8]) -> Result<Route, Refusal> {
        let routes = self.map().routes();
        let descriptor = routes.lookup(key).ok_or(Refusal::NoShard)?;
        Ok(self.route_to(descriptor))
    }

    /// The route to a shard by its id; the only route to the meta shard.
    pub(crate) fn route_by_id(&self, shard: ShardId) -> Result<Route, Refusal> {
        let descriptor = self.map().descriptor(shard).ok_or(Refusal::NoShard)?;
        Ok(self.route_to(&descriptor))
    }

    pub(crate) fn route_to(&self, descriptor: &ShardDescriptor) -> Route {
        let local = self.shards().get(descriptor.shard).cloned();
        // Members matter only if there is no local replica to ask.
        let members = match &local {
            Some(_) => Vec::new(),
            None => descriptor.members.iter().map(|member| member.node).collect(),
        };
        Route {
            shard: descriptor.shard,
            descriptor_version: descriptor.epoch.version,
            local,
            members,
        }
    }

    /// The route of `command`, found and checked in one read of the map. Call it again before each
    /// try: after a split the keys of one command may belong to two shards.
    pub(crate) fn route_command(&self, command: &KvCommand) -> Result<Route, Refusal> {
        let routes = self.map().routes();
        let first = command.first_key().ok_or(Refusal::NoShard)?;
        let owner = routes.lookup(first).ok_or(Refusal::NoShard)?;
        let owner_of = |key: &[u8]| routes.lookup(key).map(|descriptor| descriptor.shard);
        check_keys(command, owner, &owner_of)?;
        Ok(self.route_to(owner))
    }

    /// True if the map has another version of the route's shard by now.
    pub(crate) fn is_old(&self, route: &Route) -> bool {
        let known = self.map().descriptor(route.shard);
        known.is_none_or(|known| known.epoch.version != route.descriptor_version)
    }

    /// The shard's replica on this node.
    pub(crate) fn replica(&self, shard: ShardId) -> Result<&Arc<LocalShard>, Refusal> {
        if self.is_stopped() {
            return Err(self.stopped());
        }
        self.shards().get(shard).ok_or_else(|| match self.map().descriptor(shard) {
            Some(descriptor) => {
                let nodes = descriptor.members.iter().map(|member| member.node).collect();
                Refusal::NotHere { shard, nodes }
            }
            None => Refusal::NoShard,
        })
    }

    /// True if this node's replica has a leader that it can't reach, or has known none for longer than
    /// any election takes: then other nodes may know the leader.
    pub(crate) fn is_cut_off(&self, state: &LocalShard) -> bool {
        match state.leader() {
            Some(leader) => leader != self.node() && !self.is_connected(leader),
            None => state.leaderless_for() >= limits::LEADERLESS_RELAY,
        }
    }

    /// A node to ask in place of `leader`, which can't be reached or is not known: a connected
    /// member of the shard if there is one, because it knows the leader best, else any connected
    /// node. `turn` counts the tries, so that each try asks another one.
    pub(crate) fn relay(
        &self,
        shard: ShardId,
        leader: Option<NodeId>,
        turn: usize,
    ) -> Option<NodeId> {
        let usable = |node: &NodeId| {
            *node != self.node() && Some(*node) != leader && self.is_connected(*node)
        };
        let members = self.map().descriptor(shard).map(|shard| shard.members).unwrap_or_default();
        let mut usable_nodes: Vec<NodeId> =
            members.iter().map(|member| member.node).filter(usable).collect();
        if usable_nodes.is_empty() {
            usable_nodes =
                self.map().nodes().iter().map(|record| record.node).filter(usable).collect();
        }
        usable_nodes.get(turn % usable_nodes.len().max(1)).copied()
    }
}

fn check_keys(
    command: &KvCommand,
    owner: &ShardDescriptor,
    owner_of: &impl Fn(&[u8]) -> Option<ShardId>,
) -> Result<(), Refusal> {
    match command {
        KvCommand::Batch(commands) => {
            commands.iter().try_for_each(|command| check_keys(command, owner, owner_of))
        }
        KvCommand::DeleteRange { start, end } => {
            check_key(start, owner, owner_of)?;
            match &owner.end {
                Some(own) if end > own => check_key(own, owner, owner_of),
                _ => Ok(()),
            }
        }
        single => match single.first_key() {
            Some(key) => check_key(key, owner, owner_of),
            None => Ok(()),
        },
    }
}

fn check_key(
    key: &[u8],
    owner: &ShardDescriptor,
    owner_of: &impl Fn(&[u8]) -> Option<ShardId>,
) -> Result<(), Refusal> {
    if owner.contains(key) {
        return Ok(());
    }
    let other = owner_of(key).ok_or(Refusal::NoShard)?;
    Err(Invalid::CrossShard { first: owner.shard, other }.into())
}
