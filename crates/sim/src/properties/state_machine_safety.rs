//! All replicas apply the same entry at the same index (state machine safety, Raft paper figure 3),
//! each in order and once per life, and only what is durable in its own log (RULE 4). No log gives
//! up an entry that was not applied.

use std::collections::BTreeMap;

use quorate_raft::Committed;
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use super::known::Replica;
use super::{Broken, broken};
use crate::observation::entry_hash;

const NAME: &str = "state_machine_safety";

/// An entry as it was first applied: all other replicas must apply the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) term: Term,
    pub(crate) hash: u64,
    /// The node that applied it first.
    node: NodeId,
}

/// Compares the applied entries of all replicas.
#[derive(Default)]
pub(crate) struct StateMachineSafety {
    truth: BTreeMap<(ShardId, Index), Truth>,
    /// Entries below were forgotten.
    floors: BTreeMap<ShardId, Index>,
}

impl StateMachineSafety {
    /// What is committed at an index; `None` if nobody has applied it yet, or it was forgotten.
    pub(crate) fn truth(&self, shard: ShardId, index: Index) -> Option<Truth> {
        self.truth.get(&(shard, index)).copied()
    }

    /// True if [`StateMachineSafety::truth`] has forgotten `index`.
    pub(crate) fn is_forgotten(&self, shard: ShardId, index: Index) -> bool {
        self.floors.get(&shard).is_some_and(|floor| index < *floor)
    }

    /// Checks applied entries; `replica` is the state before them.
    pub(crate) fn applied(
        &mut self,
        shard: ShardId,
        id: ReplicaId,
        replica: &Replica,
        committed: &Committed,
    ) -> Result<(), Broken> {
        let node = replica.node;
        let fail = |what| Err(broken(NAME, shard, [node], what));
        let expected = replica.applied.next();
        if committed.range.start != expected {
            let start = committed.range.start;
            let what = format!("replica {id} of shard {shard} applies {start:?}, not {expected:?}");
            return fail(what);
        }
        let mut next = committed.range.start;
        for entry in committed.runs.iter().flat_map(quorate_raft::Run::entries) {
            if entry.id.index != next {
                let index = entry.id.index;
                return fail(format!(
                    "replica {id} of shard {shard}: {index:?} where {next:?} is due"
                ));
            }
            next = next.next();
            let here =
                Truth { term: entry.id.term, hash: entry_hash(entry.kind, entry.payload), node };
            self.agrees(shard, entry.id, here)?;
        }
        if next != committed.range.end {
            return fail(format!("replica {id} of shard {shard}: a range without its entries"));
        }
        let last = next.previous();
        // One that has ended never starts again, and nothing more of it is written.
        if replica.durable.last().index < last && !replica.is_ended {
            let durable = replica.durable.last();
            let what = format!(
                "replica {id} of shard {shard} applies {last:?} while its log is durable through \
                 {durable} only"
            );
            return fail(what);
        }
        Ok(())
    }

    fn agrees(&mut self, shard: ShardId, id: LogId, here: Truth) -> Result<(), Broken> {
        if self.is_forgotten(shard, id.index) {
            return Ok(());
        }
        let known = *self.truth.entry((shard, id.index)).or_insert(here);
        if (known.term, known.hash) == (here.term, here.hash) {
            return Ok(());
        }
        let (index, one, other) = (id.index, known.term, here.term);
        let what = format!(
            "shard {shard} at {index:?}: node {} applies the entry of {one:?}, node {} another one, \
             of {other:?}",
            known.node, here.node
        );
        Err(broken(NAME, shard, [known.node, here.node], what))
    }

    /// Checks the install of a snapshot's state.
    pub(crate) fn installed(
        &self,
        shard: ShardId,
        id: ReplicaId,
        node: NodeId,
        base: LogId,
    ) -> Result<(), Broken> {
        match self.truth(shard, base.index) {
            Some(known) if known.term != base.term => {
                let what = format!(
                    "replica {id} of shard {shard} begins behind {base}, but what is committed \
                     there is of {:?}",
                    known.term
                );
                Err(broken(NAME, shard, [known.node, node], what))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a log is given up through `base`; `replica` is the state before.
    pub(crate) fn purged(
        shard: ShardId,
        id: ReplicaId,
        replica: &Replica,
        base: LogId,
    ) -> Result<(), Broken> {
        if base.index <= replica.applied {
            return Ok(());
        }
        let applied = replica.applied;
        let what = format!(
            "replica {id} of shard {shard} gives up its log through {base}, applied is {applied:?}"
        );
        Err(broken(NAME, shard, [replica.node], what))
    }

    /// Forgets entries below `floor`: no log holds them any more, so nobody applies them again.
    pub(crate) fn forget_below(&mut self, shard: ShardId, floor: Index) {
        let known = self.floors.entry(shard).or_default();
        *known = floor.max(*known);
        while let Some((key, _)) = self.truth.range((shard, Index(0))..).next()
            && key.0 == shard
            && key.1 < floor
        {
            let key = *key;
            self.truth.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, breaks, id, run};
    use super::*;
    use crate::observation::Observation;

    const SHARD: ShardId = super::super::samples::SHARD;

    #[test]
    fn replicas_apply_the_same_at_their_own_pace() {
        let mut bench = Bench::new();
        bench.replicate(&[1, 2], 1, &run(1, 2, 4));
        bench.commit(1, 5).expect("told");
        bench.commit(2, 5).expect("told");
        bench.apply(1, run(1, 2, 4)).expect("the first");
        bench.apply(2, run(1, 2, 1)).expect("a part");
        bench.apply(2, run(1, 3, 3)).expect("the rest");
    }

    #[test]
    fn another_entry_is_found() {
        let mut bench = Bench::new();
        bench.replicate(&[1], 1, &run(1, 2, 1));
        bench.replicate(&[2], 1, &run(2, 2, 1));
        bench.commit(1, 2).expect("told");
        bench.commit(2, 2).expect("told");
        bench.apply(1, run(1, 2, 1)).expect("the first");
        breaks(bench.apply(2, run(2, 2, 1)), NAME);
    }

    #[test]
    fn order_and_durability_are_kept() {
        let mut bench = Bench::new();
        bench.replicate(&[1], 1, &run(1, 2, 3));
        bench.commit(1, 4).expect("told");
        breaks(bench.apply(1, run(1, 3, 1)), NAME);
        breaks(bench.apply(1, run(1, 2, 4)), NAME);
        let (node, replica) = (NodeId(1), ReplicaId(1));
        let base = id(1, 3);
        let (shard, kept_from) = (SHARD, Index(0));
        let purged = Observation::Purged { node, shard, replica, base, kept_from };
        breaks(bench.see(&purged), NAME);
        bench.apply(1, run(1, 2, 3)).expect("all that is durable");
        let applied = Index(4);
        bench.see(&Observation::Flushed { node, shard, replica, applied }).expect("flushed");
        bench.see(&purged).expect("applied");
    }
}
