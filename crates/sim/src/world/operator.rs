//! The operator: it stands for the engine's meta shard and balancer. It makes shards, moves
//! leaders, changes members step by step, and destroys replicas on proof (RULES 15 and 16).
//!
//! It decides by committed memberships alone. Each check of a shard finds the next step towards its
//! goal from what is committed now, so a lost step is simply retried.

use std::collections::{BTreeMap, BTreeSet};

use quorate_host::{Event, Ticket};
use quorate_raft::{ChangeError, Committed, EntryKind, Member, Membership, Role};
use quorate_types::{Index, LogId, Mutant, ReplicaId, ShardId};

use super::World;
use super::clients::Caller;
use super::log_disk::{DiskTurn, LogUnit, ReplicaEnd};
use super::node::{node_id, number_of};
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use crate::observation::Observation;

/// Time between two checks of the shards.
const LOOK: u64 = 400 * MILLI;
/// The operator gives up a goal that is not reached in this time.
const PATIENCE: u64 = 15 * SECOND;
/// Shards made while the world runs.
const SHARDS_ADDED_MAX: u64 = 3;

/// A change of members that a shard should reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// A new replica becomes a voter, and an old one leaves.
    Replace(ReplicaId, Member),
    /// A new replica becomes a voter.
    Add(Member),
    /// A new replica becomes a learner.
    Learn(Member),
    /// A replica leaves.
    Remove(ReplicaId),
}

/// What the operator knows and wants of a shard.
struct Plan {
    /// The membership with which each of its logs begins.
    first: Membership,
    /// The newest membership known to be committed, even a joint one, and its index.
    in_force: (Index, Membership),
    /// All replicas that were in a committed membership.
    admitted: BTreeSet<ReplicaId>,
    /// How many voters the shard should have.
    wanted: usize,
    replicas_last: ReplicaId,
    /// Members that ended by damage (RULE 5) and must be replaced.
    ended: BTreeSet<ReplicaId>,
    goal: Option<(Goal, u64)>,
    /// Replicas that are to be made, each until it is there: a crash may lose its birth, or its node be
    /// down.
    births: BTreeMap<ReplicaId, usize>,
    /// The index of the newest settled membership that was shown.
    shown: Index,
}

/// The operator's state: one plan per shard.
#[derive(Default)]
pub(crate) struct Operator {
    plans: BTreeMap<ShardId, Plan>,
    shards_added: u64,
}

impl Operator {
    pub(crate) fn add_shard(&mut self, shard: ShardId, first: Membership) {
        let newest = first.members().map(|member| member.replica).max().expect("no empty group");
        let plan = Plan {
            in_force: (Index(1), first.clone()),
            admitted: first.members().map(|member| member.replica).collect(),
            wanted: first.voters.len(),
            replicas_last: newest,
            ended: BTreeSet::new(),
            goal: None,
            births: BTreeMap::new(),
            shown: Index(1),
            first,
        };
        self.plans.insert(shard, plan);
    }

    pub(crate) fn first_membership(&self, shard: ShardId) -> &Membership {
        &self.plans[&shard].first
    }

    pub(crate) fn note_ended(&mut self, shard: ShardId, replica: ReplicaId) {
        self.plans.get_mut(&shard).expect("a shard that exists").ended.insert(replica);
    }

    /// Whether a replica is about to be made at a node.
    pub(crate) fn expects_birth_at(&self, node: usize) -> bool {
        self.plans.values().any(|plan| plan.births.values().any(|at| *at == node))
    }

    /// The newest membership known to be committed.
    pub(crate) fn in_force(&self, shard: ShardId) -> &Membership {
        &self.plans[&shard].in_force.1
    }

    /// Whether the shard survives damage to one more replica: no change is under way, and no
    /// other member is missing.
    pub(crate) fn may_damage(&self, shard: ShardId) -> bool {
        let plan = &self.plans[&shard];
        let members = &plan.in_force.1;
        let intact = |member: &Member| !plan.ended.contains(&member.replica);
        plan.goal.is_none()
            && plan.births.is_empty()
            && !members.is_joint()
            && members.voters.len() >= 3
            && members.learners.is_empty()
            && members.voters.iter().all(intact)
    }
}

