//! The requester of support: which peers support this node, in which epoch, and until when on its
//! own clock.
//!
//! Support holds until the send time of the newest answered heartbeat, plus d, less the drift
//! margin. The supporter counts from the receipt, which is later, so it ends later on any two clocks
//! that drift apart by less than the margin in d. An answer counts only while it names this
//! incarnation, the newest known one of the supporter, and the epoch that is asked for now.

use std::collections::{BTreeMap, VecDeque};

use quorate_types::{Duration, Incarnation, Monotonic, Mutant, Mutation, NodeId, limits};

use super::messages::{Heartbeat, HeartbeatAnswer, Verdict};
use super::standings::{HeartbeatSequence, SupportEpoch};
use crate::audit::AuditSample;

/// Support of one peer as its requester may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportHeld {
    /// The supporter's incarnation.
    pub incarnation: Incarnation,
    /// The epoch supported.
    pub epoch: SupportEpoch,
    /// Counts before this time on the own clock.
    pub until: Monotonic,
}

/// Why a node must not lead and asks for no support: a fact that its driver brings in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A write or sync failed and the engine has latched (RULE 8).
    Latched,
    /// The oldest outstanding sync is older than [`limits::DISK_STALL`].
    DiskStalled,
    /// A worker or log writer with work waiting has finished nothing for [`limits::STALL`].
    WorkerStalled,
}

/// What happened on the asking side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequesterEvent {
    /// A peer supports this node again, or for the first time: shards not bound there may bind.
    Gained {
        /// The peer.
        node: NodeId,
    },
    /// A peer's support ran out or was refused.
    Lost {
        /// The peer.
        node: NodeId,
    },
    /// A peer answers in a new incarnation: replicas that were bound there no longer are.
    Restarted {
        /// The peer.
        node: NodeId,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// This node has become unfit to lead: it gives up every leadership.
    BecameUnfit(Unfit),
}

struct Peer {
    epoch: SupportEpoch,
    /// Newest incarnation that answered.
    incarnation: Incarnation,
    /// Heartbeats not older than one support, oldest first: an answer to an older one says nothing.
    sent: VecDeque<(HeartbeatSequence, Monotonic)>,
    held: Option<SupportHeld>,
}

/// The support that this node asks for.
pub struct Requester {
    incarnation: Incarnation,
    support: Duration,
    sequence: HeartbeatSequence,
    next_at: Monotonic,
    unfit: Option<Unfit>,
    peers: BTreeMap<NodeId, Peer>,
    events: Vec<RequesterEvent>,
    mutation: Mutation,
}

impl Requester {
    /// A node in a new `incarnation`, which is durable, that asks for `support` each time, from `now`
    /// on.
    ///
    /// # Panics
    /// If `support` is not above the drift margin, is above [`limits::SUPPORT_MAX`], or is no whole
    /// number of milliseconds.
    #[must_use]
    pub fn new(now: Monotonic, incarnation: Incarnation, support: Duration) -> Requester {
        assert!(support > limits::DRIFT_MARGIN && support <= limits::SUPPORT_MAX);
        assert!(support.subsec_nanos().is_multiple_of(1_000_000), "support is asked for in ms");
        Requester {
            incarnation,
            support,
            sequence: HeartbeatSequence(0),
            next_at: now,
            unfit: None,
            peers: BTreeMap::new(),
            events: Vec::new(),
            mutation: Mutation::NONE,
        }
    }

    /// The same with a deliberate bug, for the simulator.
    #[must_use]
    pub fn with_mutation(self, mutation: Mutation) -> Requester {
        Requester { mutation, ..self }
    }

    /// Also asks `node`, from the next heartbeat on.
    pub fn add_peer(&mut self, node: NodeId) {
        self.peers.entry(node).or_insert(Peer {
            epoch: SupportEpoch::FIRST,
            incarnation: Incarnation(0),
            sent: VecDeque::new(),
            held: None,
        });
    }

