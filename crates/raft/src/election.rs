//! Elections: pre-vote with leader stickiness (thesis 9.6, 4.2.3), votes, becoming and ceasing to
//! be a leader.

use quorate_types::{Duration, LogId, Monotonic, Mutant, ReplicaId, Term};

use crate::config::Preference;
use crate::kernel::Kernel;
use crate::loss::Acknowledgements;
use crate::message::{Body, TransferOf};
use crate::outbox::SendAfter;
use crate::quorum::{self, Tally};
use crate::ready::Role;
use crate::replication::Leading;
use crate::run::{EntryKind, RunDraft};

/// The pause after a refused pre-vote doubles with every refusal, up to this many times: a replica
/// that the leader can't reach still asks every few seconds, and disturbs nobody.
const REFUSAL_DOUBLINGS_MAX: u32 = 3;

/// Election timeouts for which a replica that stepped down does not campaign: within two of them every
/// other has tried once.
const ABSTAINED_TIMEOUTS: u32 = 2;
/// The longest wait of a normal replica is twice the election timeout, so this makes it the shortest
/// of a reluctant one.
const RELUCTANCE: u32 = 2;

/// A replica's part in elections.
pub(crate) struct Election {
    /// When to campaign, unless a leader is heard before.
    pub(crate) deadline: Monotonic,
    /// The random timeout drawn last.
    timeout: Duration,
    /// After [`Kernel::step_down`] it does not campaign before this.
    abstains_until: Monotonic,
    /// The silence after a start of its node: it does not campaign before this either.
    pub(crate) silent_until: Monotonic,
    /// Pre-votes refused in a row because a leader is alive.
    refusals: u32,
    /// The running pre-campaign was refused so, and the deadline is set accordingly.
    is_backed_off: bool,
    /// Answers of the running (pre-)campaign.
    votes: Vec<(ReplicaId, bool)>,
}

impl Election {
    pub(crate) fn new() -> Election {
        Election {
            deadline: Monotonic(u64::MAX),
            timeout: Duration::ZERO,
            abstains_until: Monotonic(0),
            silent_until: Monotonic(0),
            refusals: 0,
            is_backed_off: false,
            votes: Vec::new(),
        }
    }

    fn vote_of(&self, replica: ReplicaId) -> Option<bool> {
        self.votes.iter().find(|(voter, _)| *voter == replica).map(|(_, granted)| *granted)
    }

    fn record(&mut self, voter: ReplicaId, granted: bool) {
        // The first answer counts: a second one is a duplicate.
        if self.vote_of(voter).is_none() {
            self.votes.push((voter, granted));
        }
    }
}

