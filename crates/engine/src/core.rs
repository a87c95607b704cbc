//! What every thread and every handle of one engine shares, and the way of a call through it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_host::Refusal as HostRefusal;
use quorate_log::LogStore;
use quorate_router::ShardDescriptor;
use quorate_transport::{Transport, WallClock};
use quorate_types::{ClusterId, NodeId, NodeLife, ShardId, limits};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::call::{Call, CallKind, Completion, Outcome};
use crate::cluster_map::ClusterMap;
use crate::counters::Counters;
use crate::data::DataStore;
use crate::error::{Doubt, Invalid, Refusal, WriteError};
use crate::fatal::Fatal;
use crate::forward::{Request, RequestKind};
use crate::forwarder::{Asked, Forwarder, NotSent};
use crate::founding::Founding;
use crate::inbox::Inbox;
use crate::reads::ReadLevel;
use crate::shard_read::{self, Facts, Question};
use crate::shards::{ShardState, Shards};

/// First and longest pause before a call is tried again, where nothing announces the right time.
const RETRY_WAIT: Duration = Duration::from_millis(2);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) life: NodeLife,
    pub(crate) founding: Arc<Founding>,
    pub(crate) wall_clock: WallClock,
    pub(crate) map: ClusterMap,
    pub(crate) shards: Arc<Shards>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) forwarder: Forwarder,
    pub(crate) log: Arc<LogStore>,
    pub(crate) data: Arc<DataStore>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stopping: AtomicBool,
    /// Where the other nodes are, as far as this node was told by its owner.
    pub(crate) addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// The newest life of every peer that ever connected; as durable in the log.
    pub(crate) lives: Mutex<BTreeMap<NodeId, NodeLife>>,
    /// Wakes the task that keeps the map.
    pub(crate) map_wanted: Notify,
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

