//! The leader's side of replication, and what else only a leader does.

use std::collections::VecDeque;

use quorate_types::{Duration, Index, LogId, Monotonic, Mutant, ReplicaId};

use crate::errors::ProposeError;
use crate::kernel::Kernel;
use crate::membership::Member;
use crate::message::{Body, Message};
use crate::outbox::SendAfter;
use crate::progress::{Pace, Progress};
use crate::quorum;
use crate::ready::{Fetch, Reader};
use crate::run::{Run, RunDraft};
use crate::support::{Attendance, Rest};
use crate::transfer::Transfer;
use crate::windows::Windows;

/// The state of a replica while it leads.
pub(crate) struct Leading {
    /// Every member but this replica, voters and learners alike, and for a while those that were
    /// removed: a quorum is counted by the membership, never by this list.
    pub(crate) followers: Vec<Progress>,
    /// The blank entry that opened the term.
    pub(crate) term_start: Index,
    pub(crate) heartbeat_at: Monotonic,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) rest: Rest,
    /// Own proposals that are not committed: last index, bytes.
    uncommitted: VecDeque<(Index, usize)>,
    uncommitted_bytes: usize,
}

impl Leading {
    pub(crate) fn new(
        others: impl Iterator<Item = Member>,
        base: Index,
        term_start: Index,
        now: Monotonic,
        heartbeat: Duration,
    ) -> Leading {
        let progress = |member| Progress::new(member, base, term_start, now);
        Leading {
            followers: others.map(progress).collect(),
            term_start,
            // The append of the blank entry is the first sign of life.
            heartbeat_at: now + heartbeat,
            transfer: None,
            rest: Rest::Awake,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
        }
    }

    pub(crate) fn follower(&self, replica: ReplicaId) -> Option<&Progress> {
        self.followers.iter().find(|follower| follower.member.replica == replica)
    }

    pub(crate) fn follower_mut(&mut self, replica: ReplicaId) -> Option<&mut Progress> {
        self.followers.iter_mut().find(|follower| follower.member.replica == replica)
    }

    fn forget_committed(&mut self, commit: Index) {
        while let Some((last, bytes)) = self.uncommitted.front()
            && *last <= commit
        {
            self.uncommitted_bytes -= bytes;
            self.uncommitted.pop_front();
        }
    }
}

impl Kernel {
    /// Takes a proposal, or gives it back.
    pub(crate) fn accept_proposal(
        &mut self,
        draft: RunDraft,
    ) -> Result<LogId, (ProposeError, RunDraft)> {
        assert!(!draft.has_membership(), "a membership is no proposal: it has to be checked first");
        let leader = self.leader_address();
        let Some(leading) = &self.leading else {
            return Err((ProposeError::NotLeader { leader }, draft));
        };
        if let Some(transfer) = &leading.transfer {
            return Err((ProposeError::Transferring { to: transfer.to }, draft));
        }
        let (pending_bytes, bytes_max) =
            (leading.uncommitted_bytes, self.config.uncommitted_bytes_max);
        // The first proposal always enters; otherwise a draft larger than the bound never could.
        if pending_bytes > 0 && pending_bytes + draft.len_bytes() > bytes_max {
            return Err((ProposeError::Full { pending_bytes, bytes_max }, draft));
        }
        Ok(self.append_own(draft))
    }

