//! The properties: what has to hold at every moment, whatever fails. One file each.
//!
//! A property sees [`Observation`]s and, where these do not say enough, the living logs through
//! [`Sight`]. It remembers as little as it can and answers at once, so a violation is found at the
//! step that causes it.
//!
//! Observations come in the order of their effects. The effects of one host turn must be shown as:
//! roles, writes, commits, applied entries, messages; a change of standing before the support that
//! it concerns; and what became durable before any message that waited for it.

mod acknowledged_survive;
mod alive_after_heal;
mod commit_advances;
mod election_safety;
mod ended_stay_silent;
mod install_order;
pub(crate) mod known;
mod leader_completeness;
mod lease_upheld;
mod leases_apart;
mod log_matching;
mod log_terms;
mod losses_are_real;
mod memory_bounded;
mod purge_persisted;
mod purge_waits;
mod quiesced_when_done;
mod read_contexts;
mod reads_linearizable;
mod replicas_agree;
#[cfg(test)]
pub(crate) mod samples;
mod single_vote;
mod state_machine_safety;
mod stored_as_written;
mod support_kept;
mod sync_before_promise;

use std::fmt;

use quorate_raft::{Committed, EntryKind, Install, Membership, Message, Role, RoleState, Write};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use crate::linearizability::History;
use crate::observation::{InstallStep, Observation, SimTime};

/// The logs of the living replicas, as their kernels have them now.
pub trait Sight {
    /// Term of an entry; `None` before the base, beyond the end, and where no living replica is.
    fn term_at(&self, node: NodeId, shard: ShardId, index: Index) -> Option<Term>;
    /// Last entry of the log.
    fn last(&self, node: NodeId, shard: ShardId) -> Option<LogId>;
    /// The entry before the first of the log.
    fn base(&self, node: NodeId, shard: ShardId) -> Option<LogId>;
}

/// A property does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The property's name, which is that of its file.
    pub property: &'static str,
    /// The shard, if the violation is about one.
    pub shard: Option<ShardId>,
    /// The nodes that took part.
    pub nodes: Vec<NodeId>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

impl std::error::Error for Broken {}

fn broken(
    property: &'static str,
    shard: ShardId,
    nodes: impl IntoIterator<Item = NodeId>,
    what: String,
) -> Broken {
    Broken { property, shard: Some(shard), nodes: nodes.into_iter().collect(), what }
}

/// The install with which a write restarts the log, if it does.
pub(crate) fn install_of(write: &Write) -> Option<&Install> {
    write.install.as_ref()
}

/// All properties of one world.
#[derive(Default)]
pub struct Properties {
    known: known::Known,
    history: History,
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    commit_advances: commit_advances::CommitAdvances,
    single_vote: single_vote::SingleVote,
    support_kept: support_kept::SupportKept,
    acknowledged_survive: acknowledged_survive::AcknowledgedSurvive,
    read_contexts: read_contexts::ReadContexts,
    alive_after_heal: alive_after_heal::AliveAfterHeal,
    replicas_agree: replicas_agree::ReplicasAgree,
    install_order: install_order::InstallOrder,
    purge_persisted: purge_persisted::PurgePersisted,
    purge_waits: purge_waits::PurgeWaits,
    memory_bounded: memory_bounded::MemoryBounded,
}

/// A replica and where it lives.
type Place = (NodeId, ShardId, ReplicaId);

impl Properties {
    /// Properties that have observed nothing yet.
    #[must_use]
    pub fn new() -> Properties {
        Properties::default()
    }

    /// The requests and replies of the world's clients; checked by [`Properties::end`].
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Checks one observation; call it in the order of time.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn observe(
        &mut self,
        at: SimTime,
        sight: &dyn Sight,
        observation: &Observation<'_>,
    ) -> Result<(), Broken> {
        self.before(observation)?;
        let fit = self.known.observe(observation);
        if fit == known::Fit::Gap {
            return Err(gap(observation));
        }
        self.after(at, sight, observation)
    }

