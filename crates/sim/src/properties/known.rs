//! What all properties know of each replica: where it lives, its role, and its log twice, as it was
//! handed to the disk and as it is durable there. It is updated before any property checks.

use std::collections::BTreeMap;

use quorate_raft::{EntryKind, HardState, Membership, Restored, Role, RoleState, Write};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use super::log_terms::LogTerms;
use crate::observation::Observation;

/// One replica, for as long as the world lasts: its promises outlive it.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) node: NodeId,
    /// Its process runs and hosts it.
    pub(crate) is_alive: bool,
    /// It was destroyed or found damaged. It comes back only if a crash loses its end.
    pub(crate) is_removed: bool,
    /// Its end is durable: it never comes back.
    pub(crate) is_ended: bool,
    pub(crate) role: Role,
    pub(crate) is_serving: bool,
    /// The term of its role, or the one it was restored with.
    pub(crate) term: Term,
    pub(crate) applied: Index,
    /// As handed to the disk.
    pub(crate) written: LogTerms,
    /// As a start after a crash would find it.
    pub(crate) durable: LogTerms,
    pub(crate) durable_term: Term,
    /// Every vote that was ever durable.
    pub(crate) votes: BTreeMap<Term, ReplicaId>,
    /// The durable log before it was cut last, and the term that was durable then: an answer that
    /// waited for the sync before may leave after the sync that cuts.
    pub(crate) before_cut: Option<(Term, LogTerms)>,
    /// Memberships in the written log, the base's first.
    pub(crate) memberships: Vec<(Index, Membership)>,
}

/// Whether a write fits the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Its runs follow the log.
    Follows,
    /// Its runs leave a gap, or their terms go back.
    Gap,
}

/// What the properties know of all replicas, leaders and committed memberships.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) replicas: BTreeMap<(ShardId, ReplicaId), Replica>,
    /// Leaders of each term, each with its log when it was elected: from then on it has grown by
    /// entries of that term only.
    pub(crate) leaders: BTreeMap<(ShardId, Term), (ReplicaId, LogTerms)>,
    /// The newest membership that is known to be committed, and its place.
    pub(crate) memberships: BTreeMap<ShardId, (Index, Membership)>,
}

impl Replica {
    fn new(node: NodeId, restored: &Restored) -> Replica {
        let log = LogTerms::of(restored);
        let HardState { term, vote, .. } = restored.hard_state;
        let base = [(restored.base.index, restored.base_membership.clone())];
        Replica {
            node,
            is_alive: true,
            is_removed: false,
            is_ended: false,
            role: Role::Follower,
            is_serving: false,
            term,
            applied: restored.applied,
            written: log.clone(),
            durable: log,
            durable_term: term,
            votes: vote.map(|vote| (term, vote)).into_iter().collect(),
            before_cut: None,
            memberships: base.into_iter().chain(restored.memberships.iter().cloned()).collect(),
        }
    }

    /// The newest membership in its log is joint.
    pub(crate) fn is_joint(&self) -> bool {
        self.memberships.last().is_some_and(|(_, membership)| membership.is_joint())
    }

    fn start(&mut self, node: NodeId, restored: &Restored) {
        let new = Replica::new(node, restored);
        let mut votes = std::mem::take(&mut self.votes);
        // A restored state never hides an earlier promise.
        votes.extend(new.votes.iter().filter(|(term, _)| !self.votes.contains_key(term)));
        let before_cut = self.before_cut.take();
        let is_ended = self.is_ended;
        *self = Replica { votes, before_cut, is_ended, ..new };
    }

    fn stop(&mut self) {
        self.is_alive = false;
        self.is_serving = false;
        self.role = Role::Follower;
    }

    fn write(&mut self, write: &Write) -> Fit {
        if let Some(install) = super::install_of(write) {
            if install.keeps_log {
                self.give_up(install.base.index);
            } else {
                self.memberships.clear();
                self.memberships.push((install.base.index, install.membership.clone()));
            }
        }
        if let Some(from) = write.truncate_from {
            self.memberships.retain(|(index, _)| *index < from);
        }
        let fit = self.written.write(write);
        let changes = write.runs.iter().filter(|run| run.has_membership());
        let entries = changes.flat_map(quorate_raft::Run::entries);
        for entry in entries.filter(|entry| entry.kind == EntryKind::Membership) {
            if let Ok(membership) = Membership::decode(entry.payload) {
                self.memberships.push((entry.id.index, membership));
            }
        }
        if fit { Fit::Follows } else { Fit::Gap }
    }

