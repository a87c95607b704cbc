//! All of a node's liveness in one place: what the heartbeat thread owns.
//!
//! Datagrams and time go in; datagrams, changes of standing, and what the audit found come out. The
//! driver carries the changes to the workers, whose replicas act on them.

use std::collections::BTreeMap;

use quorate_types::{
    ClusterId, Duration, Incarnation, Monotonic, Mutant, Mutation, NodeId, ShardId, Term,
};

use crate::audit::{AuditKey, AuditList, BoundHere, BoundThere, ChangeNumber, Comparison};
use crate::binding::{Binding, Control, LivenessNote};
use crate::support::{
    Datagram, HeartbeatAnswer, Requester, RequesterEvent, StandingChange, Standings, SupportHeld,
    Supporter, Suspicion, Unfit,
};

/// The configuration of a node's liveness, fixed for the life of its process.
#[derive(Clone, Debug)]
pub struct LivenessConfig {
    /// Keys the audit.
    pub cluster: ClusterId,
    /// Durable, and raised before the node speaks.
    pub incarnation: Incarnation,
    /// The support that this node asks for; whole milliseconds.
    pub support: Duration,
    /// The longest support that this node ever gave, from its disk; zero for a new node.
    pub longest_durable: Duration,
    /// All other nodes.
    pub peers: Vec<NodeId>,
}

/// What workers have to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivenessEvent {
    /// The support given to a peer has changed: every worker updates its copy and then, except for
    /// [`crate::StandingCause::Given`], wakes the shards bound to that peer.
    Standing(StandingChange),
    /// Something changed in the support that this node holds.
    Requester(RequesterEvent),
    /// The audit differs: this list goes to the peer on the control lane, for its
    /// [`NodeLiveness::handle_list_of_leader`].
    Differs {
        /// The bound side.
        node: NodeId,
        /// What this side has.
        list: AuditList,
    },
}

/// Both sides of the audit with one peer. Each starts again in a new life of the peer, as soon as
/// that side hears of it: a heartbeat, for what is bound here; a heartbeat or a binding, whichever
/// comes first, for what is bound there.
struct Pair {
    here: BoundHere,
    there: BoundThere,
    there_incarnation: Incarnation,
}

impl Pair {
    fn new(key: AuditKey) -> Pair {
        let (here, there) = (BoundHere::new(key), BoundThere::new(key));
        Pair { here, there, there_incarnation: Incarnation(0) }
    }

    /// The peer speaks in `incarnation`; false if that is an old one.
    fn hear(&mut self, incarnation: Incarnation, key: AuditKey) -> bool {
        if incarnation > self.there_incarnation {
            self.there = BoundThere::new(key);
            self.there_incarnation = incarnation;
        }
        incarnation == self.there_incarnation
    }
}

/// The liveness of one node and of its peers as it sees them.
pub struct NodeLiveness {
    supporter: Supporter,
    requester: Requester,
    suspicion: Suspicion,
    key: AuditKey,
    pairs: BTreeMap<NodeId, Pair>,
    differing: Vec<(NodeId, AuditList)>,
    mutation: Mutation,
}

impl NodeLiveness {
    /// A node that has just started.
    #[must_use]
    pub fn new(now: Monotonic, config: &LivenessConfig) -> NodeLiveness {
        let (incarnation, support) = (config.incarnation, config.support);
        let mut node = NodeLiveness {
            supporter: Supporter::new(now, incarnation, config.longest_durable, support),
            requester: Requester::new(now, incarnation, support),
            suspicion: Suspicion::new(),
            key: AuditKey::new(config.cluster),
            pairs: BTreeMap::new(),
            differing: Vec::new(),
            mutation: Mutation::NONE,
        };
        for peer in &config.peers {
            node.add_peer(*peer);
        }
        node
    }

    /// The same with a deliberate bug, for the simulator.
    #[must_use]
    pub fn with_mutation(self, mutation: Mutation) -> NodeLiveness {
        let (supporter, requester) = (self.supporter, self.requester);
        let (supporter, requester) =
            (supporter.with_mutation(mutation), requester.with_mutation(mutation));
        NodeLiveness { supporter, requester, mutation, ..self }
    }

    /// Begins to ask a new node for support.
    pub fn add_peer(&mut self, node: NodeId) {
        self.requester.add_peer(node);
        let key = self.key;
        self.pairs.entry(node).or_insert_with(|| Pair::new(key));
    }

    /// A datagram arrived; `from` is proven by its connection. Yields the answer, if one is due.
    /// Datagrams of a node that is no peer are dropped.
    pub fn handle_datagram(
        &mut self,
        now: Monotonic,
        from: NodeId,
        datagram: &Datagram,
    ) -> Option<HeartbeatAnswer> {
        if !self.pairs.contains_key(&from) {
            return None;
        }
        match datagram {
            Datagram::Heartbeat(heartbeat) => {
                let before = self.supporter.standings().get(from);
                let answer = self.supporter.handle_heartbeat(now, from, heartbeat);
                let pair = self.pairs.get_mut(&from).expect("looked at above");
                if before.is_some_and(|before| before.incarnation < heartbeat.incarnation) {
                    pair.here = BoundHere::new(self.key);
                    self.suspicion.forget(from);
                }
                // A heartbeat that gets no answer is old, and says nothing about now.
                if answer.is_some() && pair.hear(heartbeat.incarnation, self.key) {
                    self.suspicion.handle_heartbeat(now, from);
                    let is_deaf = self.mutation.is(Mutant::AuditOff);
                    if pair.there.compare(&heartbeat.audit) == Comparison::Unequal && !is_deaf {
                        self.differing.push((from, pair.there.list(heartbeat.audit.bucket)));
                    }
                }
                answer
            }
            Datagram::Answer(answer) => {
                self.requester.handle_answer(now, from, answer);
                None
            }
        }
    }