    /// Stops asking `node`.
    pub fn remove_peer(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// The node became unfit to lead, or fit again. While unfit it asks for nothing and holds
    /// nothing, not even support that it was given before.
    pub fn handle_fitness(&mut self, unfit: Option<Unfit>) {
        if let (None, Some(reason)) = (self.unfit, unfit) {
            self.events.push(RequesterEvent::BecameUnfit(reason));
            for (node, peer) in &mut self.peers {
                peer.sent.clear();
                if peer.held.take().is_some() {
                    self.events.push(RequesterEvent::Lost { node: *node });
                }
            }
        }
        self.unfit = unfit;
    }

    /// The heartbeats that are due, one per peer; none before the interval is over. `now` is read
    /// before they are sent. `sample` gives the audit bucket that rides on the one to a peer.
    pub fn take_heartbeats(
        &mut self,
        now: Monotonic,
        mut sample: impl FnMut(NodeId) -> AuditSample,
    ) -> Vec<(NodeId, Heartbeat)> {
        if now < self.next_at {
            return Vec::new();
        }
        self.next_at = now + limits::HEARTBEAT;
        if self.unfit.is_some() {
            return Vec::new();
        }
        self.sequence = HeartbeatSequence(self.sequence.0 + 1);
        let (sequence, support) = (self.sequence, self.support);
        let heartbeats = self.peers.iter_mut().map(|(node, peer)| {
            while peer.sent.front().is_some_and(|(_, at)| now.since(*at) > support) {
                peer.sent.pop_front();
            }
            peer.sent.push_back((sequence, now));
            let support_ms = u32::try_from(support.as_millis()).expect("checked at the start");
            let (incarnation, epoch, audit) = (self.incarnation, peer.epoch, sample(*node));
            (*node, Heartbeat { incarnation, epoch, sequence, support_ms, audit })
        });
        heartbeats.collect()
    }

    /// An answer arrived. An old one, a duplicate, or one to another incarnation changes nothing.
    pub fn handle_answer(&mut self, now: Monotonic, from: NodeId, answer: &HeartbeatAnswer) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if answer.requester_incarnation != self.incarnation || answer.incarnation < peer.incarnation
        {
            return;
        }
        if answer.incarnation > peer.incarnation {
            let is_restart = peer.incarnation != Incarnation(0);
            peer.incarnation = answer.incarnation;
            if peer.held.take().is_some() {
                self.events.push(RequesterEvent::Lost { node: from });
            }
            if is_restart {
                let incarnation = answer.incarnation;
                self.events.push(RequesterEvent::Restarted { node: from, incarnation });
            }
        }
        match answer.verdict {
            Verdict::Refused { lowest } if lowest > peer.epoch => {
                peer.epoch = lowest;
                if peer.held.take().is_some() {
                    self.events.push(RequesterEvent::Lost { node: from });
                }
            }
            Verdict::Refused { .. } => {}
            Verdict::Supported => {
                let sent = peer.sent.iter().find(|(sequence, _)| *sequence == answer.sequence);
                let Some((_, sent_at)) = sent.filter(|_| answer.epoch == peer.epoch) else {
                    return;
                };
                let mutated = self.mutation.is(Mutant::NoDriftMargin);
                let margin = if mutated { Duration::ZERO } else { limits::DRIFT_MARGIN };
                let until = *sent_at + (self.support - margin);
                if until <= now || peer.held.is_some_and(|held| held.until >= until) {
                    return;
                }
                if peer.held.is_none_or(|held| held.until <= now) {
                    self.events.push(RequesterEvent::Gained { node: from });
                }
                let (incarnation, epoch) = (answer.incarnation, answer.epoch);
                peer.held = Some(SupportHeld { incarnation, epoch, until });
            }
        }
    }

    /// Time passed: notes what support ran out. It need not be called in time, since every user of
    /// support compares its end with the clock.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        for (node, peer) in &mut self.peers {
            if peer.held.is_some_and(|held| held.until <= now) {
                peer.held = None;
                self.events.push(RequesterEvent::Lost { node: *node });
            }
        }
    }

    /// When the next heartbeats are due, or a support runs out.
    #[must_use]
    pub fn poll_timeout(&self) -> Monotonic {
        let ends = self.peers.values().filter_map(|peer| peer.held).map(|held| held.until);
        ends.fold(self.next_at, Monotonic::min)
    }

    /// The support that `node` gives; its end may have passed.
    #[must_use]
    pub fn held(&self, node: NodeId) -> Option<SupportHeld> {
        self.peers.get(&node)?.held
    }

    /// Why this node asks for nothing, if so.
    #[must_use]
    pub fn unfit(&self) -> Option<Unfit> {
        self.unfit
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<RequesterEvent> {
        std::mem::take(&mut self.events)
    }
}
