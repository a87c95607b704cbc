//! The sum by itself, and kernels that share one.

use quorate_types::{Index, LogId, Monotonic, ReplicaId, Term};

use super::*;
use crate::{
    Body, Config, EntryKind, HardState, Member, Membership, Message, Restored, Role, Run, RunDraft,
};

const BASE: LogId = LogId::new(Term(1), Index(1));
const NEAR: NodeId = NodeId(2);
const FAR: NodeId = NodeId(3);

/// Goal: the sum of each node follows every change of every group, and its room ends at the bound. Method:
/// a table of changes, with the sums and the rooms after each.
#[test]
fn each_node_has_its_own_sum_and_room() {
    let mut windows = Windows::new(100);
    assert_eq!((windows.bytes(NEAR), windows.has_room(NEAR)), (0, true), "nothing is known of it");
    let table = [
        (NEAR, 0, 60, (60, true), (0, true)),
        (FAR, 0, 7, (60, true), (7, true)),
        (NEAR, 0, 39, (99, true), (7, true)),
        (NEAR, 39, 40, (100, false), (7, true)),
        (NEAR, 60, 90, (130, false), (7, true)),
        (FAR, 7, 101, (130, false), (101, false)),
        (NEAR, 90, 0, (40, true), (101, false)),
        (FAR, 101, 0, (40, true), (0, true)),
    ];
    for (node, before, after, near, far) in table {
        windows.change(node, before, after);
        let of = |node| (windows.bytes(node), windows.has_room(node));
        assert_eq!((of(NEAR), of(FAR)), (near, far), "{node} from {before} to {after}");
    }
}

/// A group that replica 1 leads, and the appends that are under way to each of the others.
struct Group {
    kernel: Kernel,
    now: Monotonic,
    under_way: Vec<(Member, Vec<Run>)>,
}

impl Group {
    /// Replica 1 leads, and the logs of all are known to be equal. The others live on these nodes.
    fn led(nodes: &[NodeId], windows: &mut Windows) -> Group {
        let other = |(at, node): (usize, &NodeId)| (ReplicaId(2 + at as u64), *node);
        let others = nodes.iter().enumerate().map(other);
        let own = (ReplicaId(1), NodeId(1));
        let members = [own].into_iter().chain(others);
        let restored = Restored {
            hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
            base: BASE,
            base_membership: Membership::of_voters(
                members.map(|(replica, node)| Member { replica, node }),
            ),
            terms: Vec::new(),
            memberships: Vec::new(),
            last: BASE,
            applied: BASE.index,
        };
        let kernel = Kernel::new(Config::new(ReplicaId(1), 7, 0), restored, Monotonic(0));
        let now = kernel.poll_timeout();
        let mut group = Group { kernel, now, under_way: Vec::new() };
        group.kernel.handle_timeout(now);
        for pre in [true, false] {
            group.turn(windows);
            for member in group.kernel.membership().clone().voters.into_iter().skip(1) {
                group.hear(member, Body::VoteReply { pre, granted: true, leader_alive: false });
            }
        }
        assert_eq!(group.kernel.role().role, Role::Leader);
        group.turn(windows);
        group.acknowledge(windows, |_| true);
        group
    }

    /// Takes what the kernel wants, with an instant disk.
    fn turn(&mut self, windows: &mut Windows) {
        loop {
            let ready = self.kernel.take_ready_within(windows, usize::MAX);
            if ready.is_empty() {
                return;
            }
            if let Some(write) = &ready.write {
                self.kernel.handle_persisted(write.number);
            }
            for (node, message) in ready.send_now {
                if let Body::Append { runs, .. } = message.body {
                    self.under_way.push((Member { replica: message.to, node }, runs));
                }
            }
        }
    }

    /// All is said in the term that replica 1 leads.
    fn hear(&mut self, from: Member, body: Body) {
        let message =
            Message { from: from.replica, to: ReplicaId(1), term: BASE.term.next(), body };
        self.kernel.handle_message(self.now, message);
    }

    /// The replicas of these nodes have all that was sent to them.
    fn acknowledge(&mut self, windows: &mut Windows, answers: impl Fn(NodeId) -> bool) {
        let answered: Vec<_> =
            self.under_way.extract_if(.., |(member, _)| answers(member.node)).collect();
        for (member, runs) in answered {
            let matched = runs.last().expect("it lacks something").last();
            self.hear(member, Body::Accepted { matched });
        }
        self.turn(windows);
    }

