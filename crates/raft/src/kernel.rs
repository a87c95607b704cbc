//! The kernel, which is one replica of one group: its state, public interface and dispatch. Each
//! part of the protocol has its own file.

use quorate_types::{
    Index, LogId, Monotonic, Mutant, NodeId, ReplicaId, SplitMix64, Term, WriteNumber,
};

use crate::apply::ApplyCursor;
use crate::config::Config;
use crate::election::Election;
use crate::errors::{ChangeError, ProposeError, ReadIndexError, TransferError};
use crate::follower::is_well_formed;
use crate::log::Log;
use crate::loss::Acknowledgements;
use crate::membership::{Member, Membership};
use crate::message::{Body, Message};
use crate::outbox::{Outbox, SendAfter};
use crate::reads::Reads;
use crate::ready::{
    Fetch, HardState, Install, Loss, Reader, Restored, Role, RoleState, SnapshotRequest,
};
use crate::replication::Leading;
use crate::run::{Run, RunDraft};

/// The highest term. No election reaches it in practice; a message beyond it is a forgery that
/// would end all terms.
const TERM_MAX: Term = Term(u64::MAX / 2);
/// A message further ahead of the own term is refused. Terms grow by one per election, so no honest
/// replica gets there: at a thousand elections a second, 2^32 of them take fifty days of being cut
/// off. From a small term to `TERM_MAX`, 2^63, a forger needs 2^31 messages, not one.
const TERM_JUMP_MAX: u64 = 1 << 32;

/// One replica's consensus.
pub struct Kernel {
    pub(crate) config: Config,
    pub(crate) random: SplitMix64,
    /// The newest reading of the clock that came in.
    pub(crate) now: Monotonic,
    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    /// Term or vote differ from what the newest write holds.
    pub(crate) hard_state_is_dirty: bool,
    /// The newest write with a hard state, while it is under way.
    pub(crate) hard_state_write: Option<WriteNumber>,
    pub(crate) write_last: WriteNumber,
    pub(crate) role: Role,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) last_leader_contact: Option<Monotonic>,
    /// The node is bound to that leader until it says otherwise.
    pub(crate) is_bound: bool,
    pub(crate) election: Election,
    pub(crate) log: Log,
    pub(crate) commit: Index,
    /// What to acknowledge to the leader of this term with the next `Ready`.
    pub(crate) accepted: Option<(ReplicaId, Index)>,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) apply: ApplyCursor,
    pub(crate) reads: Reads,
    /// Boxed: few replicas lead, and thousands of kernels live in one process.
    pub(crate) leading: Option<Box<Leading>>,
    /// This kernel's part of the host's window sums, by node.
    pub(crate) window_counts: Vec<(NodeId, usize)>,
    pub(crate) outbox: Outbox,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) snapshots: Vec<SnapshotRequest>,
    /// The log has restarted; the next write says so.
    pub(crate) install: Option<Install>,
    /// Readers that wait for their runs.
    pub(crate) fetching: Vec<Reader>,
    pub(crate) address_hints: Vec<Member>,
    /// Its log has lost what it had acknowledged: it takes no part any more (RULE 5).
    pub(crate) ended: Option<Loss>,
    pub(crate) is_end_told: bool,
    pub(crate) reported: RoleState,
}