    fn make_durable(&mut self, write: &Write) -> Fit {
        let cuts = super::install_of(write).is_some_and(|install| !install.keeps_log)
            || write.truncate_from.is_some_and(|from| from <= self.durable.last().index);
        if cuts {
            self.before_cut = Some((self.durable_term, self.durable.clone()));
        }
        if let Some(HardState { term, vote, .. }) = write.hard_state {
            self.durable_term = term;
            if let Some(vote) = vote {
                self.votes.entry(term).or_insert(vote);
            }
        }
        if self.durable.write(write) { Fit::Follows } else { Fit::Gap }
    }

    fn purge(&mut self, base: LogId) {
        self.written.purge(base);
        self.durable.purge(base);
        self.give_up(base.index);
    }

    fn give_up(&mut self, through: Index) {
        let given_up = self.memberships.partition_point(|(index, _)| *index <= through);
        self.memberships.drain(..given_up.saturating_sub(1));
    }
}

impl Known {
    pub(crate) fn get(&self, shard: ShardId, replica: ReplicaId) -> Option<&Replica> {
        self.replicas.get(&(shard, replica))
    }

    /// The replicas of a shard that were not removed, those of stopped nodes included.
    pub(crate) fn of_shard(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (ReplicaId, &Replica)> + '_ {
        let all = self.replicas.range((shard, ReplicaId(0))..=(shard, ReplicaId(u64::MAX)));
        all.map(|((_, id), replica)| (*id, replica)).filter(|(_, replica)| !replica.is_removed)
    }

    /// No log of the shard holds anything below this index any more.
    pub(crate) fn floor(&self, shard: ShardId) -> Index {
        let bases = self.of_shard(shard).map(|(_, replica)| replica.durable.base().index);
        bases.min().unwrap_or(Index(0))
    }

    /// Takes in an observation. Returns whether a write fits the log before it.
    pub(crate) fn observe(&mut self, observation: &Observation<'_>) -> Fit {
        match *observation {
            Observation::NodeStarted { node, .. } | Observation::NodeStopped { node, .. } => {
                for replica in self.replicas.values_mut().filter(|replica| replica.node == node) {
                    replica.stop();
                }
            }
            Observation::ReplicaAdded { node, shard, replica, restored } => {
                self.add(node, shard, replica, restored);
            }
            Observation::ReplicaRemoved { shard, replica, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    replica.stop();
                    replica.is_removed = true;
                }
            }
            Observation::ReplicaEnded { shard, replica, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    replica.is_ended = true;
                }
            }
            Observation::Role { shard, replica, role, .. } => self.role(shard, replica, role),
            Observation::Written { shard, replica, write, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    return replica.write(write);
                }
            }
            Observation::Durable { shard, replica, write, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    return replica.make_durable(write);
                }
            }
            Observation::Purged { shard, replica, base, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    replica.purge(base);
                }
            }
            Observation::Installed { shard, replica, base, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    replica.applied = base.index;
                }
            }
            Observation::Applied { shard, replica, committed, .. } => {
                if let Some(replica) = self.replicas.get_mut(&(shard, replica)) {
                    replica.applied = committed.range.end.previous();
                }
            }
            _ => {}
        }
        Fit::Follows
    }

    fn add(&mut self, node: NodeId, shard: ShardId, replica: ReplicaId, restored: &Restored) {
        let base = (restored.base.index, &restored.base_membership);
        self.commit_membership(shard, base.0, base.1);
        let known = self.replicas.entry((shard, replica));
        known
            .and_modify(|known| known.start(node, restored))
            .or_insert_with(|| Replica::new(node, restored));
    }

    fn role(&mut self, shard: ShardId, id: ReplicaId, role: RoleState) {
        let Some(replica) = self.replicas.get_mut(&(shard, id)) else { return };
        replica.role = role.role;
        replica.is_serving = role.serving;
        replica.term = role.term;
        if role.role == Role::Leader {
            let elected = || (id, replica.written.clone());
            self.leaders.entry((shard, role.term)).or_insert_with(elected);
        }
    }

    /// Records a committed membership; one older than the known one changes nothing.
    pub(crate) fn commit_membership(&mut self, shard: ShardId, at: Index, new: &Membership) {
        match self.memberships.get(&shard) {
            Some((known, _)) if *known >= at => {}
            _ => {
                self.memberships.insert(shard, (at, new.clone()));
            }
        }
    }
}
