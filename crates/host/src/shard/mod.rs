//! One shard of a host: its kernel, and the callers that wait for it.

use std::collections::{BTreeMap, VecDeque};

use quorate_machine::{Envelope, SessionStamp};
use quorate_raft::{
    Committed, EntryKind, Kernel, Message, ProposeError, ReadIndexError, Role, RunDraft,
};
use quorate_types::{
    Index, LogId, Monotonic, Mutant, Mutation, NodeId, ReplicaId, ShardId, WallMillis, WriteNumber,
    limits, mix,
};

use crate::turn::{Answer, HostRefusal, Ticket, Turn};

mod held;
mod liveness;

use held::HeldMessages;
pub(crate) use liveness::{LeaderLiveness, ShardLiveness};

/// Entries that this node proposed together and that wait to be committed.
struct Pending {
    first: LogId,
    tickets: Vec<Ticket>,
    /// How many of `tickets` have been answered, from the front.
    answered: usize,
}

impl Pending {
    fn next(&self) -> Index {
        self.first.index.plus(self.answered as u64)
    }

    fn end(&self) -> Index {
        self.first.index.plus(self.tickets.len() as u64)
    }
}

/// A command on its way into the log, and the caller that waits for it.
pub(crate) struct NewWrite<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) session: Option<SessionStamp>,
    pub(crate) command: &'a [u8],
    /// Whether the caller is told its place in the log.
    pub(crate) progress: bool,
}

/// A shard's part of the sums of its host, as last counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) cached_bytes: usize,
    pub(crate) uncommitted_bytes: usize,
    pub(crate) apply_bytes: usize,
    /// The shard is in the queue for room to apply entries.
    pub(crate) waits: bool,
}

