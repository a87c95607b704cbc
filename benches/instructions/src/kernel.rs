//! The kernel: one shard's consensus, with three replicas where an operation needs three.

use quorate_raft::{Body, Config, Kernel, Member, Membership, Message, Restored};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, Term};

use crate::counted::count as count_case;
use crate::group::{Group, carry_out, restored};
use crate::{draft_of, run_of};

/// Entries of the long runs, and reads of the large round.
const MANY: usize = 64;
/// Terms in the log of the replica that starts again: one entry each.
const RESTARTED_TERMS: u64 = 1_000;
/// Membership entries in that log.
const RESTARTED_MEMBERSHIPS: u64 = 10;

pub(crate) fn count() {
    for entries in [1, MANY] {
        // Drafting is the leader's one copy of a command, so it belongs to the operation.
        let replicate = |group: &mut Group, ()| group.replicate(draft_of(entries));
        let name = format!("kernel/entry-in-run-of-{entries}");
        count_case(&name, entries, Group::with_leader(), |_| (), replicate);
    }
    count_steps();
    for entries in [1, MANY] {
        let follower = Follower::new(entries);
        let name = format!("kernel/follow-{entries}");
        count_case(&name, 1, follower, Follower::next_append, Follower::append);
    }
    count_case("kernel/heartbeat", 1, Group::with_leader(), |_| (), |group, ()| group.beat());
    for reads in [1, MANY] {
        let read = |group: &mut Group, ()| group.read(reads);
        count_case(&format!("kernel/read-{reads}"), 1, Group::with_leader(), |_| (), read);
    }
    let elect = |(): &mut (), mut group: Group| {
        group.elect();
        group
    };
    count_case("kernel/elect", 1, (), |()| Group::new(), elect);
    let restart = |(): &mut (), restored| Kernel::new(config(), restored, Monotonic(0));
    count_case("kernel/restart-1000", 1, (), |()| long_log(), restart);
}

/// The leader's two steps separately: a cost added to one of them is a small part of the whole.
fn count_steps() {
    let settled_draft = |group: &mut Group| {
        group.finish();
        draft_of(1)
    };
    let propose = |group: &mut Group, draft| group.propose(draft);
    count_case("kernel/propose", 1, Group::with_leader(), settled_draft, propose);
    let acknowledgement = |group: &mut Group| {
        group.finish();
        group.propose(draft_of(1));
        group.acknowledgement()
    };
    let accept = |group: &mut Group, message| group.accept(message);
    count_case("kernel/commit", 1, Group::with_leader(), acknowledgement, accept);
}

fn config() -> Config {
    Config::new(ReplicaId(2), 2, 0)
}

/// The second replica, which is given what the first would send.
struct Follower {
    kernel: Kernel,
    mail: Vec<(NodeId, Message)>,
    /// Entries of every run.
    entries: usize,
}

impl Follower {
    fn new(entries: usize) -> Follower {
        let kernel = Kernel::new(config(), restored(), Monotonic(0));
        Follower { kernel, mail: Vec::new(), entries }
    }

    /// An append of one run, which also says that everything before it is committed.
    fn next_append(&mut self) -> Message {
        self.mail.clear();
        let previous = self.kernel.last();
        let runs = vec![run_of(Term(1), previous.index.next(), self.entries)];
        let body = Body::Append { previous, runs, commit: previous.index };
        Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(1), body }
    }

    /// Takes in the run, syncs and acknowledges it, and hands over the previous one to be applied.
    fn append(&mut self, append: Message) {
        self.kernel.handle_message(Monotonic(0), append);
        let ready = self.kernel.take_ready();
        carry_out(&mut self.kernel, ready, &mut self.mail);
        assert!(self.mail.len() == 1, "it acknowledges");
        self.kernel.evict_below(self.kernel.commit());
    }
}

/// What the log returns at a start, for a group with many elections and some membership changes.
fn long_log() -> Restored {
    let place = |number: u64| Index(number + 1);
    let members = |number: u64| {
        let ids = [number, number + 1, number + 2];
        Membership::of_voters(ids.map(|id| Member { replica: ReplicaId(id), node: NodeId(id) }))
    };
    let step = RESTARTED_TERMS / RESTARTED_MEMBERSHIPS;
    let mut restored = restored();
    restored.terms = (1..=RESTARTED_TERMS).map(|number| (place(number), Term(number))).collect();
    restored.memberships =
        (1..=RESTARTED_MEMBERSHIPS).map(|number| (place(number * step), members(number))).collect();
    restored.last = LogId::new(Term(RESTARTED_TERMS), place(RESTARTED_TERMS));
    restored.hard_state.term = restored.last.term;
    restored.hard_state.committed = restored.last.index;
    restored
}
