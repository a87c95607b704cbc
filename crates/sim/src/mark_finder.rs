//! Finds the [`Marks`] of one world in its observations.

use std::collections::{BTreeMap, BTreeSet};

use quorate_liveness::{Control, StandingCause, StandingChange};
use quorate_raft::{Body, Membership, Message, Role, RoleState, Run, Write};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use crate::marks::{Mark, Marks};
use crate::observation::{FaultKind, InstallStep, Observation, SimTime, why};
use crate::properties::known::Known;

/// Counts the [`Marks`] that the observations of one world reach.
#[derive(Default)]
pub struct MarkFinder {
    marks: Marks,
    known: Known,
    roles: BTreeMap<(ShardId, ReplicaId), RoleState>,
    purged: BTreeSet<(ShardId, NodeId)>,
    withdrawn: BTreeSet<(NodeId, NodeId)>,
    /// Bound replica, leader and term of each query.
    queries: BTreeSet<(ShardId, ReplicaId, ReplicaId, Term)>,
    /// The leader that told another replica to campaign, and its term.
    transfers: BTreeMap<ShardId, (ReplicaId, Term)>,
    settled: BTreeMap<ShardId, Membership>,
    damaged: BTreeSet<(ShardId, ReplicaId)>,
    stalled: BTreeSet<NodeId>,
    quiesced: BTreeSet<(ShardId, ReplicaId)>,
    /// Read requests that reached a leader before it served: leader, requester, context.
    early_reads: BTreeSet<(ShardId, ReplicaId, ReplicaId, u64)>,
    /// When each follower last answered its leader's node, and what it has acknowledged there in
    /// which term.
    heard: BTreeMap<(ShardId, ReplicaId, NodeId), Heard>,
    /// Replicas whose end was lost in a crash.
    revived: BTreeSet<(ShardId, ReplicaId)>,
    now: SimTime,
}

/// What a leader's node has heard of a follower.
#[derive(Clone, Copy, Default)]
struct Heard {
    at: SimTime,
    term: Term,
    matched: Index,
}

/// A follower that was heard within this time is alive.
const ALIVE_NANOS: u64 = 1_000_000_000;

impl MarkFinder {
    /// A finder that has observed nothing yet.
    #[must_use]
    pub fn new() -> MarkFinder {
        MarkFinder::default()
    }

    /// The marks reached so far.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Takes in one observation; call it in the order of time.
    pub fn observe(&mut self, at: SimTime, observation: &Observation<'_>) {
        self.now = at;
        self.before(observation);
        let _ = self.known.observe(observation);
        self.after(observation);
    }

    fn before(&mut self, observation: &Observation<'_>) {
        match *observation {
            Observation::NodeStopped { node, why: why::CRASHED } => {
                let here = self.known.replicas.values().filter(|r| r.node == node && r.is_alive);
                if here.into_iter().any(|replica| replica.is_joint()) {
                    self.marks.reach(Mark::CrashInJoint);
                }
            }
            Observation::Role { node, shard, replica, role } => {
                self.role(node, shard, replica, role);
            }
            Observation::Delivered { to, shard, message, .. } => {
                self.hear(to, shard, message);
                self.delivered(shard, message);
            }
            Observation::Purged { node, shard, replica, base, .. } => {
                self.purges(node, shard, replica, base);
            }
            _ => {}
        }
    }

