//! A commit index never goes back in one life; a leader commits only entries of its own term, and
//! only what a quorum of its membership holds durably; and no replica applies beyond its commit
//! index.

use std::collections::BTreeMap;

use quorate_raft::{Member, Membership, Restored, Role};
use quorate_types::{Index, LogId, ReplicaId, ShardId};

use super::known::{Known, Replica};
use super::{Broken, broken};

const NAME: &str = "commit_advances";

/// Checks the commit indexes of all replicas; keeps the newest of each.
#[derive(Default)]
pub(crate) struct CommitAdvances {
    commits: BTreeMap<(ShardId, ReplicaId), Index>,
}

impl CommitAdvances {
    pub(crate) fn added(&mut self, shard: ShardId, id: ReplicaId, restored: &Restored) {
        let told = restored.hard_state.committed.min(restored.last.index);
        self.commits.insert((shard, id), told.max(restored.applied));
    }

    pub(crate) fn installed(&mut self, shard: ShardId, id: ReplicaId, base: LogId) {
        let commit = self.commits.entry((shard, id)).or_default();
        *commit = base.index.max(*commit);
    }

    pub(crate) fn commit(
        &mut self,
        known: &Known,
        shard: ShardId,
        id: ReplicaId,
        commit: Index,
    ) -> Result<(), Broken> {
        let Some(replica) = known.get(shard, id) else { return Ok(()) };
        let before = self.commits.entry((shard, id)).or_default();
        if commit < *before {
            let what = format!("replica {id} of shard {shard} went from {before:?} to {commit:?}");
            return Err(broken(NAME, shard, [replica.node], what));
        }
        *before = commit;
        if replica.role != Role::Leader {
            return Ok(());
        }
        let Some(term) = replica.written.term_at(commit) else {
            let what = format!("leader {id} of shard {shard} commits {commit:?} beyond its log");
            return Err(broken(NAME, shard, [replica.node], what));
        };
        let entry = LogId::new(term, commit);
        // Raft paper, 5.4.2: entries of older terms are committed only by an entry of the leader's
        // own term.
        if term != replica.term {
            let own = replica.term;
            let what = format!("leader {id} of shard {shard} commits {entry} in term {own}");
            return Err(broken(NAME, shard, [replica.node], what));
        }
        if is_held_by_quorum(known, shard, replica, entry) {
            return Ok(());
        }
        let what = format!(
            "leader {id} of shard {shard} commits {entry}, which no quorum of {:?} holds durably",
            replica.memberships.last().map(|(_, membership)| membership)
        );
        Err(broken(NAME, shard, [replica.node], what))
    }

    pub(crate) fn applied(
        &self,
        shard: ShardId,
        id: ReplicaId,
        replica: &Replica,
        last: Index,
    ) -> Result<(), Broken> {
        let commit = self.commits.get(&(shard, id)).copied().unwrap_or_default();
        if last <= commit {
            return Ok(());
        }
        let what = format!("replica {id} of shard {shard} applies {last:?}, commit is {commit:?}");
        Err(broken(NAME, shard, [replica.node], what))
    }
}

/// Quorums are those of the membership in force at the entry, or of a later one in the leader's
/// log: no observation shows which one was in force when the leader counted.
fn is_held_by_quorum(known: &Known, shard: ShardId, leader: &Replica, entry: LogId) -> bool {
    let after = leader.memberships.partition_point(|(index, _)| *index <= entry.index);
    let candidates = &leader.memberships[after.saturating_sub(1)..];
    let holds = |member: &Member| {
        known.get(shard, member.replica).is_some_and(|replica| {
            let was_cut = replica.before_cut.as_ref().is_some_and(|(_, log)| log.holds(entry));
            replica.durable.base().index >= entry.index || replica.durable.holds(entry) || was_cut
        })
    };
    let has_majority = |voters: &[Member]| {
        voters.is_empty() || voters.iter().filter(|m| holds(m)).count() > voters.len() / 2
    };
    let is_quorum = |membership: &Membership| {
        has_majority(&membership.voters) && has_majority(&membership.outgoing)
    };
    candidates.iter().any(|(_, membership)| is_quorum(membership))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, breaks, run, write};
    use super::*;

    #[test]
    fn a_quorum_commits_and_followers_learn_of_it() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1, 3], 1, &run(2, 2, 2));
        bench.commit(1, 3).expect("two of three");
        bench.commit(3, 2).expect("a follower lags");
        bench.apply(3, run(2, 2, 1)).expect("committed");
    }

    #[test]
    fn going_back_is_found_and_so_is_applying_ahead() {
        let mut bench = Bench::new();
        bench.replicate(&[1], 1, &run(2, 2, 2));
        bench.commit(1, 3).expect("told by a leader");
        breaks(bench.commit(1, 2), NAME);
        bench.replicate(&[2], 1, &run(2, 2, 2));
        breaks(bench.apply(2, run(2, 2, 2)), NAME);
    }

    #[test]
    fn what_is_written_and_not_durable_does_not_count() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1], 1, &run(2, 2, 2));
        bench.written(2, &write(1).run(2, 2, 2).build()).expect("a write");
        breaks(bench.commit(1, 3), NAME);
    }
}
