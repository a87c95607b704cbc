//! The follower's side of replication.

use quorate_types::{Index, LogId, Mutant, ReplicaId, Term};

use crate::kernel::Kernel;
use crate::membership::Membership;
use crate::message::Body;
use crate::outbox::SendAfter;
use crate::run::{EntryKind, Run};

/// True if an append can have come from a leader of `term`: contiguous runs, no term that falls or
/// lies ahead, memberships that can be read. What arrived is not trusted to be a log.
pub(crate) fn is_well_formed(term: Term, previous: LogId, runs: &[Run]) -> bool {
    let mut end = previous;
    previous.term <= term
        && runs.iter().all(|run| {
            let follows = end.index.0.checked_add(1) == Some(run.first().0);
            let ascends = end.term <= run.term() && run.term() <= term;
            end = run.last_id();
            follows && ascends && (!run.has_membership() || has_sound_memberships(run))
        })
}

fn has_sound_memberships(run: &Run) -> bool {
    run.entries()
        .filter(|entry| entry.kind == EntryKind::Membership)
        .all(|entry| Membership::decode(entry.payload).is_ok_and(|m| m.fault().is_none()))
}

impl Kernel {
    /// An append of the leader of the own term (Raft paper, figure 2).
    pub(crate) fn handle_append(
        &mut self,
        from: ReplicaId,
        previous: LogId,
        runs: Vec<Run>,
        commit: Index,
    ) {
        // No leader contradicts what is committed (leader completeness): the sender has lost its
        // log or forges. Dropping its message is as safe as stopping, and does not touch the node's
        // other shards.
        if self.contradicts(self.commit, previous, &runs) || self.ends_by_conflict(previous, &runs)
        {
            return;
        }
        // Every entry committed here is in the log of every later leader (leader completeness), so
        // a `previous` in that part matches without a check, even below the base where its term is
        // unknown.
        if previous.index > self.commit && !self.log.holds(previous) {
            let hint = self.log.closest(previous);
            self.send(SendAfter::HardState, from, Body::Rejected { previous, hint });
            return;
        }
        let verified = runs.last().map_or(previous.index, Run::last);
        for run in runs {
            self.append_missing(run);
        }
        // A verified index below the commit index is old news; the log matches through the latter.
        let matched = verified.max(self.commit);
        self.acknowledgements.match_through(matched);
        let accepted = self.accepted.map_or(matched, |(_, earlier)| earlier.max(matched));
        self.accepted = Some((from, accepted));
        let mutated = self.breaks(Mutant::CommitUnverified);
        let verified = if mutated { self.log.last().index } else { verified };
        self.commit = self.commit.max(commit.min(verified));
    }

    /// True if an append has other entries than this log, from the base on and up to `through`.
    pub(crate) fn contradicts(&self, through: Index, previous: LogId, runs: &[Run]) -> bool {
        let known = |index: Index| self.log.base().index <= index && index <= through;
        let contradicts = |id: LogId| known(id.index) && !self.log.holds(id);
        contradicts(previous)
            || runs.iter().any(|run| {
                // A run has one term and the own terms ascend: its ends speak for its middle.
                let first = run.first().max(self.log.base().index);
                let last = run.last().min(through);
                first <= last
                    && (contradicts(LogId::new(run.term(), first))
                        || contradicts(LogId::new(run.term(), last)))
            })
    }

    pub(crate) fn handle_heartbeat(&mut self, from: ReplicaId, commit: Index, round: u64) {
        self.hear_commit(commit);
        if !self.has_ended() {
            self.send(SendAfter::HardState, from, Body::HeartbeatReply { round });
        }
    }

    /// Appends the part of `run` that the log lacks. Only a conflict cuts the log: a late
    /// retransmission must not take away what came after it.
    fn append_missing(&mut self, run: Run) {
        let known = self.commit.min(run.last());
        if known >= run.first() && known > self.log.base().index {
            let id = LogId::new(run.term(), known);
            assert!(self.log.holds(id), "the leader replaces {known:?}, which is committed");
        }
        let missing = match self.breaks(Mutant::LateAppendTruncates) {
            false => self.log.first_missing(&run, self.commit.next()),
            true => self.commit.next().max(run.first()),
        };
        if missing >= run.range().end {
            return;
        }
        if missing <= self.log.last().index {
            self.log.truncate(missing);
        }
        self.log.append(run.cut(missing, run.range().end));
    }

    /// Acknowledges everything verified since the last `Ready` in one message. It waits for the
    /// sync of every write so far: the entries may be in any of them (RULE 2).
    pub(crate) fn acknowledge(&mut self) {
        if let Some((leader, matched)) = self.accepted.take() {
            let mutated = self.breaks(Mutant::AcceptedAtOnce) && !self.log.is_dirty();
            let after = if mutated { SendAfter::Nothing } else { SendAfter::AllWrites };
            self.acknowledgements.send(matched);
            self.send(after, leader, Body::Accepted { matched });
        }
    }
}