    fn after(&mut self, observation: &Observation<'_>) {
        match *observation {
            Observation::ReplicaAdded { shard, replica, restored, .. } => {
                self.settled.entry(shard).or_insert_with(|| restored.base_membership.clone());
                self.roles.remove(&(shard, replica));
                if self.known.get(shard, replica).is_some_and(|replica| replica.is_joint()) {
                    self.marks.reach(Mark::JointFoundAtRestart);
                }
            }
            Observation::ReplicaRemoved { shard, replica, why, .. } => {
                if why == why::DAMAGED {
                    self.damaged.insert((shard, replica));
                }
                if self.revived.remove(&(shard, replica)) {
                    self.marks.reach(Mark::EndedAgain);
                }
            }
            Observation::Sent { shard, message, .. } => self.sent(shard, message),
            Observation::ControlSent { shard, control, .. } => self.control_sent(shard, control),
            Observation::ControlDelivered { shard, control, .. } => {
                if let Control::Release { from, to, term } = *control
                    && self.queries.remove(&(shard, to, from, term))
                {
                    self.marks.reach(Mark::BindingEndedByAudit);
                }
            }
            Observation::Written { shard, replica, write, .. } => {
                self.written(shard, replica, write);
            }
            Observation::Durable { write, .. } if write.truncate_from.is_some() => {
                self.marks.reach(Mark::Truncation);
            }
            Observation::EndLost { shard, replica, .. } => {
                self.marks.reach(Mark::EndLost);
                self.revived.insert((shard, replica));
            }
            Observation::Installed { base, keeps_log: false, log_held_last, .. }
                if log_held_last.index >= base.index =>
            {
                self.marks.reach(Mark::SnapshotOverDivergentLog);
            }
            Observation::Purged { node, shard, .. } => {
                self.purged.insert((shard, node));
            }
            Observation::SnapshotSent { from, shard, .. }
                if self.purged.contains(&(shard, from)) =>
            {
                self.marks.reach(Mark::SnapshotBehindPurge);
            }
            Observation::Standing { node, change } => self.standing(node, change),
            Observation::Quiesced { shard, replica, is_quiesced, .. } => {
                if is_quiesced && self.quiesced.insert((shard, replica)) {
                    self.marks.reach(Mark::QuiescedShard);
                } else if !is_quiesced && self.quiesced.remove(&(shard, replica)) {
                    self.marks.reach(Mark::WokenShard);
                }
            }
            Observation::ReadServed { node, shard, by_lease } => {
                self.read_served(node, shard, by_lease);
            }
            Observation::ChangeDone { shard, membership } => self.change_done(shard, membership),
            Observation::Fault { kind: FaultKind::SyncFailed, .. } => {
                self.marks.reach(Mark::FailedSync);
            }
            Observation::Fault { kind: FaultKind::DiskStall, node: Some(node), .. } => {
                self.stalled.insert(node);
            }
            Observation::FaultEnded { kind: FaultKind::DiskStall, node: Some(node) }
            | Observation::NodeStarted { node, .. } => {
                self.stalled.remove(&node);
            }
            _ => self.plain(observation),
        }
    }

    /// Marks that one observation tells alone.
    fn plain(&mut self, observation: &Observation<'_>) {
        self.marks.reach(match observation {
            Observation::TombstoneRefused { .. } => Mark::TombstoneRefused,
            Observation::Install { step: InstallStep::Paused, .. } => Mark::InstallPaused,
            Observation::ParkedDropped { .. } => Mark::ParkedRangeDropped,
            Observation::SnapshotWaits { .. } => Mark::SnapshotQueued,
            Observation::SnapshotResumed { .. } => Mark::SnapshotResumed,
            Observation::SnapshotGivenUp { .. } => Mark::SnapshotGivenUp,
            Observation::SnapshotReplaced { .. } => Mark::SnapshotReplaced,
            Observation::WalDamageFound { .. } => Mark::WalDamageFound,
            Observation::BirthLost { .. } => Mark::BirthLost,
            Observation::PartSkipped { .. } => Mark::PartSkipped,
            Observation::LateReport { .. } => Mark::LateReport,
            _ => return,
        });
    }

    fn hear(&mut self, to: NodeId, shard: ShardId, message: &Message) {
        let at = self.now;
        let heard = self.heard.entry((shard, message.from, to)).or_default();
        if message.term > heard.term {
            (heard.term, heard.matched) = (message.term, Index(0));
        }
        if message.term == heard.term {
            heard.at = at;
            if let Body::Accepted { matched } = message.body {
                heard.matched = heard.matched.max(matched);
            }
        }
    }

    fn purges(&mut self, node: NodeId, shard: ShardId, leader: ReplicaId, base: LogId) {
        let Some(known) = self.known.get(shard, leader).filter(|k| k.role == Role::Leader) else {
            return;
        };
        let members = known.memberships.last().map(|(_, membership)| membership.members());
        let is_passed = |member: quorate_raft::Member| {
            self.heard.get(&(shard, member.replica, node)).is_some_and(|heard| {
                let is_alive = self.now.nanos_since(heard.at) < ALIVE_NANOS;
                is_alive && heard.term == known.term && heard.matched < base.index
            })
        };
        if members.into_iter().flatten().any(is_passed) {
            self.marks.reach(Mark::PurgeBeyondLiveFollower);
        }
    }

    fn role(&mut self, node: NodeId, shard: ShardId, replica: ReplicaId, role: RoleState) {
        let before = self.roles.insert((shard, replica), role);
        if role.role == Role::Leader {
            if let Some((leader, term)) = self.transfers.get(&shard).copied()
                && role.term > term
            {
                self.transfers.remove(&shard);
                if leader == replica {
                    self.marks.reach(Mark::TransferEndedByOwnElection);
                }
            }
            return;
        }
        let led = before.is_some_and(|old| old.role == Role::Leader && old.term == role.term);
        if led && role.leader.is_none() && self.stalled.contains(&node) {
            self.marks.reach(Mark::HungDiskStepDown);
        }
    }

