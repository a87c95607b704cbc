//! Coverage marks: rare paths, each of which many seeds together must reach. They are found from
//! observations alone, so the code under test does not know them.

use std::fmt;

/// A rare path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A replica starts and finds a joint configuration in its log.
    JointFoundAtRestart,
    /// A node crashes while a replica of it is in joint consensus.
    CrashInJoint,
    /// A snapshot replaces a log that reached beyond it, or contradicted it.
    SnapshotOverDivergentLog,
    /// A leader sends a snapshot because its log was purged.
    SnapshotBehindPurge,
    /// A pre-vote is refused because a leader is alive.
    PreVoteRefusedAlive,
    /// A node withdraws its support.
    Withdrawal,
    /// Support is given again to a peer from which it was withdrawn.
    SupportGivenAgain,
    /// A leader releases a bound replica.
    ReleaseSent,
    /// A bound replica asks, and is told that its leader no longer leads.
    BindingEndedByAudit,
    /// TimeoutNow arrives when its term is over, or the receiver follows another leader.
    TimeoutNowLate,
    /// A leader whose transfer failed ends the term by campaigning itself.
    TransferEndedByOwnElection,
    /// A durable log is cut where it diverged from its leader's. The cut is always between two
    /// runs: they are replicated and committed whole.
    Truncation,
    /// A leader removes itself.
    LeaderRemovesItself,
    /// A learner becomes a voter.
    LearnerPromoted,
    /// A replica votes while it still believes that it is a learner.
    UnawareLearnerVotes,
    /// An append arrives whose entries are all there.
    DuplicateAppend,
    /// An append is rejected with a hint of another term.
    RejectedWithOtherTerm,
    /// A follower or learner answers a read.
    ReadIndexAtFollower,
    /// A leader answers a read by its lease.
    LeaseRead,
    /// A read that came before the leader's first commit is confirmed after it.
    ReadAfterOwnBlank,
    /// A damaged replica is replaced by another one (RULE 5).
    ReplacedAfterDamage,
    /// A replica id is refused because of its tombstone.
    TombstoneRefused,
    /// A sync fails.
    FailedSync,
    /// A leader steps down while its disk hangs.
    HungDiskStepDown,
    /// A shard quiesces.
    QuiescedShard,
    /// A quiesced shard is woken.
    WokenShard,
}

impl Mark {
    /// The number of marks.
    pub const COUNT: usize = Mark::ALL.len();

    /// Every mark, in the order of their numbers.
    pub const ALL: [Mark; 26] = [
        Mark::JointFoundAtRestart,
        Mark::CrashInJoint,
        Mark::SnapshotOverDivergentLog,
        Mark::SnapshotBehindPurge,
        Mark::PreVoteRefusedAlive,
        Mark::Withdrawal,
        Mark::SupportGivenAgain,
        Mark::ReleaseSent,
        Mark::BindingEndedByAudit,
        Mark::TimeoutNowLate,
        Mark::TransferEndedByOwnElection,
        Mark::Truncation,
        Mark::LeaderRemovesItself,
        Mark::LearnerPromoted,
        Mark::UnawareLearnerVotes,
        Mark::DuplicateAppend,
        Mark::RejectedWithOtherTerm,
        Mark::ReadIndexAtFollower,
        Mark::LeaseRead,
        Mark::ReadAfterOwnBlank,
        Mark::ReplacedAfterDamage,
        Mark::TombstoneRefused,
        Mark::FailedSync,
        Mark::HungDiskStepDown,
        Mark::QuiescedShard,
        Mark::WokenShard,
    ];

    /// A short description for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mark::JointFoundAtRestart => "joint configuration found at a restart",
            Mark::CrashInJoint => "crash in joint consensus",
            Mark::SnapshotOverDivergentLog => "snapshot over a divergent log",
            Mark::SnapshotBehindPurge => "snapshot behind a purge",
            Mark::PreVoteRefusedAlive => "pre-vote refused, a leader is alive",
            Mark::Withdrawal => "support withdrawn",
            Mark::SupportGivenAgain => "support given again",
            Mark::ReleaseSent => "release sent",
            Mark::BindingEndedByAudit => "binding ended by the audit",
            Mark::TimeoutNowLate => "TimeoutNow arrives late",
            Mark::TransferEndedByOwnElection => "failed transfer ended by the leader's election",
            Mark::Truncation => "durable log cut",
            Mark::LeaderRemovesItself => "leader removes itself",
            Mark::LearnerPromoted => "learner promoted",
            Mark::UnawareLearnerVotes => "learner votes that does not know of its promotion",
            Mark::DuplicateAppend => "duplicate append",
            Mark::RejectedWithOtherTerm => "append rejected with a hint of another term",
            Mark::ReadIndexAtFollower => "read at a follower",
            Mark::LeaseRead => "read by a lease",
            Mark::ReadAfterOwnBlank => "read waits for the leader's own blank",
            Mark::ReplacedAfterDamage => "damaged replica replaced",
            Mark::TombstoneRefused => "tombstone refuses a replica id",
            Mark::FailedSync => "failed sync",
            Mark::HungDiskStepDown => "leader steps down on a hung disk",
            Mark::QuiescedShard => "shard quiesced",
            Mark::WokenShard => "quiesced shard woken",
        }
    }
}

/// How often each mark was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    counts: [u64; Mark::COUNT],
}

impl Marks {
    /// Counts the mark once more.
    pub fn reach(&mut self, mark: Mark) {
        self.counts[mark as usize] += 1;
    }

    /// How often the mark was reached.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.counts[mark as usize]
    }

    /// Adds what other seeds have reached.
    pub fn merge(&mut self, other: &Marks) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// The marks that were never reached.
    pub fn unreached(&self) -> impl Iterator<Item = Mark> + '_ {
        Mark::ALL.into_iter().filter(|mark| self.count(*mark) == 0)
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in Mark::ALL {
            match self.count(mark) {
                0 => writeln!(f, "  {:<52}{:>12}", mark.name(), "never")?,
                count => writeln!(f, "  {:<52}{count:>12}", mark.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_listed_by_their_numbers_and_add_up() {
        for (number, mark) in Mark::ALL.into_iter().enumerate() {
            assert_eq!(mark as usize, number);
        }
        let mut marks = Marks::default();
        marks.reach(Mark::LeaseRead);
        let mut sum = marks;
        sum.merge(&marks);
        assert_eq!(sum.count(Mark::LeaseRead), 2);
        assert_eq!(sum.unreached().count(), Mark::COUNT - 1);
        assert!(sum.to_string().contains("failed sync"));
    }
}