    /// Bytes that this leader has proposed and not committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        self.leading.as_ref().map_or(0, |leading| leading.uncommitted_bytes)
    }

    /// Appends to the own log of a leader; gives the id of the first entry.
    pub(crate) fn append_own(&mut self, draft: RunDraft) -> LogId {
        self.wake();
        let leading = self.leading.as_mut().expect("only a leader appends of its own");
        let run = draft.seal(self.term, self.log.last().index.next());
        let first = LogId::new(self.term, run.first());
        leading.uncommitted.push_back((run.last(), run.len_bytes()));
        leading.uncommitted_bytes += run.len_bytes();
        self.log.append(run);
        first
    }

    /// Commits what a quorum holds durably, if it ends with an entry of the own term: only such an
    /// entry commits older ones (Raft paper, 5.4.2 and figure 8).
    pub(crate) fn advance_commit(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let own = self.config.replica;
        let durable = self.log.durable();
        let mutation = self.config.mutation;
        let agreed = Index(quorum::agreed(&self.log.deciding(mutation), |replica| {
            let matched = leading.follower(replica).map_or(Index(0), |f| f.matched);
            if replica == own { durable.0 } else { matched.0 }
        }));
        let is_own_term = self.log.term_at(agreed) == Some(self.term);
        if agreed > self.commit && (is_own_term || mutation.is(Mutant::CommitOldTerms)) {
            self.commit = agreed;
            leading.forget_committed(agreed);
            self.leave_joint();
        }
    }

    /// A message of a member of the group arrived in the own term.
    pub(crate) fn hear_follower(&mut self, replica: ReplicaId) {
        let now = self.now;
        if let Some(follower) = self.leading.as_mut().and_then(|l| l.follower_mut(replica)) {
            follower.last_contact = now;
            if follower.attendance == Attendance::Down {
                follower.attendance = Attendance::Awake;
                self.wake();
            }
        }
    }

    pub(crate) fn handle_accepted(&mut self, from: ReplicaId, matched: Index) {
        // More than this log holds was never asked for, and less than its base is known to all: such
        // an answer can't be trusted for anything.
        if matched < self.log.base().index || matched > self.log.last().index {
            return;
        }
        let Some(leading) = &mut self.leading else { return };
        let Some(follower) = leading.follower_mut(from) else { return };
        if follower.accept(matched) {
            self.advance_commit();
            self.advance_transfer();
        }
    }

    /// The follower lacks `previous`. Its hint skips everything of a term that this log can't match
    /// either, so each divergent term costs one round at most.
    pub(crate) fn handle_rejected(&mut self, from: ReplicaId, previous: LogId, hint: LogId) {
        self.wake();
        let Some(leading) = &mut self.leading else { return };
        let Some(follower) = leading.follower_mut(from) else { return };
        if !follower.is_current_refusal(previous.index) {
            return;
        }
        let base = self.log.base().index;
        // Nothing that it holds from the base on has a term low enough, or it lacks the base itself.
        if hint.index < base || previous.index <= base {
            self.ask_for_snapshot(from, base);
            return;
        }
        let closest = self.log.closest(hint).index.min(previous.index.previous());
        follower.step_back(previous.index, closest.max(base).next());
    }

    pub(crate) fn handle_heartbeat_reply(&mut self, from: ReplicaId, round: u64) {
        let newest = self.reads.round;
        let Some(leading) = &mut self.leading else { return };
        let Some(follower) = leading.follower_mut(from) else { return };
        follower.round = follower.round.max(round.min(newest));
        if follower.is_overdue() {
            match follower.pace {
                Pace::Probe { .. } => follower.pace = Pace::Probe { waiting: false },
                // An empty append after the last one finds out whether that arrived, and costs
                // nothing if it did.
                Pace::Replicate => {
                    let (to, end) = (follower.member, follower.next.previous());
                    self.send_append(to, end, Vec::new());
                }
                Pace::Snapshot { .. } => unreachable!("no append is awaited"),
            }
        }
        self.confirm_reads();
    }

    /// Sends heartbeats to every follower that is not down, with the newest read round.
    pub(crate) fn send_heartbeats(&mut self) {
        let (term, from, commit) = (self.term, self.config.replica, self.commit);
        let round = self.reads.round;
        let Some(leading) = &mut self.leading else { return };
        for follower in leading.followers.iter_mut().filter(|follower| !follower.is_down()) {
            let to = follower.member;
            let commit = commit.min(follower.matched);
            follower.commit_told = follower.commit_told.max(commit);
            let body = Body::Heartbeat { commit, round };
            self.outbox.push(
                SendAfter::Nothing,
                to.node,
                Message { from, to: to.replica, term, body },
            );
        }
    }

    /// Sends followers what they lack and may be sent, and the commit index to those that get no
    /// append to carry it. Runs once per `Ready`, so that a turn's proposals travel together.
    pub(crate) fn replicate(&mut self, windows: Option<&Windows>) {
        let Some(mut leading) = self.leading.take() else { return };
        for follower in leading.followers.iter_mut().filter(|follower| !follower.is_down()) {
            let has_room = windows.is_none_or(|windows| windows.has_room(follower.member.node));
            while (has_room || !follower.is_in_flight()) && self.replicate_to(follower) {}
            let commit = self.commit.min(follower.matched);
            if commit > follower.commit_told {
                follower.commit_told = commit;
                let body = Body::Heartbeat { commit, round: self.reads.round };
                self.send_to(follower.member, body);
            }
        }
        // A replica that is removed is not worth a snapshot.
        let is_done = |f: &Progress| f.knows_to_have_left() || f.needs_snapshot();
        leading.followers.retain(|follower| follower.left_at.is_none() || !is_done(follower));
        self.leading = Some(leading);
    }

    /// Sends at most one append. True if another may follow.
    fn replicate_to(&mut self, follower: &mut Progress) -> bool {
        // It may have been silent while the log moved on without it.
        follower.begin_behind(self.log.base().index);
        let Some(room_bytes) = follower.room_bytes(&self.config) else { return false };
        let until = self.log.last().index.next();
        let (next, first_cached) = (follower.next, self.log.first_cached());
        let is_probe = follower.pace != Pace::Replicate;
        let runs = if next == until {
            Vec::new()
        } else if next >= first_cached {
            self.log.runs(next, until, room_bytes)
        } else if is_probe {
            // Where the logs match is not known: too early to read anything back.
            Vec::new()
        } else if !follower.may_fetch() {
            return false;
        } else {
            let reader = Reader::Follower(follower.member.replica);
            let bytes_max = self.config.append_bytes_max;
            self.fetch(Fetch { reader, range: next..until.min(first_cached), bytes_max });
            return false;
        };
        let bytes = runs.iter().map(Run::len_bytes).sum();
        let is_idle = runs.is_empty() && !is_probe;
        if is_idle || !follower.admits(&self.config, bytes) {
            return false;
        }
        self.send_runs(follower, runs, bytes);
        true
    }

    /// Runs for a lagging follower came back from the log. Leadership may have changed meanwhile,
    /// or the follower may have been sent elsewhere: then they are dropped and asked for again.
    pub(crate) fn handle_fetched_follower(&mut self, replica: ReplicaId, runs: Vec<Run>) {
        let is_current = runs.iter().all(|run| self.log.holds(run.last_id()));
        let first_cached = self.log.first_cached();
        let Some(mut leading) = self.leading.take() else { return };
        let Some(follower) = leading.follower_mut(replica) else {
            self.leading = Some(leading);
            return;
        };
        if runs.is_empty() {
            // The range is gone, unless the follower got it meanwhile from elsewhere.
            let lacks_it = follower.pace == Pace::Replicate && follower.next < first_cached;
            self.leading = Some(leading);
            if lacks_it {
                let committed = first_cached.previous().min(self.commit);
                self.ask_for_snapshot(replica, committed.max(self.log.base().index));
            }
            return;
        }
        if is_current
            && follower.pace == Pace::Replicate
            && runs.first().is_some_and(|run| run.first() == follower.next)
        {
            let runs = follower.admit_head(&self.config, runs);
            if !runs.is_empty() {
                let bytes = runs.iter().map(Run::len_bytes).sum();
                self.send_runs(follower, runs, bytes);
            }
        }
        self.leading = Some(leading);
    }

    fn send_runs(&mut self, follower: &mut Progress, runs: Vec<Run>, bytes: usize) {
        let previous = follower.next.previous();
        let last = runs.last().map_or(previous, Run::last);
        if follower.pace == Pace::Replicate {
            follower.commit_told = follower.commit_told.max(self.commit.min(last));
        }
        follower.sent(last, bytes);
        self.send_append(follower.member, previous, runs);
    }

    fn send_append(&mut self, to: Member, previous: Index, runs: Vec<Run>) {
        let term = self.log.term_at(previous).expect("followers are sent what the log holds");
        let previous = LogId::new(term, previous);
        self.send_to(to, Body::Append { previous, runs, commit: self.commit });
    }

    fn send_to(&mut self, to: Member, body: Body) {
        let (from, term) = (self.config.replica, self.term);
        self.outbox.push(SendAfter::Nothing, to.node, Message { from, to: to.replica, term, body });
    }

    /// The highest index that a quorum holds durably, of any term; 0 if this replica does not lead.
    #[must_use]
    pub fn acknowledged(&self) -> Index {
        let Some(leading) = &self.leading else { return Index(0) };
        let own = self.config.replica;
        Index(quorum::agreed(self.log.membership(), |replica| {
            let matched = leading.follower(replica).map_or(Index(0), |f| f.matched);
            if replica == own { self.log.durable().0 } else { matched.0 }
        }))
    }

    /// When a leader gives up unless a quorum answers: one election timeout after the latest time
    /// at which a quorum had been heard. Its followers may elect another from then on.
    pub(crate) fn quorum_deadline(&self, leading: &Leading) -> Monotonic {
        let own = self.config.replica;
        let last_contact = quorum::agreed(self.log.membership(), |replica| {
            let heard = leading.follower(replica).map_or(0, |f| f.last_contact.0);
            if replica == own { u64::MAX } else { heard }
        });
        Monotonic(last_contact) + self.config.election_timeout
    }

    pub(crate) fn leader_deadline(&self, leading: &Leading) -> Monotonic {
        if leading.rest == Rest::Quiesced {
            return Monotonic(u64::MAX);
        }
        let mut deadline = self.quorum_deadline(leading);
        if let Some(transfer) = &leading.transfer {
            deadline = deadline.min(transfer.deadline);
        }
        // A leader that is alone has nobody to send heartbeats to.
        if !leading.followers.is_empty() {
            deadline = deadline.min(leading.heartbeat_at);
        }
        deadline
    }

    pub(crate) fn handle_leader_timeout(&mut self) {
        let Some(leading) = &self.leading else { return };
        if leading.rest == Rest::Quiesced {
            return;
        }
        if self.quorum_deadline(leading) <= self.now {
            self.become_follower(self.term, None);
            return;
        }
        self.expire_transfer();
        let (now, silence_max) = (self.now, self.config.election_timeout);
        let Some(leading) = &mut self.leading else { return };
        if leading.heartbeat_at > now {
            return;
        }
        leading.heartbeat_at = now + self.config.heartbeat;
        for follower in leading.followers.iter_mut().filter(|follower| !follower.is_down()) {
            follower.beat();
            if now.since(follower.last_contact) >= silence_max {
                follower.suspend();
            }
        }
        let is_silent = |follower: &Progress| now.since(follower.last_contact) >= silence_max;
        leading.followers.retain(|follower| follower.left_at.is_none() || !is_silent(follower));
        if !self.quiesce() {
            self.send_heartbeats();
        }
    }
}