    fn propose(&mut self, windows: &mut Windows, payload_bytes: usize) {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Command, &[&vec![b'x'; payload_bytes]]);
        self.kernel.propose(self.now, draft).map_err(|(error, _)| error).expect("it leads");
        self.turn(windows);
    }

    fn bytes_to(&self, node: NodeId) -> usize {
        let there = self.under_way.iter().filter(|(member, _)| member.node == node);
        there.flat_map(|(_, runs)| runs).map(Run::len_bytes).sum()
    }

    fn appends_to(&self, node: NodeId) -> usize {
        self.under_way.iter().filter(|(member, _)| member.node == node).count()
    }

    /// What was counted is what is under way, node by node, and nothing is kept of the other nodes.
    fn assert_is_counted(&self, windows: &Windows) {
        let mut expected: Vec<_> = [NEAR, FAR].map(|node| (node, self.bytes_to(node))).to_vec();
        for (node, bytes) in &expected {
            assert_eq!(windows.bytes(*node), *bytes, "under way to {node}");
        }
        expected.retain(|(_, bytes)| *bytes > 0);
        let mut counts = self.kernel.window_counts.clone();
        counts.sort();
        assert_eq!(counts, expected);
    }
}

/// Goal: what is under way to a node is counted once, also where a group has two replicas there, and
/// counts no more once it is acknowledged, once its leader steps down, and once its replica is given up.
/// Method: a group that leads, with each append on one side of the comparison and the sum on the other.
#[test]
fn a_group_counts_what_it_has_under_way() {
    let mut windows = Windows::new(1 << 20);
    for is_given_up in [false, true] {
        let mut group = Group::led(&[NEAR, FAR, NEAR], &mut windows);
        group.assert_is_counted(&windows);
        for payload_bytes in [100, 20, 3_000] {
            group.propose(&mut windows, payload_bytes);
            assert_eq!(group.bytes_to(NEAR), 2 * group.bytes_to(FAR), "two replicas live there");
            group.assert_is_counted(&windows);
        }
        group.acknowledge(&mut windows, |node| node == FAR);
        group.assert_is_counted(&windows);
        group.propose(&mut windows, 50);
        group.assert_is_counted(&windows);
        assert!(group.bytes_to(NEAR) > group.bytes_to(FAR) && group.bytes_to(FAR) > 0);
        if is_given_up {
            group.kernel.release_windows(&mut windows);
        } else {
            group.kernel.step_down(group.now);
            group.turn(&mut windows);
        }
        group.under_way.clear();
        group.assert_is_counted(&windows);
    }
}

/// Goal: a node whose bytes have reached the bound is sent one append of each group at a time, and no
/// other node is held back by it. Method: two groups with one sum, which the first one fills for one node;
/// then that node acknowledges, first to the second group and then to the first.
#[test]
fn a_full_node_is_sent_one_append_of_each_group_at_a_time() {
    let mut windows = Windows::new(10_000);
    let mut first = Group::led(&[NEAR, FAR], &mut windows);
    let mut second = Group::led(&[NEAR, FAR], &mut windows);
    for count in [1, 2, 2] {
        first.propose(&mut windows, 6_000);
        first.acknowledge(&mut windows, |node| node == FAR);
        assert_eq!(first.appends_to(NEAR), count, "the second append reaches the bound");
    }
    for _ in 0..3 {
        second.propose(&mut windows, 100);
        assert_eq!((second.appends_to(NEAR), second.appends_to(FAR)), (1, 1));
        second.acknowledge(&mut windows, |node| node == FAR);
        assert!(!windows.has_room(NEAR) && windows.has_room(FAR));
    }
    second.acknowledge(&mut windows, |node| node == NEAR);
    second.propose(&mut windows, 100);
    assert_eq!(second.appends_to(NEAR), 1, "the next one, while the node is full");
    first.acknowledge(&mut windows, |node| node == NEAR);
    second.turn(&mut windows);
    assert_eq!(second.appends_to(NEAR), 2, "there is room again");
}
