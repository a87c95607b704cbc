//! An acknowledged write is promised forever: it is the committed entry of its index, so every
//! replica applies it there ([`super::state_machine_safety`]), and at the end every member of the
//! group has applied it.

use std::collections::BTreeMap;

use quorate_types::{Index, LogId, ShardId};

use super::known::Known;
use super::state_machine_safety::StateMachineSafety;
use super::{Broken, broken};

const NAME: &str = "acknowledged_survive";

/// Checks that acknowledged writes are committed and applied; knows the newest of each shard.
#[derive(Default)]
pub(crate) struct AcknowledgedSurvive {
    newest: BTreeMap<ShardId, Index>,
}

impl AcknowledgedSurvive {
    pub(crate) fn acknowledged(
        &mut self,
        machines: &StateMachineSafety,
        shard: ShardId,
        id: LogId,
        payload_hash: u64,
    ) -> Result<(), Broken> {
        let newest = self.newest.entry(shard).or_default();
        *newest = id.index.max(*newest);
        let what = match machines.truth(shard, id.index) {
            Some(truth) if truth.term == id.term && truth.hash == payload_hash => return Ok(()),
            Some(truth) => format!(
                "write {id} of shard {shard} was acknowledged, but what is committed there is \
                 another entry, of {:?}",
                truth.term
            ),
            None if machines.is_forgotten(shard, id.index) => return Ok(()),
            None => format!("write {id} of shard {shard} was acknowledged, nobody has applied it"),
        };
        Err(broken(NAME, shard, [], what))
    }

    pub(crate) fn end(&self, known: &Known) -> Result<(), Broken> {
        for (shard, newest) in &self.newest {
            let Some((_, membership)) = known.memberships.get(shard) else { continue };
            for member in membership.members() {
                let replica = known.get(*shard, member.replica).filter(|replica| replica.is_alive);
                let applied = replica.map_or(Index(0), |replica| replica.applied);
                if applied < *newest {
                    let what = format!(
                        "replica {} of shard {shard} has applied {applied:?} in the end, \
                         acknowledged is {newest:?}",
                        member.replica
                    );
                    return Err(broken(NAME, *shard, [member.node], what));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryKind, Role};

    use super::super::samples::{Bench, SHARD, breaks, id, run};
    use super::*;
    use crate::observation::{Observation, entry_hash};

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1, 2], 1, &run(2, 2, 2));
        bench.commit(1, 3).expect("two of three");
        bench.apply(1, run(2, 2, 2)).expect("committed");
        bench
    }

    fn acknowledge(bench: &mut Bench, term: u64, index: u64) -> Result<(), Broken> {
        let payload_hash = entry_hash(EntryKind::Command, format!("2/{index}").as_bytes());
        bench.see(&Observation::Acknowledged { shard: SHARD, id: id(term, index), payload_hash })
    }

    #[test]
    fn what_was_acknowledged_reaches_every_member() {
        let mut bench = bench();
        acknowledge(&mut bench, 2, 3).expect("applied");
        bench.replicate(&[3], 1, &run(2, 2, 2));
        for follower in [2, 3] {
            bench.commit(follower, 3).expect("told");
            bench.apply(follower, run(2, 2, 2)).expect("the same");
        }
        let known = &bench.properties.known;
        bench.properties.acknowledged_survive.end(known).expect("everywhere");
    }

    #[test]
    fn another_entry_and_a_member_without_it_are_found() {
        let mut bench = bench();
        breaks(acknowledge(&mut bench, 1, 3), NAME);
        breaks(acknowledge(&mut bench, 2, 4), NAME);
        acknowledge(&mut bench, 2, 3).expect("applied");
        let known = &bench.properties.known;
        breaks(bench.properties.acknowledged_survive.end(known), NAME);
    }
}
