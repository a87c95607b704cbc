//! Changes of the membership by joint consensus (Raft paper, section 6; thesis 4.3).
//!
//! ```text
//!  old ──▶ joint: voters = new, outgoing = old ──committed by both majorities──▶ new
//! ```
//!
//! A configuration is in force from append, committed or not; truncation brings the one before it
//! back. The leader leaves joint consensus by itself when that is committed, and so does a leader
//! that finds its log in it: no caller has to ask again, even after a crash. A change of learners
//! alone skips the joint configuration: the voters, and so the quorums, are the same before and
//! after, and two majorities of one set of voters always meet.
//!
//! The thesis' changes by one server at a time (4.2) are left out: they would be a second way to do
//! the same, with their own flaw in leader changes, and a replacement would pass through an even
//! number of voters.

use quorate_types::{LogId, Mutant, ReplicaId};

use crate::errors::ChangeError;
use crate::kernel::Kernel;
use crate::membership::{Member, Membership};
use crate::progress::{Pace, Progress};
use crate::run::{EntryKind, RunDraft};
use crate::transfer::Transfer;

impl Kernel {
    pub(crate) fn begin_change(
        &mut self,
        expected: &Membership,
        target: &Membership,
    ) -> Result<LogId, ChangeError> {
        let mut target = target.clone();
        target.voters.sort();
        target.learners.sort();
        self.check_may_change(expected)?;
        // A quiesced group hears nobody: one round shows again whether its members answer.
        self.wake();
        self.check_target(&target)?;
        let in_force = self.log.membership();
        let next = if in_force.voters == target.voters {
            target
        } else {
            Membership { outgoing: in_force.voters.clone(), ..target }
        };
        Ok(self.append_membership(&next))
    }

    /// A change may begin at a leader that has committed an entry of its term, and only when the
    /// change before is committed: three configurations in force at three replicas would have no
    /// quorum in common.
    fn check_may_change(&self, expected: &Membership) -> Result<(), ChangeError> {
        let Some(leading) = &self.leading else {
            return Err(ChangeError::NotLeader { leader: self.leader_address() });
        };
        if let Some(transfer) = &leading.transfer {
            return Err(ChangeError::Transferring { to: transfer.to });
        }
        if !self.is_serving() {
            return Err(ChangeError::NotServing);
        }
        if self.is_changing() {
            return Err(ChangeError::InFlight { at: self.log.membership_at() });
        }
        let in_force = self.log.membership();
        if in_force != expected {
            return Err(ChangeError::Stale { in_force: in_force.clone() });
        }
        Ok(())
    }

    fn check_target(&self, target: &Membership) -> Result<(), ChangeError> {
        let in_force = self.log.membership();
        if target.is_joint() {
            return Err(ChangeError::Unsound { what: "it is joint" });
        }
        if target == in_force {
            return Err(ChangeError::Unchanged);
        }
        // Together with what it replaces: that is what will be in force first.
        let joint = Membership { outgoing: in_force.voters.clone(), ..target.clone() };
        let learners = Membership { learners: in_force.learners.clone(), ..Membership::default() };
        let moves = |m: &Member| learners.node_of(m.replica).is_some_and(|node| node != m.node);
        if let Some(what) = target.fault().or(joint.fault()) {
            return Err(ChangeError::Unsound { what });
        }
        if target.members().any(|member| moves(&member)) {
            return Err(ChangeError::Unsound { what: "a replica changes its node" });
        }
        let newest = self.log.newest_replica();
        for Member { replica, .. } in target.members() {
            if in_force.node_of(replica).is_none() && replica <= newest {
                return Err(ChangeError::Reused { replica, newest });
            }
        }
        let promoted = target.voters.iter().filter(|voter| !in_force.is_voter(voter.replica));
        promoted.into_iter().try_for_each(|voter| self.check_is_caught_up(voter.replica))?;
        self.check_has_quorum(target)
    }

    /// Committed entries that a follower lacks. Entries that are not committed yet do not count: under
    /// load every follower lacks some of them.
    fn lag(&self, follower: &Progress) -> u64 {
        self.commit.0.saturating_sub(follower.matched.0)
    }

    /// A majority of the target has to answer and to hold nearly all that is committed: only that
    /// majority can end the change, and until then nothing would be committed.
    fn check_has_quorum(&self, target: &Membership) -> Result<(), ChangeError> {
        let leading = self.leading.as_ref().expect("checked before");
        let is_ready = |voter: &&Member| {
            let follower = leading.follower(voter.replica);
            voter.replica == self.config.replica
                || follower.is_some_and(|follower| {
                    self.now.since(follower.last_contact) < self.config.election_timeout
                        && follower.pace == Pace::Replicate
                        && self.lag(follower) <= self.config.promotion_lag_entries_max
                })
        };
        let ready = target.voters.iter().filter(is_ready).count();
        let needed = target.voters.len() / 2 + 1;
        if ready < needed { Err(ChangeError::NoQuorum { ready, needed }) } else { Ok(()) }
    }

