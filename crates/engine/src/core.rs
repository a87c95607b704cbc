//! What every thread and every handle of one engine shares, and the way of a read through it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_host::Refusal as HostRefusal;
use quorate_log::LogStore;
use quorate_router::ShardDescriptor;
use quorate_transport::{Transport, WallClock};
use quorate_types::{ClusterId, NodeId, NodeLife, ShardId, limits};
use tokio::sync::Notify;

use crate::admission::Lives;
use crate::budget::Budget;
use crate::call::{Call, Outcome};
use crate::cluster_map::ClusterMap;
use crate::cluster_status::ClusterStatus;
use crate::counters::Counters;
use crate::data::DataStore;
use crate::ending::Ending;
use crate::error::{Invalid, Refusal};
use crate::fatal::Fatal;
use crate::forward::{Request, RequestKind};
use crate::forwarder::{Asked, Forwarder, NotSent};
use crate::founding::Founding;
use crate::inbox::Inbox;
use crate::progress::ProgressSink;
use crate::reads::{ReadLevel, ReadRoom};
use crate::resources::Resources;
use crate::shard_read::{self, Facts, Question};
use crate::shards::{ShardState, Shards};
use crate::shared::Shared;
use crate::stall::Stalls;
use crate::tries::{Next, Target, Tries};

/// See the module's documentation.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) life: NodeLife,
    pub(crate) founding: Arc<Founding>,
    /// Digest of the first map that this directory was made for.
    pub(crate) first_map: u32,
    pub(crate) wall_clock: WallClock,
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) forwarder: Forwarder,
    pub(crate) log: Arc<LogStore>,
    pub(crate) data: Arc<DataStore>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) read_room: ReadRoom,
    /// Room for writes that were submitted without waiting.
    pub(crate) submissions: Arc<Budget>,
    /// Room for requests that this node does, or sends on, for nodes that can't reach a leader.
    pub(crate) relays: Arc<Budget>,
    pub(crate) ending: Arc<Ending>,
    /// Where the other nodes are, as far as this node was told by its owner.
    pub(crate) addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    pub(crate) lives: Lives,
    /// Wakes the task that keeps the map.
    pub(crate) map_wanted: Notify,
    /// This node's status for others, encoded.
    pub(crate) own_status: Shared<Option<Bytes>>,
    /// The cluster's, as this node has gathered it.
    pub(crate) whole_status: Shared<Arc<ClusterStatus>>,
}

/// Where a key's shard is, as far as this node knows.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) shard: ShardId,
    pub(crate) descriptor_version: u64,
    /// Set if a replica lives here.
    pub(crate) local: Option<Arc<ShardState>>,
    pub(crate) members: Vec<NodeId>,
}

impl Core {
    /// Hands a call to the worker of its shard, or ends it.
    pub(crate) fn submit(&self, call: Call) -> Result<(), Outcome> {
        if self.is_stopped() {
            return Err(Outcome::Stopping);
        }
        let state = self.shards.get(call.shard).ok_or(Outcome::Refused(HostRefusal::NoReplica))?;
        let pushed = self.inboxes[state.worker].push_call(call);
        pushed.map_err(|_| Outcome::Refused(HostRefusal::Busy))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.ending.has_begun()
    }

    /// Why the engine is stopped, for the caller's eyes.
    pub(crate) fn stopped(&self) -> Refusal {
        self.ending.refusal()
    }

    pub(crate) fn route(&self, key: &[u8]) -> Result<Route, Refusal> {
        let routes = self.map.routes();
        let descriptor = routes.lookup(key).ok_or(Refusal::NoShard)?;
        Ok(self.route_to(descriptor))
    }

    /// The way to a shard by its id; the meta shard has no other.
    pub(crate) fn route_by_id(&self, shard: ShardId) -> Result<Route, Refusal> {
        let descriptor = self.map.descriptor(shard).ok_or(Refusal::NoShard)?;
        Ok(self.route_to(&descriptor))
    }

