//! Whatever was committed in earlier terms is in the log of every later leader (leader completeness,
//! Raft paper figure 3).
//!
//! What a replica knows to be committed while its term is t was committed by a leader of term t at
//! the latest. A leader of a higher term must hold it; a leader of a lower or the same term that
//! learns late of its election need not. By log matching it is enough to check the newest such
//! entry.

use std::collections::BTreeMap;

use quorate_types::{LogId, NodeId, ReplicaId, ShardId, Term};

use super::state_machine_safety::StateMachineSafety;
use super::{Broken, Sight, broken};

/// Checks that new leaders hold what earlier terms committed.
#[derive(Default)]
pub(crate) struct LeaderCompleteness {
    /// The newest entry known to be committed by each term.
    committed: BTreeMap<ShardId, BTreeMap<Term, (LogId, NodeId)>>,
}

impl LeaderCompleteness {
    /// A replica whose term is `term` knows that `id` is committed.
    pub(crate) fn committed(&mut self, shard: ShardId, term: Term, id: LogId, node: NodeId) {
        let newest = self.committed.entry(shard).or_default().entry(term).or_insert((id, node));
        if newest.0.index < id.index {
            *newest = (id, node);
        }
    }

    pub(crate) fn elected(
        &self,
        sight: &dyn Sight,
        machines: &StateMachineSafety,
        leader: (NodeId, ShardId, ReplicaId),
        term: Term,
    ) -> Result<(), Broken> {
        let (node, shard, replica) = leader;
        let Some(committed) = self.committed.get(&shard) else { return Ok(()) };
        let earlier = committed.range(..term).map(|(_, entry)| *entry);
        let Some((id, witness)) = earlier.max_by_key(|(id, _)| id.index) else { return Ok(()) };
        let found = match sight.base(node, shard) {
            // The base stands for a state, which must be the committed one.
            Some(base) if base.index >= id.index => {
                let truth = machines.truth(shard, base.index);
                if truth.is_none_or(|truth| truth.term == base.term) {
                    return Ok(());
                }
                Some(base.term)
            }
            _ => sight.term_at(node, shard, id.index),
        };
        if found == Some(id.term) {
            return Ok(());
        }
        let what = format!(
            "replica {replica} leads shard {shard} in term {term} without entry {id}, which node \
             {witness} knows to be committed; it has {found:?} there"
        );
        Err(broken("leader_completeness", shard, [node, witness], what))
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Role;

    use super::super::samples::{Bench, breaks, id, run};

    fn committed_by_one_in_term_two() -> Bench {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1, 2], 1, &run(2, 2, 2));
        bench.commit(1, 3).expect("two of three hold it");
        bench.apply(1, run(2, 2, 2)).expect("committed");
        bench
    }

    #[test]
    fn a_later_leader_holds_it_in_its_log_or_its_base() {
        let mut bench = committed_by_one_in_term_two();
        bench.logs.0 = vec![(2, id(1, 1)), (2, id(2, 3))];
        bench.role(2, Role::Leader, 3).expect("it has the entry");
        bench.logs.0 = vec![(3, id(2, 3)), (3, id(2, 4))];
        bench.role(3, Role::Leader, 4).expect("it begins behind the entry");
    }

    #[test]
    fn a_later_leader_without_it_is_found() {
        let mut bench = committed_by_one_in_term_two();
        bench.logs.0 = vec![(3, id(1, 1)), (3, id(1, 3))];
        breaks(bench.role(3, Role::Leader, 3), "leader_completeness");
    }

    #[test]
    fn a_leader_of_an_earlier_term_may_come_late() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 4).expect("elected");
        bench.replicate(&[1, 2], 1, &run(4, 2, 2));
        bench.commit(1, 3).expect("two of three hold it");
        bench.logs.0 = vec![(3, id(1, 1))];
        bench.role(3, Role::Leader, 3).expect("its votes were on their way");
    }
}