impl Kernel {
    /// A replica as its log left it, a follower at `now`.
    ///
    /// # Panics
    /// If `restored` contradicts itself (the log checks that before).
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Monotonic) -> Kernel {
        let HardState { term, vote, committed } = restored.hard_state;
        let applied = restored.applied;
        assert!(restored.last.term <= term.max(restored.base.term), "entries of a future term");
        let log = Log::new(restored);
        let last = log.last().index;
        assert!(log.base().index <= applied && applied <= last, "applied beyond the log's ends");
        // A replica made with a base has at least the base's term.
        let term = term.max(log.base().term);
        let acknowledgements = Acknowledgements::restored(term, log.last());
        let mut kernel = Kernel {
            random: SplitMix64::new(config.seed),
            now,
            term,
            vote,
            hard_state_is_dirty: false,
            hard_state_write: None,
            write_last: WriteNumber(0),
            role: Role::Follower,
            leader: None,
            last_leader_contact: None,
            is_bound: false,
            election: Election::new(),
            log,
            commit: applied.max(committed.min(last)),
            accepted: None,
            acknowledgements,
            apply: ApplyCursor::new(applied),
            reads: Reads::new(config.read_context_first),
            leading: None,
            window_counts: Vec::new(),
            outbox: Outbox::default(),
            fetches: Vec::new(),
            snapshots: Vec::new(),
            install: None,
            fetching: Vec::new(),
            address_hints: Vec::new(),
            ended: None,
            is_end_told: false,
            reported: RoleState { role: Role::Follower, term, leader: None, serving: false },
            config,
        };
        kernel.draw_election_deadline();
        kernel
    }

    /// A message arrived. Messages for another replica id are dropped.
    pub fn handle_message(&mut self, now: Monotonic, message: Message) {
        self.advance_clock(now);
        let Message { from, to, term, body } = message;
        let is_meant = to == self.config.replica && from != to && !self.has_ended();
        if !is_meant || !self.is_credible(term) {
            return;
        }
        match body {
            Body::VoteRequest { pre: true, last, .. } => {
                self.handle_pre_vote_request(from, term, last);
            }
            Body::VoteRequest { pre: false, last, transfer } => {
                self.handle_vote_request(from, term, last, transfer);
            }
            Body::VoteReply { pre: true, granted, leader_alive } => {
                self.handle_pre_vote_reply(from, term, granted, leader_alive);
            }
            Body::Append { .. } | Body::Heartbeat { .. } => self.handle_leader(from, term, body),
            _ if self.is_member(from) || self.leader == Some(from) => {
                self.handle_in_term(from, term, body);
            }
            // Removed, and still sent what tells it so: it can move its own progress only.
            _ if term == self.term && self.is_leaving(from) => {
                self.handle_in_term(from, term, body);
            }
            // A stranger that is not the leader answers a question asked of another replica: an
            // earlier admission of its node, or a member that was removed since (RULE 3).
            _ => {}
        }
    }

    /// Time passed; does nothing before [`Kernel::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Monotonic) {
        self.advance_clock(now);
        if self.has_ended() {
            return;
        }
        if self.role == Role::Leader {
            self.handle_leader_timeout();
            return;
        }
        self.expire_asked_reads();
        if self.election.deadline <= self.now {
            self.handle_election_timeout();
        }
    }

    /// When `handle_timeout` wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Monotonic {
        match &self.leading {
            Some(leading) => self.leader_deadline(leading),
            None if self.has_ended() => Monotonic(u64::MAX),
            None => {
                let reads = self.reads.deadline().unwrap_or(Monotonic(u64::MAX));
                self.election.deadline.min(reads)
            }
        }
    }

    /// Appends the draft's entries to the log of a leader; gives the id of the first.
    ///
    /// # Errors
    /// [`ProposeError`], with the draft unharmed: it did not happen.
    ///
    /// # Panics
    /// If the draft is empty or holds a membership.
    pub fn propose(
        &mut self,
        now: Monotonic,
        draft: RunDraft,
    ) -> Result<LogId, (ProposeError, RunDraft)> {
        self.advance_clock(now);
        self.accept_proposal(draft)
    }

    /// Begins a linearizable read; its outcome comes as a [`ReadOutcome`](crate::ReadOutcome) with
    /// the same context. Works on leaders (one round for all reads begun since the last
    /// `take_ready`) and on followers and learners (which ask the leader).
    ///
    /// # Errors
    /// [`ReadIndexError`]; nothing was begun.
    pub fn read(&mut self, now: Monotonic) -> Result<u64, ReadIndexError> {
        self.advance_clock(now);
        self.begin_read()
    }

    /// Hands leadership to the voter `to`. Proposals are refused until the transfer ends, one way
    /// or the other.
    ///
    /// # Errors
    /// [`TransferError`]; nothing was begun.
    pub fn transfer_leader(&mut self, now: Monotonic, to: ReplicaId) -> Result<(), TransferError> {
        self.advance_clock(now);
        self.begin_transfer(to)
    }

    /// Changes the voters and learners to those of `target` in one step, whatever they are, provided
    /// that `expected` is the membership in force. Voters change by joint consensus (Raft paper,
    /// section 6; thesis 4.3), which the leader, or the next one, leaves by itself. Gives the id of
    /// the first entry of the change; it is complete once [`Kernel::is_changing`] is false again, and
    /// may be lost like any proposal if this replica ceases to lead. A leader that is no voter in
    /// `target` leads until the change is committed, and then hands over.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was begun.
    pub fn change_membership(
        &mut self,
        now: Monotonic,
        expected: &Membership,
        target: &Membership,
    ) -> Result<LogId, ChangeError> {
        self.advance_clock(now);
        self.begin_change(expected, target)
    }

    /// The write of this number, and so every one before it, is durable.
    ///
    /// # Panics
    /// If there was no such write.
    pub fn handle_persisted(&mut self, number: WriteNumber) {
        assert!(number <= self.write_last, "{number:?} was never asked for");
        let vouches_for_all = self.breaks(Mutant::OlderWriteVouches);
        self.log.handle_persisted(if vouches_for_all { self.write_last } else { number });
        if self.hard_state_write.is_some_and(|newest| newest <= number) {
            self.hard_state_write = None;
            self.count_own_vote();
        }
        self.advance_commit();
    }

    /// The state machine has applied everything up to and with `index`.
    ///
    /// # Panics
    /// If `index` was not handed out as committed.
    pub fn handle_applied(&mut self, index: Index) {
        self.apply.handle_applied(index);
    }

    /// Runs read back for a [`Fetch`]: a head of its range, contiguous. For [`Reader::Follower`] none
    /// at all means that the range is gone: the follower gets a snapshot.
    ///
    /// # Panics
    /// If there was no such fetch, or the runs for [`Reader::Apply`] are none or not those asked for.
    pub fn handle_fetched(&mut self, reader: Reader, runs: Vec<Run>) {
        let position = self.fetching.iter().position(|waiting| *waiting == reader);
        self.fetching.swap_remove(position.expect("answers follow fetches"));
        match reader {
            Reader::Apply => self.handle_fetched_apply(runs),
            Reader::Follower(replica) => self.handle_fetched_follower(replica, runs),
        }
    }

    /// The current role, term and leader.
    #[must_use]
    pub fn role(&self) -> RoleState {
        RoleState {
            role: self.role,
            term: self.term,
            leader: self.leader_address(),
            serving: self.is_serving(),
        }
    }

    /// Commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// Term of the entry at `index`, the base included; `None` below it and beyond the end.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// Last entry of the log.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// Membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// True while the membership in force is joint or not known to be committed.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.log.membership().is_joint() || self.log.membership_at() > self.commit
    }

    /// An append or a heartbeat, which only a leader of `term` sends.
    fn handle_leader(&mut self, from: ReplicaId, term: Term, body: Body) {
        if let Body::Append { previous, runs, .. } = &body
            && !is_well_formed(term, *previous, runs)
        {
            return;
        }
        if term < self.term {
            // A leader that was cut off learns the newer term, and a replica whose term ran ahead
            // gets a new election that takes it along, instead of being deaf forever.
            self.send(SendAfter::HardState, from, Body::HeartbeatReply { round: 0 });
            return;
        }
        if term > self.term {
            self.become_follower(term, Some(from));
        }
        // Two leaders of one term: a replica voted twice, against which nothing here helps. The
        // first leader is kept.
        if self.leader.is_some_and(|leader| leader != from) {
            return;
        }
        self.hear_leader(from);
        match body {
            Body::Append { previous, runs, commit } => {
                self.handle_append(from, previous, runs, commit);
            }
            Body::Heartbeat { commit, round } => self.handle_heartbeat(from, commit, round),
            _ => unreachable!("only appends and heartbeats come here"),
        }
    }

    /// Handles messages that count in the own term only; those of older terms are dropped.
    fn handle_in_term(&mut self, from: ReplicaId, term: Term, body: Body) {
        if term > self.term {
            self.become_follower(term, None);
        }
        if term < self.term {
            return;
        }
        self.hear_follower(from);
        match body {
            Body::VoteReply { granted, .. } => self.handle_vote_reply(from, granted),
            Body::Accepted { matched } => self.handle_accepted(from, matched),
            Body::Rejected { previous, hint } => self.handle_rejected(from, previous, hint),
            Body::HeartbeatReply { round } => self.handle_heartbeat_reply(from, round),
            Body::ReadIndex { context } => self.handle_read_index(from, context),
            Body::ReadIndexReply { context, index } => self.handle_read_index_reply(context, index),
            Body::TimeoutNow => self.handle_timeout_now(from),
            Body::VoteRequest { .. } | Body::Append { .. } | Body::Heartbeat { .. } => {
                unreachable!("dispatched before")
            }
        }
    }

    /// Whether an honest replica can have reached `term`.
    pub(crate) fn is_credible(&self, term: Term) -> bool {
        term <= TERM_MAX && term.0.saturating_sub(self.term.0) <= TERM_JUMP_MAX
    }

    /// True in a simulation that wants to see this rule broken.
    #[inline]
    pub(crate) fn breaks(&self, mutant: Mutant) -> bool {
        self.config.mutation.is(mutant)
    }

    pub(crate) fn advance_clock(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
    }

    pub(crate) fn is_member(&self, replica: ReplicaId) -> bool {
        self.log.membership().node_of(replica).is_some()
    }

    pub(crate) fn is_hard_state_durable(&self) -> bool {
        !self.hard_state_is_dirty && self.hard_state_write.is_none()
    }

    /// True if this replica leads and an entry of its term is committed.
    pub(crate) fn is_serving(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| self.commit >= leading.term_start)
    }

    pub(crate) fn send(&mut self, after: SendAfter, to: ReplicaId, body: Body) {
        self.send_in(self.term, after, to, body);
    }

    /// Sends with a term that is not the own one, as pre-votes need. Nothing is sent to a replica
    /// whose node is unknown; it will ask again.
    pub(crate) fn send_in(&mut self, term: Term, after: SendAfter, to: ReplicaId, body: Body) {
        if let Some(node) = self.node_of(to) {
            let from = self.config.replica;
            self.outbox.push(after, node, Message { from, to, term, body });
        }
    }

    /// Asks for runs, unless the reader waits already.
    pub(crate) fn fetch(&mut self, fetch: Fetch) {
        if !self.fetching.contains(&fetch.reader) {
            self.fetching.push(fetch.reader);
            self.fetches.push(fetch);
        }
    }
}