    /// Time passed: withdraws what has lapsed, notes what ran out, and yields the heartbeats that
    /// are due. `now` is read before they are sent.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Vec<(NodeId, Datagram)> {
        self.suspicion.handle_timer(self.poll_timeout(), now);
        self.supporter.handle_timeout(now);
        self.requester.handle_timeout(now);
        let pairs = &mut self.pairs;
        let heartbeats = self.requester.take_heartbeats(now, |peer| {
            pairs.get_mut(&peer).expect("every peer has a pair").here.take_sample()
        });
        let wrap = |(node, heartbeat)| (node, Datagram::Heartbeat(heartbeat));
        heartbeats.into_iter().map(wrap).collect()
    }

    /// When [`NodeLiveness::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Monotonic {
        let requester = self.requester.poll_timeout();
        self.supporter.poll_timeout().map_or(requester, |supporter| supporter.min(requester))
    }

    /// The node became unfit to lead, or fit again.
    pub fn handle_fitness(&mut self, unfit: Option<Unfit>) {
        self.requester.handle_fitness(unfit);
    }

    /// The longest support, to be made durable; each value once.
    pub fn take_persist_longest(&mut self) -> Option<Duration> {
        self.supporter.take_persist_longest()
    }

    /// It is durable.
    pub fn handle_longest_persisted(&mut self, longest: Duration) {
        self.supporter.handle_longest_persisted(longest);
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<LivenessEvent> {
        let mut events: Vec<_> =
            self.supporter.take_changes().into_iter().map(LivenessEvent::Standing).collect();
        events.extend(self.requester.take_events().into_iter().map(LivenessEvent::Requester));
        let differing = std::mem::take(&mut self.differing);
        events.extend(
            differing.into_iter().map(|(node, list)| LivenessEvent::Differs { node, list }),
        );
        events
    }

    /// Takes in what a host noted. Yields what its shard's leader is to be told, and at which node.
    ///
    /// # Panics
    /// If the note names a node that is no peer.
    #[must_use]
    pub fn handle_note(&mut self, note: LivenessNote) -> Option<(NodeId, ShardId, Control)> {
        match note {
            LivenessNote::Bound { leader, shard, binding } => {
                let change = self.bind(leader, shard, binding.term);
                return Some((leader, shard, Control::Bound { binding, change }));
            }
            LivenessNote::Unbound { leader, shard } => self.unbind(leader, shard),
            LivenessNote::Recorded { peer, shard, binding, change } => {
                self.record(peer, shard, &binding, change);
            }
            LivenessNote::Forgotten { peer, shard } => self.forget(peer, shard),
        }
        None
    }

    /// A replica here is bound in `term` to a leader at `leader`; the number goes to that leader
    /// with the binding.
    ///
    /// # Panics
    /// If `leader` is no peer.
    pub fn bind(&mut self, leader: NodeId, shard: ShardId, term: Term) -> ChangeNumber {
        self.pair(leader).here.bind(shard, term)
    }

    /// It is no longer bound there.
    pub fn unbind(&mut self, leader: NodeId, shard: ShardId) {
        if let Some(pair) = self.pairs.get_mut(&leader) {
            pair.here.unbind(shard);
        }
    }

    /// `peer` told with `binding` and `change` that its replica is bound to the leader here.
    ///
    /// # Panics
    /// If `peer` is no peer; the same holds for all methods below that name one.
    pub fn record(
        &mut self,
        peer: NodeId,
        shard: ShardId,
        binding: &Binding,
        change: ChangeNumber,
    ) {
        let key = self.key;
        let pair = self.pair(peer);
        if pair.hear(binding.incarnation, key) {
            pair.there.record(shard, binding.term, change);
        }
    }

    /// The leader here steps down, or that replica is no longer bound.
    pub fn forget(&mut self, peer: NodeId, shard: ShardId) {
        if let Some(pair) = self.pairs.get_mut(&peer) {
            pair.there.forget(shard);
        }
    }

    /// The leaders' side `from` found a difference: yields the shards bound here that it does not
    /// know of, to be woken, and the list that goes back.
    pub fn handle_list_of_leader(
        &mut self,
        from: NodeId,
        list: &AuditList,
    ) -> (Vec<ShardId>, AuditList) {
        let here = &self.pair(from).here;
        (here.handle_list(list), here.list(list.bucket))
    }

    /// The bound side `from` sent its list back: yields the shards led here that are not bound
    /// there, to be woken and bound again.
    pub fn handle_list_of_bound(&mut self, from: NodeId, list: &AuditList) -> Vec<ShardId> {
        self.pair(from).there.handle_list(list)
    }

    /// How the support that this node gives stands; workers start with a copy.
    #[must_use]
    pub fn standings(&self) -> &Standings {
        self.supporter.standings()
    }

    /// Until when `node` is supported, on this node's clock; for people to look at.
    #[must_use]
    pub fn supported_until(&self, node: NodeId) -> Option<Monotonic> {
        self.supporter.supported_until(node)
    }

    /// The support that `node` gives this one.
    #[must_use]
    pub fn held(&self, node: NodeId) -> Option<SupportHeld> {
        self.requester.held(node)
    }

    /// Whether `node` is late enough to be suspected: a reason to prepare, never to act.
    #[must_use]
    pub fn is_suspected(&self, now: Monotonic, node: NodeId) -> bool {
        self.suspicion.is_suspected(now, node)
    }

    fn pair(&mut self, node: NodeId) -> &mut Pair {
        self.pairs.get_mut(&node).expect("bindings are with peers only")
    }
}
