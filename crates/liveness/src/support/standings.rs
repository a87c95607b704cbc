//! What both sides of support share: epochs, and the standing of each peer that replicas act upon.
//!
//! L asks F for support with every heartbeat, under an epoch. F supports (L, epoch) until a time on
//! its own clock ([`super::Supporter`]); L counts on it until an earlier time on its own
//! ([`super::Requester`]). Once F's time has passed, F may withdraw: it raises the lowest epoch
//! that it will ever support for L. Its replicas act on that number, a [`Standing`], and never on
//! the clock: between the lapse and the withdrawal a heartbeat may still prolong the support.

use std::collections::BTreeMap;

use quorate_types::{Incarnation, Monotonic, Mutant, Mutation, NodeId};

/// Numbers the supports that one node gives another. A withdrawal ends an epoch forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SupportEpoch(pub u64);

impl SupportEpoch {
    /// The epoch that a node asks for first after its start.
    pub const FIRST: SupportEpoch = SupportEpoch(1);
    /// The highest epoch that is taken from the wire, so that there is always a next one. One
    /// withdrawal a second reaches it in 292 thousand million years.
    pub const MAX: SupportEpoch = SupportEpoch(u64::MAX >> 1);

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> SupportEpoch {
        SupportEpoch(self.0 + 1)
    }
}

/// Numbers the heartbeats of one incarnation of a node, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeartbeatSequence(pub u64);

/// How the support that a node gives one peer stands: all that its replicas may act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest incarnation of the peer that was heard.
    pub incarnation: Incarnation,
    /// The lowest epoch that will ever be supported. Giving an epoch raises it to that epoch, a
    /// withdrawal to the one after; it never falls.
    pub lowest: SupportEpoch,
    /// Support of `lowest` is given and was not withdrawn.
    pub is_given: bool,
}

/// Why a [`Standing`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingCause {
    /// Support was given where none stood.
    Given,
    /// The support had lapsed and was withdrawn.
    Withdrawn,
    /// The peer speaks in a new incarnation, which voids every binding with the old one.
    Restarted,
    /// The peer asks under a higher epoch than it was given: it has given the old one up itself.
    EpochRaised,
}

impl StandingCause {
    /// True if bindings to the peer are void and its shards must be woken.
    #[must_use]
    pub fn voids_bindings(self) -> bool {
        self != StandingCause::Given
    }
}

/// A new standing, for every holder of a copy of [`Standings`]. Unless the cause is
/// [`StandingCause::Given`], shards bound to the peer are no longer bound and must be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandingChange {
    /// The peer.
    pub node: NodeId,
    /// In force from now on.
    pub standing: Standing,
    /// Why.
    pub cause: StandingCause,
}

/// The standings of all peers of this node. The supporter holds the original; a worker may hold a
/// copy that lags, because every change goes one way: such a copy keeps a replica bound for longer
/// than needed, never for less.
#[derive(Clone, Debug)]
pub struct Standings {
    incarnation: Incarnation,
    silent_until: Monotonic,
    peers: BTreeMap<NodeId, Standing>,
    mutation: Mutation,
}

impl Standings {
    /// The standings of a node that has just started in `incarnation` and stays silent until
    /// `silent_until`.
    #[must_use]
    pub fn new(incarnation: Incarnation, silent_until: Monotonic) -> Standings {
        let (peers, mutation) = (BTreeMap::new(), Mutation::NONE);
        Standings { incarnation, silent_until, peers, mutation }
    }

    /// The same with a deliberate bug, for the simulator.
    #[must_use]
    pub fn with_mutation(self, mutation: Mutation) -> Standings {
        let is_loud = mutation.is(Mutant::NoSilence);
        let silent_until = if is_loud { Monotonic(0) } else { self.silent_until };
        Standings { silent_until, mutation, ..self }
    }

    pub(crate) fn mutation(&self) -> Mutation {
        self.mutation
    }

    /// This node's incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// True in the silence after a start: no replica of this node may grant a vote or pre-vote or
    /// campaign. Bindings are volatile, so the node does not know whom it is bound to; the silence
    /// outlasts every support that it gave before.
    #[must_use]
    pub fn is_silent(&self, now: Monotonic) -> bool {
        now < self.silent_until
    }

    /// When that silence ends.
    #[must_use]
    pub fn silent_until(&self) -> Monotonic {
        self.silent_until
    }

    /// How the support for `node` stands; nothing if it was never heard since the start.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Standing> {
        self.peers.get(&node).copied()
    }

    /// Takes a change in, in the order in which they were made.
    ///
    /// # Panics
    /// If the change leads back: that would void a binding twice or revive one.
    pub fn handle_change(&mut self, change: &StandingChange) {
        if let Some(old) = self.peers.insert(change.node, change.standing) {
            let new = change.standing;
            assert!(
                new.incarnation >= old.incarnation && new.lowest >= old.lowest,
                "support for node {} went back from {old:?} to {new:?}",
                change.node
            );
        }
    }

    /// True if a replica may bind itself to a leader of this incarnation of `node` in this epoch:
    /// exactly that support is given.
    #[must_use]
    pub fn is_given(&self, node: NodeId, incarnation: Incarnation, epoch: SupportEpoch) -> bool {
        let standing = Standing { incarnation, lowest: epoch, is_given: true };
        self.get(node) == Some(standing)
    }
}
