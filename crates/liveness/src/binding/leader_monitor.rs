//! Decides when a leader steps down by itself, because nothing commits in the shard that it leads.

use quorate_raft::{Member, Membership};
use quorate_types::{Index, Monotonic, NodeId, limits};

use super::quorum::latest_of_quorum;
use crate::support::SupportHeld;

/// Why a leader steps down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// No quorum of nodes supports this one, for an election timeout.
    NoSupport,
    /// Entries wait, and no quorum has acknowledged any for two election timeouts, although one
    /// supports this node: its streams hang while its datagrams pass.
    NoProgress,
}

/// The facts that a leader knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderFacts {
    /// The result of [`LeaderMonitor::supported_until`].
    pub supported_until: Monotonic,
    /// The highest index that a quorum holds durably. Not the commit index, which stands still
    /// while a new leader brings its followers up to its own term.
    pub acknowledged: Index,
    /// The last entry of the log.
    pub last: Index,
}

/// Watches one term of one leader.
#[derive(Clone, Debug)]
pub struct LeaderMonitor {
    supported_at: Monotonic,
    progress_at: Monotonic,
    acknowledged: Index,
}

impl LeaderMonitor {
    /// A monitor of a leader elected at `now`.
    #[must_use]
    pub fn new(now: Monotonic) -> LeaderMonitor {
        LeaderMonitor { supported_at: now, progress_at: now, acknowledged: Index(0) }
    }

    /// Until when some quorum supports the leader's node, bound or not.
    #[must_use]
    pub fn supported_until(
        own: Member,
        membership: &Membership,
        held: impl Fn(NodeId) -> Option<SupportHeld>,
    ) -> Monotonic {
        latest_of_quorum(membership, |member| match held(member.node) {
            _ if member == own => Monotonic(u64::MAX),
            Some(held) => held.until,
            None => Monotonic(0),
        })
    }

    /// To be called at least once per heartbeat interval: tells when it is time to step down.
    pub fn handle_facts(&mut self, now: Monotonic, facts: LeaderFacts) -> Option<StepDown> {
        self.supported_at = self.supported_at.max(facts.supported_until.min(now));
        // It may also fall: other members hold less.
        if facts.acknowledged != self.acknowledged || facts.acknowledged == facts.last {
            (self.acknowledged, self.progress_at) = (facts.acknowledged, now);
        }
        if now.since(self.supported_at) >= limits::ELECTION_TIMEOUT {
            Some(StepDown::NoSupport)
        } else if now.since(self.progress_at) >= limits::ELECTION_TIMEOUT * 2 {
            Some(StepDown::NoProgress)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_alone_or_without_progress_gives_up() {
        let ms = Monotonic::from_millis;
        let facts = |supported, acknowledged, last| LeaderFacts {
            supported_until: ms(supported),
            acknowledged: Index(acknowledged),
            last: Index(last),
        };
        let mut watch = LeaderMonitor::new(ms(0));
        let table = [
            (900, facts(0, 0, 1), None),
            (999, facts(2_000, 0, 1), None),
            (1_999, facts(5_000, 0, 1), None),
            (2_000, facts(5_000, 0, 1), Some(StepDown::NoProgress)),
            (2_000, facts(5_000, 1, 2), None),
            (3_999, facts(5_000, 1, 1), None),
            (5_500, facts(5_000, 1, 2), None),
            (5_998, facts(0, 2, 3), None),
            (6_499, facts(0, 3, 3), Some(StepDown::NoSupport)),
        ];
        for (now, facts, wanted) in table {
            assert_eq!(watch.handle_facts(ms(now), facts), wanted, "at {now} ms");
        }
    }
}