    /// A voter that lags can't help to commit before it has caught up, so that one more failure
    /// would stop the group (thesis 4.2.1).
    fn check_is_caught_up(&self, replica: ReplicaId) -> Result<(), ChangeError> {
        let leading = self.leading.as_ref().expect("checked before");
        let is_learner = self.is_member(replica);
        let Some(follower) = leading.follower(replica).filter(|_| is_learner) else {
            return Err(ChangeError::NotALearner { replica });
        };
        let entries = self.lag(follower);
        let entries_max = self.config.promotion_lag_entries_max;
        if entries > entries_max {
            return Err(ChangeError::Behind { replica, entries, entries_max });
        }
        if follower.pace != Pace::Replicate {
            return Err(ChangeError::Silent { replica });
        }
        Ok(())
    }

    /// Leaves joint consensus once it is committed, together with an entry of the own term. Waits
    /// for the end of a transfer, during which the log must not grow.
    pub(crate) fn leave_joint(&mut self) {
        let is_due = self.log.membership().is_joint() && self.log.membership_at() <= self.commit;
        let stands_still = self.leading.as_ref().is_some_and(|l| l.transfer.is_some());
        if is_due && self.is_serving() && !stands_still && !self.breaks(Mutant::JointStays) {
            let settled = self.log.membership().settled();
            self.append_membership(&settled);
            // The outgoing voters are not waited for any more.
            self.advance_commit();
            self.confirm_reads();
        }
    }

    /// Appends a configuration, which is in force at once.
    fn append_membership(&mut self, membership: &Membership) -> LogId {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Membership, &[&membership.encode()]);
        let id = self.append_own(draft);
        let own = self.config.replica;
        let leading = self.leading.as_mut().expect("only a leader changes the membership");
        for follower in &mut leading.followers {
            if membership.node_of(follower.member.replica).is_none() {
                follower.left_at = follower.left_at.or(Some(id.index));
            }
        }
        let base = self.log.base().index;
        for member in membership.members().filter(|member| member.replica != own) {
            if leading.follower(member.replica).is_none() {
                // Where its log matches is unknown: an empty append asks at this log's end.
                let next = id.index.next();
                leading.followers.push(Progress::new(member, base, next, self.now));
            }
        }
        id
    }

    /// Whether this replica may be needed in elections: if it is a voter, and also if it was one
    /// before a configuration that may not be committed (thesis 4.2.2). The new voters may all lack
    /// that configuration yet: then their logs are too old to win, and only an outgoing voter can
    /// complete it. Its own vote does not count.
    pub(crate) fn may_be_needed(&self) -> bool {
        let own = self.config.replica;
        let was_voter = || self.log.membership_before().is_voter(own);
        self.log.membership().is_voter(own) || (self.is_changing() && was_voter())
    }

    /// True if this leader has removed `replica` and still tells it so.
    pub(crate) fn is_leaving(&self, replica: ReplicaId) -> bool {
        let follower = self.leading.as_ref().and_then(|leading| leading.follower(replica));
        follower.is_some_and(|follower| follower.left_at.is_some())
    }

    /// True if this replica leads, and the membership that is committed has no vote for it.
    pub(crate) fn is_departing(&self) -> bool {
        let own = self.config.replica;
        let is_voter = self.log.membership().is_voter(own);
        self.leading.is_some() && !is_voter && !self.is_changing()
    }

    /// A leader that is no voter any more hands over to the voter that has most of the log, and
    /// steps down as soon as that voter is told. If no target gets everything in time, it steps
    /// down anyway and an election follows: its heartbeats may not hold the group back.
    pub(crate) fn depart(&mut self) {
        if !self.is_departing() {
            return;
        }
        let deadline = self.now + self.config.transfer_timeout;
        let membership = self.log.membership();
        let leading = self.leading.as_mut().expect("a leader departs");
        let voters = leading.followers.iter().filter(|f| membership.is_voter(f.member.replica));
        let most =
            voters.max_by_key(|follower| (follower.pace == Pace::Replicate, follower.matched));
        let to = most.expect("others vote").member.replica;
        leading.transfer.get_or_insert(Transfer { to, deadline, told: false });
        self.advance_transfer();
        let transfer = self.leading.as_ref().and_then(|leading| leading.transfer.as_ref());
        if transfer.is_some_and(|transfer| transfer.told) {
            self.become_follower(self.term, None);
        }
    }
}