impl Plan {
    fn new_member(&mut self, node: usize) -> Member {
        self.replicas_last = ReplicaId(self.replicas_last.0 + 1);
        Member { replica: self.replicas_last, node: node_id(node) }
    }

    /// The next step towards the goal; `None` if it is reached.
    fn step(&self, goal: Goal) -> Option<Membership> {
        let now = &self.in_force.1;
        let without = |list: &[Member], replica| -> Vec<Member> {
            list.iter().copied().filter(|member| member.replica != replica).collect()
        };
        let (voters, learners) = (&now.voters, &now.learners);
        let knows = |member: &Member| now.members().any(|known| known == *member);
        let target = |voters: Vec<Member>, learners: Vec<Member>| {
            let mut target = Membership { voters, outgoing: Vec::new(), learners };
            target.voters.sort();
            target.learners.sort();
            Some(target)
        };
        match goal {
            Goal::Replace(_, new) | Goal::Add(new) | Goal::Learn(new) if !knows(&new) => {
                target(voters.clone(), learners.iter().copied().chain([new]).collect())
            }
            Goal::Replace(old, new) if !voters.contains(&new) => {
                let voters = without(voters, old).into_iter().chain([new]).collect();
                target(voters, without(learners, new.replica))
            }
            Goal::Add(new) if !voters.contains(&new) => {
                let voters = voters.iter().copied().chain([new]).collect();
                target(voters, without(learners, new.replica))
            }
            Goal::Remove(old) if now.members().any(|member| member.replica == old) => {
                target(without(voters, old), without(learners, old))
            }
            _ => None,
        }
    }
}

impl World {
    /// Checks every shard.
    pub(crate) fn operate(&mut self) {
        self.schedule.at(self.now + LOOK, Happening::Operator);
        if !self.is_healed
            && self.operator.shards_added < SHARDS_ADDED_MAX
            && self.random.chance(15)
        {
            self.operator.shards_added += 1;
            self.create_shard(ShardId(self.shards.len() as u64 + 1));
        }
        for shard in self.shards.clone() {
            self.destroy_removed(shard);
            self.look_at_births(shard);
            // Also in the middle of a change.
            if !self.is_healed && self.random.chance(10) {
                self.transfer(shard);
            }
            self.look_at(shard);
        }
    }

    /// Makes a replica, and has it made again until it is there.
    pub(crate) fn order_birth(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        plan.births.insert(replica, node);
        self.create_replica(node, shard, replica);
    }

    /// Orders again what a crash has lost. A replica that was there once is never made again.
    fn look_at_births(&mut self, shard: ShardId) {
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        let nodes = &self.nodes;
        let is_over = |replica: &ReplicaId, node: &mut usize| {
            let disk = &nodes[*node].disk;
            let found = disk.replica(shard).map(|log| log.replica).max(disk.tombstone(shard));
            found.is_some_and(|found| found >= *replica)
        };
        plan.births.retain(|replica, node| !is_over(replica, node));
        let is_due = |(_, node): &(&ReplicaId, &usize)| {
            nodes[**node].disk.births().all(|(of, _)| of != shard)
        };
        let due = plan.births.iter().filter(is_due).map(|(replica, node)| (*replica, *node));
        for (replica, node) in due.collect::<Vec<_>>() {
            self.create_replica(node, shard, replica);
        }
    }

    /// Destroys removed replicas once a committed membership proves that they never come back.
    fn destroy_removed(&mut self, shard: ShardId) {
        let plan = &self.operator.plans[&shard];
        let members = &plan.in_force.1;
        if members.is_joint() {
            return;
        }
        let newest = match self.breaks(Mutant::DestroyedWithoutProof) {
            false => plan.admitted.last().copied().expect("no empty group"),
            true => ReplicaId(u64::MAX),
        };
        let doomed: Vec<usize> = (0..self.nodes.len())
            .filter(|node| {
                let node = &self.nodes[*node];
                // A replica not admitted before a newer one was admitted never will be.
                let is_gone = |found| members.node_of(found).is_none() && found <= newest;
                node.process.as_ref().is_some_and(|process| {
                    process.replicas.get(&shard).is_some_and(|live| {
                        is_gone(live.replica) && !process.doomed.contains(&(shard, live.replica))
                    })
                })
            })
            .collect();
        for node in doomed {
            let replica = self.replica_of(node, shard).expect("it was found there");
            self.destroy(node, shard, replica);
        }
    }

