//! Linearizable reads by ReadIndex (thesis 6.4).
//!
//! A leader gathers the reads begun since the last `Ready`, notes its commit index, and confirms by
//! one round of heartbeats that nobody else led when the round began. Rounds and contexts only grow
//! for the life of a kernel: an answer that comes late is an answer to an old question.

use std::collections::VecDeque;

use quorate_types::{Index, Monotonic, Mutant, ReplicaId};

use crate::errors::ReadIndexError;
use crate::kernel::Kernel;
use crate::message::Body;
use crate::outbox::SendAfter;
use crate::quorum;
use crate::ready::{ReadOutcome, Role};

/// The asker that waits for a read index.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Local { context: u64 },
    Remote { from: ReplicaId, context: u64 },
}

/// Reads that share one round of heartbeats.
struct Round {
    number: u64,
    index: Index,
    askers: Vec<Asker>,
}

/// Every read that has not ended, and the outcomes not yet handed out.
pub(crate) struct Reads {
    next_context: u64,
    /// Newest round begun.
    pub(crate) round: u64,
    /// Askers that wait for the next round: until the next `Ready`, or for the own-term entry to
    /// commit.
    fresh: Vec<Asker>,
    /// Rounds that wait for confirmation, oldest first.
    rounds: VecDeque<Round>,
    /// Questions to the leader: context and deadline, both ascending.
    asked: VecDeque<(u64, Monotonic)>,
    ended: Vec<ReadOutcome>,
    pending: usize,
}

impl Reads {
    pub(crate) fn new(context_first: u64) -> Reads {
        Reads {
            next_context: context_first,
            round: 0,
            fresh: Vec::new(),
            rounds: VecDeque::new(),
            asked: VecDeque::new(),
            ended: Vec::new(),
            pending: 0,
        }
    }

    pub(crate) fn take_ended(&mut self) -> Vec<ReadOutcome> {
        std::mem::take(&mut self.ended)
    }

    /// When the oldest question to the leader expires.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.asked.front().map(|(_, deadline)| *deadline)
    }

    /// True if some asker waits for this leader.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.rounds.is_empty()
    }

    fn end(&mut self, context: u64, index: Option<Index>) {
        self.ended.push(ReadOutcome { context, index });
        self.pending -= 1;
    }
}

impl Kernel {
    pub(crate) fn begin_read(&mut self) -> Result<u64, ReadIndexError> {
        let pending = self.reads.pending;
        if pending >= self.config.reads_pending_max {
            return Err(ReadIndexError::Full { pending });
        }
        let leader = self.leader.ok_or(ReadIndexError::NoLeader)?;
        let context = self.reads.next_context;
        self.reads.next_context += 1;
        self.reads.pending += 1;
        if self.role == Role::Leader {
            self.reads.fresh.push(Asker::Local { context });
        } else {
            let deadline = self.now + self.config.election_timeout;
            self.reads.asked.push_back((context, deadline));
            self.send(SendAfter::Nothing, leader, Body::ReadIndex { context });
        }
        Ok(context)
    }

    pub(crate) fn handle_read_index(&mut self, from: ReplicaId, context: u64) {
        if self.role == Role::Leader && self.reads.pending < self.config.reads_pending_max {
            self.reads.pending += 1;
            self.reads.fresh.push(Asker::Remote { from, context });
        } else {
            self.send(SendAfter::HardState, from, Body::ReadIndexReply { context, index: None });
        }
    }

    pub(crate) fn handle_read_index_reply(&mut self, context: u64, index: Option<Index>) {
        let found = self.reads.asked.binary_search_by_key(&context, |(context, _)| *context);
        // Anything else expired, or was answered before.
        if let Ok(position) = found {
            self.reads.asked.remove(position);
            self.reads.end(context, index);
        }
    }

    /// Opens one round for all reads that wait for it. Before an entry of the own term is committed
    /// the commit index may lag behind what an earlier leader told its callers, so the reads keep
    /// waiting (thesis 6.4, step 1).
    pub(crate) fn begin_read_round(&mut self) {
        let may_begin = self.is_serving() || self.breaks(Mutant::ReadBeforeOwnTerm);
        if self.reads.fresh.is_empty() || !may_begin {
            return;
        }
        self.wake();
        self.reads.round += 1;
        let askers = std::mem::take(&mut self.reads.fresh);
        let round = Round { number: self.reads.round, index: self.commit, askers };
        self.reads.rounds.push_back(round);
        self.confirm_reads();
        if !self.reads.rounds.is_empty() {
            self.send_heartbeats();
        }
    }

    /// True if a read waits for the next round, which a lease would make needless.
    #[must_use]
    pub fn has_fresh_reads(&self) -> bool {
        !self.reads.fresh.is_empty()
    }

    /// Ends every read that has not begun its round, at the commit index: the host has a lease for
    /// this leader right now, so nobody else can have committed anything. Does nothing before an
    /// entry of the own term is committed.
    pub fn confirm_reads_by_lease(&mut self) {
        if self.is_serving() || self.breaks(Mutant::LeaseBeforeOwnTerm) {
            let index = self.commit;
            let fresh = std::mem::take(&mut self.reads.fresh);
            fresh.into_iter().for_each(|asker| self.end_read(asker, Some(index)));
        }
    }

    /// Ends the reads whose round a quorum has confirmed. The leader confirms for itself: it leads.
    pub(crate) fn confirm_reads(&mut self) {
        let Some(leading) = &self.leading else { return };
        if self.reads.rounds.is_empty() {
            return;
        }
        let own = self.config.replica;
        let mutated = self.breaks(Mutant::ReadByMinority);
        let confirmed = quorum::agreed(&self.log.deciding(self.config.mutation), |replica| {
            let round = leading.follower(replica).map_or(0, |f| f.round);
            if replica == own || mutated { u64::MAX } else { round }
        });
        while let Some(round) = self.reads.rounds.front()
            && round.number <= confirmed
        {
            let Round { index, askers, .. } = self.reads.rounds.pop_front().expect("looked at");
            askers.into_iter().for_each(|asker| self.end_read(asker, Some(index)));
        }
    }

    /// Ends every read that a leader had under way: it does not lead any more.
    pub(crate) fn fail_led_reads(&mut self) {
        let rounds = std::mem::take(&mut self.reads.rounds).into_iter().flat_map(|r| r.askers);
        let fresh = std::mem::take(&mut self.reads.fresh);
        for asker in rounds.chain(fresh) {
            self.end_read(asker, None);
        }
    }

    /// Ends every read that was asked of a leader: it does not lead any more, as far as is known.
    pub(crate) fn fail_asked_reads(&mut self) {
        for (context, _) in std::mem::take(&mut self.reads.asked) {
            self.reads.end(context, None);
        }
    }

    /// Ends the questions that got no answer for an election timeout.
    pub(crate) fn expire_asked_reads(&mut self) {
        while let Some((context, deadline)) = self.reads.asked.front().copied()
            && deadline <= self.now
        {
            self.reads.asked.pop_front();
            self.reads.end(context, None);
        }
    }

    fn end_read(&mut self, asker: Asker, index: Option<Index>) {
        match asker {
            Asker::Local { context } => self.reads.end(context, index),
            Asker::Remote { from, context } => {
                self.reads.pending -= 1;
                self.send(SendAfter::HardState, from, Body::ReadIndexReply { context, index });
            }
        }
    }
}
