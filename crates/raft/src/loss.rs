//! The proof that this replica's log has lost what it had acknowledged (RULE 5), for example
//! because its node restarted from an older copy of its directory while a leader stayed.
//!
//! A leader never tells a follower a commit index beyond what that replica id has acknowledged to
//! it in its term (`Kernel::send_heartbeats`, `Kernel::replicate`). So a heartbeat of the own term
//! says: *an acknowledgement of yours through this index has reached me.* A replica that kept what
//! it promised finds that index in its log, with the leader's entry. A replica that does not find
//! it has lost it.
//!
//! **No false alarm.** Let an honest replica hear in term T of `commit` = c > 0. It sent `Accepted`
//! for some m >= c in T, in this life or an earlier one, after the sync of everything so far (RULE 2):
//! T itself and its log through m, equal to the leader's, were durable before.
//! - *Reordering, doubling*: nothing is concluded from a message of the follower's own that comes
//!   late, as a rejection might. The heartbeat was caused by the acknowledgement, and what that one
//!   said stays true for all of T, however late the heartbeat arrives. In another term it is dropped.
//! - *Truncation*: within T only an append of T's leader cuts, and only where it conflicts. That
//!   leader's log only grows, and equals this one through m: no conflict lies below.
//! - *Purge* moves the log's base and never its end. *Install*: a snapshot of T's own leader whose
//!   base lies at m or below is one that this log holds, so that it keeps its entries; one of a later
//!   leader ends T here.
//! - *Restarts*: whatever left was durable, so a start finds T and the log through m. Nothing beyond
//!   that log can have been acknowledged before it.
//! - *A term that begins in this life* begins with no acknowledgement: what was acknowledged in it is
//!   what this life said. An earlier life that had said anything in T would have left T behind.
//! - *Another admission* of the node has another replica id, and messages name it (RULE 3).
//!
//! Two more things are assumed: a log whose syncs hold, and one leader per term, which a group may
//! not have if too many of its replicas lost what they had promised.
//!
//! What it can't see: a vote that was forgotten, what was acknowledged in an earlier term, and what is
//! not committed yet, which is found as soon as it is. A copy that holds the term already, and an old
//! tail at least as long as what was acknowledged, is found by the next append; no heartbeat makes it
//! take that tail for committed.

use quorate_types::{Index, LogId, Mutant, Term};

use crate::kernel::Kernel;
use crate::ready::{Loss, Ready, Role};
use crate::run::Run;

/// What this replica may have acknowledged in its term, and what its leader says of that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acknowledgements {
    /// No acknowledgement goes beyond this index, not even one of an earlier life.
    sent_max: Index,
    /// An acknowledgement through this index has reached the leader.
    heard: Index,
    /// The log is known to equal the leader's through here.
    equal: Index,
}

impl Acknowledgements {
    /// The state of a replica that starts. If its last entry is of its own term, only the leader of
    /// that term can have sent it, and the log is a head of that leader's (log matching).
    pub(crate) fn restored(term: Term, last: LogId) -> Acknowledgements {
        let equal = if last.term == term { last.index } else { Index(0) };
        Acknowledgements { sent_max: last.index, heard: Index(0), equal }
    }

    pub(crate) fn send(&mut self, matched: Index) {
        self.sent_max = self.sent_max.max(matched);
    }

    /// The leader has shown that the logs are equal through `matched`.
    pub(crate) fn match_through(&mut self, matched: Index) {
        self.equal = self.equal.max(matched);
    }
}

impl Kernel {
    /// The commit index of a heartbeat. It is followed as far as the log is known to equal the
    /// leader's: an index alone names no entry.
    pub(crate) fn hear_commit(&mut self, commit: Index) {
        let last = self.log.last().index;
        if self.breaks(Mutant::RollbackUnseen) {
            let is_held = commit <= last;
            self.commit = if is_held { self.commit.max(commit) } else { self.commit };
            return;
        }
        let acknowledgements = &mut self.acknowledgements;
        if commit > acknowledgements.sent_max.min(last) {
            self.end_service(commit);
            return;
        }
        acknowledgements.heard = acknowledgements.heard.max(commit);
        self.commit = self.commit.max(commit.min(acknowledgements.equal));
    }

    /// Ends the service if an append of the leader shows other entries where this replica is known
    /// to have acknowledged equal ones: its log has lost those to an older state with a tail of its
    /// own. True if it did.
    pub(crate) fn ends_by_conflict(&mut self, previous: LogId, runs: &[Run]) -> bool {
        let heard = self.acknowledgements.heard;
        let conflicts = self.contradicts(heard, previous, runs);
        if conflicts {
            self.end_service(heard);
        }
        conflicts
    }

    /// This replica has lost what it had acknowledged through `acknowledged`, so it may have
    /// forgotten anything: it sends nothing any more, not even what this life was about to send.
    fn end_service(&mut self, acknowledged: Index) {
        let (term, last) = (self.term, self.log.last());
        self.become_follower(term, None);
        self.is_bound = false;
        self.accepted = None;
        self.outbox.clear();
        self.ended = Some(Loss { term, acknowledged, last });
        self.is_end_told = false;
    }

    /// True if this replica was found to have lost what it had acknowledged: it takes no part in
    /// its group any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// All that a replica does once its service has ended: reads are answered with a refusal, and
    /// the host learns the reason once.
    pub(crate) fn take_last_words(&mut self) -> Ready {
        assert!(self.role == Role::Follower && self.leading.is_none(), "it leads nothing");
        let is_told = std::mem::replace(&mut self.is_end_told, true);
        Ready {
            reads: self.reads.take_ended(),
            role: self.take_role(),
            loss: self.ended.filter(|_| !is_told),
            ..Ready::default()
        }
    }
}