    fn delivered(&mut self, shard: ShardId, message: &Message) {
        let role = self.roles.get(&(shard, message.to));
        match &message.body {
            Body::TimeoutNow => {
                let follows = role.is_some_and(|role| {
                    role.term == message.term
                        && role.leader.is_some_and(|(leader, _)| leader == message.from)
                });
                if !follows {
                    self.marks.reach(Mark::TimeoutNowLate);
                }
            }
            Body::Append { runs, .. } => {
                let last = runs.last().map(Run::last_id);
                let holds = |last: LogId| {
                    self.known.get(shard, message.to).is_some_and(|known| known.written.holds(last))
                };
                if last.is_some_and(holds) {
                    self.marks.reach(Mark::DuplicateAppend);
                }
            }
            Body::ReadIndex { context }
                if role.is_some_and(|role| role.role == Role::Leader && !role.serving) =>
            {
                self.early_reads.insert((shard, message.to, message.from, *context));
            }
            _ => {}
        }
    }

    fn sent(&mut self, shard: ShardId, message: &Message) {
        match message.body {
            Body::VoteReply { pre: true, granted: false, leader_alive: true } => {
                self.marks.reach(Mark::PreVoteRefusedAlive);
            }
            Body::VoteReply { pre: false, granted: true, .. } => {
                let voter = self.known.get(shard, message.from);
                let membership = voter.and_then(|voter| voter.memberships.last());
                if membership.is_some_and(|(_, membership)| !membership.is_voter(message.from)) {
                    self.marks.reach(Mark::UnawareLearnerVotes);
                }
            }
            Body::Rejected { previous, hint } if hint.term != previous.term => {
                self.marks.reach(Mark::RejectedWithOtherTerm);
            }
            Body::TimeoutNow => {
                self.transfers.insert(shard, (message.from, message.term));
            }
            Body::ReadIndexReply { context, index } => {
                let question = (shard, message.from, message.to, context);
                if self.early_reads.remove(&question) && index.is_some() {
                    self.marks.reach(Mark::ReadAfterOwnBlank);
                }
            }
            _ => {}
        }
    }

    fn control_sent(&mut self, shard: ShardId, control: &Control) {
        match *control {
            Control::Release { .. } => self.marks.reach(Mark::ReleaseSent),
            Control::Query { from, to, term } => {
                self.queries.insert((shard, from, to, term));
            }
            _ => {}
        }
    }

    fn written(&mut self, shard: ShardId, id: ReplicaId, write: &Write) {
        let Some(replica) = self.known.get(shard, id) else { return };
        let changes = write.runs.iter().any(Run::has_membership);
        let in_force = replica.memberships.last().map(|(_, membership)| membership);
        let is_left = in_force.is_some_and(|m| !m.is_joint() && !m.is_voter(id));
        if changes && is_left && replica.role == Role::Leader {
            self.marks.reach(Mark::LeaderRemovesItself);
        }
    }

    fn standing(&mut self, node: NodeId, change: &StandingChange) {
        match change.cause {
            StandingCause::Withdrawn => {
                self.withdrawn.insert((node, change.node));
                self.marks.reach(Mark::Withdrawal);
            }
            StandingCause::Given if self.withdrawn.remove(&(node, change.node)) => {
                self.marks.reach(Mark::SupportGivenAgain);
            }
            _ => {}
        }
    }

    fn read_served(&mut self, node: NodeId, shard: ShardId, by_lease: bool) {
        let here = self.known.of_shard(shard).find(|(_, replica)| replica.node == node);
        if by_lease {
            self.marks.reach(Mark::LeaseRead);
        } else if here.is_some_and(|(_, replica)| replica.role != Role::Leader) {
            self.marks.reach(Mark::ReadIndexAtFollower);
        }
    }