/// Where a try goes.
enum Target {
    Here,
    Node(NodeId),
    /// Nobody is known to lead.
    Nowhere,
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
        self.stopping.load(Ordering::Acquire) || self.fatal.is_set()
    }

    /// Why the engine is stopped, for the caller's eyes.
    pub(crate) fn stopped(&self) -> Refusal {
        Refusal::Stopped(match self.fatal.get() {
            Some(error) => error.to_string(),
            None => "it is shutting down".to_owned(),
        })
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

    /// Replicates `command` in the shard of `key`; gives the state machine's reply.
    pub(crate) async fn write(&self, key: &[u8], command: Bytes) -> Result<Bytes, WriteError> {
        let result = self.write_until_done(|| self.route(key), command).await;
        match &result {
            Ok(_) => {}
            Err(WriteError::DidNotHappen(_)) => self.counters.writes_refused.add(1),
            Err(WriteError::OutcomeUnknown(_)) => self.counters.writes_unknown.add(1),
        }
        result
    }

    /// Replicates `command` in the shard that `find` gives; it is asked before each try: what is
    /// learnt from one try shows the way to the next.
    pub(crate) async fn write_until_done(
        &self,
        find: impl Fn() -> Result<Route, Refusal>,
        command: Bytes,
    ) -> Result<Bytes, WriteError> {
        check_command(&command).map_err(|invalid| WriteError::DidNotHappen(invalid.into()))?;
        let mut tries = Tries::new();
        loop {
            let route = find().map_err(WriteError::DidNotHappen)?;
            let outcome = self.try_write(&route, &command, &tries).await;
            let next = match outcome {
                Ok(Outcome::Reply(reply)) => return Ok(reply),
                Ok(outcome) => self.next_step(&route, outcome)?,
                Err(after) => return Err(WriteError::OutcomeUnknown(Doubt::Deadline { after })),
            };
            tries.prepare(self, &route, next).await.map_err(WriteError::DidNotHappen)?;
        }
    }

    /// One try. An error is the time that passed until the deadline, with the outcome unknown.
    async fn try_write(
        &self,
        route: &Route,
        command: &Bytes,
        tries: &Tries,
    ) -> Result<Outcome, Duration> {
        match tries.target(self.node, route) {
            Target::Nowhere => Ok(Outcome::Refused(HostRefusal::NotLeader { leader: None })),
            Target::Here => {
                let (sender, receiver) = oneshot::channel();
                let call = Call {
                    shard: route.shard,
                    descriptor_version: route.descriptor_version,
                    kind: CallKind::Write(command.clone()),
                    completion: Completion::Local(sender),
                };
                match self.submit(call) {
                    Ok(()) => tries.end_of(receiver).await,
                    Err(outcome) => Ok(outcome),
                }
            }
            Target::Node(node) => {
                match self.forward(route, node, RequestKind::Write, command.clone()) {
                    Ok(mut asked) => tries.end_of(asked.answer()).await,
                    Err(outcome) => Ok(outcome),
                }
            }
        }
    }

    fn forward(
        &self,
        route: &Route,
        node: NodeId,
        kind: RequestKind,
        body: Bytes,
    ) -> Result<Asked, Outcome> {
        let request = Request {
            kind,
            shard: route.shard,
            descriptor_version: route.descriptor_version,
            body,
        };
        let sent = self.forwarder.send(&self.transport, node, &request);
        self.counters.forwards_sent.add(1);
        sent.map_err(|error| match error {
            NotSent::Unreachable => Outcome::Refused(HostRefusal::NotLeader { leader: None }),
            NotSent::Full => Outcome::Refused(HostRefusal::Busy),
        })
    }

    /// Whether another try may help, and what is known for it.
    fn next_step(&self, route: &Route, outcome: Outcome) -> Result<Next, WriteError> {
        let unknown = |doubt| Err(WriteError::OutcomeUnknown(doubt));
        match outcome {
            Outcome::Refused(HostRefusal::NotLeader { leader })
            | Outcome::LeaderChanged { leader } => Ok(Next::Leader(leader)),
            Outcome::Refused(_) => Ok(Next::Leader(None)),
            Outcome::Stale(current) => Ok(Next::Descriptor(current)),
            Outcome::Stopping if self.is_stopped() => Err(WriteError::DidNotHappen(self.stopped())),
            Outcome::Stopping => Ok(Next::Leader(None)),
            Outcome::UnknownLeaderChanged => unknown(Doubt::LeaderChanged { shard: route.shard }),
            Outcome::UnknownStopped => unknown(Doubt::Stopped),
            Outcome::UnknownConnectionLost { node } => unknown(Doubt::ConnectionLost { node }),
            Outcome::Malformed => Err(WriteError::DidNotHappen(Refusal::Stopped(
                "the command is not known to every node's version".to_owned(),
            ))),
            Outcome::Reply(_) | Outcome::ReadAt(_) | Outcome::TransferBegun => {
                unreachable!("a write is not answered like that")
            }
        }
    }

    /// Asks the shard of `route`: the replica here, or one elsewhere.
    pub(crate) async fn read(
        &self,
        route: Route,
        question: Question,
        level: ReadLevel,
    ) -> Result<Facts, Refusal> {
        let mut tries = Tries::new();
        loop {
            if self.is_stopped() {
                return Err(self.stopped());
            }
            let leader = match self.try_read(&route, &question, level, &tries).await {
                Ok(facts) => {
                    self.counters.reads_served.add(1);
                    return Ok(facts);
                }
                Err(Outcome::Stale(current)) => {
                    let stale = Next::Descriptor(current.clone());
                    if self.learn((*current).clone()) {
                        let routed = route.descriptor_version;
                        return Err(Refusal::StaleRoute { routed, current });
                    }
                    if let Err(refusal) = tries.prepare(self, &route, stale).await {
                        self.counters.reads_refused.add(1);
                        return Err(refusal);
                    }
                    continue;
                }
                Err(
                    Outcome::Refused(HostRefusal::NotLeader { leader })
                    | Outcome::LeaderChanged { leader },
                ) => leader,
                Err(_) => None,
            };
            if let Err(refusal) = tries.pause(self, &route, leader).await {
                self.counters.reads_refused.add(1);
                return Err(refusal);
            }
        }
    }

    async fn try_read(
        &self,
        route: &Route,
        question: &Question,
        level: ReadLevel,
        tries: &Tries,
    ) -> Result<Facts, Outcome> {
        if route.local.is_some() {
            return self.read_here(route.shard, route.descriptor_version, question, level).await;
        }
        let Target::Node(node) = tries.target(self.node, route) else {
            return Err(Outcome::Refused(HostRefusal::NoReplica));
        };
        let body = shard_read::encode_question(question, level);
        let mut asked = self.forward(route, node, RequestKind::Read, body)?;
        match tries.end_of(asked.answer()).await {
            Ok(Outcome::Reply(bytes)) => {
                shard_read::decode_facts(bytes).map_err(|_| Outcome::Malformed)
            }
            Ok(outcome) => Err(outcome),
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }
}

impl Core {
    /// Takes in what a replica said of its shard; the keeper of the map looks what else is new.
    pub(crate) fn learn(&self, descriptor: ShardDescriptor) -> bool {
        let news = self.map.learn(descriptor);
        if news {
            self.map_wanted.notify_one();
        }
        news
    }
}

/// What is known for another try.
enum Next {
    /// Where the leader is said to be.
    Leader(Option<NodeId>),
    /// What the shard is now.
    Descriptor(Box<ShardDescriptor>),
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

/// The tries of one call: how long they may go on, and where the next one goes.
struct Tries {
    started: Instant,
    deadline: Instant,
    count: u32,
    hint: Option<NodeId>,
}

impl Tries {
    fn new() -> Tries {
        let started = Instant::now();
        Tries { started, deadline: started + limits::REQUEST_TIMEOUT, count: 0, hint: None }
    }

    /// Waits for the end of a call. An error is the time that passed until the deadline.
    async fn end_of(
        &self,
        receiver: impl Future<Output = Result<Outcome, oneshot::error::RecvError>>,
    ) -> Result<Outcome, Duration> {
        match tokio::time::timeout_at(self.deadline, receiver).await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The thread that had the call is gone: it can't say how far it came.
            Ok(Err(_)) => Ok(Outcome::UnknownStopped),
            Err(_) => Err(self.started.elapsed()),
        }
    }

    fn target(&self, own: NodeId, route: &Route) -> Target {
        let known = match &route.local {
            Some(state) => state.leader().or(self.hint),
            // Without a replica here: the leader named by the last try, or the members in turn.
            None => self.hint.or_else(|| {
                let count = self.count as usize;
                route.members.get(count % route.members.len().max(1)).copied()
            }),
        };
        match known {
            None => Target::Nowhere,
            Some(node) if node == own => Target::Here,
            Some(node) => Target::Node(node),
        }
    }

    /// Makes the most of what the last try learnt, or says that the time is up.
    async fn prepare(&mut self, core: &Core, route: &Route, next: Next) -> Result<(), Refusal> {
        match next {
            Next::Leader(leader) => self.pause(core, route, leader).await,
            // News of the shard: the next try goes by it, at once.
            Next::Descriptor(current) if core.learn((*current).clone()) => Ok(()),
            // A replica that is behind the map; it will catch up, if anything is right.
            Next::Descriptor(current) => {
                let routed = route.descriptor_version;
                let waited = self.pause(core, route, None).await;
                waited.map_err(|refusal| match refusal {
                    Refusal::NoLeader { .. } => Refusal::StaleRoute { routed, current },
                    refusal => refusal,
                })
            }
        }
    }

    /// Waits until another try makes sense, or says that the time is up.
    async fn pause(
        &mut self,
        core: &Core,
        route: &Route,
        leader: Option<NodeId>,
    ) -> Result<(), Refusal> {
        if core.is_stopped() {
            return Err(core.stopped());
        }
        self.count += 1;
        self.hint = leader;
        let wait = (RETRY_WAIT * self.count.min(50)).min(RETRY_WAIT_MAX);
        if Instant::now() + wait >= self.deadline {
            let leader = route.local.as_ref().and_then(|state| state.leader());
            return Err(Refusal::NoLeader { shard: route.shard, leader, wait: RETRY_WAIT_MAX });
        }
        match &route.local {
            // The role's change is announced; the time bound covers the race with it.
            Some(state) => {
                drop(tokio::time::timeout(wait, state.leader_changed()).await);
            }
            None => tokio::time::sleep(wait).await,
        }
        Ok(())
    }
}
