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
    /// A replica is paused for an install.
    InstallPaused,
    /// A range that was handed out during an install lies below its base, and is dropped.
    ParkedRangeDropped,
    /// A leader gives up entries that a follower lacks which was heard within the last second.
    PurgeBeyondLiveFollower,
    /// A snapshot waits because its node sends enough of them.
    SnapshotQueued,
    /// An interrupted transfer of a snapshot goes on behind what had arrived.
    SnapshotResumed,
    /// A receiver gives up a snapshot of which nothing arrives any more.
    SnapshotGivenUp,
    /// A later leader's snapshot replaces one that was not complete.
    SnapshotReplaced,
    /// A start finds the write-ahead log damaged.
    WalDamageFound,
    /// A crash loses the end of a replica that was given up.
    EndLost,
    /// A replica whose end was lost is given up again: its damage is found again, or the proof came again.
    EndedAgain,
    /// A crash loses a replica that was about to be made.
    BirthLost,
    /// A part of a turn is skipped, as its replica has ended.
    PartSkipped,
    /// Work that was under way for a replica is reported after it was given up.
    LateReport,
}

impl Mark {
    /// The number of marks.
    pub const COUNT: usize = Mark::ALL.len();

    /// Every mark, in the order of their numbers.
    pub const ALL: [Mark; 39] = [
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
        Mark::InstallPaused,
        Mark::ParkedRangeDropped,
        Mark::PurgeBeyondLiveFollower,
        Mark::SnapshotQueued,
        Mark::SnapshotResumed,
        Mark::SnapshotGivenUp,
        Mark::SnapshotReplaced,
        Mark::WalDamageFound,
        Mark::EndLost,
        Mark::EndedAgain,
        Mark::BirthLost,
        Mark::PartSkipped,
        Mark::LateReport,
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
            Mark::InstallPaused => "replica paused for an install",
            Mark::ParkedRangeDropped => "parked range dropped after an install",
            Mark::PurgeBeyondLiveFollower => "purge beyond a live follower",
            Mark::SnapshotQueued => "snapshot waits for others",
            Mark::SnapshotResumed => "interrupted snapshot resumed",
            Mark::SnapshotGivenUp => "snapshot given up by its receiver",
            Mark::SnapshotReplaced => "snapshot replaced by a later leader's",
            Mark::WalDamageFound => "damaged write-ahead log found",
            Mark::EndLost => "end of a replica lost in a crash",
            Mark::EndedAgain => "replica given up again after its end was lost",
            Mark::BirthLost => "birth of a replica lost in a crash",
            Mark::PartSkipped => "part of a turn skipped",
            Mark::LateReport => "late report about a replica that is gone",
        }
    }
}

/// How often each mark was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    counts: [u64; Mark::COUNT],
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { counts: [0; Mark::COUNT] }
    }
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