impl Kernel {
    /// Follows `leader`, or nobody yet, in `term`.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<ReplicaId>) {
        assert!(term >= self.term, "{term:?} is older than {:?}", self.term);
        if self.leading.take().is_some() {
            self.fail_led_reads();
        }
        if term > self.term || leader != self.leader {
            self.fail_asked_reads();
            self.last_leader_contact = None;
            self.is_bound = false;
        }
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.hard_state_is_dirty = true;
            self.accepted = None;
            self.acknowledgements = Acknowledgements::default();
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.election.votes.clear();
        self.draw_election_deadline();
    }

    /// A message that only the leader of the own term can have sent arrived.
    pub(crate) fn hear_leader(&mut self, leader: ReplicaId) {
        if self.role != Role::Follower || self.leader != Some(leader) {
            self.become_follower(self.term, Some(leader));
        }
        self.last_leader_contact = Some(self.now);
        self.election.refusals = 0;
        self.set_election_deadline();
    }

    /// Stops leading or campaigning at once, and does not campaign for at least two election
    /// timeouts, neither by itself nor when told to: for a replica whose disk hangs, or whose node
    /// is to stop. A leader becomes a follower in the same term that knows of no leader; its reads
    /// end unconfirmed. It still votes.
    pub fn step_down(&mut self, now: Monotonic) {
        self.advance_clock(now);
        self.election.abstains_until = self.now + self.config.election_timeout * ABSTAINED_TIMEOUTS;
        if self.role != Role::Follower {
            self.become_follower(self.term, None);
        }
        self.set_election_deadline();
    }

    /// The election timer ran out: asks whether an election could be won. Nothing durable changes
    /// before a quorum says so, so a replica that was cut off does not disturb a working group.
    pub(crate) fn handle_election_timeout(&mut self) {
        self.fail_asked_reads();
        self.leader = None;
        self.election.votes.clear();
        self.election.is_backed_off = false;
        self.draw_election_deadline();
        if !self.may_campaign() {
            self.role = Role::Follower;
            // A replica without a vote waits only for a leader: one that was never admitted, or is
            // no member any more, must not tick forever.
            if !self.may_be_needed() {
                self.election.deadline = Monotonic(u64::MAX);
            }
            return;
        }
        self.role = Role::PreCandidate;
        self.request_votes(SendAfter::Nothing, self.term.next(), true, None);
        self.election.record(self.config.replica, true);
        self.count_votes();
    }

    /// Asks for votes in the next term; if a leader ordered it, without a pre-vote before.
    pub(crate) fn campaign(&mut self, transfer: Option<TransferOf>) {
        self.become_follower(self.term.next(), None);
        self.role = Role::Candidate;
        self.vote = Some(self.config.replica);
        // The requests wait for the sync as the own vote does: a candidate that forgets its term
        // in a crash could otherwise ask for votes in it twice, with two different logs.
        let mutated = self.breaks(Mutant::UnsyncedOwnVote);
        let after = if mutated { SendAfter::Nothing } else { SendAfter::AllWrites };
        self.request_votes(after, self.term, false, transfer);
        if mutated {
            self.count_own_vote();
        }
    }

    /// The own vote counts once no crash can take it back (RULE 2).
    pub(crate) fn count_own_vote(&mut self) {
        if self.role == Role::Candidate && self.is_own_vote_safe() {
            self.election.record(self.config.replica, true);
            self.count_votes();
        }
    }

    /// True if no crash can take back that this candidate voted for itself.
    fn is_own_vote_safe(&self) -> bool {
        self.is_hard_state_durable() || self.breaks(Mutant::UnsyncedOwnVote)
    }

    /// Whether to vote for `from`, which asks in `term`. A replica answers even if it is no voter
    /// as far as it knows: an entry that it has not got yet may have promoted it.
    pub(crate) fn handle_vote_request(
        &mut self,
        from: ReplicaId,
        term: Term,
        last: LogId,
        transfer: Option<TransferOf>,
    ) {
        if term > self.term {
            if self.follows_other_than(from) && !self.honours(transfer) {
                return;
            }
            self.become_follower(term, None);
        }
        let is_free = match self.vote {
            Some(candidate) => candidate == from,
            None => self.leader.is_none(),
        };
        let granted = term == self.term && is_free && self.is_up_to_date(last);
        if !granted {
            let body = Body::VoteReply { pre: false, granted: false, leader_alive: false };
            self.send(SendAfter::HardState, from, body);
            return;
        }
        if self.vote.is_none() {
            self.vote = Some(from);
            self.hard_state_is_dirty = true;
        }
        self.draw_election_deadline();
        let body = Body::VoteReply { pre: false, granted: true, leader_alive: false };
        let mutated = self.breaks(Mutant::VoteBeforeSync);
        self.send(if mutated { SendAfter::Nothing } else { SendAfter::AllWrites }, from, body);
    }

    /// True if a log that ends with `last` holds everything that this one may have helped to commit
    /// (Raft paper, 5.4.1).
    fn is_up_to_date(&self, last: LogId) -> bool {
        let own = self.log.last();
        last >= own || (self.breaks(Mutant::VoteByIndex) && last.index >= own.index)
    }

    /// Whether a vote would be given in `term`. A grant promises nothing and changes nothing.
    pub(crate) fn handle_pre_vote_request(&mut self, from: ReplicaId, term: Term, last: LogId) {
        self.rehear(from);
        let leader_alive = self.follows_other_than(from);
        let granted = !leader_alive && term > self.term && self.is_up_to_date(last);
        let body = Body::VoteReply { pre: true, granted, leader_alive };
        if granted {
            self.send_in(term, SendAfter::Nothing, from, body);
        } else {
            self.send(SendAfter::HardState, from, body);
        }
    }

    /// An answer in the own term, from a member.
    pub(crate) fn handle_vote_reply(&mut self, from: ReplicaId, granted: bool) {
        // The request leaves after the sync of the own vote, so no honest grant comes before it.
        if self.role == Role::Candidate && (!granted || self.is_own_vote_safe()) {
            self.election.record(from, granted);
            self.count_votes();
        }
    }

    /// An answer to a pre-vote. In a refusal `term` is the voter's own, which may be older: that of
    /// a leader that has not heard of ours yet.
    pub(crate) fn handle_pre_vote_reply(
        &mut self,
        from: ReplicaId,
        term: Term,
        granted: bool,
        leader_alive: bool,
    ) {
        if !self.is_member(from) {
            return;
        }
        if !granted && term > self.term {
            self.become_follower(term, None);
            return;
        }
        if self.role != Role::PreCandidate || (granted && term != self.term.next()) {
            return;
        }
        self.election.record(from, granted);
        self.count_votes();
        if leader_alive && matches!(self.role, Role::Follower | Role::PreCandidate) {
            self.back_off();
        }
    }

    /// True if a leader other than `candidate` was heard within the shortest election timeout, or
    /// this replica is bound to it, or is it. A request from the leader followed proves that it no
    /// longer leads.
    fn follows_other_than(&self, candidate: ReplicaId) -> bool {
        let heard = |at| self.now.since(at) < self.config.election_timeout;
        self.role == Role::Leader
            || (self.leader.is_some_and(|leader| leader != candidate)
                && (self.is_bound || self.last_leader_contact.is_some_and(heard)))
    }

    /// RULE 6: an override names the leader that gave it, and only a follower of that leader
    /// honours it.
    fn honours(&self, transfer: Option<TransferOf>) -> bool {
        transfer.is_some_and(|of| Some(of.leader) == self.leader && of.term == self.term)
    }

    fn request_votes(
        &mut self,
        after: SendAfter,
        term: Term,
        pre: bool,
        transfer: Option<TransferOf>,
    ) {
        let last = self.log.last();
        let own = self.config.replica;
        let membership = self.log.membership().clone();
        let voters = membership.members().filter(|m| membership.is_voter(m.replica));
        for member in voters.filter(|m| m.replica != own) {
            let body = Body::VoteRequest { pre, last, transfer };
            self.send_in(term, after, member.replica, body);
        }
    }

    fn count_votes(&mut self) {
        let membership = self.log.deciding(self.config.mutation);
        let tally = quorum::tally(&membership, |voter| self.election.vote_of(voter));
        match (tally, self.role) {
            (Tally::Won, Role::PreCandidate) => self.campaign(None),
            (Tally::Won, _) => self.become_leader(),
            (Tally::Lost, _) => self.become_follower(self.term, None),
            (Tally::Open, _) => {}
        }
    }

    fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate can win");
        assert!(self.is_own_vote_safe(), "a leader's term is durable");
        let own = self.config.replica;
        self.role = Role::Leader;
        self.leader = Some(own);
        self.election.refusals = 0;
        let others = self.log.membership().members().filter(|member| member.replica != own);
        let next = self.log.last().index.next();
        let base = self.log.base().index;
        let leading = Leading::new(others, base, next, self.now, self.config.heartbeat);
        self.leading = Some(Box::new(leading));
        // Commits what earlier terms left, which can't be committed by counting (Raft paper, 5.4.2).
        let mut blank = RunDraft::new();
        blank.push(EntryKind::Blank, &[]);
        self.append_own(blank);
    }

    /// Refused because a leader is alive: waits longer before each next attempt, until a leader is
    /// heard. A quorum that says yes still wins: one voter may hear a leader that all others lost.
    fn back_off(&mut self) {
        if !self.election.is_backed_off {
            self.election.is_backed_off = true;
            let doublings = self.election.refusals.min(REFUSAL_DOUBLINGS_MAX);
            self.election.refusals = self.election.refusals.saturating_add(1);
            self.election.deadline = self.now + self.election.timeout * (1 << doublings);
        }
    }

    /// Whether this replica seeks leadership, by itself or when told to.
    pub(crate) fn may_campaign(&self) -> bool {
        let abstains = self.now < self.election.abstains_until.max(self.election.silent_until);
        self.config.preference != Preference::Never && !abstains && self.may_be_needed()
    }

    /// A random timeout per attempt, so that candidates do not meet again and again (Raft paper, 5.2).
    pub(crate) fn draw_election_deadline(&mut self) {
        let patience = if self.config.preference == Preference::Reluctant { RELUCTANCE } else { 1 };
        self.election.timeout = self.random.stretch(self.config.election_timeout * patience);
        self.set_election_deadline();
    }

    pub(crate) fn set_election_deadline(&mut self) {
        let from = self.now.max(self.election.abstains_until);
        // The first to campaign after a silence need not wait for a whole timeout more: nobody has
        // led for as long. What is left of the jitter keeps candidates apart.
        let after_silence = self.election.silent_until + self.election.timeout / 4;
        self.election.deadline = match self.is_bound {
            true => Monotonic(u64::MAX),
            false => (from + self.election.timeout).max(after_silence),
        };
    }
}
