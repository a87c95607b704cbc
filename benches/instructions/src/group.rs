//! A group of three kernels with instant disks and a network that loses nothing.

use std::collections::VecDeque;

use quorate_raft::{
    Config, HardState, Kernel, Member, Membership, Message, Ready, Restored, Role, RunDraft,
};
use quorate_types::{Duration, Index, LogId, Monotonic, NodeId, ReplicaId, Term};

/// Longer than any election timeout.
const ELECTION_WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Group {
    pub(crate) now: Monotonic,
    /// Only the first kernel's timeouts are handled, so it leads.
    pub(crate) kernels: Vec<Kernel>,
    mail: VecDeque<(NodeId, Message)>,
    /// The leader's requests that have not been carried out yet.
    ready: Option<Ready>,
    /// Reads that ended with an index.
    pub(crate) confirmed: usize,
}

impl Group {
    /// Three followers that have received nothing.
    pub(crate) fn new() -> Group {
        let now = Monotonic(0);
        let kernel = |id| Kernel::new(Config::new(ReplicaId(id), id, 0), restored(), now);
        let kernels = (1..=3).map(kernel).collect();
        Group { now, kernels, mail: VecDeque::with_capacity(64), ready: None, confirmed: 0 }
    }

    pub(crate) fn with_leader() -> Group {
        let mut group = Group::new();
        group.elect();
        group
    }

    /// The first kernel campaigns, wins and serves.
    pub(crate) fn elect(&mut self) {
        self.now = self.now + ELECTION_WAIT;
        self.kernels[0].handle_timeout(self.now);
        self.settle();
        assert!(self.kernels[0].role().serving, "nobody stands against it");
    }

    /// Replicates the draft, commits it everywhere, applies it and forgets its bytes.
    pub(crate) fn replicate(&mut self, draft: RunDraft) {
        self.propose(draft);
        self.finish();
    }

    /// The leader's first step of a replication.
    pub(crate) fn propose(&mut self, draft: RunDraft) {
        let proposed = self.kernels[0].propose(self.now, draft);
        proposed.map_err(|(error, _)| error).expect("the first leads");
        self.ready = Some(self.kernels[0].take_ready());
    }

    /// The steps in between: the leader's sync, and the second's, which returns its
    /// acknowledgement.
    pub(crate) fn acknowledgement(&mut self) -> Message {
        self.carry_out_own();
        let to_second = self.mail.iter().position(|(to, _)| *to == NodeId(2));
        let (_, append) = to_second.and_then(|at| self.mail.remove(at)).expect("an append");
        self.kernels[1].handle_message(self.now, append);
        let ready = self.kernels[1].take_ready();
        carry_out(&mut self.kernels[1], ready, &mut self.mail);
        self.mail.pop_back().expect("an acknowledgement").1
    }

    /// The leader's second step, by which it commits.
    pub(crate) fn accept(&mut self, acknowledgement: Message) {
        self.kernels[0].handle_message(self.now, acknowledgement);
        let ready = self.kernels[0].take_ready();
        assert!(ready.committed.is_some(), "two of three have it");
        self.ready = Some(ready);
    }

    /// The rest of a replication: commits it everywhere, applies it and forgets its bytes.
    pub(crate) fn finish(&mut self) {
        self.settle();
        let last = self.kernels[0].last().index;
        let has_all = |kernel: &Kernel| kernel.last().index == last && kernel.commit() == last;
        assert!(self.kernels.iter().all(has_all), "replicated and committed");
        self.kernels.iter_mut().for_each(|kernel| kernel.evict_below(last));
    }

    /// One interval passes, and the leader's heartbeats are answered.
    pub(crate) fn beat(&mut self) {
        self.now = self.kernels[0].poll_timeout();
        self.kernels[0].handle_timeout(self.now);
        self.settle();
        assert!(self.kernels[0].role().role == Role::Leader, "a quorum answers");
    }

    /// One round confirms reads that began together.
    pub(crate) fn read(&mut self, reads: usize) {
        let before = self.confirmed;
        for _ in 0..reads {
            self.kernels[0].read(self.now).expect("the first leads");
        }
        self.settle();
        assert!(self.confirmed == before + reads, "a quorum answers");
    }

    fn carry_out_own(&mut self) {
        if let Some(ready) = self.ready.take() {
            carry_out(&mut self.kernels[0], ready, &mut self.mail);
        }
    }

    /// Runs until no kernel has anything to do.
    fn settle(&mut self) {
        self.carry_out_own();
        // Delivers what was sent so far before anything new is sent.
        self.deliver();
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for kernel in &mut self.kernels {
                let ready = kernel.take_ready();
                is_idle &= ready.is_empty();
                self.confirmed += ready.reads.iter().filter(|read| read.index.is_some()).count();
                carry_out(kernel, ready, &mut self.mail);
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some((to, message)) = self.mail.pop_front() {
            let place = usize::try_from(to.0 - 1).expect("three nodes");
            self.kernels[place].handle_message(self.now, message);
        }
    }
}

/// The driver's part: the disk is instant, the state machine does nothing.
pub(crate) fn carry_out(
    kernel: &mut Kernel,
    ready: Ready,
    mail: &mut impl Extend<(NodeId, Message)>,
) {
    mail.extend(ready.send_now);
    if let Some(write) = ready.write {
        kernel.handle_persisted(write.number);
    }
    mail.extend(ready.send_after_sync);
    if let Some(committed) = ready.committed {
        kernel.handle_applied(committed.range.end.previous());
    }
}

pub(crate) fn members() -> Membership {
    Membership::of_voters((1..=3).map(|id| Member { replica: ReplicaId(id), node: NodeId(id) }))
}

/// A new replica, without entries.
pub(crate) fn restored() -> Restored {
    let base = LogId::new(Term(1), Index(1));
    Restored {
        hard_state: HardState { term: base.term, vote: None, committed: base.index },
        base,
        base_membership: members(),
        terms: Vec::new(),
        memberships: Vec::new(),
        last: base,
        applied: base.index,
    }
}