    /// Checks what can be known only at the end.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn end(&mut self, at: SimTime, sight: &dyn Sight) -> Result<(), Broken> {
        self.alive_after_heal.end(at, &self.known, sight)?;
        self.acknowledged_survive.end(&self.known)?;
        ended_stay_silent::end(&self.known)?;
        reads_linearizable::end(&self.history)
    }

    /// Checks that need the state before the observation.
    fn before(&mut self, observation: &Observation<'_>) -> Result<(), Broken> {
        match *observation {
            Observation::ReplicaAdded { node, shard, replica, restored } => {
                if let Some(before) = self.known.get(shard, replica) {
                    sync_before_promise::restored(before, node, shard, replica, restored)?;
                }
                let state = &restored.hard_state;
                self.single_vote.hard_state(node, shard, replica, state)?;
                self.commit_advances.added(shard, replica, restored);
                self.install_order.added(shard, replica);
                self.purge_persisted.persisted(shard, replica, restored.applied);
                Ok(())
            }
            Observation::Written { shard, replica, write, .. } => {
                self.memory_bounded.written(write);
                match self.known.get(shard, replica) {
                    Some(known) => self.log_matching.written(shard, replica, known, write),
                    None => Ok(()),
                }
            }
            Observation::Durable { node, shard, replica, write } => {
                ended_stay_silent::durable(&self.known, node, shard, replica)?;
                match &write.hard_state {
                    Some(state) => self.single_vote.hard_state(node, shard, replica, state),
                    None => Ok(()),
                }
            }
            Observation::Applied { node, shard, replica, committed } => {
                self.applied((node, shard, replica), committed)
            }
            Observation::Purged { node, shard, replica, base, kept_from } => {
                if let Some(known) = self.known.get(shard, replica) {
                    let purged = state_machine_safety::StateMachineSafety::purged;
                    purged(shard, replica, known, base)?;
                }
                self.purge_persisted.purged(node, shard, replica, base)?;
                let of = (shard, replica);
                self.purge_waits.purged(&self.known, node, of, base, kept_from)
            }
            _ => Ok(()),
        }
    }

    /// Checks that need the state after the observation.
    fn after(
        &mut self,
        at: SimTime,
        sight: &dyn Sight,
        observation: &Observation<'_>,
    ) -> Result<(), Broken> {
        match *observation {
            Observation::NodeStarted { node, .. } => self.support_kept.node_started(node),
            Observation::Role { node, shard, replica, role } => {
                self.purge_waits.role(node, shard, role);
                return self.role(sight, (node, shard, replica), role);
            }
            Observation::Sent { from, shard, message, .. } => {
                return self.sent(at, from, shard, message);
            }
            Observation::Commit { node, shard, replica, commit } => {
                return self.commit((node, shard, replica), commit);
            }
            Observation::NodeStopped { node, .. } => self.purge_waits.stopped(node),
            Observation::Delivered { to, shard, message, .. } => {
                self.purge_waits.delivered(to, shard, message);
            }
            Observation::SnapshotSent { from, shard, replica, at_least, .. } => {
                self.purge_waits.sent(from, shard, replica, at_least);
            }
            Observation::SnapshotEnded { from, shard, replica, .. } => {
                self.purge_waits.ended(from, shard, replica);
            }
            Observation::Flushed { shard, replica, applied, .. } => {
                self.purge_persisted.persisted(shard, replica, applied);
            }
            Observation::Durable { shard, replica, write, .. } => {
                if let Some(install) = install_of(write) {
                    self.install_order.durable(shard, replica, install.base);
                }
            }
            Observation::Stored { node, shard, replica, base, last, has_gap } => {
                let place = (node, shard, replica);
                return stored_as_written::stored(&self.known, place, base, last, has_gap);
            }
            Observation::Install { node, shard, replica, base, step } => {
                if step == InstallStep::Adopted {
                    self.purge_persisted.persisted(shard, replica, base.index);
                }
                return self.install_order.step((node, shard, replica), base, step);
            }
            Observation::Installed { node, shard, replica, base, .. } => {
                self.commit_advances.installed(shard, replica, base);
                return self.state_machine_safety.installed(shard, replica, node, base);
            }
            Observation::Purged { shard, .. } => {
                let floor = self.known.floor(shard);
                self.log_matching.forget_below(shard, floor);
                self.state_machine_safety.forget_below(shard, floor);
            }
            Observation::Standing { node, change } => {
                return self.support_kept.standing(at, node, change);
            }
            Observation::Supported { supporter, requester, epoch, until } => {
                return self.support_kept.supported(supporter, requester, epoch, until);
            }
            Observation::Held { supporter, requester, until, given_until } => {
                return support_kept::SupportKept::held(supporter, requester, until, given_until);
            }
            Observation::Fault { kind, node, .. } | Observation::FaultEnded { kind, node } => {
                self.support_kept.fault(kind, node);
            }
            Observation::LeaseHeld { node, shard, replica, term, membership, free } => {
                return lease_upheld::lease_held(node, shard, (replica, term), membership, free);
            }
            Observation::QuiescedLeader { leader, follower, shard, commit, known } => {
                return quiesced_when_done::quiesced_leader(
                    (leader, follower),
                    shard,
                    commit,
                    known,
                );
            }
            Observation::Leases { shard, holders } => {
                return leases_apart::leases(&self.known, shard, holders);
            }
            Observation::Acknowledged { shard, id, payload_hash } => {
                let machines = &self.state_machine_safety;
                return self.acknowledged_survive.acknowledged(machines, shard, id, payload_hash);
            }
            Observation::Replied { node, shard, id, reply_hash } => {
                return self.replicas_agree.replied(node, shard, id, reply_hash);
            }
            Observation::DataSeen { node, shard, applied, digest } => {
                return self.replicas_agree.data_seen(node, shard, applied, digest);
            }
            Observation::Memory { node, shard, ref memory } => {
                return self.memory_bounded.replica(node, shard, memory);
            }
            Observation::NodeMemory { node, ref memory } => {
                return self.memory_bounded.node(node, memory);
            }
            Observation::LossFound { node, shard, replica, loss } => {
                return losses_are_real::found(node, shard, replica, loss);
            }
            Observation::Healed => self.alive_after_heal.healed(at),
            Observation::Quiesced { shard, replica, is_quiesced, .. } => {
                self.alive_after_heal.quiesced(shard, replica, is_quiesced);
            }
            Observation::Probed { node, shard, kind, is_ok } => {
                self.alive_after_heal.probed(shard, node, kind, is_ok);
            }
            _ => {}
        }
        Ok(())
    }

    fn role(&mut self, sight: &dyn Sight, place: Place, role: RoleState) -> Result<(), Broken> {
        if role.role != Role::Leader {
            return Ok(());
        }
        let (node, shard, replica) = place;
        self.election_safety.leads(shard, role.term, replica, node)?;
        self.leader_completeness.elected(sight, &self.state_machine_safety, place, role.term)
    }

    fn sent(
        &mut self,
        at: SimTime,
        from: NodeId,
        shard: ShardId,
        message: &Message,
    ) -> Result<(), Broken> {
        ended_stay_silent::sent(&self.known, from, shard, message)?;
        self.election_safety.sent(from, shard, message)?;
        self.read_contexts.sent(from, shard, message)?;
        self.single_vote.sent(from, shard, message)?;
        self.support_kept.sent(at, from, shard, message)?;
        sync_before_promise::sent(&self.known, &self.state_machine_safety, from, shard, message)
    }

    fn commit(&mut self, (node, shard, replica): Place, commit: Index) -> Result<(), Broken> {
        self.commit_advances.commit(&self.known, shard, replica, commit)?;
        if let Some(known) = self.known.get(shard, replica)
            && let Some(term) = known.written.term_at(commit)
        {
            let id = LogId::new(term, commit);
            self.leader_completeness.committed(shard, known.term, id, node);
        }
        Ok(())
    }

    fn applied(
        &mut self,
        (node, shard, replica): Place,
        committed: &Committed,
    ) -> Result<(), Broken> {
        let Some(known) = self.known.get(shard, replica) else { return Ok(()) };
        self.state_machine_safety.applied(shard, replica, known, committed)?;
        let Some(last) = committed.runs.last().map(quorate_raft::Run::last_id) else {
            return Ok(());
        };
        self.commit_advances.applied(shard, replica, known, last.index)?;
        self.leader_completeness.committed(shard, known.term, last, node);
        for run in committed.runs.iter().filter(|run| run.has_membership()) {
            for entry in run.entries().filter(|entry| entry.kind == EntryKind::Membership) {
                if let Ok(membership) = Membership::decode(entry.payload) {
                    self.known.commit_membership(shard, entry.id.index, &membership);
                }
            }
        }
        Ok(())
    }
}

/// Reports a write that does not follow the log before it.
fn gap(observation: &Observation<'_>) -> Broken {
    let (property, node, shard, replica) = match *observation {
        Observation::Durable { node, shard, replica, .. } => {
            ("sync_before_promise", node, shard, replica)
        }
        Observation::Written { node, shard, replica, .. } => ("log_matching", node, shard, replica),
        _ => unreachable!("only writes can leave a gap"),
    };
    let what = format!("replica {replica} of shard {shard}: a write does not follow the log");
    broken(property, shard, [node], what)
}
