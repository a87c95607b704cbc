//! The supporter: which peers this node supports, in which epoch, and until when on its own clock.
//!
//! A heartbeat in an epoch that was not withdrawn supports its sender until receipt + d. Only once
//! that time has passed may this node withdraw, which is one step: it raises the lowest epoch that
//! it will support for that peer beyond the lapsed one, and from then on refuses the lapsed epoch,
//! naming the lowest that it would support. A withdrawal is volatile: a restart of this node ends
//! every binding by its incarnation, and the silence after it outlasts every support given before.
//! For that, the longest d ever given is durable before it is given.

use std::collections::BTreeMap;

use quorate_types::{Duration, Incarnation, Monotonic, Mutant, Mutation, NodeId, limits};

use super::messages::{Heartbeat, HeartbeatAnswer, Verdict};
use super::standings::{
    HeartbeatSequence, Standing, StandingCause, StandingChange, Standings, SupportEpoch,
};

/// The facts of a support that only the supporter knows.
#[derive(Clone, Debug)]
struct GivenSupport {
    /// End of the support on the own clock; `None` if none is given.
    until: Option<Monotonic>,
    /// The newest heartbeat heard from the requester's incarnation.
    sequence: HeartbeatSequence,
}

/// The support that this node gives. Owned by one thread, or behind one lock: answering and
/// withdrawing must not interleave.
#[derive(Clone, Debug)]
pub struct Supporter {
    standings: Standings,
    given: BTreeMap<NodeId, GivenSupport>,
    longest_durable: Duration,
    longest_wanted: Duration,
    longest_submitted: Duration,
    changes: Vec<StandingChange>,
}

impl Supporter {
    /// A node that has just started. `longest_durable` is the longest support it ever gave, as its
    /// disk has it; `support` the length that its peers are expected to ask for, which it makes
    /// durable ahead of them.
    ///
    /// # Panics
    /// If `support` is above [`limits::SUPPORT_MAX`].
    #[must_use]
    pub fn new(
        now: Monotonic,
        incarnation: Incarnation,
        longest_durable: Duration,
        support: Duration,
    ) -> Supporter {
        assert!(support <= limits::SUPPORT_MAX, "support of {support:?} is too long");
        Supporter {
            standings: Standings::new(incarnation, now + longest_durable),
            given: BTreeMap::new(),
            longest_durable,
            longest_wanted: longest_durable.max(support),
            longest_submitted: longest_durable,
            changes: Vec::new(),
        }
    }

    /// The same with a deliberate bug, for the simulator.
    #[must_use]
    pub fn with_mutation(self, mutation: Mutation) -> Supporter {
        Supporter { standings: self.standings.with_mutation(mutation), ..self }
    }

