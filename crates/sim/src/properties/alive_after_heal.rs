//! Once everything has healed, within the bound that the world waits: every shard has one leader that
//! serves, no change of members is left half done, every member has caught up, a write and a read
//! through every node's leader hint succeed, and shards without work are quiesced again.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, ReplicaId, ShardId};

use super::known::Known;
use super::{Broken, Sight, broken};
use crate::observation::{ProbeKind, SimTime};

const NAME: &str = "alive_after_heal";

/// Checks after the heal that every shard serves, has caught up and quiesces.
#[derive(Default)]
pub(crate) struct AliveAfterHeal {
    healed_at: Option<SimTime>,
    /// Whether each replica was last seen quiesced.
    quiesced: BTreeMap<(ShardId, ReplicaId), bool>,
    /// Whether the last probe of each kind succeeded.
    probes: BTreeMap<(ShardId, NodeId, ProbeKind), bool>,
}

impl AliveAfterHeal {
    pub(crate) fn healed(&mut self, at: SimTime) {
        self.healed_at = Some(at);
    }

    pub(crate) fn quiesced(&mut self, shard: ShardId, replica: ReplicaId, is_quiesced: bool) {
        self.quiesced.insert((shard, replica), is_quiesced);
    }

    pub(crate) fn probed(&mut self, shard: ShardId, node: NodeId, kind: ProbeKind, is_ok: bool) {
        self.probes.insert((shard, node, kind), is_ok);
    }

    pub(crate) fn end(&self, at: SimTime, known: &Known, sight: &dyn Sight) -> Result<(), Broken> {
        let Some(healed_at) = self.healed_at else { return Ok(()) };
        let waited_ms = at.nanos_since(healed_at) / 1_000_000;
        for shard in known.memberships.keys() {
            self.shard(*shard, known, sight).map_err(|(nodes, what)| {
                let what = format!("shard {shard}, {waited_ms} ms after the heal: {what}");
                broken(NAME, *shard, nodes, what)
            })?;
        }
        Ok(())
    }

    fn shard(
        &self,
        shard: ShardId,
        known: &Known,
        sight: &dyn Sight,
    ) -> Result<(), (Vec<NodeId>, String)> {
        let (_, membership) = &known.memberships[&shard];
        if membership.is_joint() {
            return Err((Vec::new(), format!("it is still in joint consensus: {membership:?}")));
        }
        let living = || known.of_shard(shard).filter(|(_, replica)| replica.is_alive);
        let serving: BTreeSet<NodeId> =
            living().filter(|(_, replica)| replica.is_serving).map(|(_, r)| r.node).collect();
        let leader = match (serving.first(), serving.len()) {
            (Some(leader), 1) => *leader,
            _ => return Err((serving.into_iter().collect(), "not one leader serves".to_owned())),
        };
        let Some(end) = sight.last(leader, shard) else {
            return Err((vec![leader], "its leader has no log".to_owned()));
        };
        for member in membership.members() {
            let replica = known.get(shard, member.replica).filter(|replica| replica.is_alive);
            let Some(replica) = replica else {
                return Err((vec![member.node], format!("replica {} is missing", member.replica)));
            };
            if replica.applied < end.index {
                let (id, applied) = (member.replica, replica.applied);
                let what =
                    format!("replica {id} has applied {applied:?}, the leader's log is {end}");
                return Err((vec![member.node, leader], what));
            }
        }
        let is_noisy = |id| self.quiesced.get(&(shard, id)) == Some(&false);
        if let Some((id, replica)) = living().find(|(id, _)| is_noisy(*id)) {
            return Err((vec![replica.node], format!("replica {id} did not quiesce")));
        }
        let all = (shard, NodeId(0), ProbeKind::Write)..=(shard, NodeId(u64::MAX), ProbeKind::Read);
        match self.probes.range(all).find(|(_, is_ok)| !**is_ok) {
            Some(((_, node, kind), _)) => {
                Err((vec![*node], format!("a {kind:?} through node {node} did not succeed")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Role;

    use super::super::samples::{Bench, SHARD, breaks, id, run};
    use super::*;
    use crate::observation::Observation;

    fn healed() -> Bench {
        let mut bench = Bench::new();
        bench.see(&Observation::Healed).expect("healed");
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1, 2, 3], 1, &run(2, 2, 1));
        bench.logs.0 = vec![(1, id(2, 2))];
        for member in 1..=3 {
            bench.commit(member, 2).expect("committed");
        }
        for member in 1..=2 {
            bench.apply(member, run(2, 2, 1)).expect("committed");
        }
        bench
    }

    fn end(bench: &mut Bench) -> Result<(), Broken> {
        let Bench { properties, logs, at } = bench;
        properties.end(*at, logs)
    }

    #[test]
    fn a_served_shard_whose_members_caught_up_is_alive() {
        let mut bench = healed();
        bench.apply(3, run(2, 2, 1)).expect("caught up");
        end(&mut bench).expect("alive");
        let probe =
            |kind, is_ok| Observation::Probed { node: NodeId(2), shard: SHARD, kind, is_ok };
        bench.see(&probe(ProbeKind::Read, false)).expect("noted");
        breaks(end(&mut bench), NAME);
        bench.see(&probe(ProbeKind::Read, true)).expect("noted");
        end(&mut bench).expect("alive");
    }

    #[test]
    fn a_member_that_lags_and_a_shard_without_leader_are_found() {
        let mut bench = healed();
        breaks(end(&mut bench), NAME);
        bench.apply(3, run(2, 2, 1)).expect("caught up");
        let (node, replica) = (NodeId(1), ReplicaId(1));
        let noisy = Observation::Quiesced { node, shard: SHARD, replica, is_quiesced: false };
        bench.see(&noisy).expect("noted");
        breaks(end(&mut bench), NAME);
        bench
            .see(&Observation::Quiesced { node, shard: SHARD, replica, is_quiesced: true })
            .expect("noted");
        end(&mut bench).expect("alive");
        bench.role(1, Role::Follower, 3).expect("it steps down");
        breaks(end(&mut bench), NAME);
    }
}
