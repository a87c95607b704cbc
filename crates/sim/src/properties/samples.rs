//! Building blocks for the tests of properties.

use quorate_raft::{
    Body, Committed, EntryKind, HardState, Member, Membership, Message, Restored, Role, RoleState,
    Run, RunDraft, Write,
};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term, WriteNumber};

use super::{Broken, Properties, Sight};
use crate::observation::{Observation, SimTime};

pub(crate) const SHARD: ShardId = ShardId(1);

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

/// Replica 1 on node 1, and so on.
pub(crate) fn members(ids: impl IntoIterator<Item = u64>) -> Membership {
    let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
    Membership::of_voters(ids.into_iter().map(member))
}

/// An empty log of a group of three.
pub(crate) fn restored() -> Restored {
    Restored {
        hard_state: HardState { term: Term(1), vote: None, committed: Index(1) },
        base: id(1, 1),
        base_membership: members(1..=3),
        terms: Vec::new(),
        memberships: Vec::new(),
        last: id(1, 1),
        applied: Index(1),
    }
}

/// A run of `count` commands, each of which contains its index.
pub(crate) fn run(term: u64, first: u64, count: u64) -> Run {
    let mut draft = RunDraft::new();
    for index in first..first + count {
        draft.push(EntryKind::Command, &[format!("{term}/{index}").as_bytes()]);
    }
    draft.seal(Term(term), Index(first))
}

pub(crate) struct WriteBuilder(Write);

pub(crate) fn write(number: u64) -> WriteBuilder {
    WriteBuilder(Write {
        number: WriteNumber(number),
        install: None,
        hard_state: None,
        truncate_from: None,
        runs: Vec::new(),
    })
}

impl WriteBuilder {
    pub(crate) fn vote(mut self, term: u64, vote: u64) -> WriteBuilder {
        let vote = (vote > 0).then_some(ReplicaId(vote));
        self.0.hard_state = Some(HardState { term: Term(term), vote, committed: Index(1) });
        self
    }

    pub(crate) fn cut(mut self, from: u64) -> WriteBuilder {
        self.0.truncate_from = Some(Index(from));
        self
    }

    pub(crate) fn run(mut self, term: u64, first: u64, count: u64) -> WriteBuilder {
        self.0.runs.push(run(term, first, count));
        self
    }

    pub(crate) fn with(mut self, run: Run) -> WriteBuilder {
        self.0.runs.push(run);
        self
    }

    pub(crate) fn build(self) -> Write {
        self.0
    }
}

/// Logs of the living replicas of [`SHARD`], set by a test.
#[derive(Default)]
pub(crate) struct Logs(pub(crate) Vec<(u64, LogId)>);

impl Sight for Logs {
    fn term_at(&self, node: NodeId, _: ShardId, index: Index) -> Option<Term> {
        let found = self.0.iter().find(|(n, id)| NodeId(*n) == node && id.index == index);
        found.map(|(_, id)| id.term)
    }

    fn last(&self, node: NodeId, _: ShardId) -> Option<LogId> {
        self.0.iter().filter(|(n, _)| NodeId(*n) == node).map(|(_, id)| *id).max()
    }

    fn base(&self, node: NodeId, _: ShardId) -> Option<LogId> {
        self.0.iter().filter(|(n, _)| NodeId(*n) == node).map(|(_, id)| *id).min()
    }
}

/// Properties that have seen the three replicas of [`SHARD`] begin.
pub(crate) struct Bench {
    pub(crate) properties: Properties,
    pub(crate) logs: Logs,
    pub(crate) at: SimTime,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let mut bench =
            Bench { properties: Properties::new(), logs: Logs::default(), at: SimTime(0) };
        for id in 1..=3 {
            bench.add(id, &restored()).expect("a beginning is sound");
        }
        bench
    }

    pub(crate) fn see(&mut self, observation: &Observation<'_>) -> Result<(), Broken> {
        self.properties.observe(self.at, &self.logs, observation)
    }

    pub(crate) fn add(&mut self, id: u64, restored: &Restored) -> Result<(), Broken> {
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::ReplicaAdded { node, shard: SHARD, replica, restored })
    }

    pub(crate) fn role(&mut self, id: u64, role: Role, term: u64) -> Result<(), Broken> {
        let serving = role == Role::Leader;
        let leader = serving.then_some((ReplicaId(id), NodeId(id)));
        let role = RoleState { role, term: Term(term), leader, serving };
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::Role { node, shard: SHARD, replica, role })
    }

    pub(crate) fn written(&mut self, id: u64, write: &Write) -> Result<(), Broken> {
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::Written { node, shard: SHARD, replica, write })
    }

    /// Shows a write, durable at once.
    pub(crate) fn durable(&mut self, id: u64, write: &Write) -> Result<(), Broken> {
        self.written(id, write)?;
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::Durable { node, shard: SHARD, replica, write })
    }

    pub(crate) fn commit(&mut self, id: u64, commit: u64) -> Result<(), Broken> {
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::Commit { node, shard: SHARD, replica, commit: Index(commit) })
    }

    pub(crate) fn apply(&mut self, id: u64, run: Run) -> Result<(), Broken> {
        let committed = &Committed { range: run.range(), runs: vec![run] };
        let (node, replica) = (NodeId(id), ReplicaId(id));
        self.see(&Observation::Applied { node, shard: SHARD, replica, committed })
    }

    pub(crate) fn send(&mut self, from: u64, to: u64, term: u64, body: Body) -> Result<(), Broken> {
        let message = Message { from: ReplicaId(from), to: ReplicaId(to), term: Term(term), body };
        let (from, to) = (NodeId(from), NodeId(to));
        self.see(&Observation::Sent { from, to, shard: SHARD, message: &message })
    }

    /// Makes one run durable at the given replicas.
    pub(crate) fn replicate(&mut self, at: &[u64], number: u64, run: &Run) {
        for id in at {
            let write = write(number).with(run.clone()).build();
            self.durable(*id, &write).expect("a sound write");
        }
    }
}

/// Asserts that it was this property that broke.
#[track_caller]
pub(crate) fn breaks(result: Result<(), Broken>, property: &str) {
    let broken = result.expect_err("the property has to break");
    assert_eq!(broken.property, property, "{broken}");
}