/// A kernel with its waiting callers.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) kernel: Kernel,
    /// Its part in node liveness, where that is on.
    pub(crate) liveness: Option<Box<ShardLiveness>>,
    pub(crate) descriptor_version: u64,
    /// When the host's timer heap will look at this shard.
    pub(crate) armed: Monotonic,
    /// The shard is in the host's list for the next turn.
    pub(crate) dirty: bool,
    /// Its part of the host's sums.
    pub(crate) counted: Counted,
    applied: Index,
    /// The last index handed over to be applied.
    handed: Index,
    /// The messages that wait for a sync.
    held: HeldMessages,
    /// Number of the newest turn that holds a write of this shard; 0 before the first.
    write_turn: u64,
    draft: RunDraft,
    draft_tickets: Vec<Ticket>,
    /// Positions in `draft_tickets` of the callers that are told their place in the log.
    draft_progress: Vec<usize>,
    pending: VecDeque<Pending>,
    reads_new: Vec<Ticket>,
    reads_unconfirmed: BTreeMap<u64, Vec<Ticket>>,
    reads_unapplied: BTreeMap<Index, Vec<Ticket>>,
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        replica: ReplicaId,
        kernel: Kernel,
        descriptor_version: u64,
        applied: Index,
    ) -> Shard {
        Shard {
            id,
            replica,
            kernel,
            liveness: None,
            descriptor_version,
            armed: Monotonic(u64::MAX),
            dirty: false,
            counted: Counted::default(),
            applied,
            handed: applied,
            held: HeldMessages::default(),
            write_turn: 0,
            draft: RunDraft::new(),
            draft_tickets: Vec::new(),
            draft_progress: Vec::new(),
            pending: VecDeque::new(),
            reads_new: Vec::new(),
            reads_unconfirmed: BTreeMap::new(),
            reads_unapplied: BTreeMap::new(),
        }
    }

    /// The last entry that is applied.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Entries through `last` were handed over to be applied.
    pub(crate) fn handle_handed(&mut self, last: Index) {
        self.handed = self.handed.max(last);
    }

    /// True while the state machine has entries to apply.
    pub(crate) fn is_applying(&self) -> bool {
        self.handed > self.applied
    }

    /// The node of the leader, if known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.kernel.role().leader.map(|(_, node)| node)
    }

    /// Adds a command to the run that the next turn proposes. A full run is proposed first, if the
    /// host has room for it; true if it was.
    pub(crate) fn write(
        &mut self,
        (now, wall): (Monotonic, WallMillis),
        write: NewWrite<'_>,
        room_bytes: usize,
        turn: &mut Turn,
    ) -> bool {
        let NewWrite { ticket, session, command, progress } = write;
        let is_full = self.draft.len_bytes() + command.len() > limits::RUN_BYTES_MAX
            || self.draft.count() >= limits::RUN_ENTRIES_MAX;
        if is_full {
            self.propose(now, room_bytes, turn);
        }
        let envelope =
            Envelope { descriptor_version: self.descriptor_version, leader_time: wall, session };
        self.draft.push(EntryKind::Command, &[&envelope.encode(), command]);
        if progress {
            self.draft_progress.push(self.draft_tickets.len());
        }
        self.draft_tickets.push(ticket);
        is_full
    }

    pub(crate) fn read(&mut self, ticket: Ticket) {
        self.reads_new.push(ticket);
    }

    /// Hands the kernel what callers asked for since the last turn.
    pub(crate) fn submit(&mut self, now: Monotonic, room_bytes: usize, turn: &mut Turn) {
        self.propose(now, room_bytes, turn);
        if self.reads_new.is_empty() {
            return;
        }
        let tickets = std::mem::take(&mut self.reads_new);
        match self.kernel.read(now) {
            Ok(context) => {
                let clash = self.reads_unconfirmed.insert(context, tickets);
                assert!(clash.is_none(), "{}: read context {context} was reused", self.id);
            }
            Err(error) => {
                let refusal = match error {
                    ReadIndexError::NoLeader => HostRefusal::NotLeader { leader: None },
                    ReadIndexError::Full { .. } => HostRefusal::Busy,
                };
                turn.answers.extend(tickets.into_iter().map(|t| (t, Answer::Refused(refusal))));
            }
        }
    }

    fn propose(&mut self, now: Monotonic, room_bytes: usize, turn: &mut Turn) {
        if self.draft.is_empty() {
            return;
        }
        let draft = std::mem::take(&mut self.draft);
        let tickets = std::mem::take(&mut self.draft_tickets);
        let progress = std::mem::take(&mut self.draft_progress);
        if draft.len_bytes() > room_bytes && self.kernel.role().role == Role::Leader {
            let busy = Answer::Refused(HostRefusal::Busy);
            turn.answers.extend(tickets.into_iter().map(|ticket| (ticket, busy)));
            return;
        }
        match self.kernel.propose(now, draft) {
            Ok(first) => {
                turn.accepted.extend(progress.into_iter().map(|place| {
                    (tickets[place], LogId::new(first.term, first.index.plus(place as u64)))
                }));
                self.forget_pending_from(first.index, &mut turn.answers);
                self.pending.push_back(Pending { first, tickets, answered: 0 });
            }
            Err((error, _)) => {
                let refusal = match error {
                    ProposeError::NotLeader { leader } => {
                        HostRefusal::NotLeader { leader: leader.map(|(_, node)| node) }
                    }
                    ProposeError::Transferring { .. } | ProposeError::Full { .. } => {
                        HostRefusal::Busy
                    }
                };
                turn.answers.extend(tickets.into_iter().map(|t| (t, Answer::Refused(refusal))));
            }
        }
    }

    /// Ends the wait for proposals of an earlier leadership that this log no longer holds. Another
    /// replica may still hold them and win an election, so their outcome is unknown.
    fn forget_pending_from(&mut self, index: Index, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some(last) = self.pending.back_mut() {
            if last.end() <= index {
                return;
            }
            let keep = usize::try_from(index.since(last.first.index)).expect("fits a run");
            let keep = keep.max(last.answered);
            let lost = last.tickets.drain(keep..);
            answers.extend(lost.map(|ticket| (ticket, Answer::OutcomeUnknown)));
            if last.answered < last.tickets.len() {
                return;
            }
            self.pending.pop_back();
        }
    }

    /// Takes the tickets of the entries in `committed`. A ticket whose place went to an entry of
    /// another term is answered: term and index together name an entry, an index alone does not.
    pub(crate) fn take_tickets(
        &mut self,
        committed: &Committed,
        answers: &mut Vec<(Ticket, Answer)>,
        mutation: Mutation,
    ) -> Vec<(Index, Ticket)> {
        let mutated = mutation.is(Mutant::CallerByIndex);
        let mut taken = Vec::new();
        for run in &committed.runs {
            while let Some(front) = self.pending.front_mut() {
                let index = front.next();
                if index >= run.range().end {
                    break;
                }
                let ticket = front.tickets[front.answered];
                if (front.first.term == run.term() || mutated) && index >= run.first() {
                    taken.push((index, ticket));
                } else if index >= committed.range.start {
                    answers.push((ticket, Answer::Overwritten));
                } else {
                    // Its place was committed, and this replica did not see with which entry.
                    answers.push((ticket, Answer::OutcomeUnknown));
                }
                front.answered += 1;
                if front.answered == front.tickets.len() {
                    self.pending.pop_front();
                }
            }
        }
        taken
    }

    /// A confirmed read waits until its index is applied; an unconfirmed one ends.
    pub(crate) fn end_read(
        &mut self,
        context: u64,
        index: Option<Index>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let Some(tickets) = self.reads_unconfirmed.remove(&context) else {
            return;
        };
        match index {
            Some(index) if index > self.applied => {
                self.reads_unapplied.entry(index).or_default().extend(tickets);
            }
            Some(index) => {
                answers.extend(tickets.into_iter().map(|t| (t, Answer::ReadAt(index))));
            }
            None => {
                let answer = Answer::NotConfirmed { leader: self.leader() };
                answers.extend(tickets.into_iter().map(|t| (t, answer)));
            }
        }
    }

    pub(crate) fn handle_applied(&mut self, index: Index, answers: &mut Vec<(Ticket, Answer)>) {
        // What was handed out before a snapshot came may be reported after it.
        if index < self.applied {
            return;
        }
        self.applied = index;
        self.kernel.handle_applied(index);
        self.release_reads(answers);
    }

    fn release_reads(&mut self, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some(entry) = self.reads_unapplied.first_entry() {
            if *entry.key() > self.applied {
                return;
            }
            let (at, tickets) = entry.remove_entry();
            answers.extend(tickets.into_iter().map(|t| (t, Answer::ReadAt(at))));
        }
    }

    /// From now on the log begins after `base`. Callers that waited for entries up to there are
    /// answered: whether the base holds their entries is not known here. Readers wait until the
    /// state is in force, which is reported as applied.
    pub(crate) fn reset_after_snapshot(
        &mut self,
        base: Index,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        while let Some(front) = self.pending.front_mut() {
            while front.answered < front.tickets.len() && front.next() <= base {
                answers.push((front.tickets[front.answered], Answer::OutcomeUnknown));
                front.answered += 1;
            }
            if front.answered < front.tickets.len() {
                break;
            }
            self.pending.pop_front();
        }
    }

    /// The replica is given up: every caller is answered.
    pub(crate) fn end(&mut self, answers: &mut Vec<(Ticket, Answer)>) {
        let drafted = std::mem::take(&mut self.draft_tickets);
        let refusal = Answer::Refused(HostRefusal::NoReplica);
        answers.extend(drafted.into_iter().map(|ticket| (ticket, refusal)));
        self.give_up(Answer::OutcomeUnknown, answers);
        let unconfirmed = std::mem::take(&mut self.reads_unconfirmed).into_values();
        let unapplied = std::mem::take(&mut self.reads_unapplied).into_values();
        let new = std::mem::take(&mut self.reads_new);
        for ticket in unconfirmed.chain(unapplied).flatten().chain(new) {
            answers.push((ticket, Answer::NotConfirmed { leader: None }));
        }
    }

    /// Gives `answer` to every caller that waits for an entry.
    pub(crate) fn give_up(&mut self, answer: Answer, answers: &mut Vec<(Ticket, Answer)>) {
        for pending in std::mem::take(&mut self.pending) {
            let open = pending.tickets.into_iter().skip(pending.answered);
            answers.extend(open.map(|ticket| (ticket, answer)));
        }
    }

    /// The number of callers that wait here.
    pub(crate) fn waiting(&self) -> usize {
        let pending = self.pending.iter().map(|pending| pending.tickets.len() - pending.answered);
        let reads = self.reads_unconfirmed.values().chain(self.reads_unapplied.values());
        pending.sum::<usize>() + reads.map(Vec::len).sum::<usize>()
    }

    /// The turn of this number holds a write of this shard.
    pub(crate) fn handle_write_taken(&mut self, turn: u64) {
        self.write_turn = turn;
    }

    pub(crate) fn handle_persisted(&mut self, number: WriteNumber) {
        self.kernel.handle_persisted(number);
    }

    /// Holds a message until the newest write of this shard is durable, or gives it back if the
    /// shard has no write under way. `oldest_turn` is the oldest turn whose write is under way.
    pub(crate) fn hold(
        &mut self,
        oldest_turn: u64,
        node: NodeId,
        message: Message,
    ) -> Result<(), Message> {
        if self.write_turn < oldest_turn {
            return Err(message);
        }
        self.held.push(self.write_turn, node, message);
        Ok(())
    }

    /// The messages that waited for the writes through `turn`, in order.
    pub(crate) fn release_held(&mut self, turn: u64) -> impl Iterator<Item = (NodeId, Message)> {
        self.held.release(turn)
    }

    /// Messages that wait for a sync.
    pub(crate) fn held_messages(&self) -> usize {
        self.held.len()
    }

    /// The liveness state of a leader, if node liveness is on.
    pub(crate) fn leading(&mut self) -> Option<&mut LeaderLiveness> {
        self.liveness.as_mut()?.leading.as_mut()
    }

    /// How many other voters are to campaign before this one when the leader at `lost` is lost. The
    /// order differs by shard, so that the shards of one node are spread over the nodes that are
    /// left.
    pub(crate) fn rank(&self, lost: NodeId) -> u32 {
        let place = |replica: ReplicaId| mix(self.id.0 ^ mix(replica.0));
        let voters = self.kernel.membership().voters.iter().filter(|voter| voter.node != lost);
        let before = voters.filter(|voter| place(voter.replica) < place(self.replica)).count();
        u32::try_from(before).expect("groups are small")
    }
}
