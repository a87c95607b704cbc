//! A log is given up only as far as the applied state is persisted (RULE 10): a crash takes the data
//! back to its last completed flush, and what was applied since comes from the log again.

use std::collections::BTreeMap;

use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId};

use super::{Broken, broken};

const NAME: &str = "purge_persisted";

/// Knows how far the data of each replica is persisted.
#[derive(Default)]
pub(crate) struct PurgePersisted {
    persisted: BTreeMap<(ShardId, ReplicaId), Index>,
}

impl PurgePersisted {
    /// A replica starts with what is persisted, or its data is: by a flush, or by tables that are
    /// ingested.
    pub(crate) fn persisted(&mut self, shard: ShardId, replica: ReplicaId, applied: Index) {
        self.persisted.insert((shard, replica), applied);
    }

    pub(crate) fn purged(
        &self,
        node: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        base: LogId,
    ) -> Result<(), Broken> {
        let persisted = self.persisted.get(&(shard, replica)).copied().unwrap_or_default();
        if base.index <= persisted {
            return Ok(());
        }
        let what = format!(
            "replica {replica} of shard {shard} gives up its log through {base}, its data is \
             persisted through {persisted:?} only"
        );
        Err(broken(NAME, shard, [node], what))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks, id, run};
    use super::*;
    use crate::observation::Observation;

    #[test]
    fn what_is_applied_and_not_flushed_stays_in_the_log() {
        let mut bench = Bench::new();
        bench.replicate(&[1, 2], 1, &run(2, 2, 3));
        bench.commit(1, 4).expect("told by a leader");
        bench.apply(1, run(2, 2, 3)).expect("committed");
        let (node, shard, replica) = (NodeId(1), SHARD, ReplicaId(1));
        let purged = |index| Observation::Purged {
            node,
            shard,
            replica,
            base: id(2, index),
            kept_from: Index(0),
        };
        breaks(bench.see(&purged(2)), NAME);
        let applied = Index(3);
        bench.see(&Observation::Flushed { node, shard, replica, applied }).expect("noted");
        bench.see(&purged(3)).expect("persisted");
        breaks(bench.see(&purged(4)), NAME);
    }
}