    /// A heartbeat arrived. It gets no answer if it is old, or asks for longer than this node has
    /// made durable: the next one comes soon.
    ///
    /// # Panics
    /// If [`super::Datagram::decode`] would refuse the heartbeat.
    pub fn handle_heartbeat(
        &mut self,
        now: Monotonic,
        from: NodeId,
        heartbeat: &Heartbeat,
    ) -> Option<HeartbeatAnswer> {
        assert!(heartbeat.is_in_bounds(), "{heartbeat:?} of node {from} was not checked");
        let known = self.standings.get(from);
        let is_restart = known.is_some_and(|known| heartbeat.incarnation > known.incarnation);
        let given = self
            .given
            .entry(from)
            .or_insert(GivenSupport { until: None, sequence: HeartbeatSequence(0) });
        let is_old = known.is_some_and(|known| heartbeat.incarnation < known.incarnation)
            || (!is_restart && heartbeat.sequence <= given.sequence);
        if is_old {
            return None;
        }
        let unheard = Standing {
            incarnation: heartbeat.incarnation,
            lowest: SupportEpoch::FIRST,
            is_given: false,
        };
        let mut standing = known.unwrap_or(unheard);
        let mut cause = StandingCause::Given;
        given.sequence = heartbeat.sequence;
        if is_restart {
            standing.incarnation = heartbeat.incarnation;
            cause = StandingCause::Restarted;
        }
        if heartbeat.epoch > standing.lowest {
            // The requester left its old epoch (or this node restarted and forgot): nothing can count
            // on an epoch that its own requester has left.
            standing.lowest = heartbeat.epoch;
            if standing.is_given && !is_restart {
                cause = StandingCause::EpochRaised;
            }
        }
        if cause != StandingCause::Given {
            standing.is_given = false;
            given.until = None;
        }
        let is_durable = heartbeat.support() <= self.longest_durable;
        let is_refused = heartbeat.epoch < standing.lowest;
        if is_durable && !is_refused {
            // A request for a shorter support shortens nothing.
            given.until = given.until.max(Some(now + heartbeat.support()));
            standing.is_given = true;
        }
        if known != Some(standing) {
            self.change(StandingChange { node: from, standing, cause });
        }
        if !is_durable {
            self.longest_wanted = self.longest_wanted.max(heartbeat.support());
        }
        if !is_durable && !is_refused {
            return None;
        }
        let verdict = match is_refused {
            true => Verdict::Refused { lowest: standing.lowest },
            false => Verdict::Supported,
        };
        Some(HeartbeatAnswer {
            incarnation: self.standings.incarnation(),
            requester_incarnation: heartbeat.incarnation,
            sequence: heartbeat.sequence,
            epoch: heartbeat.epoch,
            verdict,
        })
    }

    /// Time passed: withdraws every support that has lapsed on this node's clock.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        let has_lapsed = |given: &GivenSupport| given.until.is_some_and(|until| until < now);
        let lapsed: Vec<NodeId> =
            self.given.iter().filter(|(_, given)| has_lapsed(given)).map(|(id, _)| *id).collect();
        for node in lapsed {
            self.given.get_mut(&node).expect("listed just now").until = None;
            let old = self.standings.get(node).expect("support was given");
            let keeps_epoch = self.standings.mutation().is(Mutant::EpochKept);
            let lowest = if keeps_epoch { old.lowest } else { old.lowest.next() };
            let standing = Standing { lowest, is_given: false, ..old };
            let change = StandingChange { node, standing, cause: StandingCause::Withdrawn };
            if self.standings.mutation().is(Mutant::ActOnLapse) {
                self.changes.push(change);
                continue;
            }
            self.change(change);
        }
    }

    /// When [`Supporter::handle_timeout`] wants to be called next: just after the first lapse.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let first = self.given.values().filter_map(|given| given.until).min();
        first.map(|until| until + Duration::from_nanos(1))
    }

    /// The longest support, to be made durable; then [`Supporter::handle_longest_persisted`].
    /// Yields each value once.
    pub fn take_persist_longest(&mut self) -> Option<Duration> {
        let is_new = self.longest_wanted > self.longest_submitted;
        self.longest_submitted = self.longest_wanted;
        is_new.then_some(self.longest_wanted)
    }

    /// `longest` is durable: heartbeats that ask for as much are answered from now on.
    pub fn handle_longest_persisted(&mut self, longest: Duration) {
        self.longest_durable = self.longest_durable.max(longest);
    }

    /// The changes since the last call, in order; for the workers' copies and for waking shards.
    pub fn take_changes(&mut self) -> Vec<StandingChange> {
        std::mem::take(&mut self.changes)
    }

    /// The standings of all supports.
    #[must_use]
    pub fn standings(&self) -> &Standings {
        &self.standings
    }

    /// Until when `node` is supported, on this node's clock; for people to look at.
    #[must_use]
    pub fn supported_until(&self, node: NodeId) -> Option<Monotonic> {
        self.given.get(&node)?.until
    }

    fn change(&mut self, change: StandingChange) {
        self.standings.handle_change(&change);
        self.changes.push(change);
    }
}
