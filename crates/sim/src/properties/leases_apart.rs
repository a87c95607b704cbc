//! No two replicas hold a lease of one shard at one time, and no leader of a higher term serves
//! while a lease of a lower term is held: its holder would read stale data.

use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::known::Known;
use super::{Broken, broken};

const NAME: &str = "leases_apart";

/// Checks all holders at one moment.
pub(crate) fn leases(
    known: &Known,
    shard: ShardId,
    holders: &[(NodeId, ReplicaId, Term)],
) -> Result<(), Broken> {
    let Some((node, replica, term)) = holders.first().copied() else { return Ok(()) };
    if let Some((other_node, other, other_term)) = holders.get(1).copied() {
        let what = format!(
            "replicas {replica} (term {term}) and {other} (term {other_term}) hold leases of shard \
             {shard} at one time"
        );
        return Err(broken(NAME, shard, [node, other_node], what));
    }
    let serves = |(_, other): &(ReplicaId, &super::known::Replica)| {
        other.is_alive && other.is_serving && other.term > term
    };
    if let Some((other, found)) = known.of_shard(shard).find(serves) {
        let what = format!(
            "replica {other} serves shard {shard} in term {} while replica {replica} holds the \
             lease of term {term}",
            found.term
        );
        return Err(broken(NAME, shard, [node, found.node], what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_raft::Role;

    use super::super::samples::{Bench, SHARD, breaks};
    use super::*;
    use crate::observation::Observation;

    fn holder(id: u64, term: u64) -> (NodeId, ReplicaId, Term) {
        (NodeId(id), ReplicaId(id), Term(term))
    }

    #[test]
    fn one_holder_at_a_time() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        let holders = &[holder(1, 2)];
        bench.see(&Observation::Leases { shard: SHARD, holders }).expect("one");
        bench.see(&Observation::Leases { shard: SHARD, holders: &[] }).expect("none");
        bench.role(2, Role::Leader, 3).expect("the next");
        let holders = &[holder(2, 3)];
        bench.see(&Observation::Leases { shard: SHARD, holders }).expect("the next one");
    }

    #[test]
    fn two_holders_or_a_later_leader_are_found() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.role(2, Role::Leader, 3).expect("elected");
        let two = &[holder(1, 2), holder(2, 3)];
        breaks(bench.see(&Observation::Leases { shard: SHARD, holders: two }), NAME);
        let old = &[holder(1, 2)];
        breaks(bench.see(&Observation::Leases { shard: SHARD, holders: old }), NAME);
    }
}