    /// Has a replica given up by its worker. Sometimes its end overtakes that in the log: what the
    /// worker still writes for it is then skipped. That is sound for a replica which is proven to be
    /// no member any more: nobody counts on what it says.
    fn destroy(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        let life = self.nodes[node].life;
        let mut after = 0;
        if self.random.chance(500) {
            let ends = vec![ReplicaEnd { shard, replica }];
            self.submit(node, DiskTurn::Unit(LogUnit { ends, ..LogUnit::default() }));
            after = self.random.below(200 * MILLI);
        }
        let process = self.nodes[node].process.as_mut().expect("it runs");
        process.doomed.insert((shard, replica));
        let end = Happening::Destroy { node, life, shard, replica };
        self.schedule.at(self.now + after, end);
        // A late order to make it again meets the tombstone (RULE 3).
        if self.random.chance(200) {
            let at = self.now + self.random.below(500 * MILLI);
            self.schedule.at(at, Happening::Birth { node, shard, replica });
        }
    }

    fn look_at(&mut self, shard: ShardId) {
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        if let Some((goal, since)) = plan.goal {
            let step = plan.step(goal);
            let settled = !plan.in_force.1.is_joint();
            let is_over = (step.is_none() && settled) || self.now > since + PATIENCE;
            if is_over {
                plan.goal = None;
            } else if let Some(target) = step.filter(|_| settled) {
                self.ask_for_change(shard, target);
            }
            return;
        }
        if plan.in_force.1.is_joint() {
            return;
        }
        let goal = self.repair(shard).or_else(|| self.choose(shard));
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        if let Some(goal) = goal {
            plan.goal = Some((goal, self.now));
            // A learner left by an earlier goal exists already.
            if let Goal::Replace(_, new) | Goal::Add(new) | Goal::Learn(new) = goal
                && plan.in_force.1.node_of(new.replica).is_none()
            {
                self.order_birth(number_of(new.node), shard, new.replica);
            }
        } else if !self.is_healed && self.random.chance(40) {
            self.transfer(shard);
        }
    }

    /// A random running node without a replica of the shard.
    fn free_node(&mut self, shard: ShardId) -> Option<usize> {
        let members = self.operator.in_force(shard);
        let is_free = |node: &usize| {
            let found = &self.nodes[*node];
            found.process.as_ref().is_some_and(|process| !process.replicas.contains_key(&shard))
                && found.disk.replica(shard).is_none()
                // What is made there now would be one more to be lost.
                && !found.disk.is_wal_damaged()
                && self.operator.plans[&shard].births.values().all(|at| at != node)
                && members.members().all(|member| member.node != found.id)
        };
        let free: Vec<usize> = (0..self.nodes.len()).filter(is_free).collect();
        (!free.is_empty()).then(|| free[self.random.place(free.len())])
    }

    /// The goal that a shard needs: to replace an ended member, add a voter, remove a learner.
    fn repair(&mut self, shard: ShardId) -> Option<Goal> {
        let free = self.free_node(shard);
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        let members = plan.in_force.1.clone();
        let ended = members.members().find(|member| plan.ended.contains(&member.replica));
        if let Some(ended) = ended {
            let votes = members.is_voter(ended.replica);
            return match free {
                Some(node) if votes => Some(Goal::Replace(ended.replica, plan.new_member(node))),
                // A node hosts one replica of a group: if none is free, the old one leaves first.
                _ => Some(Goal::Remove(ended.replica)),
            };
        }
        // A learner that an earlier goal left behind.
        if let Some(learner) = members.learners.first() {
            if members.voters.len() < plan.wanted {
                return Some(Goal::Add(*learner));
            }
            return Some(Goal::Remove(learner.replica)).filter(|_| self.random.chance(100));
        }
        (members.voters.len() < plan.wanted)
            .then(|| free.map(|node| Goal::Add(plan.new_member(node))))
            .flatten()
    }

