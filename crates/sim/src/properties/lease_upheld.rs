//! A lease in force is upheld by a quorum whose voters are bound to its holder in its term, or
//! silent: for that long nobody else can be elected. This finds a lease without such a quorum
//! before a read uses it.

use quorate_raft::{Member, Membership};
use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::{Broken, broken};

const NAME: &str = "lease_upheld";

/// Checks a lease in force; the replicas in `free` may vote for another replica.
pub(crate) fn lease_held(
    node: NodeId,
    shard: ShardId,
    (replica, term): (ReplicaId, Term),
    membership: &Membership,
    free: &[ReplicaId],
) -> Result<(), Broken> {
    let is_upheld = |voters: &[Member]| {
        let kept = voters.iter().filter(|voter| !free.contains(&voter.replica)).count();
        voters.is_empty() || 2 * kept > voters.len()
    };
    if is_upheld(&membership.voters) && is_upheld(&membership.outgoing) {
        return Ok(());
    }
    let what = format!(
        "replica {replica} holds a lease of shard {shard} in term {term}, and nothing keeps {free:?} \
         from electing another"
    );
    Err(broken(NAME, shard, [node], what))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks, members};
    use super::*;
    use crate::observation::Observation;

    fn see(membership: &Membership, free: &[u64]) -> Result<(), Broken> {
        let free: Vec<ReplicaId> = free.iter().copied().map(ReplicaId).collect();
        Bench::new().see(&Observation::LeaseHeld {
            node: NodeId(1),
            shard: SHARD,
            replica: ReplicaId(1),
            term: Term(2),
            membership,
            free: &free,
        })
    }

    #[test]
    fn a_quorum_upholds_in_both_majorities() {
        let plain = members(1..=3);
        see(&plain, &[]).expect("all are bound");
        see(&plain, &[3]).expect("two of three");
        breaks(see(&plain, &[2, 3]), NAME);
        let joint = Membership { outgoing: members(3..=5).voters, ..members(1..=3) };
        see(&joint, &[2, 5]).expect("two of three in both");
        breaks(see(&joint, &[4, 5]), NAME);
    }
}