    pub(crate) fn route_to(&self, descriptor: &ShardDescriptor) -> Route {
        let local = self.shards.get(descriptor.shard).cloned();
        // Members matter only to those who have no replica to ask.
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

    /// Sends a request to `node`. Stages before its end go to `progress`.
    pub(crate) fn forward(
        &self,
        route: &Route,
        node: NodeId,
        kind: RequestKind,
        body: Bytes,
        progress: Option<ProgressSink>,
    ) -> Result<Asked, Outcome> {
        let request = Request {
            kind,
            shard: route.shard,
            descriptor_version: route.descriptor_version,
            body,
        };
        let sent = self.forwarder.send(&self.transport, node, &request, progress);
        self.counters.forwards_sent.add(1);
        sent.map_err(|error| match error {
            NotSent::Unreachable => Outcome::Refused(HostRefusal::NotLeader { leader: None }),
            NotSent::Full => Outcome::Refused(HostRefusal::Busy),
        })
    }

    /// Asks the shard of `route`: the replica here, or one elsewhere.
    pub(crate) async fn read(
        self: &Arc<Self>,
        route: &Route,
        question: &Question,
        level: ReadLevel,
    ) -> Result<Facts, Refusal> {
        let mut tries = Tries::new();
        loop {
            if self.is_stopped() {
                return Err(self.stopped());
            }
            let leader = match self.try_read(route, question, level, &tries).await {
                Ok(facts) => {
                    self.counters.reads_served.add(1);
                    return Ok(facts);
                }
                Err(Outcome::Stale(current)) => {
                    self.learn((*current).clone());
                    if self.is_old(route) {
                        let routed = route.descriptor_version;
                        return Err(Refusal::StaleRoute { routed, current });
                    }
                    let stale = Next::Descriptor(current);
                    if let Err(refusal) = tries.prepare(self, route, stale).await {
                        self.counters.reads_refused.add(1);
                        return Err(refusal);
                    }
                    continue;
                }
                Err(
                    Outcome::Refused(HostRefusal::NotLeader { leader })
                    | Outcome::LeaderChanged { leader },
                ) => leader,
                // Another try would be answered alike.
                Err(
                    Outcome::Malformed | Outcome::UnknownStopped | Outcome::ReplyTooLarge { .. },
                ) => {
                    self.counters.reads_refused.add(1);
                    return Err(match self.is_stopped() {
                        true => self.stopped(),
                        false => Refusal::Unreadable { shard: route.shard },
                    });
                }
                Err(_) => None,
            };
            if let Err(refusal) = tries.pause(self, route, leader).await {
                self.counters.reads_refused.add(1);
                return Err(refusal);
            }
        }
    }

    async fn try_read(
        self: &Arc<Self>,
        route: &Route,
        question: &Question,
        level: ReadLevel,
        tries: &Tries,
    ) -> Result<Facts, Outcome> {
        let may_serve =
            |state: &Arc<ShardState>| level == ReadLevel::Stale || !self.is_cut_off(state);
        if route.local.as_ref().is_some_and(may_serve) {
            return self.read_here(route.shard, route.descriptor_version, question, level).await;
        }
        let (node, kind) = match tries.target(self, route) {
            Target::Node(node) => (node, RequestKind::Read),
            Target::Via(node) => (node, RequestKind::RelayedRead),
            // Looked at again when the next try begins.
            Target::Here | Target::Nowhere => {
                return Err(Outcome::Refused(HostRefusal::NotLeader { leader: None }));
            }
        };
        let body = shard_read::encode_question(question, level);
        let mut asked = self.forward(route, node, kind, body, None)?;
        match tries.end_of(asked.answer()).await {
            Ok(Outcome::Reply(bytes)) => match shard_read::decode_facts(bytes) {
                Ok(facts) if facts.fits(question) => Ok(facts),
                Ok(_) | Err(_) => Err(Outcome::Malformed),
            },
            Ok(outcome) => Err(outcome),
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }
}

impl Core {
    /// True if the map has another version of the route's shard by now.
    pub(crate) fn is_old(&self, route: &Route) -> bool {
        let known = self.map.descriptor(route.shard);
        known.is_none_or(|known| known.epoch.version != route.descriptor_version)
    }

    /// Takes in what a replica said of its shard; the keeper of the map looks what else is new.
    pub(crate) fn learn(&self, descriptor: ShardDescriptor) -> bool {
        let news = self.map.learn(descriptor);
        if news {
            self.map_wanted.notify_one();
        }
        news
    }
}

/// Every way into a log passes this: an entry that no frame can carry would stop its shard.
pub(crate) fn check_command(command: &[u8]) -> Result<(), Invalid> {
    match command.len() {
        found if found > limits::COMMAND_BYTES_MAX => {
            Err(Invalid::CommandTooLong { found, max: limits::COMMAND_BYTES_MAX })
        }
        _ => Ok(()),
    }
}