    fn choose(&mut self, shard: ShardId) -> Option<Goal> {
        if self.is_healed || !self.profile.changes_members || !self.random.chance(30) {
            return None;
        }
        let free = self.free_node(shard);
        let kind = self.random.below(4);
        let voters = self.operator.in_force(shard).voters.clone();
        let victim = voters[self.random.place(voters.len())].replica;
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        match (kind, free) {
            (0, Some(node)) => Some(Goal::Learn(plan.new_member(node))),
            (1, Some(node)) if voters.len() < 5 => Some(Goal::Add(plan.new_member(node))),
            (2, _) if voters.len() > plan.wanted.max(3) => Some(Goal::Remove(victim)),
            (_, Some(node)) => Some(Goal::Replace(victim, plan.new_member(node))),
            _ => None,
        }
    }

    /// The node that leads the shard in the highest term known.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<usize> {
        let leads = |node: &usize| {
            let process = self.nodes[*node].process.as_ref()?;
            let view = process.host.view(shard)?;
            (view.role.role == Role::Leader).then_some((view.role.term, *node))
        };
        (0..self.nodes.len()).filter_map(|node| leads(&node)).max().map(|(_, node)| node)
    }

    fn operator_ticket(&mut self, node: usize) -> Ticket {
        self.tickets_last += 1;
        let ticket = Ticket(self.tickets_last);
        let process = self.nodes[node].process.as_mut().expect("it leads");
        process.callers.insert(ticket, Caller::Operator);
        ticket
    }

    fn ask_for_change(&mut self, shard: ShardId, target: Membership) {
        let Some(node) = self.leader_of(shard) else { return };
        if self.now < self.nodes[node].worker_stands_until() {
            return;
        }
        let expected = self.operator.in_force(shard).clone();
        self.tickets_last += 1;
        let ticket = Ticket(self.tickets_last);
        self.asked_changes.insert(ticket, (shard, target.clone()));
        self.tell(node, Event::ChangeMembership { shard, ticket, expected, target });
        self.step(node);
    }

    /// A leader accepted or refused a change.
    pub(crate) fn handle_change_answer(
        &mut self,
        ticket: Ticket,
        result: &Result<LogId, ChangeError>,
    ) {
        let Some((shard, target)) = self.asked_changes.remove(&ticket) else { return };
        if result.is_ok() {
            self.observe(Observation::ChangeBegun { shard, target: &target });
        }
    }

    fn transfer(&mut self, shard: ShardId) {
        let Some(node) = self.leader_of(shard) else { return };
        let voters = &self.operator.in_force(shard).voters;
        let to = voters[self.random.place(voters.len())].node;
        let from = self.nodes[node].id;
        if to == from || self.now < self.nodes[node].worker_stands_until() {
            return;
        }
        let ticket = self.operator_ticket(node);
        self.observe(Observation::TransferBegun { shard, from, to });
        self.tell(node, Event::TransferLeader { shard, ticket, to });
        self.step(node);
    }

    /// Notes the memberships among entries just applied, which are committed.
    pub(crate) fn note_memberships(&mut self, shard: ShardId, committed: &Committed) {
        for run in committed.runs.iter().filter(|run| run.has_membership()) {
            for entry in run.entries().filter(|entry| entry.kind == EntryKind::Membership) {
                let membership = Membership::decode(entry.payload).expect("sound, as it is logged");
                self.note_membership(shard, entry.id.index, membership);
            }
        }
    }

    fn note_membership(&mut self, shard: ShardId, index: Index, membership: Membership) {
        let plan = self.operator.plans.get_mut(&shard).expect("a shard that exists");
        if index <= plan.in_force.0 {
            return;
        }
        plan.admitted.extend(membership.members().map(|member| member.replica));
        let is_news = !membership.is_joint() && index > plan.shown;
        plan.in_force = (index, membership);
        if is_news {
            plan.shown = index;
            let membership = &plan.in_force.1.clone();
            self.observe(Observation::ChangeDone { shard, membership });
        }
    }
}
