//! Two logs that hold an entry of the same index and term are the same up to it (log matching, Raft
//! paper figure 3): index and term determine one payload, and one term of the entry before. Checked
//! on every write, against all writes of all replicas before it.

use std::collections::BTreeMap;

use quorate_raft::Write;
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use super::known::Replica;
use super::log_terms::LogTerms;
use super::{Broken, broken, install_of};
use crate::observation::entry_hash;

struct Entry {
    hash: u64,
    previous: Term,
    /// The node that wrote it first.
    node: NodeId,
}

/// Checks every written entry against all entries written before.
#[derive(Default)]
pub(crate) struct LogMatching {
    entries: BTreeMap<(ShardId, Index, Term), Entry>,
}

impl LogMatching {
    /// Checks a write handed to the disk; `replica` is the state before it.
    pub(crate) fn written(
        &mut self,
        shard: ShardId,
        id: ReplicaId,
        replica: &Replica,
        write: &Write,
    ) -> Result<(), Broken> {
        let Some(first) = write.runs.first().map(|run| run.first()) else { return Ok(()) };
        let mut previous = previous_term(&replica.written, write, first).ok_or_else(|| {
            let what = format!("replica {id} of shard {shard} writes {first:?} behind a gap");
            broken("log_matching", shard, [replica.node], what)
        })?;
        for entry in write.runs.iter().flat_map(quorate_raft::Run::entries) {
            let hash = entry_hash(entry.kind, entry.payload);
            self.entry(shard, entry.id, Entry { hash, previous, node: replica.node })?;
            previous = entry.id.term;
        }
        Ok(())
    }

    fn entry(&mut self, shard: ShardId, id: LogId, entry: Entry) -> Result<(), Broken> {
        let key = (shard, id.index, id.term);
        let Some(known) = self.entries.get(&key) else {
            self.entries.insert(key, entry);
            return Ok(());
        };
        let what = if known.hash != entry.hash {
            format!("shard {shard} has two entries {id}")
        } else if known.previous != entry.previous {
            let (one, other) = (known.previous, entry.previous);
            format!("shard {shard}: entry {id} follows one of {one:?} here and of {other:?} there")
        } else {
            return Ok(());
        };
        Err(broken("log_matching", shard, [known.node, entry.node], what))
    }

    /// No log holds anything below `floor` any more.
    pub(crate) fn forget_below(&mut self, shard: ShardId, floor: Index) {
        while let Some(entry) = self.entries.range((shard, Index(0), Term(0))..).next()
            && entry.0.0 == shard
            && entry.0.1 < floor
        {
            let key = *entry.0;
            self.entries.remove(&key);
        }
    }
}

/// Term of the entry before `first`, once the write's other parts have taken effect.
fn previous_term(log: &LogTerms, write: &Write, first: Index) -> Option<Term> {
    let before = first.previous();
    match install_of(write) {
        Some(install) if install.base.index == before => Some(install.base.term),
        _ => log.term_at(before),
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryKind, RunDraft};

    use super::super::samples::{Bench, breaks, write};
    use super::*;

    #[test]
    fn logs_may_diverge_by_terms_and_be_cut() {
        let mut bench = Bench::new();
        bench.written(1, &write(1).run(1, 2, 3).build()).expect("a log");
        bench.written(2, &write(1).run(1, 2, 1).run(2, 3, 2).build()).expect("another term");
        bench.written(1, &write(2).cut(3).run(2, 3, 2).build()).expect("the leader's now");
    }

    #[test]
    fn one_name_has_one_payload() {
        let mut bench = Bench::new();
        bench.written(1, &write(1).run(1, 2, 1).build()).expect("the first");
        let mut other = RunDraft::new();
        other.push(EntryKind::Command, &[b"another"]);
        let other = write(1).with(other.seal(Term(1), Index(2))).build();
        breaks(bench.written(2, &other), "log_matching");
    }

    #[test]
    fn one_name_has_one_past_and_no_gap_before_it() {
        let mut bench = Bench::new();
        bench.written(1, &write(1).run(1, 2, 1).run(3, 3, 1).build()).expect("the first");
        let other = write(1).run(2, 2, 1).run(3, 3, 1).build();
        breaks(bench.written(2, &other), "log_matching");
        breaks(bench.written(3, &write(1).run(3, 3, 1).build()), "log_matching");
    }
}
