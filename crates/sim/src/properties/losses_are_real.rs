//! A replica is reported to have lost what it acknowledged only if it has. The disks of a world
//! keep what they synced, whatever else fails, so no report is ever right here: the group would
//! lose a member that had kept every promise, and a node its directory. The other half, that real
//! losses are found, is drilled with one group (`mutants/rollback.rs`).

use quorate_raft::Loss;
use quorate_types::{NodeId, ReplicaId, ShardId};

use super::{Broken, broken};

const NAME: &str = "losses_are_real";

pub(crate) fn found(
    node: NodeId,
    shard: ShardId,
    replica: ReplicaId,
    loss: &Loss,
) -> Result<(), Broken> {
    let what = format!("replica {replica} of shard {shard} ends although its disk lost nothing");
    Err(broken(NAME, shard, [node], format!("{what}: {loss}")))
}

#[cfg(test)]
mod tests {
    use quorate_types::{Index, Term};

    use super::super::samples::{Bench, SHARD, breaks, id};
    use super::*;
    use crate::observation::Observation;

    #[test]
    fn nobody_loses_anything_here() {
        let loss = Loss { term: Term(2), acknowledged: Index(7), last: id(2, 5) };
        let (node, replica) = (NodeId(1), ReplicaId(1));
        let seen = Observation::LossFound { node, shard: SHARD, replica, loss: &loss };
        breaks(Bench::new().see(&seen), NAME);
    }
}