    fn change_done(&mut self, shard: ShardId, membership: &Membership) {
        let before = self.settled.insert(shard, membership.clone());
        let was_learner = |replica| {
            before.as_ref().is_some_and(|m| m.learners.iter().any(|l| l.replica == replica))
        };
        for _ in membership.voters.iter().filter(|voter| was_learner(voter.replica)) {
            self.marks.reach(Mark::LearnerPromoted);
        }
        let gone = |damaged: &(ShardId, ReplicaId)| {
            damaged.0 == shard && membership.node_of(damaged.1).is_none()
        };
        for damaged in self.damaged.extract_if(.., gone) {
            let _ = damaged;
            self.marks.reach(Mark::ReplacedAfterDamage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::samples::{SHARD, id, members, restored, run, write};
    use quorate_raft::Restored;

    /// Three replicas of a shard, each on a node of its number.
    fn finder() -> MarkFinder {
        let mut finder = MarkFinder::new();
        for member in 1..=3 {
            add(&mut finder, member, &restored());
        }
        finder
    }

    fn add(finder: &mut MarkFinder, member: u64, restored: &Restored) {
        let (node, replica) = (NodeId(member), ReplicaId(member));
        finder.observe(
            SimTime(0),
            &Observation::ReplicaAdded { node, shard: SHARD, replica, restored },
        );
    }

    fn role(finder: &mut MarkFinder, member: u64, role: Role, term: u64) {
        let (node, replica) = (NodeId(member), ReplicaId(member));
        let leader = (role == Role::Leader).then_some((replica, node));
        let role = RoleState { role, term: Term(term), leader, serving: false };
        finder.observe(SimTime(0), &Observation::Role { node, shard: SHARD, replica, role });
    }

    fn deliver(finder: &mut MarkFinder, from: u64, to: u64, term: u64, body: Body) {
        let message = &Message { from: ReplicaId(from), to: ReplicaId(to), term: Term(term), body };
        let (from, to) = (NodeId(from), NodeId(to));
        finder.observe(SimTime(0), &Observation::Sent { from, to, shard: SHARD, message });
        finder.observe(SimTime(0), &Observation::Delivered { from, to, shard: SHARD, message });
    }

    fn durable(finder: &mut MarkFinder, member: u64, write: &Write) {
        let (node, replica) = (NodeId(member), ReplicaId(member));
        finder.observe(SimTime(0), &Observation::Written { node, shard: SHARD, replica, write });
        finder.observe(SimTime(0), &Observation::Durable { node, shard: SHARD, replica, write });
    }

    fn reached(finder: &MarkFinder) -> Vec<Mark> {
        Mark::ALL.into_iter().filter(|mark| finder.marks().count(*mark) > 0).collect()
    }

    #[test]
    fn logs_that_are_cut_and_told_twice() {
        let mut finder = finder();
        durable(&mut finder, 1, &write(1).run(1, 2, 4).build());
        assert_eq!(reached(&finder), []);
        durable(&mut finder, 1, &write(2).cut(4).run(3, 4, 1).build());
        let body = Body::Append { previous: id(1, 1), runs: vec![run(1, 2, 2)], commit: Index(1) };
        deliver(&mut finder, 2, 1, 3, body);
        assert_eq!(reached(&finder), [Mark::Truncation, Mark::DuplicateAppend]);
    }

    #[test]
    fn a_joint_configuration_and_a_replacement() {
        let mut finder = finder();
        let joint = Membership { outgoing: members(1..=3).voters, ..members(2..=4) };
        let found = Restored { base_membership: joint, ..restored() };
        add(&mut finder, 1, &found);
        finder
            .observe(SimTime(0), &Observation::NodeStopped { node: NodeId(1), why: why::CRASHED });
        let (node, replica) = (NodeId(1), ReplicaId(1));
        let why = why::DAMAGED;
        finder
            .observe(SimTime(0), &Observation::ReplicaRemoved { node, shard: SHARD, replica, why });
        let membership = &members(2..=4);
        finder.observe(SimTime(0), &Observation::ChangeDone { shard: SHARD, membership });
        let expected = [Mark::JointFoundAtRestart, Mark::CrashInJoint, Mark::ReplacedAfterDamage];
        assert_eq!(reached(&finder), expected);
    }

    #[test]
    fn a_transfer_that_fails_and_a_disk_that_hangs() {
        let mut finder = finder();
        role(&mut finder, 1, Role::Leader, 2);
        deliver(&mut finder, 1, 2, 2, Body::TimeoutNow);
        role(&mut finder, 1, Role::Leader, 3);
        let (kind, node) = (FaultKind::DiskStall, Some(NodeId(1)));
        finder.observe(SimTime(0), &Observation::Fault { kind, node, detail: "" });
        role(&mut finder, 1, Role::Follower, 3);
        let expected =
            [Mark::TimeoutNowLate, Mark::TransferEndedByOwnElection, Mark::HungDiskStepDown];
        assert_eq!(reached(&finder), expected);
    }

    #[test]
    fn a_binding_that_the_audit_ends() {
        let mut finder = finder();
        let (shard, term) = (SHARD, Term(2));
        let (bound, leader) = (ReplicaId(2), ReplicaId(1));
        let (from, to) = (NodeId(2), NodeId(1));
        let control = &Control::Query { from: bound, to: leader, term };
        finder.observe(SimTime(0), &Observation::ControlSent { from, to, shard, control });
        let control = &Control::Release { from: leader, to: bound, term };
        finder.observe(
            SimTime(0),
            &Observation::ControlDelivered { from: to, to: from, shard, control },
        );
        finder.observe(
            SimTime(0),
            &Observation::ControlDelivered { from: to, to: from, shard, control },
        );
        assert_eq!(finder.marks().count(Mark::BindingEndedByAudit), 1);
    }
}
